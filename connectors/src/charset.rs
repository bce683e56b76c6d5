//! Bytes from a vendor to text. Never fails: what cannot be read is replaced, and the raw request is kept anyway.
//!
//! The rules, in order:
//! 1. a `charset` the sender declared, other than UTF-8, decides;
//! 2. well-formed UTF-8 is UTF-8;
//! 3. otherwise the bytes are UTF-8 that was damaged (a name cut in the middle of a letter) when well-formed multi-byte
//!    characters outnumber the bad bytes: each bad sequence becomes U+FFFD;
//! 4. otherwise they are windows-1251, which old Russian senders still use.

use encoding_rs::{Encoding, UTF_8, WINDOWS_1251};
use sheaf_bundles::{request::Response, value::Text};

/// The encoding named by the `charset` parameter of a `Content-Type`; `None` when there is none, when it is UTF-8, or
/// when nobody knows it, so that the bytes themselves decide.
pub fn declared(content_type: Option<&str>) -> Option<&'static Encoding> {
    content_type?
        .split(';')
        .skip(1)
        .filter_map(|parameter| parameter.split_once('='))
        .find(|(name, _)| name.trim().eq_ignore_ascii_case("charset"))
        .and_then(|(_, label)| Encoding::for_label_no_replacement(label.trim().trim_matches('"').as_bytes()))
        .filter(|encoding| *encoding != UTF_8)
}

/// Text of the bytes by the rules above.
pub fn text(bytes: &[u8], declared: Option<&'static Encoding>) -> Text {
    if let Some(encoding) = declared {
        return encoding.decode_without_bom_handling(bytes).0.into();
    }
    std::str::from_utf8(bytes).map_or_else(|_| guess(bytes), Text::from)
}

/// Makes the body of an answer UTF-8, which is how rules and later steps read it. Unlike a sender's declaration, that of an
/// answer is often the web server's default and not the script's, so here the bytes come first:
/// 1. a byte order mark decides, and is dropped;
/// 2. a declared charset whose letters are not those of ASCII (UTF-16) decides;
/// 3. well-formed UTF-8 is UTF-8, and nothing is copied;
/// 4. otherwise as [`text`] says.
pub fn to_utf8(response: &mut Response) {
    let body = &response.body;
    let content_type = response.headers.iter().find(|(name, _)| name == "content-type");
    let declared = declared(content_type.map(|(_, value)| value.as_str()));
    let decoded = match (Encoding::for_bom(body), declared) {
        (Some((encoding, mark)), _) => encoding.decode_without_bom_handling(&body[mark..]).0.into(),
        (None, Some(encoding)) if !encoding.is_ascii_compatible() => text(body, declared),
        (None, _) if std::str::from_utf8(body).is_ok() => return,
        (None, _) => text(body, declared),
    };
    response.body = decoded.into_string().into_bytes();
}

fn guess(bytes: &[u8]) -> Text {
    let (mut good, mut bad) = (0_usize, 0_usize);
    for chunk in bytes.utf8_chunks() {
        good += chunk.valid().chars().filter(|letter| !letter.is_ascii()).count();
        bad += chunk.invalid().len();
    }
    let encoding = if good > bad { UTF_8 } else { WINDOWS_1251 };
    encoding.decode_without_bom_handling(bytes).0.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Text {
        text(bytes, None)
    }

    #[test]
    fn utf8_is_read_as_utf8() {
        assert_eq!(read("Пётр".as_bytes()), "Пётр");
    }

    #[test]
    fn windows_1251_is_recognised_even_with_letters_that_look_like_utf8() {
        for name in ["Привет", "Пётр", "Фёдор", "перезвонить"] {
            assert_eq!(read(&WINDOWS_1251.encode(name).0), name);
        }
    }

    #[test]
    fn damaged_utf8_keeps_its_good_letters() {
        let cut = &"Иванов".as_bytes()[..11];
        assert_eq!(read(cut), "Ивано\u{fffd}");
    }

    #[test]
    fn a_declared_charset_decides() {
        let encoding =
            declared(Some("application/x-www-form-urlencoded; Charset=\"koi8-r\"")).expect("known");
        assert_eq!(text(&encoding_rs::KOI8_R.encode("Имя").0, Some(encoding)), "Имя");
    }

    fn answered(content_type: &str, body: &[u8]) -> String {
        let headers = vec![("content-type".into(), content_type.into())];
        let mut response = Response { status: 200, headers, body: body.to_vec() };
        to_utf8(&mut response);
        String::from_utf8(response.body).expect("UTF-8")
    }

    #[test]
    fn an_answer_is_utf8_whatever_it_was() {
        let (json, windows_1251) = ("application/json", WINDOWS_1251.encode("Принято").0);
        let utf_16: Vec<u8> = "Принято".encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert_eq!(answered("application/json; charset=windows-1251", &windows_1251), "Принято");
        assert_eq!(answered(json, &windows_1251), "Принято");
        assert_eq!(answered("application/json; charset=utf-16le", &utf_16), "Принято");
        assert_eq!(answered(json, &[b"\xff\xfe", utf_16.as_slice()].concat()), "Принято");
        assert_eq!(answered(json, "\u{feff}Принято".as_bytes()), "Принято");
        assert_eq!(answered("text/html; charset=windows-1251", "Принято".as_bytes()), "Принято");
        assert_eq!(answered(json, b""), "");
    }

    #[test]
    fn an_unknown_charset_leaves_it_to_the_bytes() {
        assert!(declared(Some("text/plain; charset=klingon")).is_none());
        // Labels that browsers must not decode: every letter would be the same U+FFFD.
        assert!(declared(Some("text/plain; charset=iso-2022-kr")).is_none());
        assert!(declared(Some("text/plain; charset=utf-8")).is_none());
        assert!(declared(Some("text/plain")).is_none());
    }
}
