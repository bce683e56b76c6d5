//! A directory of integrations on disk: its workspaces are listed and read, then compiled by pure code.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use sheaf_bundles::{
    compile::{ALERTS_FILE, Integration, WORKSPACE_FILE},
    diagnostic::{Diagnostic, Diagnostics, Sources, code::Code, render},
    words::{Language, Words},
    workspace,
    yaml::Span,
};
use sheaf_connectors::Compiler;

/// The most files a directory of integrations may hold, over all its workspaces.
pub const FILES_MAX: usize = 20_000;
/// The most workspaces below `workspaces/`.
pub const WORKSPACES_MAX: usize = 1_000;
/// The folders that are read, with the file names in them that count; `None` for every YAML file.
const FOLDERS: [(&str, Option<&str>); 3] =
    [("connections", None), ("bundles", None), ("connectors", Some("connector.yaml"))];

/// The files of a workspace: path from the directory, bytes. Sorted by path, so that what is compiled from them is stable.
pub type Files = Vec<(String, Vec<u8>)>;

/// A workspace and where its files are, or why they cannot be listed.
type Found = (String, Result<Vec<PathBuf>, DirectoryError>);

/// A workspace as it was read.
#[derive(Debug)]
pub struct Read {
    /// See [`Integration::key`].
    pub key: String,
    /// Its files; why not, when one cannot be read: the others' can.
    pub files: Result<Files, DirectoryError>,
}

/// What a directory compiles to.
#[derive(Debug)]
pub struct Compiled {
    /// Its workspaces by their keys, the directory's own first.
    pub workspaces: Vec<Workspace>,
    /// The texts the diagnostics point into.
    pub sources: Sources,
}

/// What a workspace compiles to.
#[derive(Debug)]
pub struct Workspace {
    /// See [`Integration::key`].
    pub key: String,
    /// What can run; `None` when there is not even a workspace file.
    pub integration: Option<Integration>,
    /// Everything that is wrong.
    pub diagnostics: Diagnostics,
}

impl Workspace {
    /// What can run, when nothing is wrong.
    pub fn sound(&self) -> Option<&Integration> {
        self.integration.as_ref().filter(|_| !self.diagnostics.has_errors())
    }
}

impl Compiled {
    /// The diagnostics of all workspaces for a person.
    pub fn text(&self, language: Language, color: bool) -> String {
        self.workspaces.iter().map(|own| self.text_of(own, language, color)).collect()
    }

    /// The diagnostics of one workspace for a person.
    pub fn text_of(&self, workspace: &Workspace, language: Language, color: bool) -> String {
        render::text(&self.sources, &workspace.diagnostics, language, color)
    }

    /// Whether nothing is wrong with any workspace.
    pub fn is_sound(&self) -> bool {
        self.workspaces.iter().all(|workspace| workspace.sound().is_some())
    }

    /// What can run of each workspace, also of one with errors.
    pub fn integrations(&self) -> impl Iterator<Item = &Integration> {
        self.workspaces.iter().filter_map(|workspace| workspace.integration.as_ref())
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
    /// Too many workspaces.
    #[error("{path} holds more than {max} workspaces", path = .0.display(), max = WORKSPACES_MAX)]
    TooManyWorkspaces(PathBuf),
    /// There is no `sheaf.yaml`, and there are no workspaces.
    #[error("{path} is not a directory of integrations: it has no sheaf.yaml", path = .0.display())]
    NoWorkspace(PathBuf),
}

/// Reads the files that count, workspace by workspace.
///
/// # Errors
/// There are too many files or workspaces, or none.
pub fn read(directory: &Path) -> Result<Vec<Read>, DirectoryError> {
    let read = |(key, paths): Found| Read { key, files: paths.and_then(|paths| read_all(directory, &paths)) };
    Ok(workspaces(directory)?.into_iter().map(read).collect())
}

/// The files that count, and the folders of workspaces.
///
/// # Errors
/// As [`read`].
pub fn paths(directory: &Path) -> Result<Vec<PathBuf>, DirectoryError> {
    let all = workspaces(directory)?.into_iter();
    Ok(all
        .flat_map(|(key, files)| [folder(directory, &key)].into_iter().chain(files.unwrap_or_default()))
        .collect())
}

/// Compiles workspaces, each against the built-in connectors and its own.
pub fn compile(read: &[Read]) -> Compiled {
    let mut compiler = Compiler::new();
    let mut compile = |own: &Read| {
        let (integration, diagnostics) = match &own.files {
            Ok(files) => compiler.compile(&own.key, files),
            Err(error) => (None, unreadable(&own.key, error, &mut compiler.sources)),
        };
        Workspace { key: own.key.clone(), integration, diagnostics }
    };
    let workspaces = read.iter().map(&mut compile).collect();
    Compiled { workspaces, sources: compiler.sources }
}

fn unreadable(key: &str, error: &DirectoryError, sources: &mut Sources) -> Diagnostics {
    let mut out = Diagnostics::default();
    let span = Span { file: sources.add(workspace::path(key, WORKSPACE_FILE), ""), start: 0, end: 0 };
    let message = Words::new(
        format!("the workspace cannot be read: {error}"),
        format!("рабочее пространство не читается: {error}"),
    );
    let hint = Words::new(
        "all its files must be there for the server to read",
        "все его файлы должны быть доступны серверу",
    );
    out.push(Diagnostic::error(Code::BadWorkspace, span, message).with_hint(hint));
    out
}

/// The one place that knows what workspaces a directory holds: its own, when anything of one is there, and each folder below
/// `workspaces/`, ordered by key.
fn workspaces(directory: &Path) -> Result<Vec<Found>, DirectoryError> {
    let mut keys = keys(&directory.join(workspace::FOLDER))?;
    if keys.is_empty() && !directory.join(WORKSPACE_FILE).is_file() {
        return Err(DirectoryError::NoWorkspace(directory.to_owned()));
    }
    keys.insert(0, String::new());
    let look = |key: String| (key.clone(), files(&folder(directory, &key)));
    let found: Vec<Found> = keys.into_iter().map(look).filter(is_there).collect();
    let count: usize = found.iter().flat_map(|(_, files)| files).map(Vec::len).sum();
    if count > FILES_MAX {
        return Err(DirectoryError::TooMany(directory.to_owned()));
    }
    Ok(found)
}

/// The directory itself need not be a workspace.
fn is_there((key, files): &Found) -> bool {
    !key.is_empty() || !matches!(files, Ok(files) if files.is_empty())
}

fn keys(folder: &Path) -> Result<Vec<String>, DirectoryError> {
    let mut keys = Vec::new();
    if fs::symlink_metadata(folder).is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
        return Ok(keys);
    }
    let failed = |error| DirectoryError::Read { path: folder.to_owned(), error };
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        // What cannot be looked at, or leads nowhere just now, is a workspace that cannot be read, and not one that is gone.
        let is_file = fs::metadata(entry.path()).is_ok_and(|found| !found.is_dir());
        if !is_hidden(&entry) && !is_file {
            keys.push(entry.file_name().to_string_lossy().into_owned());
        }
        if keys.len() > WORKSPACES_MAX {
            return Err(DirectoryError::TooManyWorkspaces(folder.to_owned()));
        }
    }
    keys.sort();
    Ok(keys)
}

/// Where a workspace's files are.
fn folder(directory: &Path, key: &str) -> PathBuf {
    directory.join(workspace::path(key, ""))
}

/// The files of one workspace that count.
fn files(workspace: &Path) -> Result<Vec<PathBuf>, DirectoryError> {
    let single = [WORKSPACE_FILE, ALERTS_FILE].map(|file| workspace.join(file));
    let mut paths: Vec<PathBuf> = single.into_iter().filter(|path| path.is_file()).collect();
    for (folder, only) in FOLDERS {
        collect(&workspace.join(folder), only, &mut paths)?;
    }
    Ok(paths)
}

fn collect(folder: &Path, only: Option<&str>, paths: &mut Vec<PathBuf>) -> Result<(), DirectoryError> {
    if !folder.is_dir() || paths.len() > FILES_MAX {
        return Ok(());
    }
    let failed = |error| DirectoryError::Read { path: folder.to_owned(), error };
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let path = entry.path();
        if is_hidden(&entry) {
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

/// Of an editor: what it is in the middle of writing, or a lock that leads nowhere.
fn is_hidden(entry: &fs::DirEntry) -> bool {
    entry.file_name().as_encoded_bytes().starts_with(b".")
}

fn counts(path: &Path, only: Option<&str>) -> bool {
    match only {
        Some(name) => path.file_name().is_some_and(|file| file == name),
        None => path.extension().is_some_and(|ending| ending == "yaml" || ending == "yml"),
    }
}

fn read_all(directory: &Path, paths: &[PathBuf]) -> Result<Files, DirectoryError> {
    let mut files = paths.iter().map(|path| read_file(directory, path)).collect::<Result<Files, _>>()?;
    files.sort();
    Ok(files)
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
        let read = read(folder.path()).unwrap();
        assert_eq!(
            paths_of(&read[0]),
            [
                "bundles/a/a.yml",
                "bundles/b.yaml",
                "connections/c.yaml",
                "connectors/acme/connector.yaml",
                "sheaf.yaml"
            ]
        );
    }

    fn paths_of(read: &Read) -> Vec<&str> {
        read.files.as_ref().unwrap().iter().map(|(path, _)| path.as_str()).collect()
    }

    #[test]
    fn workspaces_are_the_directory_itself_when_anything_of_one_is_there_and_the_folders_below_its_own() {
        let folder = directory(&[
            "workspaces/shop/sheaf.yaml",
            "workspaces/shop/bundles/b.yaml",
            "workspaces/shop/workspaces/inner/sheaf.yaml",
            "workspaces/depot/notes.txt",
            "workspaces/.git/sheaf.yaml",
            "workspaces/README.md",
        ]);
        let found = read(folder.path()).unwrap();
        let keys: Vec<&str> = found.iter().map(|read| read.key.as_str()).collect();
        assert_eq!(keys, ["depot", "shop"]);
        assert!(paths_of(&found[0]).is_empty());
        assert_eq!(paths_of(&found[1]), ["workspaces/shop/bundles/b.yaml", "workspaces/shop/sheaf.yaml"]);
        fs::write(folder.path().join("alerts.yaml"), "").unwrap();
        let found = read(folder.path()).unwrap();
        assert_eq!((found[0].key.as_str(), paths_of(&found[0])), ("", vec!["alerts.yaml"]));
    }

    #[test]
    fn what_cannot_be_read_is_its_workspaces_mistake_and_no_others() {
        let workspace = "kind: workspace\nname: NAME\ntime_zone: UTC\n";
        let folder = directory(&["workspaces/shop/sheaf.yaml", "workspaces/depot/bundles/b.yaml"]);
        fs::write(folder.path().join("workspaces/shop/sheaf.yaml"), workspace.replace("NAME", "shop"))
            .unwrap();
        let nowhere = folder.path().join("workspaces/depot/bundles/c.yaml");
        std::os::unix::fs::symlink("nowhere", nowhere).unwrap();
        // What is mounted later is no workspace that is gone.
        std::os::unix::fs::symlink("/nowhere/yet", folder.path().join("workspaces/away")).unwrap();
        let compiled = compile(&read(folder.path()).unwrap());
        let sound =
            compiled.workspaces.iter().map(|workspace| (workspace.key.as_str(), workspace.sound().is_some()));
        assert_eq!(sound.collect::<Vec<_>>(), [("away", false), ("depot", false), ("shop", true)]);
        let said = compiled.text(Language::En, false);
        assert!(said.contains("depot/bundles/c.yaml: No such file"), "{said}");
    }

    #[test]
    fn a_directory_without_a_workspace_is_refused_in_words() {
        let folder = directory(&["bundles/b.yaml"]);
        let error = read(folder.path()).unwrap_err().to_string();
        assert!(error.ends_with("it has no sheaf.yaml"), "{error}");
    }
}
