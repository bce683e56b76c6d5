//! Types of expressions: every name known, every helper given what it takes.

use super::{Call, Expression, Resolution, Scope, Typed};
use crate::{
    diagnostic::{Diagnostic, Diagnostics, code::Code, excerpt::excerpt, suggest::suggest},
    function::{Context, Function, Kind, Parameter, time},
    path::Path,
    types::{Type, assign},
    value::{Number, Value},
    words::Words,
    yaml::Span,
};

impl Typed {
    /// A constant.
    pub fn constant(value: &Value) -> Typed {
        Typed {
            ty: assign::of_value(value),
            can_be_empty: value.is_empty(),
            private: false,
            constant: Some(value.clone()),
            no_value: Vec::new(),
        }
    }
}

impl Expression {
    /// Checks it and tells its type; `span` is where to point for parts that have no place of their own.
    /// None after an error, which is in `out`.
    pub fn check(&mut self, scope: &dyn Scope, span: Span, out: &mut Diagnostics) -> Option<Typed> {
        match self {
            Expression::Literal(value) => Some(Typed::constant(value)),
            Expression::Reference { path, place } => reference(path, place.0, scope, out),
            Expression::Secret { name, place } => {
                let message = Words::new(
                    format!("the secret `{name}` would become text here"),
                    format!("секрет `{name}` стал бы здесь текстом"),
                );
                let hint = Words::new(
                    "a secret can stand only where the connector allows one, such as a header",
                    "секрет может стоять только там, где это разрешает коннектор, например в заголовке",
                );
                out.push(Diagnostic::error(Code::SecretPlace, place.0, message).with_hint(hint));
                None
            }
            Expression::Query(query) => Some(Typed {
                ty: if query.is_single() { Type::Any } else { Type::List(Box::new(Type::Any)) },
                can_be_empty: true,
                private: true,
                constant: None,
                no_value: Vec::new(),
            }),
            Expression::Call(call) => call.check(scope, span, out),
        }
    }
}

fn reference(path: &Path, span: Span, scope: &dyn Scope, out: &mut Diagnostics) -> Option<Typed> {
    match scope.resolve(path) {
        Resolution::Known(known) => Some(Typed {
            ty: known.ty,
            can_be_empty: known.can_be_empty,
            private: known.private,
            constant: None,
            no_value: known.no_value,
        }),
        Resolution::Unavailable(why) => {
            let message = Words::new(
                format!("`{path}` is never there: {}", why.en),
                format!("`{path}` здесь не бывает: {}", why.ru),
            );
            let hint = Words::new(
                "use a field that these events have, or another trigger",
                "возьмите поле, которое в этих событиях есть, или другой триггер",
            );
            out.push(Diagnostic::error(Code::UnavailableField, span, message).with_hint(hint));
            None
        }
        Resolution::Unknown { at, candidates } => {
            let name = path.segments.get(at).map_or(path.root.word(), |segment| &segment.key);
            let message = Words::new(
                format!("there is no `{}` here", excerpt(&path.to_string())),
                format!("здесь нет `{}`", excerpt(&path.to_string())),
            );
            let suggestion =
                suggest(name, candidates.iter().map(String::as_str)).map(|near| replaced(path, at, &near));
            out.push(Diagnostic::error(Code::UnknownField, span, message).with_suggestion(suggestion));
            None
        }
    }
}

fn replaced(path: &Path, at: usize, name: &str) -> String {
    let mut path = path.clone();
    if let Some(segment) = path.segments.get_mut(at) {
        segment.key = name.into();
    }
    path.to_string()
}

impl Call {
    fn check(&mut self, scope: &dyn Scope, span: Span, out: &mut Diagnostics) -> Option<Typed> {
        let typed: Vec<_> =
            self.arguments.iter_mut().map(|argument| argument.check(scope, span, out)).collect();
        let typed: Vec<Typed> = typed.into_iter().collect::<Option<_>>()?;
        let mut sound = true;
        for (position, argument) in typed.iter().enumerate() {
            let Some(parameter) = parameter(self.function, position) else { continue };
            if let Err(problem) = accepts(parameter, argument, self.zone_given(&typed)) {
                out.push(problem.diagnostic(self.function, self.place.0));
                sound = false;
            }
        }
        let input = typed.first()?;
        self.context = Context { input: input.ty.clone(), zone: scope.time_zone() };
        let can_be_empty = if self.function.first_of {
            typed.iter().all(|argument| argument.can_be_empty)
        } else {
            input.can_be_empty || self.function.can_give_empty
        };
        sound.then(|| Typed {
            ty: (self.function.returns)(&typed),
            can_be_empty,
            private: typed.iter().any(|argument| argument.private),
            constant: None,
            no_value: Vec::new(),
        })
    }

    fn zone_given(&self, arguments: &[Typed]) -> bool {
        let position = self.function.parameters.iter().position(|parameter| parameter.kind == Kind::Zone);
        let zone = position.and_then(|position| arguments.get(position)?.constant.as_ref());
        zone.is_some_and(|zone| !zone.is_empty())
    }
}

/// The parameter that an argument fills.
pub fn parameter(function: &Function, position: usize) -> Option<&'static Parameter> {
    let last = if function.repeats { function.parameters.last() } else { None };
    function.parameters.get(position).or(last)
}

struct Problem {
    code: Code,
    message: Words,
    hint: Option<Words>,
}

impl Problem {
    fn new(message: Words) -> Problem {
        Problem { code: Code::HelperArguments, message, hint: None }
    }

    fn diagnostic(self, function: &Function, span: Span) -> Diagnostic {
        let message = Words::new(
            format!("`{}`: {}", function.name, self.message.en),
            format!("`{}`: {}", function.name, self.message.ru),
        );
        let diagnostic = Diagnostic::error(self.code, span, message);
        if let Some(hint) = self.hint { diagnostic.with_hint(hint) } else { diagnostic }
    }
}

fn accepts(parameter: &Parameter, argument: &Typed, zone_given: bool) -> Result<(), Problem> {
    let name = parameter.name;
    // An optional argument that was left out stands as null.
    if !parameter.required && argument.constant == Some(Value::Null) {
        return Ok(());
    }
    let expected = |en: &str, ru: &str| {
        Err(Problem::new(Words::new(format!("`{name}` must be {en}"), format!("`{name}` — это {ru}"))))
    };
    match parameter.kind {
        Kind::Any => Ok(()),
        Kind::Text => match argument.ty {
            Type::List(_) | Type::Map(_) | Type::Object { .. } => expected("text", "текст"),
            Type::Any
            | Type::Text
            | Type::Integer
            | Type::Decimal
            | Type::Boolean
            | Type::Phone
            | Type::Email
            | Type::Url
            | Type::Instant(_)
            | Type::LocalTime(_)
            | Type::Duration(_)
            | Type::Enum(_)
            | Type::Filter => Ok(()),
        },
        Kind::List if !matches!(argument.ty, Type::List(_) | Type::Any) => expected("a list", "список"),
        Kind::List => Ok(()),
        Kind::Count => match argument.constant {
            Some(Value::Number(Number::Integer(0..))) => Ok(()),
            _ => expected("a whole number of characters", "целое число символов"),
        },
        Kind::Format => match argument.constant.as_ref().and_then(Value::as_text) {
            Some(format) if time::is_format(format) => Ok(()),
            _ => expected("a strftime format such as \"%d.%m.%Y\"", "формат strftime, например \"%d.%m.%Y\""),
        },
        Kind::Zone => {
            match argument.constant.as_ref().and_then(Value::as_text).map(str::parse::<chrono_tz::Tz>) {
                Some(Ok(_)) => Ok(()),
                _ => expected(
                    "an IANA zone such as \"Europe/Moscow\"",
                    "часовой пояс IANA, например \"Europe/Moscow\"",
                ),
            }
        }
        Kind::Time => accepts_time(argument, zone_given),
    }
}

fn accepts_time(argument: &Typed, zone_given: bool) -> Result<(), Problem> {
    match &argument.ty {
        Type::LocalTime(None) if !zone_given => Err(Problem {
            hint: Some(Words::new(
                "name the zone: `zone=\"Europe/Moscow\"`",
                "укажите пояс: `zone=\"Europe/Moscow\"`",
            )),
            ..Problem::new(Words::new("this local time has no zone", "у этого местного времени нет пояса"))
        }),
        Type::Instant(_) | Type::LocalTime(_) | Type::Text | Type::Any | Type::Integer => Ok(()),
        Type::Decimal
        | Type::Boolean
        | Type::Phone
        | Type::Email
        | Type::Url
        | Type::Duration(_)
        | Type::Enum(_)
        | Type::List(_)
        | Type::Map(_)
        | Type::Object { .. }
        | Type::Filter => {
            let words = argument.ty.words();
            Err(Problem::new(Words::new(
                format!("expected a time, got {}", words.en),
                format!("нужно время, а здесь {}", words.ru),
            )))
        }
    }
}
