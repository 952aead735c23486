//! What a seed may take long to come upon, told on purpose.

use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::codec::DeliveryState;
use crate::endpoint::Config;
use crate::simulation::client::LinkWish;
use crate::simulation::router::name;
use crate::simulation::stories::At;
use crate::simulation::trunks::Plan;
use crate::simulation::wire::Manner;
use crate::simulation::world::{Climate, Weather, World, client_config};

/// Routers in a line, without anything unusual.
fn line(routers: usize, climate: &Climate) -> World {
    let mut world = World::network(routers, 0, climate, StdRng::seed_from_u64(0));
    for router in 1..routers {
        world.join(Plan::new(router - 1, router, Manner::CALM));
    }
    world.find_peace();
    world
}

/// A receiver at the last router, and a sender at the first one whose connection takes so many
/// frames.
fn ends(world: &mut World, window: u32) -> [At; 2] {
    let consumer = world.connect_calmly_to(world.routers.len() - 1, 0);
    let receiver = world.receiver(consumer, "balanced/a", 1000);
    let config = Config {
        incoming_window: window,
        ..client_config(Climate::calm().endpoint, true)
    };
    let producer = world.connect(0, 0, config, [Manner::CALM; 2], 1);
    world.pass(Duration::ZERO);
    let sender = world.sender(producer, "balanced/a");
    world.find_peace();
    [sender, receiver]
}

/// What is likely to be complete in a moment waits for that before it goes to another router; but
/// it holds places in its session's window meanwhile, and may hold all of them.
#[test]
fn a_message_of_more_frames_than_its_session_takes_crosses_a_network() {
    let narrow = Climate {
        endpoint: Config {
            incoming_window: 3,
            ..Climate::calm().endpoint
        },
        ..Climate::calm()
    };
    for workers in [1, 2] {
        let mut world = line(
            3,
            &Climate {
                workers,
                ..narrow.clone()
            },
        );
        let [sender, receiver] = ends(&mut world, 100);
        let message = world.start(sender, "balanced/a", 2000, 40);
        let message = message.expect("there is credit");
        for _ in 0..100 {
            world.proceed(sender);
        }
        assert!(world.is_sending(sender), "its window is shut");
        for _ in 0..5 {
            world.pass(Duration::from_secs(1));
            for _ in 0..100 {
                world.proceed(sender);
            }
        }
        assert_eq!(world.copies(message), (1, 1, 0));
        world.settle(receiver, DeliveryState::Accepted);
        assert_eq!(world.outcome(message), Some(&DeliveryState::Accepted));
        world.all_is_well();
    }
}

#[test]
fn a_request_is_answered_from_router_to_router_and_edge() {
    let mut world = World::network(3, 1, &Climate::calm(), StdRng::seed_from_u64(0));
    for (from, to) in [(0, 1), (1, 2), (3, 2)] {
        world.join(Plan::new(from, to, Manner::CALM));
    }
    world.find_peace();
    for [asks, answers] in [[0, 2], [2, 0], [0, 3], [3, 0], [3, 3]] {
        let client = world.connect_calmly_to(asks, 0);
        let service = world.connect_calmly_to(answers, 0);
        let requests = world.receiver(service, "balanced/b", 10);
        let answer = world.dynamic_receiver(client, 10);
        let [ask, reply] = [client, service].map(|line| world.anonymous_sender(line));
        world.find_peace();
        let request = world.send(ask, "balanced/b");
        world.pass(Duration::from_secs(1));
        assert_eq!(world.got(requests), 1, "from R{asks} to R{answers}");
        world.settle(requests, DeliveryState::Accepted);
        assert_eq!(world.outcome(request), Some(&DeliveryState::Accepted));
        let reply_to = world.address_of(answer);
        let response = world.send(reply, &reply_to);
        world.pass(Duration::from_secs(1));
        assert_eq!(world.got(answer), 1, "from R{answers} to R{asks}");
        world.settle(answer, DeliveryState::modified(false, true));
        let outcome = DeliveryState::modified(false, true);
        assert_eq!(world.outcome(response), Some(&outcome));
        for link in [requests, answer, ask, reply] {
            world.detach(link);
        }
    }
}

/// Requesters who were found by way of the network have answers there also once their edge router is
/// connected to this one, however long somebody has been answering.
#[test]
fn an_answer_finds_its_way_when_edge_routers_become_a_mesh() {
    let mut world = World::network(2, 2, &Climate::calm(), StdRng::seed_from_u64(0));
    for (from, to) in [(0, 1), (2, 0), (3, 1)] {
        world.join(Plan::new(from, to, Manner::CALM));
    }
    world.find_peace();
    let [asks, answers] = [3, 2].map(|router| world.connect_calmly_to(router, 0));
    let answer = world.dynamic_receiver(asks, 100);
    let anyone = world.anonymous_sender(answers);
    world.find_peace();
    let reply_to = world.address_of(answer);
    let one = world.sender(answers, &reply_to);
    world.find_peace();
    for (round, got) in [(0, 2), (1, 4)] {
        let sent = [world.send(anyone, &reply_to), world.send(one, &reply_to)];
        world.pass(Duration::from_secs(1));
        assert_eq!(world.got(answer), got, "{round}");
        for _ in sent {
            world.settle(answer, DeliveryState::Accepted);
        }
        let accepted = Some(&DeliveryState::Accepted);
        assert_eq!(sent.map(|message| world.outcome(message)), [accepted; 2]);
        world.join(Plan::new(3, 2, Manner::CALM));
        world.find_peace();
        world.pass(Duration::from_secs(10));
    }
}

/// Also what is addressed one by one, at an edge router that knows of its mesh's consumers by itself.
#[test]
fn a_multicast_from_a_mesh_reaches_the_mesh_and_the_network_once() {
    for anonymous in [false, true] {
        let mut world = World::network(1, 2, &Climate::calm(), StdRng::seed_from_u64(0));
        for (from, to) in [(1, 0), (2, 0), (2, 1)] {
            world.join(Plan::new(from, to, Manner::CALM));
        }
        world.find_peace();
        let address = "multicast";
        let receivers = [0, 2].map(|router| {
            let consumer = world.connect_calmly_to(router, 0);
            world.receiver(consumer, address, 10)
        });
        let producer = world.connect_calmly_to(1, 0);
        let sender = match anonymous {
            true => world.anonymous_sender(producer),
            false => world.sender(producer, address),
        };
        world.find_peace();
        let message = world.send(sender, address);
        world.pass(Duration::from_secs(1));
        let got = receivers.map(|receiver| world.got(receiver));
        assert_eq!(got, [1, 1], "anonymous: {anonymous}");
        for receiver in receivers {
            world.settle(receiver, DeliveryState::Accepted);
        }
        assert_eq!(world.outcome(message), Some(&DeliveryState::Accepted));
        world.all_is_well();
    }
}

/// Two routers that lose each other leave two others that take the lost connection for the best way
/// between them. These two can tell each other of it only by one that they do not think on the way.
#[test]
fn a_change_is_soon_known_where_only_detours_lead() {
    let mut world = World::network(4, 0, &Climate::calm(), StdRng::seed_from_u64(0));
    let costs = [
        (0, 1, 100),
        (0, 2, 50),
        (0, 3, 1),
        (1, 2, 1),
        (1, 3, 20),
        (2, 3, 1),
    ];
    let [.., second, first] = costs.map(|(from, to, cost)| {
        world.join(Plan {
            costs: [cost; 2],
            ..Plan::new(from, to, Manner::CALM)
        })
    });
    world.find_peace();
    for lost in [first, second] {
        world.trunks.persist(lost, false);
        world.cut(lost);
        world.pass(Duration::from_secs(4));
    }
    let at = |router: usize| {
        let known = world.routers[router].control.routers();
        let found = known.into_iter().find(|other| other.id == name(1));
        found.expect("it is known")
    };
    let costs = [0, 2, 3].map(|router| at(router).cost);
    assert_eq!(costs, [51, 1, 52].map(Some));
    let origins = at(2).valid_origins;
    for origin in [0, 3] {
        assert!(origins.contains(&name(origin)), "{origins:?}");
    }
}

/// What a router says of itself comes to another by a quick detour of more hops than that takes any
/// way to be long, and only then straight. Whoever is behind that other one is to hear it, too.
#[test]
fn a_copy_that_has_come_too_far_keeps_no_other_from_going_on() {
    let mut world = World::network(7, 0, &Climate::calm(), StdRng::seed_from_u64(0));
    let slow = Manner {
        latency: Duration::from_millis(500),
        ..Manner::CALM
    };
    world.join(Plan::new(0, 1, slow));
    for (from, to) in [(0, 2), (2, 3), (3, 4), (4, 5), (5, 1), (1, 6)] {
        world.join(Plan::new(from, to, Manner::CALM));
    }
    world.find_peace();
    // Link states that are not heard of are given up after a minute.
    world.pass(Duration::from_secs(150));
    let known = world.routers[6].control.routers();
    for router in (0..6).map(name) {
        let status = known.iter().find(|other| other.id == router);
        let status = status.unwrap_or_else(|| panic!("{router} is forgotten"));
        assert!(!status.link_state.is_empty(), "{router} is not heard of");
    }
}

/// A sender that has no credit left, as everything it sent waits for a router that is not there any
/// more, goes on as soon as that router is missed; the connection to it lasts for much longer.
#[test]
fn a_silent_router_keeps_no_sender_waiting() {
    let mut world = World::network(3, 0, &Climate::calm(), StdRng::seed_from_u64(0));
    let ways = [(0, 1), (0, 2), (2, 1)];
    let [direct, ..] = ways.map(|(from, to)| world.join(Plan::new(from, to, Manner::CALM)));
    world.find_peace();
    let consumer = world.connect_calmly_to(1, 0);
    let receiver = world.receiver(consumer, "balanced/a", 1000);
    let producer = world.connect_calmly_to(0, 0);
    let sender = world.sender(producer, "balanced/a");
    world.find_peace();
    let until = world.at + Duration::from_secs(30);
    world.freeze(direct, until);
    world.weather = Some(Weather::Rough);
    let mut sent = Vec::new();
    while let Some(message) = world.start(sender, "balanced/a", 10, 1) {
        sent.push(message);
    }
    assert!(!sent.is_empty());
    world.pass(Duration::from_secs(5));
    for message in &sent {
        let outcome = world.outcome(*message).expect("it is given back");
        let lost = [
            DeliveryState::Released,
            DeliveryState::modified(true, false),
        ];
        assert!(lost.contains(outcome), "{outcome:?}");
    }
    let next = world.send(sender, "balanced/a");
    world.pass(Duration::from_secs(1));
    assert_eq!(world.got(receiver), 1, "by the detour");
    world.settle(receiver, DeliveryState::Accepted);
    assert_eq!(world.outcome(next), Some(&DeliveryState::Accepted));
}

/// An edge router, R1, that is connected to R0, and the number of its connector.
fn edge(climate: &Climate) -> (World, usize) {
    let mut world = World::network(1, 1, climate, StdRng::seed_from_u64(0));
    let way = world.join(Plan::new(1, 0, Manner::CALM));
    world.find_peace();
    (world, way)
}

/// A receiver at one router, and a sender at another.
fn between(world: &mut World, from: usize, to: usize, address: &str) -> [At; 2] {
    let [producer, consumer] = [from, to].map(|router| world.connect_calmly_to(router, 0));
    world.pass(Duration::from_secs(1));
    let receiver = world.receiver(consumer, address, 1000);
    let sender = world.sender(producer, address);
    world.find_peace();
    [sender, receiver]
}

/// What waits for its end goes by the connection that it was for, up or down, though that has
/// meanwhile been succeeded and has nothing else to do.
#[test]
fn a_message_that_is_arriving_while_an_edge_router_connects_anew_arrives() {
    for [from, to] in [[1, 0], [0, 1]] {
        for address in ["balanced/a", "multicast"] {
            for pause in [0, 100, 5000, 30_000] {
                let (mut world, way) = edge(&Climate::calm());
                let [sender, receiver] = between(&mut world, from, to, address);
                let message = world
                    .start(sender, address, 2000, 3)
                    .expect("there is credit");
                world.renew(way);
                world.pass(Duration::from_millis(pause));
                world.proceed(sender);
                world.pass(Duration::from_millis(pause));
                world.proceed(sender);
                world.pass(Duration::from_secs(1));
                let told = format!("{address} from R{from} after {pause} ms");
                assert_eq!(world.copies(message), (1, 1, 0), "{told}");
                world.settle(receiver, DeliveryState::Accepted);
                let accepted = Some(&DeliveryState::Accepted);
                assert_eq!(world.outcome(message), accepted, "{told}");
                world.all_is_well();
            }
        }
    }
}

/// Whoever takes long to say what becomes of a message is waited for, however old the connection
/// is by which it came.
#[test]
fn a_receiver_may_take_its_time_while_an_edge_router_connects_anew() {
    for [from, to] in [[1, 0], [0, 1]] {
        let (mut world, way) = edge(&Climate::calm());
        let [sender, receiver] = between(&mut world, from, to, "balanced/a");
        let message = world.send(sender, "balanced/a");
        world.renew(way);
        world.pass(Duration::from_secs(600));
        assert_eq!(world.outcome(message), None, "from R{from}");
        world.settle(receiver, DeliveryState::Accepted);
        world.pass(Duration::from_secs(1));
        let accepted = Some(&DeliveryState::Accepted);
        assert_eq!(world.outcome(message), accepted, "from R{from}");
        world.all_is_well();
    }
}

/// A message that its receiver has given back is not offered to it again by the newer connection.
#[test]
fn what_was_given_back_by_an_older_connection_is_not_sent_by_the_newer_one() {
    for [from, to] in [[1, 0], [0, 1]] {
        let (mut world, way) = edge(&Climate::calm());
        let consumer = world.connect_calmly_to(to, 0);
        let receiver = world.receiver(consumer, "balanced/a", 1000);
        let producer = world.connect_calmly_to(from, 0);
        let address = world.ledger.find_address("balanced/a");
        let wish = LinkWish {
            resends: true,
            ..LinkWish::sender(Some(address))
        };
        let sender = world.attach(producer, &wish);
        world.find_peace();
        let message = world.send(sender, "balanced/a");
        world.renew(way);
        world.pass(Duration::from_secs(20));
        world.settle(receiver, DeliveryState::Released);
        world.pass(Duration::from_secs(1));
        assert_eq!(world.copies(message), (1, 1, 0), "from R{from}");
        let released = Some(&DeliveryState::Released);
        assert_eq!(world.outcome(message), released, "from R{from}");
        world.all_is_well();
    }
}

/// Whichever of its connections is made anew first.
#[test]
fn an_edge_router_that_renews_two_connections_stays_where_it_is() {
    for order in [[0, 1], [1, 0]] {
        let mut world = World::network(2, 1, &Climate::calm(), StdRng::seed_from_u64(0));
        world.join(Plan::new(0, 1, Manner::CALM));
        let ways = [0, 1].map(|to| world.join(Plan::new(2, to, Manner::CALM)));
        world.find_peace();
        let way_of = |world: &World| {
            let active = world.routers[2].control.active_uplink();
            let active = active.expect("it is in the network");
            (active, world.trunks.other_end(2, active))
        };
        let before = way_of(&world);
        for at in order {
            world.renew(ways[at]);
            world.pass(Duration::from_secs(2));
        }
        let after = way_of(&world);
        assert_ne!(after.0, before.0, "its own connection has a successor");
        assert_eq!(after.1, before.1);
        world.pass(Duration::from_secs(60));
        assert_eq!(way_of(&world), after);
    }
}

/// However much waits for the older connection, which is late to hear that it is to go.
#[test]
fn all_that_waits_for_a_connection_arrives_when_it_is_made_anew() {
    let (mut world, way) = edge(&Climate::calm());
    let consumer = world.connect_calmly_to(1, 0);
    let receiver = world.receiver(consumer, "balanced/a", 10_000);
    let senders: Vec<At> = (0..8)
        .map(|_| {
            let producer = world.connect_calmly_to(0, 0);
            world.sender(producer, "balanced/a")
        })
        .collect();
    world.find_peace();
    let until = world.at + Duration::from_secs(5);
    world.trunks.stall(way, until);
    let mut sent = Vec::new();
    for sender in senders {
        while let Some(message) = world.start(sender, "balanced/a", 10, 1) {
            sent.push(message);
        }
    }
    // More than links between routers have credit for, several times.
    assert_eq!(sent.len(), 2000);
    world.renew(way);
    world.pass(Duration::from_secs(30));
    assert_eq!(world.got(receiver), sent.len());
    world.come_to_rest();
    let accepted = Some(&DeliveryState::Accepted);
    assert!(
        sent.iter()
            .all(|message| world.outcome(*message) == accepted)
    );
}

/// The older connection serves until the newer one does, though its router takes long to say so.
#[test]
fn nothing_is_lost_while_a_newer_connection_is_slow() {
    for [from, to] in [[1, 0], [0, 1]] {
        for address in ["balanced/a", "multicast"] {
            let mut world = World::network(1, 1, &Climate::calm(), StdRng::seed_from_u64(0));
            let slow = Manner {
                latency: Duration::from_millis(50),
                ..Manner::CALM
            };
            let way = world.join(Plan::new(1, 0, slow));
            world.find_peace();
            let [sender, receiver] = between(&mut world, from, to, address);
            let before = world.routers[1].control.active_uplink();
            world.renew(way);
            while world.routers[1].control.active_uplink() == before {
                world.pass(Duration::from_millis(1));
            }
            let until = world.at + Duration::from_secs(12);
            world.trunks.stall(way, until);
            let accepted = Some(&DeliveryState::Accepted);
            for second in 0..40 {
                let message = world.send(sender, address);
                world.pass(Duration::from_secs(1));
                let told = format!("{address} from R{from} after {second} s");
                assert_eq!(world.copies(message), (1, 1, 0), "{told}");
                world.settle(receiver, DeliveryState::Accepted);
                world.pass(Duration::from_millis(100));
                assert_eq!(world.outcome(message), accepted, "{told}");
            }
            world.all_is_well();
        }
    }
}

/// Workers hear late of each other, and of what the control plane has decided.
#[test]
fn no_worker_sends_by_a_connection_that_is_given_up() {
    for (seed, [from, to]) in (0..10).flat_map(|seed| [(seed, [1, 0]), (seed, [0, 1])]) {
        for address in ["balanced/a", "multicast"] {
            let climate = Climate {
                workers: 3,
                delay: Duration::from_millis(20),
                ..Climate::calm()
            };
            let mut world = World::network(1, 1, &climate, StdRng::seed_from_u64(seed));
            let way = world.join(Plan::new(1, 0, Manner::CALM));
            world.find_peace();
            let [sender, receiver] = between(&mut world, from, to, address);
            world.renew(way);
            let mut sent = Vec::new();
            while sent.len() < 200 {
                sent.push(world.send(sender, address));
            }
            world.pass(Duration::from_secs(1));
            let told = format!("{address} from R{from}, seed {seed}");
            assert_eq!(world.got(receiver), sent.len(), "{told}");
            world.come_to_rest();
            let accepted = Some(&DeliveryState::Accepted);
            let mut outcomes = sent.iter().map(|message| world.outcome(*message));
            assert!(outcomes.all(|outcome| outcome == accepted), "{told}");
        }
    }
}
