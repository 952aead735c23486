//! The comparison, over two relays.

use std::net::TcpListener;

use benches::compare::{CASES, CompareOptions, compare, markdown};
use benches::relay::{Relay, RelayOptions};
use clap::Parser;

fn relay() -> Relay {
    Relay::start(
        TcpListener::bind("127.0.0.1:0").unwrap(),
        RelayOptions::default(),
    )
    .unwrap()
}

#[test]
fn every_case_is_put_on_every_router_in_every_round() {
    let (one, two) = (relay(), relay());
    let pid = std::process::id();
    let targets = [
        format!("one={}@{pid}", one.address()),
        format!("two={}", two.address()),
    ];
    let arguments = format!(
        "router-compare --target {} --target {} --rounds 2 --duration 0.1 --warmup 0.05",
        targets[0], targets[1]
    );
    let options = CompareOptions::try_parse_from(arguments.split(' ')).unwrap();
    let mut heard = 0;
    let comparison = compare(&options, |_| heard += 1).unwrap();
    assert!(comparison.is_complete());
    assert_eq!(
        (heard, comparison.trials.len()),
        (4 * CASES.len(), 4 * CASES.len())
    );
    let order: Vec<&str> = comparison
        .trials
        .iter()
        .map(|trial| trial.target.as_str())
        .collect();
    assert_eq!(order[..2], ["one", "two"]);
    assert_eq!(order[2 * CASES.len()..][..2], ["two", "one"]);
    assert_eq!(comparison.summaries.len(), 2 * CASES.len());
    assert!(
        comparison
            .summaries
            .iter()
            .all(|summary| summary.rate_ratio.is_some())
    );
    assert_eq!(
        markdown(&comparison).lines().count(),
        2 + 2 * CASES.len() + 2
    );
}

#[test]
fn routers_are_started_and_ended() {
    let relay = env!("CARGO_BIN_EXE_bare-relay");
    let launch = format!("started={relay} --listen 127.0.0.1:{{port}}");
    let options = CompareOptions::try_parse_from([
        "router-compare",
        "--launch",
        &launch,
        "--rounds",
        "1",
        "--duration",
        "0.1",
        "--warmup",
        "0",
        "--case",
        "100 B",
    ])
    .unwrap();
    let comparison = compare(&options, |_| {}).unwrap();
    assert!(comparison.is_complete());
    let router = comparison.trials[0].report.as_ref().unwrap().router;
    assert!(router.is_some_and(|router| router.rss_after > 0));
}

#[test]
fn an_unreachable_router_is_a_failure_in_the_table() {
    let free = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let arguments = format!("router-compare --target gone={free} --rounds 1 --case latency");
    let options = CompareOptions::try_parse_from(arguments.split(' ')).unwrap();
    let comparison = compare(&options, |_| {}).unwrap();
    assert!(!comparison.is_complete());
    assert!(markdown(&comparison).contains("1 of 1"));
}
