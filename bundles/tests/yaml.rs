//! The reader of YAML: what a tree says, where it says it stands, and that no text can break it.

use proptest::prelude::*;
use sheaf_bundles::{
    diagnostic::{Diagnostics, Sources, code::Code, render},
    value::{Number, Value},
    words::Language,
    yaml::{self, DEPTH_MAX, Entry, Kind, NODES_MAX, Node, Span},
};

struct Read {
    sources: Sources,
    out: Diagnostics,
    node: Option<Node>,
}

fn read(text: &str) -> Read {
    let (mut sources, mut out) = (Sources::default(), Diagnostics::default());
    let (_, node) = yaml::load("file.yaml", text.as_bytes(), &mut sources, &mut out);
    Read { sources, out, node }
}

fn value(text: &str) -> Value {
    let read = read(text);
    assert!(!read.out.has_errors(), "{}", render::text(&read.sources, &read.out, Language::En, false));
    read.node.unwrap().to_value()
}

fn codes(text: &str) -> Vec<Code> {
    read(text).out.iter().map(|diagnostic| diagnostic.code).collect()
}

fn exact(digits: &str) -> Value {
    Value::Number(Number::Exact(digits.into()))
}

#[test]
fn plain_scalars_follow_the_core_schema_of_yaml_1_2() {
    for (text, expected) in [
        ("~", Value::Null),
        ("null", Value::Null),
        ("True", Value::Bool(true)),
        ("false", Value::Bool(false)),
        ("0", 0.into()),
        ("-12", (-12).into()),
        ("9223372036854775807", i64::MAX.into()),
        ("9223372036854775808", exact("9223372036854775808")),
        ("1.10", exact("1.10")),
        ("1e3", exact("1e3")),
        ("-0.5E-7", exact("-0.5E-7")),
        ("0x1F", 31.into()),
        ("0o17", 15.into()),
        ("007", 7.into()),
        ("+7", 7.into()),
        (".5", exact("0.5")),
        ("1.", exact("1.0")),
        ("-.5e2", exact("-0.5e2")),
    ] {
        assert_eq!(value(&format!("[{text}]")), Value::List(vec![expected]), "{text}");
    }
    for text in [
        "yes",
        "no",
        "on",
        "off",
        "y",
        "1_000",
        "1:30",
        "0x",
        "0o8",
        "-0x1",
        ".",
        "1e",
        "e1",
        "+-1",
        "1.2.3",
        "12a",
        "2026-01-01",
        "NaN",
        "nUll",
        "+",
    ] {
        assert_eq!(value(&format!("k: {text}")), value(&format!("k: '{text}'")), "{text}");
    }
}

#[test]
fn numbers_json_cannot_hold_are_refused_and_respelt_ones_are_pointed_out() {
    for text in [".inf", "-.INF", ".nan", "0xFFFFFFFFFFFFFFFFF", &"1".repeat(101)] {
        assert!(read(&format!("k: {text}")).out.has_errors(), "{text}");
    }
    for text in ["007", "+7", ".5", "1.", "0x1F"] {
        assert_eq!(codes(&format!("k: {text}")), [Code::BadNumber], "{text}");
        assert!(!read(&format!("k: {text}")).out.has_errors(), "{text}");
        assert!(codes(&format!("k: \"{text}\"")).is_empty(), "{text}");
    }
}

#[test]
fn keys_are_text_as_written_and_keep_their_order() {
    let read = read("b: 1\n12: 2\ntrue: 3\n\"a b\": 4\n<<: 5\n");
    let keys: Vec<String> =
        read.node.unwrap().as_map().unwrap().iter().map(|entry| entry.key.clone()).collect();
    assert_eq!(keys, ["b", "12", "true", "a b", "<<"]);
}

#[test]
fn a_key_with_nothing_under_it_counts_as_not_given() {
    let node = read("a:\nb: null\nc: ''\n").node.unwrap();
    assert!(node.get("a").is_none() && node.get("b").is_none() && node.get("c").is_some());
    assert!(node.entry("a").is_some());
}

#[test]
fn every_word_of_a_text_knows_its_place_whatever_the_quoting() {
    let text = concat!(
        "plain: звонок {{ phone }} и «текст» 📞 конец\n",
        "single: 'it {{ phone }} конец'\n",
        "double: \"📞 {{ phone }} конец\"\n",
        "literal: |\n  первая {{ phone }}\n    глубже\n\n  третья\n",
        "folded: >-\n  (sessionId is empty\n  and attrs.x = \"щ\")\n\n  or  два\n   глубже\n",
        "several: plain on\n  several  lines\n\n  here\n",
        "quoted: \"on several\n   lines\n\n   here \\\n   too\"\n",
        "flow: {a: [раз два, 'три четыре']}\n",
        "indented: |2\n   пять шесть\n",
    );
    let read = read(text);
    let mut words = 0;
    for_texts(read.node.as_ref().unwrap(), &mut |node, text| {
        for word in text.split_whitespace() {
            let start = word.as_ptr() as usize - text.as_ptr() as usize;
            assert_eq!(read.sources.slice(node.span_of(start..start + word.len())), word, "in {text:?}");
            words += 1;
        }
    });
    assert!(words > 40, "{words}");
}

#[test]
fn places_hold_past_escapes() {
    let read = read(r#"{single: 'it''s {{ a }}', double: "a\tb\u00e9\x41\U0001F4DE\"{{ b }}\n{{ c }}"}"#);
    let node = read.node.as_ref().unwrap();
    for (key, part) in [("single", "{{ a }}"), ("double", "{{ b }}"), ("double", "{{ c }}")] {
        let value = node.get(key).unwrap();
        let at = value.as_text().unwrap().find(part).unwrap();
        assert_eq!(read.sources.slice(value.span_of(at..at + part.len())), part);
    }
    let double = node.get("double").unwrap();
    let whole = double.span_of(0..double.as_text().unwrap().len());
    assert!(read.sources.slice(whole).starts_with("a\\t") && read.sources.slice(whole).ends_with("{{ c }}"));
}

#[test]
fn a_part_of_a_key_knows_its_place() {
    let read = read("with:\n  customer.имя.phone: x\n  \"a\\tb.c\": y\n");
    let entries = read.node.as_ref().unwrap().get("with").unwrap().as_map().unwrap();
    let place = |entry: &Entry, part: &str| {
        let at = entry.key.find(part).unwrap();
        entry.key_span_of(at..at + part.len())
    };
    let phone = place(&entries[0], "phone");
    assert_eq!(read.sources.slice(phone), "phone");
    let position = read.sources.position(phone.file, phone.start);
    assert_eq!((position.line, position.column), (2, 16));
    assert_eq!(read.sources.slice(place(&entries[1], "c")), "c");
}

#[test]
fn a_range_that_is_not_in_the_text_is_the_whole_node() {
    let node = read("a: text\n").node.unwrap();
    let text = node.get("a").unwrap();
    assert_eq!(text.span_of(2..99), text.span);
    assert_eq!(text.span_of(usize::MAX..usize::MAX), text.span);
}

#[test]
fn a_collection_ends_with_its_last_value_and_not_with_the_comment_after_it() {
    let read = read("a:\n  - x\n  - y\n\n# comment\nb: {c: 1}\n");
    let node = read.node.as_ref().unwrap();
    assert_eq!(read.sources.slice(node.get("a").unwrap().span), "- x\n  - y");
    assert_eq!(read.sources.slice(node.get("b").unwrap().span), "{c: 1}");
}

#[test]
fn a_byte_order_mark_and_windows_line_ends_change_no_column() {
    let read = read("\u{feff}имя: один\r\nдва: \"три\r\n  четыре\"\r\n");
    let node = read.node.as_ref().unwrap();
    assert_eq!(node.get("два").unwrap().as_text(), Some("три четыре"));
    let span = node.get("имя").unwrap().span;
    let position = read.sources.position(span.file, span.start);
    assert_eq!((position.line, position.column, read.sources.slice(span)), (1, 6, "один"));
}

#[test]
fn hostile_files_hit_a_limit_and_not_the_machine() {
    let much = yaml::FILE_BYTES_MAX;
    for (what, text) in [
        ("brackets", "[".repeat(much)),
        ("dashes", "- ".repeat(much / 2)),
        ("questions", "? ".repeat(much / 2)),
        ("braces", "{a: ".repeat(much / 4)),
        ("items", "-\n".repeat(much / 2)),
        ("colons", ":".repeat(much)),
        ("ampersands", "&".repeat(much)),
        ("too many nodes", format!("[{}]", "a,".repeat(NODES_MAX + 1))),
        ("too deep", deep(DEPTH_MAX + 1)),
        ("laughs", "a: &a [x]\nb: &b [*a, *a]\nc: [*b, *b]\n".to_owned()),
    ] {
        let read = read(&text);
        assert!(read.out.has_errors(), "{what}");
    }
}

fn deep(levels: usize) -> String {
    (0..levels).map(|level| format!("{}a:\n", " ".repeat(level))).collect::<String>()
        + &" ".repeat(levels)
        + "1"
}

fn for_texts(node: &Node, visit: &mut impl FnMut(&Node, &str)) {
    match &node.kind {
        Kind::Text { text, .. } => visit(node, text),
        Kind::List(items) => items.iter().for_each(|item| for_texts(item, visit)),
        Kind::Map(entries) => entries.iter().for_each(|entry| for_texts(&entry.value, visit)),
        Kind::Null | Kind::Bool(_) | Kind::Number(_) => {}
    }
}

/// Text that looks like YAML more often than not.
fn yamlish() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => prop::sample::select(vec![
            "a", "key", "щ", "📞", "12", "007", "null", "true", ".inf", "x y", "{{ a }}", "it''s", "\\n", "\\u00e9", "\\", "\u{2028}", "\u{feff}",
        ]),
        6 => prop::sample::select(vec![
            ": ", ":", "- ", "? ", ", ", "[", "]", "{", "}", "'", "\"", "|", ">", ">-", "|2", "#", " #", "&a ", "*a", "!t ", "---", "...", "%", "@", "`",
        ]),
        5 => prop::sample::select(vec!["\n", "\n  ", "\n    ", "\n\n", "\r\n", "\t", " ", "  ", "\r", "\u{0}"]),
    ];
    prop::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

fn inside(span: Span, text: &str) -> bool {
    span.start <= span.end && text.get(span.start as usize..span.end as usize).is_some()
}

fn all_inside(node: &Node, text: &str, depth: usize) -> bool {
    let parts = match &node.kind {
        Kind::Text { text: own, .. } => {
            let cuts: Vec<usize> = own.char_indices().map(|(at, _)| at).chain([own.len()]).collect();
            cuts.windows(2).all(|cut| inside(node.span_of(cut[0]..cut[1]), text))
                && inside(node.span_of(0..own.len()), text)
        }
        Kind::List(items) => items.iter().all(|item| all_inside(item, text, depth + 1)),
        Kind::Map(entries) => entries
            .iter()
            .all(|entry| inside(entry.key_span, text) && all_inside(&entry.value, text, depth + 1)),
        Kind::Null | Kind::Bool(_) | Kind::Number(_) => true,
    };
    depth <= DEPTH_MAX && inside(node.span, text) && parts
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2_000) })]

    #[test]
    fn no_text_breaks_the_reader_and_every_place_is_in_the_file(text in yamlish()) {
        let read = read(&text);
        let kept = text.strip_prefix('\u{feff}').unwrap_or(&text);
        prop_assert!(read.node.is_some() || read.out.has_errors());
        if let Some(node) = &read.node {
            prop_assert!(all_inside(node, kept, 0));
        }
        prop_assert!(read.out.iter().all(|diagnostic| inside(diagnostic.span, kept)));
        for language in [Language::En, Language::Ru] {
            prop_assert_eq!(render::text(&read.sources, &read.out, language, false).is_empty(), read.out.is_empty());
        }
        prop_assert!(render::json(&read.sources, &read.out, Language::En).is_array());
    }

    #[test]
    fn any_text_in_quotes_is_read_back_and_each_character_is_found(text in "[^\u{0}-\u{1f}\u{7f}-\u{9f}\u{feff}\u{fffe}\u{ffff}]{0,40}") {
        for quoted in [serde_json::to_string(&text).unwrap(), format!("'{}'", text.replace('\'', "''"))] {
            let read = read(&format!("k: {quoted}\n"));
            let node = read.node.as_ref().unwrap().entry("k").unwrap().value.clone();
            prop_assert_eq!(node.as_text(), Some(text.as_str()));
            for (at, c) in text.char_indices().filter(|(_, c)| !matches!(c, '\\' | '"' | '\'')) {
                prop_assert_eq!(read.sources.slice(node.span_of(at..at + c.len_utf8())), c.to_string());
            }
        }
    }
}
