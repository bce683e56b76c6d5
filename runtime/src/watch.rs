//! Tells whether the files of a directory changed, by names, sizes and times.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
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
type Stamp = (PathBuf, Option<Content>);

/// Size and times of a file: when it was written, and when that or who may read it changed, in nanoseconds since 1970.
type Content = (u64, i128, i128);

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
            metadata.map(|it| (it.len(), ns(it.mtime(), it.mtime_nsec()), ns(it.ctime(), it.ctime_nsec()))),
        )
    };
    paths.into_iter().map(stamp).collect()
}

fn ns(seconds: i64, nanoseconds: i64) -> i128 {
    i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

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
    fn a_file_that_may_be_read_now_is_another_one() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("sheaf.yaml");
        fs::write(&file, "a").unwrap();
        let mut watch = Watch::new(folder.path());
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        assert_eq!([watch.changed(), watch.changed()], [false, true]);
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
