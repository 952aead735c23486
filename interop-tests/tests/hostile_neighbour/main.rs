//! A neighbour that lies, floods, does not read and breaks the protocol, over a real socket: the
//! honest routers beside it pass every message on, stay small, and tell of it once.

#![allow(clippy::disallowed_methods)] // tests wait for what takes time

mod liar;
mod wire;

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use interop_tests::{Job, Peer, Router, RouterBuilder, Running, eventually};
use liar::{CONTROL, Liar, annotations, annotations_of};
use serde_json::json;
use wire::{described, int, list, long, map, null, symbol, text, uint};

#[test]
fn a_hostile_neighbour_harms_nobody_else() {
    if !Router::is_ours_to_configure() {
        return;
    }
    let files = tempfile::tempdir().expect("a directory");
    let log = files.path().join("log");
    let friends_log = files.path().join("friend.log");
    let listener = json!({"role": "inter-router", "saslMechanisms": "ANONYMOUS"});
    let victim = RouterBuilder::plain()
        .router(json!({"mode": "interior", "id": "Victim"}))
        .listener("routers", listener)
        .entity("log", json!({"module": "DEFAULT", "outputFile": log}))
        .start();
    let friend = RouterBuilder::plain()
        .router(json!({"mode": "interior", "id": "Friend"}))
        .entity(
            "log",
            json!({"module": "DEFAULT", "outputFile": friends_log}),
        )
        .entity(
            "connector",
            json!({
                "name": "uplink",
                "host": "127.0.0.1",
                "port": victim.port("routers").to_string(),
                "role": "inter-router",
            }),
        )
        .start();
    became_neighbour(&log, "Friend");
    let limit = Duration::from_secs(120);
    let far = Job::receive("far").count(0).time_limit(limit);
    let mut receiving = Peer::Fe2o3.start(&friend, far);
    receiving.expect("attached");
    pass(&victim, &mut receiving, "before");
    let before = [&victim, &friend].map(|router| router.resident_memory().unwrap_or_default());

    let port = victim.port("routers");
    let mut held = Vec::new();
    for (number, (what, lie)) in LIES.iter().enumerate() {
        let mut liar = lie(port, &format!("Liar{number}"), &log);
        pass(&victim, &mut receiving, what);
        liar.is_over();
        held.push(liar);
    }
    held.push(lies_about_friend(port, "LiarAtLast", &log));
    eventually("Friend is believed again", || {
        let sent = Peer::Fe2o3
            .start(&victim, Job::send("far").count(1))
            .finish();
        let outcomes = sent.named("outcome");
        let accepted = outcomes.iter().any(|event| event["outcome"] == "accepted");
        if accepted {
            receiving.expect("message");
        }
        accepted
    });
    let lines = read(&friends_log)
        .matches("what this router has not said")
        .count();
    assert_eq!(lines, 1, "{}", read(&friends_log));
    pass(&victim, &mut receiving, "with all of them");
    for (router, before) in [&victim, &friend].into_iter().zip(before) {
        let now = router.resident_memory().unwrap_or_default();
        assert!(now < before + MOST_MEMORY, "{before} bytes, then {now}");
    }
    let neighbours = read(&log).matches(" is a neighbour").count() - 1;
    drop(held);
    eventually("the liars are lost", || {
        read(&log)
            .matches("Link to Neighbor Router Lost - Liar")
            .count()
            == neighbours
    });
    pass(&victim, &mut receiving, "after all");
    let log = read(&log);
    for (cause, most) in CAUSES {
        let lines = log.matches(cause).count();
        assert!(
            (1..=*most).contains(&lines),
            "{lines} lines of: {cause}\n{log}"
        );
    }
    let mut warnings = HashMap::<&str, usize>::new();
    for (_, warning) in log.lines().filter_map(|line| line.split_once("(warning)")) {
        *warnings.entry(warning).or_default() += 1;
    }
    assert!(
        warnings.values().all(|lines| *lines <= MOST_ALIKE),
        "{warnings:#?}"
    );
    let lines = log.lines().count();
    assert!(lines < MOST_LINES, "{lines} lines:\n{log}");
}

/// Honest messages go from one router to the other, every one of them.
fn pass(from: &Router, receiving: &mut Running, what: &str) {
    let sending = Job::send("far").count(BATCH);
    let sent = Peer::Fe2o3.start(from, sending).finish();
    let outcomes = sent.named("outcome");
    let accepted = outcomes
        .iter()
        .filter(|event| event["outcome"] == "accepted");
    assert_eq!(accepted.count(), BATCH, "{what}: {sent}");
    for _ in 0..BATCH {
        receiving.expect("message");
    }
}

/// Told to the listener at a port, by a router of this name, while the victim writes this log.
type Lie = fn(u16, &str, &Path) -> Liar;

const LIES: &[(&str, Lie)] = &[
    ("no links", |port, id, _| Liar::connect(port, id, &[])),
    ("no hello and no credit", |port, id, _| {
        let mut liar = Liar::connect(port, id, &[]);
        liar.attach();
        liar
    }),
    ("malformed annotations", malformed_annotations),
    ("malformed control messages", malformed_messages),
    ("the victim's own id", |port, _, _| {
        let mut liar = Liar::connect(port, "Victim", &[]);
        liar.attach();
        liar.grant(1000);
        for _ in 0..FEW {
            liar.hello(&["Victim"]);
        }
        liar
    }),
    ("another id with each word", |port, id, log| {
        let mut liar = neighbour(port, id, log);
        for other in ["Friend", "Victim", "Nobody", "Somebody"] {
            for _ in 0..FEW {
                let more = [("instance", int(1)), ("seen", list(&[text("Victim")]))];
                liar.say("HELLO", "amqp:/_local/qdhello", other, &more);
            }
        }
        liar
    }),
    ("absurd costs and numbers", absurd_numbers),
    ("a cost that is none", |port, id, log| {
        let cost = (symbol("qd.inter-router-cost"), int(-5));
        become_neighbour(Liar::connect(port, id, &[cost]), id, log)
    }),
    ("news without end", flood_of_news),
    ("more addresses than a router has", flood_of_addresses),
    (
        "questions without end, and no ear for answers",
        |port, id, log| {
            let mut liar = neighbour(port, id, log);
            for _ in 0..MANY {
                liar.say("LSR", "amqp:/_topo/0/Victim/qdrouter", id, &[]);
                let have = [("have_seq", long(0))];
                liar.say("MAR", "amqp:/_topo/0/Victim/qdrouter.ma", id, &have);
            }
            liar
        },
    ),
    ("transfers beyond all credit", |port, id, log| {
        let mut liar = neighbour(port, id, log);
        let message = described(0x77, text("x"));
        for number in 0..2000 {
            let transfer = described(
                0x14,
                list(&[uint(1), uint(number), vec![0xa0, 1, 0], uint(0), vec![0x41]]),
            );
            liar.write(&interop_tests::raw::frame(
                3,
                &[&transfer[..], &message].concat(),
            ));
        }
        liar
    }),
];

/// A liar that the victim believes to be a neighbour.
fn neighbour(port: u16, id: &str, log: &Path) -> Liar {
    become_neighbour(Liar::connect(port, id, &[]), id, log)
}

fn become_neighbour(mut liar: Liar, id: &str, log: &Path) -> Liar {
    liar.attach();
    liar.grant(1000);
    liar.hello(&["Victim"]);
    became_neighbour(log, id);
    liar
}

fn malformed_annotations(port: u16, id: &str, log: &Path) -> Liar {
    let mut liar = neighbour(port, id, log);
    let here = text(&format!("0/{id}"));
    let trace = list(std::slice::from_ref(&here));
    let all = [
        annotations_of(&[]),
        annotations_of(&[uint(0), text("far")]),
        annotations_of(&[text("flags"), text("far"), here.clone(), trace.clone()]),
        annotations_of(&[uint(0), int(5), here.clone(), trace.clone()]),
        annotations_of(&[uint(0), text("far"), list(&[]), trace.clone()]),
        annotations_of(&[uint(0), text("far"), here.clone(), text("trace")]),
        annotations_of(&[uint(0), text("far"), here.clone(), list(&[int(1), null()])]),
        annotations_of(&[uint(0), text("far"), here, list(&vec![text("0/X"); 1000])]),
        b"\x00\x80SKPR--RA\xd0\x00\x00\x00\x09\xff\xff\xff\xffhello".to_vec(),
        b"\x00\x80SKPR--RA\xd0\xff\xff".to_vec(),
    ];
    for channel in 1..=3 {
        for annotations in &all {
            let message = [&annotations[..], &described(0x77, text("x"))].concat();
            liar.send(channel, &message, false);
        }
    }
    liar
}

fn malformed_messages(port: u16, id: &str, log: &Path) -> Liar {
    let mut liar = neighbour(port, id, log);
    let hello = "amqp:/_local/qdhello";
    let state = "amqp:/_topo/0/Victim/qdrouter";
    let addresses = "amqp:/_topo/0/all/qdrouter.ma";
    let mut nested = null();
    for _ in 0..100 {
        nested = list(&[nested]);
    }
    for _ in 0..FEW {
        for (opcode, to) in [
            ("HELLO", hello),
            ("LSU", state),
            ("MAU", addresses),
            ("?", state),
        ] {
            for body in [
                null(),
                int(5),
                list(&[]),
                map(&[]),
                text("hello"),
                nested.clone(),
            ] {
                liar.say_raw(opcode, to, body);
            }
            liar.say(opcode, to, "", &[]);
            liar.say(opcode, to, &"x".repeat(10_000), &[]);
            liar.say(opcode, to, id, &[("seen", int(5)), ("ls", text("no"))]);
            liar.say(
                opcode,
                to,
                id,
                &[("mobile_seq", text("one")), ("add", int(1))],
            );
        }
        for record in [
            null(),
            list(&[]),
            list(&[int(1)]),
            list(&[text("")]),
            text("Mx"),
        ] {
            let more = [
                ("mobile_seq", long(1)),
                ("add", list(&[record])),
                ("del", list(&[])),
            ];
            liar.say("MAU", addresses, id, &more);
        }
        liar.send(CONTROL, &annotations(state, id), true);
        liar.send(CONTROL, b"no message", true);
    }
    liar
}

/// Of others, too; but not of those that messages go to meanwhile.
fn absurd_numbers(port: u16, id: &str, log: &Path) -> Liar {
    let mut liar = neighbour(port, id, log);
    let to = "amqp:/_topo/0/Victim/qdrouter";
    for number in [
        0,
        -1,
        i64::from(i32::MAX),
        i64::from(u32::MAX) + 1,
        i64::MIN,
        i64::MAX,
    ] {
        for of in [id, "Victim", "Elsewhere"] {
            let sequences = [("ls_seq", long(number)), ("mobile_seq", long(number))];
            liar.say("RA", to, of, &sequences);
            let peers = [
                (text("Victim"), long(number)),
                (text("Friend"), long(number)),
            ];
            let state = map(&[
                (text("id"), text(of)),
                (text("area"), text("0")),
                (text("ls_seq"), long(number)),
                (text("peers"), map(&peers)),
            ]);
            let more = [
                ("instance", long(number)),
                ("ls_seq", long(number)),
                ("ls", state),
            ];
            liar.say("LSU", to, of, &more);
            let more = [("mobile_seq", long(number)), ("exist", list(&[]))];
            liar.say("MAU", "amqp:/_topo/0/Victim/qdrouter.ma", of, &more);
        }
    }
    liar
}

/// That the router which messages go to has no neighbours and no consumers, under numbers that its
/// own do not reach. Everybody hears it, and so does that router.
fn lies_about_friend(port: u16, id: &str, log: &Path) -> Liar {
    let mut liar = neighbour(port, id, log);
    let number = || long(1 << 40);
    let router = "amqp:/_topo/0/all/qdrouter";
    let sequences = [("ls_seq", number()), ("mobile_seq", number())];
    liar.say("RA", router, "Friend", &sequences);
    let state = map(&[
        (text("id"), text("Friend")),
        (text("area"), text("0")),
        (text("ls_seq"), number()),
        (text("peers"), map(&[])),
    ]);
    liar.say(
        "LSU",
        router,
        "Friend",
        &[("ls_seq", number()), ("ls", state)],
    );
    for _ in 0..FEW {
        let none = [("mobile_seq", number()), ("exist", list(&[]))];
        liar.say("MAU", "amqp:/_topo/0/all/qdrouter.ma", "Friend", &none);
    }
    liar
}

/// News without end of a network that is behind the liar. Not so large that ways through it are
/// what takes the time: see the simulations for that.
fn flood_of_news(port: u16, id: &str, log: &Path) -> Liar {
    let mut liar = neighbour(port, id, log);
    for number in 0..MANY {
        let name = |router: usize| format!("Router{}", router % PHANTOMS);
        let of = name(number);
        let peers = (1..20).map(|peer| (text(&name(number + peer)), int(1)));
        let peers: Vec<_> = peers.chain([(text(id), int(1))]).collect();
        let sequence = || long((number / PHANTOMS + 1) as i64);
        let state = map(&[
            (text("id"), text(&of)),
            (text("area"), text("0")),
            (text("ls_seq"), sequence()),
            (text("peers"), map(&peers)),
        ]);
        let more = [("instance", int(1)), ("ls_seq", sequence()), ("ls", state)];
        liar.say("LSU", "amqp:/_topo/0/all/qdrouter", &of, &more);
    }
    liar
}

fn flood_of_addresses(port: u16, id: &str, log: &Path) -> Liar {
    let mut liar = neighbour(port, id, log);
    for part in 0..MANY / 5 {
        let record = |one: usize| {
            let key = format!("Mstolen.{part}.{one}");
            list(&[text(&key), int(3), int(0)])
        };
        let records: Vec<_> = (0..200).map(record).collect();
        let more = [
            ("mobile_seq", long(part as i64 + 1)),
            ("add", list(&records)),
            ("del", list(&[])),
        ];
        liar.say("MAU", "amqp:/_topo/0/all/qdrouter.ma", id, &more);
    }
    liar
}

/// Waits until the log says that a router is a neighbour.
fn became_neighbour(log: &Path, id: &str) {
    let line = format!("Router {id} is a neighbour");
    eventually(&line, || read(log).contains(&line));
}

fn read(log: &Path) -> String {
    fs::read_to_string(log).unwrap_or_default()
}

/// What the log tells of, and how often at most.
const CAUSES: &[(&str, usize)] = &[
    ("Message rejected: malformed router annotations", 3),
    ("Detected Neighbor Router with a Duplicate ID - Victim", 3),
    ("A control message from neighbour", 20),
];
/// Honest messages between two lies.
const BATCH: usize = 50;
/// How often a lie is told that is to be told of once.
const FEW: usize = 10;
/// Routers that there are not.
const PHANTOMS: usize = 100;
/// Messages of a flood.
const MANY: usize = 1000;
/// Octets that a router may take for all of it.
const MOST_MEMORY: u64 = 128 * 1024 * 1024;
/// Lines of the log that say the same: there are two liars with the victim's name.
const MOST_ALIKE: usize = 2;
const MOST_LINES: usize = 300;
