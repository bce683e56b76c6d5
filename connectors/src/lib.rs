//! What the product knows about other services: a folder of data for each, and the pure code that reads their requests,
//! checks their signatures and fills in their secrets.

pub mod auth;
pub mod charset;
pub mod decode;
pub mod echo;
pub mod form;
pub mod identity;
pub mod pairs;
pub mod signature;
pub mod typed;

use sheaf_bundles::{
    artefact::{Artefact, ArtefactError},
    catalog::Catalog,
    compile::{self, Integration},
    diagnostic::{Diagnostics, Sources},
    plan::Plan,
};

/// What the path of a built-in manifest starts with in diagnostics. Sorts before the user's `connectors/`, so of two
/// connectors of one name the user's is the one that is reported.
const BUILT_IN: &str = "built-in/";

/// Compiles the workspaces of a directory, each by itself with its own connectors.
#[derive(Debug)]
pub struct Compiler {
    /// The connectors that come with the product.
    pub builtin: Catalog,
    /// The texts that diagnostics of all workspaces point into.
    pub sources: Sources,
}

impl Compiler {
    /// Reads the connectors that come with the product.
    pub fn new() -> Compiler {
        let own = builtin().iter().map(|(path, bytes)| (format!("{BUILT_IN}{path}"), *bytes));
        let (builtin, sources, _) = Catalog::load(&own.collect::<Vec<_>>());
        Compiler { builtin, sources }
    }

    /// Every connector of a workspace: those that come with the product, then each `connector.yaml` among its files, read by
    /// the same loader.
    pub fn catalog<P: AsRef<str>, B: AsRef<[u8]>>(
        &mut self,
        files: &[(P, B)],
        out: &mut Diagnostics,
    ) -> Catalog {
        let mut catalog = self.builtin.clone();
        catalog.add_all(files, &mut self.sources, out);
        catalog
    }

    /// Compiles a workspace, its own connectors included. All diagnostics of all its files are collected.
    pub fn compile<P: AsRef<str>, B: AsRef<[u8]>>(
        &mut self,
        key: &str,
        files: &[(P, B)],
    ) -> (Option<Integration>, Diagnostics) {
        let mut out = Diagnostics::default();
        let catalog = self.catalog(files, &mut out);
        (compile::compile_workspace(key, files, &catalog, &mut self.sources, &mut out), out)
    }
}

impl Default for Compiler {
    fn default() -> Compiler {
        Compiler::new()
    }
}

/// Every connector of a directory that is one workspace; see [`Compiler::catalog`].
pub fn catalog<P: AsRef<str>, B: AsRef<[u8]>>(user_files: &[(P, B)]) -> (Catalog, Sources, Diagnostics) {
    let (mut compiler, mut out) = (Compiler::new(), Diagnostics::default());
    let catalog = compiler.catalog(user_files, &mut out);
    (catalog, compiler.sources, out)
}

/// Compiles a directory that is one workspace; see [`Compiler::compile`].
pub fn compile<P: AsRef<str>, B: AsRef<[u8]>>(
    files: &[(P, B)],
) -> (Option<Integration>, Sources, Diagnostics) {
    let mut compiler = Compiler::new();
    let (integration, out) = compiler.compile("", files);
    (integration, compiler.sources, out)
}

/// The plan of a stored bundle version. Its artefact holds the manifests it was compiled with, so a product with newer
/// connectors makes the very same plan.
///
/// # Errors
/// It is no artefact, or this engine does not understand its texts any more.
pub fn plan_of_artefact(artefact: Artefact) -> Result<Plan, ArtefactError> {
    Plan::from_artefact(artefact)
}

/// The connectors that come with the product: path below `catalog/` and text of each `connector.yaml`, sorted.
pub fn builtin() -> &'static [(&'static str, &'static [u8])] {
    include!(concat!(env!("OUT_DIR"), "/catalog.rs"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_folders_of_the_catalog_are_built_in_without_their_tests() {
        let paths: Vec<&str> = super::builtin().iter().map(|(path, _)| *path).collect();
        for name in ["calltouch", "http", "mindbox", "webhook"] {
            assert!(paths.contains(&format!("{name}/connector.yaml").as_str()), "{name}");
        }
        assert!(paths.iter().all(|path| path.ends_with("/connector.yaml")), "{paths:?}");
    }
}
