//! Messages, and how many of them.

use std::fs;

use serde_json::{Value as Json, json};

use crate::support::{Router, routerctl, text};

#[test]
fn messages_are_sent_and_received() {
    let router = Router::standalone();
    let receiver = router.start(&["recv", "q", "--count", "3", "--json"]);
    router.until(&["query", "router.address", "--where", "key=Mq"]);
    let sent = router.json(&["send", "q", "one", "two", "three"]);
    assert_eq!((&sent["sent"], &sent["failed"]), (&json!(3), &json!(0)));
    let output = receiver.wait_with_output().expect("it ends");
    let received: Json = serde_json::from_slice(&output.stdout).expect("a document");
    let bodies = received
        .as_array()
        .expect("messages")
        .iter()
        .map(|m| &m["body"]);
    assert_eq!(bodies.collect::<Vec<_>>(), ["one", "two", "three"]);
    router.fails(
        &["recv", "q", "--timeout", "0.1"],
        4,
        "no message from 'q' within 0.1 s",
    );
    router.fails(&["send", "q", "one", "--timeout", "0.1"], 4, "no credit");
}

#[test]
fn standard_input_and_files_are_sent_too() {
    let router = Router::standalone();
    let file = router.directory.path().join("body");
    fs::write(&file, "from a file").expect("a file");
    let receiver = router.start(&["recv", "q", "--count", "3"]);
    router.until(&["query", "router.address", "--where", "key=Mq"]);
    let bus = router.bus();
    let output = routerctl(&["-b", &bus, "send", "q"], "from standard input");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let path = file.to_str().expect("a path");
    router.done(&["send", "q", "--file", path, "--settled"]);
    let output = routerctl(&["-b", &bus, "send", "q", "--file", "-"], "by its name");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let output = receiver.wait_with_output().expect("it ends");
    let received = "from standard input\nfrom a file\nby its name\n";
    assert_eq!(text(&output.stdout), received);
}

#[test]
fn a_file_that_is_no_text_arrives_as_it_was() {
    let router = Router::standalone();
    let file = router.directory.path().join("body");
    let octets: Vec<u8> = (0..60_000_u32).map(|n| (n * n / 7) as u8).collect();
    fs::write(&file, &octets).expect("a file");
    let receiver = router.start(&["recv", "q", "--raw"]);
    router.until(&["query", "router.address", "--where", "key=Mq"]);
    router.done(&["send", "q", "--file", file.to_str().expect("a path")]);
    let output = receiver.wait_with_output().expect("it ends");
    assert!(output.stdout == octets, "{} octets", output.stdout.len());
}

#[test]
fn top_shows_rates_and_ping_times() {
    let router = Router::standalone();
    let lines = router.done(&["top", "--json", "--count", "2", "--interval", "0.05"]);
    assert_eq!(lines.lines().count(), 2);
    for line in lines.lines() {
        let json: Json = serde_json::from_str(line).expect("a document a line");
        assert!(
            json["links"].as_array().is_some_and(|l| !l.is_empty()),
            "{line}"
        );
    }
    let page = router.done(&["top", "--count", "1", "--interval", "0.05"]);
    assert!(page.contains("deliveries/s"), "{page}");
    let ping = router.json(&["ping", "--count", "3", "--interval", "0"]);
    assert_eq!(ping["times"].as_array().map(Vec::len), Some(3), "{ping}");
}
