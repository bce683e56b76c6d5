use serde_json::Value;
use sheaf_tests::calltouch::{
    AttributesForm, DEVICE, DEVICE_ATTRIBUTE, Method, Moment, PARAMETERS, Payload, Shape, Spaces,
};

use super::inbound::Inbound;

const CALL: &str = include_str!("call.json");
const REQUEST: &str = include_str!("request.json");

fn json(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

#[test]
fn every_parameter_arrives_with_its_type_by_both_methods_and_both_spellings_of_a_space() {
    let inbound = Inbound::with("settings: {attributes: [mindboxDeviceUUID]}");
    for method in [Method::Post, Method::Get] {
        for spaces in [Spaces::Percent, Spaces::Plus] {
            let call = inbound.fields(&Payload::call(Moment::CallEnded, 700_101), method, spaces);
            assert_eq!(call, json(CALL), "{method:?} {spaces:?}");
            let request = inbound.fields(&Payload::request(Moment::RequestCreated, 501_200), method, spaces);
            assert_eq!(request, json(REQUEST), "{method:?} {spaces:?}");
        }
    }
}

#[test]
fn the_expected_events_cover_the_whole_article() {
    let (call, request) = (json(CALL), json(REQUEST));
    for parameter in PARAMETERS {
        assert!(call.get(parameter.name).or(request.get(parameter.name)).is_some(), "{}", parameter.name);
    }
}

#[test]
fn attributes_are_the_same_object_in_all_three_forms_by_both_methods() {
    let inbound = Inbound::with("settings: {attributes: [mindboxDeviceUUID, roistat]}");
    let attributes = [(DEVICE_ATTRIBUTE, DEVICE), ("roistat", "77 \"x\", {y}: z")];
    let expected = serde_json::json!({DEVICE_ATTRIBUTE: DEVICE, "roistat": "77 \"x\", {y}: z"});
    // Quotes cannot be told from the form's own in the broken one.
    let tame = [(DEVICE_ATTRIBUTE, DEVICE), ("roistat", "77")];
    for method in [Method::Post, Method::Get] {
        for form in AttributesForm::ALL {
            let (sent, wanted) = match form {
                AttributesForm::Json | AttributesForm::Brackets => (&attributes, expected.clone()),
                AttributesForm::Broken => {
                    (&tame, serde_json::json!({DEVICE_ATTRIBUTE: DEVICE, "roistat": "77"}))
                }
            };
            let payload = Payload::call(Moment::CallEnded, 1).attributes(form, sent);
            let fields = inbound.fields(&payload, method, Spaces::Percent);
            assert_eq!(fields["attrs"], wanted, "{method:?} {form:?}");
        }
    }
}

#[test]
fn every_word_for_no_value_becomes_nothing_in_its_own_field() {
    let inbound = Inbound::with("settings: {attributes: [mindboxDeviceUUID]}");
    let words: Vec<(String, Vec<String>)> = inbound.no_value_words();
    assert!(
        words
            .iter()
            .any(|(field, words)| field == "redirectNumber" && words.contains(&"undefined".to_owned()))
    );
    for (field, words) in words {
        for word in words.iter().map(String::as_str).chain([""]) {
            let payload = match field.strip_prefix("attrs.") {
                Some(name) => {
                    Payload::call(Moment::CallEnded, 1).attributes(AttributesForm::Json, &[(name, word)])
                }
                None => Payload::call(Moment::CallEnded, 1).without(&field).set(&field, word),
            };
            let fields = inbound.fields(&payload, Method::Post, Spaces::Percent);
            let value =
                field.split('.').try_fold(&fields, |at, key| at.get(key)).cloned().unwrap_or_default();
            assert!(is_empty(&value), "{field}={word:?} became {value}");
        }
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

#[test]
fn a_parameter_under_the_users_own_name_arrives_under_the_articles() {
    let inbound = Inbound::with("settings: {renames: {callerphone: phone, comment: notes}}");
    let payload =
        Payload::call(Moment::CallEnded, 1).renamed("callerphone", "phone").renamed("comment", "notes");
    let fields = inbound.fields(&payload, Method::Post, Spaces::Percent);
    assert_eq!(
        (&fields["callerphone"], &fields["comment"][0]["party"]),
        (&"79990000001".into(), &"user1".into())
    );
    assert!(fields.get("phone").is_none() && fields.get("notes").is_none());
}

#[test]
fn lists_of_the_article_stay_lists_when_they_are_long() {
    let inbound = Inbound::with("settings: {}");
    for parameter in PARAMETERS.iter().filter(|it| matches!(it.shape, Shape::List(_))) {
        let Shape::List([[(first, _), (second, _)], ..]) = parameter.shape else { panic!("it has an item") };
        let mut payload = Payload::call(Moment::CallEnded, 1).without(parameter.name);
        for index in 0..100 {
            let value = if parameter.name == "text" { "client" } else { "x" };
            payload = payload.set(&format!("{}[{index}][{first}]", parameter.name), value);
            payload = payload.set(&format!("{}[{index}][{second}]", parameter.name), &index.to_string());
        }
        let fields = inbound.fields(&payload, Method::Post, Spaces::Percent);
        let items = fields[parameter.name].as_array().expect("a list");
        assert_eq!((items.len(), &items[99][second]), (100, &"99".into()), "{}", parameter.name);
    }
}
