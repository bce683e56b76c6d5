//! What a plan promises: it decides, sends the same bytes for the same state, judges, and remembers.

#![expect(clippy::disallowed_methods, reason = "reads the cases' connectors beside it")]

use std::{fs, path::Path, sync::Arc};

use sheaf_bundles::{
    artefact::Artefact,
    catalog::Catalog,
    compile::compile,
    diagnostic::render,
    event::Event,
    id::EventId,
    json,
    plan::{Next, Plan, Verdict},
    request::{Exchange, Piece, Request, Response, TransportError, TransportErrorKind},
    run::{RunState, delivery_key},
    value::{Map, Value},
    verdict::Class,
    words::Language,
};

fn read(path: &str) -> (String, Vec<u8>) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/errors/workspace");
    (path.to_owned(), fs::read(folder.join(path)).unwrap())
}

/// The plan of a bundle with this `on`, filter and steps.
fn plan(on: &str, filter: &str, steps: &str) -> Plan {
    let manifests = [read("catalog/calls/connector.yaml"), read("catalog/crm/connector.yaml")];
    let (catalog, _, out) = Catalog::load(&manifests);
    assert!(out.is_empty());
    let bundle = format!(
        "kind: bundle\nname: test\non: {{connection: calls-main, {on}}}\n{filter}\nsteps:\n{steps}\n"
    );
    let mut files = vec![read("sheaf.yaml"), read("connections/calls.yaml"), read("connections/crm.yaml")];
    files.push(("bundles/test.yaml".to_owned(), bundle.into_bytes()));
    let (integration, sources, out) = compile(&files, &catalog);
    assert!(out.is_empty(), "{}", render::text(&sources, &out, Language::En, false));
    Arc::into_inner(integration.unwrap().plans.remove(0)).unwrap()
}

const LEAD: &str = r#"
  - name: lead
    action: crm.lead
    connection: crm-main
    with:
      pipeline: sales
      body:
        phone: "{{ callerphone }}"
        utm.source: "{{ utm_source }}"
        note: "{{ deviceUUID }}""#;

const TWO: &str = r#"
  - {name: first, action: crm.send, connection: crm-main, with: {url: https://crm.example/first, data: {id: "{{ id }}"}}}
  - name: second
    action: crm.send
    connection: crm-main
    with:
      url: https://crm.example/second
      headers: {X-Source: "{{ steps.first.body.owner }}"}
      data: {lead: "{{ steps.first.body.lead }}", status: "{{ steps.first.status }}"}"#;

fn event(fields: &str) -> Arc<Event> {
    let Ok(Value::Object(given)) = json::parse(fields.as_bytes(), json::Limits::default()) else {
        panic!("{fields}")
    };
    let mut fields: Map = [("id", "c-1"), ("phase", "end"), ("callerphone", "79990000001"), ("model", "1")]
        .into_iter()
        .map(|(name, value)| (name.into(), Value::from(value)))
        .collect();
    fields.extend(*given);
    Arc::new(Event { id: EventId(9), connection: "calls-main".into(), received_ms: 0, fields })
}

fn request(plan: &Plan, state: &RunState) -> Request {
    match plan.next(state) {
        Next::Send { request, .. } => request,
        other => panic!("{other:?}"),
    }
}

fn text(pieces: &[Piece]) -> String {
    let shown = pieces.iter().map(|piece| match piece {
        Piece::Text(text) => text.to_string(),
        Piece::Secret { name, .. } => format!("<{name}>"),
    });
    shown.collect()
}

fn answer(status: u16, body: &str) -> Exchange {
    Ok(Response { status, headers: Vec::new(), body: body.as_bytes().to_vec() })
}

#[test]
fn a_plan_decides_by_its_trigger_its_option_and_its_filter() {
    let plan = plan("trigger: call_ended, model: first, delay: 90s", "filter: sessionId is not empty", LEAD);
    for (fields, verdict) in [
        (r#"{"sessionId":"1"}"#, Verdict::Take { delay_ms: 90_000 }),
        (r#"{"sessionId":null}"#, Verdict::Filtered),
        ("{}", Verdict::Filtered),
        (r#"{"sessionId":"1","model":"0"}"#, Verdict::NotFired),
        (r#"{"sessionId":"1","phase":"start"}"#, Verdict::NotFired),
    ] {
        assert_eq!(plan.decide(&event(fields)), verdict, "{fields}");
    }
    assert!(plan.explain(&event("{}")).en.contains("sessionId"));
    assert_eq!(plan.missing_parameters(&event("{}")), ["sessionId"]);
    assert!(plan.missing_parameters(&event(r#"{"sessionId":null}"#)).is_empty());
}

#[test]
fn a_request_holds_the_mapping_the_key_and_placeholders_for_secrets() {
    let plan = plan("trigger: call_ended", "", LEAD);
    let event = event(r#"{"attrs":{"deviceUUID":"d-1"},"utm_source":null}"#);
    let sent = request(&plan, &RunState::new(Arc::clone(&event), 0));
    assert_eq!(text(&sent.url), "https://crm.example/leads/sales");
    assert_eq!((sent.method.as_str(), sent.origin.as_str()), ("POST", "https://crm.example"));
    assert_eq!(text(&sent.body), r#"{"phone":"79990000001","note":"d-1"}"#);
    let headers: Vec<_> = sent.headers.iter().map(|(name, value)| (name.as_str(), text(value))).collect();
    let key = delivery_key(event.id, &plan.artefact().hash, "lead", 0);
    assert_eq!(
        headers,
        [
            ("Idempotency-Key", key),
            ("Content-Type", "application/json".to_owned()),
            ("X-Key", "<key>".to_owned())
        ]
    );
}

#[test]
fn the_same_state_gives_the_same_bytes_and_a_replay_as_new_another_key() {
    let plan = plan("trigger: call_ended", "", LEAD);
    let sent = |generation| request(&plan, &RunState::new(event("{}"), generation));
    assert_eq!(sent(0), sent(0));
    assert_ne!(sent(0).headers, sent(1).headers);
}

#[test]
fn a_refused_request_is_stored_and_sent_again_byte_for_byte() {
    let plan = plan("trigger: call_ended", "", LEAD);
    let event = event("{}");
    let mut state = RunState::new(Arc::clone(&event), 0);
    let sent = request(&plan, &state);
    let judgement = plan.judge(0, &answer(503, ""));
    assert_eq!(judgement.class, Class::Retry);
    plan.record(&mut state, sent.clone(), &judgement);
    let stored = RunState::from_bytes(event, &state.to_bytes()).unwrap();
    assert_eq!(stored, state);
    assert_eq!(request(&plan, &stored), sent);
    let mut state = stored;
    plan.record(&mut state, sent, &plan.judge(0, &answer(200, "{}")));
    assert_eq!(plan.next(&state), Next::Done);
}

#[test]
fn a_later_step_reads_the_answer_of_an_earlier_one_also_after_a_restart() {
    let plan = plan("trigger: call_ended", "", TWO);
    let event = event("{}");
    let mut state = RunState::new(Arc::clone(&event), 0);
    let first = request(&plan, &state);
    let judgement = plan.judge(0, &answer(201, r#"{"lead":12345678901234567890,"owner":"anna"}"#));
    plan.record(&mut state, first, &judgement);
    let state = RunState::from_bytes(event, &state.to_bytes()).unwrap();
    let second = request(&plan, &state);
    assert_eq!(text(&second.body), r#"{"lead":12345678901234567890,"status":201}"#);
    assert_eq!(second.headers[0], ("X-Source".into(), vec![Piece::Text("anna".into())]));
}

#[test]
fn a_header_value_with_a_line_break_stops_the_run_with_a_reason() {
    let plan = plan("trigger: call_ended", "", TWO);
    let mut state = RunState::new(event("{}"), 0);
    let first = request(&plan, &state);
    let judgement = plan.judge(0, &answer(200, r#"{"owner":"a\r\nX-Evil: 1"}"#));
    plan.record(&mut state, first, &judgement);
    match plan.next(&state) {
        Next::Fail { step, reason } => {
            assert_eq!(step, 1);
            assert!(reason.en.contains("X-Source") && !reason.en.contains("Evil"), "{}", reason.en);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_lost_answer_is_repeated_only_when_the_vendor_can_tell() {
    let lost = || Err(TransportError { kind: TransportErrorKind::Timeout, detail: String::new() });
    assert_eq!(plan("trigger: call_ended", "", LEAD).judge(0, &lost()).class, Class::Retry, "keyed");
    assert_eq!(plan("trigger: call_ended", "", TWO).judge(0, &lost()).class, Class::Unknown);
}

#[test]
fn an_artefact_compiles_into_the_very_same_plan() {
    let plan = plan("trigger: call_ended", "", LEAD);
    let again = Plan::from_artefact(plan.artefact().clone()).unwrap();
    let state = RunState::new(event("{}"), 0);
    assert_eq!(again.artefact(), plan.artefact());
    assert_eq!(request(&again, &state), request(&plan, &state));
    assert!(Plan::from_artefact(Artefact::stored(b"nonsense".to_vec(), Vec::new())).is_err());
}
