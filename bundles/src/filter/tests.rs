use proptest::prelude::*;

use super::*;
use crate::{
    duration::Unit,
    expression::testing::{Calls, call, event, findings, node, text_node},
    function, json,
    value::Map,
};

fn compile(text: &str) -> Result<Filter, Vec<String>> {
    let (sources, node) = text_node(text);
    let mut out = Diagnostics::default();
    let made = Filter::compile(&node, &Calls, &mut out);
    made.filter(|_| out.is_empty()).ok_or_else(|| findings(&sources, &out))
}

fn holds(text: &str, event: &Map) -> bool {
    compile(text).unwrap_or_else(|found| panic!("{text}: {found:?}")).eval(event)
}

#[test]
fn every_operator_says_what_its_word_says() {
    for (text, expected) in [
        ("sessionId is not empty", true),
        ("sessionId is empty", false),
        ("utm_source is empty", true),
        ("attrs.mindboxDeviceUUID is not empty", true),
        ("city = \"Нижний Новгород\"", true),
        ("city = 'Нижний Новгород'", true),
        ("city = \"Москва\"", false),
        ("city != \"Москва\"", true),
        ("utm_source != \"yandex\"", true),
        ("utm_source = \"yandex\"", false),
        ("id = 123456", true),
        ("id = 123456.0", true),
        ("id > 123455.9", true),
        ("price = 10.5", true),
        ("price < 10.50", false),
        ("price <= 10.50", true),
        ("duration > 30", true),
        ("duration > 1m", true),
        ("duration >= 1m5s", true),
        ("duration < 66s", true),
        ("duration > 65.5", false),
        ("unique = true", true),
        ("unique != true", false),
        ("status = successful", true),
        ("status = \"successful\"", true),
        ("targetcall = non-target", true),
        ("attribution = 1", true),
        ("status in [successful, unsuccessful]", true),
        ("status in [\"unsuccessful\"]", false),
        ("id in [1, 123456]", true),
        ("id in []", false),
        ("city in[\"Нижний Новгород\"]", true),
        ("city contains \"Новгород\"", true),
        ("city starts with \"Нижний\"", true),
        ("city ends with \"город\"", true),
        ("tags contains \"vip\"", true),
        ("tags contains \"vi\"", false),
        ("city matches /^Ниж.*род$/", true),
        ("city matches /новгород/i", true),
        ("city matches /новгород/", false),
        ("callerphone = \"+7 (999) 000-00-01\"", true),
        ("callerphone = \"8 999 000 00 01\"", true),
        ("callerphone starts with \"7999\"", true),
        ("timestamp = \"2026-03-05T07:15:30Z\"", true),
        ("timestamp > \"2026-03-05 10:15:00\"", true), // the workspace's zone is Moscow's
        ("calltime >= \"2026-03-05\"", true),
        ("calltime < \"2026-03-05T07:15:31Z\"", true),
        ("lower(city) = \"нижний новгород\"", true),
        ("lower(replace(city, \" \", \"-\")) = \"нижний-новгород\"", true),
        ("any = 5", true),
        ("any = \"5\"", true),
        ("any >= 5.0", true),
        ("id = any", false),
        ("comment[0].party = \"Анна\"", true),
        ("true", true),
        ("false", false),
    ] {
        assert_eq!(holds(text, &call()), expected, "{text}");
    }
}

#[test]
fn a_fallback_that_cannot_be_computed_does_not_hide_the_value_that_is_there() {
    assert!(holds("default(callerphone, e164(city)) is not empty", &call()));
    assert!(holds("default(utm_source, e164(city)) is empty", &call()));
}

#[test]
fn not_binds_tightest_then_and_then_or() {
    for (text, expected) in [
        ("true or true and false", true),
        ("(true or true) and false", false),
        ("not false and false", false),
        ("not (false and false)", true),
        ("not not true", true),
        ("sessionId is empty or\n  city is not empty", true),
    ] {
        assert_eq!(holds(text, &call()), expected, "{text}");
    }
}

#[test]
fn every_mistake_is_found_at_its_place() {
    for (text, expected) in [
        ("sesionId is empty", vec!["unknown-field@sesionId"]),
        ("sesionId is empty or cty is empty", vec!["unknown-field@sesionId", "unknown-field@cty"]),
        ("waiting_time > 5", vec!["unavailable-field@waiting_time"]),
        ("city = Москва", vec!["unknown-field@Москва"]),
        ("status = succesful", vec!["wrong-type@succesful"]),
        ("status = \"да\"", vec!["wrong-type@status = \"да\""]),
        ("utm_source = \"<не указано>\"", vec!["no-value-word@utm_source = \"<не указано>\""]),
        (
            "utm_source in [\"a\", \"<не заполнено>\"]",
            vec!["no-value-word@utm_source in [\"a\", \"<не заполнено>\"]"],
        ),
        ("city = \"\"", vec!["bad-filter@city = \"\""]),
        ("city = null", vec!["bad-filter@city = null"]),
        ("city > 5", vec!["wrong-type@city > 5"]),
        ("id = \"семь\"", vec!["wrong-type@id = \"семь\""]),
        ("tags = \"a\"", vec!["wrong-type@tags = \"a\""]),
        ("city matches /(/", vec!["bad-pattern@city matches /(/"]),
        ("city matches /(a{1000}){1000}/", vec!["bad-pattern@city matches /(a{1000}){1000}/"]),
        ("city == \"a\"", vec!["bad-filter@=="]),
        ("city = \"a\" && id = 1", vec!["bad-filter@&&"]),
        ("city = ", vec!["bad-filter@"]),
        ("city", vec!["bad-filter@"]),
        ("(city is empty", vec!["bad-filter@"]),
        ("city is empty)", vec!["bad-filter@)"]),
        ("city is empty and", vec!["bad-filter@"]),
        ("city = \"a", vec!["bad-filter@\"a"]),
        ("id = 5м", vec!["bad-filter@м"]),
        ("id = 5z", vec!["bad-filter@5z"]),
        ("", vec!["bad-filter@"]),
        ("lowr(city) = \"a\"", vec!["unknown-helper@lowr"]),
        ("replace(city) = \"a\"", vec!["helper-arguments@replace"]),
        ("connection.secrets.key = \"a\"", vec!["secret-place@connection.secrets.key"]),
    ] {
        let found = compile(text).err().unwrap_or_default();
        let codes = |found: &[String]| {
            found.iter().map(|one| one.split('@').next().unwrap_or("").to_owned()).collect::<Vec<_>>()
        };
        if expected.iter().any(|one| one.ends_with('@')) {
            assert_eq!(
                codes(&found),
                expected.iter().map(|one| one.trim_end_matches('@')).collect::<Vec<_>>(),
                "{text}"
            );
        } else {
            assert_eq!(found, expected, "{text}");
        }
    }
}

#[test]
fn a_comparison_with_a_no_value_word_hints_at_is_empty() {
    let (_, node) = text_node("utm_source != \"<не указано>\"");
    let mut out = Diagnostics::default();
    assert!(Filter::compile(&node, &Calls, &mut out).is_none());
    let hint = out.iter().next().unwrap().hint.clone().unwrap();
    assert_eq!(hint.en, "write `utm_source is not empty`");
}

#[test]
fn a_tree_says_the_same_as_the_text() {
    let tree = "all:\n- {field: sessionId, op: is not empty}\n- any:\n  - {field: duration, op: '>', value: 1m}\n  - not: {field: status, op: in, value: [successful]}\n- {field: id, op: '=', value: {of: any}}\n";
    let text = "sessionId is not empty and (duration > 1m or not status in [\"successful\"]) and id = any";
    let mut out = Diagnostics::default();
    let from_tree = Written::parse(&node(tree).1, &mut out).unwrap();
    assert_eq!(Written::parse(&text_node(text).1, &mut out), Some(from_tree));
    assert!(out.is_empty());
}

#[test]
fn mistakes_in_a_tree_are_found_at_their_places() {
    for (tree, expected) in [
        ("{field: sesionId, op: is empty}", vec!["unknown-field@sesionId"]),
        ("{field: sessionId, op: is emty}", vec!["bad-filter@is emty"]),
        ("{field: sessionId, op: is empty, value: 1}", vec!["bad-filter@1"]),
        ("{field: sessionId, op: '='}", vec!["bad-filter@{field: sessionId, op: '='}"]),
        ("{field: sessionId, opp: is empty}", vec!["unknown-key@opp"]),
        ("{all: 5}", vec!["bad-filter@5"]),
        (
            "{all: [{field: x1, op: is empty}, {field: x2, op: is empty}]}",
            vec!["unknown-field@x1", "unknown-field@x2"],
        ),
        ("[1]", vec!["bad-filter@[1]"]),
        ("{}", vec!["bad-filter@{}"]),
    ] {
        let (sources, node) = node(tree);
        let mut out = Diagnostics::default();
        assert!(Filter::compile(&node, &Calls, &mut out).is_none(), "{tree}");
        assert_eq!(findings(&sources, &out), expected, "{tree}");
    }
}

#[test]
fn an_explanation_is_the_smallest_failing_condition() {
    let empty = event("{}");
    for (text, english, russian) in [
        (
            "sessionId is not empty and city = \"Москва\"",
            "`sessionId is not empty` does not hold: the value is empty",
            "`sessionId is not empty` не выполнено: значение пусто",
        ),
        (
            "sessionId is not empty or id = 1",
            "no alternative holds: `sessionId is not empty` does not hold: the value is empty; `id = 1` does not hold: the value is empty",
            "ни один вариант не выполнен: `sessionId is not empty` не выполнено: значение пусто; `id = 1` не выполнено: значение пусто",
        ),
        (
            "not sessionId is empty",
            "`sessionId is empty` holds, and must not",
            "`sessionId is empty` верно, а должно быть неверно",
        ),
    ] {
        let why = compile(text).unwrap().explain(&empty).unwrap();
        assert_eq!((why.en.as_str(), why.ru.as_str()), (english, russian), "{text}");
    }
    let shown = |text: &str| compile(text).unwrap().explain(&call()).unwrap().en;
    assert_eq!(shown("id = 1"), "`id = 1` does not hold: the value is 123456");
    assert_eq!(shown("callerphone = \"1\""), "`callerphone = \"1\"` does not hold");
    assert!(compile("id = 123456").unwrap().explain(&call()).is_none());
}

#[test]
fn what_a_filter_demands_is_known_not_to_be_empty() {
    for (text, expected) in [
        (
            "sessionId is not empty and attrs.mindboxDeviceUUID is not empty",
            "sessionId attrs.mindboxDeviceUUID",
        ),
        ("sessionId is not empty or city is not empty", ""),
        ("(sessionId is not empty and id = 1) or sessionId = \"5\"", "sessionId"),
        ("not sessionId is empty", "sessionId"),
        ("sessionId is empty", ""),
        ("sessionId != \"5\"", ""),
        ("lower(city) = \"a\"", "city"),
        ("default(city, \"a\") = \"a\"", ""),
    ] {
        let paths = compile(text).unwrap().not_empty();
        assert_eq!(paths.iter().map(Path::to_string).collect::<Vec<_>>().join(" "), expected, "{text}");
    }
}

#[test]
fn a_hostile_filter_is_refused_and_does_not_overflow() {
    assert!(compile(&"(".repeat(10_000)).is_err());
    assert!(compile(&"not ".repeat(4_000)).is_err());
    assert!(compile(&"lower(".repeat(2_000)).is_err());
    assert!(compile(&vec!["id = 1"; 600].join(" or ")).is_err());
}

fn any_filter() -> impl Strategy<Value = Written> {
    let span = text_node("x").1.span;
    let name = prop_oneof![
        Just("sessionId".to_owned()),
        "[a-zа-я_][a-zа-я0-9_-]{0,6}",
        Just("and".to_owned()),
        Just("in".to_owned()),
        "[ a-zа-я.!\"0-9]{1,6}"
    ];
    let path = prop::collection::vec(name, 1..3).prop_map(move |names| {
        let segments = names.iter().map(|name| crate::path::Segment::new(name)).collect();
        Expression::Reference { path: Path { root: crate::path::Root::Event, segments }, place: Place(span) }
    });
    let literal = prop_oneof![
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::from),
        "[ -~а-яё\n\t]{0,10}".prop_map(Value::from),
        "-?(0|[1-9][0-9]{0,25})\\.[0-9]{1,20}"
            .prop_map(|text| Value::Number(crate::value::Number::parse(&text).unwrap())),
        (0..100_u64).prop_map(|count| Value::text(crate::duration::format(count * Unit::Minutes.ms()))),
    ]
    .prop_map(Expression::Literal);
    let call = path.clone().prop_map(move |path| {
        let function = function::find("lower").unwrap();
        Expression::Call(crate::expression::Call {
            function,
            arguments: vec![path],
            context: function::Context::default(),
            place: Place(span),
        })
    });
    let subject = prop_oneof![4 => path.clone(), 1 => call];
    let operand = prop_oneof![3 => literal, 1 => path];
    let pattern = "[ -~а-я]{0,8}";
    let test = (subject, 0..13_usize, prop::collection::vec(operand, 1..4), pattern).prop_map(
        move |(subject, operator, mut operands, pattern)| {
            let operator = Operator::ALL[operator];
            let operand = match operator {
                Operator::IsEmpty | Operator::IsNotEmpty => Operand::Nothing,
                Operator::In => Operand::Many(operands),
                Operator::Matches => Operand::Pattern(pattern),
                _ => Operand::One(operands.remove(0)),
            };
            Written::Test(Test { subject, operator, operand, place: Place(span) })
        },
    );
    let leaf = prop_oneof![8 => test, 1 => Just(Written::All(vec![])), 1 => Just(Written::Any(vec![]))];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 2..4).prop_map(Written::All),
            prop::collection::vec(inner.clone(), 2..4).prop_map(Written::Any),
            inner.prop_map(|inner| Written::Not(Box::new(inner))),
        ]
    })
}

/// A text node with exactly this text, whatever is in it.
fn exact(text: &str) -> Node {
    Node {
        span: text_node("x").1.span,
        kind: Kind::Text { text: text.to_owned(), places: Default::default() },
    }
}

proptest! {
    #[test]
    fn a_filter_is_read_back_from_its_text(filter in any_filter()) {
        let mut out = Diagnostics::default();
        let text = filter.to_text();
        prop_assert_eq!(Written::parse(&exact(&text), &mut out), Some(filter), "{} {:?}", text, out);
    }

    #[test]
    fn a_filter_is_read_back_from_its_tree(filter in any_filter()) {
        let mut out = Diagnostics::default();
        let tree = json::to_text(&filter.to_tree());
        let (_, node) = node(&tree);
        prop_assert_eq!(Written::parse(&node, &mut out), Some(filter), "{} {:?}", tree, out);
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in ".{0,40}") {
        let _ = Filter::compile(&exact(&text), &Calls, &mut Diagnostics::default());
    }

    #[test]
    fn no_words_make_the_parser_panic(words in prop::collection::vec(prop::sample::select(vec![
        "and", "or", "not", "is", "empty", "in", "[", "]", "(", ")", ",", "=", "<", "city", "id", "\"а\"", "5", "5m", "matches", "/а/", "[and]", ".", "lower", "true"
    ]), 0..10)) {
        let _ = Filter::compile(&exact(&words.join(" ")), &Calls, &mut Diagnostics::default());
        let _ = Filter::compile(&exact(&words.concat()), &Calls, &mut Diagnostics::default());
    }
}
