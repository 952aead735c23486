//! Every sender against every receiver: the nine pairings of three clients.

use interop_tests::{
    Job, Outcome, PEERS, Peer, Request, Router, available, body, pairings, sha256_hex,
};
use serde_json::json;

pairings!(unsettled_deliveries_arrive_in_order_and_are_accepted);
pairings!(settled_deliveries_arrive_in_order);
pairings!(each_outcome_reaches_the_sender_with_its_fields);
pairings!(bodies_of_every_frame_boundary_arrive_whole);
pairings!(the_anonymous_relay_routes_by_to);
pairings!(a_request_is_answered_on_a_dynamic_node);

fn unsettled_deliveries_arrive_in_order_and_are_accepted(sender: Peer, receiver: Peer) {
    let router = Router::shared();
    let address = format!("accepted.{sender}.{receiver}");
    let mut receiving = receiver.start(&router, Job::receive(&address).count(20).credit(5));
    receiving.expect("attached");
    let sent = sender
        .start(&router, Job::send(&address).count(20))
        .finish();
    let received = receiving.finish();

    let outcomes = sent.named("outcome");
    assert_eq!(outcomes.len(), 20, "{sent}");
    assert!(
        outcomes.iter().all(|event| event["outcome"] == "accepted"),
        "{sent}"
    );
    for (index, event) in received.named("message").iter().enumerate() {
        assert_eq!(event["subject"], index.to_string(), "{received}");
        assert_eq!(event["sha256"], sha256_hex(&body(index, 64)), "{received}");
    }
}

fn settled_deliveries_arrive_in_order(sender: Peer, receiver: Peer) {
    let router = Router::shared();
    let address = format!("settled.{sender}.{receiver}");
    let mut receiving = receiver.start(&router, Job::receive(&address).count(20));
    receiving.expect("attached");
    let sent = sender
        .start(&router, Job::send(&address).count(20).settled())
        .finish();
    let received = receiving.finish();

    assert!(sent.named("outcome").is_empty(), "{sent}");
    for (index, event) in received.named("message").iter().enumerate() {
        assert_eq!(event["subject"], index.to_string(), "{received}");
        let shown = receiver != Peer::Fe2o3;
        assert!(!shown || event["settled"] == true, "{received}");
    }
}

fn each_outcome_reaches_the_sender_with_its_fields(sender: Peer, receiver: Peer) {
    let router = Router::shared();
    let address = format!("outcomes.{sender}.{receiver}");
    let outcomes = [
        Outcome::Accepted,
        Outcome::rejected("interop:test-condition", "as the test asked"),
        Outcome::Released,
        Outcome::modified("x-opt-interop", "annotated"),
    ];
    // One at a time: rhea would answer deliveries of one read with the first one's outcome.
    let job = Job::receive(&address)
        .count(8)
        .credit(1)
        .outcomes(&outcomes);
    let mut receiving = receiver.start(&router, job);
    receiving.expect("attached");
    let sent = sender.start(&router, Job::send(&address).count(8)).finish();
    receiving.finish();

    let reported = sent.named("outcome");
    assert_eq!(reported.len(), 8, "{sent}");
    for event in reported {
        let index = event["index"].as_u64().expect("an index") as usize;
        let mut expected = serde_json::to_value(&outcomes[index % 4]).expect("plain data");
        expected["event"] = json!("outcome");
        expected["index"] = json!(index);
        assert_eq!(*event, expected, "{sent}");
    }
}

fn bodies_of_every_frame_boundary_arrive_whole(sender: Peer, receiver: Peer) {
    let router = Router::shared();
    let address = format!("sizes.{sender}.{receiver}");
    let sizes = [0, 1, 255, 256, 16_200, 16_384, 32_768, 65_536, 1_048_576];
    let mut receiving = receiver.start(&router, Job::receive(&address).count(sizes.len()));
    receiving.expect("attached");
    let job = Job::send(&address).count(sizes.len()).sizes(&sizes);
    let sent = sender.start(&router, job).finish();
    let received = receiving.finish();

    assert!(
        sent.named("outcome")
            .iter()
            .all(|event| event["outcome"] == "accepted"),
        "{sent}"
    );
    for (index, event) in received.named("message").iter().enumerate() {
        assert_eq!(event["size"], sizes[index], "{received}");
        assert_eq!(
            event["sha256"],
            sha256_hex(&body(index, sizes[index])),
            "{received}"
        );
    }
}

fn the_anonymous_relay_routes_by_to(sender: Peer, receiver: Peer) {
    let router = Router::shared();
    let address = format!("relayed.{sender}.{receiver}");
    let mut receiving = receiver.start(&router, Job::receive(&address).count(5));
    receiving.expect("attached");
    let sent = sender
        .start(&router, Job::send_anonymous(&address).count(5))
        .finish();
    let received = receiving.finish();

    assert!(
        sent.named("outcome")
            .iter()
            .all(|event| event["outcome"] == "accepted"),
        "{sent}"
    );
    assert!(
        received
            .named("message")
            .iter()
            .all(|event| event["to"] == address),
        "{received}"
    );
}

fn a_request_is_answered_on_a_dynamic_node(requester: Peer, responder: Peer) {
    let router = Router::shared();
    let address = format!("service.{requester}.{responder}");
    let mut responding = responder.start(&router, Job::respond(&address).count(3));
    responding.expect("attached");
    let requests: Vec<_> = ["a", "b", "c"]
        .map(|id| Request::text(id, "question"))
        .into();
    let answered = requester
        .start(&router, Job::request(&address, requests))
        .finish();
    responding.finish();

    let ids: Vec<_> = answered
        .named("message")
        .iter()
        .map(|event| event["correlation_id"].clone())
        .collect();
    assert_eq!(ids, ["a", "b", "c"], "{answered}");
    assert_eq!(
        answered.named("message")[0]["subject"],
        "subject of a",
        "{answered}"
    );
}

#[test]
fn every_client_runs_here() {
    let missing: Vec<_> = PEERS.iter().filter(|peer| !available(&[**peer])).collect();
    assert!(
        missing.len() < PEERS.len(),
        "fe2o3-amqp needs nothing but this crate"
    );
}
