//! Names of HTTP headers.

/// Headers that belong to the connection itself and are set by the sender alone.
const RESERVED: [&str; 8] =
    ["host", "content-length", "transfer-encoding", "connection", "upgrade", "te", "trailer", "expect"];

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_name_is_a_token_and_not_one_of_the_senders_own() {
        assert!(is_name("X-Api-Key"));
        assert!(!is_name("X Api"));
        assert!(!is_name("X:Y"));
        assert!(!is_name(""));
        assert!(is_reserved("Content-Length"));
        assert!(!is_reserved("Content-Type"));
        assert!(is_credential("X-API-Key") && is_credential("Authorization") && !is_credential("Accept"));
    }
}
