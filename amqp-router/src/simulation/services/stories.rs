//! What happens by chance, and what must always come of it.

use std::time::Duration;

use rand::Rng;

use super::net::{Net, describe};
use super::program::Habit;
use crate::simulation::wire::{Grain, Manner};

#[test]
fn streams_through_networks_break_no_law() {
    let seeds = match (std::env::var("SIM_SEED"), std::env::var("SIM_SEEDS")) {
        (Ok(seed), _) => {
            let seed: u64 = seed.parse().expect("SIM_SEED is a number");
            seed..seed + 1
        }
        (_, Ok(range)) => {
            let (start, end) = range.split_once("..").expect("SIM_SEEDS is like 0..1000");
            let parse = |text: &str| text.parse().expect("SIM_SEEDS is like 0..1000");
            parse(start)..parse(end)
        }
        _ => 0..40,
    };
    let is_many = seeds.end - seeds.start > 20;
    let mut direct = 0;
    for seed in seeds {
        let outcome = std::panic::catch_unwind(|| play(seed));
        direct += outcome.unwrap_or_else(|_| panic!("seed {seed}: replay it with SIM_SEED={seed}"));
    }
    assert!(
        direct > 0 || !is_many,
        "no octets went from socket to socket"
    );
}

/// Says how many octets no worker has seen.
fn play(seed: u64) -> usize {
    let mut net = random_net(seed);
    if std::env::var("SIM_SEED").is_ok() {
        net.tracing = true;
    }
    let routers = net.routers.len();
    let foreign = [0.0, 0.3, 0.8][net.rng.random_range(0..3)];
    for router in 0..routers {
        if net.rng.random_bool(foreign) {
            net.make_foreign(router);
        }
    }
    let served = net.rng.random_range(0..routers);
    let well = net.serve(served, "svc", false);
    for _ in 0..net.rng.random_range(0..3) {
        let router = net.rng.random_range(0..routers);
        net.serve(router, "svc", true);
    }
    net.pass(Duration::from_secs(5));
    assert!(!net.services[well].refuses);
    let mut sessions = Vec::new();
    for _ in 0..net.rng.random_range(1..6) {
        let router = net.rng.random_range(0..routers);
        let habits = [Habit::random(&mut net.rng), Habit::random(&mut net.rng)];
        // Both waiting for the other would be their own fault.
        let server = Habit {
            waits: habits[1].waits && !habits[0].waits,
            ..habits[1]
        };
        let manner = Manner::random(&mut net.rng);
        sessions.push(net.open(router, "svc", [habits[0], server], manner));
        // One after the other, so that it is known whose connection the service gets.
        net.pass(Duration::from_secs(1));
        if routers > 1 && net.rng.random_bool(0.2) {
            let way = net.rng.random_range(0..net.ways());
            net.renew(way);
        }
    }
    let disturbed = net.rng.random_bool(0.2) && routers > 1;
    if disturbed {
        net.pass(Duration::from_millis(300));
        net.cut(0);
    }
    net.pass(Duration::from_secs(900));
    for session in sessions {
        check(&net, session, disturbed);
    }
    net.check_empty();
    net.direct
}

/// What must have come of a session.
fn check(net: &Net, session: usize, disturbed: bool) {
    let of = &net.sessions[session];
    let client = &net.sockets[of.client].program;
    let Some(server) = of.server.map(|server| &net.sockets[server].program) else {
        let may = disturbed || client.habit.resets_after.is_some();
        assert!(
            may && client.reset,
            "session {session} found no service: {:?}",
            describe(net)
        );
        return;
    };
    assert!(client.is_over() && server.is_over(), "{:?}", describe(net));
    assert!(client.got <= server.sent && server.got <= client.sent);
    let resets = client.habit.resets_after.or(server.habit.resets_after);
    if disturbed || resets.is_some() {
        // Nobody takes for the whole what is not.
        for (one, other) in [(client, server), (server, client)] {
            assert!(
                one.reset || one.got == other.habit.sends,
                "session {session}: {one:?} thinks that it has all of {other:?}"
            );
        }
        return;
    }
    assert!(
        !client.reset && !server.reset,
        "session {session} was cut off"
    );
    assert_eq!(
        server.got, client.habit.sends,
        "session {session}, to the service"
    );
    assert_eq!(
        client.got, server.habit.sends,
        "session {session}, to the client"
    );
    check_telemetry(net, session);
}

/// What routers must have told of a session that nobody cut off.
fn check_telemetry(net: &Net, session: usize) {
    let client = &net.sockets[net.sessions[session].client].program;
    let port = session.to_string();
    let told = net.told.iter().find_map(|told| told.of_client(&port));
    let (identity, octets) = told.expect("its record");
    assert_eq!(octets, [client.sent as u64, client.got as u64]);
    assert!(net.told.iter().any(|told| told.serves(identity)));
}

/// Some routers, connected somehow.
fn random_net(seed: u64) -> Net {
    let mut net = Net::new(1, 0, 1, seed);
    let (routers, workers) = (net.rng.random_range(1..5), net.rng.random_range(1..3));
    let edges = [0, 0, 1, 2, 3][net.rng.random_range(0..5)];
    net = Net::new(routers, edges, workers, seed);
    let second = |edge: &usize| *edge >= routers && edge.is_multiple_of(2);
    let meshed = net.rng.random_bool(0.4);
    let again = (1..routers + edges).filter(second);
    for router in (1..routers + edges).chain(again) {
        let to = net.rng.random_range(0..router.min(routers));
        // All that streams carry comes this way, and not byte by byte.
        let manner = Manner {
            capacity: 1 << 20,
            grain: [Grain::Fine, Grain::Whole][net.rng.random_range(0..2)],
            ..Manner::random(&mut net.rng)
        };
        let data = match router < routers {
            true => net.rng.random_range(0..3),
            false => 0,
        };
        net.join_with(router, to, manner, data);
    }
    for edge in (routers..routers + edges).filter(|_| meshed) {
        for other in routers..edge {
            net.join(edge, other, Manner::CALM);
        }
    }
    net
}

/// A line of routers with a service at its end.
fn line(routers: usize) -> Net {
    let mut net = Net::new(routers, 0, 1, 1);
    for router in 1..routers {
        net.join(router - 1, router, Manner::CALM);
    }
    net
}

fn calm(net: &mut Net, router: usize, sends: [usize; 2]) -> usize {
    net.open(router, "svc", sends.map(Habit::calm), Manner::CALM)
}

#[test]
fn octets_cross_three_routers_both_ways() {
    let mut net = line(3);
    net.serve(2, "svc", false);
    net.pass(Duration::from_secs(3));
    let session = calm(&mut net, 0, [5_000_000, 3_000_000]);
    net.pass(Duration::from_secs(5));
    check(&net, session, false);
    net.check_empty();
}

#[test]
fn connections_are_made_anew_below_what_passes() {
    for workers in [1, 2] {
        let mut net = Net::new(2, 0, workers, 1);
        let way = net.join_with(0, 1, Manner::CALM, 2);
        net.serve(1, "svc", false);
        net.pass(Duration::from_secs(3));
        let long = Habit {
            dozes: Duration::from_secs(10),
            ..Habit::calm(9_000_000)
        };
        let old = net.open(0, "svc", [Habit::calm(2_000_000), long], Manner::CALM);
        net.pass(Duration::from_secs(1));
        net.renew(way);
        let new = calm(&mut net, 0, [1_000_000, 1_000_000]);
        net.pass(Duration::from_secs(20));
        check(&net, new, false);
        check(&net, old, false);
        // Nothing goes by what has been succeeded: nobody misses it.
        let late = net.open(0, "svc", [long, Habit::calm(1)], Manner::CALM);
        net.pass(Duration::from_secs(1));
        net.retire(way);
        net.pass(Duration::from_secs(20));
        check(&net, late, false);
        net.check_empty();
    }
}

#[test]
fn octets_cross_from_edge_router_to_edge_router() {
    let mut net = Net::new(2, 2, 1, 1);
    for (from, to) in [(1, 0), (2, 0), (3, 1)] {
        net.join(from, to, Manner::CALM);
    }
    net.serve(3, "svc", false);
    net.pass(Duration::from_secs(3));
    for client in 0..4 {
        let session = calm(&mut net, client, [300_000, 200_000]);
        net.pass(Duration::from_secs(300));
        check(&net, session, false);
    }
    net.check_empty();
}

#[test]
fn octets_stay_in_a_mesh_of_edge_routers() {
    // Also where there is no network at all.
    for interiors in [0, 1, 2] {
        let mut net = Net::new(interiors, 3, 1, 1);
        let edge = |number: usize| interiors + number;
        if interiors == 2 {
            net.join(1, 0, Manner::CALM);
        }
        for number in 0..3 {
            if interiors > 0 {
                net.join(edge(number), number % interiors, Manner::CALM);
            }
            for other in 0..number {
                net.join(edge(number), edge(other), Manner::CALM);
            }
        }
        net.serve(edge(2), "svc", false);
        net.pass(Duration::from_secs(3));
        for client in 0..interiors + 3 {
            let session = calm(&mut net, client, [300_000, 200_000]);
            net.pass(Duration::from_secs(300));
            check(&net, session, false);
        }
        net.check_empty();
    }
}

#[test]
fn an_edge_router_makes_its_way_anew_below_what_passes() {
    let mut net = Net::new(1, 1, 1, 1);
    let way = net.join(1, 0, Manner::CALM);
    net.serve(0, "svc", false);
    net.pass(Duration::from_secs(3));
    let long = Habit {
        dozes: Duration::from_secs(10),
        ..Habit::calm(2_000_000)
    };
    let old = net.open(1, "svc", [long, Habit::calm(3_000_000)], Manner::CALM);
    net.pass(Duration::from_secs(1));
    net.renew(way);
    for _ in 0..4 {
        // While links change over, and when they have.
        let new = calm(&mut net, 1, [100_000, 100_000]);
        net.pass(Duration::from_secs(2));
        check(&net, new, false);
    }
    net.pass(Duration::from_secs(20));
    check(&net, old, false);
    net.retire(way);
    net.pass(Duration::from_secs(3));
    let late = calm(&mut net, 1, [100_000, 100_000]);
    net.pass(Duration::from_secs(3));
    check(&net, late, false);
    net.check_empty();
}

#[test]
fn an_edge_router_that_loses_its_way_into_the_network_takes_another() {
    let mut net = Net::new(2, 1, 1, 1);
    net.join(1, 0, Manner::CALM);
    let ways = [0, 1].map(|to| net.join(2, to, Manner::CALM));
    net.serve(0, "svc", false);
    net.pass(Duration::from_secs(3));
    let control = |net: &Net| net.routers[2].control.active_uplink();
    let first = control(&net).expect("it is in the network");
    net.cut(ways[0]);
    net.pass(Duration::from_secs(3));
    let second = control(&net).expect("it is in the network again");
    assert_ne!(first, second);
    let session = calm(&mut net, 2, [100_000, 100_000]);
    net.pass(Duration::from_secs(5));
    check(&net, session, false);
    net.cut(ways[1]);
    net.pass(Duration::from_secs(3));
    assert_eq!(control(&net), None);
    net.check_empty();
}

#[test]
fn a_service_that_refuses_is_passed_over_before_the_client_notices() {
    for (bad, good) in [(0, 0), (0, 2), (1, 0), (1, 2), (2, 1)] {
        let mut net = line(3);
        net.serve(bad, "svc", true);
        net.serve(good, "svc", false);
        net.pass(Duration::from_secs(3));
        for sends in [[0, 100], [70_000, 10], [1_000_000, 0]] {
            let session = calm(&mut net, 0, sends);
            net.pass(Duration::from_secs(3));
            check(&net, session, false);
        }
        net.check_empty();
    }
}

#[test]
fn a_client_is_cut_off_where_every_service_refuses() {
    let mut net = line(2);
    net.serve(0, "svc", true);
    net.serve(1, "svc", true);
    net.pass(Duration::from_secs(3));
    let session = calm(&mut net, 0, [10, 10]);
    net.pass(Duration::from_secs(3));
    assert!(net.sessions[session].server.is_none());
    assert!(net.sockets[net.sessions[session].client].program.reset);
    net.check_empty();
}

#[test]
fn a_client_is_cut_off_soon_where_a_foreign_router_s_service_refuses() {
    // A skrouterd says of a stream that it is modified, which an answer might be behind.
    let mut net = line(2);
    net.make_foreign(1);
    net.modify_refused(1);
    let service = net.serve(1, "svc", true);
    net.pass(Duration::from_secs(3));
    let session = calm(&mut net, 0, [10, 10]);
    net.pass(Duration::from_millis(100));
    assert!(!net.sockets[net.sessions[session].client].program.reset);
    net.pass(Duration::from_millis(1_400));
    assert!(net.sockets[net.sessions[session].client].program.reset);
    assert_eq!(net.services[service].dialled, 3);
    net.check_empty();
}

#[test]
fn a_foreign_router_whose_service_refuses_is_passed_over() {
    let mut net = Net::new(3, 0, 1, 1);
    for other in [1, 2] {
        net.join(0, other, Manner::CALM);
    }
    net.make_foreign(1);
    net.modify_refused(1);
    let bad = net.serve(1, "svc", true);
    net.serve(2, "svc", false);
    net.pass(Duration::from_secs(3));
    for _ in 0..8 {
        let session = calm(&mut net, 0, [1_000, 1_000]);
        net.pass(Duration::from_secs(1));
        check(&net, session, false);
    }
    // One client finds out for others, too.
    assert!(net.services[bad].dialled <= 3);
    net.check_empty();
}

#[test]
fn a_service_that_fails_slowly_is_not_waited_for_again_and_again() {
    for server in [0, 1] {
        let mut net = line(2);
        let service = net.serve(server, "svc", true);
        net.services[service].dial_takes = Duration::from_secs(50);
        net.pass(Duration::from_secs(3));
        let session = calm(&mut net, 0, [10, 10]);
        net.pass(Duration::from_secs(55));
        assert!(net.sockets[net.sessions[session].client].program.reset);
        assert_eq!(net.services[service].dialled, 1);
        net.check_empty();
    }
}

#[test]
fn a_service_that_refuses_again_and_again_is_asked_less_and_less() {
    let mut net = line(1);
    let refusing = net.serve(0, "svc", true);
    net.serve(0, "svc", false);
    net.pass(Duration::from_secs(3));
    for _ in 0..60 {
        let session = calm(&mut net, 0, [10, 10]);
        net.pass(Duration::from_secs(1));
        check(&net, session, false);
    }
    // After 2, 4, 8, 16 and 32 seconds.
    let asked = net.services[refusing].dialled;
    assert!((4..=6).contains(&asked), "{asked} times");
}

#[test]
fn a_service_that_does_not_answer_is_not_waited_for_while_there_is_another() {
    let mut net = line(1);
    let silent = net.serve(0, "svc", true);
    net.services[silent].dial_takes = Duration::from_secs(3600);
    net.pass(Duration::from_secs(3));
    let alone = calm(&mut net, 0, [10, 10]);
    net.pass(Duration::from_secs(8));
    assert!(
        !net.sockets[net.sessions[alone].client].program.reset,
        "the only one is waited for"
    );
    let other = net.serve(0, "svc", false);
    net.pass(Duration::from_secs(1));
    for _ in 0..4 {
        let session = calm(&mut net, 0, [10, 10]);
        net.pass(Duration::from_secs(6));
        check(&net, session, false);
    }
    assert_eq!(net.services[other].dialled, 4);
}

#[test]
fn what_a_client_says_early_is_kept_for_the_service_that_takes_it() {
    for (bad, good) in [(0, 0), (0, 2), (2, 0), (2, 2)] {
        let mut net = line(3);
        for (router, refuses) in [(bad, true), (good, false)] {
            let service = net.serve(router, "svc", refuses);
            net.services[service].dial_takes = Duration::from_secs(2);
        }
        net.pass(Duration::from_secs(3));
        for sends in [0, 1, 70_000, 5_000_000] {
            let session = calm(&mut net, 0, [sends, 10]);
            net.pass(Duration::from_millis(1));
            let client = &net.sockets[net.sessions[session].client];
            assert_eq!(client.held(&net), [sends.min(100_000), 0]);
            net.pass(Duration::from_secs(10));
            check(&net, session, false);
        }
        net.check_empty();
    }
}

/// A service of a router, which may take long to be connected to.
fn slow(net: &mut Net, router: usize) -> usize {
    let service = net.serve(router, "svc", false);
    net.services[service].dial_takes = Duration::from_secs(50);
    service
}

#[test]
fn what_a_client_says_early_waits_for_no_answer_where_nothing_can_lose_it() {
    // Whoever is in between makes no difference.
    for foreign in [None, Some(1)] {
        let mut net = line(4);
        foreign.into_iter().for_each(|one| net.make_foreign(one));
        slow(&mut net, 3);
        net.pass(Duration::from_secs(3));
        for sends in [1000, 5_000_000] {
            let session = calm(&mut net, 0, [sends, 10]);
            net.pass(Duration::from_millis(1));
            let came = net.octets_before_services(3);
            assert_eq!(came, sends.min(100_000) as u64);
            net.pass(Duration::from_secs(60));
            check(&net, session, false);
        }
        net.check_empty();
    }
}

#[test]
fn what_a_client_says_early_waits_where_it_could_be_lost() {
    for foreign in [0, 3] {
        let mut net = line(4);
        net.make_foreign(foreign);
        slow(&mut net, 3);
        net.pass(Duration::from_secs(3));
        let session = calm(&mut net, 0, [70_000, 10]);
        net.pass(Duration::from_millis(1));
        assert_eq!(net.octets_before_services(3), 0);
        net.pass(Duration::from_secs(60));
        check(&net, session, false);
        net.check_empty();
    }
}

#[test]
fn what_a_client_says_early_crosses_edge_routers() {
    // From an edge router and an interior one, to an edge router of the same mesh or another.
    for (client, foreign) in [(0, None), (1, None), (2, None), (3, None), (1, Some(0))] {
        let mut net = Net::new(2, 3, 1, 1);
        for (from, to) in [(1, 0), (2, 0), (3, 1), (4, 1), (4, 3)] {
            net.join(from, to, Manner::CALM);
        }
        foreign.into_iter().for_each(|one| net.make_foreign(one));
        slow(&mut net, 4);
        net.pass(Duration::from_secs(3));
        let session = calm(&mut net, client, [70_000, 10]);
        net.pass(Duration::from_millis(1));
        assert_eq!(net.octets_before_services(4), 70_000, "from {client}");
        net.pass(Duration::from_secs(60));
        check(&net, session, false);
        net.check_empty();
    }
}

#[test]
fn a_service_that_moves_to_where_octets_could_be_lost_loses_none() {
    // Wherever the clients' routers still think that it is, and whoever is told first.
    for (ours, theirs) in [(1, 3), (2, 1), (3, 2)] {
        let mut net = Net::new(4, 0, 1, 1);
        let late = Manner {
            latency: Duration::from_millis(10),
            ..Manner::CALM
        };
        for router in 1..4 {
            net.join(router - 1, router, late);
        }
        net.make_foreign(theirs);
        let before = slow(&mut net, ours);
        net.pass(Duration::from_secs(3));
        let mut sessions = Vec::new();
        for turn in 0..24 {
            if turn == 8 {
                slow(&mut net, theirs);
            }
            if turn == 10 {
                net.end_service(before);
            }
            sessions.push(calm(&mut net, 0, [1000, 10]));
            net.pass(Duration::from_millis(7));
        }
        net.pass(Duration::from_secs(200));
        for session in sessions {
            check(&net, session, false);
        }
        net.check_empty();
    }
}

#[test]
fn no_second_service_gets_what_one_may_have_got() {
    for says in [0, 1000] {
        let mut net = Net::new(3, 0, 1, 1);
        let ways = [1, 2].map(|router| net.join(0, router, Manner::CALM));
        slow(&mut net, 1);
        net.pass(Duration::from_secs(3));
        let session = calm(&mut net, 0, [says, 10]);
        net.pass(Duration::from_millis(1));
        assert_eq!(net.octets_before_services(1), says as u64);
        net.serve(2, "svc", false);
        net.pass(Duration::from_secs(2));
        assert!(net.sessions[session].server.is_none(), "the first is slow");
        net.cut(ways[0]);
        net.pass(Duration::from_secs(3));
        let of = &net.sessions[session];
        assert_eq!(of.server.is_some(), says == 0);
        assert_eq!(net.sockets[of.client].program.reset, says > 0);
        net.check_empty();
    }
}

#[test]
fn a_client_that_leaves_before_it_is_answered_is_let_go_at_once() {
    for server in [0, 1] {
        let mut net = line(2);
        let service = net.serve(server, "svc", false);
        net.services[service].dial_takes = Duration::from_secs(3600);
        net.pass(Duration::from_secs(3));
        let leaves = Habit {
            resets_after: Some(10),
            ..Habit::calm(10)
        };
        net.open(0, "svc", [leaves, Habit::calm(0)], Manner::CALM);
        net.pass(Duration::from_secs(1));
        net.check_empty();
    }
}

#[test]
fn whoever_does_not_read_stops_the_sender_and_nobody_else() {
    let mut net = line(2);
    net.serve(1, "svc", false);
    net.pass(Duration::from_secs(3));
    let asleep = Habit {
        dozes: Duration::from_secs(60),
        ..Habit::calm(0)
    };
    let slow = net.open(0, "svc", [Habit::calm(9_000_000), asleep], SMALL);
    net.pass(Duration::from_secs(2));
    let sent = net.sockets[net.sessions[slow].client].program.sent;
    assert!(sent < 4_000_000, "{sent} octets were taken for nobody");
    let quick = calm(&mut net, 0, [3_000_000, 3_000_000]);
    net.pass(Duration::from_secs(2));
    check(&net, quick, false);
    net.pass(Duration::from_secs(120));
    check(&net, slow, false);
    net.check_empty();
}

/// A socket with small buffers.
const SMALL: Manner = Manner {
    capacity: 10_000,
    ..Manner::CALM
};
