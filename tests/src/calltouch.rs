//! A stand-in for Calltouch: sends webhooks as the vendor does. Source of every fact: the vendor's article on webhooks.

mod parameters;
mod payload;
mod sender;

pub use parameters::{Leads, PARAMETERS, Parameter, Shape, parameter};
pub use payload::Payload;
pub use sender::{Calltouch, Sent, Webhook};

/// The attribute that the Mindbox recipe ties a visitor by.
pub const DEVICE_ATTRIBUTE: &str = "mindboxDeviceUUID";
/// Its value in the samples.
pub const DEVICE: &str = "0b0c0000-0000-4000-8000-000000000001";

/// The HTTP method a user picks for a webhook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// The default: a form in the body.
    Post,
    /// The same names in the query.
    Get,
}

/// The sending model a user picks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Model {
    /// Three moments, each after an optional delay.
    Simple,
    /// All ten, at once.
    Events,
}

impl Model {
    /// What a webhook of this model can be subscribed to.
    pub fn moments(self) -> &'static [Moment] {
        match self {
            Model::Simple => &Moment::ALL[..3],
            Model::Events => &Moment::ALL,
        }
    }
}

/// What happened to a lead. The vendor sends no name of it: it is told by `leadtype`, `callphase` and `changedFields`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// A call starts.
    CallStarted,
    /// A call ends.
    CallEnded,
    /// A request is made.
    RequestCreated,
    /// A call's status changes.
    StatusChanged,
    /// A call's spam mark changes.
    SpamChanged,
    /// A call has its transcript.
    Transcribed,
    /// Tags change.
    TagsChanged,
    /// Comments change.
    CommentsChanged,
    /// The manager changes.
    ManagerChanged,
    /// The rating changes.
    RatingChanged,
}

impl Moment {
    /// All ten, the simple model's three first.
    pub const ALL: [Moment; 10] = [
        Moment::CallStarted,
        Moment::CallEnded,
        Moment::RequestCreated,
        Moment::StatusChanged,
        Moment::SpamChanged,
        Moment::Transcribed,
        Moment::TagsChanged,
        Moment::CommentsChanged,
        Moment::ManagerChanged,
        Moment::RatingChanged,
    ];

    /// What `changedFields` lists when this is not the lead's first send.
    pub fn changed_fields(self) -> &'static str {
        match self {
            Moment::CallStarted | Moment::RequestCreated => "null",
            Moment::CallEnded => {
                "callphase,redirectNumber,duration,waiting_time,status,targetcall,uniqtargetcall"
            }
            Moment::StatusChanged => "status",
            Moment::SpamChanged => "spam",
            Moment::Transcribed => "text",
            Moment::TagsChanged => "tags_manual",
            Moment::CommentsChanged => "comment",
            Moment::ManagerChanged => "manager",
            Moment::RatingChanged => "rating",
        }
    }
}

/// How `attrs` is written; the vendor's article prints the third.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttributesForm {
    /// `attrs={"name":"value"}`.
    Json,
    /// `attrs[name]=value`.
    Brackets,
    /// `attrs={"name" "value","name2""value2"`: no colons, no closing brace.
    Broken,
}

impl AttributesForm {
    /// All of them.
    pub const ALL: [AttributesForm; 3] =
        [AttributesForm::Json, AttributesForm::Brackets, AttributesForm::Broken];
}

/// How a space is written; "URL Encode" may mean either.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spaces {
    /// `%20`.
    Percent,
    /// `+`.
    Plus,
}
