//! Order of exact numbers, without ever rounding one.

use std::cmp::Ordering;

use crate::value::Number;

/// Which of two numbers is greater, exactly: `1.0` equals `1`, `1e3` equals `1000`.
pub fn compare(left: &Number, right: &Number) -> Ordering {
    if let (Number::Integer(left), Number::Integer(right)) = (left, right) {
        return left.cmp(right);
    }
    let (left, right) = (Decimal::of(left), Decimal::of(right));
    match (left.sign(), right.sign()) {
        (1, 1) => left.magnitude(&right),
        (-1, -1) => right.magnitude(&left),
        (left, right) => left.cmp(&right),
    }
}

/// 0.d₁d₂d₃… × 10^exponent, d₁ not 0; no digits at all for zero.
struct Decimal {
    negative: bool,
    digits: Vec<u8>,
    exponent: i64,
}

impl Decimal {
    fn of(number: &Number) -> Decimal {
        let text = number.to_string();
        let (negative, text) = text.strip_prefix('-').map_or((false, text.as_str()), |rest| (true, rest));
        let (mantissa, power) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        // An exponent past 64 bits is as good as infinite.
        let power =
            power.parse::<i64>().unwrap_or(if power.starts_with('-') { i64::MIN / 2 } else { i64::MAX / 2 });
        let all: Vec<u8> = whole.bytes().chain(fraction.bytes()).collect();
        let zeros = all.iter().take_while(|digit| **digit == b'0').count();
        let mut digits = all[zeros..].to_vec();
        while digits.last() == Some(&b'0') {
            digits.pop();
        }
        let point = i64::try_from(whole.len()).unwrap_or(i64::MAX / 4) - i64::try_from(zeros).unwrap_or(0);
        Decimal { negative, digits, exponent: power.saturating_add(point) }
    }

    fn sign(&self) -> i8 {
        match (self.digits.is_empty(), self.negative) {
            (true, _) => 0,
            (false, true) => -1,
            (false, false) => 1,
        }
    }

    fn magnitude(&self, other: &Decimal) -> Ordering {
        self.exponent.cmp(&other.exponent).then_with(|| self.digits.cmp(&other.digits))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn order(left: &str, right: &str) -> Ordering {
        compare(&Number::parse(left).unwrap(), &Number::parse(right).unwrap())
    }

    #[test]
    fn numbers_are_ordered_exactly() {
        for (left, expected, right) in [
            ("1", Ordering::Equal, "1.0"),
            ("1e3", Ordering::Equal, "1000"),
            ("0", Ordering::Equal, "-0"),
            ("0.000", Ordering::Equal, "0e99"),
            ("12345678901234567890123", Ordering::Less, "12345678901234567890124"),
            ("0.1", Ordering::Less, "0.11"),
            ("-0.1", Ordering::Greater, "-0.11"),
            ("-5", Ordering::Less, "0.0"),
            ("9", Ordering::Less, "10.5"),
            ("1e400", Ordering::Greater, "9e399"),
            ("1e99999999999999999999", Ordering::Greater, "5"),
            ("1e-99999999999999999999", Ordering::Less, "5"),
            ("0.05", Ordering::Less, "0.5"),
        ] {
            assert_eq!(order(left, right), expected, "{left} {right}");
            assert_eq!(order(right, left), expected.reverse(), "{right} {left}");
        }
    }

    proptest! {
        #[test]
        fn order_agrees_with_floating_point(left in -1_000_000_i64..1_000_000, right in -1_000_000_i64..1_000_000, scale in 0..4_u32) {
            let text = |number: i64| {
                let power = 10_i64.pow(scale);
                let sign = if number < 0 { "-" } else { "" };
                let (whole, rest) = (number.abs() / power, number.abs() % power);
                if scale == 0 { format!("{sign}{whole}") } else { format!("{sign}{whole}.{rest:0width$}", width = scale as usize) }
            };
            prop_assert_eq!(order(&text(left), &text(right)), left.cmp(&right));
        }
    }
}
