//! A duration as people write it: `0m`, `30s`, `1h30m`, `500ms`, `2d`.

/// Longest duration a file may say: ten years.
pub const DURATION_MAX_MS: u64 = 10 * 365 * 24 * 3_600_000;

/// A unit of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Unit {
    /// `ms`
    Milliseconds,
    /// `s`
    Seconds,
    /// `m`
    Minutes,
    /// `h`
    Hours,
    /// `d`, 24 hours
    Days,
    /// `w`, 7 days
    Weeks,
}

impl Unit {
    /// Every unit, longest first.
    pub const ALL: [Unit; 6] =
        [Unit::Weeks, Unit::Days, Unit::Hours, Unit::Minutes, Unit::Seconds, Unit::Milliseconds];

    /// Its short name, as in `5m`.
    pub fn short(self) -> &'static str {
        match self {
            Unit::Milliseconds => "ms",
            Unit::Seconds => "s",
            Unit::Minutes => "m",
            Unit::Hours => "h",
            Unit::Days => "d",
            Unit::Weeks => "w",
        }
    }

    /// How long one of it is.
    pub fn ms(self) -> u64 {
        match self {
            Unit::Milliseconds => 1,
            Unit::Seconds => 1_000,
            Unit::Minutes => 60_000,
            Unit::Hours => 3_600_000,
            Unit::Days => 86_400_000,
            Unit::Weeks => 7 * 86_400_000,
        }
    }

    /// From its short name, or its whole English name as manifests write it (`seconds`).
    pub fn from_word(word: &str) -> Option<Unit> {
        match word {
            "ms" | "milliseconds" => Some(Unit::Milliseconds),
            "s" | "seconds" => Some(Unit::Seconds),
            "m" | "minutes" => Some(Unit::Minutes),
            "h" | "hours" => Some(Unit::Hours),
            "d" | "days" => Some(Unit::Days),
            "w" | "weeks" => Some(Unit::Weeks),
            _ => None,
        }
    }
}

/// The text is not a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected a duration like 30s, 5m or 1h30m, got {0:?}")]
pub struct DurationError(pub String);

/// Reads a duration; returns milliseconds. Whole numbers with a unit each, one after another; `0` needs no unit.
pub fn parse(text: &str) -> Result<u64, DurationError> {
    let wrong = || DurationError(text.to_owned());
    if text == "0" {
        return Ok(0);
    }
    let (mut rest, mut total) = (text, 0_u64);
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let letters = rest[digits..].bytes().take_while(u8::is_ascii_alphabetic).count();
        let number: u64 = rest[..digits].parse().map_err(|_| wrong())?;
        let unit = Unit::from_word(&rest[digits..digits + letters]).ok_or_else(wrong)?;
        total = number.checked_mul(unit.ms()).and_then(|ms| total.checked_add(ms)).ok_or_else(wrong)?;
        rest = &rest[digits + letters..];
    }
    if text.is_empty() || total > DURATION_MAX_MS { Err(wrong()) } else { Ok(total) }
}

/// The shortest text that [`parse`] reads back as `ms`.
pub fn format(ms: u64) -> String {
    let mut left = ms;
    let mut text = String::new();
    for unit in Unit::ALL {
        let count = left / unit.ms();
        if count > 0 {
            text.push_str(&format!("{count}{}", unit.short()));
            left %= unit.ms();
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read() {
        for (text, ms) in [
            ("0", 0),
            ("0m", 0),
            ("500ms", 500),
            ("30s", 30_000),
            ("5m", 300_000),
            ("1h30m", 5_400_000),
            ("35d", 35 * 86_400_000),
            ("2w", 14 * 86_400_000),
        ] {
            assert_eq!(parse(text), Ok(ms), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_duration_is_refused() {
        for text in ["", "5", "m", "-5m", "5 m", "1.5h", "5м", "99999999999999999999s", "4000d"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn a_duration_is_read_back_from_its_text(ms in 0..=DURATION_MAX_MS) {
            proptest::prop_assert_eq!(parse(&format(ms)), Ok(ms));
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in ".*") {
            let _ = parse(&text);
        }
    }
}
