//! Large messages, and messages that never become whole.

use std::time::Duration;

use interop_tests::{Job, Peer, Router, available, body, clients, pairings, sha256_hex};

pairings!(fifty_megabytes_pass);
clients!(large_and_small_share_a_link: proton Proton, rhea Rhea, fe2o3 Fe2o3);
clients!(an_aborted_message_is_not_delivered: proton Proton, fe2o3 Fe2o3);

fn fifty_megabytes_pass(sender: Peer, receiver: Peer) {
    passes_whole(sender, receiver, "large", &[LARGE]);
}

fn large_and_small_share_a_link(peer: Peer) {
    passes_whole(peer, peer, "mixed", &[3_000_000, 0, 10, 3_000_000, 1]);
}

fn passes_whole(sender: Peer, receiver: Peer, name: &str, sizes: &[usize]) {
    let router = Router::shared();
    let address = format!("large.{name}.{sender}.{receiver}");
    let receive = Job::receive(&address).count(sizes.len()).time_limit(LIMIT);
    let mut receiving = receiver.start(&router, receive);
    receiving.expect("attached");
    let send = Job::send(&address)
        .count(sizes.len())
        .sizes(sizes)
        .time_limit(LIMIT);
    let sent = sender.start(&router, send).finish();
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

/// Proton sends half of a message and aborts. rhea takes an abort for the end of the message,
/// so it does not receive here.
fn an_aborted_message_is_not_delivered(receiver: Peer) {
    if !available(&[Peer::Proton]) {
        return;
    }
    let router = Router::shared();
    let address = format!("aborted.{receiver}");
    let mut receiving = receiver.start(&router, Job::receive(&address).count(1));
    receiving.expect("attached");
    let job = Job::abort(&address).count(1).sizes(&[400_000]);
    let sent = Peer::Proton.start(&router, job).finish();
    assert_eq!(sent.named("outcome").len(), 1, "{sent}");
    let received = receiving.finish();
    assert_eq!(
        received.named("message")[0]["sha256"],
        sha256_hex(&body(0, 400_000)),
        "{received}"
    );
}

const LARGE: usize = 50_000_000;
const LIMIT: Duration = Duration::from_secs(30);
