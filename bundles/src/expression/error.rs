//! Why a value could not be computed from an event. Never repeats the event's data.

use crate::{types::Type, words::Words};

/// A failed evaluation.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{}", self.words().en)]
pub struct EvalError {
    /// The reference or target that is concerned, as the user wrote it.
    pub label: String,
    /// What went wrong.
    pub kind: EvalErrorKind,
}

/// What can go wrong.
#[derive(Debug, Clone, PartialEq)]
pub enum EvalErrorKind {
    /// It is empty, and the place needs a value.
    Empty,
    /// It is not a value of this type and cannot be made one.
    NotConvertible(Type),
    /// A list or an object where text is needed.
    NotText,
    /// The result passes a limit, named with its unit.
    TooLong(&'static str),
    /// The JSONPath query does not work on this event.
    Query,
    /// A secret where no placeholder can stand.
    Secret,
}

impl EvalError {
    /// An error about `label`.
    pub fn at(label: impl Into<String>, kind: EvalErrorKind) -> EvalError {
        EvalError { label: label.into(), kind }
    }

    /// For people.
    pub fn words(&self) -> Words {
        let label = &self.label;
        match &self.kind {
            EvalErrorKind::Empty => Words::new(format!("`{label}` is empty"), format!("`{label}` пусто")),
            EvalErrorKind::NotConvertible(ty) => {
                let words = ty.words();
                Words::new(
                    format!("`{label}` is not {}", words.en),
                    format!("`{label}` — это не {}", words.ru),
                )
            }
            EvalErrorKind::NotText => Words::new(
                format!("`{label}` is a list or an object and cannot be put into text"),
                format!("`{label}` — список или объект, в текст его не вставить"),
            ),
            EvalErrorKind::TooLong(limit) => Words::new(
                format!("the text made of `{label}` is longer than {limit}"),
                format!("текст, собранный из `{label}`, длиннее {limit}"),
            ),
            EvalErrorKind::Query => Words::new(
                format!("the query `{label}` does not work on this event"),
                format!("запрос `{label}` не выполняется на этом событии"),
            ),
            EvalErrorKind::Secret => Words::new(
                format!("the secret `{label}` cannot stand here"),
                format!("секрет `{label}` здесь стоять не может"),
            ),
        }
    }
}
