//! A file that only takes room: on a full disk it is given up, so that what is in hand can be finished and people can
//! clean up. SQLite cannot even delete without room.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// Its size, bytes: the ends of tens of thousands of runs.
pub const BALLAST_BYTES: u64 = 8 * 1024 * 1024;
/// Room beyond its own that must be there before it is made again, bytes: else it would come and go.
const MARGIN_BYTES: u64 = 8 * 1024 * 1024;
/// How often that is tried.
const RESTORE_EVERY: Duration = Duration::from_secs(1);
/// Written at once, bytes.
const BLOCK_BYTES: usize = 256 * 1024;

/// See above.
#[derive(Debug)]
pub struct Ballast {
    path: PathBuf,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// There was no room for it at the start.
    Absent,
    /// It is there.
    Held,
    /// It was given up; tried last then.
    Spent(Instant),
}

impl Ballast {
    /// The one beside a database, as the last process left it.
    pub fn beside(database: &Path) -> Ballast {
        let mut path = PathBuf::from(database).into_os_string();
        path.push(".ballast");
        let path = PathBuf::from(path);
        let there = fs::metadata(&path).is_ok_and(|found| found.len() == BALLAST_BYTES);
        Ballast { path, state: if there { State::Held } else { State::Absent } }
    }

    /// Makes it, if there is room and it was not given up.
    pub fn make(&mut self) {
        if self.state == State::Absent && take(&self.path, 0).is_ok() {
            self.state = State::Held;
        }
    }

    /// Gives it up. `false` when there is none.
    pub fn spend(&mut self) -> bool {
        let spent = self.state == State::Held && fs::remove_file(&self.path).is_ok();
        if spent {
            tracing::warn!(
                "the disk is full: nothing new is taken, what is in hand is finished with the room kept for that"
            );
            self.state = State::Spent(Instant::now());
        }
        spent
    }

    /// Whether it was given up and there is no room to make it again.
    pub fn is_spent(&mut self) -> bool {
        let State::Spent(tried) = self.state else { return false };
        if tried.elapsed() >= RESTORE_EVERY {
            self.state = if take(&self.path, MARGIN_BYTES).is_ok() {
                State::Held
            } else {
                State::Spent(Instant::now())
            };
        }
        self.state != State::Held
    }
}

/// Makes the file, once it is certain that there is this much room beside it.
fn take(path: &Path, margin_bytes: u64) -> io::Result<()> {
    let made = write(path, margin_bytes);
    if made.is_err() {
        // Half of it would be in the way.
        let _ = fs::remove_file(path);
    }
    made
}

fn write(path: &Path, margin_bytes: u64) -> io::Result<()> {
    let (mut file, block) = (File::create(path)?, vec![0; BLOCK_BYTES]);
    for _ in 0..(BALLAST_BYTES + margin_bytes) / BLOCK_BYTES as u64 {
        file.write_all(&block)?;
    }
    file.set_len(BALLAST_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_takes_room_until_it_is_given_up_once() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("sheaf.db");
        let mut ballast = Ballast::beside(&database);
        assert!(!ballast.spend(), "there is none yet");
        ballast.make();
        let file = folder.path().join("sheaf.db.ballast");
        assert_eq!(fs::metadata(&file).unwrap().len(), BALLAST_BYTES);
        let mut next = Ballast::beside(&database);
        assert!(!next.is_spent() && next.spend() && !next.spend() && !file.exists());
        assert!(next.is_spent(), "it is not tried again at once");
        next.make();
        assert!(!file.exists(), "only a look for room brings it back");
        next.state = State::Spent(Instant::now() - RESTORE_EVERY);
        assert!(!next.is_spent() && file.exists());
    }
}
