//! A wall clock of its own for a process, by libfaketime; the monotonic clock stays true.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Where Debian keeps libraries of one architecture.
const LIBRARIES: &str = "/usr/lib";
/// The library below that, for processes with threads.
const LIBRARY: &str = "faketime/libfaketimeMT.so.1";

fn library() -> Option<PathBuf> {
    let folders = fs::read_dir(LIBRARIES).ok()?.filter_map(Result::ok);
    folders.map(|folder| folder.path().join(LIBRARY)).find(|file| file.exists())
}

/// Why it cannot be used; `None` when it can.
pub fn missing() -> Option<String> {
    library().is_none().then(|| "libfaketime is not installed: apt-get install faketime".to_owned())
}

/// The settings of a process whose clock is what the file says.
pub fn settings(clock: &Path) -> Vec<(String, String)> {
    let library = library().unwrap_or_default();
    [
        ("LD_PRELOAD", library.display().to_string()),
        ("FAKETIME_TIMESTAMP_FILE", clock.display().to_string()),
        ("FAKETIME_NO_CACHE", "1".to_owned()),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

/// Sets the clock so far from the machine's.
pub fn set(clock: &Path, offset_s: i64) -> anyhow::Result<()> {
    let fresh = clock.with_extension("fresh");
    fs::write(&fresh, format!("{offset_s:+}\n"))?;
    Ok(fs::rename(fresh, clock)?)
}
