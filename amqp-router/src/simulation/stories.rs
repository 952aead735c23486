//! What a seed may take long to come upon, told on purpose.

use std::time::Duration;

use crate::codec::{DeliveryState, Error};
use crate::control::table::Treatment;
use crate::endpoint::{Config, Sendable};

use super::client::LinkWish;
use super::ledger::{LinkNo, MessageNo};
use super::message::Shape;
use super::wire::{Grain, Manner};
use super::world::{Climate, World, client_config};

/// A link of a client in a story.
#[derive(Clone, Copy, Debug)]
pub(super) struct At {
    line: usize,
    token: usize,
    number: LinkNo,
}

/// What is told of worlds in which one thing happens after the other.
impl World {
    fn story(climate: &Climate) -> Self {
        let rng = <rand::rngs::StdRng as rand::SeedableRng>::seed_from_u64(0);
        Self::new(climate, rng)
    }

    pub(super) fn attach(&mut self, line: usize, wish: &LinkWish) -> At {
        let number = self.with(line, |client, scope| {
            let session = client.sessions[0];
            client.attach(scope, session, wish)
        });
        self.settle_down();
        let token = self.with(line, |client, _| {
            client.token(number).expect("it is attached")
        });
        At {
            line,
            token,
            number,
        }
    }

    pub(super) fn sender(&mut self, line: usize, address: &str) -> At {
        let address = self.ledger.find_address(address);
        self.attach(line, &LinkWish::sender(Some(address)))
    }

    pub(super) fn receiver(&mut self, line: usize, address: &str, credit: u32) -> At {
        let address = self.ledger.find_address(address);
        let at = self.attach(line, &LinkWish::receiver(address));
        self.grant(at, credit);
        at
    }

    fn grant(&mut self, at: At, credit: u32) {
        self.with(at.line, |client, _| {
            let (id, receiver, endpoint) = client.receiving(at.token);
            receiver.grant(endpoint, id, credit);
        });
        self.settle_down();
    }

    fn settle_down(&mut self) {
        self.pass(Duration::from_millis(1));
    }

    /// Starts a message of so many pieces and sends the first; `None` without credit or window.
    pub(super) fn start(
        &mut self,
        at: At,
        to: &str,
        bytes: usize,
        pieces: usize,
    ) -> Option<MessageNo> {
        self.start_as(at, to, bytes, pieces, false)
    }

    fn start_as(
        &mut self,
        at: At,
        to: &str,
        bytes: usize,
        pieces: usize,
        settled: bool,
    ) -> Option<MessageNo> {
        let to = self.ledger.find_address(to);
        let name = self.ledger.addresses[to.0].name.clone();
        let message = self.with(at.line, |client, scope| {
            let (number, id, sender, endpoint) = client.sending(at.token);
            let to_each = sender.address.is_none().then_some(name);
            let shape = Shape {
                filler: bytes,
                to: to_each,
                settled,
                pieces,
                ..Shape::default()
            };
            sender.start(scope, (number, id), endpoint, to, &shape)
        });
        self.settle_down();
        message
    }

    pub(super) fn send(&mut self, at: At, to: &str) -> MessageNo {
        self.start(at, to, 10, 1).expect("there is credit")
    }

    /// Sends the next piece.
    pub(super) fn proceed(&mut self, at: At) {
        self.with(at.line, |client, scope| {
            let (_, id, sender, endpoint) = client.sending(at.token);
            sender.proceed(scope, id, endpoint);
        });
        self.settle_down();
    }

    fn abort(&mut self, at: At) {
        self.with(at.line, |client, scope| {
            let (_, id, sender, endpoint) = client.sending(at.token);
            sender.abort(scope, id, endpoint);
        });
        self.settle_down();
    }

    fn sendable(&mut self, at: At) -> Sendable {
        self.with(at.line, |client, _| {
            client.endpoint.sendable(client.links[at.token].id)
        })
    }

    pub(super) fn is_sending(&mut self, at: At) -> bool {
        self.with(at.line, |client, _| client.sending(at.token).2.is_sending())
    }

    /// Settles the oldest delivery of a receiver.
    pub(super) fn settle(&mut self, at: At, state: DeliveryState) {
        self.with(at.line, |client, scope| {
            let (_, receiver, endpoint) = client.receiving(at.token);
            receiver.settle(scope, endpoint, 0, state, true);
        });
        self.settle_down();
    }

    pub(super) fn detach(&mut self, at: At) {
        self.with(at.line, |client, scope| {
            client.detach(scope, at.token, true)
        });
        self.settle_down();
    }

    fn be_lazy(&mut self, line: usize, lazy: bool) {
        self.with(line, |client, _| {
            client.lazy = lazy;
            client.release();
        });
        self.settle_down();
    }

    pub(super) fn outcome(&self, message: MessageNo) -> Option<&DeliveryState> {
        self.ledger.messages[message.0].outcome.as_ref()
    }

    /// How many receivers have begun to get it, got all of it, and lost it on the way.
    pub(super) fn copies(&self, message: MessageNo) -> (usize, usize, usize) {
        let copies = &self.ledger.messages[message.0].copies;
        let copies = || copies.iter().map(|copy| &self.ledger.copies[copy.0]);
        let complete = copies().filter(|copy| copy.complete).count();
        let aborted = copies().filter(|copy| copy.aborted).count();
        (copies().count(), complete, aborted)
    }

    pub(super) fn got(&self, receiver: At) -> usize {
        self.ledger
            .copies
            .iter()
            .filter(|copy| copy.receiver == receiver.number)
            .count()
    }

    /// A receiver with an address of its own.
    pub(super) fn dynamic_receiver(&mut self, line: usize, credit: u32) -> At {
        let at = self.attach(line, &LinkWish::dynamic_receiver());
        self.grant(at, credit);
        at
    }

    pub(super) fn anonymous_sender(&mut self, line: usize) -> At {
        self.attach(line, &LinkWish::sender(None))
    }

    /// The address that a link is of.
    pub(super) fn address_of(&self, at: At) -> String {
        let address = self.ledger.links[at.number.0].address;
        let address = address.expect("it has one");
        self.ledger.addresses[address.0].name.clone()
    }

    pub(super) fn all_is_well(&mut self) {
        self.pass(Duration::from_secs(3));
        self.ledger.settle_accounts();
        self.check_rest();
    }
}

#[test]
fn a_message_is_cut_through_from_its_first_frame() {
    let mut world = World::calm(1);
    let (producer, consumer) = (world.connect_calmly(0), world.connect_calmly(0));
    let receiver = world.receiver(consumer, "balanced/a", 10);
    let sender = world.sender(producer, "balanced/a");
    let message = world
        .start(sender, "balanced/a", 5000, 2)
        .expect("there is credit");
    assert_eq!(world.copies(message), (1, 0, 0));
    world.proceed(sender);
    assert_eq!(world.copies(message), (1, 1, 0));
    world.settle(receiver, DeliveryState::Accepted);
    assert_eq!(world.outcome(message), Some(&DeliveryState::Accepted));
    world.all_is_well();
}

#[test]
fn an_abort_reaches_the_receiver_and_frees_the_link() {
    for workers in [1, 2] {
        let mut world = World::calm(workers);
        let (producer, consumer) = (world.connect_calmly(0), world.connect_calmly(workers - 1));
        let receiver = world.receiver(consumer, "balanced/a", 10);
        let sender = world.sender(producer, "balanced/a");
        let message = world
            .start(sender, "balanced/a", 500, 3)
            .expect("there is credit");
        world.abort(sender);
        assert_eq!(world.copies(message), (1, 0, 1));
        let next = world.send(sender, "balanced/a");
        assert_eq!(world.copies(next), (1, 1, 0));
        world.settle(receiver, DeliveryState::Accepted);
        assert_eq!(world.outcome(next), Some(&DeliveryState::Accepted));
        world.all_is_well();
    }
}

#[test]
fn a_receiver_without_credit_uses_up_its_senders_credit() {
    let mut world = World::calm(1);
    let (producer, consumer) = (world.connect_calmly(0), world.connect_calmly(0));
    let receiver = world.receiver(consumer, "balanced/a", 0);
    let sender = world.sender(producer, "balanced/a");
    let mut sent = 0;
    while world.start(sender, "balanced/a", 10, 1).is_some() {
        sent += 1;
    }
    assert_eq!(sent, 250);
    world.pass(Duration::from_secs(5));
    assert_eq!(
        world.sendable(sender).credit,
        0,
        "unsettled deliveries keep their credit"
    );
    world.grant(receiver, 250);
    assert_eq!(world.got(receiver), 250);
    assert_eq!(world.sendable(sender).credit, 0, "sent is not settled");
    for _ in 0..250 {
        world.settle(receiver, DeliveryState::Accepted);
    }
    assert!(
        world.sendable(sender).credit >= 125,
        "credit comes back in good parts"
    );
    world.all_is_well();
}

#[test]
fn a_receiver_that_lets_go_of_no_frames_shuts_its_senders_window() {
    for workers in [1, 2] {
        let narrow = Config {
            incoming_window: 4,
            ..Climate::calm().endpoint
        };
        let climate = Climate {
            workers,
            endpoint: narrow,
            ..Climate::calm()
        };
        let mut world = World::story(&climate);
        let (producer, consumer) = (world.connect_calmly(0), world.connect_calmly(workers - 1));
        let receiver = world.receiver(consumer, "balanced/a", 10);
        let sender = world.sender(producer, "balanced/a");
        world.be_lazy(consumer, true);
        let message = world
            .start(sender, "balanced/a", 500_000, 1)
            .expect("there is credit");
        (0..50).for_each(|_| world.proceed(sender));
        assert!(world.is_sending(sender) && world.sendable(sender).window == 0);
        assert_eq!(world.copies(message), (1, 0, 0));
        world.be_lazy(consumer, false);
        while world.is_sending(sender) {
            world.proceed(sender);
        }
        assert_eq!(
            world.copies(message),
            (1, 1, 0),
            "larger than the windows, and whole"
        );
        world.settle(receiver, DeliveryState::Accepted);
        world.all_is_well();
    }
}

#[test]
fn a_client_that_does_not_read_holds_up_its_sender_and_nobody_else() {
    let endpoint = Config {
        incoming_window: 100,
        ..Climate::calm().endpoint
    };
    let mut world = World::story(&Climate {
        endpoint,
        ..Climate::calm()
    });
    let producers = [world.connect_calmly(0), world.connect_calmly(0)];
    let config = client_config(Climate::calm().endpoint, true);
    let narrow = Manner {
        capacity: 4000,
        ..Manner::CALM
    };
    let deaf = world.connect(0, 0, config, [Manner::CALM, narrow], 1);
    world.settle_down();
    let receiver = world.receiver(deaf, "balanced/a", 1000);
    let held_up = world.sender(producers[0], "balanced/a");
    world.lines[deaf].down.stall(Duration::from_secs(30));
    let message = world
        .start(held_up, "balanced/a", 4_000_000, 1)
        .expect("there is credit");
    (0..50).for_each(|_| world.proceed(held_up));
    assert!(world.is_sending(held_up) && world.sendable(held_up).window == 0);
    let hearing = world.connect_calmly(0);
    let other = world.receiver(hearing, "balanced/b", 10);
    let unaffected = world.sender(producers[1], "balanced/b");
    let passing = world.send(unaffected, "balanced/b");
    assert_eq!(world.copies(passing), (1, 1, 0));
    world.settle(other, DeliveryState::Accepted);
    world.lines[deaf].down.resume();
    while world.is_sending(held_up) {
        world.proceed(held_up);
    }
    world.settle_down();
    assert_eq!(world.copies(message), (1, 1, 0));
    world.settle(receiver, DeliveryState::Accepted);
    world.all_is_well();
}

#[test]
fn a_receiver_lost_in_the_middle_of_a_message_releases_it_and_the_next_goes_elsewhere() {
    for workers in [1, 2] {
        let mut world = World::calm(workers);
        let (producer, lost) = (world.connect_calmly(0), world.connect_calmly(workers - 1));
        world.receiver(lost, "balanced/a", 10);
        let sender = world.sender(producer, "balanced/a");
        let message = world
            .start(sender, "balanced/a", 5000, 4)
            .expect("there is credit");
        assert_eq!(world.copies(message), (1, 0, 0));
        let consumer = world.connect_calmly(0);
        let other = world.receiver(consumer, "balanced/a", 10);
        world.disconnect(lost);
        world.settle_down();
        assert_eq!(world.outcome(message), Some(&DeliveryState::Released));
        while world.is_sending(sender) {
            world.proceed(sender);
        }
        let next = world.send(sender, "balanced/a");
        world.settle(other, DeliveryState::Accepted);
        assert_eq!(world.outcome(next), Some(&DeliveryState::Accepted));
        world.all_is_well();
    }
}

#[test]
fn a_sender_lost_in_the_middle_of_a_message_aborts_it() {
    for workers in [1, 2] {
        let mut world = World::calm(workers);
        let (producer, consumer) = (world.connect_calmly(0), world.connect_calmly(workers - 1));
        let receiver = world.receiver(consumer, "balanced/a", 10);
        let sender = world.sender(producer, "balanced/a");
        let whole = world.send(sender, "balanced/a");
        let message = world
            .start(sender, "balanced/a", 5000, 4)
            .expect("there is credit");
        world.disconnect(producer);
        world.settle_down();
        assert_eq!(world.copies(message), (1, 0, 1));
        assert_eq!(world.copies(whole), (1, 1, 0));
        world.settle(receiver, DeliveryState::Accepted);
        world.all_is_well();
    }
}

#[test]
fn every_outcome_crosses_workers_as_it_is() {
    let mut world = World::calm(2);
    let (producer, consumer) = (world.connect_calmly(0), world.connect_calmly(1));
    let receiver = world.receiver(consumer, "closest", 10);
    let sender = world.sender(producer, "closest");
    let outcomes = [
        DeliveryState::Accepted,
        DeliveryState::Rejected(None),
        DeliveryState::rejected(Error::new("custom:reason", "no")),
        DeliveryState::Released,
        DeliveryState::modified(true, true),
    ];
    for outcome in outcomes {
        let message = world.send(sender, "closest");
        world.settle(receiver, outcome.clone());
        assert_eq!(world.outcome(message), Some(&outcome));
    }
    assert_eq!(world.ledger.tally.crossed, 5);
    world.all_is_well();
}

#[test]
fn who_accepts_early_on_another_worker_gets_the_rest() {
    let mut world = World::calm(2);
    let (producer, consumer) = (world.connect_calmly(0), world.connect_calmly(1));
    let receiver = world.receiver(consumer, "balanced/a", 10);
    let sender = world.sender(producer, "balanced/a");
    let message = world
        .start(sender, "balanced/a", 5000, 2)
        .expect("there is credit");
    world.settle(receiver, DeliveryState::Accepted);
    assert_eq!(world.outcome(message), Some(&DeliveryState::Accepted));
    world.proceed(sender);
    assert_eq!(world.copies(message), (1, 1, 0));
    world.all_is_well();
}

#[test]
fn a_multicast_gets_the_most_significant_outcome_of_all_workers() {
    let mut world = World::calm(3);
    let producer = world.connect_calmly(0);
    let consumers = [0, 1, 2].map(|hub| world.connect_calmly(hub));
    let receivers = consumers.map(|line| world.receiver(line, "multicast", 10));
    assert_eq!(world.ledger.addresses[3].treatment, Treatment::Multicast);
    let sender = world.sender(producer, "multicast");
    let message = world.send(sender, "multicast");
    assert_eq!(world.copies(message), (3, 3, 0));
    world.settle(receivers[0], DeliveryState::Released);
    world.settle(receivers[1], DeliveryState::Rejected(None));
    assert_eq!(world.outcome(message), None);
    world.settle(receivers[2], DeliveryState::Accepted);
    assert_eq!(world.outcome(message), Some(&DeliveryState::Rejected(None)));
    world.all_is_well();
}

#[test]
fn a_consumer_that_comes_while_its_senders_drain_gives_them_credit() {
    let mut world = World::calm(1);
    let (producer, consumer) = (world.connect_calmly(0), world.connect_calmly(0));
    let first = world.receiver(consumer, "balanced/a", 10);
    let sender = world.sender(producer, "balanced/a");
    world.detach(first);
    world.lines[producer].down.stall(Duration::from_millis(100));
    let message = world.send(sender, "balanced/a");
    let second = world.receiver(consumer, "balanced/a", 10);
    world.lines[producer].down.resume();
    world.settle_down();
    assert_eq!(world.outcome(message), Some(&DeliveryState::Released));
    world.with(producer, |client, _| {
        let (_, id, sender, endpoint) = client.sending(sender.token);
        sender.give_back_credit(endpoint, id);
    });
    world.settle_down();
    assert_eq!(world.sendable(sender).credit, 250);
    let next = world.send(sender, "balanced/a");
    world.settle(second, DeliveryState::Accepted);
    assert_eq!(world.outcome(next), Some(&DeliveryState::Accepted));
    world.all_is_well();
}

#[test]
fn an_anonymous_sender_does_not_mistake_a_new_address_for_an_old_one() {
    let mut world = World::calm(1);
    let (producer, consumer) = (world.connect_calmly(0), world.connect_calmly(0));
    let first = world.receiver(consumer, "balanced/a", 10);
    let sender = world.attach(producer, &LinkWish::sender(None));
    world.send(sender, "balanced/a");
    world.settle(first, DeliveryState::Accepted);
    world.detach(first);
    let second = world.receiver(consumer, "balanced/b", 10);
    let message = world.send(sender, "balanced/a");
    assert_eq!(world.outcome(message), Some(&DeliveryState::Released));
    assert_eq!(world.got(second), 0);
    world.all_is_well();
}

#[test]
fn presettled_messages_wait_for_a_receiver_that_is_slow_but_takes_them() {
    let mut world = World::calm(1);
    let (producer, consumer) = (world.connect_calmly(0), world.connect_calmly(0));
    let receiver = world.receiver(consumer, "balanced/a", 0);
    let sender = world.sender(producer, "balanced/a");
    let mut sent = 0;
    for _ in 0..200 {
        while world.start_as(sender, "balanced/a", 10, 1, true).is_some() {
            sent += 1;
        }
        world.grant(receiver, 3);
        world.pass(Duration::from_millis(100));
    }
    world.grant(receiver, 1000);
    assert_eq!(world.got(receiver), sent);
    assert!(sent >= 800, "{sent}");
    world.all_is_well();
}

#[test]
fn bytes_that_come_one_by_one_are_frames_all_the_same() {
    let mut world = World::calm(1);
    let config = client_config(Climate::calm().endpoint, true);
    let drop_by_drop = Manner {
        grain: Grain::Byte,
        ..Manner::CALM
    };
    let producer = world.connect(0, 0, config.clone(), [drop_by_drop; 2], 1);
    let consumer = world.connect(0, 0, config, [drop_by_drop; 2], 1);
    world.settle_down();
    let receiver = world.receiver(consumer, "balanced/a", 10);
    let sender = world.sender(producer, "balanced/a");
    let message = world
        .start(sender, "balanced/a", 1000, 1)
        .expect("there is credit");
    world.settle(receiver, DeliveryState::Released);
    assert_eq!(world.outcome(message), Some(&DeliveryState::Released));
    world.all_is_well();
}
