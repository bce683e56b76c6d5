//! `sheaf demo`, which is `make run`, and the README's five minutes.

use std::{fs, os::unix::fs::symlink, process::Command};

use insta::assert_snapshot;

use crate::shop::{CALLTOUCH, HOOK, Shop, repository};

#[test]
fn the_demo_shows_a_dynamic_call_a_static_one_and_why_a_third_goes_elsewhere() {
    let shop = Shop::with(CALLTOUCH);
    let said = shop.sheaf(&["demo", "DIR", "--once"]);
    assert!(said.ok, "{}", said.text);
    assert_snapshot!(shop.redacted(&said.text));
}

#[test]
fn the_demo_speaks_russian() {
    let shop = Shop::with(CALLTOUCH);
    let said = shop.sheaf(&["demo", "DIR", "--once", "--lang", "ru"]);
    assert!(said.ok, "{}", said.text);
    assert_snapshot!(shop.redacted(&said.text));
}

#[test]
fn the_demo_uses_the_master_key_of_the_environment() {
    let shop = Shop::with(CALLTOUCH).set("SHEAF_MASTER_KEY", &"07".repeat(32));
    let said = shop.sheaf(&["demo", "DIR", "--once"]);
    assert!(said.ok, "{}", said.text);
}

/// The line that the README has one type in a second terminal.
fn curl_line() -> String {
    let readme = fs::read_to_string(repository().join("README.md")).expect("the README");
    readme.lines().find(|line| line.starts_with("curl ")).expect("a line with curl").to_owned()
}

#[test]
fn the_readmes_curl_line_works_as_printed_beside_the_demo() {
    if !Command::new("curl").arg("--version").output().is_ok_and(|output| output.status.success()) {
        assert!(std::env::var_os("CI").is_none(), "curl is not installed, and CI must not skip its test");
        eprintln!("skipped: curl is not installed");
        return;
    }
    let shop = Shop::with(CALLTOUCH);
    let built = shop.root.path().join("target/release");
    fs::create_dir_all(&built).expect("a folder");
    symlink(env!("CARGO_BIN_EXE_sheaf"), built.join("sheaf")).expect("a link");
    let mut demo = shop.start(&["demo", "examples/calltouch-mindbox"]);
    for _ in 0..3 {
        demo.until("   }");
    }
    let mut line = Command::new("sh");
    line.args(["-c", &curl_line()]);
    shop.environment(&mut line);
    let answer = line.output().expect("a shell");
    assert!(answer.status.success(), "{}", String::from_utf8_lossy(&answer.stderr));
    let request = demo.until("   }");
    for part in ["the vendor gets:", "operation=CallTouch&", "\"callId\": \"700101\""] {
        assert!(request.contains(part), "{part}: {request}");
    }
    assert!(demo.stop());
    let known = shop.json(&["events", "--connection", HOOK]);
    assert_eq!(known.as_array().map(Vec::len), Some(4));
}
