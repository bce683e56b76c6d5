//! The file `alerts.yaml`: its shape, and what a shape cannot say.

use super::{
    Alerts, Channel, Destination, Email, PASSWORD, REPEAT_MS, SIGNING_KEY, Security, WAITING_MAX_MS,
};
use crate::{
    bundle::named,
    connection::{SecretReference, SecretSource},
    diagnostic::{Diagnostic, Diagnostics, code::Code, excerpt::excerpt},
    duration,
    outgoing::url::{self, UrlError},
    shape::{Choice, Key, Shape, check::check},
    words::{Language, Words},
    workspace,
    yaml::{Entry, Node, Span},
};

/// A thing that lasts is told again no sooner than this, milliseconds: more often is noise that people learn to ignore.
pub const REPEAT_MIN_MS: u64 = 60_000;
/// The most ways to people.
pub const CHANNELS_MAX: usize = 20;
/// The most receivers of one mail.
pub const RECEIVERS_MAX: usize = 50;
/// The longest address of a person, characters (RFC 5321).
const ADDRESS_CHARS_MAX: usize = 254;

/// The file's shape.
pub fn shape() -> Shape {
    let languages =
        vec![Choice::titled("en", "English", "английский"), Choice::titled("ru", "Russian", "русский")];
    Shape::object([
        Key::required("kind", Shape::Const("alerts".to_owned())),
        Key::optional("language", Shape::Choice(languages))
            .help("The language of the messages.", "Язык сообщений.")
            .default("en"),
        Key::optional("repeat", Shape::Duration)
            .help(
                "A thing that lasts is told again after this long at the soonest.",
                "О том, что длится, напоминаем не чаще.",
            )
            .default(duration::format(REPEAT_MS)),
        Key::optional("waiting_max", Shape::Duration)
            .help("Runs that wait longer are told of.", "О запусках, которые ждут дольше, сообщаем.")
            .default(duration::format(WAITING_MAX_MS)),
        Key::optional("webhooks", Shape::named_map(webhook())).help(
            "Signed requests (Standard Webhooks), by name.",
            "Подписанные запросы (Standard Webhooks), по именам.",
        ),
        Key::optional("emails", Shape::named_map(email())).help("Mails, by name.", "Письма, по именам."),
    ])
}

fn webhook() -> Shape {
    Shape::object([
        Key::required("url", Shape::Url).help("Where the message is posted.", "Куда отправлять сообщение."),
        Key::required("secret", Shape::Secret).help(
            "The key it is signed with: base64, usually after whsec_.",
            "Ключ подписи: base64, обычно после whsec_.",
        ),
    ])
}

fn email() -> Shape {
    let security = vec![
        Choice::titled("starttls", "TLS after the greeting", "TLS после приветствия"),
        Choice::titled("tls", "TLS at once", "TLS сразу"),
        Choice::titled("plain", "no TLS", "без TLS"),
    ];
    let login = Shape::object([
        Key::required("user", Shape::Text),
        Key::required("password", Shape::Secret)
            .help("Where the password is kept, never the password.", "Где лежит пароль, но не сам пароль."),
    ]);
    Shape::object([
        Key::required("server", Shape::Text)
            .help("Name or address of the mail server.", "Имя или адрес почтового сервера.")
            .sample("smtp.shop.example"),
        Key::optional("port", Shape::Integer { min: Some(1), max: Some(i64::from(u16::MAX)) })
            .help("By default 587 for starttls, 465 for tls, 25 for plain.", "По умолчанию 587 для starttls, 465 для tls, 25 для plain."),
        Key::optional("security", Shape::Choice(security))
            .help("How the connection is protected.", "Как защищено соединение.")
            .default("starttls"),
        Key::required("from", Shape::Text).help("The sender's address.", "Адрес отправителя.").sample("sheaf@shop.example"),
        Key::required("to", Shape::list(Shape::Text)).help("The receivers' addresses.", "Адреса получателей."),
        Key::optional("login", login).help("Whom to log in as.", "Под кем входить."),
        Key::optional("authority", Shape::Text).help(
            "A PEM file with the authority that signed the server's certificate, when the system does not know it.",
            "PEM-файл удостоверяющего центра, подписавшего сертификат сервера, если система его не знает.",
        ),
    ])
}

/// Reads the file of the workspace of that key; none after an error, which is in `out`.
pub fn read(node: &Node, key: &str, out: &mut Diagnostics) -> Option<Alerts> {
    if !check(&shape(), node, out) {
        return None;
    }
    let mut found = Diagnostics::default();
    let mut channels = Vec::new();
    for entry in entries(node, "webhooks") {
        channels.extend(read_webhook(entry, key, &mut found));
    }
    for entry in entries(node, "emails") {
        channels.extend(read_email(entry, key, &mut found));
    }
    if channels.len() > CHANNELS_MAX {
        let many = Words::new(
            format!("there are {} ways to tell; at most {CHANNELS_MAX} are used", channels.len()),
            format!("способов сообщить {}, используется не больше {CHANNELS_MAX}", channels.len()),
        );
        let hint = Words::new("let one of them pass messages on", "пусть один из них пересылает остальным");
        found.push(Diagnostic::error(Code::BadValue, node.span, many).with_hint(hint));
    }
    let repeat_ms = duration_of(node, "repeat", REPEAT_MS);
    if repeat_ms < REPEAT_MIN_MS {
        found.push(too_often(node.get("repeat").map_or(node.span, |value| value.span)));
    }
    let sound = !found.has_errors();
    out.append(found);
    sound.then(|| Alerts {
        language: match named(node, "language") {
            Some(("ru", _)) => Language::Ru,
            _ => Language::En,
        },
        repeat_ms,
        waiting_max_ms: duration_of(node, "waiting_max", WAITING_MAX_MS),
        channels,
    })
}

fn entries<'n>(node: &'n Node, key: &str) -> &'n [Entry] {
    node.get(key).and_then(Node::as_map).unwrap_or_default()
}

fn duration_of(node: &Node, key: &str, otherwise_ms: u64) -> u64 {
    named(node, key).and_then(|(text, _)| duration::parse(text).ok()).unwrap_or(otherwise_ms)
}

fn too_often(span: Span) -> Diagnostic {
    let message = Words::new("people would be told too often", "сообщения были бы слишком частыми");
    let least = duration::format(REPEAT_MIN_MS);
    let hint = Words::new(format!("at least `{least}`"), format!("не меньше `{least}`"));
    Diagnostic::error(Code::BadValue, span, message).with_hint(hint)
}

fn read_webhook(entry: &Entry, key: &str, out: &mut Diagnostics) -> Option<Channel> {
    let (text, span) = named(&entry.value, "url")?;
    let read = url::origin(text).and_then(|(origin, end)| match &text[end..] {
        rest if rest.contains('#') => Err(UrlError::Fragment),
        rest if rest.starts_with('\\') => Err(UrlError::Host),
        rest => Ok((format!("{origin}{rest}"), origin)),
    });
    let (url, origin) = match read {
        Ok(read) => read,
        Err(error) => {
            let hint = Words::new(
                "for example `https://ops.example/sheaf`",
                "например, `https://ops.example/sheaf`",
            );
            out.push(Diagnostic::error(Code::BadUrl, span, error.words()).with_hint(hint));
            return None;
        }
    };
    Some(Channel {
        name: format!("webhooks.{}", entry.key),
        to: Destination::Webhook { url, origin },
        secrets: secret(&entry.value, SIGNING_KEY, key).into_iter().collect(),
    })
}

fn read_email(entry: &Entry, key: &str, out: &mut Diagnostics) -> Option<Channel> {
    let node = &entry.value;
    let security = match named(node, "security") {
        Some(("plain", _)) => Security::Plain,
        Some(("tls", _)) => Security::Tls,
        _ => Security::StartTls,
    };
    let port = node.get("port").and_then(Node::as_integer).and_then(|port| u16::try_from(port).ok());
    let (server, server_span) = named(node, "server")?;
    let (from, from_span) = named(node, "from")?;
    let receivers = node.get("to")?;
    let login = node.get("login");
    let mut sound = check_server(server, server_span, out) & check_address(from, from_span, out);
    for receiver in receivers.as_list().unwrap_or_default() {
        sound &= check_address(receiver.as_text().unwrap_or_default(), receiver.span, out);
    }
    sound &= check_count(receivers, out) & check_login(security, login, out);
    sound.then(|| Channel {
        name: format!("emails.{}", entry.key),
        to: Destination::Email(Email {
            server: server.to_owned(),
            port: port.unwrap_or(security.port()),
            security,
            from: from.to_owned(),
            to: receivers
                .as_list()
                .unwrap_or_default()
                .iter()
                .filter_map(Node::as_text)
                .map(str::to_owned)
                .collect(),
            user: login.and_then(|login| named(login, "user")).map(|(user, _)| user.to_owned()),
            authority: named(node, "authority").map(|(path, _)| workspace::path(key, path)),
        }),
        secrets: login.and_then(|login| secret(login, PASSWORD, key)).into_iter().collect(),
    })
}

fn secret(node: &Node, name: &str, key: &str) -> Option<SecretReference> {
    let place = node.get(name)?;
    let env = named(place, "env").map(|(variable, _)| SecretSource::Env(variable.to_owned()));
    let source =
        env.or_else(|| named(place, "file").map(|(path, _)| SecretSource::File(workspace::path(key, path))))?;
    Some(SecretReference { name: name.to_owned(), source })
}

fn check_server(server: &str, span: Span, out: &mut Diagnostics) -> bool {
    let sound = !server.is_empty()
        && server.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b':'));
    let hint = Words::new(
        "write the name alone, as in `smtp.shop.example`",
        "напишите только имя, например `smtp.shop.example`",
    );
    sound || wrong(server, "a mail server", "почтовый сервер", hint, span, out)
}

fn check_address(address: &str, span: Span, out: &mut Diagnostics) -> bool {
    let plain = |byte: u8| {
        byte.is_ascii_graphic() && !matches!(byte, b'<' | b'>' | b',' | b';' | b'"' | b'\\' | b'(' | b')')
    };
    let sound = address.len() <= ADDRESS_CHARS_MAX
        && address.bytes().all(plain)
        && address.split_once('@').is_some_and(|(who, host)| {
            !who.is_empty()
                && !host.is_empty()
                && !host.contains('@')
                && !host.starts_with('.')
                && !host.ends_with('.')
        });
    let hint = Words::new(
        "write the address alone, as in `duty@shop.example`",
        "напишите только адрес, например `duty@shop.example`",
    );
    sound || wrong(address, "a mail address", "почтовый адрес", hint, span, out)
}

fn wrong(text: &str, en: &str, ru: &str, hint: Words, span: Span, out: &mut Diagnostics) -> bool {
    let shown = excerpt(text);
    let message = Words::new(format!("`{shown}` is not {en}"), format!("`{shown}` — не {ru}"));
    out.push(Diagnostic::error(Code::BadValue, span, message).with_hint(hint));
    false
}

fn check_count(receivers: &Node, out: &mut Diagnostics) -> bool {
    let count = receivers.as_list().map_or(0, <[Node]>::len);
    let sound = (1..=RECEIVERS_MAX).contains(&count);
    if !sound {
        let message = Words::new(
            format!("a mail has 1 to {RECEIVERS_MAX} receivers, here are {count}"),
            format!("у письма от 1 до {RECEIVERS_MAX} получателей, а здесь {count}"),
        );
        let hint = Words::new("for many people use a mailing list", "для многих людей заведите рассылку");
        out.push(Diagnostic::error(Code::BadValue, receivers.span, message).with_hint(hint));
    }
    sound
}

fn check_login(security: Security, login: Option<&Node>, out: &mut Diagnostics) -> bool {
    let Some(login) = login.filter(|_| security == Security::Plain) else { return true };
    let message = Words::new("the password would be sent in the clear", "пароль ушёл бы открытым текстом");
    let hint = Words::new(
        "use `security: starttls` or `tls`, or take the login out",
        "поставьте `security: starttls` или `tls` либо уберите вход",
    );
    out.push(Diagnostic::error(Code::BadValue, login.span, message).with_hint(hint));
    false
}
