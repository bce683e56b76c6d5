//! 128 bits that tell whether two requests are the same event.
//!
//! Taken over the parameters as they came, before they are typed: two values that no type can read are still two
//! values. Names and texts go in with their lengths, so no two different sets of parameters can look alike; parameters
//! are sorted by name, so a method or a proxy that orders them otherwise changes nothing. Of chosen fields, one that is
//! empty or holds a word for "no value" is not there: people without an order number do not share an order.

use sheaf_bundles::{
    hook::DedupeFields,
    value::{Map, Number, Value},
};

use crate::{decode::find, typed};

/// The identity by the connection's rule; `None` when the rule finds nothing to go by. `no_value` gives the words that
/// mean "no value" in a field; only fields that the rule chooses are asked about.
pub fn of<'w>(
    rule: &DedupeFields,
    fields: &Map,
    no_value: impl Fn(&str) -> &'w [String],
) -> Option<[u64; 2]> {
    let mut counted: Vec<(&str, &Value)> = Vec::with_capacity(fields.len());
    match rule {
        DedupeFields::AllExcept(names) => {
            let counts = |name: &str| !names.iter().any(|volatile| volatile == name);
            let all = fields.iter().map(|(name, value)| (name.as_str(), value));
            counted.extend(all.filter(|(name, _)| counts(name)));
        }
        DedupeFields::Only(names) => {
            let says =
                |name: &str, value: &Value| !value.is_empty() && !typed::is_no_value(value, no_value(name));
            let given = |name: &'_ String| find(fields, name).filter(|value| says(name, value));
            counted.extend(names.iter().filter_map(|name| Some((name.as_str(), given(name)?))));
        }
    }
    if counted.is_empty() {
        return None;
    }
    counted.sort_unstable_by_key(|(name, _)| *name);
    let mut hash = Hash::new();
    for (name, value) in counted {
        hash.text(name);
        hash.value(value);
    }
    Some(hash.finish())
}

/// Bytes that are gathered before they are hashed; most pieces are a few bytes long.
const ROOM_BYTES: usize = 1024;

/// The first 128 bits of BLAKE3: collision-proof, the same on every machine and in every version, and on machines
/// without SHA instructions less than half the price of SHA-2.
struct Hash {
    hasher: blake3::Hasher,
    room: [u8; ROOM_BYTES],
    filled: usize,
}

impl Hash {
    fn new() -> Hash {
        Hash { hasher: blake3::Hasher::new(), room: [0; ROOM_BYTES], filled: 0 }
    }

    fn bytes(&mut self, bytes: &[u8]) {
        if bytes.len() > ROOM_BYTES - self.filled {
            self.flush();
        }
        match self.room.get_mut(self.filled..self.filled + bytes.len()) {
            Some(room) => {
                room.copy_from_slice(bytes);
                self.filled += bytes.len();
            }
            None => _ = self.hasher.update(bytes),
        }
    }

    fn flush(&mut self) {
        self.hasher.update(&self.room[..self.filled]);
        self.filled = 0;
    }

    fn finish(mut self) -> [u64; 2] {
        self.flush();
        let digest = self.hasher.finalize();
        let word = |at: usize| u64::from_be_bytes(std::array::from_fn(|byte| digest.as_bytes()[at + byte]));
        [word(0), word(8)]
    }

    fn value(&mut self, value: &Value) {
        match value {
            Value::Null => self.bytes(&[0]),
            Value::Bool(flag) => self.bytes(&[1, u8::from(*flag)]),
            Value::Number(Number::Integer(number)) => {
                self.bytes(&[2]);
                self.text(&number.to_string());
            }
            Value::Number(Number::Exact(digits)) => {
                self.bytes(&[2]);
                self.text(digits);
            }
            Value::Text(text) => {
                self.bytes(&[3]);
                self.text(text);
            }
            Value::List(items) => {
                self.bytes(&[4]);
                self.length(items.len());
                items.iter().for_each(|item| self.value(item));
            }
            Value::Object(map) => {
                self.bytes(&[5]);
                self.length(map.len());
                let mut entries: Vec<_> = map.iter().collect();
                entries.sort_unstable_by_key(|(name, _)| *name);
                for (name, value) in entries {
                    self.text(name);
                    self.value(value);
                }
            }
        }
    }

    fn text(&mut self, text: &str) {
        self.length(text.len());
        self.bytes(text.as_bytes());
    }

    /// Seven bits a byte, the lowest first, the top bit on all but the last: lengths divide unambiguously and cost one byte.
    fn length(&mut self, mut length: usize) {
        while length >= 0x80 {
            self.bytes(&[(length & 0x7F) as u8 | 0x80]);
            length >>= 7;
        }
        self.bytes(&[length as u8]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::form;

    fn all_but(volatile: &[&str], form: &str) -> Option<[u64; 2]> {
        let names = volatile.iter().map(|name| (*name).to_owned()).collect();
        of(&DedupeFields::AllExcept(names), &form::parse(form.as_bytes(), None).expect("a form"), |_| &[])
    }

    fn only(names: &[&str], form: &str) -> Option<[u64; 2]> {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        let words = ["null".to_owned()];
        let no_value = |name: &str| if name == "order.number" { &words[..] } else { &[] };
        of(&DedupeFields::Only(names), &form::parse(form.as_bytes(), None).expect("a form"), no_value)
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
        assert_eq!(only(&["order.number"], "x=1&order[number]=null"), None);
        assert_ne!(only(&["x"], "x=null"), None, "each field has its own words");
        assert_eq!(only(&[], "x=1"), None);
        assert_eq!(
            only(&["order.number"], "x=1&order[number]=7"),
            only(&["order.number"], "x=2&order[number]=7")
        );
        assert_eq!(all_but(&["x"], "x=1"), None);
    }

    #[test]
    fn the_identity_is_the_same_in_every_version() {
        assert_eq!(all_but(&[], "id=1"), Some([9_395_662_316_251_339_079, 2_329_175_455_148_996_578]));
    }
}
