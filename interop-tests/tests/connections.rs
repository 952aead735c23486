//! Opening connections.

use interop_tests::{Job, Peer, Router, clients};
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
