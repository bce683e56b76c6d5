//! Helpers of time: from whatever a field holds to an instant, and back to text.

use std::{borrow::Cow, fmt::Write as _};

use chrono::{DateTime, Duration, NaiveDateTime, SecondsFormat, TimeZone as _, Utc};
use chrono_tz::Tz;

use super::{Context, text::limited};
use crate::{
    expression::error::EvalErrorKind,
    types::{InstantFormat, Type, read},
    value::{Number, Value},
};

/// A bare number this large is milliseconds: as seconds it would be after the year 5138.
const MILLISECONDS_FROM: u64 = 100_000_000_000;
/// Longer than any gap that a change of a zone's clocks leaves.
const GAP_MAX: Duration = Duration::hours(25);
/// What `date` writes when no format is given.
const FORMAT_DEFAULT: &str = "%Y-%m-%d";
/// Longest format, bytes.
const FORMAT_BYTES_MAX: usize = 200;

type Outcome<'a> = Result<Cow<'a, Value>, EvalErrorKind>;

/// An instant in UTC: `2026-03-05T07:15:30Z`, with milliseconds when there are any.
pub fn rfc3339(instant: DateTime<Utc>) -> String {
    let whole = instant.timestamp_subsec_millis() == 0;
    instant.to_rfc3339_opts(if whole { SecondsFormat::Secs } else { SecondsFormat::Millis }, true)
}

/// The instant at which a wall clock in a zone shows this. In a spring gap: as much after it; in an autumn overlap: the first.
pub fn on_wall_clock(local: NaiveDateTime, zone: Tz) -> Option<DateTime<Utc>> {
    let found = zone.from_local_datetime(&local).earliest().or_else(|| {
        // By the clock before the gap; the longest gap is the day of islands that moved across the date line.
        let before = zone.from_local_datetime(&local.checked_sub_signed(GAP_MAX)?).latest()?;
        before.checked_add_signed(GAP_MAX)
    })?;
    Some(found.with_timezone(&Utc))
}

/// The instant a value of that type means. `zone` is for local times that carry none.
pub fn instant(value: &Value, ty: &Type, zone: Option<Tz>) -> Option<DateTime<Utc>> {
    match (value, ty) {
        (Value::Number(Number::Integer(number)), Type::Instant(InstantFormat::UnixSeconds)) => {
            DateTime::from_timestamp(*number, 0)
        }
        (Value::Number(Number::Integer(number)), Type::Instant(InstantFormat::UnixMilliseconds)) => {
            DateTime::from_timestamp_millis(*number)
        }
        (Value::Number(Number::Integer(number)), _) => from_number(*number),
        (Value::Text(text), Type::LocalTime(own)) => on_wall_clock(read::local_time(text)?, zone.or(*own)?),
        (Value::Text(text), _) => from_text(text, zone),
        (
            Value::Number(Number::Exact(_))
            | Value::Null
            | Value::Bool(_)
            | Value::List(_)
            | Value::Object(_),
            _,
        ) => None,
    }
}

fn from_number(number: i64) -> Option<DateTime<Utc>> {
    if number.unsigned_abs() >= MILLISECONDS_FROM {
        DateTime::from_timestamp_millis(number)
    } else {
        DateTime::from_timestamp(number, 0)
    }
}

fn from_text(text: &str, zone: Option<Tz>) -> Option<DateTime<Utc>> {
    let text = text.trim();
    if let Ok(instant) = DateTime::parse_from_rfc3339(text) {
        return Some(instant.with_timezone(&Utc));
    }
    if let Ok(number) = text.parse() {
        return from_number(number);
    }
    on_wall_clock(read::local_time(text)?, zone?)
}

pub(super) fn utc<'a>(context: &Context, arguments: &[Cow<'_, Value>]) -> Outcome<'a> {
    let instant = argument(context, arguments, zone_argument(arguments, 1))?;
    limited(rfc3339(instant))
}

pub(super) fn unix<'a>(context: &Context, arguments: &[Cow<'_, Value>]) -> Outcome<'a> {
    let instant = argument(context, arguments, zone_argument(arguments, 1))?;
    Ok(Cow::Owned(Value::from(instant.timestamp())))
}

pub(super) fn local<'a>(context: &Context, arguments: &[Cow<'_, Value>]) -> Outcome<'a> {
    let instant = in_zone(context, arguments, 1)?;
    limited(instant.format("%Y-%m-%dT%H:%M:%S%:z").to_string())
}

pub(super) fn date<'a>(context: &Context, arguments: &[Cow<'_, Value>]) -> Outcome<'a> {
    let format = arguments.get(1).and_then(|format| format.as_text()).unwrap_or(FORMAT_DEFAULT);
    let instant = in_zone(context, arguments, 2)?;
    limited(written(instant, format).ok_or(EvalErrorKind::NotConvertible(Type::Text))?)
}

/// The first argument in the zone that was asked for, else its own, else the workspace's. A time that carries none is read
/// in its own, else in the one it is written in.
fn in_zone(
    context: &Context,
    arguments: &[Cow<'_, Value>],
    position: usize,
) -> Result<DateTime<Tz>, EvalErrorKind> {
    let own = if let Type::LocalTime(zone) = context.input { zone } else { None };
    let asked = zone_argument(arguments, position);
    let zone = asked.or(own).or(context.zone);
    let instant = argument(context, arguments, own.or(zone))?;
    Ok(instant.with_timezone(&zone.unwrap_or(Tz::UTC)))
}

fn argument(
    context: &Context,
    arguments: &[Cow<'_, Value>],
    zone: Option<Tz>,
) -> Result<DateTime<Utc>, EvalErrorKind> {
    let value = arguments.first().map_or(&Value::Null, AsRef::as_ref);
    instant(value, &context.input, zone)
        .filter(|instant| (0..=9999).contains(&chrono::Datelike::year(instant)))
        .ok_or(EvalErrorKind::NotConvertible(Type::Instant(InstantFormat::Rfc3339)))
}

fn zone_argument(arguments: &[Cow<'_, Value>], position: usize) -> Option<Tz> {
    arguments.get(position)?.as_text()?.parse().ok()
}

/// Whether a format is one `date` can write.
pub fn is_format(format: &str) -> bool {
    format.len() <= FORMAT_BYTES_MAX && written(Tz::UTC.timestamp_nanos(0), format).is_some()
}

/// None when the format cannot be written. Some can only be read (`%#z`); making a text of them in one call panics.
fn written(instant: DateTime<Tz>, format: &str) -> Option<String> {
    let mut text = String::new();
    write!(text, "{}", instant.format(format)).ok()?;
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wall_clock_in_a_gap_is_as_much_after_it() {
        for (zone, local, expected) in [
            (Tz::Europe__Berlin, "2026-03-29 02:30:00", "2026-03-29T01:30:00Z"),
            (Tz::Australia__Lord_Howe, "2026-10-04 02:15:00", "2026-10-03T15:45:00Z"),
            (Tz::Pacific__Apia, "2011-12-30 12:00:00", "2011-12-30T22:00:00Z"),
        ] {
            let local = read::local_time(local).unwrap();
            assert_eq!(on_wall_clock(local, zone).map(rfc3339).as_deref(), Some(expected), "{zone}");
        }
    }

    #[test]
    fn no_number_is_too_large_to_be_no_time() {
        assert_eq!(from_number(i64::MIN), None);
    }
}
