//! What is told, over a time that the tests set.

use super::{
    Destination,
    decide::{BACK_AFTER_MS, OVER_AFTER_MS, Observed, REMIND_MS, SUBJECTS_MAX, State, decide},
    file,
    letters::{ATTEMPT_MS, Fate, PAUSES_MS, UNNAMED_MS_MAX},
    message::{Finding, KEEPS_FAILING, Kind, MANY, Message, Phase},
    quarantine::LATELY_MS,
};
use crate::{
    diagnostic::{Diagnostics, Sources},
    yaml,
};

const REPEAT_MS: i64 = 30 * 60_000;
const MINUTE_MS: i64 = 60_000;

fn finding(kind: Kind, subject: &str, count: u64, newest_ms: i64) -> Finding {
    Finding::new(kind, subject, count, 0, newest_ms)
}

fn seen(findings: impl IntoIterator<Item = Finding>) -> Observed {
    Observed { findings: findings.into_iter().collect(), ..Observed::default() }
}

/// A state and the time; what is told at each look, as `phase subject count`.
struct Bench {
    state: State,
    repeat_ms: i64,
}

impl Default for Bench {
    fn default() -> Bench {
        Bench { state: State::default(), repeat_ms: REPEAT_MS }
    }
}

impl Bench {
    fn look(&mut self, now_ms: i64, observed: &Observed) -> Vec<String> {
        // A restart between any two looks changes nothing.
        let text = serde_json::to_string(&self.state).expect("a state is JSON");
        let kept: State = serde_json::from_str(&text).expect("and is read back");
        assert_eq!(kept, self.state);
        let (state, messages) = decide(kept, observed, |_| self.repeat_ms, now_ms);
        self.state = state;
        messages
            .iter()
            .map(|it| format!("{} {} {}", it.phase.name(), it.finding.subject, it.finding.count))
            .collect()
    }
}

#[test]
fn a_thing_that_lasts_is_told_once_then_no_sooner_than_the_pause_and_once_when_it_is_over() {
    let mut bench = Bench::default();
    let broken = seen([finding(Kind::LedgerBroken, "shop", 1, 0)]);
    let mut told = Vec::new();
    for minute in 0..=100 {
        told.extend(bench.look(minute * MINUTE_MS, &broken).into_iter().map(|said| (minute, said)));
    }
    for minute in 101..=200 {
        told.extend(bench.look(minute * MINUTE_MS, &seen([])).into_iter().map(|said| (minute, said)));
    }
    let told: Vec<(i64, &str)> = told.iter().map(|(minute, said)| (*minute, said.as_str())).collect();
    assert_eq!(
        told,
        [
            (0, "opened shop 1"),
            (30, "lasting shop 1"),
            (60, "lasting shop 1"),
            (90, "lasting shop 1"),
            (102, "over shop 1")
        ]
    );
    assert_eq!(bench.state.open().count(), 0);
}

#[test]
fn parked_runs_are_told_again_when_more_were_parked_and_otherwise_once_a_day() {
    let mut bench = Bench::default();
    assert_eq!(bench.look(0, &seen([finding(Kind::RunParked, "crm", 1, 0)])), ["opened crm 1"]);
    let more = seen([finding(Kind::RunParked, "crm", 7, 5 * MINUTE_MS)]);
    assert_eq!(bench.look(10 * MINUTE_MS, &more), [""; 0], "grouped until the pause is over");
    assert_eq!(bench.look(REPEAT_MS, &more), ["lasting crm 7"]);
    assert_eq!(bench.look(2 * REPEAT_MS, &more), [""; 0], "nothing new");
    assert_eq!(bench.look(REPEAT_MS + REMIND_MS - 1, &more), [""; 0]);
    assert_eq!(bench.look(REPEAT_MS + REMIND_MS, &more), ["lasting crm 7"]);
}

#[test]
fn what_comes_and_goes_is_one_thing() {
    let mut bench = Bench::default();
    let broken = seen([finding(Kind::QueueFailing, "", 1, 0)]);
    let mut told = Vec::new();
    for look in 0..120 {
        // Every other look it is gone.
        let observed = if look % 2 == 0 { broken.clone() } else { seen([]) };
        told.extend(bench.look(look * OVER_AFTER_MS / 4, &observed));
    }
    assert_eq!(told, ["opened  1"], "half an hour of flapping is one message");
    let over = bench.look(120 * OVER_AFTER_MS / 4 + OVER_AFTER_MS, &seen([]));
    assert_eq!(over, ["over  1"]);
}

#[test]
fn what_was_called_over_and_is_back_is_open_at_once_and_told_when_it_stays() {
    const DAY_MS: i64 = 24 * 60 * MINUTE_MS;
    let mut bench = Bench { repeat_ms: DAY_MS, ..Bench::default() };
    let parked = |count| seen([finding(Kind::RunParked, "crm", count, 0)]);
    assert_eq!(bench.look(0, &parked(1)), ["opened crm 1"]);
    assert_eq!(bench.look(MINUTE_MS, &seen([])), [""; 0]);
    assert_eq!(bench.look(MINUTE_MS + OVER_AFTER_MS, &seen([])), ["over crm 1"]);
    assert_eq!(bench.state.open().count(), 0);
    let back_ms = 60 * MINUTE_MS;
    assert_eq!(bench.look(back_ms, &parked(500)), [""; 0]);
    assert_eq!(bench.state.open().map(|open| open.count).collect::<Vec<_>>(), [500], "as it is now");
    assert_eq!(bench.look(back_ms + BACK_AFTER_MS - 1, &parked(501)), [""; 0]);
    assert_eq!(bench.look(back_ms + BACK_AFTER_MS, &parked(502)), ["opened crm 502"]);
    assert_eq!(bench.look(2 * back_ms, &parked(502)), [""; 0], "from now on as any other");
}

#[test]
fn what_was_called_over_and_comes_back_for_moments_is_told_no_sooner_than_the_pause() {
    let mut bench = Bench::default();
    let broken = seen([finding(Kind::LedgerBroken, "shop", 1, 0)]);
    let mut told = Vec::new();
    // A minute of every four it is there.
    for minute in 0..60 {
        let observed = if minute % 4 == 0 { broken.clone() } else { seen([]) };
        told.extend(bench.look(minute * MINUTE_MS, &observed).into_iter().map(|said| (minute, said)));
        assert_eq!(bench.state.open().count(), usize::from(minute % 4 < 2), "{minute}");
    }
    let told: Vec<(i64, &str)> = told.iter().map(|(minute, said)| (*minute, said.as_str())).collect();
    assert_eq!(told, [(0, "opened shop 1"), (2, "over shop 1"), (32, "opened shop 1"), (34, "over shop 1")]);
}

#[test]
fn what_lasts_is_told_with_the_time_it_began() {
    let at = |since_ms| seen([Finding::new(Kind::LedgerBroken, "shop", 1, since_ms, since_ms)]);
    let (state, _) = decide(State::default(), &at(5), |_| REPEAT_MS, 5);
    let (state, lasting) = decide(state, &at(REPEAT_MS + 5), |_| REPEAT_MS, REPEAT_MS + 5);
    assert_eq!((lasting[0].phase, lasting[0].finding.since_ms), (Phase::Lasting, 5));
    let gone_ms = REPEAT_MS + 10;
    let (state, _) = decide(state, &seen([]), |_| REPEAT_MS, gone_ms);
    let (_, over) = decide(state, &seen([]), |_| REPEAT_MS, gone_ms + OVER_AFTER_MS);
    assert_eq!((over[0].phase, over[0].finding.since_ms), (Phase::Over, 5));
}

#[test]
fn what_could_not_be_looked_at_is_not_called_over() {
    let mut bench = Bench::default();
    bench.look(0, &seen([finding(Kind::RunParked, "crm", 1, 0)]));
    let blind = Observed { unseen: vec![Kind::RunParked], ..Observed::default() };
    assert_eq!(bench.look(10 * OVER_AFTER_MS, &blind), [""; 0]);
    assert_eq!(bench.look(20 * OVER_AFTER_MS, &blind), [""; 0]);
}

#[test]
fn a_clock_that_went_back_silences_nothing() {
    let mut bench = Bench::default();
    let broken = seen([finding(Kind::LedgerBroken, "shop", 1, 0)]);
    bench.look(1_000 * REPEAT_MS, &broken);
    assert_eq!(bench.look(REPEAT_MS, &broken), ["lasting shop 1"]);
    assert_eq!(bench.look(REPEAT_MS + MINUTE_MS, &broken), [""; 0]);
}

#[test]
fn an_outage_of_many_bundles_is_one_message() {
    let mut bench = Bench::default();
    let parked =
        |bundles: usize| seen((0..bundles).map(|n| finding(Kind::RunParked, &format!("b{n}"), 2, 0)));
    assert_eq!(bench.look(0, &parked(2)), ["opened b0 2", "opened b1 2"]);
    let said = bench.look(MINUTE_MS, &parked(1_000));
    assert_eq!(said, [format!("opened {MANY} 1996")], "those told alone stay alone");
    assert_eq!(bench.look(2 * MINUTE_MS, &parked(1_000)), [""; 0]);
    let many = bench.state.open().find(|it| it.subject == MANY).expect("it is open");
    assert_eq!(many.facts.len(), SUBJECTS_MAX + 1);
    // Back to a few: the many are over, and each of the few is told by itself.
    assert_eq!(bench.look(3 * MINUTE_MS, &parked(3)), ["opened b2 2"]);
    assert_eq!(bench.look(3 * MINUTE_MS + OVER_AFTER_MS, &parked(3)), [format!("over {MANY} 1996")]);
}

fn posted(channels: &[String]) -> (State, Message) {
    let (mut state, messages) =
        decide(State::default(), &seen([finding(Kind::LedgerBroken, "shop", 1, 0)]), |_| REPEAT_MS, 0);
    state.post(&messages, channels, 0);
    (state, messages.into_iter().next().expect("one message"))
}

#[test]
fn a_letter_goes_to_every_channel_until_it_arrives_at_each() {
    let channels = ["webhooks.a".to_owned(), "emails.b".to_owned()];
    let (mut state, _) = posted(&channels);
    let due = state.take(&channels, 0);
    assert_eq!(due.iter().map(|letter| &letter.channel).collect::<Vec<_>>(), [&channels[0], &channels[1]]);
    assert_eq!(state.attempted(&due[0], true, 1), Fate::Arrived);
    assert_eq!(state.attempted(&due[1], false, 1), Fate::Again);
    assert_eq!(state.take(&channels, PAUSES_MS[0]), [], "not before its pause");
    let again = state.take(&channels, 1 + PAUSES_MS[0]);
    assert_eq!((again.len(), &again[0].message.id), (1, &due[1].message.id), "the same message");
    assert_eq!(state.attempted(&again[0], true, 0), Fate::Arrived);
    assert_eq!(state.letters(), []);
}

#[test]
fn a_letter_in_hand_when_the_process_died_is_sent_again_and_no_sooner_than_its_attempt_may_take() {
    let channels = ["webhooks.a".to_owned()];
    let (mut state, _) = posted(&channels);
    assert_eq!(state.take(&channels, 0).len(), 1);
    assert_eq!(state.take(&channels, ATTEMPT_MS - 1).len(), 0);
    assert_eq!(state.take(&channels, ATTEMPT_MS).len(), 1);
}

#[test]
fn a_letter_is_given_up_after_its_last_pause() {
    let channels = ["webhooks.a".to_owned()];
    let (mut state, _) = posted(&channels);
    let mut now_ms = 0;
    for pause_ms in PAUSES_MS {
        let due = state.take(&channels, now_ms);
        assert_eq!(state.attempted(&due[0], false, now_ms), Fate::Again);
        now_ms += pause_ms;
    }
    let last = state.take(&channels, now_ms);
    assert_eq!(state.attempted(&last[0], false, now_ms), Fate::GivenUp);
    assert_eq!(state.letters(), []);
}

#[test]
fn newer_news_takes_the_place_of_older_news_that_did_not_arrive() {
    let channels = ["webhooks.a".to_owned()];
    let (mut state, first) = posted(&channels);
    let in_hand = state.take(&channels, 0);
    let newer = Message { id: "msg_newer".to_owned(), phase: Phase::Over, ..first };
    state.post(std::slice::from_ref(&newer), &channels, 1);
    assert_eq!(state.letters().len(), 1);
    assert_eq!(state.attempted(&in_hand[0], false, 2), Fate::Outdated);
    assert_eq!(state.take(&channels, 2)[0].message, newer);
}

#[test]
fn a_channel_that_was_taken_out_gets_nothing_more() {
    let (mut state, _) = posted(&["webhooks.gone".to_owned()]);
    let other = ["webhooks.other".to_owned()];
    assert_eq!(state.take(&other, UNNAMED_MS_MAX - 1), []);
    assert_eq!(state.letters().len(), 1, "another node may have it");
    assert_eq!(state.take(&other, UNNAMED_MS_MAX), []);
    assert_eq!(state.letters(), []);
    let (mut state, messages) =
        decide(state, &seen([finding(Kind::QueueFailing, "", 1, 0)]), |_| REPEAT_MS, UNNAMED_MS_MAX);
    state.post(&messages, &other, UNNAMED_MS_MAX);
    assert!(state.letters().iter().all(|letter| letter.channel == other[0]), "nothing is written to it");
}

#[test]
fn nodes_whose_files_name_other_channels_tell_each_channel_once_and_take_nothing_away() {
    let (one, two) = (["webhooks.one".to_owned()], ["webhooks.two".to_owned()]);
    let (mut state, first) = posted(&one);
    // One after another they look at the same memory; a third cannot read its files.
    let mut heard = Vec::new();
    for look in 0..30 {
        let names = [one.as_slice(), two.as_slice(), &[]][look % 3];
        let now_ms = i64::try_from(look).expect("few") * 1_000;
        state.post(&[], names, now_ms);
        for letter in state.take(names, now_ms) {
            assert_eq!(state.attempted(&letter, true, now_ms), Fate::Arrived);
            heard.push(letter.channel);
        }
    }
    assert_eq!(heard, ["webhooks.one", "webhooks.two"]);
    let over = Message { id: "msg_over".to_owned(), phase: Phase::Over, ..first };
    state.post(std::slice::from_ref(&over), &[], 40_000);
    assert_eq!(state.take(&two, 40_000).len(), 1, "what another node tells is told here too");
    assert_eq!(state.take(&one, 40_000).len(), 1);
}

#[test]
fn a_channel_that_is_new_hears_of_what_is_open_and_the_others_do_not_hear_it_again() {
    let old = "webhooks.old".to_owned();
    let (mut state, _) = posted(std::slice::from_ref(&old));
    let first = state.take(std::slice::from_ref(&old), 0);
    state.attempted(&first[0], true, 0);
    let both = [old, "emails.new".to_owned()];
    state.post(&[], &both, 1);
    let due = state.take(&both, 1);
    assert_eq!(due.iter().map(|letter| &letter.channel).collect::<Vec<_>>(), [&both[1]]);
    assert_eq!((due[0].message.phase, due[0].message.finding.subject.as_str()), (Phase::Opened, "shop"));
    assert_ne!(due[0].message.id, first[0].message.id);
    state.attempted(&due[0], true, 1);
    state.post(&[], &both, 2);
    assert_eq!(state.letters(), []);
}

#[test]
fn every_kind_and_phase_has_words_in_both_languages_and_a_command_to_look() {
    for kind in Kind::ALL {
        for phase in [Phase::Opened, Phase::Lasting, Phase::Over, Phase::Test] {
            let message =
                Message { id: "m".to_owned(), phase, at_ms: 1_000, finding: finding(kind, "shop", 3, 0) };
            let (title, text) = (message.title("w"), message.text("w"));
            assert!(title.en.starts_with("[sheaf] w: ") && title.ru.starts_with("[sheaf] w: "));
            assert_ne!(title.en, title.ru);
            assert!(text.ru.chars().any(|letter| ('а'..='я').contains(&letter)), "{}", text.ru);
            let problem = matches!(phase, Phase::Opened | Phase::Lasting);
            assert_eq!(text.en.contains("Look: "), problem, "{}", text.en);
            let body = message.to_json("w", crate::words::Language::En);
            assert_eq!(body["data"]["phase"], phase.name());
        }
    }
}

#[test]
fn a_bundle_that_nobody_paused_is_told_with_the_reason_and_how_it_goes_on() {
    let told = |why: &str| {
        let parts = vec![(why.to_owned(), 7)];
        let finding = Finding { parts, ..finding(Kind::BundlePaused, "leads", 7, 0) };
        let message = Message { id: String::new(), phase: Phase::Opened, at_ms: 0, finding };
        (message.title("w"), message.text("w"))
    };
    let (title, text) = told(KEEPS_FAILING);
    assert_eq!(
        title.en,
        "[sheaf] w: bundle leads: run after run was set aside, so it is paused; runs wait: 7"
    );
    assert!(title.ru.contains("один за другим"), "{}", title.ru);
    for text in [text.en, text.ru] {
        assert!(text.contains("sheaf resume bundle leads") && text.contains("--state parked --bundle leads"));
    }
    let (title, text) = told("paused");
    assert_eq!(title.en, "[sheaf] w: bundle leads: it is paused, runs wait: 7");
    assert!(!text.en.contains("resume"));
}

#[test]
fn a_webhooks_url_is_of_the_very_origin_that_it_is_checked_for() {
    let read = |url: &str| {
        let text = format!("kind: alerts\nwebhooks:\n  duty: {{url: \"{url}\", secret: {{env: KEY}}}}\n");
        let (mut sources, mut out) = (Sources::default(), Diagnostics::default());
        let (_, node) = yaml::load("alerts.yaml", text.as_bytes(), &mut sources, &mut out);
        let alerts = file::read(&node.expect("YAML"), "", &mut out)?;
        match &alerts.channels.first()?.to {
            Destination::Webhook { url, origin } => Some((url.clone(), origin.clone())),
            Destination::Email(_) => None,
        }
    };
    for (written, sent) in [
        ("https://Ops.Shop.example/X?a=b", "https://ops.shop.example/X?a=b"),
        ("https://ops.shop.example:443", "https://ops.shop.example"),
        ("http://ops.shop.example:8080?q", "http://ops.shop.example:8080?q"),
    ] {
        let (url, origin) = read(written).expect(written);
        assert!(url == sent && url.starts_with(&origin), "{url} {origin}");
    }
    for wrong in
        ["https://ops.shop.example/#x", "https://ops.shop.example#x", "https://ops.shop.example\\\\x"]
    {
        assert_eq!(read(wrong), None, "{wrong}");
    }
}

fn quarantined(totals: &[(&str, u64)]) -> Observed {
    let totals = totals.iter().map(|(connection, total)| ((*connection).to_owned(), *total));
    Observed { quarantined: Some(totals.collect()), ..Observed::default() }
}

#[test]
fn what_could_not_be_read_is_told_from_the_first_one_after_the_first_look_until_none_came_for_long() {
    let mut bench = Bench::default();
    assert_eq!(bench.look(0, &quarantined(&[("shop", 5)])), [""; 0], "of before the first look");
    assert_eq!(bench.look(MINUTE_MS, &quarantined(&[("shop", 6)])), ["opened shop 1"]);
    let both = quarantined(&[("shop", 8), ("cafe", 2)]);
    assert_eq!(bench.look(2 * MINUTE_MS, &both), ["opened cafe 2"], "the shop has just been told");
    assert_eq!(bench.look(3 * MINUTE_MS, &Observed::default()), [""; 0], "the ledger could not be read");
    assert_eq!(bench.look(MINUTE_MS + REPEAT_MS, &both), ["lasting shop 3"]);
    let quiet_ms = 2 * MINUTE_MS + LATELY_MS;
    assert_eq!(bench.look(quiet_ms - 1, &both), ["lasting cafe 2", "lasting shop 3"], "more than a day");
    assert_eq!(bench.look(quiet_ms, &both), [""; 0]);
    assert_eq!(bench.look(quiet_ms + OVER_AFTER_MS, &both), ["over shop 3", "over cafe 2"]);
    let again_ms = quiet_ms + 2 * REPEAT_MS;
    assert_eq!(bench.look(again_ms, &quarantined(&[("shop", 9)])), ["opened shop 1"]);
    let earlier = bench.look(again_ms + MINUTE_MS, &quarantined(&[("shop", 7)]));
    assert_eq!(earlier, [""; 0], "a look that began before another node's");
    let more = bench.look(again_ms + REPEAT_MS, &quarantined(&[("shop", 11)]));
    assert_eq!(more, ["lasting shop 3"], "what was counted stays so");
    let slow = bench.look(again_ms + REPEAT_MS - 1, &quarantined(&[("shop", 11)]));
    assert_eq!(slow, [""; 0], "by a clock a little behind nothing is over");
    assert_eq!(bench.look(again_ms + REPEAT_MS + OVER_AFTER_MS, &quarantined(&[("shop", 11)])), [""; 0]);
    assert_eq!(bench.state.open().count(), 1);
}

#[test]
fn what_a_newer_sheaf_tells_of_is_passed_over_and_the_rest_is_remembered() {
    let mut bench = Bench::default();
    bench.look(0, &seen([finding(Kind::RunParked, "shop", 1, 0), finding(Kind::BundlePaused, "cafe", 1, 0)]));
    let text = serde_json::to_string(&bench.state).expect("a state is JSON");
    let newer = text.replacen("run_parked", "of_a_newer_sheaf", 1);
    assert_ne!(newer, text);
    let state: State = serde_json::from_str(&newer).expect("it is read");
    assert_eq!(state.open().map(|it| it.subject).collect::<Vec<_>>(), ["cafe"]);
}
