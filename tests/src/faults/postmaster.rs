//! The processes of a PostgreSQL server: killed or stopped all at once, which it has no command for.

use std::{fs, io, time::Duration};

use rustix::process::{Pid, Signal, kill_process};

use crate::postgres::Server;

/// How often it is looked whether killed processes are gone.
const GONE_EVERY: Duration = Duration::from_millis(5);

/// SIGKILL for it and each of its processes: not one of them can do anything more.
pub fn kill_hard(server: &Server) -> io::Result<()> {
    let processes = stopped(server)?;
    for process in &processes {
        // One that ended meanwhile is as good as killed.
        let _ = kill_process(*process, Signal::KILL);
    }
    while processes.iter().any(|process| is_alive(*process)) {
        std::thread::sleep(GONE_EVERY);
    }
    // Whoever inherited the killed ones may not have noticed, and the next server would think that they are alive.
    fs::remove_file(server.data().join("postmaster.pid"))
}

/// Has each of its processes stand still; they go on by [`go_on`].
pub fn stand_still(server: &Server) -> io::Result<()> {
    stopped(server).map(drop)
}

/// See above.
pub fn go_on(server: &Server) -> io::Result<()> {
    let (first, rest) = processes(server)?;
    for process in rest.into_iter().chain([first]) {
        let _ = kill_process(process, Signal::CONT);
    }
    Ok(())
}

/// All its processes, stopped: the first of them first, so that it makes no more.
fn stopped(server: &Server) -> io::Result<Vec<Pid>> {
    let (first, _) = processes(server)?;
    kill_process(first, Signal::STOP)?;
    let (first, mut processes) = processes(server)?;
    for process in &processes {
        let _ = kill_process(*process, Signal::STOP);
    }
    processes.push(first);
    Ok(processes)
}

/// The process that made all others, and the others.
fn processes(server: &Server) -> io::Result<(Pid, Vec<Pid>)> {
    let text = fs::read_to_string(server.data().join("postmaster.pid"))?;
    let first = text.lines().next().and_then(|line| line.trim().parse().ok()).and_then(Pid::from_raw);
    let first = first.ok_or_else(|| io::Error::other("postmaster.pid names no process"))?;
    let all = fs::read_dir("/proc")?.flatten();
    let all = all.filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?));
    let own = first.as_raw_nonzero().to_string();
    let rest = all.filter(|process| state_and_parent(*process).is_some_and(|(_, parent)| parent == own));
    Ok((first, rest.collect()))
}

/// A process's state letter and its parent.
fn state_and_parent(process: Pid) -> Option<(String, String)> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", process.as_raw_nonzero())).ok()?;
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace().map(str::to_owned);
    Some((fields.next()?, fields.next()?))
}

fn is_alive(process: Pid) -> bool {
    state_and_parent(process).is_some_and(|(state, _)| !["Z", "X"].contains(&state.as_str()))
}
