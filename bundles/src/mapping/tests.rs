//! What a mapping makes of an event, and what it refuses.

use super::Mapping;
use crate::{
    diagnostic::{Diagnostics, code::Code},
    expression::testing::{Calls, event, node},
    json,
    types::{Field, InstantFormat, Type},
};

fn required(name: &str, ty: Type) -> Field {
    Field { required: true, ..Field::new(name, ty) }
}

fn compiled(yaml: &str, fields: &[Field], open: bool) -> Result<Mapping, Vec<Code>> {
    let mut out = Diagnostics::default();
    match Mapping::compile(&node(yaml).1, fields, open, &Calls, &mut out) {
        Some(mapping) => {
            assert!(!out.has_errors(), "a mapping with errors: {yaml}");
            Ok(mapping)
        }
        None => Err(out.iter().map(|found| found.code).collect()),
    }
}

/// The object made of an event, as JSON.
fn made(yaml: &str, event_json: &str) -> String {
    let mapping = compiled(yaml, &[], true).expect("a sound mapping");
    json::to_text(&mapping.eval(&event(event_json)).expect("a value"))
}

#[test]
fn dotted_and_nested_targets_make_one_tree_in_the_order_they_are_written() {
    let yaml = "customer.mobilePhone: '{{ callerphone }}'\ncustomer:\n  city: '{{ city }}'\na\\.b: 1\n";
    let event = r#"{"callerphone": "79990000001", "city": "Москва"}"#;
    assert_eq!(made(yaml, event), r#"{"customer":{"mobilePhone":"79990000001","city":"Москва"},"a.b":1}"#);
}

#[test]
fn indexes_make_lists_whatever_order_they_come_in() {
    let yaml = "items[1].sku: '{{ city }}'\nitems[0].sku: '{{ id }}'\n";
    assert_eq!(made(yaml, r#"{"id": 7, "city": "x"}"#), r#"{"items":[{"sku":7},{"sku":"x"}]}"#);
}

#[test]
fn what_is_empty_is_left_out_with_the_objects_it_alone_would_have_filled() {
    let yaml = "customer.email: '{{ email }}'\nid: '{{ id }}'\n";
    assert_eq!(made(yaml, r#"{"id": 7, "email": null}"#), r#"{"id":7}"#);
    assert_eq!(made(yaml, r#"{"id": 7}"#), r#"{"id":7}"#);
}

#[test]
fn a_literal_is_written_as_it_stands() {
    let yaml = "empty: ''\nlist: []\nflag: true\nnumber: 1.50\n";
    assert_eq!(made(yaml, "{}"), r#"{"empty":"","list":[],"flag":true,"number":1.50}"#);
}

#[test]
fn the_long_form_has_a_default_a_null_or_an_error_for_the_empty_case() {
    let yaml = "a: {value: '{{ city }}', default: '{{ callerphone }}'}\nb: {value: '{{ city }}', when_empty: 'null'}\n";
    assert_eq!(made(yaml, r#"{"callerphone": "7"}"#), r#"{"a":"7","b":null}"#);
    let strict = compiled("a: {value: '{{ city }}', when_empty: error}", &[], true).expect("sound");
    let error = strict.eval(&event("{}")).expect_err("an error");
    assert_eq!(error.label, "a");
}

#[test]
fn a_default_becomes_the_targets_type_too() {
    let fields = [Field::new("name", Type::Text)];
    let mapping = compiled("name: {value: '{{ city }}', default: 5}", &fields, false).expect("sound");
    assert_eq!(json::to_text(&mapping.eval(&event("{}")).expect("a value")), r#"{"name":"5"}"#);
}

#[test]
fn a_query_gives_a_list_and_a_conversion_gives_the_type_asked_for() {
    let yaml = "texts: {path: '$.comment[*].comment'}\nid: {value: '{{ id }}', as: text}\n";
    let event = r#"{"id": 5, "comment": [{"comment": "a"}, {"comment": "b"}]}"#;
    assert_eq!(made(yaml, event), r#"{"texts":["a","b"],"id":"5"}"#);
}

#[test]
fn two_targets_that_cannot_both_hold_are_reported_with_both_places() {
    for yaml in ["a: 1\na.b: 2", "a.b: 2\na: 1", "a.b: 1\na: {b: 2}", "a[0]: 1\na.b: 2"] {
        let mut out = Diagnostics::default();
        assert!(Mapping::compile(&node(yaml).1, &[], true, &Calls, &mut out).is_none(), "{yaml}");
        let found: Vec<_> = out.iter().collect();
        assert_eq!(found.iter().map(|found| found.code).collect::<Vec<_>>(), [Code::TargetClash], "{yaml}");
        assert_eq!(found[0].related.len(), 1, "{yaml}");
    }
}

#[test]
fn targets_that_cannot_be_read_are_reported() {
    for yaml in ["a..b: 1", "'a[x]': 1", "'a[0': 1", "'a\\n': 1", "'a[0]b': 1", "'items[1]': 1"] {
        assert_eq!(compiled(yaml, &[], true), Err(vec![Code::BadTarget]), "{yaml}");
    }
}

#[test]
fn a_target_that_is_not_declared_is_an_error_unless_others_are_welcome() {
    let fields = [Field::new("operation", Type::Text)];
    assert_eq!(compiled("operatoin: x", &fields, false), Err(vec![Code::UnknownTarget]));
    assert!(compiled("operatoin: x", &fields, true).is_ok());
}

#[test]
fn a_required_target_must_be_given_a_value_that_cannot_be_empty() {
    let fields = [required("name", Type::Text)];
    assert_eq!(compiled("other: x", &fields, true), Err(vec![Code::MissingTarget]));
    assert_eq!(compiled("name: '{{ city }}'", &fields, true), Err(vec![Code::CanBeEmpty]));
    assert!(compiled("name: {value: '{{ city }}', default: x}", &fields, true).is_ok());
    assert!(compiled("name: '{{ callerphone }}'", &fields, true).is_ok());
}

#[test]
fn a_value_of_the_wrong_type_is_an_error_and_a_local_time_is_not_utc() {
    let count = [Field::new("count", Type::Integer)];
    assert_eq!(compiled("count: '{{ tags }}'", &count, false), Err(vec![Code::WrongType]));
    assert_eq!(compiled("count: many", &count, false), Err(vec![Code::WrongType]));
    assert_eq!(compiled("at_utc: '{{ calltime }}'", &[], true), Err(vec![Code::LocalTimeAsUtc]));
    let moment = [Field::new("executionDateTimeUtc", Type::Instant(InstantFormat::Rfc3339))];
    assert_eq!(
        compiled("executionDateTimeUtc: '{{ calltime }}'", &moment, false),
        Err(vec![Code::LocalTimeAsUtc])
    );
    assert!(compiled("executionDateTimeUtc: '{{ utc calltime }}'", &moment, false).is_ok());
}

#[test]
fn every_mistake_is_reported_at_once() {
    let yaml = "a: '{{ cty }}'\na.b: 1\nc: '{{ waiting_time }}'\nd: '{{ upper( }}'\n";
    let found = compiled(yaml, &[], true).expect_err("mistakes");
    for code in [Code::UnknownField, Code::TargetClash, Code::UnavailableField, Code::BadTemplate] {
        assert!(found.contains(&code), "{code:?} in {found:?}");
    }
}
