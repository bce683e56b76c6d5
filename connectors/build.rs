//! Lists the connectors of `catalog/` for embedding: each folder's `connector.yaml`, without its tests and papers.
//!
//! A build script rather than an including macro, because only this notices a new folder.

#![expect(
    clippy::disallowed_methods,
    reason = "a build script reads cargo's environment and writes where cargo says"
)]

use std::{env, fs, path::Path};

fn main() {
    println!("cargo::rerun-if-changed=catalog");
    let root = Path::new(&env::var("CARGO_MANIFEST_DIR").expect("cargo sets it")).join("catalog");
    let mut names: Vec<String> = fs::read_dir(&root)
        .expect("catalog/ is part of the crate")
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| root.join(name).join("connector.yaml").is_file())
        .collect();
    names.sort();
    let files: String = names
        .iter()
        .map(|name| {
            let path = root.join(name).join("connector.yaml");
            format!("    ({:?}, include_bytes!({path:?})),\n", format!("{name}/connector.yaml"))
        })
        .collect();
    let out = Path::new(&env::var("OUT_DIR").expect("cargo sets it")).join("catalog.rs");
    fs::write(out, format!("&[\n{files}]")).expect("the build directory can be written");
}
