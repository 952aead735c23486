//! The load generator against the relay, and against itself.

use std::net::TcpListener;
use std::num::NonZeroU32;

use benches::error::Error;
use benches::options::Options;
use benches::relay::{Relay, RelayOptions};
use benches::report::Report;
use benches::run::run;
use clap::Parser;

fn relay(options: RelayOptions) -> Relay {
    Relay::start(TcpListener::bind("127.0.0.1:0").unwrap(), options).unwrap()
}

fn bench(target: &str, arguments: &str) -> Result<Report, Error> {
    let common = ["router-bench", "--url", target, "--verify", "--stall", "20"];
    run(&Options::try_parse_from(common.into_iter().chain(arguments.split_whitespace())).unwrap())
}

fn through_relay(arguments: &str) -> Report {
    let relay = relay(RelayOptions::default());
    bench(&relay.address().to_string(), arguments).unwrap()
}

#[test]
fn settled_messages_all_arrive() {
    let report = through_relay("--settled --count 5000");
    assert_eq!(
        (report.messages.sent, report.messages.received),
        (5000, 5000)
    );
    assert_eq!(report.messages.accepted, 0);
}

#[test]
fn unsettled_messages_are_all_accepted() {
    let report = through_relay("--unsettled --count 5000");
    assert_eq!(
        (report.messages.received, report.messages.accepted),
        (5000, 5000)
    );
}

#[test]
fn many_links_over_many_connections_and_threads() {
    let report = through_relay("--connections 3 --links 5 --threads 2 --count 300 --credit 7");
    assert_eq!(report.messages.accepted, 3 * 5 * 300);
}

#[test]
fn messages_larger_than_a_frame_arrive_whole() {
    let report = through_relay("--size 200000 --count 100");
    assert_eq!(report.messages.accepted, 100);
}

#[test]
fn a_message_may_need_more_frames_than_the_session_window_holds() {
    let small = RelayOptions {
        max_frame_size: 512,
        incoming_window: 4,
        ..RelayOptions::default()
    };
    let relay = relay(small);
    let target = relay.address().to_string();
    let report = bench(&target, "--size 10000 --count 50 --window 3 --links 2").unwrap();
    assert_eq!(report.messages.accepted, 100);
}

#[test]
fn a_credit_of_one_is_enough() {
    for settled in ["--settled", "--unsettled"] {
        let report = through_relay(&format!("{settled} --credit 1 --count 500"));
        assert_eq!(report.messages.received, 500);
    }
}

#[test]
fn sasl_is_optional() {
    assert_eq!(through_relay("--no-sasl --count 10").messages.accepted, 10);
}

#[test]
fn lost_settled_messages_are_counted() {
    let lossy = RelayOptions {
        drop_every: NonZeroU32::new(10),
        ..RelayOptions::default()
    };
    let relay = relay(lossy);
    let report = bench(
        &relay.address().to_string(),
        "--settled --count 5000 --credit 20",
    )
    .unwrap();
    assert_eq!(
        (report.messages.received, report.messages.lost),
        (4500, 500)
    );
}

#[test]
fn a_duration_ends_with_everything_accounted_for() {
    let report = through_relay("--duration 0.3 --warmup 0.1");
    assert!(report.messages.sent > 0);
    assert_eq!(report.messages.sent, report.messages.accepted);
}

#[test]
fn latency_is_that_of_one_message_at_a_time() {
    let report = through_relay("--mode latency --count 2000");
    let latency = report.latency.unwrap();
    assert_eq!((latency.count, report.messages.accepted), (2000, 2000));
    assert!(latency.p50 > 0.0 && latency.p50 <= latency.p99 && latency.p99 <= latency.max);
}

#[test]
fn idle_connections_are_held_and_weighed() {
    let pid = std::process::id();
    let report = through_relay(&format!(
        "--mode idle --connections 20 --duration 0.2 --pid {pid}"
    ));
    assert!(report.router.unwrap().rss_after > 0);
}

#[test]
fn the_generator_can_do_without_a_router() {
    for arguments in ["--settled", "--unsettled", "--size 300000 --links 3"] {
        let report = bench(
            "127.0.0.1:1",
            &format!("--mode direct --count 200 {arguments}"),
        )
        .unwrap();
        assert_eq!(report.messages.sent, report.messages.received);
    }
}

#[test]
fn the_use_of_a_process_is_reported_per_message() {
    let report = through_relay(&format!("--count 1000 --pid {}", std::process::id()));
    assert!(report.router.unwrap().cpu_us_per_message.is_some());
}

#[test]
fn a_run_that_stands_still_fails_with_the_counters() {
    // Two senders share an address, of which the relay joins only the first.
    let relay = relay(RelayOptions::default());
    let target = relay.address().to_string();
    let error = bench(&target, "--links 2 --addresses 1 --count 100 --stall 0.3").unwrap_err();
    assert!(
        matches!(&error, Error::Stalled { progress, .. } if progress.contains("100 received")),
        "{error}"
    );
}

#[test]
fn nobody_listening_is_an_error() {
    let free = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    assert!(matches!(
        bench(&free.to_string(), "--count 1"),
        Err(Error::Io(_))
    ));
}
