//! `sheaf schema`: the JSON Schemas of the users' files and of every connector's forms.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context;
use serde_json::{Map, Value};
use sheaf_bundles::schema;

use super::output::Output;

/// Print the JSON Schemas, or write them to a folder.
#[derive(Debug, clap::Args)]
pub struct Schema {
    /// Write one file for each schema into this folder; what else is in it goes.
    #[arg(long, value_name = "FOLDER")]
    write: Option<PathBuf>,
}

impl Schema {
    /// Exit code 0.
    pub fn run(self, output: &Output) -> anyhow::Result<ExitCode> {
        let (catalog, _, _) = sheaf_connectors::catalog::<&str, &[u8]>(&[]);
        let documents = schema::documents(&catalog);
        match self.write {
            Some(folder) => write(&folder, &documents)?,
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
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("cannot empty {}", folder.display()))?;
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
