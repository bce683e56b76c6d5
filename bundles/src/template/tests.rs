use super::*;
use crate::expression::testing::{Calls, call, findings, text_node};
use crate::value::Map;

fn compile(text: &str) -> Result<(Template, Typed), Vec<String>> {
    let (sources, node) = text_node(text);
    let mut out = Diagnostics::default();
    let made = Template::parse(&node, &mut out).and_then(|mut template| {
        let typed = template.check(&Calls, node.span, false, &mut out)?;
        Some((template, typed))
    });
    made.filter(|_| out.is_empty()).ok_or_else(|| findings(&sources, &out))
}

fn value(text: &str, event: &Map) -> String {
    let (template, _) = compile(text).unwrap_or_else(|found| panic!("{text}: {found:?}"));
    template.eval(event).map_or_else(|error| error.to_string(), |value| json::to_text(&value))
}

#[test]
fn a_single_expression_keeps_its_type_and_mixed_text_is_text() {
    for (text, expected) in [
        ("{{ id }}", "123456"),
        ("{{id}}", "123456"),
        ("№{{ id }}", r#""№123456""#),
        ("{{ unique }}", "true"),
        ("{{ price }}", "10.50"),
        ("{{ tags }}", r#"["новый","vip"]"#),
        ("{{ tags[1] }}", r#""vip""#),
        ("{{ tags.[1] }}", r#""vip""#),
        ("{{ comment[0].party }}", r#""Анна""#),
        ("{{ attrs.mindboxDeviceUUID }}", r#""d-1""#),
        ("{{ event.id }}", "123456"),
        ("{{ utm_source }}", "null"),
        ("{{ callerphone }} звонил", r#""79990000001 звонил""#),
        ("просто текст <b>&", r#""просто текст <b>&""#),
        ("", r#""""#),
        ("\\{{ id }}", r#""{{ id }}""#),
        ("{{ default utm_source \"нет\" }}/{{ id }}", r#""нет/123456""#),
    ] {
        assert_eq!(value(text, &call()), expected, "{text}");
    }
}

#[test]
fn helpers_do_what_the_table_says() {
    for (text, expected) in [
        ("{{ e164 callerphone }}", r#""+79990000001""#),
        ("{{ national callerphone }}", r#""89990000001""#),
        ("{{ digits \"+7 (999)\" }}", r#""7999""#),
        ("{{ upper city }}", r#""НИЖНИЙ НОВГОРОД""#),
        ("{{ lower email }}", r#""a@б.рф""#),
        ("{{ trim \"  да \" }}", r#""да""#),
        ("{{ default utm_source city }}", r#""Нижний Новгород""#),
        ("{{ default utm_source utm_source \"нет\" }}", r#""нет""#),
        ("{{ join tags \", \" }}", r#""новый, vip""#),
        ("{{ split city \" \" }}", r#"["Нижний","Новгород"]"#),
        ("{{ join (split city \" \") \"-\" }}", r#""Нижний-Новгород""#),
        ("{{ replace city \"Н\" \"н\" }}", r#""нижний новгород""#),
        ("{{ substring city 0 6 }}", r#""Нижний""#),
        ("{{ substring city 7 }}", r#""Новгород""#),
        ("{{ number \"1 234,50\" }}", "1234.50"),
        ("{{ text id }}", r#""123456""#),
        ("{{ json tags }}", r#""[\"новый\",\"vip\"]""#),
        ("{{ urlencode \"а b&c\" }}", r#""%D0%B0%20b%26c""#),
        ("{{ utc timestamp }}", r#""2026-03-05T07:15:30Z""#),
        ("{{ utc calltime }}", r#""2026-03-05T07:15:30Z""#),
        ("{{ utc calltime \"Asia/Vladivostok\" }}", r#""2026-03-05T00:15:30Z""#),
        ("{{ utc calltime zone=\"Asia/Vladivostok\" }}", r#""2026-03-05T00:15:30Z""#),
        ("{{ local timestamp }}", r#""2026-03-05T10:15:30+03:00""#),
        ("{{ local calltime \"Asia/Vladivostok\" }}", r#""2026-03-05T17:15:30+10:00""#),
        ("{{ date timestamp \"%d.%m.%Y %H:%M\" }}", r#""05.03.2026 10:15""#),
        ("{{ date timestamp zone=\"UTC\" }}", r#""2026-03-05""#),
        ("{{ date timestamp zone=\"UTC\" format=\"%H\" }}", r#""07""#),
        ("{{ local \"2026-03-05 10:15:30\" zone=\"Asia/Vladivostok\" }}", r#""2026-03-05T10:15:30+10:00""#),
        ("{{ date \"2026-03-05 10:15:30\" \"%d.%m %H:%M\" }}", r#""05.03 10:15""#),
        ("{{ date \"2026-03-05 10:15:30\" \"%d.%m %H:%M %z\" zone=\"UTC\" }}", r#""05.03 10:15 +0000""#),
        ("{{ date \"2026-03-05T10:15:30Z\" \"%H:%M\" }}", r#""13:15""#),
        ("{{ unix calltime }}", "1772694930"),
        ("{{ upper utm_source }}", "null"),
        ("{{ number city }}", "`city` is not a number"),
        ("{{ e164 city }}", "`city` is not a phone number"),
        ("{{ default callerphone (e164 city) }}", r#""79990000001""#),
        ("{{ default utm_source (e164 city) }}", "`city` is not a phone number"),
        ("{{ default (e164 city) callerphone }}", "`city` is not a phone number"),
    ] {
        assert_eq!(value(text, &call()), expected, "{text}");
    }
}

#[test]
fn a_type_follows_from_the_expression() {
    for (text, ty, can_be_empty) in [
        ("{{ id }}", "integer", false),
        ("{{ sessionId }}", "text", true),
        ("{{ default sessionId \"-\" }}", "text", false),
        ("{{ utc timestamp }}", "instant", false),
        ("{{ calltime }}", "local_time", false),
        ("{{ split city \",\" }}", "list", true),
        ("{{ trim callerphone }}", "text", true),
        ("{{ comment[0].party }}", "text", true),
        ("текст {{ id }}", "text", false),
    ] {
        let (_, typed) = compile(text).unwrap();
        assert_eq!((typed.ty.word(), typed.can_be_empty), (ty, can_be_empty), "{text}");
    }
}

#[test]
fn every_mistake_is_found_at_its_place() {
    for (text, expected) in [
        ("{{ calerphone }}", vec!["unknown-field@calerphone"]),
        ("да {{ calerphone }} и {{ ids }}", vec!["unknown-field@calerphone", "unknown-field@ids"]),
        ("{{ waiting_time }}", vec!["unavailable-field@waiting_time"]),
        ("{{ attrs.mindboxDeviceUID }}", vec!["unknown-field@attrs.mindboxDeviceUID"]),
        ("{{ uper city }}", vec!["unknown-helper@uper"]),
        ("{{ default city }}", vec!["helper-arguments@default"]),
        ("{{ lower city \"x\" }}", vec!["helper-arguments@lower"]),
        ("{{ date timestamp \"%\" }}", vec!["helper-arguments@date"]),
        ("{{ date timestamp \"%#z\" }}", vec!["helper-arguments@date"]),
        ("{{ date timestamp form=\"%Y\" }}", vec!["helper-arguments@form"]),
        ("{{ utc city \"Europe/Moskow\" }}", vec!["helper-arguments@utc"]),
        ("{{ utc price }}", vec!["helper-arguments@utc"]),
        ("{{ lower tags }}", vec!["helper-arguments@lower"]),
        ("к {{ city }}", vec!["can-be-empty@city"]),
        ("к {{ tags }}", vec!["wrong-type@tags"]),
        ("{{ id", vec!["bad-template@{{ id"]),
        ("{{ }}", vec!["bad-template@{{ }}"]),
        ("{{ id ) }}", vec!["bad-template@{{ id ) }}"]),
        ("{{{ id }}}", vec!["bad-template@{{{ id }}}"]),
        ("{{& id }}", vec!["bad-template@{{& id }}"]),
        ("{{#if id}}x{{/if}}", vec!["bad-template@{{#if id}}", "bad-template@{{/if}}"]),
        ("{{> part }}", vec!["bad-template@{{> part }}"]),
        ("{{~ id }}", vec!["bad-template@{{~ id }}"]),
        ("{{! нет }}", vec!["bad-template@{{! нет }}"]),
        ("{{ ../id }}", vec!["bad-template@../id"]),
        ("{{ @root.id }}", vec!["bad-template@@root.id"]),
        ("{{ connection.secrets.key }}", vec!["secret-place@connection.secrets.key"]),
        (
            "{{ default city 12345678901234567890123 }}",
            vec!["bad-template@{{ default city 12345678901234567890123 }}"],
        ),
    ] {
        assert_eq!(compile(text).err().unwrap_or_default(), expected, "{text}");
    }
}

#[test]
fn a_misspelt_name_is_answered_with_the_near_one() {
    let (_, node) = text_node("{{ calerphone }}");
    let mut out = Diagnostics::default();
    Template::parse(&node, &mut out).unwrap().check(&Calls, node.span, false, &mut out);
    let hint = out.iter().next().unwrap().hint.clone().unwrap();
    assert_eq!(
        (hint.en.as_str(), hint.ru.as_str()),
        ("did you mean `callerphone`?", "может быть, `callerphone`?")
    );
}

#[test]
fn an_empty_value_inside_text_is_an_error_and_never_a_blank() {
    let (_, node) = text_node("a={{ city }}");
    let template = Template::parse(&node, &mut Diagnostics::default()).unwrap();
    assert_eq!(template.text(&Map::default()).unwrap_err().kind, EvalErrorKind::Empty);
}

#[test]
fn a_secret_becomes_a_placeholder_and_data_that_looks_like_one_stays_data() {
    let (_, node) = text_node("Mindbox secretKey=\"{{ connection.secrets.key }}\" {{ city }}");
    let template = Template::parse(&node, &mut Diagnostics::default()).unwrap();
    let event = Map::from_iter([("city".into(), Value::from("{{ connection.secrets.key }}"))]);
    let secret = Piece::Secret { name: "key".into(), encoding: Encoding::Plain };
    assert_eq!(
        template.pieces(&event, Encoding::Plain).unwrap(),
        [
            Piece::Text("Mindbox secretKey=\"".into()),
            secret,
            Piece::Text("\" {{ connection.secrets.key }}".into())
        ]
    );
    assert_eq!(template.text(&event).unwrap_err().kind, EvalErrorKind::Secret);
}

#[test]
fn values_in_a_url_are_percent_encoded_for_their_place() {
    let (_, node) = text_node("https://x.example/?d={{ city }}&e=1");
    let template = Template::parse(&node, &mut Diagnostics::default()).unwrap();
    let event = Map::from_iter([("city".into(), Value::from("a&b=я"))]);
    let pieces = template.pieces(&event, Encoding::Percent).unwrap();
    assert_eq!(pieces, [Piece::Text("https://x.example/?d=a%26b%3D%D1%8F&e=1".into())]);
}

#[test]
fn output_has_a_limit() {
    let (template, _) =
        compile("{{ replace (default city \"-\") \"a\" \"bbbbbbbbbbbbbbbbbbbbbbbb\" }}").unwrap();
    let event = Map::from_iter([("city".into(), Value::from("a".repeat(100_000)))]);
    assert_eq!(template.eval(&event).unwrap_err().kind, EvalErrorKind::TooLong("1 MiB"));
}

#[test]
fn a_hostile_template_is_refused_and_does_not_overflow() {
    let deep = format!("{{{{ {}id{} }}}}", "(".repeat(5_000), ")".repeat(5_000));
    assert!(compile(&deep).is_err());
    let blocks = "{{#a}}".repeat(1_000);
    assert!(compile(&blocks).is_err());
    assert!(compile(&"{{ id }}".repeat(300)).is_err());
}

#[test]
fn daylight_saving_gaps_and_overlaps_follow_the_written_rule() {
    for (local, expected) in [
        ("2026-03-29 02:30:00", "2026-03-29T01:30:00Z"), // gap in Berlin: an hour later on the wall
        ("2026-10-25 02:30:00", "2026-10-25T00:30:00Z"), // overlap: the first
    ] {
        let text = format!("{{{{ utc \"{local}\" \"Europe/Berlin\" }}}}");
        assert_eq!(value(&text, &call()), format!("{expected:?}"), "{local}");
    }
}

proptest::proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in "[{}a-c()\\[\\]\"'\\\\ .=|~#/>!&*@0-9жы-]{0,32}") {
        let (_, node) = text_node(&text);
        let _ = Template::parse(&node, &mut Diagnostics::default());
    }

    #[test]
    fn no_expression_makes_the_parser_panic(inside in "[a-c()\\[\\]\"'\\\\ .=|0-9жыutc-]{0,32}") {
        let (_, node) = text_node(&format!("{{{{ {inside} }}}}"));
        let _ = Template::parse(&node, &mut Diagnostics::default());
    }

    #[test]
    fn text_without_braces_is_itself(text in "[^{\\\\\r\n\t]{0,40}") {
        let node = Node {
            span: text_node("x").1.span,
            kind: crate::yaml::Kind::Text { text: text.clone(), places: Default::default() },
        };
        let template = Template::parse(&node, &mut Diagnostics::default()).unwrap();
        proptest::prop_assert_eq!(template.literal(), Some(text.as_str()));
    }
}
