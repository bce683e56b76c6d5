//! What Calltouch sends to try an address is no event; a lead in an unexpected shape is one.

use sheaf_bundles::event::Received;
use sheaf_runtime::directory;

use crate::repo::root;

#[test]
fn a_call_whose_parameters_were_all_renamed_at_the_vendor_is_not_taken_for_a_probe() {
    let example = root().join("examples/calltouch-mindbox");
    let compiled = directory::compile(&directory::read(&example).expect("read"));
    let hook = &compiled.workspaces[0].sound().expect("sound").hooks[0];
    let received = Received {
        method: "POST".into(),
        query: "".into(),
        headers: vec![("content-type".into(), "application/x-www-form-urlencoded".into())],
        body: b"kind=call&call_id=7&phone=79990000001".to_vec(),
        source: None,
        received_ms: 0,
    };
    let fields = sheaf_connectors::decode::decode(hook, &received).expect("decoded").fields;
    assert!(!fields.is_empty(), "what nobody declared is kept");
    assert!(!hook.is_probe(&fields), "it would be answered ok and lost");
}
