//! What to do when the answer to a step's request was lost, and the vendor may have acted.

use super::request::Request;
use crate::{
    bundle,
    diagnostic::{Diagnostic, Diagnostics, code::Code},
    manifest::action::{Action, Repeat},
    outgoing::Outgoing,
    words::Words,
};

/// See above.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    /// Send it again.
    Repeat,
    /// Ask the vendor whether it has it.
    Ask,
    /// Leave it to a person.
    Park,
}

/// As the step says; else a repeat only where nothing can be done twice, a question where the action has one.
pub fn policy(step: &bundle::Step<'_>, action: &Action, outgoing: &Outgoing, out: &mut Diagnostics) -> Lost {
    match step.unknown {
        Some(("repeat", _)) => Lost::Repeat,
        Some(("park", _)) => Lost::Park,
        Some((_, span)) => {
            if action.probe.is_none() {
                let message = Words::new(
                    format!("the action `{}` has no probe: this vendor cannot be asked", action.name),
                    format!("у действия `{}` нет проверки: спросить сервис нельзя", action.name),
                );
                let hint = Words::new(
                    "write `park`, or `repeat` if doing it twice does no harm",
                    "напишите `park` или `repeat`, если повтор безвреден",
                );
                out.push(Diagnostic::error(Code::BadValue, span, message).with_hint(hint));
            }
            Lost::Ask
        }
        None if is_safe(action, outgoing) => Lost::Repeat,
        None if action.probe.is_some() => Lost::Ask,
        None => Lost::Park,
    }
}

/// Nothing is done twice by a repeat.
fn is_safe(action: &Action, outgoing: &Outgoing) -> bool {
    match action.unknown {
        Repeat::Idempotent | Repeat::Keyed => true,
        Repeat::None => {
            matches!(outgoing.method.literal(), Some("GET" | "HEAD")) || Request::carries_key(outgoing)
        }
    }
}
