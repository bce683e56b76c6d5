//! Where requests wait while the shared database cannot commit: files in this node's own directory, fsynced before the answer.
//!
//! A record is its length, its checksum, and the request. Records go to one file at a time; a file is closed when it is long
//! or when somebody wants to read it, and deleted once every request in it is in the database. What a crash left half-written
//! at the end of a file was never answered.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use serde::{Deserialize, Serialize};
use sheaf_bundles::event::Received;
use tokio::sync::{Notify, mpsc, oneshot};

use crate::storage::head;

/// The most that may wait, bytes; past it requests are refused with 503.
pub const SPOOL_BYTES_MAX: u64 = 1024 * 1024 * 1024;
/// A file is closed when it is this long, bytes; it is read whole.
const FILE_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// Requests that may wait for the disk.
const WAITING_MAX: usize = 1_024;
/// Requests in one fsync.
const BATCH_MAX: usize = 256;
/// Length and checksum before each record, bytes.
const HEADER_BYTES: usize = 4 + CHECKSUM_BYTES;
/// The first bytes of a BLAKE3 hash.
const CHECKSUM_BYTES: usize = 16;
/// What the names of the files end with.
const ENDING: &str = "spool";
/// The same of files with more in them than could be read; they are left for a person.
const REST_ENDING: &str = "rest";

/// Where it is, in a node's data directory.
pub const FOLDER: &str = "spool";

/// A request that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spooled {
    /// What makes it one event, however often it is published.
    pub identity: [u64; 2],
    /// Name of the connection it came through.
    pub connection: String,
    /// The request, as it would have been stored.
    pub received: Received,
}

/// Why a request could not be kept. It was not.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// [`SPOOL_BYTES_MAX`] wait already.
    #[error("the spool is full")]
    Full,
    /// The disk refused.
    #[error("the spool cannot be written: {0}")]
    Disk(#[from] io::Error),
    /// The process is stopping.
    #[error("the spool is closed")]
    Closed,
}

/// A handle to the spool; cheap to clone.
#[derive(Debug, Clone)]
pub struct Spool {
    commands: mpsc::Sender<Command>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    folder: PathBuf,
    bytes_max: u64,
    /// On disk, in all files.
    bytes: AtomicU64,
    /// The last append failed.
    failed: AtomicBool,
    /// Something was appended.
    appended: Notify,
}

#[derive(Debug)]
enum Command {
    Append(Vec<u8>, Appended),
    Close(Closed),
}

impl Spool {
    /// Opens the spool in its folder, which is made; what an earlier process left there is waiting.
    ///
    /// # Errors
    /// The folder cannot be made or listed.
    pub fn open(folder: &Path, bytes_max: u64) -> io::Result<Spool> {
        fs::create_dir_all(folder)?;
        let found = files(folder)?;
        let bytes = AtomicU64::new(size(&found)?);
        // A number is never used again while something of that name is left: a later rest would take its place.
        let next = numbers(folder)?.max().map_or(0, |last| last + 1);
        let (folder, failed) = (folder.to_owned(), AtomicBool::new(false));
        let shared = Arc::new(Shared { folder, bytes_max, bytes, failed, appended: Notify::new() });
        if !found.is_empty() {
            shared.appended.notify_one();
        }
        let (commands, receiver) = mpsc::channel(WAITING_MAX);
        let writer = Writer { shared: shared.clone(), next, open: None };
        // A thread of its own: each batch waits for the disk.
        std::thread::Builder::new().name("spool".to_owned()).spawn(move || writer.run(receiver))?;
        Ok(Spool { commands, shared })
    }

    /// Keeps a request; returns after the fsync.
    ///
    /// # Errors
    /// See [`SpoolError`].
    pub async fn keep(&self, spooled: &Spooled) -> Result<(), SpoolError> {
        let (answer, answered) = oneshot::channel();
        let append = Command::Append(encode(spooled), answer);
        self.commands.send(append).await.map_err(|_| SpoolError::Closed)?;
        answered.await.map_err(|_| SpoolError::Closed)?
    }

    /// Returns when something waits, or waited at the last look.
    pub async fn appended(&self) {
        self.shared.appended.notified().await;
    }

    /// Bytes that wait.
    pub fn bytes(&self) -> u64 {
        self.shared.bytes.load(Ordering::Relaxed)
    }

    /// Whether a request that comes now is likely to be kept: there is room, and the last one was.
    pub fn takes(&self) -> bool {
        self.bytes() < self.shared.bytes_max && !self.shared.failed.load(Ordering::Relaxed)
    }

    /// The files with all that waits now, oldest first; nothing is appended to them any more.
    ///
    /// # Errors
    /// The folder cannot be listed.
    pub async fn files(&self) -> io::Result<Vec<PathBuf>> {
        let (answer, answered) = oneshot::channel();
        let gone = |_| io::Error::other("the spool is closed");
        self.commands.send(Command::Close(answer)).await.map_err(|_| gone(()))?;
        answered.await.map_err(|_| gone(()))?
    }

    /// Deletes a file whose requests are all in the database.
    ///
    /// # Errors
    /// It cannot be deleted; its requests will be found to be known when it is read again.
    pub fn delete(&self, file: &Path) -> io::Result<()> {
        let bytes = fs::metadata(file)?.len();
        fs::remove_file(file)?;
        self.shared.bytes.fetch_sub(bytes, Ordering::Relaxed);
        sync_folder(&self.shared.folder)
    }

    /// Puts a file aside that has more in it than could be read; what could be read is in the database.
    ///
    /// # Errors
    /// It cannot be renamed.
    pub fn put_aside(&self, file: &Path) -> io::Result<()> {
        let bytes = fs::metadata(file)?.len();
        fs::rename(file, file.with_extension(REST_ENDING))?;
        self.shared.bytes.fetch_sub(bytes, Ordering::Relaxed);
        sync_folder(&self.shared.folder)
    }
}

/// Bytes that wait in a folder, which another process may have open; 0 when there is none.
///
/// # Errors
/// It cannot be listed.
pub fn waiting_bytes(folder: &Path) -> io::Result<u64> {
    if folder.exists() { size(&files(folder)?) } else { Ok(0) }
}

/// The requests of a file, and whether they are all of it: `false` when there is more that cannot be read. That is the end
/// of a file that a crash cut off, which was never answered, or damage.
///
/// # Errors
/// The file cannot be read.
pub fn read(file: &Path) -> io::Result<(Vec<Spooled>, bool)> {
    let bytes = fs::read(file)?;
    let mut rest = bytes.as_slice();
    let mut found = Vec::new();
    while let Some((spooled, after)) = first(rest) {
        found.push(spooled);
        rest = after;
    }
    Ok((found, rest.is_empty()))
}

/// The first record, and what is behind it.
fn first(bytes: &[u8]) -> Option<(Spooled, &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (sum, rest) = rest.split_first_chunk::<CHECKSUM_BYTES>()?;
    let (record, after) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
    (checksum(record) == *sum).then_some(())?;
    Some((decode(record)?, after))
}

/// Who waits for an append.
type Appended = oneshot::Sender<Result<(), SpoolError>>;
/// Who waits for the files.
type Closed = oneshot::Sender<io::Result<Vec<PathBuf>>>;

/// The side that writes.
struct Writer {
    shared: Arc<Shared>,
    next: u64,
    open: Option<(File, u64)>,
}

impl Writer {
    fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        let mut batch = Vec::new();
        while let Some(command) = commands.blocking_recv() {
            let mut close = self.take(command, &mut batch);
            while close.is_none() && batch.len() < BATCH_MAX {
                let Ok(command) = commands.try_recv() else { break };
                close = self.take(command, &mut batch);
            }
            self.append(std::mem::take(&mut batch));
            if let Some(answer) = close {
                self.open = None;
                // Whoever asked may have gone away.
                let _ = answer.send(files(&self.shared.folder));
            }
        }
    }

    /// Adds an append to the batch; who is to be told of the files when it was the other command.
    fn take(&self, command: Command, batch: &mut Vec<(Vec<u8>, Appended)>) -> Option<Closed> {
        match command {
            Command::Append(record, answer) => batch.push((record, answer)),
            Command::Close(answer) => return Some(answer),
        }
        None
    }

    fn append(&mut self, batch: Vec<(Vec<u8>, Appended)>) {
        let mut room = self.shared.bytes_max.saturating_sub(self.shared.bytes.load(Ordering::Relaxed));
        let (mut records, mut answers) = (Vec::new(), Vec::new());
        for (record, answer) in batch {
            let Some(left) = room.checked_sub(record.len() as u64) else {
                let _ = answer.send(Err(SpoolError::Full));
                continue;
            };
            room = left;
            records.extend_from_slice(&record);
            answers.push(answer);
        }
        if answers.is_empty() {
            return;
        }
        let written = self.write(&records);
        self.shared.failed.store(written.is_err(), Ordering::Relaxed);
        if written.is_ok() {
            self.shared.appended.notify_one();
        } else {
            // What the file holds behind its last fsync is unknown: nothing more is added to it.
            self.open = None;
        }
        for answer in answers {
            let told = written.as_ref().map_err(|error| io::Error::new(error.kind(), error.to_string()));
            let _ = answer.send(told.map(|_| ()).map_err(SpoolError::Disk));
        }
    }

    fn write(&mut self, records: &[u8]) -> io::Result<()> {
        let (mut file, mut length) = match self.open.take() {
            Some(open) => open,
            None => (self.create()?, 0),
        };
        let written = file.write_all(records).and_then(|()| file.sync_data());
        // What a failed write left takes room as well.
        let grown = file.metadata().map_or(records.len() as u64, |now| now.len() - length);
        self.shared.bytes.fetch_add(grown, Ordering::Relaxed);
        written?;
        length += grown;
        if length < FILE_BYTES_MAX {
            self.open = Some((file, length));
        }
        Ok(())
    }

    fn create(&mut self) -> io::Result<File> {
        let path = self.shared.folder.join(format!("{:016}.{ENDING}", self.next));
        self.next += 1;
        let file = File::options().create_new(true).append(true).mode(0o600).open(path)?;
        sync_folder(&self.shared.folder)?;
        Ok(file)
    }
}

/// What a record holds beside the body.
#[derive(Serialize, Deserialize)]
struct Head {
    identity: [u64; 2],
    connection: String,
    received_ms: i64,
    head: String,
}

fn encode(spooled: &Spooled) -> Vec<u8> {
    let head = Head {
        identity: spooled.identity,
        connection: spooled.connection.clone(),
        received_ms: spooled.received.received_ms,
        head: head::write(&spooled.received),
    };
    let head = serde_json::to_vec(&head).expect("texts and numbers are always JSON");
    let body = &spooled.received.body;
    let length = |bytes: usize| u32::try_from(bytes).expect("a request is far below 4 GiB").to_be_bytes();
    let mut record = Vec::with_capacity(HEADER_BYTES + 4 + head.len() + body.len());
    record.extend_from_slice(&[0; HEADER_BYTES]);
    record.extend_from_slice(&length(head.len()));
    record.extend_from_slice(&head);
    record.extend_from_slice(body);
    let (total, sum) = (length(record.len() - HEADER_BYTES), checksum(&record[HEADER_BYTES..]));
    record[..4].copy_from_slice(&total);
    record[4..HEADER_BYTES].copy_from_slice(&sum);
    record
}

fn decode(record: &[u8]) -> Option<Spooled> {
    let (length, rest) = record.split_first_chunk::<4>()?;
    let (head, body) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
    let head: Head = serde_json::from_slice(head).ok()?;
    let received = head::read(&head.head, body.to_vec(), head.received_ms).ok()?;
    Some(Spooled { identity: head.identity, connection: head.connection, received })
}

fn checksum(record: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let mut sum = [0; CHECKSUM_BYTES];
    sum.copy_from_slice(&blake3::hash(record).as_bytes()[..CHECKSUM_BYTES]);
    sum
}

/// The spool's files, oldest first.
fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let paths = fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path()));
    let mut paths: Vec<PathBuf> = paths.collect::<io::Result<_>>()?;
    paths.retain(|path| path.extension().is_some_and(|ending| ending == ENDING));
    paths.sort_unstable();
    Ok(paths)
}

fn size(files: &[PathBuf]) -> io::Result<u64> {
    files.iter().map(|path| fs::metadata(path).map(|file| file.len())).sum()
}

/// The numbers of all files, whatever they end with.
fn numbers(folder: &Path) -> io::Result<impl Iterator<Item = u64>> {
    let paths = fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path()));
    let paths: Vec<PathBuf> = paths.collect::<io::Result<_>>()?;
    Ok(paths.into_iter().filter_map(|path| path.file_stem()?.to_str()?.parse().ok()))
}

/// A new or removed name is on disk only when its folder was fsynced.
fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spooled(number: u64) -> Spooled {
        let received = Received {
            method: "POST".into(),
            query: "a=b".into(),
            headers: vec![("content-type".into(), "text/plain".into())],
            body: vec![0, 255, 10, u8::try_from(number % 256).unwrap()],
            source: "203.0.113.7".parse().ok(),
            received_ms: 1_772_694_930_000,
        };
        Spooled { identity: [number, 7], connection: "calls".to_owned(), received }
    }

    #[tokio::test]
    async fn what_was_kept_is_read_again_by_the_next_process() {
        let folder = tempfile::tempdir().unwrap();
        let spool = Spool::open(folder.path(), SPOOL_BYTES_MAX).unwrap();
        for number in 0..5 {
            spool.keep(&spooled(number)).await.unwrap();
        }
        drop(spool);
        let spool = Spool::open(folder.path(), SPOOL_BYTES_MAX).unwrap();
        spool.appended().await;
        spool.keep(&spooled(5)).await.unwrap();
        let files = spool.files().await.unwrap();
        let found: Vec<Spooled> = files.iter().flat_map(|file| read(file).unwrap().0).collect();
        assert_eq!(found, (0..6).map(spooled).collect::<Vec<_>>());
        for file in &files {
            spool.delete(file).unwrap();
        }
        assert_eq!((spool.files().await.unwrap().len(), spool.bytes()), (0, 0));
    }

    #[tokio::test]
    async fn a_file_cut_off_or_damaged_anywhere_gives_the_records_before_and_says_that_there_is_more() {
        let folder = tempfile::tempdir().unwrap();
        let spool = Spool::open(folder.path(), SPOOL_BYTES_MAX).unwrap();
        for number in 0..3 {
            spool.keep(&spooled(number)).await.unwrap();
        }
        let file = spool.files().await.unwrap().remove(0);
        let whole = fs::read(&file).unwrap();
        let record = whole.len() / 3;
        for cut in 0..whole.len() {
            fs::write(&file, &whole[..cut]).unwrap();
            let (found, all) = read(&file).unwrap();
            assert_eq!((found.len(), all), (cut / record, cut % record == 0), "{cut}");
        }
        for at in record..2 * record {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            fs::write(&file, &damaged).unwrap();
            assert_eq!(read(&file).unwrap(), (vec![spooled(0)], false), "{at}");
        }
        spool.put_aside(&file).unwrap();
        assert_eq!(spool.files().await.unwrap(), Vec::<PathBuf>::new());
        drop(spool);
        let spool = Spool::open(folder.path(), SPOOL_BYTES_MAX).unwrap();
        spool.keep(&spooled(3)).await.unwrap();
        let next = spool.files().await.unwrap().remove(0);
        assert_ne!(next.file_stem(), file.file_stem(), "what was put aside stays");
    }

    #[tokio::test]
    async fn a_full_spool_refuses_and_takes_again_when_there_is_room() {
        let folder = tempfile::tempdir().unwrap();
        let one = encode(&spooled(0)).len() as u64;
        let spool = Spool::open(folder.path(), 2 * one).unwrap();
        spool.keep(&spooled(0)).await.unwrap();
        spool.keep(&spooled(1)).await.unwrap();
        assert!(matches!(spool.keep(&spooled(2)).await, Err(SpoolError::Full)));
        assert!(!spool.takes());
        for file in spool.files().await.unwrap() {
            spool.delete(&file).unwrap();
        }
        spool.keep(&spooled(2)).await.unwrap();
        assert!(spool.takes());
    }

    #[tokio::test]
    async fn after_a_disk_error_it_takes_again_as_soon_as_the_disk_does() {
        let folder = tempfile::tempdir().unwrap();
        let spool = Spool::open(&folder.path().join("spool"), SPOOL_BYTES_MAX).unwrap();
        fs::rename(folder.path().join("spool"), folder.path().join("gone")).unwrap();
        assert!(matches!(spool.keep(&spooled(0)).await, Err(SpoolError::Disk(_))));
        assert!(!spool.takes());
        fs::rename(folder.path().join("gone"), folder.path().join("spool")).unwrap();
        spool.keep(&spooled(1)).await.unwrap();
        assert!(spool.takes());
        let file = spool.files().await.unwrap().remove(0);
        assert_eq!(read(&file).unwrap(), (vec![spooled(1)], true));
        spool.delete(&file).unwrap();
        assert_eq!(spool.bytes(), 0);
    }
}
