//! What a plan promises: it decides, sends the same bytes for the same state, judges, and remembers.

#![expect(clippy::disallowed_methods, reason = "reads the cases' connectors beside it")]

use std::{fs, path::Path, sync::Arc};

use sheaf_bundles::{
    artefact::Artefact,
    budget::{Reading, Window},
    catalog::Catalog,
    compile::compile,
    diagnostic::render,
    event::Event,
    id::EventId,
    json,
    lane::{Keeps, LaneId},
    plan::{After, Next, Plan, Verdict},
    request::{Encoding, Exchange, Piece, Request, Response, TransportError, TransportErrorKind},
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
    assert!(matches!(plan.record(&mut state, sent.clone(), &judgement, 0, 0), After::Again { .. }));
    let stored = RunState::from_bytes(event, &state.to_bytes()).unwrap();
    assert_eq!(stored, state);
    assert_eq!(request(&plan, &stored), sent);
    let mut state = stored;
    assert_eq!(plan.record(&mut state, sent, &plan.judge(0, &answer(200, "{}")), 0, 0), After::Go);
    assert_eq!(plan.next(&state), Next::Done);
}

#[test]
fn a_later_step_reads_the_answer_of_an_earlier_one_also_after_a_restart() {
    let plan = plan("trigger: call_ended", "", TWO);
    let event = event("{}");
    let mut state = RunState::new(Arc::clone(&event), 0);
    let first = request(&plan, &state);
    let judgement = plan.judge(0, &answer(201, r#"{"lead":12345678901234567890,"owner":"anna"}"#));
    plan.record(&mut state, first, &judgement, 0, 0);
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
    plan.record(&mut state, first, &judgement, 0, 0);
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

/// The answers to the steps of a bundle, one after the other, and what follows from each.
fn play(plan: &Plan, state: &mut RunState, answers: &[(&str, Exchange)]) -> Vec<After> {
    let names: Vec<&str> = plan.step_names().collect();
    let one = |(name, exchange): &(&str, Exchange)| match plan.next(state) {
        Next::Send { step, request } => {
            assert_eq!(names[step], *name);
            let after = plan.record(state, request, &plan.judge(step, exchange), 1_000_000, 7);
            *state = RunState::from_bytes(Arc::clone(&state.event), &state.to_bytes()).unwrap();
            after
        }
        Next::Ask { step, .. } => {
            assert_eq!(format!("{}?", names[step]), *name);
            let after = plan.record_probe(state, &plan.judge_probe(step, exchange), 1_000_000, 7);
            *state = RunState::from_bytes(Arc::clone(&state.event), &state.to_bytes()).unwrap();
            after
        }
        Next::Fail { step, reason } => {
            assert_eq!(names[step], *name, "{reason:?}");
            plan.fail(state, reason)
        }
        Next::Done => panic!("there is no step {name}"),
    };
    answers.iter().map(one).collect()
}

fn wait_ms(after: &After) -> i64 {
    match after {
        After::Again { due_ms } => due_ms - 1_000_000,
        other => panic!("{other:?}"),
    }
}

fn steps(lines: &[&str]) -> String {
    let step = |line: &&str| {
        let (name, rest) = line.split_once(' ').unwrap_or((line, ""));
        format!(
            "  - {{name: {name}, action: crm.send, connection: crm-main, \
             with: {{url: 'https://crm.example/{name}', data: {{id: '{{{{ id }}}}'}}}}{rest}}}\n"
        )
    };
    lines.iter().map(step).collect()
}

#[test]
fn a_step_keeps_to_its_own_schedule_and_the_others_to_the_bundles() {
    let text = steps(&["first , retry: {after: [1m]}", "second"]);
    let plan = plan("trigger: call_ended", "retry: {after: [2s, 3s]}", &text);
    let mut state = RunState::new(event("{}"), 0);
    let refused = || answer(503, "");
    let after = play(
        &plan,
        &mut state,
        &[
            ("first", refused()),
            ("first", answer(200, "")),
            ("second", refused()),
            ("second", refused()),
            ("second", refused()),
        ],
    );
    assert!((60_000..=66_000).contains(&wait_ms(&after[0])));
    assert_eq!(after[1], After::Go);
    assert!((2_000..=2_200).contains(&wait_ms(&after[2])), "each step begins its schedule anew");
    assert!((3_000..=3_300).contains(&wait_ms(&after[3])));
    let After::Park { reason } = &after[4] else { panic!("{after:?}") };
    assert!(reason.en.starts_with("given up after 2 retries (retry)"), "{}", reason.en);
    let after = play(&plan, &mut state, &[("second", refused())]);
    assert!((2_000..=2_200).contains(&wait_ms(&after[0])), "a replay has the whole schedule again");
}

#[test]
fn without_retries_the_first_failure_parks_the_run() {
    let plan = plan("trigger: call_ended", "retry: none", &steps(&["only"]));
    let mut state = RunState::new(event("{}"), 0);
    let after = play(&plan, &mut state, &[("only", answer(503, ""))]);
    assert!(matches!(&after[..], [After::Park { .. }]), "{after:?}");
    assert!(state.pending.is_some(), "a replay sends the same bytes");
}

#[test]
fn a_run_goes_on_after_a_step_that_may_fail_and_remembers_it() {
    let text = r#"
  - {name: first, action: crm.send, connection: crm-main, on_failure: continue, with: {url: https://crm.example/first, data: {id: "{{ id }}"}}}
  - name: second
    action: crm.send
    connection: crm-main
    with: {url: https://crm.example/second, data: {status: {value: "{{ steps.first.status }}", default: 0}}}"#;
    let plan = plan("trigger: call_ended", "retry: none", text);
    for (refused, reason) in
        [(answer(503, ""), "not to be repeated (retry)"), (answer(400, ""), "(bad_request)")]
    {
        let mut state = RunState::new(event("{}"), 0);
        assert_eq!(play(&plan, &mut state, &[("first", refused)]), [After::Go]);
        assert_eq!(text_of_body(&plan, &state), r#"{"status":0}"#, "its answer is absent");
        assert_eq!(play(&plan, &mut state, &[("second", answer(200, ""))]), [After::Go]);
        assert_eq!(plan.next(&state), Next::Done);
        let failed: Vec<_> = plan.failed(&state).collect();
        assert!(matches!(&failed[..], [("first", said)] if said.contains(reason)), "{failed:?}");
    }
}

fn text_of_body(plan: &Plan, state: &RunState) -> String {
    text(&request(plan, state).body)
}

#[test]
fn other_steps_take_the_place_of_one_that_failed_and_of_all_that_follow() {
    let instead = steps(&["mail", "tell , on_failure: continue"]).replace("\n", ",").replace("  - ", "");
    let first = format!("first , on_failure: {{steps: [{instead}]}}");
    let plan = plan("trigger: call_ended", "retry: none", &steps(&[&first, "second"]));
    assert_eq!(plan.step_names().collect::<Vec<_>>(), ["first", "second", "mail", "tell"]);

    let mut well = RunState::new(event("{}"), 0);
    play(&plan, &mut well, &[("first", answer(200, "")), ("second", answer(200, ""))]);
    assert_eq!((plan.next(&well), plan.failed(&well).count()), (Next::Done, 0));

    let mut badly = RunState::new(event("{}"), 0);
    let after = play(
        &plan,
        &mut badly,
        &[("first", answer(400, "")), ("mail", answer(200, "")), ("tell", answer(400, ""))],
    );
    assert_eq!(after, [After::Go, After::Go, After::Go]);
    assert_eq!(plan.next(&badly), Next::Done);
    assert_eq!(plan.failed(&badly).map(|(step, _)| step).collect::<Vec<_>>(), ["first", "tell"]);

    let mut worse = RunState::new(event("{}"), 0);
    let after = play(&plan, &mut worse, &[("first", answer(400, "")), ("mail", answer(400, ""))]);
    assert!(matches!(after[1], After::Park { .. }), "{after:?}");
}

#[test]
fn a_request_that_cannot_be_built_has_failed_too() {
    let two = TWO.replace("  - name: second\n", "  - name: second\n    on_failure: continue\n");
    let plan = plan("trigger: call_ended", "", &two);
    let mut state = RunState::new(event("{}"), 0);
    let evil = answer(200, r#"{"owner":"a\r\nX-Evil: 1"}"#);
    assert_eq!(
        play(&plan, &mut state, &[("first", evil), ("second", answer(200, ""))]),
        [After::Go, After::Go]
    );
    assert_eq!(plan.next(&state), Next::Done);
    assert_eq!(plan.failed(&state).map(|(step, _)| step).collect::<Vec<_>>(), ["second"]);
}

#[test]
fn nobody_knows_whether_it_worked_so_no_other_step_is_run_in_its_place() {
    let instead = steps(&["mail"]).replace("\n", "").replace("  - ", "");
    for on_failure in ["continue".to_owned(), format!("{{steps: [{instead}]}}")] {
        let plan = plan(
            "trigger: call_ended",
            "",
            &steps(&[&format!("first , on_failure: {on_failure}"), "second"]),
        );
        let mut state = RunState::new(event("{}"), 0);
        let after = play(&plan, &mut state, &[("first", lost())]);
        assert!(matches!(&after[..], [After::Park { .. }]), "{after:?}");
    }
}

/// One step whose request may be repeated, and what is run when it has failed.
fn keyed(on_failure: &str) -> Plan {
    let text = format!(
        r#"
  - {{name: lead, action: crm.lead, connection: crm-main, on_failure: {on_failure}, with: {{pipeline: sales, body: {{phone: "{{{{ callerphone }}}}"}}}}}}
  - {{name: second, action: crm.send, connection: crm-main, with: {{url: https://crm.example/second, data: {{id: "{{{{ id }}}}"}}}}}}"#
    );
    plan("trigger: call_ended", "retry: {after: [5s]}", &text)
}

#[test]
fn a_step_that_may_have_worked_has_not_failed_however_often_it_was_repeated() {
    let instead = steps(&["mail"]).replace("\n", "").replace("  - ", "");
    for on_failure in ["continue".to_owned(), format!("{{steps: [{instead}]}}")] {
        for last in [lost(), answer(503, ""), answer(404, ""), answer(400, "")] {
            let plan = keyed(&on_failure);
            let mut state = RunState::new(event("{}"), 0);
            let after = play(&plan, &mut state, &[("lead", lost()), ("lead", last.clone())]);
            let After::Park { reason } = &after[1] else { panic!("{last:?}: {after:?}") };
            assert!(reason.en.starts_with("it may have worked: "), "{}", reason.en);
            let after = play(&plan, &mut state, &[("lead", answer(503, "")), ("lead", answer(503, ""))]);
            assert!(matches!(after[1], After::Park { .. }), "nor once it was replayed: {after:?}");
            let well = ("second", answer(400, ""));
            let after = play(&plan, &mut state, &[("lead", answer(200, "")), well]);
            let After::Park { reason } = &after[1] else { panic!("{after:?}") };
            assert!(!reason.en.contains("may have worked"), "it is said of that step alone: {}", reason.en);
        }
    }
}

#[test]
fn what_was_not_sent_or_only_asks_has_failed_when_no_answer_came() {
    let refused = TransportError { kind: TransportErrorKind::Connect, detail: String::new() };
    let mut state = RunState::new(event("{}"), 0);
    let after =
        play(&keyed("continue"), &mut state, &[("lead", Err(refused.clone())), ("lead", Err(refused))]);
    assert_eq!(after[1], After::Go, "nothing was sent");
    let text = r#"
  - {name: look, action: crm.look, connection: crm-main, on_failure: continue, with: {number: "{{ id }}"}}"#;
    let plan = plan("trigger: call_ended", "retry: none", text);
    let mut state = RunState::new(event("{}"), 0);
    assert_eq!(play(&plan, &mut state, &[("look", lost())]), [After::Go], "it changes nothing");
}

/// An order, which the CRM can be asked about; the next step reads what is left of its answer.
fn orders(own: &str) -> Plan {
    let text = format!(
        r#"
  - {{name: order, action: crm.order, connection: crm-main, retry: {{after: [5s, 1m, 10m]}}, {own}with: {{number: "{{{{ id }}}}"}}}}
  - name: second
    action: crm.send
    connection: crm-main
    with: {{url: https://crm.example/second, data: {{status: {{value: "{{{{ steps.order.status }}}}", default: 0}}}}}}"#
    );
    plan("trigger: call_ended", "", &text)
}

fn lost() -> Exchange {
    Err(TransportError { kind: TransportErrorKind::Cut, detail: String::new() })
}

#[test]
fn the_vendor_is_asked_before_a_request_is_repeated_whose_answer_was_lost() {
    let plan = orders("");
    let mut state = RunState::new(event("{}"), 0);
    let sent = request(&plan, &state);
    let after = play(&plan, &mut state, &[("order", lost())]);
    assert!((5_000..=5_500).contains(&wait_ms(&after[0])), "not at once: it may still be at it");
    let Next::Ask { request: question, .. } = plan.next(&state) else { panic!("{:?}", plan.next(&state)) };
    assert_eq!(
        (question.method.as_str(), text(&question.url)),
        ("GET", "https://crm.example/orders/c-1".to_owned())
    );
    assert_eq!(
        question.headers,
        [("X-Key".into(), vec![Piece::Secret { name: "key".into(), encoding: Encoding::Plain }])]
    );
    assert!(question.body.is_empty());

    let absent = answer(200, r#"{"total":0}"#);
    assert_eq!(play(&plan, &mut state, &[("order?", absent)]), [After::Go]);
    assert_eq!(request(&plan, &state), sent, "it has it not, so the same bytes are sent");
    let after = play(&plan, &mut state, &[("order", lost())]);
    assert!((60_000..=66_000).contains(&wait_ms(&after[0])), "the schedule goes on");
    let found = answer(200, r#"{"total":1}"#);
    assert_eq!(play(&plan, &mut state, &[("order?", found)]), [After::Go]);
    assert_eq!(text_of_body(&plan, &state), r#"{"status":0}"#, "what it answered then, nobody knows");
    assert_eq!(plan.failed(&state).count(), 0);
}

#[test]
fn a_vendor_that_cannot_say_is_asked_again_and_then_a_person_is_and_a_replay_asks_first() {
    for cannot_say in [answer(200, "{}"), answer(404, ""), answer(503, ""), answer(401, ""), lost()] {
        let plan = orders("on_failure: continue, ");
        let mut state = RunState::new(event("{}"), 0);
        let asked = ("order?", cannot_say);
        let after =
            play(&plan, &mut state, &[("order", lost()), asked.clone(), asked.clone(), asked.clone()]);
        assert!((60_000..=66_000).contains(&wait_ms(&after[1])));
        assert!((600_000..=660_000).contains(&wait_ms(&after[2])));
        assert!(matches!(after[3], After::Park { .. }), "no other step as long as nobody knows: {after:?}");
        assert!(matches!(plan.next(&state), Next::Ask { .. }));
    }
}

#[test]
fn an_answer_that_is_none_does_not_say_that_the_vendor_has_nothing() {
    let text = r#"
  - {name: order, action: crm.invoice, connection: crm-main, with: {number: "{{ id }}"}}"#;
    let plan = plan("trigger: call_ended", "", text);
    let asked = |exchange| {
        let mut state = RunState::new(event("{}"), 0);
        play(&plan, &mut state, &[("order", lost()), ("order?", exchange)]);
        matches!(plan.next(&state), Next::Ask { .. })
    };
    for status in [301, 400, 401, 402, 403, 429, 500, 503] {
        assert!(asked(answer(status, "<html></html>")), "{status} is not the list of what it has");
    }
    for absent in [answer(200, r#"{"items":[]}"#), answer(204, ""), answer(404, "{}")] {
        assert!(!asked(absent));
    }
}

#[test]
fn a_step_may_ask_for_a_repeat_or_for_a_person_instead() {
    for (own, class) in [
        ("unknown: repeat, ", Class::Retry),
        ("unknown: park, ", Class::Unknown),
        ("unknown: probe, ", Class::Unknown),
    ] {
        let plan = orders(own);
        assert_eq!(plan.judge(0, &lost()).class, class, "{own}");
        let mut state = RunState::new(event("{}"), 0);
        let after = play(&plan, &mut state, &[("order", lost())]);
        assert_eq!(matches!(after[0], After::Park { .. }), own.contains("park"), "{after:?}");
        assert_eq!(matches!(plan.next(&state), Next::Ask { .. }), own.contains("probe"), "{own}");
    }
}

/// A plan whose runs wait for each other.
fn plan_in_lanes(on: &str, order_by: &str) -> Plan {
    plan(&format!("trigger: call_ended, {on}"), order_by, LEAD)
}

#[test]
fn runs_of_one_key_have_one_lane_and_an_event_without_the_key_has_none() {
    let plan = plan_in_lanes("model: first", "order_by: callerphone");
    let lane = |fields: &str| plan.lane(&event(fields));
    let one = lane("{}").expect("it has a key");
    assert_eq!(one.keeps, Keeps::Every);
    assert_eq!(one.id, LaneId::of("test", "79990000001"));
    assert_eq!(lane(r#"{"callerphone": "8 (999) 000-00-01"}"#), Some(one), "the same number");
    let landline = lane(r#"{"callerphone": "+7 495 000-00-01"}"#);
    assert_eq!(lane(r#"{"callerphone": "495 000-00-01"}"#), landline, "the same number");
    assert_ne!(lane(r#"{"callerphone": "79990000002"}"#), Some(one));
    assert_eq!(lane(r#"{"callerphone": ""}"#), None);
    assert_eq!(lane(r#"{"callerphone": null}"#), None);
    assert_eq!(plan.decide(&event("{}")), Verdict::Take { delay_ms: 0 });
    assert_eq!(plan_in_lanes("model: first", "").lane(&event("{}")), None);
}

#[test]
fn an_event_that_settles_waits_for_a_newer_one_of_its_key() {
    let plan = plan_in_lanes("settle: {by: attrs.deviceUUID, quiet: 10m}", "order_by: attrs.deviceUUID");
    let lane = plan.lane(&event(r#"{"attrs": {"deviceUUID": "d"}}"#)).expect("it has a key");
    assert_eq!((lane.id, lane.keeps), (LaneId::of("test", "d"), Keeps::Latest));
    assert_eq!(plan.decide(&event("{}")), Verdict::Take { delay_ms: 600_000 });
    assert_eq!(plan.lane(&event("{}")), None);
}

#[test]
fn a_connection_has_its_connectors_budgets_and_an_answer_says_what_is_left_of_them() {
    let plan = orders("");
    let connection = plan.step_connection(0).unwrap();
    let budgets: Vec<(&str, i64, bool)> =
        connection.budgets.iter().map(|it| (it.name.as_str(), it.amount, it.told)).collect();
    assert_eq!(budgets, [("second", 7, false), ("day", 3_000, true)]);
    assert_eq!(connection.budgets[0].window, Window::Rolling { ms: 1_000 });
    assert!(matches!(connection.budgets[1].window, Window::Daily { zone: chrono_tz::Europe::Moscow, .. }));
    assert_eq!((plan.step_cost(0), connection.budgets[1].reserve_percent), (1, 20));
    let said = |left: &str, body: &str| {
        let headers = vec![("x-left".into(), left.into())];
        let answer = Ok(Response { status: 200, headers, body: body.as_bytes().to_vec() });
        plan.judge(0, &answer).readings
    };
    let reading = |reset_ms| Reading { budget: "day".to_owned(), remaining: 12, reset_ms };
    assert_eq!(said("12", r#"{"reset": 41}"#), [reading(Some(41_000))]);
    assert_eq!(said("12", "{}"), [reading(None)]);
    assert_eq!(said("many", r#"{"reset": 41}"#), []);
}
