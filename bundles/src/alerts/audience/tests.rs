//! Who is told what, where a server has several workspaces.

use super::*;
use crate::alerts::{
    decide::{OVER_AFTER_MS, Observed, SUBJECTS_MAX, State, decide},
    letters::LETTERS_AT_ONCE_MAX,
    message::{MANY, Message, Phase},
};

const MINUTE_MS: i64 = 60_000;
const REPEAT_MS: i64 = 30 * MINUTE_MS;

/// A server whose directory and workspaces have these channels; the looks of one node.
#[derive(Default)]
struct Server {
    channels: Vec<String>,
    /// Who is told again at another pace, and which, milliseconds.
    pace: Option<(&'static str, i64)>,
    state: State,
}

impl Server {
    fn with(channels: &[&str]) -> Server {
        Server { channels: channels.iter().map(|&name| name.to_owned()).collect(), ..Server::default() }
    }

    /// What each channel is told at one look.
    fn messages(&mut self, now_ms: i64, findings: &[Finding]) -> Vec<(String, Message)> {
        let audience = self.state.audience(&self.channels);
        let findings = audience.addressed(findings.to_vec());
        let repeat_ms = |finding: &Finding| match self.pace {
            Some((key, repeat_ms)) if audience.pacer(finding) == key => repeat_ms,
            _ => REPEAT_MS,
        };
        let observed = Observed { findings, ..Observed::default() };
        let (mut state, messages) = decide(self.state.clone(), &observed, repeat_ms, now_ms);
        state.post(&messages, &self.channels, now_ms);
        let letters = state.take(&self.channels, now_ms);
        for letter in &letters {
            state.attempted(letter, true, now_ms);
        }
        self.state = state;
        letters.into_iter().map(|letter| (letter.channel, letter.message)).collect()
    }

    /// The same as `channel phase kind subject`, in order.
    fn look(&mut self, now_ms: i64, findings: &[Finding]) -> Vec<String> {
        let said = |(channel, message): (String, Message)| {
            let Message { phase, finding, .. } = message;
            format!("{channel} {} {} {}", phase.name(), finding.kind.name(), finding.subject)
        };
        let mut said: Vec<String> = self.messages(now_ms, findings).into_iter().map(said).collect();
        said.sort();
        said
    }
}

fn finding(kind: Kind, subject: &str) -> Finding {
    Finding::new(kind, subject, 1, 0, 0)
}

fn parked(subject: &str) -> Finding {
    finding(Kind::RunParked, subject)
}

#[test]
fn each_hears_of_its_own_things_and_the_directory_of_those_who_have_no_channels() {
    let all = [parked("leads"), parked("shop/leads"), parked("bank/leads"), parked("cafe/leads")];
    let mut server = Server::with(&["webhooks.duty", "shop/webhooks.duty", "bank/emails.owner"]);
    assert_eq!(
        server.look(0, &all),
        [
            "bank/emails.owner opened run_parked bank/leads",
            "shop/webhooks.duty opened run_parked shop/leads",
            "webhooks.duty opened run_parked cafe/leads",
            "webhooks.duty opened run_parked leads",
        ]
    );
    let mut server = Server::with(&["shop/webhooks.duty", "bank/emails.owner"]);
    assert_eq!(
        server.look(0, &all),
        ["bank/emails.owner opened run_parked bank/leads", "shop/webhooks.duty opened run_parked shop/leads"]
    );
    assert_eq!(server.state.open().count(), 4, "what nobody is told of is known all the same");
    assert_eq!(Server::with(&["emails.ops"]).look(0, &all).len(), 4);
}

#[test]
fn a_thing_of_the_server_is_told_by_the_directory_or_by_every_workspace_that_can() {
    let all = [finding(Kind::QueueFailing, ""), finding(Kind::SnapshotOld, "")];
    let mut server = Server::with(&["webhooks.duty", "shop/webhooks.duty"]);
    let told = ["webhooks.duty opened queue_failing ", "webhooks.duty opened snapshot_old "];
    assert_eq!(server.look(0, &all), told);
    let mut server = Server::with(&["shop/webhooks.duty", "bank/emails.owner"]);
    assert_eq!(
        server.look(0, &all),
        [
            "bank/emails.owner opened queue_failing bank/",
            "bank/emails.owner opened snapshot_old bank/",
            "shop/webhooks.duty opened queue_failing shop/",
            "shop/webhooks.duty opened snapshot_old shop/",
        ]
    );
    let open: Vec<(Kind, String)> = server.state.open().map(|open| (open.kind, open.subject)).collect();
    assert_eq!(open, [(Kind::SnapshotOld, String::new()), (Kind::QueueFailing, String::new())], "once each");
    assert_eq!(server.look(MINUTE_MS, &[]), [""; 0]);
    assert_eq!(server.look(MINUTE_MS + OVER_AFTER_MS, &[]).len(), 4, "each hears the end of what it heard");
}

#[test]
fn a_ledger_is_the_business_of_its_workspace_and_of_the_directory() {
    let broken = [finding(Kind::LedgerBroken, "shop/calls")];
    let both = [
        "shop/webhooks.duty opened ledger_broken shop/calls",
        "webhooks.duty opened ledger_broken shop/calls",
    ];
    assert_eq!(
        Server::with(&["webhooks.duty", "shop/webhooks.duty", "bank/webhooks.duty"]).look(0, &broken),
        both
    );
    assert_eq!(Server::with(&["shop/webhooks.duty", "bank/webhooks.duty"]).look(0, &broken), both[..1]);
    assert_eq!(Server::with(&["webhooks.duty", "bank/webhooks.duty"]).look(0, &broken), both[1..]);
    assert_eq!(
        Server::with(&["bank/webhooks.duty"]).look(0, &broken),
        [""; 0],
        "it names another's connection"
    );
}

#[test]
fn the_pace_is_that_of_whoever_tells() {
    let all = [
        finding(Kind::QueueFailing, ""),
        finding(Kind::WaitingLong, "bank/calls"),
        finding(Kind::WaitingLong, "shop/calls"),
    ];
    let mut server = Server::with(&["shop/webhooks.duty", "bank/webhooks.duty"]);
    server.pace = Some(("shop", MINUTE_MS));
    assert_eq!(server.look(0, &all).len(), 4);
    assert_eq!(
        server.look(MINUTE_MS, &all),
        [
            "shop/webhooks.duty lasting queue_failing shop/",
            "shop/webhooks.duty lasting waiting_long shop/calls"
        ]
    );
    let mut server = Server::with(&["webhooks.duty", "shop/webhooks.duty"]);
    server.pace = Some(("", MINUTE_MS));
    let all = [
        finding(Kind::LedgerBroken, "shop/calls"),
        finding(Kind::WaitingLong, "bank/calls"),
        finding(Kind::WaitingLong, "shop/calls"),
    ];
    assert_eq!(server.look(0, &all).len(), 4);
    assert_eq!(
        server.look(MINUTE_MS, &all),
        [
            "shop/webhooks.duty lasting ledger_broken shop/calls",
            "webhooks.duty lasting ledger_broken shop/calls",
            "webhooks.duty lasting waiting_long bank/calls"
        ]
    );
}

#[test]
fn an_outage_of_two_workspaces_is_a_message_for_each_with_its_own_names_and_counts() {
    let of = |key: &'static str, many: usize| (0..many).map(move |n| parked(&format!("{key}/b{n}")));
    let all: Vec<Finding> = of("shop", SUBJECTS_MAX + 2).chain(of("bank", SUBJECTS_MAX + 5)).collect();
    for channels in [["shop/webhooks.duty", "bank/webhooks.duty"].as_slice(), &["webhooks.duty"]] {
        let told = Server::with(channels).messages(0, &all);
        assert_eq!(told.len(), 2);
        for (key, count) in [("shop", 12), ("bank", 15)] {
            let subject = workspace::qualified(key, MANY);
            let (channel, message) =
                told.iter().find(|(_, it)| it.finding.subject == subject).expect("one for each");
            assert!(workspace::of(channel).is_empty() || workspace::of(channel) == key);
            assert_eq!(message.finding.count, count);
            let (more, names) = message.finding.facts.split_last().expect("facts");
            assert_eq!((names.len(), more), (SUBJECTS_MAX, &format!("… +{}", count - 10)));
            assert!(names.iter().all(|fact| workspace::of(fact) == key), "{names:?}");
            let (title, body) = (message.title(key), message.to_json(key, crate::words::Language::En));
            assert!(title.en.contains("several bundles: "), "{}", title.en);
            assert_eq!(body["data"].get("bundle"), None);
        }
    }
    let few: Vec<Finding> = of("shop", SUBJECTS_MAX).chain(of("bank", SUBJECTS_MAX)).collect();
    assert_eq!(
        Server::with(&["webhooks.duty"]).messages(0, &few).len(),
        2 * SUBJECTS_MAX,
        "not many of either"
    );
}

#[test]
fn nobody_hears_that_a_thing_is_over_because_others_are_told_of_it_now() {
    let failing = [finding(Kind::QueueFailing, "")];
    let mut server = Server::with(&["shop/webhooks.duty"]);
    assert_eq!(server.look(0, &failing), ["shop/webhooks.duty opened queue_failing shop/"]);
    server.channels.push("webhooks.duty".to_owned());
    assert_eq!(server.look(MINUTE_MS, &failing), ["webhooks.duty opened queue_failing "]);
    assert_eq!(server.look(MINUTE_MS + 2 * OVER_AFTER_MS, &failing), [""; 0], "it is not over");
    let gone_ms = MINUTE_MS + 3 * OVER_AFTER_MS;
    assert_eq!(server.look(gone_ms, &[]), [""; 0]);
    assert_eq!(
        server.look(gone_ms + OVER_AFTER_MS, &[]),
        ["shop/webhooks.duty over queue_failing shop/", "webhooks.duty over queue_failing "]
    );
}

#[test]
fn a_workspace_that_gets_a_channel_hears_of_what_is_open_of_its_own_and_of_nothing_else() {
    let all = [parked("leads"), parked("shop/leads"), parked("bank/leads")];
    let mut server = Server::with(&["webhooks.duty"]);
    assert_eq!(server.look(0, &all).len(), 3);
    server.channels.push("shop/emails.owner".to_owned());
    assert_eq!(server.look(MINUTE_MS, &all), ["shop/emails.owner opened run_parked shop/leads"]);
    let left = [parked("leads"), parked("bank/leads")];
    assert_eq!(server.look(2 * MINUTE_MS, &left), [""; 0]);
    let over = server.look(2 * MINUTE_MS + OVER_AFTER_MS, &left);
    assert_eq!(over, ["shop/emails.owner over run_parked shop/leads"]);
}

#[test]
fn a_node_with_other_files_takes_nothing_away_and_tells_nobody_of_anothers_things() {
    let mut server = Server::with(&["shop/webhooks.duty", "bank/webhooks.duty", "webhooks.duty"]);
    server.look(0, &[]);
    // The files of another node have no channels of the shop, those of a third cannot be read.
    let ours = std::mem::take(&mut server.channels);
    server.channels = vec!["webhooks.duty".to_owned()];
    assert_eq!(server.look(1, &[parked("shop/a")]), ["webhooks.duty opened run_parked shop/a"]);
    server.channels.clear();
    assert_eq!(server.look(2, &[parked("shop/a"), parked("bank/b"), parked("c/d")]), [""; 0]);
    server.channels = ours;
    assert_eq!(
        server.look(3, &[parked("shop/a"), parked("bank/b"), parked("c/d")]),
        [
            "bank/webhooks.duty opened run_parked bank/b",
            "shop/webhooks.duty opened run_parked shop/a",
            "webhooks.duty opened run_parked c/d"
        ]
    );
}

#[test]
fn a_letter_that_an_older_node_addressed_to_everybody_reaches_only_those_whose_business_it_is() {
    let letter = |channel: &str, kind: Kind, subject: &str| {
        let message = Message {
            id: format!("{channel}{subject}"),
            phase: Phase::Opened,
            at_ms: 0,
            finding: finding(kind, subject),
        };
        serde_json::json!({"channel": channel, "message": message, "attempts": 0, "next_ms": 0})
    };
    let channels = ["webhooks.duty", "shop/webhooks.duty"];
    let things = [
        (Kind::RunParked, "shop/leads"),
        (Kind::RunParked, "bank/leads"),
        (Kind::RunParked, MANY),
        (Kind::LedgerBroken, "leads"),
        (Kind::QueueFailing, ""),
    ];
    let letters: Vec<_> = things
        .iter()
        .flat_map(|(kind, subject)| channels.map(|channel| letter(channel, *kind, subject)))
        .collect();
    let state = serde_json::json!({"groups": [], "letters": letters, "sequence": 7});
    let mut state: State = serde_json::from_value(state).expect("a state");
    let sent = state.take(&channels.map(str::to_owned), 1);
    let heard = |channel: &str| {
        let mut heard: Vec<&str> = sent
            .iter()
            .filter(|letter| letter.channel == channel)
            .map(|letter| letter.message.finding.subject.as_str())
            .collect();
        heard.sort_unstable();
        heard
    };
    assert_eq!(heard("shop/webhooks.duty"), ["shop/leads"]);
    assert_eq!(heard("webhooks.duty"), ["", MANY, "bank/leads", "leads", "shop/leads"]);
    assert_eq!(state.letters().len(), sent.len(), "the others are gone");
}

#[test]
fn a_workspace_with_many_letters_does_not_hold_up_anothers() {
    let channels = ["shop/webhooks.duty".to_owned(), "bank/webhooks.duty".to_owned()];
    let messages = |key: &'static str, many: usize| {
        (0..many).map(move |n| Message {
            id: format!("{key}{n}"),
            phase: Phase::Opened,
            at_ms: 0,
            finding: parked(&format!("{key}/b{n}")),
        })
    };
    let all: Vec<Message> = messages("shop", 3 * LETTERS_AT_ONCE_MAX).chain(messages("bank", 3)).collect();
    let mut state = State::default();
    state.post(&all, &channels, 0);
    let taken = state.take(&channels, 0);
    assert_eq!(taken.len(), LETTERS_AT_ONCE_MAX);
    let bank: Vec<&str> = taken
        .iter()
        .filter(|letter| letter.channel == channels[1])
        .map(|it| it.message.id.as_str())
        .collect();
    assert_eq!(bank, ["bank0", "bank1", "bank2"]);
    let shop: Vec<&str> = taken
        .iter()
        .filter(|letter| letter.channel == channels[0])
        .map(|it| it.message.id.as_str())
        .collect();
    assert_eq!(shop[..3], ["shop0", "shop1", "shop2"], "in their order");
}

/// As a server of before wrote it: one bundle, many of another kind, a letter on its way.
const BEFORE: &str = r#"{"groups":[{"told":{"kind":"run_parked","subject":"leads","count":3,"since_ms":5,"newest_ms":9,"parts":[["bad_request",3]]},"told_ms":1000},{"told":{"kind":"connection_closed","subject":"*","count":12,"since_ms":7,"newest_ms":7},"told_ms":1000}],"letters":[{"channel":"webhooks.duty","message":{"id":"msg_3e8_2","phase":"opened","at_ms":1000,"kind":"connection_closed","subject":"*","count":12,"since_ms":7,"newest_ms":7},"attempts":1,"next_ms":61000,"failed":true}],"known":[{"name":"webhooks.duty","named_ms":1000}],"sequence":2}"#;

#[test]
fn what_was_told_before_there_were_workspaces_is_known_and_is_written_as_it_was() {
    let state: State = serde_json::from_str(BEFORE).expect("it is read");
    assert_eq!(serde_json::to_string(&state).expect("JSON"), BEFORE);
    let mut server = Server { state, ..Server::with(&["webhooks.duty"]) };
    let closed = |n| finding(Kind::ConnectionClosed, &format!("c{n}"));
    let all: Vec<Finding> = (0..12).map(closed).chain([parked("leads")]).collect();
    assert_eq!(server.look(2_000, &all), [""; 0], "nothing of it is news");
    assert_eq!(server.look(62_000, &all), ["webhooks.duty opened connection_closed *"], "the letter goes on");
    assert_eq!(server.look(63_000, &[]), [""; 0]);
    let over = server.look(63_000 + OVER_AFTER_MS, &[]);
    assert_eq!(over, ["webhooks.duty over connection_closed *", "webhooks.duty over run_parked leads"]);
}

#[test]
fn a_directory_that_is_no_workspace_has_no_name_to_say() {
    let message = Message {
        id: String::new(),
        phase: Phase::Opened,
        at_ms: 0,
        finding: finding(Kind::QueueFailing, ""),
    };
    let title = message.title("");
    assert!(
        title.en.starts_with("[sheaf] the queue") && title.ru.starts_with("[sheaf] очередь"),
        "{title:?}"
    );
}

#[test]
fn a_node_that_cannot_read_its_files_has_the_others_tell_that_it_fails() {
    let mut server = Server::with(&["shop/webhooks.duty", "bank/webhooks.duty"]);
    server.look(0, &[]);
    let ours = std::mem::take(&mut server.channels);
    assert_eq!(server.look(1, &[finding(Kind::QueueFailing, "")]), [""; 0], "it has no channels");
    server.channels = ours;
    assert_eq!(
        server.look(2, &[]),
        ["bank/webhooks.duty opened queue_failing bank/", "shop/webhooks.duty opened queue_failing shop/"],
        "of what this one does not see itself"
    );
}
