//! 128 bits that tell whether two requests are the same event.
//!
//! Taken over the parameters as they came, before they are typed: two values that no type can read are still two
//! values. Names and texts go in with their lengths, so no two different sets of parameters can look alike; parameters
//! are sorted by name, so a method or a proxy that orders them otherwise changes nothing.

use sha2::{Digest as _, Sha512};
use sheaf_bundles::{
    hook::DedupeFields,
    value::{Map, Number, Value},
};

use crate::decode::find;

/// The identity by the connection's rule; `None` when the rule finds nothing to go by.
pub fn of(rule: &DedupeFields, fields: &Map) -> Option<[u64; 2]> {
    let mut counted: Vec<(&str, &Value)> = match rule {
        DedupeFields::AllExcept(names) => {
            let counts = |name: &str| !names.iter().any(|volatile| volatile == name);
            fields
                .iter()
                .map(|(name, value)| (name.as_str(), value))
                .filter(|(name, _)| counts(name))
                .collect()
        }
        DedupeFields::Only(names) => {
            let given = |name: &'_ String| find(fields, name).filter(|value| !value.is_empty());
            names.iter().filter_map(|name| Some((name.as_str(), given(name)?))).collect()
        }
    };
    if counted.is_empty() {
        return None;
    }
    counted.sort_unstable_by_key(|(name, _)| *name);
    let mut bytes = Vec::with_capacity(4 * 1024);
    for (name, value) in counted {
        write_text(name, &mut bytes);
        write(value, &mut bytes);
    }
    Some(hash(&bytes))
}

/// The first 128 bits of SHA-512: collision-proof, the same on every machine and in every version, and on 64-bit
/// machines without SHA instructions half the price of SHA-256.
fn hash(bytes: &[u8]) -> [u64; 2] {
    let digest = Sha512::digest(bytes);
    let word = |at: usize| u64::from_be_bytes(std::array::from_fn(|byte| digest[at + byte]));
    [word(0), word(8)]
}

fn write(value: &Value, bytes: &mut Vec<u8>) {
    match value {
        Value::Null => bytes.push(0),
        Value::Bool(flag) => bytes.extend([1, u8::from(*flag)]),
        Value::Number(Number::Integer(number)) => {
            bytes.push(2);
            write_text(&number.to_string(), bytes);
        }
        Value::Number(Number::Exact(digits)) => {
            bytes.push(2);
            write_text(digits, bytes);
        }
        Value::Text(text) => {
            bytes.push(3);
            write_text(text, bytes);
        }
        Value::List(items) => {
            bytes.push(4);
            write_length(items.len(), bytes);
            items.iter().for_each(|item| write(item, bytes));
        }
        Value::Object(map) => {
            bytes.push(5);
            write_length(map.len(), bytes);
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_unstable_by_key(|(name, _)| *name);
            for (name, value) in entries {
                write_text(name, bytes);
                write(value, bytes);
            }
        }
    }
}

fn write_text(text: &str, bytes: &mut Vec<u8>) {
    write_length(text.len(), bytes);
    bytes.extend_from_slice(text.as_bytes());
}

/// Seven bits a byte, the lowest first, the top bit on all but the last: lengths divide unambiguously and cost one byte.
fn write_length(mut length: usize, bytes: &mut Vec<u8>) {
    while length >= 0x80 {
        bytes.push((length & 0x7F) as u8 | 0x80);
        length >>= 7;
    }
    bytes.push(length as u8);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::form;

    fn all_but(volatile: &[&str], form: &str) -> Option<[u64; 2]> {
        let names = volatile.iter().map(|name| (*name).to_owned()).collect();
        of(&DedupeFields::AllExcept(names), &form::parse(form.as_bytes(), None).expect("a form"))
    }

    fn only(names: &[&str], form: &str) -> Option<[u64; 2]> {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        of(&DedupeFields::Only(names), &form::parse(form.as_bytes(), None).expect("a form"))
    }

    #[test]
    fn volatile_parameters_and_their_order_do_not_count() {
        let first = all_but(&["reclink", "sendingTimestamp"], "id=1&tags=a&reclink=x&sendingTimestamp=1");
        assert_eq!(first, all_but(&["reclink", "sendingTimestamp"], "sendingTimestamp=2&tags=a&id=1"));
        assert_ne!(first, all_but(&["reclink", "sendingTimestamp"], "id=1&tags=b"));
    }

    #[test]
    fn no_two_different_sets_of_parameters_look_alike() {
        let forms =
            ["a=bc", "ab=c", "a=b&c=", "a=&bc=", "a[b]=c", "a[]=bc", "a[0]=b&a[1]=c", "a=b&a2=c", "a=b%00c"];
        let hashes: std::collections::HashSet<_> = forms.iter().map(|form| all_but(&[], form)).collect();
        assert_eq!(hashes.len(), forms.len());
    }

    #[test]
    fn an_event_without_any_of_the_chosen_fields_is_an_event_of_its_own() {
        assert_eq!(only(&["order.number"], "x=1&order[number]="), None);
        assert_eq!(only(&[], "x=1"), None);
        assert_eq!(
            only(&["order.number"], "x=1&order[number]=7"),
            only(&["order.number"], "x=2&order[number]=7")
        );
        assert_eq!(all_but(&["x"], "x=1"), None);
    }

    #[test]
    fn the_identity_is_the_same_in_every_version() {
        assert_eq!(all_but(&[], "id=1"), Some([1_224_631_698_269_888_026, 7_837_351_879_096_010_285]));
    }
}
