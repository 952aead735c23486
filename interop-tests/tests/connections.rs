//! Opening connections.

use std::io::Write;

use interop_tests::{
    Job, Peer, Router, RouterBuilder, ask, available, clients, connect, eventually, rows,
};
use serde_json::json;

clients!(a_connection_opens_with_sasl_anonymous);
clients!(a_connection_opens_without_sasl);
clients!(the_open_names_router_and_capabilities: proton Proton, rhea Rhea);
clients!(header_open_begin_and_attach_may_come_at_once: proton Proton);
clients!(they_may_come_at_once_behind_sasl: proton Proton);

fn a_connection_opens_with_sasl_anonymous(peer: Peer) {
    let router = Router::shared();
    peer.start(&router, Job::connect()).finish();
}

fn a_connection_opens_without_sasl(peer: Peer) {
    let router = Router::shared();
    peer.start(&router, Job::connect().without_sasl()).finish();
}

fn the_open_names_router_and_capabilities(peer: Peer) {
    let router = Router::shared();
    let opened = peer.start(&router, Job::connect()).finish().named("opened")[0].clone();
    assert!(
        opened["container"]
            .as_str()
            .is_some_and(|id| !id.is_empty()),
        "{opened}"
    );
    let offered = opened["offered"].as_array().expect("capabilities");
    assert!(offered.contains(&json!("ANONYMOUS-RELAY")), "{opened}");
    assert!(opened["properties"]["product"].is_string(), "{opened}");
    assert!(opened["properties"]["version"].is_string(), "{opened}");
}

fn header_open_begin_and_attach_may_come_at_once(peer: Peer) {
    let router = Router::shared();
    let attached = peer
        .start(&router, Job::pipeline("pipelined").without_sasl())
        .finish();
    assert_eq!(
        attached.named("attached")[0]["address"],
        "pipelined",
        "{attached}"
    );
}

fn they_may_come_at_once_behind_sasl(peer: Peer) {
    let router = Router::shared();
    let attached = peer.start(&router, Job::pipeline("pipelined")).finish();
    assert_eq!(
        attached.named("attached")[0]["address"],
        "pipelined",
        "{attached}"
    );
}

/// A peer that does not answer the close is still there for a while, and shown so.
#[test]
fn a_connection_that_waits_for_its_peers_close_is_shown_as_closing() {
    if !Router::is_ours_to_configure() || !available(&[Peer::Proton]) {
        return;
    }
    let router = RouterBuilder::plain().start();
    let mut stream = connect(router.listener().port);
    let open = [
        0, 0, 0, 17, 2, 0, 0, 0, 0, 0x53, 0x10, 0xc0, 4, 1, 0xa1, 1, b'x',
    ];
    let said = [b"AMQP\0\x01\0\0", &open[..]].concat();
    stream.write_all(&said).expect("it is taken");
    let row = || {
        let rows = rows(&router, "connection");
        rows.into_iter().find(|row| row["container"] == "x")
    };
    eventually("an open connection", || {
        row().is_some_and(|row| row["operStatus"] == "up")
    });
    let row_id = row().expect("it was there")["identity"].clone();
    let entity = [
        ("type", "io.skupper.router.connection"),
        ("identity", row_id.as_str().expect("a text")),
    ];
    let deleted = json!(["map", [[["string", "adminStatus"], ["string", "deleted"]]]]);
    ask(&router, "UPDATE", &entity, deleted);
    assert_eq!(row().expect("it is still there")["operStatus"], "closing");
    let close = [0, 0, 0, 12, 2, 0, 0, 0, 0, 0x53, 0x18, 0x45];
    stream.write_all(&close).expect("it is taken");
    eventually("no connection", || row().is_none());
}
