//! A signed POST, as Standard Webhooks describes it: <https://www.standardwebhooks.com>.

use sheaf_bundles::{alerts::SIGNING_KEY, value::Text};
use sheaf_connectors::signature::sign_standard;

use super::channel::SEND_MS_MAX;
use crate::{
    egress::{Egress, Outgoing},
    secrets::Held,
};

/// The headers and body of one message.
pub struct Signed {
    headers: Vec<(Text, Text)>,
    body: Vec<u8>,
}

/// Signs a body. `id` is the same at every attempt, the time is that of the attempt.
pub fn signed(secrets: &Held, id: &str, now_ms: i64, body: Vec<u8>) -> Result<Signed, String> {
    let key = secrets.expose(SIGNING_KEY).ok_or("the signing key is not there")?;
    let time_s = now_ms.div_euclid(1_000);
    let signature =
        sign_standard(key, id, time_s, &body).ok_or("the signing key is not base64 after whsec_")?;
    let headers = [
        ("content-type", "application/json".to_owned()),
        ("webhook-id", id.to_owned()),
        ("webhook-timestamp", time_s.to_string()),
        ("webhook-signature", signature),
    ];
    Ok(Signed { headers: headers.map(|(name, value)| (name.into(), value.into())).into(), body })
}

/// Sends it past the address guard; any 2xx is "arrived".
pub async fn send(egress: &Egress, url: &str, origin: &str, signed: Signed) -> Result<(), String> {
    let outgoing = Outgoing {
        method: "POST".into(),
        origin: origin.into(),
        url: url.to_owned(),
        headers: signed.headers,
        body: signed.body,
        timeout_ms: SEND_MS_MAX,
    };
    match egress.send(outgoing).await {
        Ok(answer) if (200..300).contains(&answer.status) => Ok(()),
        // Its words are not ours to repeat.
        Ok(answer) => Err(format!("the receiver answered {}", answer.status)),
        Err(error) => Err(error.detail),
    }
}
