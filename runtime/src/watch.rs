//! Tells whether the files of a directory changed, by names, sizes and times.

use std::{
    fs,
    path::{Path, PathBuf},
    time::SystemTime,
};

use crate::directory;

/// Remembers what a directory looked like.
#[derive(Debug)]
pub struct Watch {
    directory: PathBuf,
    /// As it was when a change was last reported.
    reported: Vec<Stamp>,
    /// As it was at the last look.
    last: Vec<Stamp>,
}

/// A file, and what tells one content of it from the next.
type Stamp = (PathBuf, u64, Option<SystemTime>);

impl Watch {
    /// Remembers the directory as it is.
    pub fn new(directory: &Path) -> Watch {
        let now = stamps(directory);
        Watch { reported: now.clone(), last: now, directory: directory.to_owned() }
    }

    /// Whether it changed since the last report, and has stopped changing: two looks in a row agree. So several files being
    /// saved, or a checkout, are taken together and not half-way.
    pub fn changed(&mut self) -> bool {
        let now = stamps(&self.directory);
        let settled = now == self.last;
        self.last = now;
        if !settled || self.last == self.reported {
            return false;
        }
        self.reported.clone_from(&self.last);
        true
    }
}

/// A directory that cannot be listed for a moment (being replaced by a checkout) has no stamps; it is compiled once it has again.
fn stamps(directory: &Path) -> Vec<Stamp> {
    let mut paths = directory::paths(directory).unwrap_or_default();
    paths.sort();
    let stamp = |path: PathBuf| {
        // Of a workspace's folder only whether it is there.
        let metadata = fs::metadata(&path).ok().filter(|metadata| !metadata.is_dir());
        (
            path,
            metadata.as_ref().map_or(0, fs::Metadata::len),
            metadata.and_then(|metadata| metadata.modified().ok()),
        )
    };
    paths.into_iter().map(stamp).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_a_changed_and_a_removed_file_are_each_reported_once_they_stay() {
        let folder = tempfile::tempdir().unwrap();
        let bundles = folder.path().join("bundles");
        fs::create_dir(&bundles).unwrap();
        fs::write(folder.path().join("sheaf.yaml"), "a").unwrap();
        let mut watch = Watch::new(folder.path());
        assert!(!watch.changed());
        fs::write(bundles.join("b.yaml"), "b").unwrap();
        assert!(!watch.changed());
        fs::write(bundles.join("b.yaml"), "longer").unwrap();
        assert!(!watch.changed());
        assert!(watch.changed());
        assert!(!watch.changed());
        fs::remove_file(bundles.join("b.yaml")).unwrap();
        assert!(!watch.changed());
        assert!(watch.changed());
        assert!(!watch.changed());
    }

    #[test]
    fn a_workspaces_folder_is_watched_too() {
        let folder = tempfile::tempdir().unwrap();
        let shop = folder.path().join("workspaces/shop");
        fs::create_dir_all(&shop).unwrap();
        let mut watch = Watch::new(folder.path());
        let mut reported = || [watch.changed(), watch.changed()];
        fs::write(shop.join("notes.txt"), "no file of ours").unwrap();
        assert_eq!(reported(), [false, false]);
        fs::write(shop.join("sheaf.yaml"), "a").unwrap();
        assert_eq!(reported(), [false, true]);
        fs::remove_file(shop.join("sheaf.yaml")).unwrap();
        assert_eq!(reported(), [false, true]);
        fs::remove_dir_all(shop).unwrap();
        assert_eq!(reported(), [false, true]);
    }
}
