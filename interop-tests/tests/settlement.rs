//! Settlement in three steps (AMQP 2.6.12): the receiver's outcome, the sender that settles, the
//! receiver that is told. Proton does as it is told at both ends; the router is in between.

use interop_tests::{Job, Peer, Router, RouterBuilder, Running, available, eventually, rows};

/// What there is between the sender and the receiver; the first router is the sender's.
type Routers = Vec<Router>;

fn one_router() -> Routers {
    vec![RouterBuilder::plain().start()]
}

fn two_routers() -> Routers {
    RouterBuilder::pair().into()
}

macro_rules! across {
    ($($story:ident)*) => {
        $(mod $story {
            #[test]
            fn one_router() {
                super::play(super::one_router, super::$story);
            }

            #[test]
            fn two_routers() {
                super::play(super::two_routers, super::$story);
            }
        })*
    };
}

across! {
    a_receiver_is_told_when_its_sender_settles_and_not_before
    a_receiver_is_told_when_its_sender_is_lost
    a_sender_is_told_of_a_receiver_that_is_lost
}

fn play(routers: fn() -> Routers, story: fn(&Routers)) {
    if Router::is_ours_to_configure() && available(&[Peer::Proton]) {
        story(&routers());
    }
}

/// A receiver of two messages, and the sender of the first, which has its outcome and does not
/// settle.
fn between_the_steps(routers: &Routers) -> [Running; 2] {
    let [near, far] = [routers.first(), routers.last()].map(|router| router.expect("there is one"));
    let receive = Job::receive("steps").count(2).settle_second();
    let mut receiver = Peer::Proton.start(far, receive);
    receiver.expect("attached");
    let known = || {
        let addresses = rows(near, "router.address");
        addresses.iter().any(|row| row["name"] == "Msteps")
    };
    eventually("the sender's router knows of the receiver", known);
    let send = Job::send("steps").count(1).settle_second();
    let mut sender = Peer::Proton.start(near, send.keeps_unsettled());
    let outcome = sender.expect("outcome");
    assert_eq!(outcome["outcome"], "accepted", "{outcome}");
    assert_eq!(outcome["settled"], false, "{outcome}");
    [sender, receiver]
}

fn a_receiver_is_told_when_its_sender_settles_and_not_before(routers: &Routers) {
    let [keeping, mut receiver] = between_the_steps(routers);
    // Another message takes all the steps meanwhile.
    let send = Job::send("steps").count(1).settle_second();
    let sent = Peer::Proton.start(&routers[0], send).finish();
    assert_eq!(sent.named("outcome")[0]["outcome"], "accepted", "{sent}");
    assert_eq!(receiver.expect("settled")["number"], 1);
    drop(keeping);
    assert_eq!(receiver.expect("settled")["number"], 0);
    receiver.finish();
}

fn a_receiver_is_told_when_its_sender_is_lost(routers: &Routers) {
    let [sender, mut receiver] = between_the_steps(routers);
    drop(sender);
    assert_eq!(receiver.expect("settled")["number"], 0);
}

fn a_sender_is_told_of_a_receiver_that_is_lost(routers: &Routers) {
    let [mut sender, receiver] = between_the_steps(routers);
    drop(receiver);
    check_given_up(&mut sender);
    sender.finish();
}

/// Whether the receiver has kept what it was about to is not known: as in skrouterd, the last word is
/// that it may have failed.
#[track_caller]
fn check_given_up(sender: &mut Running) {
    let settled = sender.expect("settled");
    assert_eq!(settled["outcome"], "modified", "{settled}");
    assert_eq!(settled["delivery_failed"], true, "{settled}");
}

#[test]
fn routers_that_lose_each_other_take_the_last_steps_themselves() {
    if !Router::is_ours_to_configure() || !available(&[Peer::Proton]) {
        return;
    }
    let mut routers = two_routers();
    let [mut sender, _receiver] = between_the_steps(&routers);
    drop(routers.pop());
    check_given_up(&mut sender);

    let mut routers = two_routers();
    let [_sender, mut receiver] = between_the_steps(&routers);
    drop(routers.remove(0));
    assert_eq!(receiver.expect("settled")["number"], 0);
}
