//! From an exchange to a judgement: the connector's rules, then the ones every connector has.

use std::sync::Arc;

use chrono::DateTime;

use crate::{
    budget::{Reading, Truth},
    diagnostic::excerpt::excerpt,
    environment::ResponseEnvironment,
    expression::text_of,
    filter::Filter,
    json,
    request::{Exchange, Response, TransportError, TransportErrorKind},
    template::Template,
    value::{Map, Value},
    verdict::{Class, Judgement},
    words::Words,
};

/// The compiled rules of one step.
#[derive(Debug)]
pub struct Judge {
    /// In order; the first that holds decides.
    pub rules: Arc<[Rule]>,
    /// Where an answer says what is left of the connection's budgets.
    pub truths: Arc<[Truth]>,
    /// Whether a request whose answer was lost is sent again all the same.
    pub repeats: bool,
    /// Whether a later step reads the answer.
    pub keeps_body: bool,
}

/// How a vendor's answer to a question about a lost request is read; neither or both: it does not say.
#[derive(Debug)]
pub struct Presence {
    /// It has what was sent.
    pub found: Filter,
    /// It does not have it.
    pub absent: Filter,
}

/// One rule.
#[derive(Debug)]
pub struct Rule {
    /// When it holds; all of these.
    pub when: Vec<Filter>,
    /// What it says.
    pub class: Class,
    /// For people; empty for the usual words.
    pub message: Words,
    /// What the vendor said.
    pub detail: Option<Template>,
    /// When to try again.
    pub until: Option<Template>,
}

impl Judge {
    /// Judges; `settings` are those of the step's connection.
    pub fn judge(&self, exchange: &Exchange, settings: &Map) -> Judgement {
        match exchange {
            Ok(response) => self.judge_response(response, settings),
            Err(error) => judge_failure(error, self.repeats),
        }
    }

    /// Judges the answer to a question: `duplicate_ok` when the vendor has what was sent, `not_found` when it does not
    /// have it, and else a class that is neither. What the rules call a failure is not asked what it says.
    pub fn judge_probe(&self, presence: &Presence, exchange: &Exchange, settings: &Map) -> Judgement {
        let response = match exchange {
            Ok(response) => response,
            // A question changes nothing, so it may always be repeated.
            Err(error) => return judge_failure(error, true),
        };
        let judgement = self.judge_response(response, settings);
        if !matches!(judgement.class, Class::Ok | Class::Empty | Class::DuplicateOk | Class::NotFound) {
            // A failure says nothing of what the vendor has, though "the list is empty" holds for it too.
            return judgement;
        }
        let env = ResponseEnvironment::new(response, settings);
        let (class, message) = match (presence.found.eval(&env), presence.absent.eval(&env)) {
            (true, false) => (Class::DuplicateOk, Words::new("the vendor has it", "у сервиса это есть")),
            (false, true) => {
                (Class::NotFound, Words::new("the vendor does not have it", "у сервиса этого нет"))
            }
            (true, true) | (false, false) => (
                Class::Unknown,
                Words::new(
                    "the answer does not say whether the vendor has it",
                    "из ответа не видно, есть ли это у сервиса",
                ),
            ),
        };
        Judgement { class, message, body: None, ..judgement }
    }

    fn judge_response(&self, response: &Response, settings: &Map) -> Judgement {
        let env = ResponseEnvironment::new(response, settings);
        let rule = self.rules.iter().find(|rule| rule.when.iter().all(|filter| filter.eval(&env)));
        let class = rule.map_or_else(|| class_of_status(response.status), |rule| rule.class);
        let own = rule.map(|rule| rule.message.clone()).filter(|words| !words.en.is_empty());
        let detail = rule.and_then(|rule| rule.detail.as_ref()).and_then(|detail| detail_text(detail, &env));
        let until = rule.and_then(|rule| text_at(rule.until.as_ref()?, &env));
        let asked_ms = until.and_then(|until| wait_ms(&until, response));
        let delivered = matches!(class, Class::Ok | Class::Empty | Class::DuplicateOk);
        let message = own.unwrap_or_else(|| match class {
            // The status says it all.
            Class::Ok => Words::default(),
            _ => status_words(class, response.status),
        });
        Judgement {
            class,
            message: with_detail(message, detail),
            lost: false,
            status: Some(response.status),
            retry_after_ms: asked_ms.or_else(|| retry_after_ms(response)),
            readings: self.truths.iter().filter_map(|truth| reading(truth, response, &env)).collect(),
            body: (self.keeps_body && delivered).then(|| env.into_body()),
        }
    }
}

fn judge_failure(error: &TransportError, repeats: bool) -> Judgement {
    let (class, lost) = match error.kind {
        TransportErrorKind::Dns | TransportErrorKind::Connect | TransportErrorKind::Tls => {
            (Class::Retry, false)
        }
        TransportErrorKind::Blocked => (Class::BadRequest, false),
        TransportErrorKind::Secret => (Class::AuthBroken, false),
        TransportErrorKind::Timeout | TransportErrorKind::Cut | TransportErrorKind::TooLarge => {
            (if repeats { Class::Retry } else { Class::Unknown }, true)
        }
    };
    let message = with_detail(failure_words(error.kind), Some(error.detail.clone()));
    Judgement { class, message, lost, status: None, retry_after_ms: None, readings: Vec::new(), body: None }
}

/// What a status means when no rule of the connector says otherwise.
fn class_of_status(status: u16) -> Class {
    match status {
        200..=299 => Class::Ok,
        401 | 403 => Class::AuthBroken,
        402 => Class::PlanDenied,
        404 | 410 => Class::NotFound,
        429 => Class::RateLimited,
        408 | 425 | 500..=599 => Class::Retry,
        _ => Class::BadRequest,
    }
}

fn status_words(class: Class, status: u16) -> Words {
    let name = class.name();
    Words::new(format!("the answer was {status} ({name})"), format!("ответ {status} ({name})"))
}

fn failure_words(kind: TransportErrorKind) -> Words {
    match kind {
        TransportErrorKind::Blocked => {
            Words::new("the request may not be sent", "такой запрос отправлять нельзя")
        }
        TransportErrorKind::Dns => Words::new("the host was not found", "хост не найден"),
        TransportErrorKind::Connect => Words::new("no connection", "нет соединения"),
        TransportErrorKind::Tls => Words::new("no secure connection", "нет защищённого соединения"),
        TransportErrorKind::Timeout => Words::new("no answer in time", "ответ не пришёл вовремя"),
        TransportErrorKind::Cut => Words::new("the connection broke", "соединение оборвалось"),
        TransportErrorKind::TooLarge => Words::new("the answer was too large", "ответ слишком велик"),
        TransportErrorKind::Secret => Words::new("a secret is not there", "нет секрета"),
    }
}

fn with_detail(message: Words, detail: Option<String>) -> Words {
    match detail.filter(|detail| !detail.is_empty()) {
        Some(detail) if message == Words::default() => Words::new(detail.clone(), detail),
        Some(detail) => {
            Words::new(format!("{} {detail}", colon(&message.en)), format!("{} {detail}", colon(&message.ru)))
        }
        None => message,
    }
}

/// `Refused.` -> `Refused:`
fn colon(text: &str) -> String {
    format!("{}:", text.trim_end_matches(['.', ':']))
}

/// What the vendor said, shortened, control characters escaped; a detail that cannot be computed is none.
fn detail_text(detail: &Template, env: &ResponseEnvironment<'_>) -> Option<String> {
    let value = detail.eval(env).ok()?;
    let text = match value.as_ref() {
        Value::List(_) | Value::Object(_) => json::to_text(&value),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) => {
            text_of(&value).ok()??.into_owned()
        }
    };
    Some(excerpt(&text))
}

/// The text a template makes of an answer; none when it makes none.
fn text_at(template: &Template, env: &ResponseEnvironment<'_>) -> Option<String> {
    let value = template.eval(env).ok()?;
    Some(text_of(&value).ok()??.into_owned())
}

/// What an answer says of one budget; none when it says nothing, or no whole number.
fn reading(truth: &Truth, response: &Response, env: &ResponseEnvironment<'_>) -> Option<Reading> {
    let remaining = text_at(&truth.remaining, env)?.trim().parse().ok()?;
    let reset = truth.reset.as_ref().and_then(|reset| text_at(reset, env));
    let reset_ms = reset.and_then(|reset| wait_ms(&reset, response));
    Some(Reading { budget: truth.budget.clone(), remaining, reset_ms })
}

/// The wait the vendor asks for in the header made for it.
fn retry_after_ms(response: &Response) -> Option<i64> {
    wait_ms(header(response, "retry-after")?, response)
}

/// From this number on, seconds count from 1970 and not from the answer: no vendor asks for thirty years.
const UNIX_SECONDS_MIN: i64 = 1_000_000_000;

/// Seconds, or a moment; a moment is compared with the answer's own `Date`, so that no clock of ours matters.
fn wait_ms(asked: &str, response: &Response) -> Option<i64> {
    let until = match asked.trim().parse::<i64>() {
        Ok(seconds) if seconds < UNIX_SECONDS_MIN => return Some(seconds.max(0) * 1_000),
        Ok(seconds) => DateTime::from_timestamp(seconds, 0)?.fixed_offset(),
        Err(_) => DateTime::parse_from_rfc2822(asked.trim())
            .or_else(|_| DateTime::parse_from_rfc3339(asked.trim()))
            .ok()?,
    };
    let now = DateTime::parse_from_rfc2822(header(response, "date")?).ok()?;
    Some((until - now).num_milliseconds().max(0))
}

fn header<'r>(response: &'r Response, name: &str) -> Option<&'r str> {
    response.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(repeats: bool) -> Judge {
        Judge { rules: Arc::new([]), truths: Arc::new([]), repeats, keeps_body: true }
    }

    fn answer(status: u16, headers: &[(&str, &str)], body: &str) -> Exchange {
        let headers = headers.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        Ok(Response { status, headers, body: body.as_bytes().to_vec() })
    }

    fn failure(kind: TransportErrorKind) -> Exchange {
        Err(TransportError { kind, detail: "api.example".to_owned() })
    }

    #[test]
    fn without_a_rule_the_status_decides() {
        for (status, class) in [
            (200, Class::Ok),
            (204, Class::Ok),
            (301, Class::BadRequest),
            (400, Class::BadRequest),
            (401, Class::AuthBroken),
            (404, Class::NotFound),
            (408, Class::Retry),
            (425, Class::Retry),
            (429, Class::RateLimited),
            (503, Class::Retry),
        ] {
            assert_eq!(
                judge(false).judge(&answer(status, &[], ""), &Map::default()).class,
                class,
                "{status}"
            );
        }
    }

    #[test]
    fn a_lost_answer_is_unknown_unless_a_repeat_is_safe() {
        for kind in [TransportErrorKind::Timeout, TransportErrorKind::Cut, TransportErrorKind::TooLarge] {
            let class = |repeats| judge(repeats).judge(&failure(kind), &Map::default()).class;
            assert_eq!(class(false), Class::Unknown);
            assert_eq!(class(true), Class::Retry);
        }
        for kind in [TransportErrorKind::Dns, TransportErrorKind::Connect, TransportErrorKind::Tls] {
            assert_eq!(judge(false).judge(&failure(kind), &Map::default()).class, Class::Retry);
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_by_the_vendors_own_clock() {
        let wait = |headers: &[(&str, &str)]| {
            judge(false).judge(&answer(503, headers, ""), &Map::default()).retry_after_ms
        };
        assert_eq!(wait(&[("retry-after", "120")]), Some(120_000));
        let date = ("date", "Thu, 05 Mar 2026 07:15:30 GMT");
        assert_eq!(wait(&[("retry-after", "Thu, 05 Mar 2026 07:16:00 GMT"), date]), Some(30_000));
        assert_eq!(wait(&[("retry-after", "Thu, 05 Mar 2026 07:16:00 GMT")]), None);
        assert_eq!(wait(&[("retry-after", "soon")]), None);
        assert_eq!(wait(&[("retry-after", "1772694990"), date]), Some(60_000), "seconds since 1970");
        assert_eq!(wait(&[("retry-after", "2026-03-05T10:16:00+03:00"), date]), Some(30_000));
        assert_eq!(wait(&[("retry-after", "-5")]), Some(0));
    }

    #[test]
    fn an_answer_is_kept_for_later_steps_as_json_or_text() {
        let body = |text| judge(false).judge(&answer(200, &[], text), &Map::default()).body;
        assert_eq!(body("7"), Some(Value::from(7)));
        assert_eq!(body("ок"), Some(Value::from("ок")));
    }
}
