//! A mail by SMTP. The connection goes to an address that the egress guard has passed, like every other: a mail server in
//! a private network must be allowed by the operator (`--egress-allow 10.0.0.5/32:587`).

use std::{fs, path::Path, time::Duration};

use lettre::{
    Address, Message as Mail,
    address::Envelope,
    message::{Mailbox, header::ContentType},
    transport::smtp::{
        Error as SmtpError,
        authentication::{Credentials, DEFAULT_MECHANISMS},
        client::{AsyncSmtpConnection, Certificate, TlsParameters},
        extension::ClientId,
    },
};
use sheaf_bundles::{
    alerts::{Email, PASSWORD, Security, message::Message},
    words::Language,
};

use super::capped::Capped;
use crate::{
    egress::{CONNECT_TIMEOUT_MS, Egress},
    secrets::Held,
};

/// The largest file with certificates, bytes.
const AUTHORITY_BYTES_MAX: u64 = 256 * 1024;

/// A mail, ready to be sent.
pub struct Letter {
    envelope: Envelope,
    bytes: Vec<u8>,
}

/// Writes the mail. Its Message-ID is the message's id, so a mail that arrives twice is known to be one.
pub fn letter(
    email: &Email,
    message: &Message,
    workspace: &str,
    language: Language,
) -> Result<Letter, String> {
    let address = |text: &str| text.parse::<Address>().map_err(|error| format!("{text}: {error}"));
    let from = address(&email.from)?;
    let to = email.to.iter().map(|text| address(text)).collect::<Result<Vec<_>, _>>()?;
    let mut mail = Mail::builder()
        .from(Mailbox::new(Some("Sheaf".to_owned()), from.clone()))
        .subject(message.title(workspace).in_language(language))
        .message_id(Some(format!("<{}@{}>", message.id, from.domain())))
        .header(ContentType::TEXT_PLAIN);
    for receiver in &to {
        mail = mail.to(Mailbox::new(None, receiver.clone()));
    }
    let mail = mail
        .body(message.text(workspace).in_language(language).to_owned())
        .map_err(|error| error.to_string())?;
    let envelope = Envelope::new(Some(from), to).map_err(|error| error.to_string())?;
    Ok(Letter { envelope, bytes: mail.formatted() })
}

/// Sends it; "arrived" is the server's word that it took the mail for every receiver.
pub async fn send(
    egress: &Egress,
    directory: &Path,
    email: &Email,
    secrets: &Held,
    letter: &Letter,
) -> Result<(), String> {
    let login = match &email.user {
        Some(user) => {
            let password = secrets.expose(PASSWORD).ok_or("the password is not there")?;
            Some(Credentials::new(user.clone(), password.to_owned()))
        }
        None => None,
    };
    let tls = match email.security {
        Security::Plain => None,
        Security::StartTls | Security::Tls => Some(tls(directory, email)?),
    };
    let addresses = egress.addresses(&email.server, email.port).await.map_err(|error| error.detail)?;
    let said = |error: SmtpError| refusal(&error, secrets);
    let us = ClientId::default();
    let mut connection = match &tls {
        // Who is heard here has proved by a certificate that it is the server.
        Some(tls) if email.security == Security::Tls => {
            let limit = Some(Duration::from_millis(CONNECT_TIMEOUT_MS));
            AsyncSmtpConnection::connect_tokio1(&addresses[..], limit, &us, Some(tls.clone()), None).await
        }
        _ => {
            let stream = Capped::connect(&addresses).await.map_err(|error| error.to_string())?;
            AsyncSmtpConnection::connect_with_transport(Box::new(stream), &us).await
        }
    }
    .map_err(said)?;
    if let Some(tls) = tls.filter(|_| email.security == Security::StartTls) {
        connection.starttls(tls, &us).await.map_err(said)?;
    }
    if let Some(login) = &login {
        connection.auth(DEFAULT_MECHANISMS, login).await.map_err(said)?;
    }
    connection.send(&letter.envelope, &letter.bytes).await.map_err(said)?;
    // It is taken; how the server says goodbye changes nothing.
    let _ = connection.quit().await;
    Ok(())
}

fn tls(directory: &Path, email: &Email) -> Result<TlsParameters, String> {
    let mut parameters = TlsParameters::builder(email.server.clone());
    if let Some(path) = &email.authority {
        let path = directory.join(path);
        let readable = fs::metadata(&path).is_ok_and(|file| file.len() <= AUTHORITY_BYTES_MAX);
        let pem = readable.then(|| fs::read(&path).ok()).flatten();
        let pem = pem.ok_or_else(|| format!("{} cannot be read", path.display()))?;
        let certificate =
            Certificate::from_pem(&pem).map_err(|_| format!("{} holds no certificate", path.display()))?;
        parameters = parameters.add_root_certificate(certificate);
    }
    parameters.build().map_err(|error| error.to_string())
}

/// What the server said, without our password should it repeat it, or the line that it came in.
fn refusal(error: &SmtpError, secrets: &Held) -> String {
    let text = secrets.scrubbed(&error.to_string());
    // One that is too short to be looked for in every text.
    match secrets.expose(PASSWORD).filter(|password| !password.is_empty()) {
        Some(password) if text.contains(password) => text.replace(password, "[secret]"),
        _ => text,
    }
}
