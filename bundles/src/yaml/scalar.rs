//! Plain scalars by the YAML 1.2 core schema.

use super::Kind;
use crate::value::Number;

/// What a plain scalar is, or why it cannot be.
pub(super) enum Plain {
    /// Null, a boolean or a number written as JSON would write it.
    Value(Kind),
    /// A number JSON writes in another way: `+7`, `007`, `0x1F`, `.5`.
    Respelt(Number),
    /// A number JSON does not have: `.inf`, `.nan`, or one past the limits.
    NoNumber,
    /// Text.
    Text,
}

/// Resolves a plain scalar.
pub(super) fn resolve(text: &str) -> Plain {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Plain::Value(Kind::Null),
        "true" | "True" | "TRUE" => return Plain::Value(Kind::Bool(true)),
        "false" | "False" | "FALSE" => return Plain::Value(Kind::Bool(false)),
        ".nan" | ".NaN" | ".NAN" => return Plain::NoNumber,
        _ => {}
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") {
        return Plain::NoNumber;
    }
    if let Some(radix) = radix_digits(text) {
        return match radix {
            Some(value) => Plain::Respelt(Number::Integer(value)),
            None => Plain::NoNumber,
        };
    }
    if !is_number(unsigned) {
        return Plain::Text;
    }
    if text.len() > super::NUMBER_CHARS_MAX {
        return Plain::NoNumber;
    }
    let written = json_spelling(text);
    let number = match written.parse::<i64>() {
        Ok(value) => Number::Integer(value),
        Err(_) => Number::Exact(written.as_str().into()),
    };
    if written == text { Plain::Value(Kind::Number(number)) } else { Plain::Respelt(number) }
}

/// `0o17` and `0x1F`: not such a number (outer `None`), or one that does not fit 64 bits (inner `None`).
fn radix_digits(text: &str) -> Option<Option<i64>> {
    let (digits, radix) = match (text.strip_prefix("0o"), text.strip_prefix("0x")) {
        (Some(digits), _) => (digits, 8),
        (None, Some(digits)) => (digits, 16),
        (None, None) => return None,
    };
    let all_digits = !digits.is_empty() && digits.chars().all(|c| c.is_digit(radix));
    all_digits.then(|| i64::from_str_radix(digits, radix).ok())
}

/// `[0-9]+(\.[0-9]*)?` or `\.[0-9]+`, then an exponent.
fn is_number(unsigned: &str) -> bool {
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (unsigned, None),
    };
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let (whole, part) = mantissa.split_once('.').unwrap_or((mantissa, "0"));
    let exponent_ok = exponent.is_none_or(|text| {
        let text = text.strip_prefix(['-', '+']).unwrap_or(text);
        !text.is_empty() && digits(text)
    });
    digits(whole)
        && digits(part)
        && !(whole.is_empty() && part.is_empty())
        && exponent_ok
        && mantissa.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && mantissa != "."
}

/// The same number as JSON writes it (RFC 8259).
fn json_spelling(text: &str) -> String {
    let (sign, unsigned) = match text.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    let mantissa_end = unsigned.find(['e', 'E']).unwrap_or(unsigned.len());
    let (mantissa, exponent) = unsigned.split_at(mantissa_end);
    let (whole, part) =
        mantissa.split_once('.').map_or((mantissa, None), |(whole, part)| (whole, Some(part)));
    let whole = match whole.trim_start_matches('0') {
        "" => "0",
        digits => digits,
    };
    match part {
        None => format!("{sign}{whole}{exponent}"),
        Some(part) => format!("{sign}{whole}.{}{exponent}", if part.is_empty() { "0" } else { part }),
    }
}
