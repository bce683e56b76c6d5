//! Messages on their way: each goes to every channel at least once, with a few attempts, and never in anybody's way.
//!
//! A letter that is taken for sending is due again later by itself. So a process that dies while it sends, or another
//! node that sees the same state, sends it again after that time and not before.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    audience::{Audience, may_hear},
    decide::State,
    message::{Finding, Message, Phase},
};
use crate::workspace;

/// How long one attempt may take before the letter is due again by itself, milliseconds; above every channel's own limit.
pub const ATTEMPT_MS: i64 = 60_000;
/// Pauses after failed attempts, milliseconds; after the last one the letter is given up.
pub const PAUSES_MS: [i64; 7] = [10_000, 30_000, 60_000, 300_000, 900_000, 1_800_000, 3_600_000];
/// Letters sent at one look, dealt evenly among the workspaces that have some.
pub const LETTERS_AT_ONCE_MAX: usize = 32;

/// A channel, or a letter to it, is forgotten when no node's files have named the channel for so long, milliseconds: one
/// day. Until then a node with other files, or with none that can be read, takes nothing away from the others.
pub const UNNAMED_MS_MAX: i64 = 24 * 3_600_000;
/// How exactly it is remembered when a channel was last named, milliseconds: each note of it is a write.
const NAMED_EVERY_MS: i64 = 3_600_000;

/// A channel that some node's files name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Known {
    name: String,
    /// When it was last named, unix milliseconds.
    named_ms: i64,
}

/// One message on its way to one channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Letter {
    /// The channel's name.
    pub channel: String,
    /// What is told.
    pub message: Message,
    /// Attempts begun.
    pub attempts: usize,
    /// When the next attempt is due, unix milliseconds.
    pub next_ms: i64,
    /// An attempt has failed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub failed: bool,
}

/// What became of a letter after an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It arrived.
    Arrived,
    /// It will be tried again.
    Again,
    /// It is given up.
    GivenUp,
    /// It is not waited for any more: newer news took its place.
    Outdated,
}

impl Letter {
    fn new(channel: &str, message: &Message, now_ms: i64) -> Letter {
        let (channel, message) = (channel.to_owned(), message.clone());
        Letter { channel, message, attempts: 0, next_ms: now_ms, failed: false }
    }
}

/// About the same thing.
fn same(one: &Finding, other: &Finding) -> bool {
    one.kind == other.kind && one.subject == other.subject
}

/// The places of letters: the first of each workspace, then the second of each. Of those the one that is due for longest.
fn in_turn<'l>(due: impl Iterator<Item = (usize, &'l Letter)>) -> Vec<usize> {
    let mut taken: BTreeMap<&str, usize> = BTreeMap::new();
    let mut turns: Vec<(usize, i64, usize)> = Vec::new();
    for (place, letter) in due {
        let before = taken.entry(workspace::of(&letter.channel)).or_default();
        turns.push((*before, letter.next_ms, place));
        *before += 1;
    }
    turns.sort_unstable();
    turns.into_iter().map(|(_, _, place)| place).collect()
}

impl State {
    /// Who is told now: those whom our files name, else whom other nodes have named lately.
    pub fn audience(&self, channels: &[String]) -> Audience {
        let lately = self.known.iter().map(|known| &known.name);
        if channels.is_empty() { Audience::of(lately) } else { Audience::of(channels) }
    }

    /// Puts messages on their way to these channels, and to those that other nodes have named lately, each to those that hear
    /// of it. News about a thing takes the place of older news about it that has not arrived, so what waits is bounded by the
    /// things that are told. A channel that is new hears of all that is open.
    pub fn post(&mut self, messages: &[Message], channels: &[String], now_ms: i64) {
        let new = self.know(channels, now_ms);
        let (ours, all) = (Audience::of(channels), Audience::of(self.known.iter().map(|known| &known.name)));
        // Whether another node's files still name its channels is not known: none of ours hears less for it.
        let hears = |channel: &String, finding: &Finding| {
            let audience = if channels.contains(channel) { &ours } else { &all };
            audience.hears(channel, finding)
        };
        for message in messages {
            self.letters.retain(|letter| !same(&letter.message.finding, &message.finding));
            let hearers = self.known.iter().filter(|known| hears(&known.name, &message.finding));
            self.letters.extend(hearers.map(|known| Letter::new(&known.name, message, now_ms)));
        }
        let told = |open: &Finding| messages.iter().any(|message| same(&message.finding, open));
        let open: Vec<Finding> = self.open_for_each().filter(|open| !told(open)).cloned().collect();
        for finding in open {
            let hearers: Vec<&&String> = new.iter().filter(|channel| hears(channel, &finding)).collect();
            if !hearers.is_empty() {
                let message = self.message(Phase::Opened, finding.clone(), now_ms);
                self.letters
                    .extend(hearers.into_iter().map(|channel| Letter::new(channel, &message, now_ms)));
            }
        }
    }

    /// Remembers that these channels are named now; those that were not known.
    fn know<'a>(&mut self, channels: &'a [String], now_ms: i64) -> Vec<&'a String> {
        let mut new = Vec::new();
        for channel in channels {
            match self.known.iter_mut().find(|known| known.name == *channel) {
                Some(known) if (0..NAMED_EVERY_MS).contains(&(now_ms - known.named_ms)) => {}
                Some(known) => known.named_ms = now_ms,
                None => {
                    self.known.push(Known { name: channel.clone(), named_ms: now_ms });
                    new.push(channel);
                }
            }
        }
        self.known.retain(|known| now_ms - known.named_ms < UNNAMED_MS_MAX);
        new
    }

    /// Takes the letters to these channels that are due. Those to other channels are for the nodes that name them.
    pub fn take(&mut self, channels: &[String], now_ms: i64) -> Vec<Letter> {
        let named = |letter: &Letter| channels.contains(&letter.channel);
        self.letters.retain(|letter| {
            (named(letter) || now_ms - letter.message.at_ms < UNNAMED_MS_MAX)
                && may_hear(&letter.channel, &letter.message.finding)
        });
        let due = self.letters.iter().enumerate();
        let due = in_turn(due.filter(|(_, letter)| letter.next_ms <= now_ms && named(letter)));
        let take = |place: usize| {
            let letter = &mut self.letters[place];
            letter.attempts += 1;
            letter.next_ms = now_ms + ATTEMPT_MS;
            letter.clone()
        };
        due.into_iter().take(LETTERS_AT_ONCE_MAX).map(take).collect()
    }

    /// Notes how an attempt ended.
    pub fn attempted(&mut self, letter: &Letter, arrived: bool, now_ms: i64) -> Fate {
        let same = |other: &Letter| other.channel == letter.channel && other.message.id == letter.message.id;
        let Some(place) = self.letters.iter().position(same) else { return Fate::Outdated };
        match PAUSES_MS.get(letter.attempts.saturating_sub(1)) {
            Some(pause_ms) if !arrived => {
                self.letters[place].next_ms = now_ms + pause_ms;
                self.letters[place].failed = true;
                Fate::Again
            }
            _ => {
                self.letters.remove(place);
                if arrived { Fate::Arrived } else { Fate::GivenUp }
            }
        }
    }

    /// Letters that have not arrived.
    pub fn letters(&self) -> &[Letter] {
        &self.letters
    }
}
