use sheaf_tests::{
    calltouch::{
        AttributesForm, Calltouch, DEVICE, DEVICE_ATTRIBUTE, Leads, Method, Model, Moment, PARAMETERS,
        Payload, Spaces, Webhook,
    },
    receiver::{Behaviour, Receiver},
};

fn webhook(receiver: &Receiver, method: Method) -> Webhook {
    let address = receiver.origin().trim_start_matches("http://").parse().expect("an address");
    Webhook { address, path: "/hook".to_owned(), method, model: Model::Events, spaces: Spaces::Percent }
}

#[test]
fn names_and_values_are_percent_encoded_in_ascii_brackets_and_cyrillic_too() {
    let payload = Payload::of(&[
        ("leadtype", "call"),
        ("utm_content", "<не заполнено>"),
        ("comment[0][comment]", "ok & done = 100%"),
        ("utm_term", "a+b"),
        ("calltime", "2026-03-05 10:15:30"),
        ("gcid", "1-2_3.4"),
    ]);
    assert_eq!(
        payload.encode(Spaces::Percent),
        "leadtype=call\
         &utm_content=%3C%D0%BD%D0%B5%20%D0%B7%D0%B0%D0%BF%D0%BE%D0%BB%D0%BD%D0%B5%D0%BD%D0%BE%3E\
         &comment%5B0%5D%5Bcomment%5D=ok%20%26%20done%20%3D%20100%25\
         &utm_term=a%2Bb\
         &calltime=2026-03-05%2010%3A15%3A30\
         &gcid=1-2_3.4"
    );
    assert!(payload.encode(Spaces::Plus).contains("&calltime=2026-03-05+10%3A15%3A30&"));
}

#[test]
fn attributes_are_written_in_the_three_forms_that_were_seen() {
    let attrs = [("param1", "value1"), ("param2", "value2")];
    let written = |form| Payload::of(&[]).attributes(form, &attrs);
    assert_eq!(written(AttributesForm::Json).get("attrs"), Some(r#"{"param1":"value1","param2":"value2"}"#));
    assert_eq!(written(AttributesForm::Broken).get("attrs"), Some(r#"{"param1" "value1","param2""value2""#));
    assert_eq!(
        written(AttributesForm::Brackets).encode(Spaces::Percent),
        "attrs%5Bparam1%5D=value1&attrs%5Bparam2%5D=value2"
    );
}

#[test]
fn a_call_and_a_request_together_carry_every_parameter_of_the_article() {
    let carries = |payload: &Payload, name: &str| {
        payload.pairs().iter().any(|(key, _)| key == name || key.starts_with(&format!("{name}[")))
    };
    let call = Payload::call(Moment::CallEnded, 1);
    let request = Payload::request(Moment::RequestCreated, 1);
    for parameter in PARAMETERS {
        assert_eq!(carries(&call, parameter.name), parameter.leads != Leads::Requests, "{}", parameter.name);
        assert_eq!(carries(&request, parameter.name), parameter.leads != Leads::Calls, "{}", parameter.name);
    }
    assert_eq!(PARAMETERS.len(), 74);
}

#[test]
fn what_is_not_known_when_a_call_starts_is_not_sent_then_and_the_redirect_number_is_undefined() {
    let start = Payload::call(Moment::CallStarted, 1);
    assert_eq!(start.get("redirectNumber"), Some("undefined"));
    assert_eq!(start.get("callphase"), Some("callconnected"));
    for parameter in PARAMETERS.iter().filter(|it| !it.at_start && it.name != "redirectNumber") {
        assert!(!start.pairs().iter().any(|(key, _)| key.starts_with(parameter.name)), "{}", parameter.name);
    }
}

#[test]
fn a_first_send_lists_no_changed_fields_and_a_later_one_lists_them() {
    assert_eq!(Payload::call(Moment::CallStarted, 1).get("changedFields"), Some("null"));
    assert_eq!(Payload::call(Moment::CallEnded, 1).get("changedFields"), Some("null"));
    assert_eq!(Payload::request(Moment::RequestCreated, 1).get("changedFields"), Some("null"));
    assert_eq!(Payload::call(Moment::TagsChanged, 1).get("changedFields"), Some("tags_manual"));
    assert!(
        Payload::call_end_after_start(1).get("changedFields").is_some_and(|it| it.starts_with("callphase,"))
    );
}

#[test]
fn the_simple_model_has_three_moments_and_the_event_model_ten() {
    assert_eq!(Model::Simple.moments(), [Moment::CallStarted, Moment::CallEnded, Moment::RequestCreated]);
    assert_eq!(Model::Events.moments().len(), 10);
}

#[test]
fn a_parameter_can_be_unticked_and_renamed_with_all_of_its_brackets() {
    let payload = Payload::call(Moment::CallEnded, 1).without("text").renamed("comment", "notes");
    let names: Vec<&str> = payload.pairs().iter().map(|(name, _)| name.as_str()).collect();
    assert!(!names.iter().any(|name| name.starts_with("text") || name.starts_with("comment")));
    assert!(names.contains(&"notes[1][party]") && names.contains(&"tags_manual"));
}

#[tokio::test]
async fn both_methods_carry_the_same_names() {
    let receiver = Receiver::start().await.expect("a receiver");
    let payload = Payload::call(Moment::CallEnded, 700_101);
    for method in [Method::Post, Method::Get] {
        let sender = Calltouch::new(webhook(&receiver, method));
        assert!(sender.happens(Moment::CallEnded, &payload).await.expect("an answer").succeeded());
    }
    let [post, get]: [_; 2] = receiver.messages().try_into().expect("two requests");
    assert_eq!((post.method(), post.path(), get.method(), get.path()), ("POST", "/hook", "GET", "/hook"));
    assert_eq!(post.header("content-type"), Some("application/x-www-form-urlencoded"));
    assert_eq!(post.body, payload.encode(Spaces::Percent).as_bytes());
    assert_eq!(get.query(), payload.pairs());
    assert!(get.body.is_empty() && post.query().is_empty());
}

#[tokio::test]
async fn only_200_is_a_success_for_it() {
    let receiver = Receiver::start().await.expect("a receiver");
    let sender = Calltouch::new(webhook(&receiver, Method::Post));
    let payload = Payload::call(Moment::CallEnded, 1);
    for status in [201, 202, 204, 302, 400, 503] {
        receiver.script([Behaviour::Status(status, String::new())]);
        assert!(
            !sender.happens(Moment::CallEnded, &payload).await.expect("an answer").succeeded(),
            "{status}"
        );
    }
    assert!(sender.activate().await.expect("an answer").succeeded());
    assert!(
        receiver.messages().last().is_some_and(|probe| probe.body.is_empty()),
        "the probe carries nothing"
    );
}

#[tokio::test]
async fn a_resend_repeats_every_attempt_with_a_fresh_record_link_and_sending_time_only() {
    let receiver = Receiver::start().await.expect("a receiver");
    let sender = Calltouch::new(webhook(&receiver, Method::Get));
    sender.happens(Moment::CallStarted, &Payload::call(Moment::CallStarted, 1)).await.expect("an answer");
    sender.happens(Moment::CallEnded, &Payload::call_end_after_start(1)).await.expect("an answer");
    assert_eq!(sender.resend().await.expect("answers").len(), 2);

    let queries: Vec<_> = receiver.messages().iter().map(sheaf_tests::wire::Message::query).collect();
    for (first, again) in [(&queries[0], &queries[2]), (&queries[1], &queries[3])] {
        let differing =
            first.iter().zip(again).filter(|(old, new)| old != new).map(|(old, _)| old.0.as_str());
        assert_eq!(differing.collect::<Vec<_>>(), ["reclink", "sendingTimestamp"]);
        assert_eq!(first.len(), again.len());
    }
    assert!(queries[0].contains(&("attrs".to_owned(), format!(r#"{{"{DEVICE_ATTRIBUTE}":"{DEVICE}"}}"#))));
}
