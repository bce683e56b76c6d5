//! Case files as spanned trees.

use std::{fs, path::Path};

use sheaf_bundles::{
    diagnostic::{Diagnostics, Sources, render},
    words::Language,
    yaml::{self, Node},
};

/// Every case of a connector.
pub fn cases_of(connector: &str) -> Vec<Node> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("catalog").join(connector).join("tests");
    let entries = fs::read_dir(folder).expect("a tests folder");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    paths.iter().flat_map(|path| read_cases(path)).collect()
}

/// The list of cases in one file.
#[expect(
    clippy::disallowed_methods,
    reason = "the cases are read as they stand in the folder, new files included"
)]
pub fn read_cases(path: &Path) -> Vec<Node> {
    let text = fs::read_to_string(path).expect("a readable file");
    let (mut sources, mut out) = (Sources::default(), Diagnostics::default());
    let file = sources.add(path.display().to_string(), &text);
    let node = yaml::parse(file, &text, &mut out);
    assert!(out.is_empty(), "{}", render::text(&sources, &out, Language::En, false));
    node.as_ref().and_then(Node::as_list).expect("a list of cases").to_vec()
}
