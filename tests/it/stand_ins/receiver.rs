use std::time::Duration;

use sheaf_tests::{
    receiver::{Behaviour, Receiver},
    wire::{self, Client, Message},
};

async fn ask(receiver: &Receiver, body: &str) -> std::io::Result<Message> {
    let address = receiver.origin().trim_start_matches("http://").parse().expect("an address");
    let request = wire::request("PUT", "/a/b?c=%20d", &[("X-Key", "k")], body.as_bytes());
    Client::connect(address).await?.exchange(&request).await
}

#[tokio::test]
async fn it_writes_down_what_it_got() {
    let receiver = Receiver::start().await.expect("a receiver");
    assert_eq!(ask(&receiver, "one").await.expect("an answer").status(), 200);
    let messages =
        tokio::time::timeout(Duration::from_secs(5), receiver.at_least(1)).await.expect("one message");
    let [message]: [_; 1] = messages.try_into().expect("exactly one");
    assert_eq!((message.method(), message.path(), message.header("x-key")), ("PUT", "/a/b", Some("k")));
    assert_eq!((message.query(), message.body), (vec![("c".to_owned(), " d".to_owned())], b"one".to_vec()));
}

#[tokio::test]
async fn it_behaves_by_script_and_then_well_again() {
    let receiver = Receiver::start().await.expect("a receiver");
    receiver.script([
        Behaviour::Status(429, "{}".to_owned()),
        Behaviour::Redirect("http://127.0.0.1:1/".to_owned()),
        Behaviour::After(Duration::from_millis(1), Box::new(Behaviour::Status(503, String::new()))),
        Behaviour::HalfAnswer,
        Behaviour::Cut,
    ]);
    assert_eq!(ask(&receiver, "").await.expect("an answer").status(), 429);
    let redirect = ask(&receiver, "").await.expect("an answer");
    assert_eq!((redirect.status(), redirect.header("location")), (302, Some("http://127.0.0.1:1/")));
    assert_eq!(ask(&receiver, "").await.expect("an answer").status(), 503);
    assert!(ask(&receiver, "").await.is_err(), "half an answer");
    assert!(ask(&receiver, "").await.is_err(), "no answer");
    assert_eq!(ask(&receiver, "").await.expect("an answer").status(), 200);
    receiver.script([Behaviour::Garbage]);
    assert_eq!(ask(&receiver, "").await.map(|it| it.status()).unwrap_or(0), 0, "no status in garbage");
}
