//! Rules of the repository itself.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// The repository's root.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the root").to_owned()
}

/// Crates that act: the pure ones may not depend on them.
const ACTING_CRATES: [&str; 9] =
    ["tokio", "reqwest", "axum", "sea-orm", "hyper", "getrandom", "rand", "tempfile", "sheaf-runtime"];

#[test]
fn the_pure_crates_depend_on_nothing_that_acts() {
    for krate in ["bundles", "connectors"] {
        let manifest = fs::read_to_string(root().join(krate).join("Cargo.toml")).expect("a manifest");
        let dependencies = manifest.split("[dev-dependencies]").next().expect("the first part");
        for acting in ACTING_CRATES {
            let found = dependencies.lines().any(|line| line.split(['.', ' ', '=']).next() == Some(acting));
            assert!(!found, "{krate} depends on {acting}");
        }
    }
}

#[test]
fn every_place_of_the_code_map_exists() {
    let readme = fs::read_to_string(root().join("README.md")).expect("the README");
    let map =
        readme.split("## Code map").nth(1).and_then(|rest| rest.split("## ").next()).expect("a code map");
    let places: Vec<&str> = map
        .lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .filter_map(|line| line.split('`').next())
        .collect();
    assert!(places.len() >= 6, "the code map names the top level: {places:?}");
    for place in places {
        assert!(root().join(place).exists(), "the code map names {place}, which is not there");
    }
    let mut known = BTreeSet::new();
    for krate in ["bundles", "runtime"] {
        visit(&root().join(krate).join("src"), &mut |path| {
            let below = path.strip_prefix(root()).expect("below the root").with_extension("");
            known.extend(below.iter().map(|part| part.to_string_lossy().into_owned()));
        });
    }
    let prose: Vec<&str> = map.lines().filter(|line| !line.starts_with('|')).collect();
    let prose = prose.join(" ");
    let named = prose.split('`').skip(1).step_by(2).flat_map(str::split_whitespace);
    let parts =
        named.flat_map(|name| name.trim_end_matches(".rs").split('/')).filter(|part| !part.is_empty());
    for part in parts {
        assert!(known.contains(part), "the code map names `{part}`, which is not there");
    }
}

#[test]
fn no_test_is_ignored_and_nothing_is_left_to_do() {
    let forbidden = [concat!("#[", "ignore"), concat!("todo", "!("), concat!("unimplemented", "!(")];
    let mut seen = 0;
    for krate in ["bundles", "connectors", "runtime", "tests"] {
        visit(&root().join(krate), &mut |path| {
            if path.extension().is_some_and(|ending| ending == "rs") {
                let text = fs::read_to_string(path).expect("a source file");
                seen += 1;
                for word in forbidden {
                    assert!(!text.contains(word), "{} holds {word}", path.display());
                }
            }
        });
    }
    assert!(seen > 50, "the walk found the sources: {seen}");
}

fn visit(folder: &Path, file: &mut impl FnMut(&Path)) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            visit(&path, file);
        } else {
            file(&path);
        }
    }
}

#[test]
fn the_generated_schemas_are_fresh() {
    let (catalog, _, _) = sheaf_connectors::catalog::<&str, &[u8]>(&[]);
    let documents = sheaf_bundles::schema::documents(&catalog);
    for (path, text) in &documents {
        let committed = fs::read_to_string(root().join("ui-schema").join(path)).unwrap_or_default();
        assert!(committed == *text, "ui-schema/{path} is stale: run `make gen`");
    }
    let mut files = 0;
    visit(&root().join("ui-schema"), &mut |_| files += 1);
    assert_eq!(files, documents.len(), "ui-schema/ holds files that are not generated: run `make gen`");
}
