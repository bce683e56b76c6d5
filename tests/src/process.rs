//! A child process and what Linux says about it.

use std::{
    fs, io,
    process::{Child, ChildStdout, Command, ExitStatus},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

/// Clock ticks a second in `/proc/PID/stat`; the same on every Linux that Rust supports.
const TICKS_PER_SECOND: f64 = 100.0;
/// Fields of `/proc/PID/stat` between the name's `)` and utime.
const FIELDS_BEFORE_UTIME: usize = 11;

/// How often a process that was asked to end is looked at.
const ENDED_EVERY: Duration = Duration::from_millis(5);

/// A process that is killed when dropped.
pub struct Process {
    child: Child,
    over: AtomicBool,
}

/// What a process has used so far.
#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    /// User and system time.
    pub cpu_s: f64,
    /// Bytes it made the storage layer write.
    pub written_bytes: u64,
}

impl Process {
    /// Starts it.
    pub fn start(command: &mut Command) -> io::Result<Process> {
        Ok(Process { child: command.spawn()?, over: AtomicBool::new(false) })
    }

    /// Its number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its standard output, once, when that is a pipe.
    pub fn take_stdout(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill(&mut self) -> io::Result<()> {
        self.over.store(true, Ordering::Relaxed);
        self.child.kill()?;
        self.child.wait().map(drop)
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        let pid = i32::try_from(self.id()).ok().and_then(Pid::from_raw);
        Ok(kill_process(pid.ok_or(io::ErrorKind::InvalidInput)?, signal)?)
    }

    /// SIGTERM, and how it ended; `None` when it has not within that time.
    pub async fn stop(&mut self, within: Duration) -> io::Result<Option<ExitStatus>> {
        let begun = Instant::now();
        self.signal(Signal::TERM)?;
        loop {
            let ended = self.ended()?;
            if ended.is_some() || begun.elapsed() >= within {
                return Ok(ended);
            }
            tokio::time::sleep(ENDED_EVERY).await;
        }
    }

    /// How it ended, once it has.
    pub fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// True once it has ended by itself.
    pub fn has_ended(&mut self) -> io::Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    /// CPU and bytes written.
    pub fn usage(&self) -> io::Result<Usage> {
        usage(&self.id().to_string())
    }

    /// Memory now, and the most it ever was, in KiB.
    pub fn memory_kib(&self) -> io::Result<(u64, u64)> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id()))?;
        Ok((number_after(&status, "VmRSS:"), number_after(&status, "VmHWM:")))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.over.load(Ordering::Relaxed) {
            // Nobody is left to tell.
            let _ = self.kill();
        }
    }
}

/// What this very process has used.
pub fn own_usage() -> io::Result<Usage> {
    usage("self")
}

fn usage(process: &str) -> io::Result<Usage> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    let after_name = stat.rsplit_once(')').map(|(_, rest)| rest).unwrap_or_default();
    let ticks = after_name.split_whitespace().skip(FIELDS_BEFORE_UTIME).take(2);
    let ticks: u64 = ticks.filter_map(|field| field.parse::<u64>().ok()).sum();
    let written = fs::read_to_string(format!("/proc/{process}/io"))?;
    Ok(Usage {
        cpu_s: ticks as f64 / TICKS_PER_SECOND,
        written_bytes: number_after(&written, "\nwrite_bytes:"),
    })
}

fn number_after(text: &str, key: &str) -> u64 {
    let rest = text.split_once(key).map(|(_, rest)| rest).unwrap_or_default();
    rest.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead, BufReader},
        os::unix::process::ExitStatusExt,
        process::Stdio,
    };

    use super::*;

    /// Says when it no longer hears SIGTERM.
    const DEAF: &str = "trap '' TERM; echo deaf; while :; do sleep 0.01; done";

    #[test]
    fn a_process_is_measured_and_killed() {
        let mut process = Process::start(Command::new("sleep").arg("60")).expect("a process");
        let (now_kib, most_kib) = process.memory_kib().expect("memory");
        assert!(most_kib >= now_kib && most_kib > 0);
        assert!(process.usage().expect("usage").cpu_s < 1.0);
        assert!(!process.has_ended().expect("a state"));
        process.kill().expect("it can be killed");
    }

    #[tokio::test]
    async fn a_process_is_asked_to_end_and_given_time() {
        let mut process = Process::start(Command::new("sleep").arg("60")).expect("a process");
        let status = process.stop(Duration::from_secs(10)).await.expect("a state");
        assert_eq!(status.and_then(|it| it.signal()), Some(Signal::TERM.as_raw()));

        let mut deaf = Command::new("sh");
        deaf.args(["-c", DEAF]).stdout(Stdio::piped());
        let mut process = Process::start(&mut deaf).expect("a process");
        BufReader::new(process.take_stdout().expect("a pipe")).read_line(&mut String::new()).expect("a line");
        assert_eq!(process.stop(Duration::from_millis(20)).await.expect("a state"), None);
    }
}
