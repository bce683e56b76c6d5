//! A ledger outside the product: lines appended to a file and fsynced in groups, read back to be judged.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    sync::mpsc,
    thread::{self, JoinHandle},
};

use anyhow::Context;
use tokio::sync::oneshot;

/// One line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// A request with this call is about to be sent.
    Sent(i64),
    /// It was answered 200, nanoseconds since 1970.
    Acknowledged(i64, i64),
    /// It was answered with another status, or the connection was never made (status 0).
    Refused(i64, u16),
    /// The connection broke before the answer.
    Unknown(i64),
    /// The call arrived at the receiver, nanoseconds since 1970.
    Delivered(i64, i64),
    /// The power was cut, nanoseconds since 1970: a machine without power answers nobody, so what is answered between this
    /// and the kill that follows counts as unknown.
    Cut(usize, i64),
    /// The product was killed, nanoseconds since 1970.
    Killed(usize, i64),
}

impl Entry {
    fn write(self, to: &mut impl Write) -> io::Result<()> {
        match self {
            Entry::Sent(id) => writeln!(to, "sent {id}"),
            Entry::Acknowledged(id, at_ns) => writeln!(to, "acknowledged {id} {at_ns}"),
            Entry::Refused(id, status) => writeln!(to, "refused {id} {status}"),
            Entry::Unknown(id) => writeln!(to, "unknown {id}"),
            Entry::Delivered(id, at_ns) => writeln!(to, "delivered {id} {at_ns}"),
            Entry::Cut(round, at_ns) => writeln!(to, "cut {round} {at_ns}"),
            Entry::Killed(round, at_ns) => writeln!(to, "killed {round} {at_ns}"),
        }
    }

    fn read(line: &str) -> Option<Entry> {
        let mut words = line.split(' ');
        let kind = words.next()?;
        let first = words.next()?.parse().ok()?;
        let second = words.next().and_then(|word| word.parse::<i64>().ok());
        match kind {
            "sent" => Some(Entry::Sent(first)),
            "acknowledged" => Some(Entry::Acknowledged(first, second?)),
            "refused" => Some(Entry::Refused(first, u16::try_from(second?).ok()?)),
            "unknown" => Some(Entry::Unknown(first)),
            "delivered" => Some(Entry::Delivered(first, second?)),
            "cut" => Some(Entry::Cut(usize::try_from(first).ok()?, second?)),
            "killed" => Some(Entry::Killed(usize::try_from(first).ok()?, second?)),
            _ => None,
        }
    }
}

type Line = (Entry, Option<oneshot::Sender<()>>);

/// A ledger that is being written.
pub struct Ledger {
    lines: mpsc::Sender<Line>,
    writing: JoinHandle<io::Result<()>>,
    file: PathBuf,
}

/// A hand that writes into it.
#[derive(Clone)]
pub struct Pen(mpsc::Sender<Line>);

impl Ledger {
    /// Makes the file.
    pub fn create(file: &Path) -> anyhow::Result<Ledger> {
        let out = File::create(file).with_context(|| file.display().to_string())?;
        let (lines, incoming) = mpsc::channel();
        Ok(Ledger { lines, writing: thread::spawn(move || write_all(out, &incoming)), file: file.to_owned() })
    }

    /// One more writer.
    pub fn pen(&self) -> Pen {
        Pen(self.lines.clone())
    }

    /// Everything written so far, read from the file after its last fsync. Every pen must be gone.
    pub fn close(self) -> anyhow::Result<Vec<Entry>> {
        drop(self.lines);
        self.writing.join().ok().context("the ledger's thread panicked")??;
        read(&self.file)
    }
}

impl Pen {
    /// Writes a line; it is on disk a little later.
    pub fn write(&self, entry: Entry) {
        // A ledger that broke is noticed when it is closed.
        let _ = self.0.send((entry, None));
    }

    /// Writes a line and waits until it is on disk.
    pub async fn write_durably(&self, entry: Entry) {
        let (stored, on_disk) = oneshot::channel();
        // The same.
        let _ = self.0.send((entry, Some(stored)));
        let _ = on_disk.await;
    }
}

/// What a ledger's file holds so far.
pub fn read(file: &Path) -> anyhow::Result<Vec<Entry>> {
    let entry = |line| Entry::read(line).with_context(|| format!("{}: {line:?}", file.display()));
    fs::read_to_string(file)?.lines().map(entry).collect()
}

/// Natural batches: whatever came during the last fsync is one write and one fsync.
fn write_all(out: File, incoming: &mpsc::Receiver<Line>) -> io::Result<()> {
    let mut out = BufWriter::new(out);
    while let Ok(first) = incoming.recv() {
        let mut waiting = Vec::new();
        for (entry, stored) in std::iter::once(first).chain(incoming.try_iter()) {
            entry.write(&mut out)?;
            waiting.extend(stored);
        }
        out.flush()?;
        out.get_ref().sync_data()?;
        for stored in waiting {
            // Whoever waited may be gone.
            let _ = stored.send(());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_written_is_read_back() {
        let directory = tempfile::tempdir().expect("a directory");
        let ledger = Ledger::create(&directory.path().join("ledger")).expect("a ledger");
        let entries = [
            Entry::Sent(5),
            Entry::Acknowledged(5, 99),
            Entry::Refused(6, 503),
            Entry::Unknown(7),
            Entry::Delivered(5, 100),
            Entry::Cut(3, 101),
            Entry::Killed(3, 102),
        ];
        let pen = ledger.pen();
        for entry in entries {
            pen.write(entry);
        }
        pen.write_durably(Entry::Sent(8)).await;
        drop(pen);
        let read = ledger.close().expect("the file");
        assert_eq!(read[..7], entries);
        assert_eq!(read[7..], [Entry::Sent(8)]);
    }
}
