//! `sheaf schema`: the JSON Schemas of the users' files and of every connector's forms.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context;
use serde_json::{Map, Value, json};
use sheaf_bundles::schema;

use super::output::{Failure, Output};

/// Print the JSON Schemas, or write them to a folder.
#[derive(Debug, clap::Args)]
pub struct Schema {
    /// Write one file for each schema into this folder, and remove those that were written there before and are no more. A
    /// folder with anything else in it is refused.
    #[arg(long, value_name = "FOLDER")]
    write: Option<PathBuf>,
}

impl Schema {
    /// Exit code 0.
    pub fn run(self, output: &Output) -> anyhow::Result<ExitCode> {
        let (catalog, _, _) = sheaf_connectors::catalog::<&str, &[u8]>(&[]);
        let documents = schema::documents(&catalog);
        match self.write {
            Some(folder) => {
                write(&folder, &documents)?;
                let (count, shown) = (documents.len(), folder.display());
                output.print(&json!({"folder": folder, "written": count}), || {
                    format!("{}: {count} → {shown}", output.words("schemas written", "записано схем"))
                });
            }
            None => {
                let parsed = documents
                    .into_iter()
                    .map(|(path, text)| Ok((path, serde_json::from_str(&text)?)))
                    .collect::<Result<Map<_, _>, serde_json::Error>>()?;
                let all = Value::Object(parsed);
                output.print(&all, || format!("{all:#}"));
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn write(folder: &Path, documents: &[(String, String)]) -> anyhow::Result<()> {
    let ours: BTreeSet<&str> = documents.iter().map(|(below, _)| below.as_str()).collect();
    let found = files(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    if let Some(foreign) = found.iter().find(|below| !ours.contains(below.as_str()) && !was_ours(below)) {
        let folder = folder.display();
        return Err(Failure::error(
            format!("{folder} holds {foreign}, which is no schema of ours: nothing was written"),
            format!("в {folder} есть {foreign}, это не наша схема: ничего не записано"),
        ));
    }
    for stale in found.iter().filter(|below| !ours.contains(below.as_str())) {
        fs::remove_file(folder.join(stale)).with_context(|| format!("cannot remove {stale}"))?;
    }
    for (below, text) in documents {
        let path = folder.join(below);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
        }
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// A form of a connector, trigger or action that is gone meanwhile.
fn was_ours(below: &str) -> bool {
    match below.split('/').collect::<Vec<_>>().as_slice() {
        ["connectors", _, "connection.json"] => true,
        ["connectors", _, "triggers" | "actions", file] => file.ends_with(".json"),
        _ => false,
    }
}

/// Every file below a folder, by its path from there; none when the folder is not there.
fn files(folder: &Path) -> std::io::Result<Vec<String>> {
    let mut found = Vec::new();
    if !folder.exists() {
        return Ok(found);
    }
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type()?.is_dir() {
            found.extend(files(&entry.path())?.into_iter().map(|below| format!("{name}/{below}")));
        } else {
            found.push(name);
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn documents() -> Vec<(String, String)> {
        vec![
            ("bundle.json".to_owned(), "{}".to_owned()),
            ("connectors/crm/connection.json".to_owned(), "{}".to_owned()),
        ]
    }

    #[test]
    fn a_folder_with_anything_of_somebody_elses_is_left_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("bundles")).unwrap();
        fs::write(folder.path().join("bundles/mine.yaml"), "mine").unwrap();
        let error = write(folder.path(), &documents()).unwrap_err().to_string();
        assert!(error.contains("bundles/mine.yaml"), "{error}");
        assert_eq!(files(folder.path()).unwrap(), ["bundles/mine.yaml"]);
    }

    #[test]
    fn schemas_are_written_again_and_those_of_connectors_that_are_gone_go() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("connectors/gone/actions")).unwrap();
        fs::write(folder.path().join("connectors/gone/actions/send.json"), "{}").unwrap();
        for _ in 0..2 {
            write(folder.path(), &documents()).unwrap();
            assert_eq!(files(folder.path()).unwrap(), ["bundle.json", "connectors/crm/connection.json"]);
        }
    }
}
