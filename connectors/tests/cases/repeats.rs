//! Which of Calltouch's sends are the same event.

use sheaf_connectors::decode::decode;

use crate::{received_form, workspace::Workspace};

const CALL: &str = "leadtype=call&callphase=calldisconnected&id=700101&sessionId=9001";

/// Whether the second send is the same event as the first.
fn repeats(workspace: &Workspace, first: &str, second: &str) -> bool {
    let [first, second] = [first, second].map(|form| {
        let decoded = decode(&workspace.integration.hooks[0], &received_form(&format!("{CALL}&{form}")));
        decoded.expect("decodes").dedupe.expect("an identity")
    });
    first == second
}

#[test]
fn two_tag_changes_of_one_call_are_two_events() {
    let workspace = Workspace::receiving("repeats", "calltouch", None);
    let change = |tag: &str| format!("changedFields=tags_manual&tags_manual={tag}");
    assert!(!repeats(&workspace, &change("a"), &change("b")));
}

#[test]
fn one_call_under_two_attribution_models_is_two_events() {
    let workspace = Workspace::receiving("repeats", "calltouch", None);
    assert!(!repeats(&workspace, "attribution=1&source=yandex", "attribution=0&source=yandex"));
}

#[test]
fn a_re_send_with_a_fresh_token_and_time_is_no_event_of_its_own_unless_repeats_are_wanted() {
    let (first, again) =
        ("reclink=https://c.example/a&sendingTimestamp=1", "reclink=https://c.example/b&sendingTimestamp=2");
    assert!(repeats(&Workspace::receiving("repeats", "calltouch", None), first, again));
    let reprocess = Workspace::with_settings("repeats", "calltouch", "{on_resend: reprocess}");
    assert!(!repeats(&reprocess, first, again));
}
