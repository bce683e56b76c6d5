//! What one webhook carries, and how it is written.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::{AttributesForm, DEVICE, DEVICE_ATTRIBUTE, Leads, Moment, PARAMETERS, Shape, Spaces};

/// Everything but `A-Z a-z 0-9 - _ .` is encoded, in names and in values.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.');

/// The parameters of one send, in order, decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload {
    pairs: Vec<(String, String)>,
}

impl Payload {
    /// A call's webhook with every parameter a call has at this moment. First of its lead where the moment can be.
    pub fn call(moment: Moment, id: u64) -> Payload {
        assert!(moment != Moment::RequestCreated, "a call cannot be a created request");
        let started = moment == Moment::CallStarted;
        let payload = Payload::sample(Leads::Requests, started)
            .set("id", &id.to_string())
            .set("callphase", if started { "callconnected" } else { "calldisconnected" });
        match moment {
            Moment::CallStarted => payload.set("redirectNumber", "undefined"),
            Moment::CallEnded => payload,
            _ => payload.set("changedFields", moment.changed_fields()),
        }
    }

    /// A request's webhook with every parameter a request has.
    pub fn request(moment: Moment, id: u64) -> Payload {
        assert!(Payload::requests_have(moment), "{moment:?} happens to calls only");
        Payload::sample(Leads::Calls, false)
            .set("leadtype", "request")
            .set("requestId", &id.to_string())
            .set("changedFields", moment.changed_fields())
    }

    /// Whether this can happen to a request.
    pub fn requests_have(moment: Moment) -> bool {
        match moment {
            Moment::RequestCreated
            | Moment::TagsChanged
            | Moment::CommentsChanged
            | Moment::ManagerChanged
            | Moment::RatingChanged => true,
            Moment::CallStarted
            | Moment::CallEnded
            | Moment::StatusChanged
            | Moment::SpamChanged
            | Moment::Transcribed => false,
        }
    }

    /// The end of a call whose start was sent before by the same webhook.
    pub fn call_end_after_start(id: u64) -> Payload {
        Payload::call(Moment::CallEnded, id).set("changedFields", Moment::CallEnded.changed_fields())
    }

    /// Any pairs.
    pub fn of(pairs: &[(&str, &str)]) -> Payload {
        Payload {
            pairs: pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        }
    }

    fn sample(without: Leads, at_start: bool) -> Payload {
        let mut payload = Payload { pairs: Vec::new() };
        for parameter in PARAMETERS.iter().filter(|it| it.leads != without && (it.at_start || !at_start)) {
            match parameter.shape {
                Shape::Text(sample) => payload.pairs.push((parameter.name.to_owned(), sample.to_owned())),
                Shape::List(items) => payload.push_list(parameter.name, items),
                Shape::Attributes => {
                    payload = payload.attributes(AttributesForm::Json, &[(DEVICE_ATTRIBUTE, DEVICE)])
                }
            }
        }
        payload
    }

    fn push_list(&mut self, name: &str, items: &[[(&str, &str); 2]]) {
        for (index, item) in items.iter().enumerate() {
            for (key, value) in item {
                self.pairs.push((format!("{name}[{index}][{key}]"), (*value).to_owned()));
            }
        }
    }

    /// The same with a parameter's value; added at the end when it was not there.
    pub fn set(mut self, name: &str, value: &str) -> Payload {
        match self.pairs.iter_mut().find(|(key, _)| key == name) {
            Some((_, old)) => value.clone_into(old),
            None => self.pairs.push((name.to_owned(), value.to_owned())),
        }
        self
    }

    /// The same without a parameter, all of its `name[…]` included: the user unticked it.
    pub fn without(mut self, name: &str) -> Payload {
        self.pairs.retain(|(key, _)| {
            key != name && !key.strip_prefix(name).is_some_and(|rest| rest.starts_with('['))
        });
        self
    }

    /// The same with a parameter under the name the user gave it.
    pub fn renamed(mut self, from: &str, to: &str) -> Payload {
        for (key, _) in &mut self.pairs {
            if let Some(rest) = key.strip_prefix(from).filter(|rest| rest.is_empty() || rest.starts_with('['))
            {
                *key = format!("{to}{rest}");
            }
        }
        self
    }

    /// The same with these site attributes, written in that form.
    pub fn attributes(self, form: AttributesForm, attributes: &[(&str, &str)]) -> Payload {
        let mut payload = self.without("attrs");
        match form {
            AttributesForm::Json => {
                let object: serde_json::Map<_, _> =
                    attributes.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())).collect();
                payload.pairs.push(("attrs".to_owned(), serde_json::Value::Object(object).to_string()));
            }
            AttributesForm::Brackets => {
                let pair = |(name, value): &(&str, &str)| (format!("attrs[{name}]"), (*value).to_owned());
                payload.pairs.extend(attributes.iter().map(pair));
            }
            AttributesForm::Broken => payload.pairs.push(("attrs".to_owned(), broken(attributes))),
        }
        payload
    }

    /// What a manual re-send makes of it: a fresh record link (its token is new at each send) and a fresh sending time.
    pub fn sent_again(&self, nonce: u64) -> Payload {
        let seconds: u64 = self.get("sendingTimestamp").and_then(|text| text.parse().ok()).unwrap_or(0);
        let mut again = self.clone();
        if again.get("reclink").is_some() {
            again = again.set("reclink", &format!("https://calls.example/rec?token=jwt-{nonce}"));
        }
        again.set("sendingTimestamp", &(seconds + nonce).to_string())
    }

    /// A parameter's value.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The pairs, decoded.
    pub fn pairs(&self) -> &[(String, String)] {
        &self.pairs
    }

    /// The form body, or the query: ASCII only, names (their brackets too) and values percent-encoded.
    pub fn encode(&self, spaces: Spaces) -> String {
        let mut text = String::new();
        for (name, value) in &self.pairs {
            if !text.is_empty() {
                text.push('&');
            }
            text.extend(utf8_percent_encode(name, ENCODED));
            text.push('=');
            text.extend(utf8_percent_encode(value, ENCODED));
        }
        match spaces {
            Spaces::Percent => text,
            Spaces::Plus => text.replace("%20", "+"),
        }
    }
}

/// As the article prints it: a space instead of the first colon, nothing instead of the others, no closing brace.
fn broken(attributes: &[(&str, &str)]) -> String {
    let mut text = "{".to_owned();
    for (index, (name, value)) in attributes.iter().enumerate() {
        let between = if index == 0 { " " } else { "" };
        let comma = if index == 0 { "" } else { "," };
        text.push_str(&format!("{comma}\"{name}\"{between}\"{value}\""));
    }
    text
}
