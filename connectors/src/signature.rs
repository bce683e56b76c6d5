//! Whether a request at a hook comes from who may send it. Checked on the raw request, before anything is decoded.
//!
//! A secret `name` may have `name_previous` beside it; both are accepted, so a key can be rotated without a gap.
//! Everything secret is compared in constant time.

use std::net::IpAddr;

use base64::{
    Engine as _,
    alphabet::STANDARD as ALPHABET,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use hmac::{Hmac, KeyInit as _, Mac as _};
use ipnet::IpNet;
use sha2::{Digest as _, Sha256};
use sheaf_bundles::{
    event::Received,
    hook::{HmacStyle, Network, SourceCheck},
};
use subtle::ConstantTimeEq as _;

/// Base64 with or without its padding, as senders differ.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &ALPHABET,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);
/// Most signatures looked at in one header; more is not a sender that rotates its keys.
const SIGNATURES_MAX: usize = 16;
/// Appended to a secret's name: the value that was valid before.
const PREVIOUS: &str = "_previous";

/// Why a request is not let in. Names what failed, never what was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The sender's address is not in the connection's networks, or is not known.
    #[error("the sender's address is not allowed")]
    Address,
    /// The header that should prove who sends is not there or cannot be read.
    #[error("header {0:?} is missing or malformed")]
    Malformed(String),
    /// The secret or the signature is wrong.
    #[error("the secret or the signature does not match")]
    Mismatch,
    /// The signed time is too far from ours.
    #[error("the signed time is outside the tolerance")]
    Expired,
    /// Our own side has no usable secret of that name.
    #[error("secret {0:?} is not there or is not base64")]
    Secret(String),
}

/// Passes when every check does. `secret` looks a secret of the connection up; `now_ms` is unix milliseconds.
pub fn verify<'s>(
    checks: &[SourceCheck],
    received: &Received,
    secret: &dyn Fn(&str) -> Option<&'s str>,
    now_ms: i64,
) -> Result<(), Refused> {
    checks.iter().try_for_each(|check| verify_one(check, received, secret, now_ms))
}

fn verify_one<'s>(
    check: &SourceCheck,
    received: &Received,
    secret: &dyn Fn(&str) -> Option<&'s str>,
    now_ms: i64,
) -> Result<(), Refused> {
    match check {
        SourceCheck::Addresses(networks) => address(networks, received.source),
        SourceCheck::Header { name, prefix, secret: key } => {
            header(received, name, prefix, &keys(key, secret)?)
        }
        SourceCheck::Basic { user, secret: key } => basic(received, user, &keys(key, secret)?),
        SourceCheck::Hmac { style, secret: key, tolerance_ms } => {
            let window = Window { now_ms, tolerance_ms: *tolerance_ms };
            let texts = keys(key, secret)?;
            match style {
                HmacStyle::StandardWebhooks => {
                    let decoded = texts.iter().map(|text| standard_key(text)).collect::<Option<Vec<_>>>();
                    standard_webhooks(received, &decoded.ok_or_else(|| Refused::Secret(key.clone()))?, window)
                }
                HmacStyle::Github { header } => github(received, header, &texts),
                HmacStyle::Timestamped { header } => timestamped(received, header, &texts, window),
            }
        }
    }
}

/// The secret's values: the one of today, and the previous one if there is one.
fn keys<'s>(name: &str, secret: &dyn Fn(&str) -> Option<&'s str>) -> Result<Vec<&'s str>, Refused> {
    let usable = |name: &str| secret(name).filter(|value| !value.is_empty());
    let today = usable(name).ok_or_else(|| Refused::Secret(name.to_owned()))?;
    Ok(std::iter::once(today).chain(usable(&format!("{name}{PREVIOUS}"))).collect())
}

fn address(networks: &[Network], source: Option<IpAddr>) -> Result<(), Refused> {
    let source = source.ok_or(Refused::Address)?.to_canonical();
    let inside = |network: &Network| {
        IpNet::new(network.address, network.prefix).is_ok_and(|net| net.contains(&source))
    };
    if networks.iter().any(inside) { Ok(()) } else { Err(Refused::Address) }
}

fn header(received: &Received, name: &str, prefix: &str, keys: &[&str]) -> Result<(), Refused> {
    let value =
        received.header(name).and_then(|value| value.strip_prefix(prefix)).ok_or_else(|| malformed(name))?;
    any(keys, |key| same(value.as_bytes(), key.as_bytes()))
}

fn basic(received: &Received, user: &str, keys: &[&str]) -> Result<(), Refused> {
    let credentials = received
        .header("authorization")
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("basic"))
        .and_then(|(_, encoded)| BASE64.decode(encoded.trim()).ok())
        .ok_or_else(|| malformed("authorization"))?;
    any(keys, |key| same(&credentials, format!("{user}:{key}").as_bytes()))
}

/// <https://www.standardwebhooks.com>: `v1,<base64>` over `id.timestamp.body`, several divided by spaces.
fn standard_webhooks(received: &Received, keys: &[Vec<u8>], window: Window) -> Result<(), Refused> {
    let part = |name: &str| received.header(name).ok_or_else(|| malformed(name));
    let (id, time, signatures) =
        (part("webhook-id")?, part("webhook-timestamp")?, part("webhook-signature")?);
    window.holds(time).ok_or_else(|| malformed("webhook-timestamp"))??;
    let found = signatures.split(' ').filter_map(|signature| signature.strip_prefix("v1,"));
    let decoded: Vec<Vec<u8>> =
        found.take(SIGNATURES_MAX).filter_map(|text| BASE64.decode(text).ok()).collect();
    let parts = [id.as_bytes(), b".", time.as_bytes(), b".", &received.body];
    any(keys, |key| signed(key, &parts, &decoded))
}

/// The key of Standard Webhooks is base64, usually after `whsec_`. An empty one is none: anybody could sign with it.
fn standard_key(text: &str) -> Option<Vec<u8>> {
    BASE64.decode(text.strip_prefix("whsec_").unwrap_or(text)).ok().filter(|key| !key.is_empty())
}

/// `v1,<base64>` over what we send ourselves, as Standard Webhooks says. `None` when the key is empty or not base64.
pub fn sign_standard(key: &str, id: &str, time_s: i64, body: &[u8]) -> Option<String> {
    let key = standard_key(key)?;
    let time = time_s.to_string();
    Some(format!("v1,{}", BASE64.encode(mac(&key, &[id.as_bytes(), b".", time.as_bytes(), b".", body]))))
}

/// <https://docs.github.com/webhooks>: `sha256=<hex>` over the body. It signs no time, so it cannot expire.
fn github(received: &Received, name: &str, keys: &[&str]) -> Result<(), Refused> {
    let value = received.header(name).and_then(|value| value.strip_prefix("sha256="));
    let signature = value.and_then(unhex).ok_or_else(|| malformed(name))?;
    any(keys, |key| signed(key.as_bytes(), &[&received.body], std::slice::from_ref(&signature)))
}

/// `t=<unix s>,v1=<hex>[,v1=<hex>…]` over `t.body`.
fn timestamped(received: &Received, name: &str, keys: &[&str], window: Window) -> Result<(), Refused> {
    let value = received.header(name).ok_or_else(|| malformed(name))?;
    let values = |wanted: &'static str| {
        value
            .split(',')
            .filter_map(move |part| part.trim().split_once('='))
            .filter(move |(key, _)| *key == wanted)
    };
    let time = values("t").next().map(|(_, time)| time).ok_or_else(|| malformed(name))?;
    window.holds(time).ok_or_else(|| malformed(name))??;
    let signatures: Vec<Vec<u8>> =
        values("v1").take(SIGNATURES_MAX).filter_map(|(_, text)| unhex(text)).collect();
    any(keys, |key| signed(key.as_bytes(), &[time.as_bytes(), b".", &received.body], &signatures))
}

#[derive(Clone, Copy)]
struct Window {
    now_ms: i64,
    tolerance_ms: i64,
}

impl Window {
    /// `None` when the text is no unix time in seconds.
    fn holds(self, seconds: &str) -> Option<Result<(), Refused>> {
        let signed_ms = seconds.parse::<i64>().ok()?.checked_mul(1_000)?;
        let near = signed_ms.abs_diff(self.now_ms) <= self.tolerance_ms.unsigned_abs();
        Some(if near { Ok(()) } else { Err(Refused::Expired) })
    }
}

fn signed(key: &[u8], parts: &[&[u8]], signatures: &[Vec<u8>]) -> bool {
    let ours = mac(key, parts);
    signatures.iter().any(|theirs| ours.as_slice().ct_eq(theirs).into())
}

fn mac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}

/// Equal, in a time that says nothing about either, their lengths included.
fn same(left: &[u8], right: &[u8]) -> bool {
    Sha256::digest(left).as_slice().ct_eq(Sha256::digest(right).as_slice()).into()
}

fn any<K>(keys: &[K], matches: impl Fn(&K) -> bool) -> Result<(), Refused> {
    if keys.iter().any(matches) { Ok(()) } else { Err(Refused::Mismatch) }
}

fn malformed(header: &str) -> Refused {
    Refused::Malformed(header.to_owned())
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let pairs = digits.chunks(2).map(|pair| match pair {
        [high, low] => u8::try_from(digit(*high)? * 16 + digit(*low)?).ok(),
        _ => None,
    });
    pairs.collect()
}

#[cfg(test)]
mod tests;
