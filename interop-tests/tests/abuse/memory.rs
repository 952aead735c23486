//! A router with little memory, and senders that fill it with what nobody takes.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::mpsc;
use std::thread;

use interop_tests::raw::{attach_receiver, attach_sender, begin, opened, transfer_of};
use interop_tests::{Router, RouterBuilder, eventually, get};
use serde_json::json;

use crate::check_service;

/// A receiver that gives no credit has senders send as many messages as they get credit for.
#[test]
fn who_fills_it_is_cut_off_and_others_connect_again() {
    if !Router::is_ours_to_configure() {
        return;
    }
    let patient = || json!({"idleTimeoutSeconds": 0});
    let router = RouterBuilder::new()
        .router(json!({"maxMemoryMegabytes": LIMIT}))
        .listener("plain", patient())
        .listener("web", json!({"http": true}))
        .start();
    let mut receiver = connect(&router).expect("it listens");
    let attach = attach_receiver(1, "full");
    receiver
        .write_all(&opened(&[&begin(0), &attach]))
        .expect("it reads");
    read_until(&mut receiver, ATTACH, 1).expect("an attach in answer");

    let mut attackers = Vec::new();
    let (ended, heard) = mpsc::channel();
    for _ in 0..ATTACKERS {
        // Once there is too little left nobody else gets in.
        let Ok(stream) = connect(&router) else {
            break;
        };
        let (attacker, ended) = (stream.try_clone().expect("a handle"), ended.clone());
        attackers.push(stream);
        thread::spawn(move || ended.send(fill(attacker)));
    }
    eventually("somebody is told why it is cut off", || {
        heard.try_iter().any(|octets| {
            let heard = String::from_utf8_lossy(&octets);
            heard.contains("amqp:resource-limit-exceeded") && heard.contains("memory is short")
        })
    });
    let (_, metrics) = get(&router, "web", "/metrics");
    let counted = metrics
        .lines()
        .find_map(|line| line.strip_prefix("amqp_router_senders_cut_off_total "));
    assert_ne!(counted.expect("a figure"), "0");
    for attacker in attackers.iter().chain([&receiver]) {
        let _ = attacker.shutdown(Shutdown::Both);
    }
    assert!(router.log().contains("memory is short"), "{}", router.log());

    eventually("a client gets in", || {
        let stream = connect(&router).and_then(|mut stream| {
            stream.write_all(&opened(&[]))?;
            read_until(&mut stream, OPEN, 1)
        });
        stream.is_ok()
    });
    check_service(&router);
}

fn connect(router: &Router) -> std::io::Result<TcpStream> {
    TcpStream::connect(("127.0.0.1", router.port("plain")))
}

/// Sends all that sessions have credit for, as far as the router takes it, and returns the rest of
/// what it says.
fn fill(mut stream: TcpStream) -> Vec<u8> {
    let mut heard = Vec::new();
    let begun = (0..SESSIONS).flat_map(|session| {
        let attach = on(session, attach_sender(session, Some("full")));
        [begin(session), attach]
    });
    let begun: Vec<_> = begun.collect();
    let begun: Vec<_> = begun.iter().map(Vec::as_slice).collect();
    // An error is the router's good right: what it has said before is what counts.
    if stream.write_all(&opened(&begun)).is_ok() && read_until(&mut stream, FLOW, SESSIONS).is_ok()
    {
        let body = [&[0, 0x53, 0x75, 0xb0, 0, 0, 0x3e, 0x80][..], &[0; 16_000]].concat();
        let deliveries = (0..SESSIONS).flat_map(|session| (0..CREDIT).map(move |id| (session, id)));
        for (session, id) in deliveries {
            let transfer = transfer_of(session as u8, id, false, false, &body);
            if stream.write_all(&on(session, transfer)).is_err() {
                break;
            }
        }
    }
    let _ = stream.read_to_end(&mut heard);
    heard
}

/// Reads until so many frames of a kind have come.
fn read_until(stream: &mut TcpStream, kind: [u8; 3], count: u16) -> std::io::Result<()> {
    let mut heard = Vec::new();
    while heard.windows(3).filter(|octets| *octets == kind).count() < usize::from(count) {
        let mut buffer = [0; 4096];
        match stream.read(&mut buffer)? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            octets => heard.extend_from_slice(&buffer[..octets]),
        }
    }
    Ok(())
}

/// The frame, on another channel.
fn on(channel: u16, mut frame: Vec<u8>) -> Vec<u8> {
    frame[6..8].copy_from_slice(&channel.to_be_bytes());
    frame
}

const OPEN: [u8; 3] = [0, 0x53, 0x10];
const ATTACH: [u8; 3] = [0, 0x53, 0x12];
const FLOW: [u8; 3] = [0, 0x53, 0x13];
/// What the router may have, in millions of octets: a few times what it has at rest.
const LIMIT: u64 = 100;
/// Attackers, of which a few are enough: each sends 16 MB.
const ATTACKERS: usize = 12;
const SESSIONS: u16 = 4;
/// Messages of 16 kB by each link: its credit.
const CREDIT: u8 = 250;
