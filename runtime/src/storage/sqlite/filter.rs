//! Which identities are certainly not in the tables: a Bloom filter for each merge.
//!
//! Nearly every event is new, and looking each up in a table of millions reads a page of it. A filter says "no" for all but
//! one new identity in several hundred, in one line of the processor's cache; it never says "no" of one that is there. Ten
//! filters say "perhaps" ten times as often, so there is a limit to their number. A filter is stored with the rows it stands
//! for, so a start reads two bytes for each identity instead of the identities.

use crate::storage::identity::Key;

/// Bits for each identity.
const BITS_PER_KEY: usize = 16;
/// Words of a block: 64 bytes, a line of the cache. All bits of one identity are in one block.
const BLOCK_WORDS: usize = 8;
/// Bits that stand for one identity in its block, each numbered by nine bits of the second half of its hash.
const BITS_SET: u32 = 6;

/// The identities of one merge.
#[derive(Debug, PartialEq, Eq)]
pub struct Filter {
    blocks: Box<[[u64; BLOCK_WORDS]]>,
}

impl Filter {
    /// A filter of these identities.
    pub fn of<'k>(keys: impl ExactSizeIterator<Item = &'k Key>) -> Filter {
        let blocks = (keys.len() * BITS_PER_KEY).div_ceil(BLOCK_WORDS * 64).max(1);
        let mut filter = Filter { blocks: vec![[0; BLOCK_WORDS]; blocks].into_boxed_slice() };
        for key in keys {
            let block = filter.block_of(key);
            for (word, bit) in bits(key) {
                filter.blocks[block][word] |= bit;
            }
        }
        filter
    }

    /// Whether that identity may be among them; `false` is certain.
    pub fn may_hold(&self, key: &Key) -> bool {
        let block = &self.blocks[self.block_of(key)];
        bits(key).all(|(word, bit)| block[word] & bit != 0)
    }

    /// For [`Filter::from_bytes`].
    pub fn to_bytes(&self) -> Vec<u8> {
        self.blocks.iter().flatten().flat_map(|word| word.to_le_bytes()).collect()
    }

    /// The stored filter; `None` when these bytes are not one.
    pub fn from_bytes(bytes: &[u8]) -> Option<Filter> {
        let (words, rest) = bytes.as_chunks::<8>();
        let (blocks, odd) = words.as_chunks::<BLOCK_WORDS>();
        let whole = rest.is_empty() && odd.is_empty() && !blocks.is_empty();
        whole.then(|| Filter { blocks: blocks.iter().map(|block| block.map(u64::from_le_bytes)).collect() })
    }

    /// The first half of the hash spread over the blocks: multiplied and shifted, which costs less than a remainder.
    fn block_of(&self, [h1, _]: &Key) -> usize {
        let spread = u128::from(h1.cast_unsigned()) * self.blocks.len() as u128;
        // Less than the number of blocks.
        (spread >> 64) as usize
    }
}

/// Words of the block and the bit in each.
fn bits([_, h2]: &Key) -> impl Iterator<Item = (usize, u64)> {
    let h2 = h2.cast_unsigned();
    (0..BITS_SET).map(move |number| {
        let nine = (h2 >> (9 * number)) & 0x1FF;
        ((nine >> 6) as usize, 1 << (nine & 0x3F))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::identity::key;

    fn keys(range: std::ops::Range<u64>) -> Vec<Key> {
        range
            .map(|number| *blake3::hash(&number.to_le_bytes()).as_bytes())
            .map(|hash| {
                let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|byte| hash[at + byte]));
                key(1, [word(0), word(8)])
            })
            .collect()
    }

    #[test]
    fn what_is_in_it_is_never_denied_and_what_is_not_nearly_always() {
        for count in [1, 2, 31, 32, 33, 20_000] {
            let filter = Filter::of(keys(0..count).iter());
            assert!(keys(0..count).iter().all(|key| filter.may_hold(key)), "{count}");
        }
        let filter = Filter::of(keys(0..20_000).iter());
        let wrong = keys(20_000..120_000).iter().filter(|key| filter.may_hold(key)).count();
        assert!((1..400).contains(&wrong), "{wrong} of 100,000 new ones have to be looked up");
    }

    #[test]
    fn a_stored_filter_is_the_same_and_other_bytes_are_none() {
        let filter = Filter::of(keys(0..1_000).iter());
        assert_eq!(Filter::from_bytes(&filter.to_bytes()), Some(filter));
        for bytes in [0, 1, 63, 65] {
            assert_eq!(Filter::from_bytes(&vec![0xFF; bytes]), None, "{bytes} bytes");
        }
    }
}
