//! What an answer means: the class of an exchange, and what the engine does about each class.

use crate::{budget::Reading, value::Value, words::Words};

/// What came of one delivery. What the engine does is fixed per class, never per connector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// Done.
    Ok,
    /// Done; there was nothing to do or to give.
    Empty,
    /// The vendor had already done it.
    DuplicateOk,
    /// A passing failure; repeat on the schedule.
    Retry,
    /// Too many requests; repeat when the vendor says.
    RateLimited,
    /// A quota is spent; repeat when the vendor says.
    QuotaExhausted,
    /// The access is stale; refresh it and repeat.
    AuthRefresh,
    /// The access is refused; a person must act.
    AuthBroken,
    /// The vendor's plan does not include it.
    PlanDenied,
    /// The vendor refuses these data; a repeat cannot help.
    BadRequest,
    /// The thing addressed is not there.
    NotFound,
    /// No answer to a request that may have worked and must not be repeated blindly.
    Unknown,
}

/// What the engine does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disposition {
    /// The step is done.
    Delivered,
    /// Try again later, on the step's schedule; when that is over, the step has failed.
    Repeat,
    /// The step has failed; its `on_failure` says what follows.
    Fail,
    /// Nobody knows whether it worked; never repeated blindly.
    Unknown,
}

impl Class {
    /// Every class, in the order of the manifest's documentation.
    pub const ALL: [Class; 12] = [
        Class::Ok,
        Class::Empty,
        Class::DuplicateOk,
        Class::Retry,
        Class::RateLimited,
        Class::QuotaExhausted,
        Class::AuthRefresh,
        Class::AuthBroken,
        Class::PlanDenied,
        Class::BadRequest,
        Class::NotFound,
        Class::Unknown,
    ];

    /// What the engine does about it.
    pub fn disposition(self) -> Disposition {
        match self {
            Class::Ok | Class::Empty | Class::DuplicateOk => Disposition::Delivered,
            Class::Retry | Class::RateLimited | Class::QuotaExhausted | Class::AuthRefresh => {
                Disposition::Repeat
            }
            Class::AuthBroken | Class::PlanDenied | Class::BadRequest | Class::NotFound => Disposition::Fail,
            Class::Unknown => Disposition::Unknown,
        }
    }

    /// The class as manifests, logs and history spell it.
    pub fn name(self) -> &'static str {
        match self {
            Class::Ok => "ok",
            Class::Empty => "empty",
            Class::DuplicateOk => "duplicate_ok",
            Class::Retry => "retry",
            Class::RateLimited => "rate_limited",
            Class::QuotaExhausted => "quota_exhausted",
            Class::AuthRefresh => "auth_refresh",
            Class::AuthBroken => "auth_broken",
            Class::PlanDenied => "plan_denied",
            Class::BadRequest => "bad_request",
            Class::NotFound => "not_found",
            Class::Unknown => "unknown",
        }
    }

    /// The class of that name.
    pub fn from_name(name: &str) -> Option<Class> {
        Class::ALL.into_iter().find(|class| class.name() == name)
    }
}

/// What a connector's rules, or the default ones, say of one exchange.
#[derive(Debug, Clone, PartialEq)]
pub struct Judgement {
    /// The class.
    pub class: Class,
    /// For people: what happened. May quote the vendor's answer, never a secret of ours.
    pub message: Words,
    /// The request went out and its answer did not come: it may have worked.
    pub lost: bool,
    /// The HTTP status, when there was an answer.
    pub status: Option<u16>,
    /// The wait the vendor asked for, in milliseconds from the answer; only for classes that repeat.
    pub retry_after_ms: Option<i64>,
    /// What the answer says is left of the connection's budgets.
    pub readings: Vec<Reading>,
    /// The parsed answer, kept only when the step is done and a later step reads it.
    pub body: Option<Value>,
}
