//! `retry: none`, or `retry: {after: [5s, 1m, 10m]}`.

use std::borrow::Cow;

use crate::{
    diagnostic::{Diagnostic, Diagnostics, code::Code},
    duration,
    retry::{Schedule, WAIT_MAX_MS, WAIT_MIN_MS, WAITS_MAX},
    words::Words,
    yaml::{Node, Span},
};

/// The schedule that was written; none when none was. Its shape was checked.
pub fn compile(node: Option<&Node>, out: &mut Diagnostics) -> Option<Schedule> {
    let Some(after) = node?.get("after") else { return Some(Schedule { waits_ms: Cow::Borrowed(&[]) }) };
    let waits = after.as_list().unwrap_or_default();
    if waits.is_empty() {
        let message = Words::new("the list of waits is empty", "список пауз пуст");
        let hint = Words::new(
            "write `retry: none`, or waits such as `[5s, 1m]`",
            "напишите `retry: none` или паузы, например `[5s, 1m]`",
        );
        out.push(Diagnostic::error(Code::BadValue, after.span, message).with_hint(hint));
    }
    if let Some(further) = waits.get(WAITS_MAX) {
        let message = Words::new(
            format!("there are {} waits, and {WAITS_MAX} at most are kept to", waits.len()),
            format!("пауз {}, а можно не больше {WAITS_MAX}", waits.len()),
        );
        let hint = Words::new("make them longer and fewer", "сделайте их длиннее и меньше числом");
        out.push(Diagnostic::error(Code::BadValue, further.span, message).with_hint(hint));
    }
    let waits_ms = waits.iter().filter_map(|wait| {
        let ms = duration::parse(wait.as_text()?).ok().and_then(|ms| i64::try_from(ms).ok())?;
        if !(WAIT_MIN_MS..=WAIT_MAX_MS).contains(&ms) {
            out.push(out_of_bounds(wait.span));
        }
        Some(ms)
    });
    Some(Schedule { waits_ms: waits_ms.collect::<Vec<_>>().into() })
}

fn out_of_bounds(span: Span) -> Diagnostic {
    let (least, most) = (WAIT_MIN_MS / 1_000, WAIT_MAX_MS / 3_600_000);
    let message = Words::new(
        format!("a wait is between {least} s and {most} h"),
        format!("пауза — от {least} с до {most} ч"),
    );
    let hint = Words::new("write a wait such as `10m`", "укажите паузу, например `10m`");
    Diagnostic::error(Code::BadValue, span, message).with_hint(hint)
}
