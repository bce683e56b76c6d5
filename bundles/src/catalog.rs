//! The compiler's dictionary: every connector there is.

use std::sync::Arc;

use indexmap::IndexMap;

use crate::{
    artefact::SharedText,
    compile,
    diagnostic::{Diagnostic, Diagnostics, Sources, code::Code},
    manifest::Manifest,
    words::Words,
    yaml,
};

/// The file name that makes a folder a connector.
pub const MANIFEST_FILE: &str = "connector.yaml";

/// All connectors, by name.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    connectors: IndexMap<String, Arc<Connector>>,
}

/// One connector.
#[derive(Debug)]
pub struct Connector {
    /// What its manifest says.
    pub manifest: Manifest,
    /// The manifest's path.
    pub path: String,
    /// The manifest's text; part of every bundle version that uses it.
    pub text: SharedText,
}

impl Catalog {
    /// Reads every `connector.yaml` among the files and checks it on its own; other files are passed over.
    /// A manifest with an error is not in the catalog. All diagnostics of all files are collected.
    pub fn load<P: AsRef<str>, B: AsRef<[u8]>>(files: &[(P, B)]) -> (Catalog, Sources, Diagnostics) {
        let (mut catalog, mut sources, mut out) = Default::default();
        Catalog::add_all(&mut catalog, files, &mut sources, &mut out);
        (catalog, sources, out)
    }

    /// The same, beside the connectors that are known already.
    pub fn add_all<P: AsRef<str>, B: AsRef<[u8]>>(
        &mut self,
        files: &[(P, B)],
        sources: &mut Sources,
        out: &mut Diagnostics,
    ) {
        let mut manifests: Vec<_> =
            files.iter().map(|(path, bytes)| (path.as_ref(), bytes.as_ref())).collect();
        manifests.retain(|(path, _)| is_manifest(path));
        manifests.sort_by_key(|(path, _)| *path);
        for (path, bytes) in manifests {
            self.add(path, bytes, sources, out);
        }
    }

    fn add(&mut self, path: &str, bytes: &[u8], sources: &mut Sources, out: &mut Diagnostics) {
        let (file, node) = yaml::load(path, bytes, sources, out);
        let Some(manifest) = node.and_then(|node| Manifest::read(&node, out)) else { return };
        compile::manifest::check(&manifest, out);
        if let Some(other) = self.connectors.get(&manifest.name) {
            out.push(duplicate(&manifest, other));
            return;
        }
        if !out.has_errors_in(file) {
            let connector =
                Connector { path: path.to_owned(), text: SharedText::new(sources.text(file)), manifest };
            self.connectors.insert(connector.manifest.name.clone(), Arc::new(connector));
        }
    }

    /// The connector of that name.
    pub fn get(&self, name: &str) -> Option<&Arc<Connector>> {
        self.connectors.get(name)
    }

    /// Every connector, in the order they were read.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Connector>> {
        self.connectors.values()
    }

    /// Every name.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.connectors.keys().map(String::as_str)
    }
}

fn is_manifest(path: &str) -> bool {
    path == MANIFEST_FILE || path.strip_suffix(MANIFEST_FILE).is_some_and(|folder| folder.ends_with('/'))
}

fn duplicate(manifest: &Manifest, other: &Connector) -> Diagnostic {
    let name = &manifest.name;
    let message = Words::new(
        format!("there is a connector `{name}` already, in {}", other.path),
        format!("коннектор `{name}` уже есть, в {}", other.path),
    );
    let hint = Words::new("give this one another name", "дайте этому другое имя");
    Diagnostic::error(Code::DuplicateName, manifest.name_span, message)
        .with_hint(hint)
        .with_related(other.manifest.name_span, Words::new("the first one", "первый"))
}
