//! The helpers of templates and filters: one table.
//!
//! Rules they share: nothing in, nothing out (an empty first argument gives an empty result, but for `default`); a value that
//! cannot be converted is an error, never a silent blank; no clock and no locale but what is given.

pub mod phone;
pub mod text;
pub mod time;

use std::{borrow::Cow, fmt};

use chrono_tz::Tz;

use crate::{
    expression::{Typed, error::EvalErrorKind},
    json,
    types::{InstantFormat, Type, assign},
    value::Value,
};

/// A helper.
pub struct Function {
    /// As it is called.
    pub name: &'static str,
    /// What it does: English, Russian.
    pub about: (&'static str, &'static str),
    /// Its parameters, in order.
    pub parameters: &'static [Parameter],
    /// The last parameter may be repeated.
    pub repeats: bool,
    /// Made of its first argument that is not empty, whichever that is; those after it are not even computed.
    pub first_of: bool,
    /// The result can be empty though the first argument is not.
    pub can_give_empty: bool,
    /// The type of the result.
    pub returns: fn(&[Typed]) -> Type,
    pub(crate) run: Run,
}

pub(crate) type Run = for<'a> fn(&Context, Vec<Cow<'a, Value>>) -> Result<Cow<'a, Value>, EvalErrorKind>;

/// One parameter of a helper.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parameter {
    /// Its name, for `name=value`.
    pub name: &'static str,
    /// What may be given.
    pub kind: Kind,
    /// It must be given.
    pub required: bool,
}

/// What a parameter takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Anything.
    Any,
    /// Anything that has a text.
    Text,
    /// A whole number, constant.
    Count,
    /// A moment or a local time.
    Time,
    /// A list.
    List,
    /// A constant `strftime` format.
    Format,
    /// A constant IANA zone.
    Zone,
}

/// What the check found out for one call.
#[derive(Debug, Clone, PartialEq)]
pub struct Context {
    /// The type of the first argument.
    pub input: Type,
    /// The zone to write in when the call names none.
    pub zone: Option<Tz>,
}

impl Default for Context {
    fn default() -> Self {
        Context { input: Type::Any, zone: None }
    }
}

impl PartialEq for Function {
    fn eq(&self, other: &Function) -> bool {
        self.name == other.name
    }
}

impl fmt::Debug for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// The helper of that name.
pub fn find(name: &str) -> Option<&'static Function> {
    FUNCTIONS.iter().find(|function| function.name == name)
}

const fn required(name: &'static str, kind: Kind) -> Parameter {
    Parameter { name, kind, required: true }
}

const fn optional(name: &'static str, kind: Kind) -> Parameter {
    Parameter { name, kind, required: false }
}

const PLAIN: Function = Function {
    name: "",
    about: ("", ""),
    parameters: &[required("value", Kind::Text)],
    repeats: false,
    first_of: false,
    can_give_empty: false,
    returns: |_| Type::Text,
    run: |_, arguments| Ok(first(arguments)),
};

/// Every helper.
pub static FUNCTIONS: &[Function] = &[
    Function {
        name: "default",
        about: ("the first of its arguments that is not empty", "первый непустой из аргументов"),
        parameters: &[required("value", Kind::Any), required("otherwise", Kind::Any)],
        repeats: true,
        first_of: true,
        returns: |arguments| assign::common(arguments.iter().map(|argument| &argument.ty)),
        run: |_, arguments| {
            Ok(arguments.into_iter().find(|argument| !argument.is_empty()).unwrap_or(Cow::Owned(Value::Null)))
        },
        ..PLAIN
    },
    Function {
        name: "lower",
        about: ("in lower case", "строчными буквами"),
        run: |_, arguments| text::map(&arguments, |text| text.to_lowercase()),
        ..PLAIN
    },
    Function {
        name: "upper",
        about: ("in upper case", "прописными буквами"),
        run: |_, arguments| text::map(&arguments, |text| text.to_uppercase()),
        ..PLAIN
    },
    Function {
        name: "trim",
        about: ("without blanks at both ends", "без пробелов по краям"),
        can_give_empty: true,
        run: |_, arguments| text::map(&arguments, |text| text.trim().to_owned()),
        ..PLAIN
    },
    Function {
        name: "replace",
        about: ("with every `from` replaced by `to`", "с заменой каждого `from` на `to`"),
        parameters: &[
            required("value", Kind::Text),
            required("from", Kind::Text),
            required("to", Kind::Text),
        ],
        can_give_empty: true,
        run: |_, arguments| text::replace(&arguments),
        ..PLAIN
    },
    Function {
        name: "substring",
        about: (
            "`count` characters from character `start` (0 is the first)",
            "`count` символов, начиная с символа `start` (с нуля)",
        ),
        parameters: &[
            required("value", Kind::Text),
            required("start", Kind::Count),
            optional("count", Kind::Count),
        ],
        can_give_empty: true,
        run: |_, arguments| text::substring(&arguments),
        ..PLAIN
    },
    Function {
        name: "split",
        about: ("a list of the parts between separators", "список частей между разделителями"),
        parameters: &[required("value", Kind::Text), required("separator", Kind::Text)],
        returns: |_| Type::List(Box::new(Type::Text)),
        run: |_, arguments| text::split(&arguments),
        ..PLAIN
    },
    Function {
        name: "join",
        about: ("a list's items as one text", "элементы списка одним текстом"),
        parameters: &[required("value", Kind::List), required("separator", Kind::Text)],
        can_give_empty: true,
        run: |_, arguments| text::join(&arguments),
        ..PLAIN
    },
    Function {
        name: "text",
        about: ("as text", "как текст"),
        run: |_, arguments| text::map(&arguments, str::to_owned),
        ..PLAIN
    },
    Function {
        name: "number",
        about: (
            "a number from its text, exact; a decimal comma is understood",
            "число из текста, без потери точности; запятая понимается",
        ),
        returns: |_| Type::Decimal,
        run: |_, arguments| text::number(&arguments),
        ..PLAIN
    },
    Function {
        name: "json",
        about: ("as JSON text", "как текст JSON"),
        parameters: &[required("value", Kind::Any)],
        run: |_, arguments| text::limited(json::to_text(&first(arguments))),
        ..PLAIN
    },
    Function {
        name: "urlencode",
        about: ("percent-encoded", "в процентной кодировке"),
        run: |_, arguments| text::map(&arguments, |text| text::percent(text).into_owned()),
        ..PLAIN
    },
    Function {
        name: "e164",
        about: (
            "a phone as +79990000001; Russian national forms are understood",
            "телефон в виде +79990000001",
        ),
        returns: |_| Type::Phone,
        run: |_, arguments| text::try_map(&arguments, Type::Phone, phone::e164),
        ..PLAIN
    },
    Function {
        name: "digits",
        about: ("its digits only", "только цифры"),
        can_give_empty: true,
        run: |_, arguments| text::map(&arguments, phone::digits),
        ..PLAIN
    },
    Function {
        name: "national",
        about: ("a Russian phone as 89990000001", "российский телефон в виде 89990000001"),
        returns: |_| Type::Phone,
        run: |_, arguments| text::try_map(&arguments, Type::Phone, phone::national),
        ..PLAIN
    },
    Function {
        name: "utc",
        about: (
            "the moment in UTC, 2026-03-05T07:15:30Z; `zone` for a text without one",
            "момент в UTC, 2026-03-05T07:15:30Z",
        ),
        parameters: &[required("value", Kind::Time), optional("zone", Kind::Zone)],
        returns: |_| Type::Instant(InstantFormat::Rfc3339),
        run: |context, arguments| time::utc(context, &arguments),
        ..PLAIN
    },
    Function {
        name: "local",
        about: (
            "the moment in a zone with its offset, 2026-03-05T10:15:30+03:00",
            "момент в поясе, 2026-03-05T10:15:30+03:00",
        ),
        parameters: &[required("value", Kind::Time), optional("zone", Kind::Zone)],
        run: |context, arguments| time::local(context, &arguments),
        ..PLAIN
    },
    Function {
        name: "date",
        about: ("written by a strftime format, in a zone", "дата и время по формату strftime, в поясе"),
        parameters: &[
            required("value", Kind::Time),
            optional("format", Kind::Format),
            optional("zone", Kind::Zone),
        ],
        run: |context, arguments| time::date(context, &arguments),
        ..PLAIN
    },
    Function {
        name: "unix",
        about: ("seconds since 1970", "секунды с 1970 года"),
        parameters: &[required("value", Kind::Time), optional("zone", Kind::Zone)],
        returns: |_| Type::Instant(InstantFormat::UnixSeconds),
        run: |context, arguments| time::unix(context, &arguments),
        ..PLAIN
    },
];

fn first<'a>(arguments: Vec<Cow<'a, Value>>) -> Cow<'a, Value> {
    arguments.into_iter().next().unwrap_or(Cow::Owned(Value::Null))
}
