use proptest::prelude::*;

use super::*;

fn read(text: &str) -> Result<Value, JsonErrorKind> {
    parse(text.as_bytes(), Limits::default()).map_err(|error| error.kind)
}

/// Any value, texts with Cyrillic and control characters, numbers of any length.
pub fn any_value() -> impl Strategy<Value = Value> {
    let number = prop_oneof![
        any::<i64>().prop_map(Number::Integer),
        "-?(0|[1-9][0-9]{0,40})(\\.[0-9]{1,30})?([eE][+-]?[0-9]{1,4})?"
            .prop_map(|text| Number::parse(&text).unwrap()),
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        number.prop_map(Value::Number),
        "[ -~а-яё\u{0}-\u{1f}\u{1F600}-\u{1F610}]{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::List),
            prop::collection::vec(("[a-zа-я.]{0,5}", inner), 0..6).prop_map(Value::object),
        ]
    })
}

proptest! {
    #[test]
    fn a_value_is_read_back_exactly_from_its_json(value in any_value()) {
        prop_assert_eq!(parse(to_text(&value).as_bytes(), Limits::default()), Ok(value));
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let _ = parse(&bytes, Limits::default());
    }

    #[test]
    fn no_text_like_json_makes_the_reader_panic(text in "[\\[\\]{}\",:\\\\ua0-9eE.+ntf д-]{0,24}") {
        let ours = parse(text.as_bytes(), Limits::default());
        // Apart from numbers beyond f64 and limits, the same texts are taken as by serde_json.
        let theirs = serde_json::from_str::<serde_json::Value>(&text);
        if theirs.is_ok() { prop_assert!(ours.is_ok()); }
    }

    #[test]
    fn a_number_keeps_every_digit(text in "-?(0|[1-9][0-9]{0,40})(\\.[0-9]{1,30})?([eE][+-]?[0-9]{1,4})?") {
        prop_assert_eq!(to_text(&read(&text).unwrap()), text);
    }
}

#[test]
fn numbers_outside_the_grammar_are_refused() {
    for text in ["01", "-", "+1", "1.", ".5", "1e", "1e+", "-a", "0x1", "NaN", "Infinity", "- 1"] {
        assert!(read(text).is_err(), "{text}");
    }
}

#[test]
fn the_last_of_duplicate_keys_wins() {
    assert_eq!(to_text(&read(r#"{"a":1,"б":2,"a":3}"#).unwrap()), r#"{"a":3,"б":2}"#);
}

#[test]
fn escapes_and_surrogate_pairs_are_read() {
    assert_eq!(
        read(r#""\u041f\u0440\u0438\u0432\u0435\u0442 \ud83d\ude00 \"\\\/\b\f\n\r\t""#),
        Ok(Value::from("Привет 😀 \"\\/\u{8}\u{c}\n\r\t"))
    );
}

#[test]
fn lone_surrogates_and_broken_strings_are_refused() {
    for text in [
        r#""\ud800""#,
        r#""\udc00""#,
        r#""\ud800\u0041""#,
        r#""\u12g4""#,
        r#""\u+123""#,
        r#""\x""#,
        "\"a\nb\"",
        "\"a",
        "\"\\",
        "\"\\u12",
    ] {
        assert!(read(text).is_err(), "{text}");
    }
}

#[test]
fn bytes_that_are_not_utf8_are_refused() {
    assert_eq!(
        parse(b"\"\xff\"", Limits::default()),
        Err(JsonError { kind: JsonErrorKind::Encoding, position: 1 })
    );
}

#[test]
fn depth_and_count_have_limits() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert!(read(&nested(64)).is_ok());
    assert_eq!(read(&nested(65)), Err(JsonErrorKind::Depth));
    assert_eq!(read(&nested(100_000)), Err(JsonErrorKind::Depth));
    assert!(read(&format!("[{}0]", "0,".repeat(99_998))).is_ok());
    assert_eq!(read(&format!("[{}0]", "0,".repeat(99_999))), Err(JsonErrorKind::Nodes));
}

#[test]
fn what_follows_the_document_is_an_error() {
    assert_eq!(read("1 2"), Err(JsonErrorKind::Unexpected));
    assert_eq!(read(""), Err(JsonErrorKind::End));
    assert_eq!(read("[1,]"), Err(JsonErrorKind::Unexpected));
    assert_eq!(read("{\"a\" 1}"), Err(JsonErrorKind::Unexpected));
}

#[test]
fn serde_sees_the_same_value() {
    let value = read(r#"{"а":[1,true,null,"x",18446744073709551615,1.5]}"#).unwrap();
    assert_eq!(serde_json::to_string(&value).unwrap(), to_text(&value));
}
