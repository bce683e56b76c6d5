//! The routing of the Mindbox recipe, for every way in which a session and a cookie can be there and not be there.

use sheaf_bundles::{compile::Integration, event::Event, id::EventId, plan::Verdict};
use sheaf_connectors::decode::decode;

use crate::{examples::integration, received_form};

const NO_SESSION: [&str; 4] = ["", "&sessionId=", "&sessionId=null", "&sessionId=undefined"];
const SESSION: [&str; 1] = ["&sessionId=9001"];
const NO_COOKIE: [&str; 11] = [
    "",
    "&attrs=",
    "&attrs=null",
    "&attrs=undefined",
    "&attrs=%7B%7D",
    "&attrs=%5B%5D",
    "&attrs=%7B%22mindboxDeviceUUID%22%3A%22%22%7D",
    "&attrs=%7B%22mindboxDeviceUUID%22%3Anull%7D",
    "&attrs=%7B%22mindboxDeviceUUID%22%3A%22undefined%22%7D",
    "&attrs%5BmindboxDeviceUUID%5D=null",
    "&attrs=%7B%22mindboxDeviceUUID%22+%22undefined%22",
];
const COOKIE: [&str; 3] = [
    "&attrs=%7B%22mindboxDeviceUUID%22%3A%220b0c%22%7D",
    "&attrs%5BmindboxDeviceUUID%5D=0b0c",
    "&attrs=%7B%22mindboxDeviceUUID%22+%220b0c%22",
];

/// The bundles of an example that take the event.
fn takers(integration: &Integration, session: &str, cookie: &str) -> Vec<String> {
    let form = format!(
        "leadtype=call&callphase=calldisconnected&id=1&attribution=1&changedFields=null{session}{cookie}"
    );
    let fields = decode(&integration.hooks[0], &received_form(&form)).expect("decodes").fields;
    let event = Event { id: EventId(1), connection: "calltouch-main".into(), received_ms: 0, fields };
    let takes = integration.plans.iter().filter(|plan| matches!(plan.decide(&event), Verdict::Take { .. }));
    takes.map(|plan| plan.bundle.clone()).collect()
}

fn check(example: &str, sessions: &[&str], cookies: &[&str], expected: &[&str]) {
    let integration = integration(example);
    for session in sessions {
        for cookie in cookies {
            assert_eq!(takers(&integration, session, cookie), expected, "{example}: {session} {cookie}");
        }
    }
}

#[test]
fn a_session_and_a_cookie_go_to_the_dynamic_operation() {
    for example in ["calltouch-mindbox", "calltouch-mindbox-http"] {
        check(example, &SESSION, &COOKIE, &["mindbox-dynamic"]);
    }
}

#[test]
fn neither_in_any_way_of_being_empty_goes_to_the_static_operation() {
    for example in ["calltouch-mindbox", "calltouch-mindbox-http"] {
        check(example, &NO_SESSION, &NO_COOKIE, &["mindbox-static"]);
    }
}

#[test]
fn one_of_the_two_goes_to_the_third_bundle_and_nowhere_in_the_published_recipe() {
    check("calltouch-mindbox", &SESSION, &NO_COOKIE, &["mindbox-one-sided"]);
    check("calltouch-mindbox", &NO_SESSION, &COOKIE, &["mindbox-one-sided"]);
    check("calltouch-mindbox-http", &SESSION, &NO_COOKIE, &[]);
    check("calltouch-mindbox-http", &NO_SESSION, &COOKIE, &[]);
}
