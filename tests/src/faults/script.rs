//! A fixed script: the same events in the same order, each sent after the answer to the one before.

use std::net::SocketAddr;

use super::{ledger::Entry, rig::Rig};
use crate::{
    clock::unix_ns,
    load::Template,
    process::Process,
    wire::{Client, Message},
};

/// Events of the script.
pub const EVENTS: usize = 50;
/// Every so many events is one that came before: a vendor's repeat.
const REPEAT_EVERY: usize = 10;

/// How far a script came.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Played {
    /// Events answered 200.
    pub acknowledged: usize,
    /// Whether it ended because the product had died.
    pub died: bool,
}

/// Plays so many events of the script, which goes on in the same way after its end, or fewer when the product dies.
pub async fn play(
    rig: &Rig,
    address: SocketAddr,
    path: &str,
    process: &mut Process,
    events: usize,
) -> anyhow::Result<Played> {
    let templates = [true, false].map(|known| Template::call(address, path, known));
    let (pen, mut buffer, mut played, mut last) = (rig.pen(), Vec::new(), Played::default(), 0);
    let Ok(mut client) = Client::connect(address).await else { return Ok(Played { died: true, ..played }) };
    for number in 1..=events {
        let repeats = number % REPEAT_EVERY == 0;
        let id = if repeats { last } else { rig.gauge.next_id() };
        last = id;
        // The two kinds take turns in tens, so that a repeat is the same call.
        templates[(number - 1) / REPEAT_EVERY % 2].fill(id, &mut buffer);
        pen.write(Entry::Sent(id));
        match client.exchange(&buffer).await.as_ref().map(Message::status) {
            Ok(200) => {
                pen.write(Entry::Acknowledged(id, unix_ns()));
                played.acknowledged += 1;
            }
            Ok(status) => pen.write(Entry::Refused(id, status)),
            Err(_) => {
                pen.write(Entry::Unknown(id));
                played.died = true;
                break;
            }
        }
        if process.has_ended()? {
            played.died = true;
            break;
        }
    }
    Ok(played)
}
