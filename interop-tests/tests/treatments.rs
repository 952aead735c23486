//! Which receivers get a message: all, one near, or the least busy.

use interop_tests::{Job, Outcome, PEERS, Peer, Router, Running, available, clients};

clients!(multicast_reaches_every_receiver);
clients!(multicast_settled_reaches_every_receiver);
clients!(a_rejecting_multicast_receiver_decides);
clients!(balanced_spreads_over_receivers);
clients!(closest_delivers_each_message_once);

fn multicast_reaches_every_receiver(sender: Peer) {
    if available(&PEERS) {
        let router = Router::shared();
        let address = format!("multicast.{sender}");
        let receivers = PEERS.map(|peer| attached(peer, &router, Job::receive(&address).count(10)));
        let sent = sender
            .start(&router, Job::send(&address).count(10))
            .finish();
        assert!(
            sent.named("outcome")
                .iter()
                .all(|event| event["outcome"] == "accepted"),
            "{sent}"
        );
        all_got_ten(receivers);
    }
}

fn multicast_settled_reaches_every_receiver(sender: Peer) {
    if available(&PEERS) {
        let router = Router::shared();
        let address = format!("multicast.settled.{sender}");
        let receivers = PEERS.map(|peer| attached(peer, &router, Job::receive(&address).count(10)));
        sender
            .start(&router, Job::send(&address).count(10).settled())
            .finish();
        all_got_ten(receivers);
    }
}

fn all_got_ten(receivers: [Running; 3]) {
    for receiver in receivers {
        let received = receiver.finish();
        let subjects: Vec<_> = received
            .named("message")
            .iter()
            .map(|event| event["subject"].clone())
            .collect();
        let expected: Vec<_> = (0..10).map(|index| index.to_string()).collect();
        assert_eq!(subjects, expected, "{received}");
    }
}

fn a_rejecting_multicast_receiver_decides(sender: Peer) {
    let router = Router::shared();
    let address = format!("multicast.rejected.{sender}");
    let accepting = attached(Peer::Fe2o3, &router, Job::receive(&address).count(1));
    let rejected = [Outcome::rejected("interop:refused", "not here")];
    let rejecting = attached(
        Peer::Fe2o3,
        &router,
        Job::receive(&address).count(1).outcomes(&rejected),
    );
    let sent = sender.start(&router, Job::send(&address).count(1)).finish();
    assert_eq!(sent.named("outcome")[0]["outcome"], "rejected", "{sent}");
    accepting.finish();
    rejecting.finish();
}

/// Receivers that settle nothing fill up evenly: the value of a receiver is what it holds.
fn balanced_spreads_over_receivers(sender: Peer) {
    let router = Router::shared();
    let address = format!("balanced.{sender}");
    let never = || Job::receive(&address).outcomes(&[Outcome::None]);
    let mut receivers = [0, 1].map(|_| attached(Peer::Fe2o3, &router, never()));
    let mut sending = sender.start(&router, Job::send(&address).count(20));
    sending.expect("attached");
    for receiver in &mut receivers {
        for _ in 0..10 {
            receiver.expect("message");
        }
        assert!(receiver.poll(100).is_none(), "{}", receiver.transcript());
    }
}

fn closest_delivers_each_message_once(sender: Peer) {
    let router = Router::shared();
    let address = format!("closest.{sender}");
    let mut receivers = [0, 1].map(|_| attached(Peer::Fe2o3, &router, Job::receive(&address)));
    let sent = sender
        .start(&router, Job::send(&address).count(20))
        .finish();
    assert!(
        sent.named("outcome")
            .iter()
            .all(|event| event["outcome"] == "accepted"),
        "{sent}"
    );
    for receiver in &mut receivers {
        while receiver.poll(200).is_some() {}
    }
    let mut subjects: Vec<usize> = receivers.iter().flat_map(subjects).collect();
    subjects.sort_unstable();
    assert_eq!(subjects, (0..20).collect::<Vec<_>>());
    // Local receivers are equally near, so they take turns.
    assert!(receivers.iter().all(|receiver| subjects_of(receiver) == 10));
}

fn subjects(receiver: &Running) -> Vec<usize> {
    let transcript = receiver.transcript();
    let subject = |event: &&_| subject(event);
    transcript.named("message").iter().map(subject).collect()
}

fn subject(event: &interop_tests::Event) -> usize {
    event["subject"]
        .as_str()
        .and_then(|text| text.parse().ok())
        .expect("a numbered subject")
}

fn subjects_of(receiver: &Running) -> usize {
    subjects(receiver).len()
}

fn attached(peer: Peer, router: &Router, job: Job) -> Running {
    let mut running = peer.start(router, job);
    running.expect("attached");
    running
}
