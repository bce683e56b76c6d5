//! Messages in words, in both languages.

use super::message::{Example, Finding, KEEPS_FAILING, Kind, Message, Phase, SPOOLED_BYTES, time};
use crate::words::Words;

/// Who has transactions open, as PostgreSQL tells it.
const OPEN_TRANSACTIONS: &str =
    "SELECT pid, usename, application_name, state, xact_start FROM pg_stat_activity ORDER BY xact_start";

impl Message {
    /// One line: the subject of a mail. What is the whole directory's may have no name of a workspace.
    pub fn title(&self, workspace: &str) -> Words {
        let said = match self.phase {
            Phase::Test => Words::new("this is a test of alerts", "это проверка оповещений"),
            Phase::Opened => problem(&self.finding),
            Phase::Lasting => prefixed("still: ", "всё ещё: ", problem(&self.finding)),
            Phase::Over => prefixed("over: ", "прошло: ", relief(&self.finding)),
        };
        let whose = if workspace.is_empty() { String::new() } else { format!("{workspace}: ") };
        prefixed(&format!("[sheaf] {whose}"), &format!("[sheaf] {whose}"), said)
    }

    /// The whole message for a person.
    pub fn text(&self, workspace: &str) -> Words {
        let title = self.title(workspace);
        let lines = match self.phase {
            Phase::Test => Words::new(
                "If you read this, alerts of this channel arrive.",
                "Если вы это читаете, оповещения этого канала доходят.",
            ),
            Phase::Opened | Phase::Lasting => details(&self.finding),
            Phase::Over => span(&self.finding, self.at_ms),
        };
        Words::new(format!("{}\n\n{}\n", title.en, lines.en), format!("{}\n\n{}\n", title.ru, lines.ru))
    }
}

fn prefixed(en: &str, ru: &str, words: Words) -> Words {
    Words::new(format!("{en}{}", words.en), format!("{ru}{}", words.ru))
}

/// "bundle x: ", "several bundles: ", or nothing.
fn about(finding: &Finding) -> Words {
    let (one_en, one_ru, many_en, many_ru) = match finding.kind {
        Kind::RunParked | Kind::BundlePaused => ("bundle", "связка", "several bundles", "несколько связок"),
        Kind::AuthorisationBroken
        | Kind::ConnectionClosed
        | Kind::QuotaExhausted
        | Kind::EventsQuarantined
        | Kind::WaitingLong
        | Kind::LedgerBroken => ("connection", "подключение", "several connections", "несколько подключений"),
        Kind::SnapshotOld | Kind::QueueFailing => return Words::default(),
    };
    if finding.is_many() {
        return Words::new(format!("{many_en}: "), format!("{many_ru}: "));
    }
    let name = &finding.subject;
    Words::new(format!("{one_en} {name}: "), format!("{one_ru} {name}: "))
}

fn problem(finding: &Finding) -> Words {
    let count = if finding.at_least { format!("{}+", finding.count) } else { finding.count.to_string() };
    let said = match finding.kind {
        Kind::RunParked => Words::new(
            format!("runs set aside for a person: {count}"),
            format!("отложено до решения человека запусков: {count}"),
        ),
        Kind::AuthorisationBroken => Words::new(
            format!("the vendor refuses its authorisation, runs wait or are set aside: {count}"),
            format!("сервис не принимает авторизацию, запусков ждёт или отложено: {count}"),
        ),
        Kind::ConnectionClosed => Words::new(
            format!("the vendor fails or it is paused, runs wait: {count}"),
            format!("сервис не отвечает как надо или оно на паузе, ждут запусков: {count}"),
        ),
        Kind::QuotaExhausted => Words::new(
            format!("its quota is spent, runs wait: {count}"),
            format!("квота исчерпана, ждут запусков: {count}"),
        ),
        Kind::BundlePaused if keeps_failing(finding) => Words::new(
            format!("run after run was set aside, so it is paused; runs wait: {count}"),
            format!("запуски откладывались один за другим, поэтому на паузе; ждут запусков: {count}"),
        ),
        Kind::BundlePaused => Words::new(
            format!("it is paused, runs wait: {count}"),
            format!("на паузе, ждут запусков: {count}"),
        ),
        Kind::EventsQuarantined => Words::new(
            format!("events that could not be read: {count}; they are kept and start nothing"),
            format!("не удалось прочитать событий: {count}; они сохранены, но ничего не запускают"),
        ),
        Kind::WaitingLong => Words::new(
            format!("runs wait for too long: {count}"),
            format!("слишком долго ждут запуски: {count}"),
        ),
        Kind::SnapshotOld => Words::new(
            "a transaction of the database is open for too long: runs are taken more slowly, old rows stay on the disk",
            "в базе слишком долго открыта транзакция: запуски берутся медленнее, старые строки остаются на диске",
        ),
        Kind::LedgerBroken => Words::new(
            "THE LEDGER DOES NOT BALANCE: something is unaccounted for",
            "УЧЁТ НЕ СХОДИТСЯ: что-то пропало",
        ),
        Kind::QueueFailing if finding.parts.iter().any(|(name, _)| name == SPOOLED_BYTES) => Words::new(
            "the database cannot commit: events are taken and kept in this node's own files until it can",
            "база не может записать: события принимаем и храним в файлах этого узла, пока она не сможет",
        ),
        Kind::QueueFailing => Words::new(
            "the queue cannot commit: events are answered 503 and not taken",
            "очередь не может записать: на события отвечаем 503 и не принимаем их",
        ),
    };
    let about = about(finding);
    Words::new(about.en + &said.en, about.ru + &said.ru)
}

/// Nobody paused it.
fn keeps_failing(finding: &Finding) -> bool {
    let mut whys = finding.parts.iter().map(|(why, _)| why);
    finding.kind == Kind::BundlePaused && !finding.parts.is_empty() && whys.all(|why| why == KEEPS_FAILING)
}

fn relief(finding: &Finding) -> Words {
    let said = match finding.kind {
        Kind::RunParked => Words::new("no run waits for a person any more", "отложенных запусков больше нет"),
        Kind::AuthorisationBroken => Words::new(
            "no run waits or is set aside for its authorisation any more",
            "запуски больше не ждут и не отложены из-за авторизации",
        ),
        Kind::ConnectionClosed => Words::new("runs go through it again", "запуски снова идут через него"),
        Kind::QuotaExhausted => Words::new("there is quota again", "квота снова есть"),
        Kind::BundlePaused => Words::new("it goes on", "снова работает"),
        Kind::EventsQuarantined => Words::new(
            "all that came of late could be read",
            "в последнее время удалось прочитать всё, что пришло",
        ),
        Kind::WaitingLong => Words::new("no run waits for too long any more", "слишком долго никто не ждёт"),
        Kind::SnapshotOld => {
            Words::new("the database's old transaction has ended", "старая транзакция в базе завершилась")
        }
        Kind::LedgerBroken => Words::new("the ledger balances again", "учёт снова сходится"),
        Kind::QueueFailing => Words::new("the queue commits again", "очередь снова записывает"),
    };
    let about = about(finding);
    Words::new(about.en + &said.en, about.ru + &said.ru)
}

fn span(finding: &Finding, over_ms: i64) -> Words {
    let (since, over) = (time(finding.since_ms), time(over_ms));
    Words::new(format!("It lasted from {since} to {over}."), format!("Длилось с {since} по {over}."))
}

fn details(finding: &Finding) -> Words {
    let since = time(finding.since_ms);
    let (mut en, mut ru) = (vec![format!("Since: {since}")], vec![format!("С какого времени: {since}")]);
    if !finding.parts.is_empty() {
        let parts = finding
            .parts
            .iter()
            .map(|(name, count)| format!("{name} {count}"))
            .collect::<Vec<_>>()
            .join(", ");
        en.push(format!("Why: {parts}"));
        ru.push(format!("Почему: {parts}"));
    }
    for fact in &finding.facts {
        en.push(format!("- {fact}"));
        ru.push(format!("- {fact}"));
    }
    for example in &finding.examples {
        en.push(format!("For example: {}", shown(example, "step", "answer")));
        ru.push(format!("Например: {}", shown(example, "шаг", "ответ")));
    }
    if keeps_failing(finding) && !finding.is_many() {
        let name = &finding.subject;
        en.push(format!("When the reason is gone: sheaf resume bundle {name}"));
        ru.push(format!("Когда причина устранена: sheaf resume bundle {name}"));
    }
    for command in commands(finding) {
        en.push(format!("Look: {command}"));
        ru.push(format!("Посмотреть: {command}"));
    }
    Words::new(en.join("\n"), ru.join("\n"))
}

fn shown(example: &Example, step: &str, answer: &str) -> String {
    let mut text = example.run.clone();
    if !example.step.is_empty() {
        text.push_str(&format!(", {step} {}", example.step));
    }
    if let Some(status) = example.status {
        text.push_str(&format!(", {answer} {status}"));
    }
    text
}

/// What to type to see more.
fn commands(finding: &Finding) -> Vec<String> {
    let first = finding.examples.first().map(|example| format!("sheaf runs show {}", example.run));
    let held = (finding.kind == Kind::AuthorisationBroken).then(|| "sheaf ledger".to_owned());
    let all = match finding.kind {
        Kind::RunParked if !finding.is_many() => {
            format!("sheaf runs --state parked --bundle {}", finding.subject)
        }
        Kind::BundlePaused if keeps_failing(finding) && !finding.is_many() => {
            format!("sheaf runs --state parked --bundle {}", finding.subject)
        }
        Kind::RunParked | Kind::AuthorisationBroken => "sheaf runs --state parked".to_owned(),
        Kind::WaitingLong if !finding.is_many() => {
            format!("sheaf runs --state pending --connection {}", finding.subject)
        }
        Kind::WaitingLong => "sheaf runs --state pending".to_owned(),
        Kind::EventsQuarantined if !finding.is_many() => {
            format!("sheaf events --quarantined --connection {}", finding.subject)
        }
        Kind::EventsQuarantined => "sheaf events --quarantined".to_owned(),
        Kind::ConnectionClosed | Kind::BundlePaused | Kind::QuotaExhausted => "sheaf ledger".to_owned(),
        Kind::SnapshotOld => OPEN_TRANSACTIONS.to_owned(),
        Kind::LedgerBroken => "sheaf ledger --verify".to_owned(),
        Kind::QueueFailing => "/readyz".to_owned(),
    };
    first.into_iter().chain(held).chain([all]).collect()
}
