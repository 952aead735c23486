//! Messages that take long, to clients that take links of their own for them.

use interop_tests::{Job, Peer, Router, RouterBuilder, available, eventually, rows};

const STREAMS: usize = 3;

/// The last one of several streams to one receiver ends first, though the others have begun.
fn nobody_waits_for_another(receiver: Peer, near: &Router, far: &Router, address: &str) {
    let job = Job::receive(address).count(STREAMS).takes_streams();
    let mut received = receiver.start(far, job);
    received.expect("attached");
    eventually("the sender's router knows of the receiver", || {
        let name = format!("M{address}");
        rows(near, "router.address").iter().any(|row| {
            row["name"] == name.as_str() && (row["subscriberCount"] == 1 || row["remoteCount"] == 1)
        })
    });
    let job = Job::interleave(address).count(STREAMS).sizes(&[2000]);
    let sent = Peer::Proton.start(near, job).finish();
    let outcomes: Vec<_> = sent
        .named("outcome")
        .iter()
        .map(|event| (event["index"].clone(), event["outcome"].clone()))
        .collect();
    let expected: Vec<_> = (0..STREAMS)
        .rev()
        .map(|index| (index.into(), "accepted".into()))
        .collect();
    assert_eq!(outcomes, expected, "{sent}");
    let received = received.finish();
    let messages: Vec<_> = received
        .named("message")
        .iter()
        .map(|event| (event["subject"].clone(), event["size"].clone()))
        .collect();
    let expected: Vec<_> = (0..STREAMS)
        .rev()
        .map(|index| (index.to_string().into(), 2000.into()))
        .collect();
    assert_eq!(messages, expected, "{received}");
}

#[test]
fn streams_of_one_receiver_do_not_wait_for_each_other() {
    for receiver in [Peer::Proton, Peer::Rhea] {
        if available(&[Peer::Proton, receiver]) {
            let router = Router::shared();
            let address = format!("streams.{receiver}");
            nobody_waits_for_another(receiver, &router, &router, &address);
        }
    }
}

#[test]
fn nor_do_they_across_two_routers() {
    if !Router::is_ours_to_configure() || !available(&[Peer::Proton, Peer::Rhea]) {
        return;
    }
    let [near, far] = RouterBuilder::pair();
    for receiver in [Peer::Proton, Peer::Rhea] {
        let address = format!("streams.{receiver}");
        nobody_waits_for_another(receiver, &near, &far, &address);
    }
}

/// Who offers to take such links and then does not has its messages all the same.
#[test]
fn who_refuses_links_gets_streams_by_its_own() {
    if !available(&[Peer::Proton]) {
        return;
    }
    let router = Router::shared();
    let address = "streams.refused";
    let job = Job::receive(address).count(2).takes_streams();
    let mut received = Peer::Proton.start(&router, job.refuses_links());
    received.expect("attached");
    for _ in 0..2 {
        let job = Job::interleave(address).count(1).sizes(&[2000]);
        let sent = Peer::Proton.start(&router, job).finish();
        assert_eq!(sent.named("outcome")[0]["outcome"], "accepted", "{sent}");
    }
    let received = received.finish();
    let sizes: Vec<_> = received
        .named("message")
        .iter()
        .map(|event| event["size"].clone())
        .collect();
    assert_eq!(sizes, [2000, 2000], "{received}");
    assert!(!received.named("refused").is_empty(), "{received}");
}
