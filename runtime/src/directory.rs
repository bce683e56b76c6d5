//! A directory of integrations on disk: read whole, then compiled by pure code.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use sheaf_bundles::{
    compile::{ALERTS_FILE, Integration},
    diagnostic::{Diagnostics, Sources, render},
    words::Language,
};

/// The most files a directory of integrations may hold.
pub const FILES_MAX: usize = 20_000;
/// The folders that are read, with the file names in them that count; `None` for every YAML file.
const FOLDERS: [(&str, Option<&str>); 3] =
    [("connections", None), ("bundles", None), ("connectors", Some("connector.yaml"))];

/// The files of a directory: path below it, bytes. Sorted by path, so that what is compiled from them is stable.
pub type Files = Vec<(String, Vec<u8>)>;

/// What a directory compiles to.
#[derive(Debug)]
pub struct Compiled {
    /// What can run; `None` when there is not even a workspace.
    pub integration: Option<Integration>,
    /// The texts the diagnostics point into.
    pub sources: Sources,
    /// Everything that is wrong.
    pub diagnostics: Diagnostics,
}

impl Compiled {
    /// The diagnostics for a person.
    pub fn text(&self, language: Language, color: bool) -> String {
        render::text(&self.sources, &self.diagnostics, language, color)
    }

    /// What can run, when nothing is wrong.
    pub fn sound(&self) -> Option<&Integration> {
        self.integration.as_ref().filter(|_| !self.diagnostics.has_errors())
    }
}

/// The directory cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// A file or folder cannot be read.
    #[error("cannot read {path}: {error}", path = .path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// Too many files.
    #[error("{path} holds more than {max} files", path = .0.display(), max = FILES_MAX)]
    TooMany(PathBuf),
    /// There is no `sheaf.yaml`.
    #[error("{path} is not a directory of integrations: it has no sheaf.yaml", path = .0.display())]
    NoWorkspace(PathBuf),
}

/// Reads the files that count.
///
/// # Errors
/// A file cannot be read, there are too many, or there is no `sheaf.yaml`.
pub fn read(directory: &Path) -> Result<Files, DirectoryError> {
    let mut files =
        paths(directory)?.iter().map(|path| read_file(directory, path)).collect::<Result<Files, _>>()?;
    files.sort();
    Ok(files)
}

/// The files that count.
///
/// # Errors
/// A folder cannot be listed, there are too many files, or there is no `sheaf.yaml`.
pub fn paths(directory: &Path) -> Result<Vec<PathBuf>, DirectoryError> {
    let workspace = directory.join("sheaf.yaml");
    if !workspace.is_file() {
        return Err(DirectoryError::NoWorkspace(directory.to_owned()));
    }
    let mut paths = vec![workspace];
    paths.extend(Some(directory.join(ALERTS_FILE)).filter(|path| path.is_file()));
    for (folder, only) in FOLDERS {
        collect(&directory.join(folder), only, &mut paths)?;
    }
    if paths.len() > FILES_MAX {
        return Err(DirectoryError::TooMany(directory.to_owned()));
    }
    Ok(paths)
}

/// Compiles files against the built-in connectors and those among the files.
pub fn compile(files: &[(String, Vec<u8>)]) -> Compiled {
    let (integration, sources, diagnostics) = sheaf_connectors::compile(files);
    Compiled { integration, sources, diagnostics }
}

fn collect(folder: &Path, only: Option<&str>, paths: &mut Vec<PathBuf>) -> Result<(), DirectoryError> {
    if !folder.is_dir() || paths.len() > FILES_MAX {
        return Ok(());
    }
    let failed = |error| DirectoryError::Read { path: folder.to_owned(), error };
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let path = entry.path();
        // Of an editor: what it is in the middle of writing, or a lock that leads nowhere.
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        if path.is_dir() {
            collect(&path, only, paths)?;
        } else if counts(&path, only) {
            paths.push(path);
        }
    }
    Ok(())
}

fn counts(path: &Path, only: Option<&str>) -> bool {
    match only {
        Some(name) => path.file_name().is_some_and(|file| file == name),
        None => path.extension().is_some_and(|ending| ending == "yaml" || ending == "yml"),
    }
}

fn read_file(directory: &Path, path: &Path) -> Result<(String, Vec<u8>), DirectoryError> {
    let bytes = fs::read(path).map_err(|error| DirectoryError::Read { path: path.to_owned(), error })?;
    let below = path.strip_prefix(directory).unwrap_or(path);
    Ok((below.to_string_lossy().replace('\\', "/"), bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(files: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            let path = folder.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, *file).unwrap();
        }
        folder
    }

    #[test]
    fn only_files_that_mean_something_are_read_in_a_stable_order() {
        let folder = directory(&[
            "sheaf.yaml",
            "bundles/b.yaml",
            "bundles/a/a.yml",
            "bundles/notes.txt",
            "bundles/.b.yaml.swp.yaml",
            "connections/.old/c.yaml",
            "connections/c.yaml",
            "connectors/acme/connector.yaml",
            "connectors/acme/tests/case.yaml",
            "events/e.json",
        ]);
        std::os::unix::fs::symlink("me@here.4711", folder.path().join("bundles/.#b.yaml")).unwrap();
        let paths: Vec<String> = read(folder.path()).unwrap().into_iter().map(|(path, _)| path).collect();
        assert_eq!(
            paths,
            [
                "bundles/a/a.yml",
                "bundles/b.yaml",
                "connections/c.yaml",
                "connectors/acme/connector.yaml",
                "sheaf.yaml"
            ]
        );
    }

    #[test]
    fn a_directory_without_a_workspace_is_refused_in_words() {
        let folder = directory(&["bundles/b.yaml"]);
        let error = read(folder.path()).unwrap_err().to_string();
        assert!(error.ends_with("it has no sheaf.yaml"), "{error}");
    }
}
