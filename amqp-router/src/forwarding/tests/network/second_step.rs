//! Receivers that settle only when the sender has (AMQP 2.6.12): outcome, settlement, settlement.

use super::*;

const ACCEPTED: Option<DeliveryState> = Some(DeliveryState::Accepted);

impl Net {
    /// A sender that takes part in the second step.
    fn confirming_producer(&mut self) -> Slot {
        let terminal = self.scene.terminal();
        let traits = IncomingTraits {
            capacity: 250,
            confirms: true,
            ..IncomingTraits::default()
        };
        let slot = self.scene.forwarder.add_incoming(terminal, traits);
        let target = Target::Address(AddressId(7));
        self.scene.forwarder.open_incoming(slot, target, Some("7"));
        slot
    }

    /// A delivery of such a sender has arrived at its receiver.
    fn confirming() -> (Self, Slot) {
        let mut net = Self::new(10);
        let producer = net.confirming_producer();
        net.scene.consumer(7, 10);
        net.scene.turn();
        net.scene.send(producer, 1, "x");
        net.scene.turn();
        (net, producer)
    }

    /// The receiver says what became of its first delivery, and waits.
    fn tell_outcome(&mut self) -> Vec<String> {
        let Scene {
            forwarder,
            script,
            now,
            ..
        } = &mut self.scene;
        forwarder.receiver_update(script, *now, 0, ACCEPTED, false);
        self.scene.turn()
    }

    /// The sender settles its first delivery.
    fn settle(&mut self) -> Vec<String> {
        let Scene {
            forwarder, script, ..
        } = &mut self.scene;
        forwarder.sender_update(script, 0, None, true);
        self.scene.turn()
    }

    /// Deliveries that were accepted, of all links and of the router.
    fn accepted(&self) -> (Vec<u64>, u64) {
        let Scene {
            forwarder,
            script,
            now,
            ..
        } = &self.scene;
        let links = forwarder.links(WORKER);
        let statuses = forwarder.link_statuses(script, WORKER, &links, *now);
        let counts = statuses.iter().map(|(_, status)| status.counts.accepted);
        let counts = counts.filter(|count| *count > 0).collect();
        (counts, forwarder.counts().outcomes.accepted)
    }
}

#[test]
fn each_step_is_passed_on_and_the_outcome_counts_once() {
    let (mut net, _) = Net::confirming();
    assert_eq!(net.tell_outcome(), ["2: 1 accepted"]);
    assert_eq!(net.accepted(), (vec![], 0));
    assert_eq!(net.settle()[..1], ["3: sent 0 nothing settled"]);
    assert!(net.scene.is_at_rest());
    assert_eq!(net.accepted(), (vec![1, 1], 1));
}

#[test]
fn what_came_from_a_router_is_settled_there() {
    let mut net = Net::new(10);
    let trunk = net.trunk();
    net.scene.consumer(7, 10);
    net.scene.turn();
    let ahead = annotated("7", "0/C", &["0/C"], 0);
    net.arrive(trunk, 1, &ahead, "x", false);
    net.scene.turn();
    assert_eq!(net.tell_outcome(), ["2: 1 accepted"]);
    assert_eq!(net.settle()[..1], ["3: sent 0 nothing settled"]);
    assert!(net.scene.is_at_rest());
}

#[test]
fn what_went_to_a_router_waits_there_for_the_sender() {
    let mut net = Net::new(10);
    let producer = net.confirming_producer();
    net.scene.turn();
    net.scene.send(producer, 1, "x");
    net.scene.turn();
    assert_eq!(net.tell_outcome(), ["2: 1 accepted"]);
    assert_eq!(net.load.get(), 1);
    assert_eq!(net.settle()[..1], ["1: sent 0 nothing settled"]);
    assert_eq!(net.load.get(), 0);
    assert!(net.scene.is_at_rest());
}

#[test]
fn a_receiver_that_waits_for_a_sender_that_is_gone_hears_of_it() {
    let (mut net, producer) = Net::confirming();
    net.tell_outcome();
    let Scene {
        forwarder, script, ..
    } = &mut net.scene;
    forwarder.remove_incoming(script, producer);
    let said = net.scene.turn();
    let settled = "3: sent 0 accepted settled";
    assert!(said.iter().any(|line| line == settled), "{said:?}");
    assert!(net.scene.is_at_rest());
    assert_eq!(net.accepted().1, 1);
}
