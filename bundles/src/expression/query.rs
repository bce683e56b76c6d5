//! JSONPath (RFC 9535) over the event's fields, parsed once. A plain path is a pointer walk.

use std::borrow::Cow;

use jsonpath_rust::{
    parser::{
        model::{JpQuery, Segment as JsonSegment, Selector},
        parse_json_path,
    },
    query::{js_path_process, queryable::Queryable},
};

use super::error::{EvalError, EvalErrorKind};
use crate::{
    path::Segment,
    value::{Map, Number, Value},
};

/// Longest query, bytes.
pub const QUERY_BYTES_MAX: usize = 1024;
/// Deepest brackets in a query; the parser behind it recurses.
const QUERY_DEPTH_MAX: usize = 16;
/// The key of an index segment: no object has it, for an index selects in lists only.
const NO_KEY: &str = "\u{0}";

/// A parsed query.
#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    text: String,
    start: Vec<Segment>,
    /// What follows the plain start; none for a plain path.
    rest: Option<JpQuery>,
}

impl Query {
    /// Parses; the error is the parser's own words, in English.
    pub fn parse(text: &str) -> Result<Query, String> {
        if text.len() > QUERY_BYTES_MAX || depth(text) > QUERY_DEPTH_MAX {
            return Err(format!(
                "longer than {QUERY_BYTES_MAX} bytes or deeper than {QUERY_DEPTH_MAX} brackets"
            ));
        }
        let query = parse_json_path(text).map_err(|error| error.to_string())?;
        // A filter that looks back at `$` needs the whole event as its root.
        let walked =
            if text.matches('$').count() > 1 { 0 } else { query.segments.iter().map_while(plain).count() };
        let start = query.segments.iter().take(walked).filter_map(plain).collect();
        let rest = query.segments[walked..].to_vec();
        Ok(Query { text: text.to_owned(), start, rest: (!rest.is_empty()).then(|| JpQuery::new(rest)) })
    }

    /// As written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether it leads to one value at most; any other query gives a list.
    pub fn is_single(&self) -> bool {
        self.rest.is_none()
    }

    /// The value of a plain path (null when there is none), or the list of what the query finds.
    pub fn eval<'a>(&'a self, fields: &'a Map) -> Result<Cow<'a, Value>, EvalError> {
        let Some(rest) = &self.rest else {
            return Ok(walk(fields, &self.start).map_or(Cow::Owned(Value::Null), Cow::Borrowed));
        };
        let whole;
        let root = match walk(fields, &self.start) {
            Some(value) => value,
            None if self.start.is_empty() => {
                whole = Value::from(fields.clone());
                &whole
            }
            None => return Ok(Cow::Owned(Value::Null)),
        };
        let found =
            js_path_process(rest, root).map_err(|_| EvalError::at(&self.text, EvalErrorKind::Query))?;
        Ok(Cow::Owned(Value::List(found.into_iter().map(|found| found.val.clone()).collect())))
    }
}

/// The value that names and positions lead to; unlike a reference's, exactly these (RFC 9535).
fn walk<'v>(fields: &'v Map, segments: &[Segment]) -> Option<&'v Value> {
    let (first, rest) = segments.split_first()?;
    rest.iter().try_fold(fields.get(&*first.key)?, |value, segment| match value {
        Value::Object(map) => map.get(&*segment.key),
        Value::List(items) => items.get(segment.index? as usize),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) => None,
    })
}

fn depth(text: &str) -> usize {
    let mut open = 0_usize;
    let mut deepest = 0;
    for byte in text.bytes() {
        match byte {
            b'[' | b'(' | b'!' => open += 1,
            b']' | b')' => open = open.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(open);
    }
    deepest
}

fn plain(segment: &JsonSegment) -> Option<Segment> {
    match segment {
        JsonSegment::Selector(Selector::Name(name)) => {
            Some(Segment { key: name.as_str().into(), index: None })
        }
        JsonSegment::Selector(Selector::Index(index)) => {
            u32::try_from(*index).ok().map(|index| Segment { key: NO_KEY.into(), index: Some(index) })
        }
        JsonSegment::Selector(Selector::Wildcard | Selector::Slice(..) | Selector::Filter(_))
        | JsonSegment::Descendant(_)
        | JsonSegment::Selectors(_) => None,
    }
}

impl From<bool> for Value {
    fn from(bool: bool) -> Value {
        Value::Bool(bool)
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Value {
        Number::parse(&number.to_string()).map_or(Value::Null, Value::Number)
    }
}

impl From<String> for Value {
    fn from(text: String) -> Value {
        Value::Text(text.into())
    }
}

impl From<Vec<Value>> for Value {
    fn from(items: Vec<Value>) -> Value {
        Value::List(items)
    }
}

impl Queryable for Value {
    fn get(&self, key: &str) -> Option<&Self> {
        if let Value::Object(map) = self { map.get(key) } else { None }
    }

    fn as_array(&self) -> Option<&Vec<Self>> {
        if let Value::List(items) = self { Some(items) } else { None }
    }

    fn as_object(&self) -> Option<Vec<(&str, &Self)>> {
        if let Value::Object(map) = self {
            Some(map.iter().map(|(key, value)| (key.as_str(), value)).collect())
        } else {
            None
        }
    }

    fn as_str(&self) -> Option<&str> {
        self.as_text()
    }

    fn as_i64(&self) -> Option<i64> {
        if let Value::Number(Number::Integer(integer)) = self { Some(*integer) } else { None }
    }

    fn as_f64(&self) -> Option<f64> {
        if let Value::Number(number) = self { number.to_string().parse().ok() } else { None }
    }

    fn as_bool(&self) -> Option<bool> {
        if let Value::Bool(bool) = self { Some(*bool) } else { None }
    }

    fn null() -> Self {
        Value::Null
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json;

    const EVENT: &str = r#"{"comment":[{"party":"Анна","comment":"перезвонить","n":1},
        {"party":"Пётр","comment":"договор","n":12345678901234567890123}],"id":7,"a":{"0":"ноль"}}"#;

    fn ask(query: &str) -> String {
        let Ok(Value::Object(fields)) = json::parse(EVENT.as_bytes(), json::Limits::default()) else {
            panic!()
        };
        json::to_text(&Query::parse(query).unwrap().eval(&fields).unwrap())
    }

    #[test]
    fn queries_find_what_the_rfc_says() {
        for (query, expected) in [
            ("$.id", "7"),
            ("$.comment[0].party", r#""Анна""#),
            ("$['comment'][1]['party']", r#""Пётр""#),
            ("$.comment[*].comment", r#"["перезвонить","договор"]"#),
            ("$.comment[-1].party", r#"["Пётр"]"#),
            ("$.comment[?@.party == 'Анна'].comment", r#"["перезвонить"]"#),
            ("$.comment[?@.n == $.id].comment", "[]"),
            ("$..party", r#"["Анна","Пётр"]"#),
            ("$.comment[1:].n", "[12345678901234567890123]"),
            ("$.nothing", "null"),
            ("$.nothing[*].x", "null"),
            ("$.a[0]", "null"),
        ] {
            assert_eq!(ask(query), expected, "{query}");
        }
    }

    #[test]
    fn a_broken_query_is_refused() {
        let deep = format!("${}", "[".repeat(500));
        for query in ["", "comment", "$.", "$[", "$.a[?", &deep, &"$.a".repeat(1000)] {
            assert!(Query::parse(query).is_err(), "{query}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "\\$?[.\\[\\]*?@'а-яa-c0-9 =&|!()<>:-]{0,24}") {
            if let Ok(query) = Query::parse(&text) {
                let _ = query.eval(&Map::from_iter([("a".into(), Value::from(1))]));
            }
        }
    }
}
