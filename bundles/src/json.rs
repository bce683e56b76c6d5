//! JSON with exact numbers: reading within limits, writing straight into a buffer.

use std::fmt;

use crate::value::{Map, Number, Text, Value};

/// Limits of one document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Deepest nesting of lists and objects.
    pub depth_max: u32,
    /// Most values in all, keys not counted.
    pub nodes_max: u32,
}

impl Default for Limits {
    /// What is accepted from the outside.
    fn default() -> Self {
        Limits { depth_max: 64, nodes_max: 100_000 }
    }
}

/// The bytes are not JSON we take.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} at byte {position}")]
pub struct JsonError {
    /// What is wrong.
    pub kind: JsonErrorKind,
    /// Byte offset of the place.
    pub position: usize,
}

/// Ways for JSON to be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JsonErrorKind {
    /// The text ends too early.
    #[error("unexpected end")]
    End,
    /// A byte that cannot stand there.
    #[error("unexpected character")]
    Unexpected,
    /// A number outside RFC 8259, such as `01` or `+1`.
    #[error("not a number")]
    Number,
    /// An escape that does not exist, a raw control character, or half of a surrogate pair.
    #[error("not a valid string")]
    Text,
    /// Bytes that are not UTF-8.
    #[error("not UTF-8")]
    Encoding,
    /// Nested deeper than allowed.
    #[error("nested too deep")]
    Depth,
    /// More values than allowed.
    #[error("too many values")]
    Nodes,
}

/// Reads one JSON document. Of duplicate keys the last wins and keeps the first's place; numbers stay exact;
/// a lone surrogate is refused, for no UTF-8 text can hold it.
pub fn parse(bytes: &[u8], limits: Limits) -> Result<Value, JsonError> {
    let text = std::str::from_utf8(bytes)
        .map_err(|error| JsonError { kind: JsonErrorKind::Encoding, position: error.valid_up_to() })?;
    let mut reader = Reader { text, bytes: text.as_bytes(), position: 0, nodes: 0, limits };
    let value = reader.value(0)?;
    reader.space();
    if reader.position < bytes.len() { Err(reader.error(JsonErrorKind::Unexpected)) } else { Ok(value) }
}

struct Reader<'t> {
    text: &'t str,
    bytes: &'t [u8],
    position: usize,
    nodes: u32,
    limits: Limits,
}

impl Reader<'_> {
    fn error(&self, kind: JsonErrorKind) -> JsonError {
        JsonError { kind, position: self.position }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.position).copied()
    }

    fn unexpected(&self) -> JsonError {
        self.error(if self.peek().is_none() { JsonErrorKind::End } else { JsonErrorKind::Unexpected })
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.position += 1;
        }
    }

    fn take(&mut self, byte: u8) -> Result<(), JsonError> {
        if self.peek() != Some(byte) {
            return Err(self.unexpected());
        }
        self.position += 1;
        Ok(())
    }

    fn value(&mut self, depth: u32) -> Result<Value, JsonError> {
        self.space();
        self.nodes += 1;
        if self.nodes > self.limits.nodes_max {
            return Err(self.error(JsonErrorKind::Nodes));
        }
        match self.peek() {
            Some(b'"') => Ok(Value::Text(self.string()?)),
            Some(b'{') => self.object(depth),
            Some(b'[') => self.list(depth),
            Some(b'-' | b'0'..=b'9') => Ok(Value::Number(self.number()?)),
            Some(b't') => self.word("true", Value::Bool(true)),
            Some(b'f') => self.word("false", Value::Bool(false)),
            Some(b'n') => self.word("null", Value::Null),
            _ => Err(self.unexpected()),
        }
    }

    fn word(&mut self, word: &str, value: Value) -> Result<Value, JsonError> {
        if !self.bytes[self.position..].starts_with(word.as_bytes()) {
            return Err(self.unexpected());
        }
        self.position += word.len();
        Ok(value)
    }

    fn enter(&mut self, depth: u32) -> Result<(), JsonError> {
        if depth >= self.limits.depth_max {
            return Err(self.error(JsonErrorKind::Depth));
        }
        self.position += 1;
        self.space();
        Ok(())
    }

    fn list(&mut self, depth: u32) -> Result<Value, JsonError> {
        self.enter(depth)?;
        let mut items = Vec::new();
        if self.peek() != Some(b']') {
            loop {
                items.push(self.value(depth + 1)?);
                self.space();
                if self.peek() != Some(b',') {
                    break;
                }
                self.position += 1;
            }
        }
        self.take(b']')?;
        Ok(Value::List(items))
    }

    fn object(&mut self, depth: u32) -> Result<Value, JsonError> {
        self.enter(depth)?;
        let mut map = Map::default();
        if self.peek() != Some(b'}') {
            loop {
                self.space();
                if self.peek() != Some(b'"') {
                    return Err(self.unexpected());
                }
                let key = self.string()?;
                self.space();
                self.take(b':')?;
                let value = self.value(depth + 1)?;
                map.insert(key, value);
                self.space();
                if self.peek() != Some(b',') {
                    break;
                }
                self.position += 1;
            }
        }
        self.take(b'}')?;
        Ok(map.into())
    }

    fn number(&mut self) -> Result<Number, JsonError> {
        let length =
            number_length(&self.bytes[self.position..]).ok_or_else(|| self.error(JsonErrorKind::Number))?;
        let text = &self.text[self.position..self.position + length];
        self.position += length;
        Ok(Number::from_digits(text))
    }

    fn string(&mut self) -> Result<Text, JsonError> {
        self.position += 1;
        let mut text = Text::default();
        loop {
            let start = self.position;
            while !matches!(self.peek(), None | Some(b'"' | b'\\' | 0..=0x1F)) {
                self.position += 1;
            }
            text.push_str(&self.text[start..self.position]);
            match self.peek() {
                Some(b'"') => {
                    self.position += 1;
                    return Ok(text);
                }
                Some(b'\\') => text.push(self.escape()?),
                Some(_) => return Err(self.error(JsonErrorKind::Text)),
                None => return Err(self.error(JsonErrorKind::End)),
            }
        }
    }

    fn escape(&mut self) -> Result<char, JsonError> {
        let letter =
            self.bytes.get(self.position + 1).copied().ok_or_else(|| self.error(JsonErrorKind::End))?;
        let character = match letter {
            b'"' => '"',
            b'\\' => '\\',
            b'/' => '/',
            b'b' => '\u{8}',
            b'f' => '\u{C}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => return self.unicode(),
            _ => return Err(self.error(JsonErrorKind::Text)),
        };
        self.position += 2;
        Ok(character)
    }

    fn unicode(&mut self) -> Result<char, JsonError> {
        let first = self.unit()?;
        let code = match first {
            0xD800..=0xDBFF => {
                let second = self.unit()?;
                if !(0xDC00..=0xDFFF).contains(&second) {
                    return Err(self.error(JsonErrorKind::Text));
                }
                0x1_0000 + ((first - 0xD800) << 10) + (second - 0xDC00)
            }
            other => other,
        };
        char::from_u32(code).ok_or_else(|| self.error(JsonErrorKind::Text))
    }

    /// One `\uXXXX`.
    fn unit(&mut self) -> Result<u32, JsonError> {
        let digits = self.bytes.get(self.position..self.position + 6).filter(|unit| unit.starts_with(b"\\u"));
        let code = digits
            .filter(|unit| unit[2..].iter().all(u8::is_ascii_hexdigit))
            .and_then(|unit| std::str::from_utf8(&unit[2..]).ok())
            .and_then(|digits| u32::from_str_radix(digits, 16).ok())
            .ok_or_else(|| self.error(JsonErrorKind::Text))?;
        self.position += 6;
        Ok(code)
    }
}

/// How many leading bytes are a number by RFC 8259; none when they are not one.
fn number_length(bytes: &[u8]) -> Option<usize> {
    let digits = |from: usize| bytes[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let mut end = usize::from(bytes.first() == Some(&b'-'));
    end += match bytes.get(end)? {
        b'0' if bytes.get(end + 1).is_some_and(u8::is_ascii_digit) => return None,
        b'0'..=b'9' => digits(end),
        _ => return None,
    };
    if bytes.get(end) == Some(&b'.') {
        let count = digits(end + 1);
        if count == 0 {
            return None;
        }
        end += 1 + count;
    }
    if matches!(bytes.get(end), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
        let count = digits((end + 1 + sign).min(bytes.len()));
        if count == 0 {
            return None;
        }
        end += 1 + sign + count;
    }
    Some(end)
}

impl Number {
    /// Reads a number by RFC 8259's grammar, whole text; none when it is not one.
    pub fn parse(text: &str) -> Option<Number> {
        (number_length(text.as_bytes())? == text.len()).then(|| Number::from_digits(text))
    }

    fn from_digits(text: &str) -> Number {
        // "-0" must stay as written: an i64 has no negative zero.
        match text.parse() {
            Ok(integer) if text != "-0" => Number::Integer(integer),
            Ok(_) | Err(_) => Number::Exact(text.into()),
        }
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Number::Integer(integer) => write!(f, "{integer}"),
            Number::Exact(digits) => f.write_str(digits),
        }
    }
}

/// Appends the value as compact JSON.
pub fn write(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Number(number) => write_number(number, out),
        Value::Text(text) => write_text(text, out),
        Value::List(items) => {
            out.push(b'[');
            for (position, item) in items.iter().enumerate() {
                if position > 0 {
                    out.push(b',');
                }
                write(item, out);
            }
            out.push(b']');
        }
        Value::Object(map) => {
            out.push(b'{');
            for (position, (key, item)) in map.iter().enumerate() {
                if position > 0 {
                    out.push(b',');
                }
                write_text(key, out);
                out.push(b':');
                write(item, out);
            }
            out.push(b'}');
        }
    }
}

/// Appends a number.
pub fn write_number(number: &Number, out: &mut Vec<u8>) {
    use std::io::Write as _;
    write!(out, "{number}").expect("writing into memory cannot fail");
}

/// Appends a text as a JSON string, quotes included.
pub fn write_text(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    write_text_inside(text, out);
    out.push(b'"');
}

/// Appends a text as the inside of a JSON string.
pub fn write_text_inside(text: &str, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let bytes = text.as_bytes();
    let mut start = 0;
    for (position, &byte) in bytes.iter().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.extend_from_slice(&bytes[start..position]);
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            _ => out.extend_from_slice(&[
                b'\\',
                b'u',
                b'0',
                b'0',
                HEX[usize::from(byte >> 4)],
                HEX[usize::from(byte & 15)],
            ]),
        }
        start = position + 1;
    }
    out.extend_from_slice(&bytes[start..]);
}

/// The value as compact JSON text.
pub fn to_text(value: &Value) -> String {
    let mut out = Vec::new();
    write(value, &mut out);
    String::from_utf8(out).expect("JSON of UTF-8 text is UTF-8")
}

impl serde::Serialize for Number {
    /// A number beyond 64 bits or with a fraction goes through the nearest `f64` here, since serde has no exact number;
    /// what is sent to vendors goes through [`write`].
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Number::Integer(integer) => serializer.serialize_i64(*integer),
            Number::Exact(digits) => match (digits.parse::<u64>(), digits.parse::<f64>()) {
                (Ok(integer), _) => serializer.serialize_u64(integer),
                (Err(_), Ok(float)) if float.is_finite() => serializer.serialize_f64(float),
                (Err(_), _) => serializer.serialize_str(digits),
            },
        }
    }
}

impl serde::Serialize for Value {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Value::Null => serializer.serialize_unit(),
            Value::Bool(bool) => serializer.serialize_bool(*bool),
            Value::Number(number) => number.serialize(serializer),
            Value::Text(text) => serializer.serialize_str(text),
            Value::List(items) => serializer.collect_seq(items),
            Value::Object(map) => serializer.collect_map(map.iter()),
        }
    }
}

#[cfg(test)]
mod tests;
