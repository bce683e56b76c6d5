//! When a turn is worth its commit.

use std::time::Duration;

use tokio::{sync::mpsc, time::Instant};

use super::{STANDS_A_POLL, Writer, gathered::Gathered};
use crate::queue::backend::{Backend, PUBLISH_MAX};

/// How long a settle may wait for company.
const LINGER: Duration = Duration::from_millis(5);
/// Settles that are committed without waiting for more.
const SETTLES_ENOUGH: usize = 256;
/// Publishes of a turn that is worth waiting for more: with fewer there is little to do, and who is there would only wait.
pub const MANY: usize = 16;
/// Publishes that are committed without waiting for more.
pub const ENOUGH: usize = 64;
/// How often the writer looks whether more have come. It is not woken for each, which would take what is to be saved.
const LOOKS_MAX: usize = 10;
/// Looks in a row without anybody new, after which nobody is expected: all who call may be waiting for this very turn.
const VAIN_MAX: usize = 3;

impl<B: Backend> Writer<B> {
    /// Waits until a turn is worth its commit. `false` when no handle is left.
    pub async fn gather(&mut self, gathered: &mut Gathered) -> bool {
        loop {
            let open = self.drain(gathered) && self.await_company(gathered);
            if !open || !gathered.is_empty() || self.due() {
                return open;
            }
            self.wait(gathered).await;
        }
    }

    /// Takes everything that has arrived, settles last: those sent before a flush belong to it.
    fn drain(&mut self, gathered: &mut Gathered) -> bool {
        let mut open = true;
        while gathered.publishes.len() < PUBLISH_MAX && gathered.stop.is_none() {
            match self.ends.commands.try_recv() {
                Ok(command) => gathered.take(command),
                Err(mpsc::error::TryRecvError::Empty) => break,
                Err(mpsc::error::TryRecvError::Disconnected) => {
                    open = false;
                    break;
                }
            }
        }
        self.drain_ended();
        open
    }

    /// Waits for more publishes where there are many already. `false` when no handle is left.
    fn await_company(&mut self, gathered: &mut Gathered) -> bool {
        let (mut open, mut vain) = (true, 0);
        let looks = if B::LOOK_AWAY.is_zero() { 0 } else { LOOKS_MAX };
        for _ in 0..looks {
            if !open || vain == VAIN_MAX || !wants_company(gathered) {
                break;
            }
            let before = gathered.publishes.len();
            std::thread::sleep(B::LOOK_AWAY);
            open = self.drain(gathered);
            vain = if gathered.publishes.len() > before { 0 } else { vain + 1 };
        }
        open
    }

    pub fn drain_ended(&mut self) {
        while let Ok(ended) = self.ends.ended.try_recv() {
            self.take_ended(ended);
        }
    }

    async fn wait(&mut self, gathered: &mut Gathered) {
        let linger = self.ripe_at();
        let wake_ms = if self.refused_until.is_some() { i64::MAX } else { self.wake_ms() };
        tokio::select! {
            command = self.ends.commands.recv() => if let Some(command) = command { gathered.take(command) },
            Some(ended) = self.ends.ended.recv() => self.take_ended(ended),
            () = self.clock.sleep_until_ms(wake_ms) => {}
            () = self.hint.notified() => self.look_everywhere(),
            () = async { match linger {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            } } => {}
        }
    }

    /// What another process made due may be ready, or wait with the runs of its bundle.
    fn look_everywhere(&mut self) {
        self.soonest_due_ms = i64::MIN;
        if self.gates.has_shares() && self.gates.stands() < STANDS_A_POLL {
            (self.gates_ms, self.stands_ms) = (i64::MIN, i64::MIN);
        }
    }

    /// When a turn is due by the machine's own time: settles that waited long enough, or a retry after a refusal.
    fn ripe_at(&self) -> Option<Instant> {
        match (self.refused_until, self.settles_ripen_at()) {
            (Some(until), _) => Some(until),
            (None, ripe) => ripe,
        }
    }

    /// Settles wait for company up to [`LINGER`], but not when nothing else is in flight that could join them, nor when the
    /// next of a key may wait for one of them: its runs would be so much apart.
    fn settles_ripen_at(&self) -> Option<Instant> {
        let since = self.settles_since?;
        let alone = self.held.is_empty() || self.settles.len() >= SETTLES_ENOUGH;
        Some(if alone || self.settles_awaited { since } else { since + LINGER })
    }

    fn due(&self) -> bool {
        let ripe = self.ripe_at().is_some_and(|at| at <= Instant::now());
        ripe || (self.refused_until.is_none() && self.wake_ms() <= self.clock.now_ms())
    }

    /// When the database is to be asked again: something is due and there is room for it, or it is time to look.
    fn wake_ms(&self) -> i64 {
        let due_ms = if self.free_slots() > 0 { self.ready_ms().min(self.poll_ms) } else { i64::MAX };
        due_ms.min(self.extend_ms)
    }

    /// When a run is due, behind a gate or not.
    fn ready_ms(&self) -> i64 {
        self.soonest_due_ms.min(self.gates.wake_ms(self.clock.now_ms()))
    }

    pub fn free_slots(&self) -> usize {
        let hands_out = self.limits_known && !self.ends.stopping && !self.ends.claims.is_closed();
        if hands_out { self.slots.saturating_sub(self.held.len()) } else { 0 }
    }
}

/// Whether more publishes would make a turn the better.
fn wants_company(gathered: &Gathered) -> bool {
    gathered.stop.is_none() && (MANY..ENOUGH).contains(&gathered.publishes.len())
}
