//! Fields whose names have dots in them: what the compiler takes a reference for is what is found in an event.

use std::sync::Arc;

use sheaf_bundles::{
    event::{Event, Received},
    id::EventId,
    plan::{Next, Verdict},
    run::RunState,
};
use sheaf_connectors::decode::decode;

use crate::{received_form, workspace::Workspace};

/// The body of the request that a bundle with this filter and this one value makes of what a connection received; none when
/// the filter does not hold.
fn sent(connector: &str, settings: &str, received: &Received, on: &str, reference: &str) -> Option<String> {
    let bundle = format!(
        "kind: bundle\nname: b\ntitle: B\nactive: true\non: {{connection: under-test, {on}}}\nfilter: '{reference} is not empty'\n\
         steps:\n  - {{name: send, action: http.request, connection: out, with: {{url: 'https://x.example/', parameters: {{v: '{{{{ {reference} }}}}'}}}}}}\n"
    );
    let out = "kind: connection\nname: out\nconnector: http\nsettings: {base_url: 'https://x.example'}\n";
    let own = format!("kind: connection\nname: under-test\nconnector: {connector}\nsettings: {settings}\n");
    let workspace = Workspace::of(
        reference,
        &[
            ("connections/out.yaml", out.to_owned()),
            ("connections/under-test.yaml", own),
            ("bundles/b.yaml", bundle),
        ],
    );
    let hook = workspace.integration.hook("under-test").expect("a hook");
    let fields = decode(hook, received).expect("decodes").fields;
    let event = Event { id: EventId(1), connection: "under-test".into(), received_ms: 0, fields };
    let plan = &workspace.integration.plans[0];
    assert_eq!(plan.missing_parameters(&event), [""; 0], "{reference}");
    matches!(plan.decide(&event), Verdict::Take { .. }).then(|| {
        match plan.next(&RunState::new(Arc::new(event), 0)) {
            Next::Send { request, .. } => request.body.iter().map(|piece| format!("{piece:?}")).collect(),
            other => panic!("{reference}: {other:?}"),
        }
    })
}

#[test]
fn an_attribute_with_a_dot_in_its_name_is_found_however_a_bundle_writes_it() {
    let form = "leadtype=call&callphase=calldisconnected&id=1&changedFields=null&attrs%5B%D0%BA%D1%83%D0%BA%D0%B0.v-1%5D=found";
    for reference in ["attrs.кука.v-1", "attrs.[кука.v-1]", "[кука.v-1]"] {
        let settings = "{attributes: [кука.v-1]}";
        let sent = sent("calltouch", settings, &received_form(form), "trigger: call_ended", reference);
        assert!(sent.as_ref().is_some_and(|body| body.contains("found")), "{reference}: {sent:?}");
    }
}

#[test]
fn a_declared_field_is_found_where_a_key_inside_has_dots() {
    let settings = "{fields: {data.utm.source: {type: text}}}";
    for body in [
        r#"{"data": {"utm.source": "found"}}"#,
        r#"{"data": {"utm": {"source": "found"}}}"#,
        r#"{"data.utm": {"source": "found"}}"#,
        r#"{"data.utm.source": "found"}"#,
    ] {
        let mut received = received_form(body);
        received.headers = vec![("content-type".into(), "application/json".into())];
        let sent = sent("webhook", settings, &received, "trigger: received", "data.utm.source");
        assert!(sent.as_ref().is_some_and(|sent| sent.contains("found")), "{body}: {sent:?}");
    }
}
