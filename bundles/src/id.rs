//! Typed identifiers: time-sorted 64-bit numbers, shown with a prefix (`evt_0d5f…`).

use std::{fmt, str::FromStr};

/// Bits of an id that hold the node number.
pub const NODE_BITS: u32 = 10;
/// Bits of an id that hold the sequence inside one millisecond.
pub const SEQUENCE_BITS: u32 = 12;

/// Builds the number behind an id: 41 bits of milliseconds since 1970, 10 of node, 12 of sequence.
pub fn compose(time_ms: i64, node: u16, sequence: u16) -> i64 {
    (time_ms << (NODE_BITS + SEQUENCE_BITS))
        | (i64::from(node) & ((1 << NODE_BITS) - 1)) << SEQUENCE_BITS
        | (i64::from(sequence) & ((1 << SEQUENCE_BITS) - 1))
}

/// The text is not an id of the expected kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected an id like {prefix}_0123456789abcdef, got {text:?}")]
pub struct IdError {
    prefix: &'static str,
    text: String,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub i64);

        impl $name {
            /// What the text form starts with, before `_`.
            pub const PREFIX: &'static str = $prefix;

            /// The millisecond since 1970 at which the id was made.
            pub fn time_ms(self) -> i64 {
                self.0 >> (NODE_BITS + SEQUENCE_BITS)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}_{:016x}", $prefix, self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                text.strip_prefix(concat!($prefix, "_"))
                    .filter(|digits| digits.len() == 16)
                    .and_then(|digits| i64::from_str_radix(digits, 16).ok())
                    .map($name)
                    .ok_or_else(|| IdError { prefix: $prefix, text: text.to_owned() })
            }
        }
    };
}

id!(
    /// One event.
    EventId,
    "evt"
);
id!(
    /// One run: one bundle version processing one event.
    RunId,
    "run"
);
id!(
    /// One immutable bundle version.
    VersionId,
    "ver"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_back_from_its_text_and_keeps_its_time() {
        let id = EventId(compose(1_772_694_930_123, 5, 77));
        assert_eq!(id.to_string().parse::<EventId>(), Ok(id));
        assert_eq!(id.time_ms(), 1_772_694_930_123);
        assert!(id.to_string().parse::<RunId>().is_err());
    }

    #[test]
    fn ids_sort_by_time_then_node_then_sequence() {
        let mut ids = [compose(2, 0, 0), compose(1, 9, 9), compose(1, 9, 8), compose(1, 8, 4095)];
        ids.sort_unstable();
        assert_eq!(ids, [compose(1, 8, 4095), compose(1, 9, 8), compose(1, 9, 9), compose(2, 0, 0)]);
    }
}
