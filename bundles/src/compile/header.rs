//! Names of HTTP headers.

/// Headers that belong to the connection itself and are set by the sender alone.
const RESERVED: [&str; 8] =
    ["host", "content-length", "transfer-encoding", "connection", "upgrade", "te", "trailer", "expect"];

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
    }
}
