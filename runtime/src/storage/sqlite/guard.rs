//! One server process for one database file.

use std::{
    fs::{File, TryLockError},
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::queue::QueueError;

/// Held while this process serves; the kernel releases it with the process, however that ends.
#[derive(Debug)]
pub struct Guard {
    _file: File,
}

/// Takes the database for this process, or says who cannot have it.
pub fn take(database: &Path) -> Result<Guard, QueueError> {
    let mut path = PathBuf::from(database).into_os_string();
    path.push(".lock");
    let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(refused)?;
    match file.try_lock() {
        Ok(()) => Ok(Guard { _file: file }),
        Err(TryLockError::WouldBlock) => Err(QueueError::InUse(database.to_owned())),
        Err(TryLockError::Error(error)) => Err(refused(error)),
    }
}

pub fn refused(error: std::io::Error) -> QueueError {
    QueueError::Storage(Arc::from(error.to_string()))
}
