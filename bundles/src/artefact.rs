//! A bundle version as one immutable thing: every text its plan was compiled from, and their hash.

use sha2::{Digest, Sha256};

/// Raised when a change of the engine makes the same texts send other requests, so that old runs are told apart.
pub const ENGINE_REVISION: u32 = 1;

/// A bundle version. The hash is its identity; the bytes compile into the very same plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artefact {
    /// SHA-256 of the bytes.
    pub hash: [u8; 32],
    /// [`Texts`] as JSON.
    pub bytes: Vec<u8>,
}

/// What an artefact holds.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Texts {
    /// [`ENGINE_REVISION`] of the engine that compiled it.
    pub engine: u32,
    /// The bundle's name.
    pub bundle: String,
    /// Path and text of the workspace file, the bundle and the connections it uses, ordered by path.
    pub files: Vec<(String, String)>,
    /// Path and text of the manifests of the connectors these use, ordered by path.
    pub manifests: Vec<(String, String)>,
}

/// Stored bytes are not an artefact of this product.
#[derive(Debug, thiserror::Error)]
pub enum ArtefactError {
    /// Not the JSON we write.
    #[error("the stored bundle version cannot be read: {0}")]
    Unreadable(#[from] serde_json::Error),
    /// The texts compiled once and do not now: an engine that is older than the artefact, or a defect.
    #[error("the stored bundle version {bundle:?} of engine revision {engine} does not compile: {first}")]
    DoesNotCompile {
        /// The bundle's name.
        bundle: String,
        /// The engine that wrote it.
        engine: u32,
        /// The first diagnostic.
        first: String,
    },
}

impl Artefact {
    /// The artefact of bytes that were sealed before.
    pub fn of_bytes(bytes: Vec<u8>) -> Artefact {
        Artefact { hash: Sha256::digest(&bytes).into(), bytes }
    }
}

impl Texts {
    /// Orders the texts and seals them.
    pub fn seal(mut self) -> Artefact {
        self.files.sort();
        self.manifests.sort();
        let bytes = serde_json::to_vec(&self).expect("texts always serialise");
        Artefact::of_bytes(bytes)
    }

    /// Opens what [`Texts::seal`] made.
    ///
    /// # Errors
    /// [`ArtefactError::Unreadable`].
    pub fn open(bytes: &[u8]) -> Result<Texts, ArtefactError> {
        Ok(serde_json::from_slice(bytes)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(files: &[(&str, &str)]) -> Texts {
        let owned =
            |pairs: &[(&str, &str)]| pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
        Texts { engine: ENGINE_REVISION, bundle: "b".to_owned(), files: owned(files), manifests: owned(&[]) }
    }

    #[test]
    fn the_hash_depends_on_every_text_and_not_on_their_order() {
        let artefact = texts(&[("a", "1"), ("b", "2")]).seal();
        assert_eq!(artefact, texts(&[("b", "2"), ("a", "1")]).seal());
        assert_ne!(artefact.hash, texts(&[("a", "1"), ("b", "3")]).seal().hash);
    }

    #[test]
    fn an_artefact_opens_to_the_texts_it_was_sealed_from() {
        let artefact = texts(&[("a", "1")]).seal();
        assert_eq!(Texts::open(&artefact.bytes).expect("readable"), texts(&[("a", "1")]));
        assert!(Texts::open(b"{}").is_err());
    }
}
