//! A router that is told to stop while clients are connected.

#![allow(clippy::disallowed_methods)] // what a peer reads takes time

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use interop_tests::raw::{begin, opened};
use interop_tests::{Job, Outcome, Peer, Router, RouterBuilder, clients};
use serde_json::{Value, json};

clients!(clients_are_told_that_they_are_closed: proton Proton, rhea Rhea);

fn clients_are_told_that_they_are_closed(peer: Peer) {
    if !Router::is_ours_to_configure() {
        return;
    }
    let mut router = RouterBuilder::plain().start();
    // It keeps what it gets, so that nothing that is sent has an outcome.
    let receive = Job::receive("held").count(10).outcomes(&[Outcome::None]);
    let mut receiving = peer.start(&router, receive);
    receiving.expect("attached");
    let sending = peer.start(&router, Job::send("held").count(5));
    for _ in 0..5 {
        receiving.expect("message");
    }
    assert_eq!(router.stop().code(), Some(0), "{}", router.log());
    // Whoever waits for an outcome learns that there will be none. Proton takes this close for a
    // connection that was lost, and would make another if it was let.
    let expected = match peer {
        Peer::Proton => (json!("transport"), Value::Null),
        _ => (json!("connection"), json!("amqp:connection:forced")),
    };
    for client in [receiving, sending] {
        let failed = client.failure();
        let told = (failed["scope"].clone(), failed["condition"].clone());
        assert_eq!(told, expected, "{failed:?}");
    }
}

#[test]
fn who_does_not_answer_the_close_is_cut_off() {
    if !Router::is_ours_to_configure() {
        return;
    }
    // Who hears nothing for a while may read no more, and learns of a reset when it writes; who has
    // just been sent something is to have it.
    for (quiet, expected) in [(true, Err(ErrorKind::ConnectionReset)), (false, Ok(0))] {
        let mut router = RouterBuilder::plain().start();
        let port = router.port("normal");
        let mut peer = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
        peer.write_all(&opened(&[])).expect("it is taken");
        if quiet {
            thread::sleep(Duration::from_millis(1_500));
        }
        let mut heard = Vec::new();
        if !quiet {
            peer.write_all(&begin(0)).expect("it is taken");
        }
        // The router's header and open, and its begin: the connection is up.
        let last = if quiet { OPEN } else { BEGIN };
        while !contains(&heard, &[0, 0x53, last]) {
            read_some(&mut peer, &mut heard);
        }
        let hearing = thread::spawn(move || {
            loop {
                let mut buffer = [0; 4096];
                match peer.read(&mut buffer) {
                    Ok(count @ 1..) => heard.extend_from_slice(&buffer[..count]),
                    end => return (heard, end.map_err(|error| error.kind())),
                }
            }
        });
        assert_eq!(router.stop().code(), Some(0), "{}", router.log());
        let (heard, end) = hearing.join().expect("it hears");
        assert_eq!(end, expected, "quiet: {quiet}");
        assert!(contains(&heard, &[0, 0x53, CLOSE]), "{heard:02x?}");
        assert!(contains(&heard, b"amqp:connection:forced"), "{heard:02x?}");
    }
}

/// False at the end.
fn read_some(peer: &mut TcpStream, heard: &mut Vec<u8>) -> bool {
    peer.set_read_timeout(Some(Duration::from_secs(30)))
        .expect("a limit");
    let mut buffer = [0; 4096];
    // A router that is gone may have reset the connection.
    let count = peer.read(&mut buffer).unwrap_or(0);
    heard.extend_from_slice(&buffer[..count]);
    count > 0
}

fn contains(heard: &[u8], part: &[u8]) -> bool {
    heard.windows(part.len()).any(|window| window == part)
}

const OPEN: u8 = 0x10;
const BEGIN: u8 = 0x11;
const CLOSE: u8 = 0x18;
