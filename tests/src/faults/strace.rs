//! Faults at the door to the kernel, by strace.

use std::{collections::BTreeMap, fs, path::Path, process::Command};

use super::lab::said;

/// What a fault does to a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Injection {
    /// The system call.
    pub call: String,
    /// As strace says it: `signal=KILL`, `error=EIO`.
    pub what: &'static str,
    /// Which calls of a thread, as strace says it: `3`, `3+`, `3..5`.
    pub when: String,
}

/// Why it cannot be used; `None` when it can.
pub fn missing() -> Option<String> {
    let there = said(Command::new("strace").arg("--version")).is_some();
    (!there).then(|| "strace is not installed: apt-get install strace".to_owned())
}

/// What stands before a command to have its calls written down, and one of them fail.
pub fn launcher(calls: &[&str], injection: Option<&Injection>, trace: &Path) -> Vec<String> {
    // With -D the command is our own child, and strace looks on from aside: it ends with the command. --seccomp-bpf would
    // be faster, but strace 6.1 then injects no signal.
    let mut line = vec!["strace".to_owned(), "-D".into(), "-f".into(), "-qq".into()];
    line.extend(["-o".to_owned(), trace.display().to_string()]);
    line.extend(["-e".to_owned(), format!("trace={}", calls.join(","))]);
    if let Some(Injection { call, what, when }) = injection {
        line.extend(["-e".to_owned(), format!("inject={call}:{what}:when={when}")]);
    }
    line
}

/// The most calls of one thread, by name: strace counts for each thread by itself.
pub fn counts(trace: &Path) -> anyhow::Result<BTreeMap<String, usize>> {
    let mut by_thread: BTreeMap<(String, String), usize> = BTreeMap::new();
    for line in fs::read_to_string(trace)?.lines() {
        let Some((thread, rest)) = line.split_once(' ') else { continue };
        // An interrupted call has a second line, which begins with `<...`.
        let Some((call, _)) = rest.trim_start().split_once('(') else { continue };
        if call.chars().all(|it| it.is_ascii_alphanumeric() || it == '_') {
            *by_thread.entry((call.to_owned(), thread.to_owned())).or_default() += 1;
        }
    }
    let mut most = BTreeMap::new();
    for ((call, _), count) in by_thread {
        let known: &mut usize = most.entry(call).or_default();
        *known = count.max(*known);
    }
    Ok(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_counted_by_thread_and_a_call_that_was_interrupted_once() {
        let folder = tempfile::tempdir().expect("a directory");
        let file = folder.path().join("trace");
        let text = "7 pwrite64(3, \"a\", 1, 0) = 1\n7 fdatasync(3 <unfinished ...>\n8  pwrite64(3, \"a\", 1, 0) = 1\n\
                    7 <... fdatasync resumed>) = 0\n7 pwrite64(3, \"(\", 1, 0) = 1\n7 +++ killed by SIGKILL +++\n";
        fs::write(&file, text).expect("a file");
        let counts = counts(&file).expect("it is read");
        assert_eq!(
            counts.into_iter().collect::<Vec<_>>(),
            [("fdatasync".to_owned(), 1), ("pwrite64".to_owned(), 2)]
        );
    }
}
