//! What a node's own files last said, kept for each workspace: one whose files are as they were has nothing to say, and what
//! other nodes have made active of it since stays.

use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest as _, Sha256};
use sheaf_bundles::workspace;

use crate::queue::types::Activation;

/// Bytes of a digest.
const DIGEST_BYTES: usize = 32;

/// A digest of the active versions of each workspace that has any, by its key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Digests(BTreeMap<String, [u8; DIGEST_BYTES]>);

impl Digests {
    /// Of bundles with the hashes of their versions, in whatever order.
    pub fn of<'v>(versions: impl IntoIterator<Item = (&'v str, &'v [u8])>) -> Digests {
        let mut by_workspace: BTreeMap<&str, BTreeSet<(&str, &[u8])>> = BTreeMap::new();
        for (bundle, hash) in versions {
            by_workspace.entry(workspace::of(bundle)).or_default().insert((bundle, hash));
        }
        Digests(by_workspace.into_iter().map(|(key, versions)| (key.to_owned(), digest(versions))).collect())
    }

    /// As it is kept. Of a directory that is one workspace it is the bare digest, as an older sheaf kept it of all it served.
    pub fn bytes(&self) -> Vec<u8> {
        if let Some(digest) = self.0.get("").filter(|_| self.0.len() == 1) {
            return digest.to_vec();
        }
        self.0.iter().flat_map(|(key, digest)| [digest.as_slice(), key.as_bytes(), &[0]].concat()).collect()
    }

    /// What was kept.
    pub fn read(mut bytes: &[u8]) -> Digests {
        let mut said = Digests::default();
        while let Some((digest, rest)) = bytes.split_first_chunk() {
            let end = rest.iter().position(|byte| *byte == 0).unwrap_or(rest.len());
            said.0.insert(String::from_utf8_lossy(&rest[..end]).into_owned(), *digest);
            bytes = rest.get(end + 1..).unwrap_or_default();
        }
        said
    }

    /// What this activation says by all that was said before: of a workspace that it keeps, what was said last.
    pub fn then(&self, activation: &Activation) -> Digests {
        let versions = activation.versions.iter();
        let mut said = Digests::of(versions.map(|it| (it.bundle.as_str(), it.artefact.hash.as_slice())));
        let kept = activation.keeping.iter().filter_map(|key| Some((key.clone(), *self.0.get(key)?)));
        said.0.extend(kept);
        said
    }

    /// The workspaces that these words leave as they are in force: of those nothing new is `said`.
    pub fn nothing_new(&self, said: &Digests, in_force: &Digests) -> BTreeSet<String> {
        let all = self.0.keys().chain(said.0.keys()).chain(in_force.0.keys());
        let same =
            |key: &&String| self.0.get(*key) == said.0.get(*key) && in_force.0.get(*key) != said.0.get(*key);
        all.filter(same).cloned().collect()
    }
}

fn digest(versions: BTreeSet<(&str, &[u8])>) -> [u8; DIGEST_BYTES] {
    let mut digest = Sha256::new();
    for (bundle, hash) in versions {
        digest.update((bundle.len() as u64).to_be_bytes());
        digest.update(bundle);
        digest.update(hash);
    }
    digest.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(versions: &[(&str, u8)]) -> Digests {
        let hashes: Vec<[u8; 1]> = versions.iter().map(|(_, hash)| [*hash]).collect();
        Digests::of(versions.iter().zip(&hashes).map(|((bundle, _), hash)| (*bundle, hash.as_slice())))
    }

    #[test]
    fn what_was_said_is_read_again_also_as_an_older_sheaf_kept_it() {
        for versions in
            [&[][..], &[("one", 1)], &[("shop/one", 1)], &[("one", 1), ("two", 2), ("shop/one", 3)]]
        {
            let said = said(versions);
            assert_eq!(Digests::read(&said.bytes()), said);
        }
        let alone = said(&[("one", 1), ("two", 2)]);
        assert_eq!(alone.bytes().len(), DIGEST_BYTES);
        assert_eq!(alone, said(&[("two", 2), ("one", 1)]), "whatever the order");
    }

    #[test]
    fn only_a_workspace_of_which_the_same_is_said_again_is_left_as_it_is() {
        let before = said(&[("one", 1), ("shop/one", 1), ("depot/one", 1)]);
        let in_force = said(&[("one", 2), ("shop/one", 2), ("depot/one", 2), ("zed/one", 1)]);
        let now = said(&[("one", 1), ("shop/one", 3)]);
        let left: Vec<String> = before.nothing_new(&now, &in_force).into_iter().collect();
        assert_eq!(left, ["", "zed"], "shop has changed, depot is gone, and zed was never ours");
    }
}
