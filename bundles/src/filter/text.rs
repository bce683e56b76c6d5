//! The text of a filter: words, then a tree by recursive descent.

use super::{DEPTH_MAX, FILTER_BYTES_MAX, Operand, Operator, Test, Written};
use crate::{
    diagnostic::{Diagnostic, Diagnostics, code::Code, excerpt::excerpt},
    duration,
    expression::{Expression, Place},
    function,
    json::{self, Limits},
    path::{Path, is_name_char},
    template::parse::{complete, unknown_helper},
    value::{Number, Value},
    words::Words,
    yaml::{Node, Span},
};

#[derive(Debug, Clone, PartialEq)]
enum Token {
    /// A name or a path, or a keyword.
    Word(String),
    Text(String),
    Number(Number),
    /// `5m`, kept as text: the field on the other side says its unit.
    Duration(String),
    Pattern(String),
    Sign(&'static str),
    End,
}

struct Lexeme {
    token: Token,
    start: usize,
    end: usize,
}

/// A problem at a range of the text.
struct Problem {
    range: (usize, usize),
    words: Words,
    hint: Option<Words>,
}

type Outcome<T> = Result<T, Problem>;

/// Words that cannot be bare names.
pub(super) const KEYWORDS: [&str; 13] = [
    "and", "or", "not", "is", "empty", "in", "contains", "starts", "ends", "with", "matches", "true", "false",
];

pub(super) fn parse(node: &Node, text: &str, out: &mut Diagnostics) -> Option<Written> {
    let reader = |out: &mut Diagnostics| {
        let words = lex(text)?;
        let mut parser = Parser { node, words, position: 0, out, broken: false };
        let filter = parser.any(0)?;
        if parser.peek() != &Token::End {
            return Err(parser.expected("`and`, `or` or the end", "`and`, `or` или конец"));
        }
        Ok((!parser.broken).then_some(filter))
    };
    match reader(out) {
        Ok(filter) => filter,
        Err(problem) => {
            let span = node.span_of(problem.range.0..problem.range.1);
            let diagnostic = Diagnostic::error(Code::BadFilter, span, problem.words);
            out.push(diagnostic.with_hint(problem.hint.unwrap_or_else(example)));
            None
        }
    }
}

/// The left side of a condition, as it stands in a tree's `field`.
pub(super) fn subject(node: &Node, text: &str, out: &mut Diagnostics) -> Option<Expression> {
    let found = lex(text).and_then(|words| {
        let mut parser = Parser { node, words, position: 0, out, broken: false };
        let subject = parser.operand(0)?;
        if parser.peek() != &Token::End {
            return Err(parser.expected("the end of the field's name", "конец имени поля"));
        }
        Ok((!parser.broken).then_some(subject))
    });
    found.unwrap_or_else(|problem| {
        out.push(Diagnostic::error(
            Code::BadFilter,
            node.span_of(problem.range.0..problem.range.1),
            problem.words,
        ));
        None
    })
}

/// The hint when nothing closer is known.
fn example() -> Words {
    let text = "`status = \"successful\" and not (city is empty or duration < 30)`";
    Words::new(format!("for example {text}"), format!("например, {text}"))
}

fn problem(range: (usize, usize), en: impl Into<String>, ru: impl Into<String>) -> Problem {
    Problem { range, words: Words::new(en, ru), hint: None }
}

fn lex(text: &str) -> Outcome<Vec<Lexeme>> {
    if text.len() > FILTER_BYTES_MAX {
        return Err(problem((0, text.len()), "the filter is too long", "фильтр слишком длинный"));
    }
    let mut words: Vec<Lexeme> = Vec::new();
    let mut position = 0;
    loop {
        position += text[position..].len() - text[position..].trim_start().len();
        let before = match words.last() {
            Some(Lexeme { token: Token::Word(word), .. }) => word.as_str(),
            Some(_) | None => "",
        };
        let (token, length) = next(&text[position..], position, before)?;
        let done = token == Token::End;
        words.push(Lexeme { token, start: position, end: position + length });
        if done {
            return Ok(words);
        }
        position += length;
    }
}

/// `before` is the word before: it tells a pattern from a stray `/`, and a list from a name in brackets.
fn next(rest: &str, at: usize, before: &str) -> Outcome<(Token, usize)> {
    const SIGNS: [&str; 12] = ["!=", "<=", ">=", "==", "&&", "||", "=", "<", ">", "(", ")", ","];
    let Some(first) = rest.chars().next() else { return Ok((Token::End, 0)) };
    match first {
        '"' | '\'' => quoted(rest, first, at),
        '/' if before == "matches" => regex(rest, at),
        '[' if before == "in" => Ok((Token::Sign("["), 1)),
        ']' => Ok((Token::Sign("]"), 1)),
        '0'..='9' => numeric(rest, at),
        '-' if rest[1..].starts_with(|c: char| c.is_ascii_digit()) => numeric(rest, at),
        _ if is_name_char(first) || (first == '[' && rest.contains(']')) => {
            let length = path_length(rest);
            Ok((Token::Word(rest[..length].to_owned()), length))
        }
        _ => match SIGNS.iter().find(|sign| rest.starts_with(**sign)) {
            Some(sign) => foreign(sign, at).map_or(Ok((Token::Sign(sign), sign.len())), Err),
            None => Err(problem(
                (at, at + first.len_utf8()),
                format!("`{}` cannot stand here", excerpt(&first.to_string())),
                format!("`{}` здесь стоять не может", excerpt(&first.to_string())),
            )),
        },
    }
}

/// Signs of other languages.
fn foreign(sign: &str, at: usize) -> Option<Problem> {
    let ours = match sign {
        "==" => "=",
        "&&" => "and",
        "||" => "or",
        _ => return None,
    };
    Some(problem(
        (at, at + sign.len()),
        format!("write `{ours}`, not `{sign}`"),
        format!("пишите `{ours}`, а не `{sign}`"),
    ))
}

/// Bytes of the name or path at the start; names with other characters stand in brackets: `[and]`, `a.[b c]`.
fn path_length(rest: &str) -> usize {
    let mut length = 0;
    loop {
        length += rest[length..].chars().take_while(|c| is_name_char(*c)).map(char::len_utf8).sum::<usize>();
        let tail = &rest[length..];
        if &rest[..length] == "in" {
            return length;
        }
        let bracketed = tail
            .strip_prefix(".[")
            .map(|inside| (2, inside))
            .or_else(|| tail.strip_prefix('[').map(|inside| (1, inside)));
        match bracketed.and_then(|(open, inside)| inside.find(']').map(|close| open + close + 1)) {
            Some(more) => length += more,
            None if tail.starts_with('.') && tail[1..].starts_with(is_name_char) => length += 1,
            None => return length,
        }
        // After a closing bracket a path goes on only with `.` or `[`.
        if rest[..length].ends_with(']') && !rest[length..].starts_with(['.', '[']) {
            return length;
        }
        if rest[..length].ends_with(']')
            && rest[length..].starts_with('.')
            && rest[length + 1..].starts_with(is_name_char)
        {
            length += 1;
        }
    }
}

fn quoted(rest: &str, quote: char, at: usize) -> Outcome<(Token, usize)> {
    let mut escaped = false;
    let close = rest.char_indices().skip(1).find(|(_, c)| {
        let closes = *c == quote && !escaped;
        escaped = *c == '\\' && !escaped;
        closes
    });
    let Some((close, _)) = close else {
        return Err(problem((at, at + rest.len()), "this quote is never closed", "кавычка не закрыта"));
    };
    let inside = &rest[1..close];
    let text = if quote == '"' {
        // The same escapes as JSON; line breaks may stand as they are.
        let escaped = inside.replace('\n', "\\n").replace('\r', "\\r").replace('\t', "\\t");
        match json::parse(format!("\"{escaped}\"").as_bytes(), Limits::default()) {
            Ok(Value::Text(text)) => text.into(),
            Ok(_) | Err(_) => {
                return Err(problem(
                    (at, at + close + 1),
                    "an escape in this text is unknown",
                    "неизвестная последовательность с `\\` в тексте",
                ));
            }
        }
    } else {
        inside.replace("\\'", "'").replace("\\\\", "\\")
    };
    Ok((Token::Text(text), close + 1))
}

fn regex(rest: &str, at: usize) -> Outcome<(Token, usize)> {
    let mut escaped = false;
    let close = rest.char_indices().skip(1).find(|(_, c)| {
        let closes = *c == '/' && !escaped;
        escaped = *c == '\\' && !escaped;
        closes
    });
    let Some((close, _)) = close else {
        return Err(problem((at, at + rest.len()), "this `/` is never closed", "`/` не закрыта"));
    };
    let pattern = rest[1..close].replace("\\/", "/");
    let ignore_case = rest[close + 1..].starts_with('i') && !rest[close + 2..].starts_with(is_name_char);
    let pattern = if ignore_case { format!("(?i){pattern}") } else { pattern };
    Ok((Token::Pattern(pattern), close + 1 + usize::from(ignore_case)))
}

fn numeric(rest: &str, at: usize) -> Outcome<(Token, usize)> {
    let bytes = rest.as_bytes();
    let mut length = 1;
    while let Some(byte) = bytes.get(length) {
        let exponent = matches!(byte, b'+' | b'-') && matches!(bytes[length - 1], b'e' | b'E');
        if !byte.is_ascii_alphanumeric() && *byte != b'.' && !exponent {
            break;
        }
        length += 1;
    }
    let word = &rest[..length];
    if let Some(number) = Number::parse(word) {
        return Ok((Token::Number(number), length));
    }
    if duration::parse(word).is_ok() {
        return Ok((Token::Duration(word.to_owned()), length));
    }
    Err(Problem {
        hint: Some(Words::new("text stands in quotes", "текст пишут в кавычках")),
        ..problem(
            (at, at + length),
            format!("`{}` is neither a number nor a duration", excerpt(word)),
            format!("`{}` — не число и не длительность", excerpt(word)),
        )
    })
}

struct Parser<'n, 'o> {
    node: &'n Node,
    words: Vec<Lexeme>,
    position: usize,
    out: &'o mut Diagnostics,
    /// A helper was wrong: reported already, reading goes on.
    broken: bool,
}

impl Parser<'_, '_> {
    fn peek(&self) -> &Token {
        &self.words[self.position].token
    }

    fn is(&self, word: &str) -> bool {
        matches!(self.peek(), Token::Word(found) if found == word)
    }

    fn is_sign(&self, sign: &str) -> bool {
        matches!(self.peek(), Token::Sign(found) if *found == sign)
    }

    fn step(&mut self) {
        // The last lexeme is the end, which nothing steps over.
        self.position = (self.position + 1).min(self.words.len() - 1);
    }

    fn take(&mut self, word: &str) -> bool {
        let found = self.is(word);
        if found {
            self.step();
        }
        found
    }

    fn take_sign(&mut self, sign: &str) -> bool {
        let found = self.is_sign(sign);
        if found {
            self.step();
        }
        found
    }

    fn span(&self, from: usize) -> Span {
        let last = self.position.saturating_sub(1).max(from);
        self.node.span_of(self.words[from].start..self.words[last].end)
    }

    fn expected(&self, en: &str, ru: &str) -> Problem {
        let here = &self.words[self.position];
        problem((here.start, here.end), format!("expected {en}"), format!("здесь должно быть: {ru}"))
    }

    fn any(&mut self, depth: usize) -> Outcome<Written> {
        let mut filters = vec![self.all(depth)?];
        while self.take("or") {
            filters.push(self.all(depth)?);
        }
        Ok(Written::any(filters))
    }

    fn all(&mut self, depth: usize) -> Outcome<Written> {
        let mut filters = vec![self.one(depth)?];
        while self.take("and") {
            filters.push(self.one(depth)?);
        }
        Ok(Written::all(filters))
    }

    fn one(&mut self, depth: usize) -> Outcome<Written> {
        if depth > DEPTH_MAX {
            return Err(self.expected("less nesting", "меньше вложенности"));
        }
        if self.take("not") {
            return Ok(Written::Not(Box::new(self.one(depth + 1)?)));
        }
        if self.take_sign("(") {
            let filter = self.any(depth + 1)?;
            return if self.take_sign(")") { Ok(filter) } else { Err(self.expected("`)`", "`)`")) };
        }
        if self.take("true") {
            return Ok(Written::All(Vec::new()));
        }
        if self.take("false") {
            return Ok(Written::Any(Vec::new()));
        }
        self.test(depth)
    }

    fn test(&mut self, depth: usize) -> Outcome<Written> {
        let from = self.position;
        let subject = self.operand(depth)?;
        let operator = self.operator()?;
        let operand = match operator {
            Operator::IsEmpty | Operator::IsNotEmpty => Operand::Nothing,
            Operator::In => Operand::Many(self.list(depth)?),
            Operator::Matches => self.pattern()?,
            Operator::Equal
            | Operator::NotEqual
            | Operator::Less
            | Operator::LessOrEqual
            | Operator::Greater
            | Operator::GreaterOrEqual
            | Operator::Contains
            | Operator::StartsWith
            | Operator::EndsWith => Operand::One(self.operand(depth)?),
        };
        Ok(Written::Test(Test { subject, operator, operand, place: Place(self.span(from)) }))
    }

    fn operator(&mut self) -> Outcome<Operator> {
        let start = self.position;
        let found = Operator::ALL.into_iter().filter(|operator| {
            let mut words = operator.word().split(' ');
            let position = start;
            words.by_ref().enumerate().all(|(step, word)| {
                match self.words.get(position + step).map(|lexeme| &lexeme.token) {
                    Some(Token::Word(found)) => found == word,
                    Some(Token::Sign(found)) => *found == word,
                    Some(
                        Token::Text(_)
                        | Token::Number(_)
                        | Token::Duration(_)
                        | Token::Pattern(_)
                        | Token::End,
                    )
                    | None => false,
                }
            })
        });
        match found.max_by_key(|operator| operator.word().split(' ').count()) {
            Some(operator) => {
                (0..operator.word().split(' ').count()).for_each(|_| self.step());
                Ok(operator)
            }
            None => {
                let words = "`is empty`, `is not empty`, `=`, `!=`, `<`, `<=`, `>`, `>=`, `in`, `contains`, `starts with`, `ends with`, `matches`";
                Err(self.expected(&format!("an operator: {words}"), &format!("оператор: {words}")))
            }
        }
    }

    fn pattern(&mut self) -> Outcome<Operand> {
        let pattern = match self.peek() {
            Token::Pattern(pattern) | Token::Text(pattern) => pattern.clone(),
            Token::Word(_) | Token::Number(_) | Token::Duration(_) | Token::Sign(_) | Token::End => {
                return Err(self.expected("a regular expression, `/…/`", "регулярное выражение, `/…/`"));
            }
        };
        self.step();
        Ok(Operand::Pattern(pattern))
    }

    fn list(&mut self, depth: usize) -> Outcome<Vec<Expression>> {
        if !self.take_sign("[") {
            return Err(self.expected("a list, `[\"a\", \"b\"]`", "список, `[\"а\", \"б\"]`"));
        }
        let mut items = Vec::new();
        while !self.take_sign("]") {
            items.push(self.operand(depth)?);
            if !self.take_sign(",") && !self.is_sign("]") {
                return Err(self.expected("`,` or `]`", "`,` или `]`"));
            }
        }
        Ok(items)
    }

    fn operand(&mut self, depth: usize) -> Outcome<Expression> {
        let literal = match self.peek().clone() {
            Token::Text(text) | Token::Duration(text) => Value::text(text),
            Token::Number(number) => Value::Number(number),
            Token::Word(word) if word == "true" || word == "false" => Value::Bool(word == "true"),
            Token::Word(word) if word == "null" => Value::Null,
            Token::Word(word) if !KEYWORDS.contains(&word.as_str()) => return self.name(&word, depth),
            Token::Word(_) | Token::Pattern(_) | Token::Sign(_) | Token::End => {
                return Err(self.expected("a field or a value", "поле или значение"));
            }
        };
        self.step();
        Ok(Expression::Literal(literal))
    }

    fn path(&self, text: &str, range: (usize, usize)) -> Outcome<Expression> {
        match Path::parse(text) {
            Ok(path) => Ok(Expression::from_path(path, self.node.span_of(range.0..range.1))),
            Err(_) => Err(problem(
                range,
                format!("`{}` is not a reference", excerpt(text)),
                format!("`{}` — не ссылка на поле", excerpt(text)),
            )),
        }
    }

    fn name(&mut self, word: &str, depth: usize) -> Outcome<Expression> {
        let from = self.position;
        let range = (self.words[from].start, self.words[from].end);
        self.step();
        if !self.take_sign("(") {
            return self.path(word, range);
        }
        if depth > DEPTH_MAX {
            return Err(self.expected("less nesting", "меньше вложенности"));
        }
        let mut arguments = Vec::new();
        while !self.take_sign(")") {
            arguments.push(self.operand(depth + 1)?);
            if !self.take_sign(",") && !self.is_sign(")") {
                return Err(self.expected("`,` or `)`", "`,` или `)`"));
            }
        }
        let span = self.node.span_of(range.0..range.1);
        let call = match function::find(word) {
            Some(function) => complete(function, arguments, span, self.out),
            None => {
                self.out.push(unknown_helper(word, span));
                None
            }
        };
        self.broken |= call.is_none();
        // The reading goes on after a wrong helper, so that whatever else is wrong is found too.
        Ok(call.unwrap_or(Expression::Literal(Value::Null)))
    }
}
