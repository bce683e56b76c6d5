//! A request at a hook to the fields of an event. Pure and repeatable: the request is stored, this can be done again.
//!
//! 1. Parameters come from the query (where the hook allows it) and the body; of equal names the body's wins. A request
//!    that says something in a query that is not read, and nothing else, is an error, as is one that names nothing.
//! 2. Names the user changed at the vendor get the field's own name; `order.number` written flat becomes nested where a
//!    field of that name is declared.
//! 3. The identity for deduplication is taken from these parameters as they came (see [`crate::identity`]).
//! 4. Each declared field is typed (see [`crate::typed`]). A parameter nobody declared keeps its value as it came.
//!
//! A value that does not fit its field never costs the event: it is noted, and the request is kept anyway.

use std::{collections::HashMap, sync::Arc};

use encoding_rs::Encoding;
use sheaf_bundles::{
    event::Received,
    hook::{Content, Hook, HookField},
    json::{self, JsonError, Limits},
    value::{Map, Text, Value},
};

use crate::{
    charset,
    form::{self, FormError},
    identity, typed,
};

/// What a request says.
#[derive(Debug, Clone, PartialEq)]
pub struct Decoded {
    /// The fields by their declared names, typed; "no value" is null, what did not arrive has no key.
    pub fields: Map,
    /// 128 bits that are equal for equal events; `None` when every request is an event of its own.
    pub dedupe: Option<[u64; 2]>,
    /// What is worth telling the user.
    pub notes: Vec<Note>,
}

/// Something about an event that a user should know: a filter may have read a field that was not what it seems.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// The vendor sends this parameter with every event, and it did not come: it was probably turned off there.
    Absent {
        /// The field.
        field: String,
    },
    /// The value is not of the field's type. The field is null, except for an enum, which keeps the unknown text.
    Unreadable {
        /// The field.
        field: String,
        /// The word of the type that was expected.
        expected: &'static str,
    },
}

/// The request has no fields. It is kept, so a better decoder can read it later.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A form or a query passes a limit.
    #[error("form: {0}")]
    Form(#[from] FormError),
    /// The body is no JSON, or passes a limit.
    #[error("JSON: {0}")]
    Json(#[from] JsonError),
    /// The body is JSON but no object.
    #[error("the body is JSON, but not an object")]
    NotAnObject,
    /// The body is of a type the hook does not read.
    #[error("content type {0:?} is not read here")]
    ContentType(String),
    /// All the request says is in the query, and the hook does not read that.
    #[error("the parameters stand in the query of the URL, which is not read here: add `query` to `content`")]
    QueryNotRead,
    /// Something was sent, and nothing in it has a name (`=hello`).
    #[error("there are no fields in what was sent")]
    NoFields,
}

/// A hook with what decoding looks up, prepared once.
#[derive(Debug)]
pub struct Decoder {
    hook: Arc<Hook>,
    names: Names,
}

impl Decoder {
    /// Prepares a hook.
    pub fn new(hook: Arc<Hook>) -> Decoder {
        Decoder { names: Names::of(&hook), hook }
    }

    /// The hook.
    pub fn hook(&self) -> &Arc<Hook> {
        &self.hook
    }

    /// Reads a request by the hook's manifest.
    pub fn decode(&self, received: &Received) -> Result<Decoded, DecodeError> {
        decode_with(&self.hook, &self.names, received)
    }
}

/// Reads one request; for many, keep a [`Decoder`].
pub fn decode(hook: &Hook, received: &Received) -> Result<Decoded, DecodeError> {
    decode_with(hook, &Names::of(hook), received)
}

/// Where the fields of a hook are declared.
#[derive(Debug)]
struct Names {
    by_name: HashMap<Text, usize, foldhash::fast::RandomState>,
    /// Those inside others, by their dots.
    dotted: Vec<usize>,
    /// Those that every event must bring.
    expected: Vec<usize>,
}

impl Names {
    fn of(hook: &Hook) -> Names {
        let all = || hook.fields.iter().enumerate();
        let expected = |field: &HookField| field.sent_always && !field.unticked && field.kinds.is_empty();
        Names {
            by_name: all().map(|(at, field)| (field.field.name.as_str().into(), at)).collect(),
            dotted: all().filter(|(_, field)| field.field.name.contains('.')).map(|(at, _)| at).collect(),
            expected: all().filter(|(_, field)| expected(field)).map(|(at, _)| at).collect(),
        }
    }
}

fn decode_with(hook: &Hook, names: &Names, received: &Received) -> Result<Decoded, DecodeError> {
    let mut fields = parameters(hook, received)?;
    if !hook.renames.is_empty() {
        fields = fields.into_iter().map(|(name, value)| (own_name(hook, name), value)).collect();
    }
    let dotted = || names.dotted.iter().map(|at| &hook.fields[*at]);
    dotted().for_each(|field| nest(&field.field.name, &mut fields));
    let no_value = |name: &str| match names.by_name.get(name) {
        Some(at) => hook.fields[*at].field.no_value.as_slice(),
        None => &[],
    };
    let dedupe = hook.dedupe.as_ref().and_then(|rule| identity::of(&rule.fields, &fields, no_value));

    let mut notes = Vec::new();
    for (name, value) in &mut fields {
        if let Some(at) = names.by_name.get(name) {
            type_one(&hook.fields[*at], value, &mut notes);
        }
    }
    // After the fields they are in, which may have come as text.
    for field in dotted() {
        if let Some(value) = find_mut(&mut fields, &field.field.name) {
            type_one(field, value, &mut notes);
        }
    }
    if !fields.is_empty() {
        let expected = names.expected.iter().map(|at| hook.fields[*at].field.name.as_str());
        let absent = expected.filter(|name| find(&fields, name).is_none());
        notes.extend(absent.map(|name| Note::Absent { field: name.to_owned() }));
    }
    Ok(Decoded { fields, dedupe, notes })
}

/// The parameters that the vendor sends with every event of this trigger, that the user did not turn off, and that are
/// not among these fields.
pub fn absent<'h>(hook: &'h Hook, trigger: &str, fields: &Map) -> Vec<&'h str> {
    let kinds = hook.trigger(trigger).map(|trigger| trigger.kinds.as_slice()).unwrap_or_default();
    let has = |field: &HookField| {
        field.kinds.is_empty() || (!kinds.is_empty() && kinds.iter().all(|kind| field.kinds.contains(kind)))
    };
    let expected = hook.fields.iter().filter(|field| field.sent_always && !field.unticked && has(field));
    expected.map(|field| field.field.name.as_str()).filter(|name| find(fields, name).is_none()).collect()
}

/// The value of a field whose name may have dots: step by step, then the whole name as a key; the order in which
/// [`lookup`](sheaf_bundles::path::lookup) finds what a bundle refers to.
pub(crate) fn find<'m>(fields: &'m Map, name: &str) -> Option<&'m Value> {
    let inside = name.match_indices('.').find_map(|(at, _)| match fields.get(&name[..at])? {
        Value::Object(inner) => find(inner, &name[at + 1..]),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) | Value::List(_) => None,
    });
    inside.or_else(|| fields.get(name))
}

fn find_mut<'m>(fields: &'m mut Map, name: &str) -> Option<&'m mut Value> {
    let inside = name.match_indices('.').map(|(at, _)| at).find(|at| {
        matches!(fields.get(&name[..*at]), Some(Value::Object(inner)) if find(inner, &name[at + 1..]).is_some())
    });
    let Some(at) = inside else { return fields.get_mut(name) };
    match fields.get_mut(&name[..at])? {
        Value::Object(inner) => find_mut(inner, &name[at + 1..]),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) | Value::List(_) => None,
    }
}

fn parameters(hook: &Hook, received: &Received) -> Result<Map, DecodeError> {
    let content_type = received.header("content-type");
    let declared = charset::declared(content_type);
    let reads_query = hook.content.contains(&Content::Query);
    let mut fields = match reads_query && !received.query.is_empty() {
        true => form::parse(received.query.as_bytes(), None)?,
        false => Map::default(),
    };
    if !received.body.is_empty() {
        let of_body = body(hook, received, content_type, declared)?;
        if fields.is_empty() {
            fields = of_body;
        } else {
            fields.extend(of_body);
        }
    }
    // Without fields a request is taken for somebody trying the address: what was sent would be dropped. Only `{}` says no more.
    if !fields.is_empty() {
        return Ok(fields);
    }
    if !reads_query && !received.query.is_empty() {
        return Err(DecodeError::QueryNotRead);
    }
    let of_form = !received.body.is_empty() && body_content(hook, received, content_type)? == Content::Form;
    if of_form || !received.query.is_empty() { Err(DecodeError::NoFields) } else { Ok(fields) }
}

fn body(
    hook: &Hook,
    received: &Received,
    content_type: Option<&str>,
    declared: Option<&'static Encoding>,
) -> Result<Map, DecodeError> {
    match body_content(hook, received, content_type)? {
        Content::Form | Content::Query => Ok(form::parse(&received.body, declared)?),
        Content::Json => {
            let text = declared.map(|encoding| encoding.decode_without_bom_handling(&received.body).0);
            let bytes = text.as_ref().map_or(received.body.as_slice(), |text| text.as_bytes());
            match json::parse(bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes), Limits::default())? {
                Value::Object(map) => Ok(*map),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) | Value::List(_) => {
                    Err(DecodeError::NotAnObject)
                }
            }
        }
    }
}

/// What the body is: by its declared type when the hook reads that; with no type or a plain one, by its first letter.
fn body_content(
    hook: &Hook,
    received: &Received,
    content_type: Option<&str>,
) -> Result<Content, DecodeError> {
    let essence =
        content_type.and_then(|text| text.split(';').next()).unwrap_or("").trim().to_ascii_lowercase();
    let wanted = match essence.as_str() {
        "application/x-www-form-urlencoded" => Content::Form,
        "" | "text/plain" | "application/octet-stream" => {
            let first = received.body.iter().find(|byte| !byte.is_ascii_whitespace());
            if matches!(first, Some(b'{' | b'[')) { Content::Json } else { Content::Form }
        }
        json if json == "application/json" || json.ends_with("+json") || json == "text/json" => Content::Json,
        _ => return Err(DecodeError::ContentType(essence)),
    };
    if hook.content.contains(&wanted) { Ok(wanted) } else { Err(DecodeError::ContentType(essence)) }
}

fn own_name(hook: &Hook, name: Text) -> Text {
    match hook.renames.iter().find(|(theirs, _)| *theirs == name) {
        Some((_, own)) => own.into(),
        None => name,
    }
}

/// Moves `order.number=1` to where `order[number]=1` would stand.
fn nest(name: &str, fields: &mut Map) {
    let Some((head, rest)) = name.split_once('.') else { return };
    if let Some(value) = fields.shift_remove(name) {
        let inside = fields.entry(head.into()).or_insert_with(|| Value::Object(Box::default()));
        put(inside, rest, value);
    }
}

fn put(inside: &mut Value, name: &str, value: Value) {
    if !matches!(inside, Value::Object(_)) {
        *inside = Value::Object(Box::default());
    }
    let Value::Object(map) = inside else { return };
    match name.split_once('.') {
        Some((head, rest)) => {
            put(map.entry(head.into()).or_insert_with(|| Value::Object(Box::default())), rest, value)
        }
        None => {
            map.insert(name.into(), value);
        }
    }
}

fn type_one(field: &HookField, value: &mut Value, notes: &mut Vec<Note>) {
    if let Err(error) = typed::convert(value, &field.field.ty, &field.field.no_value) {
        notes.push(Note::Unreadable { field: field.field.name.clone(), expected: error.expected });
    }
}

#[cfg(test)]
mod tests;
