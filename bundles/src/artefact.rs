//! A bundle version as one immutable thing: every text its plan was compiled from, and their hash.
//!
//! A bundle and its connections are short and its own; the manifests of their connectors are long and the same in
//! thousands of versions. So an artefact names each manifest by its hash, and the text stands beside, once.

use std::sync::Arc;

use sha2::{Digest, Sha256};

/// Raised when a change of the engine makes the same texts send other requests, so that old runs are told apart.
pub const ENGINE_REVISION: u32 = 1;

/// A bundle version. The hash is its identity; bytes and shared texts compile into the very same plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artefact {
    /// SHA-256 of the bytes, and so of every text: the bytes hold the hashes of those that are shared.
    pub hash: [u8; 32],
    /// [`Sealed`] as JSON.
    pub bytes: Vec<u8>,
    /// The texts that other versions have too.
    pub shared: Vec<SharedText>,
}

/// A text that many versions have in common, hashed once.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SharedText {
    /// SHA-256 of the text.
    pub hash: [u8; 32],
    /// The text.
    pub text: Arc<str>,
}

/// Every text of a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Texts {
    /// [`ENGINE_REVISION`] of the engine that compiled it.
    pub engine: u32,
    /// The bundle's name outside its workspace, which is so known again.
    pub bundle: String,
    /// Path and text of the workspace file, the bundle and the connections it uses.
    pub files: Vec<(String, String)>,
    /// Path and text of the manifests of the connectors these use.
    pub manifests: Vec<(String, SharedText)>,
}

/// What the bytes of an artefact hold.
#[derive(serde::Serialize, serde::Deserialize)]
struct Sealed {
    engine: u32,
    bundle: String,
    /// Path and text, ordered by path.
    files: Vec<(String, String)>,
    /// Path, and SHA-256 of the text in hexadecimal, ordered by path.
    manifests: Vec<(String, String)>,
}

/// What is stored is not an artefact of this product.
#[derive(Debug, thiserror::Error)]
pub enum ArtefactError {
    /// Not the JSON we write.
    #[error("the stored bundle version cannot be read: {0}")]
    Unreadable(#[from] serde_json::Error),
    /// A text that it names does not stand beside it.
    #[error("the stored bundle version lacks the text of {0}")]
    Incomplete(String),
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

impl SharedText {
    /// The text with its hash.
    pub fn new(text: impl Into<Arc<str>>) -> SharedText {
        let text = text.into();
        SharedText { hash: Sha256::digest(text.as_bytes()).into(), text }
    }
}

impl Artefact {
    /// The artefact of bytes that were sealed before, and of the texts beside them.
    pub fn stored(bytes: Vec<u8>, shared: Vec<SharedText>) -> Artefact {
        Artefact { hash: Sha256::digest(&bytes).into(), bytes, shared }
    }

    /// The texts that [`Texts::seal`] sealed.
    ///
    /// # Errors
    /// [`ArtefactError::Unreadable`] and [`ArtefactError::Incomplete`].
    pub fn open(&self) -> Result<Texts, ArtefactError> {
        let Sealed { engine, bundle, files, manifests } = serde_json::from_slice(&self.bytes)?;
        let found = |(path, text): (String, String)| {
            // Versions that were stored before texts were shared hold the text itself.
            let inside = (!is_hash(&text)).then(|| SharedText::new(text.as_str()));
            let beside = || self.shared.iter().find(|shared| hexadecimal(&shared.hash) == text).cloned();
            let text = inside.or_else(beside);
            text.map(|text| (path.clone(), text)).ok_or(ArtefactError::Incomplete(path))
        };
        let manifests = manifests.into_iter().map(found).collect::<Result<_, _>>()?;
        Ok(Texts { engine, bundle, files, manifests })
    }
}

impl Texts {
    /// Orders the texts and seals them.
    pub fn seal(mut self) -> Artefact {
        self.files.sort();
        self.manifests.sort();
        let named = self.manifests.iter().map(|(path, text)| (path.clone(), hexadecimal(&text.hash)));
        let sealed = Sealed {
            engine: self.engine,
            bundle: self.bundle,
            files: self.files,
            manifests: named.collect(),
        };
        let bytes = serde_json::to_vec(&sealed).expect("texts always serialise");
        let mut shared: Vec<_> = self.manifests.into_iter().map(|(_, text)| text).collect();
        shared.sort();
        shared.dedup();
        Artefact::stored(bytes, shared)
    }
}

fn is_hash(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn hexadecimal(hash: &[u8; 32]) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(files: &[(&str, &str)], manifest: &str) -> Texts {
        let files = files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect();
        let manifests = vec![("m".to_owned(), SharedText::new(manifest))];
        Texts { engine: ENGINE_REVISION, bundle: "b".to_owned(), files, manifests }
    }

    #[test]
    fn the_hash_depends_on_every_text_and_not_on_their_order() {
        let artefact = texts(&[("a", "1"), ("b", "2")], "m1").seal();
        assert_eq!(artefact, texts(&[("b", "2"), ("a", "1")], "m1").seal());
        assert_ne!(artefact.hash, texts(&[("a", "1"), ("b", "3")], "m1").seal().hash);
        assert_ne!(artefact.hash, texts(&[("a", "1"), ("b", "2")], "m2").seal().hash);
    }

    #[test]
    fn an_artefact_opens_to_the_texts_it_was_sealed_from() {
        let artefact = texts(&[("a", "1")], "long").seal();
        assert_eq!(artefact.open().expect("readable"), texts(&[("a", "1")], "long"));
        assert!(Artefact::stored(b"{}".to_vec(), Vec::new()).open().is_err());
    }

    #[test]
    fn an_artefact_from_before_texts_were_shared_opens_too() {
        let old = br#"{"engine":1,"bundle":"b","files":[["a","1"]],"manifests":[["m","kind: connector"]]}"#;
        let opened = Artefact::stored(old.to_vec(), Vec::new()).open().expect("readable");
        assert_eq!(opened, texts(&[("a", "1")], "kind: connector"));
    }

    #[test]
    fn a_shared_text_is_not_in_the_bytes_and_is_missed_when_it_is_not_beside_them() {
        let artefact = texts(&[], &"long ".repeat(1_000)).seal();
        assert!(artefact.bytes.len() < 1_000);
        let alone = Artefact::stored(artefact.bytes, vec![SharedText::new("another")]);
        assert!(matches!(alone.open(), Err(ArtefactError::Incomplete(path)) if path == "m"));
    }
}
