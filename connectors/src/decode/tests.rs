use std::sync::Arc;

use sheaf_bundles::{
    connection::Connection,
    hook::{Answer, Dedupe, DedupeFields, Trigger},
    types::{Field, Type},
    words::Words,
};

use super::*;

fn field(name: &str, ty: Type) -> HookField {
    HookField {
        field: Field { no_value: vec!["null".into()], ..Field::new(name, ty) },
        kinds: Vec::new(),
        sent_always: false,
        embedded_json: false,
        unticked: false,
    }
}

fn hook(fields: Vec<HookField>) -> Hook {
    let connection = Connection {
        name: "in".into(),
        title: "in".into(),
        connector: "webhook".into(),
        settings: Map::default(),
        secrets: Vec::new(),
        secret_origins: Vec::new(),
        authentication: Vec::new(),
        time_zone: "Europe/Moscow".into(),
        hook_generation: 1,
        concurrency: None,
        budgets: Vec::new(),
    };
    Hook {
        connection: Arc::new(connection),
        methods: vec!["POST".into()],
        content: vec![Content::Form, Content::Query, Content::Json],
        fields,
        renames: Vec::new(),
        aliases: Vec::new(),
        closed: None,
        probe: None,
        checks: Vec::new(),
        dedupe: Some(Dedupe { fields: DedupeFields::AllExcept(Vec::new()), window_ms: 1 }),
        answer: Answer { status: 200, content_type: String::new(), body: String::new() },
        triggers: Vec::new(),
    }
}

fn received(query: &str, content_type: &str, body: &[u8]) -> Received {
    Received {
        method: "POST".into(),
        query: query.into(),
        headers: vec![("content-type".into(), content_type.into())],
        body: body.to_vec(),
        source: None,
        received_ms: 0,
    }
}

const FORM: &str = "application/x-www-form-urlencoded";

fn json(hook: &Hook, received: &Received) -> String {
    json::to_text(&decode(hook, received).expect("decodes").fields.into())
}

#[test]
fn a_body_is_read_by_its_type_and_without_one_by_its_first_letter() {
    let hook = hook(vec![field("n", Type::Integer)]);
    for (content_type, body) in [
        (FORM, "n=7"),
        ("Application/JSON; charset=utf-8", r#"{"n":7}"#),
        ("application/cloudevents+json", r#"{"n":"7"}"#),
        ("", " {\"n\":7}"),
        ("text/plain", "n=7"),
        ("application/json", "\u{feff}{\"n\":7}"),
    ] {
        assert_eq!(
            json(&hook, &received("", content_type, body.as_bytes())),
            r#"{"n":7}"#,
            "{content_type} {body}"
        );
    }
    assert_eq!(json(&hook, &received("n=7", "", b"")), r#"{"n":7}"#);
}

#[test]
fn of_a_query_and_a_body_the_body_wins() {
    assert_eq!(json(&hook(vec![]), &received("a=1&b=1", FORM, b"b=2")), r#"{"a":"1","b":"2"}"#);
}

#[test]
fn what_the_hook_does_not_read_is_refused() {
    let mut hook = hook(vec![]);
    assert_eq!(
        decode(&hook, &received("", "multipart/form-data; boundary=x", b"--x")).err(),
        Some(DecodeError::ContentType("multipart/form-data".into()))
    );
    assert_eq!(
        decode(&hook, &received("", "application/json", b"[1]")).err(),
        Some(DecodeError::NotAnObject)
    );
    assert!(matches!(decode(&hook, &received("", "application/json", b"{")), Err(DecodeError::Json(_))));
    hook.content = vec![Content::Json];
    assert_eq!(decode(&hook, &received("", FORM, b"a=1")).err(), Some(DecodeError::ContentType(FORM.into())));
}

#[test]
fn parameters_in_a_query_that_is_not_read_do_not_vanish() {
    let mut hook = hook(vec![]);
    hook.content = vec![Content::Json, Content::Form];
    for (content_type, body) in [("", ""), ("application/json", "{}")] {
        let sent = |query| decode(&hook, &received(query, content_type, body.as_bytes()));
        assert_eq!(sent("a=1"), Err(DecodeError::QueryNotRead), "{body:?}");
        assert_eq!(sent("").map(|decoded| decoded.fields.len()), Ok(0), "{body:?}");
    }
    assert_eq!(json(&hook, &received("utm_source=x", FORM, b"a=1")), r#"{"a":"1"}"#);
}

#[test]
fn what_has_no_name_does_not_vanish() {
    let mut hook = hook(vec![]);
    for nameless in ["=hello", "&", "=a&=b"] {
        assert_eq!(decode(&hook, &received("", FORM, nameless.as_bytes())), Err(DecodeError::NoFields));
        assert_eq!(decode(&hook, &received("", "", nameless.as_bytes())), Err(DecodeError::NoFields));
        assert_eq!(decode(&hook, &received(nameless, "", b"")), Err(DecodeError::NoFields));
        assert_eq!(decode(&hook, &received(nameless, "", b"{}")), Err(DecodeError::NoFields));
    }
    assert_eq!(json(&hook, &received("a=1", FORM, b"=hello")), r#"{"a":"1"}"#);
    hook.content = vec![Content::Json, Content::Form];
    assert_eq!(decode(&hook, &received("a=1", FORM, b"=hello")), Err(DecodeError::QueryNotRead));
}

#[test]
fn a_json_body_in_a_declared_charset_is_read() {
    let body = encoding_rs::WINDOWS_1251.encode(r#"{"имя":"Пётр"}"#).0.into_owned();
    assert_eq!(
        json(&hook(vec![]), &received("", "application/json; charset=windows-1251", &body)),
        r#"{"имя":"Пётр"}"#
    );
}

#[test]
fn renamed_parameters_get_their_own_names() {
    let mut hook = hook(vec![field("callerphone", Type::Phone), field("n", Type::Integer)]);
    hook.renames = vec![("phone".into(), "callerphone".into()), ("count".into(), "n".into())];
    let renamed = received("", FORM, b"phone=79990000001&count=2&x=3");
    assert_eq!(json(&hook, &renamed), r#"{"callerphone":"79990000001","n":2,"x":"3"}"#);
}

#[test]
fn a_dotted_field_is_found_inside_and_when_written_flat() {
    let hook = hook(vec![field("order.total", Type::Decimal), field("order.n", Type::Integer)]);
    let nested = received("", "application/json", br#"{"order":{"total":"10.50","n":1,"x":true}}"#);
    assert_eq!(json(&hook, &nested), r#"{"order":{"total":10.50,"n":1,"x":true}}"#);
    assert_eq!(
        json(&hook, &received("", FORM, b"order.total=10.50&order.n=1")),
        r#"{"order":{"total":10.50,"n":1}}"#
    );
    assert_eq!(
        json(&hook, &received("", FORM, b"order[total]=10.50&order[n]=1")),
        r#"{"order":{"total":10.50,"n":1}}"#
    );
}

#[test]
fn a_word_for_no_value_does_not_identify_an_event() {
    let mut hook = hook(vec![field("order.number", Type::Text)]);
    hook.fields[0].field.no_value.push("0".into());
    let names = vec!["order.number".into(), "form".into()];
    hook.dedupe = Some(Dedupe { fields: DedupeFields::Only(names), window_ms: 1 });
    let identity = |content_type, body: &str| {
        decode(&hook, &received("", content_type, body.as_bytes())).expect("decodes").dedupe
    };
    for body in ["order.number=null&x=1", "order[number]=0&x=1", "order[number]=&x=1", "x=1"] {
        assert_eq!(identity(FORM, body), None, "{body}");
    }
    assert_eq!(identity("application/json", r#"{"order":{"number":0},"x":1}"#), None);
    // Each field has its own words.
    assert_ne!(identity(FORM, "order.number=null&form=null"), None);
    assert_eq!(identity(FORM, "order.number=null&form=a"), identity(FORM, "order.number=0&form=a"));
    assert_ne!(identity(FORM, "order.number=7&form=a"), identity(FORM, "order.number=8&form=a"));
}

#[test]
fn attributes_may_have_dots_dashes_and_cyrillic_in_their_names() {
    let attrs = field("attrs", Type::Map(Box::new(Type::Text)));
    let hook =
        hook(vec![field("attrs.my.cookie-1", Type::Integer), field("attrs.кука", Type::Integer), attrs]);
    let request = received("", FORM, r#"attrs={"my.cookie-1":"5","кука":"6"}"#.as_bytes());
    assert_eq!(json(&hook, &request), r#"{"attrs":{"my.cookie-1":5,"кука":6}}"#);
}

#[test]
fn what_does_not_fit_is_noted_and_costs_neither_the_event_nor_its_identity() {
    let hook = hook(vec![field("n", Type::Integer)]);
    let [first, second] = ["n=soon", "n=later"]
        .map(|body| decode(&hook, &received("", FORM, body.as_bytes())).expect("decodes"));
    assert_eq!(first.fields.get("n"), Some(&Value::Null));
    assert_eq!(first.notes, [Note::Unreadable { field: "n".into(), expected: "integer" }]);
    assert_ne!(first.dedupe, second.dedupe);
}

#[test]
fn a_parameter_that_is_always_sent_and_did_not_come_is_noted() {
    let always = |name: &str, kinds: &[&str]| HookField {
        sent_always: true,
        kinds: kinds.iter().map(|kind| (*kind).to_owned()).collect(),
        ..field(name, Type::Text)
    };
    let unticked = HookField { unticked: true, ..always("userAgent", &[]) };
    let mut hook = hook(vec![
        always("sessionId", &[]),
        always("duration", &["call_end"]),
        unticked,
        field("comment", Type::Any),
    ]);
    let trigger = |name: &str, kinds: &[&str]| Trigger {
        name: name.into(),
        title: Words::default(),
        kinds: kinds.iter().map(|kind| (*kind).to_owned()).collect(),
        when: None,
        options: Vec::new(),
        sample: Vec::new(),
    };
    hook.triggers =
        vec![trigger("call_ended", &["call_end"]), trigger("tags_changed", &["call_end", "request"])];
    let decoded = decode(&hook, &received("", FORM, b"id=1")).expect("decodes");
    assert_eq!(decoded.notes, [Note::Absent { field: "sessionId".into() }]);
    assert_eq!(absent(&hook, "call_ended", &decoded.fields), ["sessionId", "duration"]);
    assert_eq!(absent(&hook, "tags_changed", &decoded.fields), ["sessionId"]);
    let empty = decode(&hook, &received("", FORM, b"sessionId=")).expect("decodes");
    assert_eq!(empty.notes, []);
}
