//! Finds the tags of a template and lowers each one's handlebars tree.

use handlebars::{
    Path as HandlebarsPath, PathSeg, Template as Handlebars,
    template::{HelperTemplate, Parameter as Argument, TemplateElement},
};

use super::{EXPRESSIONS_MAX, Part, TEMPLATE_BYTES_MAX, Template};
use crate::{
    diagnostic::{Diagnostic, Diagnostics, code::Code, excerpt::excerpt, suggest::suggest},
    expression::{Call, Expression, Place},
    function::{self, Context, FUNCTIONS, Function},
    path::{Path, is_name_char},
    value::{Number, Value},
    words::Words,
    yaml::{Node, Span},
};

/// Longest tag, bytes.
const TAG_BYTES_MAX: usize = 4096;
/// Deepest brackets in a tag; the grammar behind it recurses.
const TAG_DEPTH_MAX: usize = 16;

pub(super) fn template(node: &Node, text: &str, out: &mut Diagnostics) -> Option<Template> {
    let reader = Reader { node, text };
    if text.len() > TEMPLATE_BYTES_MAX {
        let words = Words::new(
            format!("a template may have {TEMPLATE_BYTES_MAX} bytes at most"),
            format!("в шаблоне может быть не больше {TEMPLATE_BYTES_MAX} байт"),
        );
        out.push(Diagnostic::error(Code::BadTemplate, node.span, words));
        return None;
    }
    reader.parts(out).map(|parts| Template { parts })
}

struct Reader<'n> {
    node: &'n Node,
    text: &'n str,
}

/// One tag: its inside and where it starts in the text.
struct Tag<'n> {
    start: usize,
    source: &'n str,
}

impl<'n> Reader<'n> {
    fn parts(&self, out: &mut Diagnostics) -> Option<Vec<Part>> {
        let (mut parts, mut literal, mut position, mut sound) = (Vec::new(), String::new(), 0, true);
        while let Some(found) = self.text[position..].find("{{") {
            let start = position + found;
            let before = &self.text[position..start];
            // `\{{` is two braces, not a tag.
            if let Some(kept) = before.strip_suffix('\\') {
                literal.push_str(kept);
                literal.push_str("{{");
                position = start + 2;
                continue;
            }
            literal.push_str(before);
            let Some(length) = tag_length(&self.text[start..]) else {
                self.fail(start..self.text.len(), "this `{{` is never closed", "эта `{{` не закрыта", out);
                return None;
            };
            if !literal.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut literal)));
            }
            let tag = Tag { start, source: &self.text[start..start + length] };
            match self.tag(&tag, out) {
                Some(expression) => parts.push(Part::Expression(expression)),
                None => sound = false,
            }
            position = start + length;
        }
        literal.push_str(&self.text[position..]);
        if !literal.is_empty() {
            parts.push(Part::Text(literal));
        }
        if parts.iter().filter(|part| matches!(part, Part::Expression(_))).count() > EXPRESSIONS_MAX {
            self.fail(0..self.text.len(), "too many expressions", "слишком много выражений", out);
            sound = false;
        }
        sound.then_some(parts)
    }

    fn fail(&self, range: std::ops::Range<usize>, en: &str, ru: &str, out: &mut Diagnostics) {
        let problem = Diagnostic::error(Code::BadTemplate, self.node.span_of(range), Words::new(en, ru));
        out.push(problem.with_hint(example()));
    }

    fn tag(&self, tag: &Tag<'n>, out: &mut Diagnostics) -> Option<Expression> {
        let range = tag.start..tag.start + tag.source.len();
        if let Some((en, ru)) = refused(tag.source) {
            self.fail(range, en, ru, out);
            return None;
        }
        // Handlebars writes positions as `a.[0]`; people also write `a[0]`.
        let written = with_dotted_positions(tag.source);
        let elements = Handlebars::compile(&written).map(|parsed| parsed.elements);
        match elements.as_deref() {
            Ok([TemplateElement::Expression(found)]) => {
                let lowering = Lowering { span: self.node.span_of(range), reader: self, tag };
                lowering.helper(found, out)
            }
            Ok(_) | Err(_) => {
                let words = Words::new(
                    format!("`{}` is not an expression", excerpt(tag.source)),
                    format!("`{}` — не выражение", excerpt(tag.source)),
                );
                let hint = Words::new(
                    "write a name, `{{ callerphone }}`, or a helper with its arguments, `{{ default city \"—\" }}`",
                    "пишут имя, `{{ callerphone }}`, или функцию с аргументами, `{{ default city \"—\" }}`",
                );
                out.push(
                    Diagnostic::error(Code::BadTemplate, self.node.span_of(range), words).with_hint(hint),
                );
                None
            }
        }
    }
}

/// Bytes of the tag at the start of the text, both braces included; quotes may hold braces.
fn tag_length(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let (mut quote, mut position) = (None, 2);
    while position < bytes.len() {
        match (quote, bytes[position]) {
            (None, b'}') if bytes.get(position + 1) == Some(&b'}') => {
                // The longest run of braces belongs to the tag, so that `{{{ x }}}` is seen whole.
                let run = bytes[position..].iter().take_while(|byte| **byte == b'}').count();
                return Some(position + run.min(if bytes.get(2) == Some(&b'{') { 3 } else { 2 }));
            }
            (None, mark @ (b'"' | b'\'')) => quote = Some(mark),
            (Some(_), b'\\') => position += 1,
            (Some(mark), byte) if byte == mark => quote = None,
            (None | Some(_), _) => {}
        }
        position += 1;
    }
    None
}

/// Why a tag is not for us, if it is not.
fn refused(source: &str) -> Option<(&'static str, &'static str)> {
    if source.len() > TAG_BYTES_MAX || depth(source) > TAG_DEPTH_MAX {
        return Some(("this expression is too long or too deep", "выражение слишком длинное или вложенное"));
    }
    match source[2..].trim_start().chars().next() {
        Some('{' | '&') => Some((
            "nothing is escaped here, so write `{{ … }}` with two braces",
            "здесь ничего не экранируется: пишите `{{ … }}` с двумя скобками",
        )),
        Some('#' | '^' | '/') => Some((
            "blocks are not part of this language; a choice is made by filters and `default`",
            "блоков в этом языке нет; выбор делают фильтры и `default`",
        )),
        Some('>' | '*') => {
            Some(("partials and decorators are not part of this language", "вставок в этом языке нет"))
        }
        Some('!') => Some(("a comment is written in YAML, after `#`", "комментарий пишут в YAML, после `#`")),
        Some('~') => Some(("`~` is not part of this language", "`~` в этом языке нет")),
        Some('}') => Some(("the braces are empty", "скобки пусты")),
        Some(_) | None => None,
    }
}

fn depth(source: &str) -> usize {
    let (mut open, mut deepest) = (0_usize, 0);
    for byte in source.bytes() {
        match byte {
            b'(' | b'[' | b'{' => open += 1,
            b')' | b']' | b'}' => open = open.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(open);
    }
    deepest
}

fn with_dotted_positions(source: &str) -> String {
    let mut written = String::with_capacity(source.len() + 4);
    let (mut quote, mut before) = (None, ' ');
    for character in source.chars() {
        match (quote, character) {
            (None, '"' | '\'') => quote = Some(character),
            (Some(mark), _) if character == mark && before != '\\' => quote = None,
            (None, '[') if is_name_char(before) || before == ']' => written.push('.'),
            (None | Some(_), _) => {}
        }
        written.push(character);
        before = character;
    }
    written
}

struct Lowering<'r, 'n> {
    span: Span,
    reader: &'r Reader<'n>,
    tag: &'r Tag<'n>,
}

impl Lowering<'_, '_> {
    fn helper(&self, found: &HelperTemplate, out: &mut Diagnostics) -> Option<Expression> {
        if found.params.is_empty() && found.hash.is_empty() {
            return self.argument(&found.name, out);
        }
        let name = found.name.as_name().unwrap_or("");
        let Some(function) = function::find(name) else {
            out.push(unknown_helper(name, self.place_of(name)));
            return None;
        };
        let positional: Vec<_> = found.params.iter().map(|argument| self.argument(argument, out)).collect();
        let mut arguments: Vec<Expression> = positional.into_iter().collect::<Option<_>>()?;
        // The grammar keeps named arguments without order; sorted, so that diagnostics are the same every time.
        let mut named: Vec<_> = found.hash.iter().collect();
        named.sort_by_key(|(key, _)| key.as_str());
        for (key, argument) in named {
            let value = self.argument(argument, out)?;
            if !place_named(function, key, value, &mut arguments) {
                out.push(wrong_argument(function, key, self.place_of(key)));
                return None;
            }
        }
        complete(function, arguments, self.place_of(name), out)
    }

    fn argument(&self, argument: &Argument, out: &mut Diagnostics) -> Option<Expression> {
        match argument {
            Argument::Name(name) => self.path(name, out),
            Argument::Path(HandlebarsPath::Relative((segments, raw))) if segments.iter().all(is_named) => {
                self.path(raw, out)
            }
            Argument::Path(HandlebarsPath::Relative((_, raw)) | HandlebarsPath::Local((_, _, raw))) => {
                self.bad_path(raw, out);
                None
            }
            Argument::Literal(literal) => self.literal(literal, out).map(Expression::Literal),
            Argument::Subexpression(inner) => match inner.as_element() {
                TemplateElement::Expression(found) => self.helper(found, out),
                // The grammar makes nothing else of parentheses.
                _ => None,
            },
            // The enum of handlebars may grow; what it has today is above.
            _ => None,
        }
    }

    fn path(&self, raw: &str, out: &mut Diagnostics) -> Option<Expression> {
        match Path::parse(raw) {
            Ok(path) if !raw.starts_with("this.") && !raw.starts_with("this/") && !raw.contains('/') => {
                Some(Expression::from_path(path, self.place_of(raw)))
            }
            Ok(_) | Err(_) => {
                self.bad_path(raw, out);
                None
            }
        }
    }

    fn bad_path(&self, raw: &str, out: &mut Diagnostics) {
        let words = Words::new(
            format!("`{}` is not a reference", excerpt(raw)),
            format!("`{}` — не ссылка на поле", excerpt(raw)),
        );
        out.push(Diagnostic::error(Code::BadTemplate, self.place_of(raw), words).with_hint(example()));
    }

    fn literal(&self, literal: &serde_json::Value, out: &mut Diagnostics) -> Option<Value> {
        let value = from_serde(literal);
        // The grammar behind keeps numbers as floating point; one that would change is refused.
        if let Value::Number(number) = &value
            && !self.tag.source.contains(&number.to_string())
        {
            let words =
                Words::new("this number cannot be kept exactly here", "это число здесь не сохранить точно");
            let hint = Words::new("write `(number \"…\")`", "напишите `(number \"…\")`");
            out.push(Diagnostic::error(Code::BadTemplate, self.span, words).with_hint(hint));
            return None;
        }
        Some(value)
    }

    /// Where a word of the tag stands.
    fn place_of(&self, word: &str) -> Span {
        let written = word.replace(".[", "[");
        let whole_word = |word: &str| {
            self.tag.source.match_indices(word).find_map(|(at, _)| {
                let joined = |c: Option<char>| c.is_some_and(|c| is_name_char(c) || c == '.');
                let before = self.tag.source[..at].chars().next_back();
                let after = self.tag.source[at + word.len()..].chars().next();
                (!joined(before) && !joined(after)).then_some((at, word.len()))
            })
        };
        match whole_word(word).or_else(|| whole_word(&written)) {
            Some((at, length)) => {
                let start = self.tag.start + at;
                self.reader.node.span_of(start..start + length)
            }
            None => self.span,
        }
    }
}

fn is_named(segment: &PathSeg) -> bool {
    matches!(segment, PathSeg::Named(_))
}

fn from_serde(value: &serde_json::Value) -> Value {
    match value {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(bool) => Value::Bool(*bool),
        serde_json::Value::Number(number) => {
            Number::parse(&number.to_string()).map_or(Value::Null, Value::Number)
        }
        serde_json::Value::String(text) => Value::from(text.as_str()),
        serde_json::Value::Array(items) => Value::List(items.iter().map(from_serde).collect()),
        serde_json::Value::Object(map) => {
            Value::object(map.iter().map(|(key, value)| (key, from_serde(value))))
        }
    }
}

/// Puts a named argument into its place; false when there is no such parameter or it is taken.
fn place_named(function: &Function, key: &str, value: Expression, arguments: &mut Vec<Expression>) -> bool {
    let Some(position) = function.parameters.iter().position(|parameter| parameter.name == key) else {
        return false;
    };
    while arguments.len() <= position {
        arguments.push(Expression::Literal(Value::Null));
    }
    let free = arguments[position] == Expression::Literal(Value::Null);
    arguments[position] = value;
    free
}

/// Makes the call when the number of arguments is right.
pub(crate) fn complete(
    function: &'static Function,
    arguments: Vec<Expression>,
    span: Span,
    out: &mut Diagnostics,
) -> Option<Expression> {
    let least = function.parameters.iter().filter(|parameter| parameter.required).count();
    let too_many = arguments.len() > function.parameters.len() && !function.repeats;
    if arguments.len() < least || too_many {
        let usage = usage(function);
        let words = Words::new(
            format!("`{}` takes {least} or more arguments: {usage}", function.name).replace(
                "or more",
                if function.repeats || function.parameters.len() > least { "or more" } else { "exactly" },
            ),
            format!("`{}`: не то число аргументов, нужно {usage}", function.name),
        );
        out.push(Diagnostic::error(Code::HelperArguments, span, words));
        return None;
    }
    Some(Expression::Call(Call { function, arguments, context: Context::default(), place: Place(span) }))
}

fn usage(function: &Function) -> String {
    let mut text = function.name.to_owned();
    for parameter in function.parameters {
        let shown =
            if parameter.required { parameter.name.to_owned() } else { format!("[{}]", parameter.name) };
        text.push(' ');
        text.push_str(&shown);
    }
    if function.repeats { text + " …" } else { text }
}

/// A helper that does not exist.
pub(crate) fn unknown_helper(name: &str, span: Span) -> Diagnostic {
    let words = Words::new(
        format!("there is no helper `{}`", excerpt(name)),
        format!("нет функции `{}`", excerpt(name)),
    );
    let near = suggest(name, FUNCTIONS.iter().map(|function| function.name));
    Diagnostic::error(Code::UnknownHelper, span, words).with_suggestion(near)
}

fn wrong_argument(function: &Function, key: &str, span: Span) -> Diagnostic {
    let words = Words::new(
        format!("`{}` does not take `{}` here: {}", function.name, excerpt(key), usage(function)),
        format!("`{}` не принимает здесь `{}`: {}", function.name, excerpt(key), usage(function)),
    );
    let near = suggest(key, function.parameters.iter().map(|parameter| parameter.name));
    Diagnostic::error(Code::HelperArguments, span, words).with_suggestion(near)
}

/// The hint when nothing closer is known.
fn example() -> Words {
    Words::new(
        "write `{{ field }}` or `{{ helper field }}`; two braces as they are: `\\{{`",
        "пишите `{{ field }}` или `{{ helper field }}`; сами скобки: `\\{{`",
    )
}
