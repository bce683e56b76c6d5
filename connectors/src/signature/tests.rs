use sheaf_bundles::event::Received;

use super::*;

const NOW_MS: i64 = 1_614_265_330_000;
const TOLERANCE_MS: i64 = 300_000;

fn received(headers: &[(&str, &str)], body: &str) -> Received {
    Received {
        method: "POST".into(),
        query: "".into(),
        headers: headers.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
        body: body.as_bytes().to_vec(),
        source: Some("92.118.67.9".parse().expect("an address")),
        received_ms: NOW_MS,
    }
}

fn check(
    check: SourceCheck,
    received: &Received,
    secrets: &'static [(&'static str, &'static str)],
) -> Result<(), Refused> {
    check_at(NOW_MS, check, received, secrets)
}

fn check_at(
    now_ms: i64,
    check: SourceCheck,
    received: &Received,
    secrets: &'static [(&'static str, &'static str)],
) -> Result<(), Refused> {
    let look_up = |name: &str| secrets.iter().find(|(key, _)| *key == name).map(|(_, value)| *value);
    verify(&[check], received, &look_up, now_ms)
}

fn hmac(style: HmacStyle) -> SourceCheck {
    SourceCheck::Hmac { style, secret: "key".into(), tolerance_ms: TOLERANCE_MS }
}

fn token() -> SourceCheck {
    SourceCheck::Header { name: "x-token".into(), prefix: "Bearer ".into(), secret: "key".into() }
}

/// The example of the Standard Webhooks specification.
fn standard(signature: &str) -> Received {
    let headers = [
        ("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek"),
        ("webhook-timestamp", "1614265330"),
        ("webhook-signature", signature),
    ];
    received(&headers, r#"{"test": 2432232314}"#)
}

const STANDARD_KEY: &[(&str, &str)] = &[("key", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")];
const STANDARD_SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

/// The example of GitHub's documentation.
const GITHUB_KEY: &[(&str, &str)] = &[("key", "It's a Secret to Everybody")];
const GITHUB_SIGNATURE: &str = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";

fn github_style() -> SourceCheck {
    hmac(HmacStyle::Github { header: "x-hub-signature-256".into() })
}

const TIMESTAMPED: &str =
    "t=1614265330,v1=00ff,v1=ea93c8cd5492266befd8b6ed489638f01d4a9af59f39c9872eec9f1cbf630af3";

fn timestamped_style() -> SourceCheck {
    hmac(HmacStyle::Timestamped { header: "x-signature".into() })
}

#[test]
fn standard_webhooks_accepts_the_specifications_own_example() {
    assert_eq!(check(hmac(HmacStyle::StandardWebhooks), &standard(STANDARD_SIGNATURE), STANDARD_KEY), Ok(()));
    let several = format!("v1a,AAAA v1,AAAA {STANDARD_SIGNATURE}");
    assert_eq!(check(hmac(HmacStyle::StandardWebhooks), &standard(&several), STANDARD_KEY), Ok(()));
}

#[test]
fn standard_webhooks_refuses_another_signature_and_another_body() {
    assert_eq!(
        check(hmac(HmacStyle::StandardWebhooks), &standard("v1,AAAA"), STANDARD_KEY),
        Err(Refused::Mismatch)
    );
    let mut changed = standard(STANDARD_SIGNATURE);
    changed.body.push(b' ');
    assert_eq!(check(hmac(HmacStyle::StandardWebhooks), &changed, STANDARD_KEY), Err(Refused::Mismatch));
}

#[test]
fn a_signed_time_outside_the_tolerance_is_refused_on_both_sides() {
    for (shift_ms, expected) in [
        (TOLERANCE_MS, Ok(())),
        (-TOLERANCE_MS, Ok(())),
        (TOLERANCE_MS + 1, Err(Refused::Expired)),
        (-TOLERANCE_MS - 1, Err(Refused::Expired)),
    ] {
        let style = hmac(HmacStyle::StandardWebhooks);
        assert_eq!(
            check_at(NOW_MS + shift_ms, style, &standard(STANDARD_SIGNATURE), STANDARD_KEY),
            expected,
            "{shift_ms}"
        );
        let stamped = received(&[("x-signature", TIMESTAMPED)], r#"{"test": 1}"#);
        assert_eq!(
            check_at(NOW_MS + shift_ms, timestamped_style(), &stamped, &[("key", "tkey")]),
            expected,
            "{shift_ms}"
        );
    }
}

#[test]
fn a_standard_key_that_is_not_base64_lets_nobody_in() {
    let request = standard(STANDARD_SIGNATURE);
    let refused = check(hmac(HmacStyle::StandardWebhooks), &request, &[("key", "whsec_***")]);
    assert_eq!(refused, Err(Refused::Secret("key".into())));
}

#[test]
fn github_accepts_its_documentations_own_example() {
    let request = received(&[("x-hub-signature-256", GITHUB_SIGNATURE)], "Hello, World!");
    assert_eq!(check(github_style(), &request, GITHUB_KEY), Ok(()));
    let other = received(&[("x-hub-signature-256", GITHUB_SIGNATURE)], "Hello, World?");
    assert_eq!(check(github_style(), &other, GITHUB_KEY), Err(Refused::Mismatch));
}

#[test]
fn a_missing_or_malformed_signature_is_named() {
    let refused = Err(Refused::Malformed("x-hub-signature-256".into()));
    for headers in
        [vec![], vec![("x-hub-signature-256", "sha1=00")], vec![("x-hub-signature-256", "sha256=0")]]
    {
        assert_eq!(check(github_style(), &received(&headers, ""), GITHUB_KEY), refused);
    }
    let refused = Err(Refused::Malformed("x-signature".into()));
    for value in ["v1=00", "t=soon,v1=00", ""] {
        assert_eq!(
            check(timestamped_style(), &received(&[("x-signature", value)], ""), GITHUB_KEY),
            refused,
            "{value}"
        );
    }
}

#[test]
fn timestamped_signatures_accept_any_of_several() {
    let request = received(&[("x-signature", TIMESTAMPED)], r#"{"test": 1}"#);
    assert_eq!(check(timestamped_style(), &request, &[("key", "tkey")]), Ok(()));
    assert_eq!(check(timestamped_style(), &request, &[("key", "other")]), Err(Refused::Mismatch));
}

#[test]
fn while_a_key_is_rotated_the_previous_one_is_accepted_too() {
    let request = received(&[("x-token", "Bearer old")], "");
    assert_eq!(check(token(), &request, &[("key", "new")]), Err(Refused::Mismatch));
    assert_eq!(check(token(), &request, &[("key", "new"), ("key_previous", "old")]), Ok(()));
    assert_eq!(check(token(), &request, &[("key_previous", "old")]), Err(Refused::Secret("key".into())));
}

#[test]
fn an_empty_secret_lets_nobody_in() {
    let request = received(&[("x-token", "Bearer ")], "");
    assert_eq!(check(token(), &request, &[("key", "")]), Err(Refused::Secret("key".into())));
    // As `whsec_$KEY` is where KEY is not set; everybody can sign with no key at all.
    let signature = mac(b"", &[b"msg_p5jXN8AQM9LWM0D4loKWxJek.1614265330.", br#"{"test": 2432232314}"#]);
    let signed = standard(&format!("v1,{}", BASE64.encode(signature)));
    for empty in [&[("key", "whsec_")] as &[_], &[("key", "whsec_"), ("key_previous", "whsec_")]] {
        assert_eq!(
            check(hmac(HmacStyle::StandardWebhooks), &signed, empty),
            Err(Refused::Secret("key".into()))
        );
    }
}

#[test]
fn basic_needs_the_user_and_the_password() {
    let basic = || SourceCheck::Basic { user: "shop".into(), secret: "key".into() };
    let right = received(&[("authorization", "basic c2hvcDpzM2NyZXQ=")], "");
    assert_eq!(check(basic(), &right, &[("key", "s3cret")]), Ok(()));
    assert_eq!(check(basic(), &right, &[("key", "other")]), Err(Refused::Mismatch));
    let bare = received(&[("authorization", "Bearer c2hvcDpzM2NyZXQ=")], "");
    assert_eq!(check(basic(), &bare, &[("key", "s3cret")]), Err(Refused::Malformed("authorization".into())));
}

#[test]
fn an_address_must_be_in_one_of_the_networks_also_when_mapped() {
    let networks = || {
        SourceCheck::Addresses(vec![Network { address: "92.118.66.0".parse().expect("address"), prefix: 23 }])
    };
    let mut request = received(&[], "");
    for (source, expected) in [
        (Some("92.118.67.255"), Ok(())),
        (Some("::ffff:92.118.66.1"), Ok(())),
        (Some("92.118.68.0"), Err(Refused::Address)),
        (Some("::1"), Err(Refused::Address)),
        (None, Err(Refused::Address)),
    ] {
        request.source = source.map(|text| text.parse().expect("address"));
        assert_eq!(check(networks(), &request, &[]), expected, "{source:?}");
    }
}

#[test]
fn every_check_must_pass() {
    let request = received(&[("x-token", "Bearer s")], "");
    let elsewhere =
        SourceCheck::Addresses(vec![Network { address: "10.0.0.0".parse().expect("address"), prefix: 8 }]);
    let secret = |name: &str| (name == "key").then_some("s");
    assert_eq!(verify(&[], &request, &secret, NOW_MS), Ok(()));
    assert_eq!(verify(&[token(), elsewhere], &request, &secret, NOW_MS), Err(Refused::Address));
}

#[test]
fn what_we_sign_is_the_specifications_own_example() {
    let (_, key) = STANDARD_KEY[0];
    let signed =
        sign_standard(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
    assert_eq!(signed.as_deref(), Some(STANDARD_SIGNATURE));
    for unusable in ["", "whsec_", "whsec_not base64!"] {
        assert_eq!(sign_standard(unusable, "m", 0, b""), None, "{unusable:?}");
    }
}
