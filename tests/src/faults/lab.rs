//! What every scenario works with: the binaries, a place for data, the seed.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Context;
use sea_orm::{ConnectionTrait, Database, DbBackend, Statement};

use super::report::Versions;
use crate::postgres;

/// The product, and places to hurt it in.
#[derive(Debug, Clone)]
pub struct Lab {
    /// The product's binary.
    pub sheaf: PathBuf,
    /// The same with promises broken on purpose.
    pub faulty: PathBuf,
    /// Where data and ledgers are made.
    pub data_root: PathBuf,
    /// Where all randomness starts.
    pub seed: u64,
}

/// What is tested, on what.
pub async fn versions(sheaf: &Path) -> anyhow::Result<Versions> {
    Ok(Versions {
        sheaf: said(Command::new(sheaf).arg("--version")).with_context(|| sheaf.display().to_string())?,
        commit: said(Command::new("git").args(["rev-parse", "--short", "HEAD"])),
        kernel: std::fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned(),
        sqlite: sqlite_version().await?,
        postgres: postgres::version(),
    })
}

/// What a command printed, if it went well.
pub fn said(command: &mut Command) -> Option<String> {
    let output = command.output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Of the library in this very binary: the lock file gives the product the same.
async fn sqlite_version() -> anyhow::Result<String> {
    let memory = Database::connect("sqlite::memory:").await?;
    let ask = Statement::from_string(DbBackend::Sqlite, "SELECT sqlite_version()");
    let row = memory.query_one_raw(ask).await?.context("SQLite has a version")?;
    Ok(row.try_get_by_index(0)?)
}
