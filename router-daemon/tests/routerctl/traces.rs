//! Frames, messages and the log.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{PATIENCE, Router, free_port, routerctl, text};

#[test]
fn the_frames_of_a_connection_are_shown_when_somebody_wants_to_see_them() {
    let files = tempfile::tempdir().expect("a directory");
    let log = files.path().join("log");
    let output = log.to_str().expect("a path").to_owned();
    let router = Router::with(|entities| {
        entities.push(json!(["log", {"module": "DEFAULT", "outputFile": output}]));
    });
    let logged = |text: &str| {
        let deadline = Instant::now() + PATIENCE;
        while !fs::read_to_string(&log).is_ok_and(|log| log.contains(text)) {
            assert!(Instant::now() < deadline, "nothing like {text} is logged");
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    let mut receiver = router.start(&["recv", "traced", "--timeout", "60"]);
    let links = ["query", "link", "--where", "owningAddr=Mtraced"];
    router.until(&links);
    let links = router.json(&links);
    let id = links[0]["connectionId"].as_str().expect("a number");
    let id = id.to_owned();
    let connection = router.json(&["read", "connection", &id]);
    assert_eq!(connection["enableProtocolTrace"], false);
    let traced = router.json(&["update", "connection", &id, "enableProtocolTrace=true"]);
    assert_eq!(traced["enableProtocolTrace"], true);
    router.done(&["send", "traced", "hello"]);
    assert!(receiver.wait().expect("it ends").success());
    logged(&format!(
        "PROTOCOL (info) [C{id}]:FRAME: 0 -> @transfer(20) [handle="
    ));
    logged(&format!(
        "PROTOCOL (info) [C{id}]:FRAME: 0 <- @close(24) []"
    ));
    logged(&format!("PROTOCOL (info) [C{id}]:FRAME:   -> EOS"));

    router.done(&["log", "set", "PROTOCOL", "debug+"]);
    router.done(&["ping", "--count", "1"]);
    logged(":FRAME:   <- SASL");
    logged(":FRAME: 0 -> @sasl-mechanisms(64) [sasl-server-mechanisms=");
    logged(":FRAME: 0 <- @open(16) [container-id=\"routerctl.");
    let lines = fs::read_to_string(&log).expect("the log");
    assert!(!lines.contains("initial-response=b"), "{lines}");

    // Of one of them nobody wants to see more.
    let mut receiver = router.start(&["recv", "silent", "--timeout", "60"]);
    let links = ["query", "link", "--where", "owningAddr=Msilent"];
    router.until(&links);
    let id = router.json(&links)[0]["connectionId"].clone();
    let id = id.as_str().expect("a number");
    let connection = router.json(&["read", "connection", id]);
    assert_eq!(connection["enableProtocolTrace"], true);
    let silent = router.json(&["update", "connection", id, "enableProtocolTrace=false"]);
    assert_eq!(silent["enableProtocolTrace"], false);
    router.done(&["send", "silent", "hello"]);
    assert!(receiver.wait().expect("it ends").success());
    let lines = fs::read_to_string(&log).expect("the log");
    assert!(
        lines.contains(&format!("[C{id}]:FRAME: 0 <- @attach(18)")),
        "{lines}"
    );
    assert!(
        !lines.contains(&format!("[C{id}]:FRAME: 0 -> @transfer(20)")),
        "{lines}"
    );
}

#[test]
fn the_messages_of_a_listener_are_logged_where_it_says_so() {
    let files = tempfile::tempdir().expect("a directory");
    let log = files.path().join("log");
    let output = log.to_str().expect("a path").to_owned();
    let port = free_port();
    let router = Router::with(|entities| {
        entities[1][1]["messageLoggingComponents"] = json!("to, app-properties");
        entities.push(json!(["listener", {
            "name": "silent", "host": "127.0.0.1", "port": port.to_string(),
        }]));
        entities.push(json!(["log", {"module": "DEFAULT", "outputFile": output}]));
    });
    let send = |bus: &str, address: &str| {
        let mut receiver = router.start(&["recv", address, "--timeout", "60"]);
        let link = format!("owningAddr=M{address}");
        router.until(&["query", "link", "--where", &link]);
        let sent = routerctl(&["--bus", bus, "send", address, "hush"], "");
        assert!(sent.status.success(), "{}", text(&sent.stderr));
        assert!(receiver.wait().expect("it ends").success());
    };
    let lines = |of: &str| {
        let log = fs::read_to_string(&log).unwrap_or_default();
        let lines = log
            .lines()
            .filter(|line| line.contains(" MESSAGE (debug) [C"));
        let lines = lines.filter(|line| line.contains(of));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let bus = router.bus();
    send(&bus, "unseen");
    router.done(&["log", "set", "MESSAGE", "debug+"]);
    send(&bus, "first");
    send(&format!("amqp://127.0.0.1:{port}"), "second");
    let deadline = Instant::now() + PATIENCE;
    while lines("(second -> ").is_empty() {
        assert!(Instant::now() < deadline, "{:?}", lines(""));
        std::thread::sleep(Duration::from_millis(20));
    }
    for (address, received) in [("unseen", 0), ("first", 1), ("second", 0)] {
        let lines = lines(&format!("-> {address})"));
        assert_eq!(lines.len(), received, "{lines:?}");
        let start = "]: Received Message{} on link '";
        assert!(lines.iter().all(|line| line.contains(start)), "{lines:?}");
    }
    for (address, sent) in [("unseen", 0), ("first", 1), ("second", 1)] {
        let lines = lines(&format!("({address} -> "));
        assert_eq!(lines.len(), sent, "{lines:?}");
        let start = "]: Sent Message{} on link '";
        assert!(lines.iter().all(|line| line.contains(start)), "{lines:?}");
    }
    let asked = lines("]: Received Message{to=\"");
    let operation = "app-properties={\"operation\"=\"QUERY\", ";
    assert!(
        asked.iter().any(|line| line.contains(operation)),
        "{asked:?}"
    );
    assert!(!lines("").iter().any(|line| line.contains("hush")));
}

#[test]
fn the_latest_lines_of_the_log_are_shown() {
    let router = Router::standalone();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let lines = router.done(&["log", "show"]);
        if lines.contains(" SERVER (info) Operational, ") {
            break;
        }
        // It listens a moment before it says so.
        assert!(Instant::now() < deadline, "{lines}");
    }
    let last = router.json(&["log", "show", "--limit", "2"]);
    let entries = last.as_array().expect("entries");
    assert_eq!(entries.len(), 2, "{last}");
    for entry in entries {
        assert!(
            entry["time"]
                .as_str()
                .is_some_and(|at| at.starts_with("20")),
            "{last}"
        );
        assert!(
            entry["text"].is_string() && entry["line"].is_i64(),
            "{last}"
        );
    }
}

#[test]
fn log_levels_are_shown_and_set() {
    let router = Router::standalone();
    router.done(&["log", "set", "server", "warning+"]);
    let log = router.json(&["log", "get", "SERVER"]);
    let levels = log[0]["enable"].as_str().expect("levels");
    assert!(levels.contains("warning"), "{log}");
    router.fails(&["log", "get", "COOKING"], 1, "there is no module COOKING");
    router.fails(&["log", "set", "SERVER", "loud"], 1, "'loud'");
}
