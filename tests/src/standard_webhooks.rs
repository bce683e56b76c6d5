//! The receiving end of Standard Webhooks, written from the specification and not from our own sender:
//! <https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>.

use anyhow::{Context, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::wire::Message;

/// How far the signed time may be from ours, seconds.
const TOLERANCE_S: u64 = 5 * 60;

/// Checks a request against the key (`whsec_…`) at `now_s`; returns its id.
pub fn verify(message: &Message, key: &str, now_s: u64) -> anyhow::Result<String> {
    let header = |name: &str| message.header(name).with_context(|| format!("no {name}"));
    let (id, time, signatures) =
        (header("webhook-id")?, header("webhook-timestamp")?, header("webhook-signature")?);
    ensure!(!id.contains('.'), "an id with a dot could be moved into the time: {id}");
    let signed_s: u64 = time.parse().context("webhook-timestamp is no number")?;
    ensure!(signed_s.abs_diff(now_s) <= TOLERANCE_S, "signed at {signed_s}, now is {now_s}");
    let key = STANDARD.decode(key.strip_prefix("whsec_").context("the key has no prefix")?)?;
    let mut mac = Hmac::<Sha256>::new_from_slice(&key)?;
    mac.update(format!("{id}.{time}.").as_bytes());
    mac.update(&message.body);
    let expected = format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()));
    ensure!(signatures.split(' ').any(|signature| signature == expected), "the signature is wrong");
    Ok(id.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification's libraries.
    fn example(signature: &str, body: &str) -> Message {
        let head = format!(
            "POST / HTTP/1.1\r\nwebhook-id: msg_p5jXN8AQM9LWM0D4loKWxJek\r\nwebhook-timestamp: 1614265330\r\nwebhook-signature: {signature}"
        );
        Message { head, body: body.as_bytes().to_vec() }
    }

    #[test]
    fn the_specifications_example_passes_and_nothing_near_it() {
        let (key, body) = ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", r#"{"test": 2432232314}"#);
        let signature = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        let now_s = 1_614_265_330;
        assert_eq!(
            verify(&example(signature, body), key, now_s).expect("it is signed"),
            "msg_p5jXN8AQM9LWM0D4loKWxJek"
        );
        assert!(verify(&example(signature, "{}"), key, now_s).is_err());
        assert!(verify(&example("v1,AAAA", body), key, now_s).is_err());
        assert!(verify(&example(signature, body), "whsec_AAAA", now_s).is_err());
        assert!(verify(&example(signature, body), key, now_s + 301).is_err());
    }
}
