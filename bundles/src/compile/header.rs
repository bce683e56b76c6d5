//! Names of HTTP headers.

use super::connection::or_hint;
use crate::{
    diagnostic::{Diagnostic, Diagnostics, code::Code, excerpt::excerpt, suggest::suggest},
    outgoing::is_header_text,
    words::Words,
    yaml::{Entry, Span},
};

/// Headers that belong to the connection itself and are set by the sender alone.
const RESERVED: [&str; 9] = [
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "keep-alive",
    "upgrade",
    "te",
    "trailer",
    "expect",
];

/// Parts of names of headers that carry secrets, lower case.
const CREDENTIALS: [&str; 7] =
    ["authorization", "cookie", "token", "secret", "password", "api-key", "apikey"];

/// Whether its value is a secret by all appearances.
pub fn is_credential(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    CREDENTIALS.iter().any(|part| name.contains(part))
}

/// Whether it is a header name by RFC 9110.
pub fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

/// Whether only the sender may set it.
pub fn is_reserved(name: &str) -> bool {
    RESERVED.iter().any(|reserved| name.eq_ignore_ascii_case(reserved))
}

/// Reports a header's name with which no request would be sent.
pub fn check_sendable(name: &str, span: Span, out: &mut Diagnostics) -> bool {
    let sendable = is_name(name) && !is_reserved(name);
    if !sendable {
        let message = Words::new(
            format!("`{}` cannot be sent as a header", excerpt(name)),
            format!("`{}` нельзя отправить как заголовок", excerpt(name)),
        );
        let hint = Words::new(
            "a header's name has no spaces or colons; lengths and the host are set by the sender",
            "в имени заголовка нет пробелов и двоеточий; длину и хост ставит сам отправитель",
        );
        out.push(Diagnostic::error(Code::BadHeader, span, message).with_hint(hint));
    }
    sendable
}

/// Reports a header's value with which no request would be sent.
pub fn check_value(name: &str, value: &str, span: Span, out: &mut Diagnostics) {
    if is_header_text(value) {
        return;
    }
    let message = Words::new(
        format!("the value of the header `{}` has a line break or a NUL", excerpt(name)),
        format!("в значении заголовка `{}` перевод строки или NUL", excerpt(name)),
    );
    let hint = Words::new("write it in one line", "запишите его в одну строку");
    out.push(Diagnostic::error(Code::BadHeader, span, message).with_hint(hint));
}

/// Reports a header that cannot be sent, or that is not among the connection's.
pub fn check_name(header: &Entry, keys: &[String], connection: &str, out: &mut Diagnostics) {
    let name = &header.key;
    if check_sendable(name, header.key_span, out)
        && !keys.is_empty()
        && !keys.iter().any(|key| key.eq_ignore_ascii_case(name))
    {
        let message = Words::new(
            format!("the connection `{connection}` has no header `{}`", excerpt(name)),
            format!("в подключении `{connection}` нет заголовка `{}`", excerpt(name)),
        );
        let hint =
            Words::new("add it to `headers` of the connection", "добавьте его в `headers` подключения");
        let near = suggest(name, keys.iter().map(String::as_str));
        out.push(or_hint(
            Diagnostic::error(Code::UnknownTarget, header.key_span, message).with_suggestion(near),
            hint,
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_name_is_a_token_and_not_one_of_the_senders_own() {
        assert!(is_name("X-Api-Key"));
        assert!(!is_name("X Api"));
        assert!(!is_name("X:Y"));
        assert!(!is_name(""));
        assert!(is_reserved("Content-Length") && is_reserved("Keep-Alive"));
        assert!(!is_reserved("Content-Type"));
        assert!(is_credential("X-API-Key") && is_credential("Authorization") && !is_credential("Accept"));
    }
}
