//! The fault harness itself: a campaign that could not fail would prove nothing.

use std::path::PathBuf;

use sheaf_tests::faults::{Campaign, Who};

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_answers_before_it_stores_is_found_to_lose_by_a_kill() {
    let folder = tempfile::tempdir().expect("a directory");
    let campaign = Campaign {
        who: Who::Control { harness: PathBuf::from(env!("CARGO_BIN_EXE_bench")) },
        data_root: folder.path().to_owned(),
        kills: 4,
        seed: 7,
        senders: 32,
    };
    let report = campaign.run(|_| {}).await.expect("a report");
    assert!(report.without_bite.is_empty() && report.judgement.acknowledged > 0, "{report}");
    assert!(!report.judgement.missing.is_empty() && !report.holds(), "{report}");
    assert!(report.judgement.unexpected.is_empty(), "{report}");
}
