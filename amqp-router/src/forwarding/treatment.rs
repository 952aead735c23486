//! Which destination gets a delivery (`reference/router/inter-router-protocol.md` §6).

use std::sync::Arc;

use smallvec::SmallVec;

use crate::control::table::{AddressEntry, Destination, LinkLoad, Remote, Side};
use crate::control::topology::{Hop, Ingress, NeighbourIndex, RouterIndex, Topology};

/// How many of this router's destinations one choice compares. More than anyone attaches to one
/// address, and a bound on what a delivery can cost when somebody does. (Other routers are all
/// compared: there are not so many, and each is where it is.)
const COMPARED: usize = 64;

/// How often a delivery may come back from the network before an edge router gives it up.
const NETWORK_ATTEMPTS: usize = 8;

/// What a treatment has to know of a message and the network.
#[derive(Debug)]
pub(super) struct Journey<'a> {
    pub(super) topology: &'a Topology,
    pub(super) ingress: Ingress,
    /// Neighbours where the message has been.
    pub(super) passed: &'a [NeighbourIndex],
    /// Where the message came from, and must not go back to.
    pub(super) side: Side,
    /// A multicast goes into the network besides, as this is an edge router.
    pub(super) leads_up: bool,
    /// It is a TCP stream whose octets do not wait for an answer, and goes to nobody else than who
    /// takes such.
    pub(super) prompt: bool,
    /// Where it may be tried elsewhere, what has failed this very delivery.
    pub(super) tried: Option<Tried<'a>>,
}

/// Destinations that have failed a delivery.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tried<'a> {
    pub(super) loads: &'a [Arc<LinkLoad>],
    /// Those of them that have given it back themselves: so would who takes their place.
    pub(super) refusals: &'a [Arc<LinkLoad>],
    /// A router gives it back only when it knows of nobody else: there is no sense in trying others
    /// behind it.
    pub(super) thorough: bool,
}

/// One of an address's destinations.
#[derive(Debug)]
pub(super) enum Chosen<'a> {
    Local(&'a Destination),
    /// To a router, by way of a neighbour.
    Neighbour(NeighbourIndex, &'a Remote),
}

/// The only destination of an address that has a single one, as most have.
pub(super) fn only<'a>(entry: &'a AddressEntry, journey: &Journey<'_>) -> Option<Chosen<'a>> {
    match &entry.destinations[..] {
        [one] if entry.remotes.is_empty() && journey.tried.is_none() => {
            (!journey.excludes(one)).then_some(Chosen::Local(one))
        }
        _ => None,
    }
}

/// The next destination in turn: of this router's if there are any, else of the routers that are
/// nearest. One that fails is taken only when there is no other.
pub(super) fn closest<'a>(
    entry: &'a AddressEntry,
    turn: &mut usize,
    journey: &Journey<'_>,
) -> Option<Chosen<'a>> {
    let count = entry.destinations.len();
    let start = *turn % count.max(1);
    let (mut beyond, mut last_resort) = (None, None);
    for index in (start..count).chain(0..start).take(COMPARED) {
        let destination = &entry.destinations[index];
        if journey.excludes(destination) {
            continue;
        }
        if destination.side.is_network() {
            beyond = beyond.or(Some(destination));
            continue;
        }
        if destination.load.is_failing() {
            last_resort = last_resort.or(Some(destination));
            continue;
        }
        *turn = index + 1;
        return Some(Chosen::Local(destination));
    }
    let farther = nearest(entry, turn, journey).or(beyond.map(Chosen::Local));
    farther.or(last_resort.map(Chosen::Local))
}

/// The next in turn of the routers that are nearest.
fn nearest<'a>(
    entry: &'a AddressEntry,
    turn: &mut usize,
    journey: &Journey<'_>,
) -> Option<Chosen<'a>> {
    let reachable = || {
        let remotes = journey.remotes(entry);
        remotes.filter_map(|remote| {
            let hop = journey.hop(remote.router)?;
            let rank = (remote.load.failures(), hop.cost);
            (!journey.avoids(entry, remote, hop)).then_some((rank, hop, remote))
        })
    };
    let lowest = reachable().map(|(rank, ..)| rank).min()?;
    let nearest = || reachable().filter(|(rank, ..)| *rank == lowest);
    let chosen = *turn % nearest().count().max(1);
    *turn = chosen + 1;
    let (_, hop, remote) = nearest().nth(chosen)?;
    Some(Chosen::Neighbour(hop.neighbour, remote))
}

/// How a destination compares with others: how it fails, whether it is full, its load.
type Rank = (Failing, bool, u32);

/// How surely a destination fails.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Failing {
    No,
    /// A router from which something has come back, so often: it may know of another destination.
    Perhaps(u32),
    Yes,
}

impl Failing {
    fn of(load: &LinkLoad, is_router: bool) -> Self {
        match (load.failures(), is_router) {
            (0, _) => Self::No,
            (times, true) => Self::Perhaps(times),
            (_, false) => Self::Yes,
        }
    }
}

/// The least loaded destination, in turn among equals.
///
/// A link's load is what waits on it; a router's is what is outstanding on the way to its
/// neighbour, and the cost of the path. A destination with no load at all is taken at once. One
/// whose load has reached its capacity is taken only when all have, and one that fails only when
/// all do.
pub(super) fn balanced<'a>(
    entry: &'a AddressEntry,
    turn: &mut usize,
    journey: &Journey<'_>,
) -> Option<Chosen<'a>> {
    let count = entry.destinations.len();
    let start = *turn % count.max(1);
    let mut best: Option<(Rank, Chosen<'a>)> = None;
    for index in (start..count).chain(0..start).take(COMPARED) {
        let destination = &entry.destinations[index];
        if journey.excludes(destination) {
            continue;
        }
        // The network is farther away than whoever is here.
        let cost = u32::from(destination.side.is_network());
        let load = destination.load.get().saturating_add(cost);
        let failing = Failing::of(&destination.load, destination.side != Side::NONE);
        let rank = (failing, load >= destination.capacity, load);
        if best.as_ref().is_none_or(|(lowest, _)| rank < *lowest) {
            best = Some((rank, Chosen::Local(destination)));
            *turn = index + 1;
        }
        if load == 0 && failing == Failing::No {
            return best.map(|(_, chosen)| chosen);
        }
    }
    if !entry.remotes.is_empty() {
        balanced_remotes(entry, journey, &mut best);
    }
    best.map(|(_, chosen)| chosen)
}

/// Compares the routers that have consumers with the best link.
fn balanced_remotes<'a>(
    entry: &'a AddressEntry,
    journey: &Journey<'_>,
    best: &mut Option<(Rank, Chosen<'a>)>,
) {
    let mut outstanding: SmallVec<[(NeighbourIndex, u32); 8]> = SmallVec::new();
    let of = |remote: RouterIndex| journey.topology.hop(remote, Ingress::Here);
    for remote in &entry.remotes {
        let Some(hop) = of(remote.router) else {
            continue;
        };
        let load = remote.load.get();
        match outstanding.iter_mut().find(|(n, _)| *n == hop.neighbour) {
            Some((_, sum)) => *sum = sum.saturating_add(load),
            None => outstanding.push((hop.neighbour, load)),
        }
    }
    for remote in journey.remotes(entry) {
        let Some(hop) = journey.hop(remote.router) else {
            continue;
        };
        if journey.avoids(entry, remote, hop) {
            continue;
        }
        let Some(neighbour) = journey.topology.neighbour(hop.neighbour) else {
            continue;
        };
        let load = outstanding
            .iter()
            .find(|(n, _)| *n == hop.neighbour)
            .map_or(0, |(_, load)| *load);
        let failing = Failing::of(&remote.load, true);
        let full = load >= neighbour.capacity;
        let rank = (failing, full, load.saturating_add(hop.cost));
        if best.as_ref().is_none_or(|(lowest, _)| rank < *lowest) {
            *best = Some((rank, Chosen::Neighbour(hop.neighbour, remote)));
        }
    }
}

/// The neighbours that lead to routers with consumers, each once.
pub(super) fn branches(entry: &AddressEntry, journey: &Journey<'_>) -> Vec<NeighbourIndex> {
    let mut branches = Vec::new();
    if journey.ingress == Ingress::Unknown {
        return branches;
    }
    for remote in journey.remotes(entry) {
        if let Some(hop) = journey.hop(remote.router)
            && !journey.passed.contains(&hop.neighbour)
            && !branches.contains(&hop.neighbour)
        {
            branches.push(hop.neighbour);
        }
    }
    branches
}

impl Tried<'_> {
    /// Whether a destination is not to be tried again.
    fn excludes(&self, destination: &Destination) -> bool {
        // Each attempt by way of the network is an attempt at another of its destinations.
        let attempts = match destination.side.is_network() && !self.thorough {
            true => NETWORK_ATTEMPTS,
            false => 1,
        };
        let load = &destination.load;
        let mut refusals = self.refusals.iter();
        self.attempts(load) >= attempts || refusals.any(|one| one.is_in_line_with(load))
    }

    /// How often a destination has failed.
    fn attempts(&self, load: &Arc<LinkLoad>) -> usize {
        let tried = self.loads.iter();
        tried.filter(|one| Arc::ptr_eq(one, load)).count()
    }
}

impl Journey<'_> {
    /// Whether one of this router's destinations is out of the question.
    pub(super) fn excludes(&self, destination: &Destination) -> bool {
        !destination.side.takes(self.side)
            || self.prompt && !destination.prompt
            || self.tried.is_some_and(|tried| tried.excludes(destination))
    }

    /// Whether a router is out of the question, as it, or the way there, has failed this delivery.
    fn avoids(&self, entry: &AddressEntry, remote: &Remote, hop: Hop) -> bool {
        let Some(tried) = self.tried else {
            return false;
        };
        let has_failed = |one: &Remote| tried.attempts(&one.load) > 0;
        let leads_there = |one: &Remote| {
            let way = self.hop(one.router);
            way.is_some_and(|way| way.neighbour == hop.neighbour)
        };
        match tried.thorough {
            true => entry
                .remotes
                .iter()
                .any(|one| has_failed(one) && leads_there(one)),
            false => has_failed(remote),
        }
    }

    /// The routers that have consumers elsewhere than where the message came from.
    fn remotes<'e>(&self, entry: &'e AddressEntry) -> impl Iterator<Item = &'e Remote> + use<'e> {
        let (from, prompt) = (self.side, self.prompt);
        let remotes = entry.remotes.iter();
        remotes.filter(move |remote| remote.side.takes(from) && (remote.prompt || !prompt))
    }

    fn hop(&self, router: RouterIndex) -> Option<Hop> {
        self.topology.hop(router, self.ingress)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::address::AddressKey;
    use crate::control::table::{AddressId, Outlet, Slot, Treatment, WorkerId};
    use crate::control::topology::{NeighbourRow, PRIORITIES, RouterRow};

    const LINK: Slot = Slot {
        index: 0,
        serial: 0,
    };

    fn loaded(load: u32) -> Arc<LinkLoad> {
        let shared = Arc::new(LinkLoad::default());
        (0..load).for_each(|_| shared.add());
        shared
    }

    fn entry(loads: &[(u32, u32)], remotes: &[u32]) -> AddressEntry {
        let destinations = loads
            .iter()
            .map(|&(load, capacity)| Destination {
                outlet: Outlet::Link {
                    worker: WorkerId(0),
                    link: LINK,
                    to_router: false,
                },
                side: Side::NONE,
                prompt: false,
                capacity,
                load: loaded(load),
            })
            .collect();
        let remotes = (0..).map(RouterIndex).zip(remotes);
        AddressEntry {
            id: AddressId(0),
            key: AddressKey::mobile("a"),
            treatment: Treatment::Balanced,
            priority: None,
            destinations,
            remotes: remotes
                .map(|(router, &load)| Remote {
                    side: Side::NONE,
                    prompt: false,
                    router,
                    load: loaded(load),
                })
                .collect(),
        }
    }

    /// Routers by their neighbour and cost.
    fn network(routers: &[(u32, u32)]) -> Topology {
        let row = |&(neighbour, cost): &(u32, u32)| {
            Some(RouterRow {
                name: "0/X".into(),
                hop: Some(Hop {
                    neighbour: NeighbourIndex(neighbour),
                    cost,
                }),
                valid_origins: Arc::default(),
            })
        };
        let neighbour = NeighbourRow {
            router: None,
            worker: WorkerId(0),
            links: [LINK; PRIORITIES],
            capacity: 250,
            streams: Arc::default(),
        };
        Topology {
            routers: routers.iter().map(row).collect(),
            neighbours: vec![Some(neighbour); 8],
            ..Topology::default()
        }
    }

    fn journey(topology: &Topology) -> Journey<'_> {
        Journey {
            topology,
            ingress: Ingress::Here,
            passed: &[],
            side: Side::NONE,
            leads_up: false,
            prompt: false,
            tried: None,
        }
    }

    /// What a treatment chooses, link by its place and neighbour by `-1 - number`.
    fn place(entry: &AddressEntry, chosen: Option<Chosen<'_>>) -> Option<i32> {
        Some(match chosen? {
            Chosen::Neighbour(neighbour, _) => -1 - neighbour.0 as i32,
            Chosen::Local(one) => {
                let at = entry.destinations.iter().position(|d| std::ptr::eq(d, one));
                at.expect("it is one of them") as i32
            }
        })
    }

    fn choose_closest(entry: &AddressEntry, turn: &mut usize, net: &Topology) -> Option<i32> {
        place(entry, closest(entry, turn, &journey(net)))
    }

    fn choose_balanced(entry: &AddressEntry, turn: &mut usize, net: &Topology) -> Option<i32> {
        place(entry, balanced(entry, turn, &journey(net)))
    }

    #[test]
    fn nobody_means_nobody() {
        let (nobody, net) = (entry(&[], &[0]), network(&[]));
        assert_eq!(choose_closest(&nobody, &mut 7, &net), None);
        assert_eq!(choose_balanced(&nobody, &mut 7, &net), None);
        assert!(branches(&nobody, &journey(&net)).is_empty());
    }

    #[test]
    fn closest_takes_turns() {
        let (entry, mut turn) = (entry(&[(9, 250), (0, 250), (5, 250)], &[0]), 0);
        let net = network(&[(0, 1)]);
        let chosen: Vec<_> = (0..5)
            .filter_map(|_| choose_closest(&entry, &mut turn, &net))
            .collect();
        assert_eq!(chosen, [0, 1, 2, 0, 1]);
    }

    #[test]
    fn closest_goes_to_the_nearest_routers_in_turn() {
        let (entry, mut turn) = (entry(&[], &[0, 0, 0]), 0);
        let net = network(&[(0, 5), (1, 2), (2, 2)]);
        let chosen: Vec<_> = (0..3)
            .filter_map(|_| choose_closest(&entry, &mut turn, &net))
            .collect();
        assert_eq!(chosen, [-2, -3, -2]);
    }

    #[test]
    fn balanced_takes_the_least_loaded() {
        let (entry, mut turn) = (entry(&[(4, 250), (2, 250), (3, 250)], &[]), 0);
        let net = network(&[]);
        assert_eq!(choose_balanced(&entry, &mut turn, &net), Some(1));
        entry.destinations[1].load.add();
        entry.destinations[1].load.add();
        assert_eq!(choose_balanced(&entry, &mut turn, &net), Some(2));
    }

    #[test]
    fn idle_destinations_take_turns() {
        let (entry, mut turn) = (entry(&[(0, 250), (0, 250)], &[]), 0);
        let net = network(&[]);
        let chosen: Vec<_> = (0..4)
            .filter_map(|_| choose_balanced(&entry, &mut turn, &net))
            .collect();
        assert_eq!(chosen, [0, 1, 0, 1]);
    }

    #[test]
    fn a_full_destination_waits_until_all_are_full() {
        let net = network(&[]);
        let choose = |loads| choose_balanced(&entry(loads, &[]), &mut 0, &net);
        assert_eq!(choose(&[(5, 5), (90, 250)]), Some(1));
        assert_eq!(choose(&[(5, 5), (251, 250)]), Some(0));
    }

    #[test]
    fn balanced_weighs_load_here_against_load_and_cost_there() {
        let net = network(&[(0, 1), (1, 20)]);
        let choose =
            |here, there: &[u32]| choose_balanced(&entry(&[(here, 250)], there), &mut 0, &net);
        assert_eq!(choose(0, &[0, 0]), Some(0), "an idle link is taken at once");
        assert_eq!(choose(1, &[0, 0]), Some(0), "a link wins a tie");
        assert_eq!(choose(5, &[3, 0]), Some(-1));
        assert_eq!(choose(30, &[40, 2]), Some(-2));
        assert_eq!(choose(250, &[250, 229]), Some(-2), "who is full comes last");
        assert_eq!(choose(250, &[249, 230]), Some(-1), "cost does not fill");
    }

    #[test]
    fn what_fails_comes_last() {
        let net = network(&[(0, 1)]);
        let local = entry(&[(3, 250), (0, 250)], &[]);
        local.destinations[1].load.note_failure();
        assert_eq!(choose_balanced(&local, &mut 0, &net), Some(0));
        assert_eq!(choose_closest(&local, &mut 1, &net), Some(0));
        let both = entry(&[(0, 250)], &[9]);
        both.destinations[0].load.note_failure();
        assert_eq!(choose_balanced(&both, &mut 0, &net), Some(-1));
        assert_eq!(choose_closest(&both, &mut 0, &net), Some(-1));
        both.remotes[0].load.note_failure();
        let text = "a router may know of another service than the one that failed";
        assert_eq!(choose_balanced(&both, &mut 0, &net), Some(-1), "{text}");
        let routers = entry(&[], &[0, 0]);
        let two = network(&[(0, 1), (1, 1)]);
        routers.remotes[0].load.note_failure();
        routers.remotes[0].load.note_failure();
        routers.remotes[1].load.note_failure();
        let text = "of two, the one that has failed less";
        assert_eq!(choose_balanced(&routers, &mut 0, &two), Some(-2), "{text}");
        assert_eq!(choose_closest(&routers, &mut 0, &two), Some(-2), "{text}");
        let alone = entry(&[(0, 250)], &[]);
        alone.destinations[0].load.note_failure();
        assert_eq!(choose_closest(&alone, &mut 0, &net), Some(0));
    }

    #[test]
    fn a_second_attempt_avoids_what_was_tried() {
        let net = network(&[(0, 1)]);
        let entry = entry(&[(0, 250), (0, 250)], &[0]);
        entry.destinations[1].load.note_failure();
        let mut tried = vec![Arc::clone(&entry.destinations[0].load)];
        let choose = |tried: &[Arc<LinkLoad>]| {
            let journey = Journey {
                tried: Some(Tried {
                    loads: tried,
                    refusals: &[],
                    thorough: false,
                }),
                ..journey(&net)
            };
            let balanced = place(&entry, balanced(&entry, &mut 0, &journey));
            assert_eq!(place(&entry, closest(&entry, &mut 0, &journey)), balanced);
            balanced
        };
        assert_eq!(choose(&[]), Some(0));
        assert_eq!(choose(&tried), Some(-1));
        tried.push(Arc::clone(&entry.remotes[0].load));
        assert_eq!(choose(&tried), Some(1));
        tried.push(Arc::clone(&entry.destinations[1].load));
        assert_eq!(choose(&tried), None);
    }

    /// Who has tried all that it knows of is not asked again for another of them.
    #[test]
    fn a_thorough_neighbour_is_tried_once() {
        let net = network(&[(0, 1), (0, 2), (1, 9)]);
        let entry = entry(&[], &[0, 0, 0]);
        let choose = |tried: &[Arc<LinkLoad>], thorough| {
            let journey = Journey {
                tried: Some(Tried {
                    loads: tried,
                    refusals: &[],
                    thorough,
                }),
                ..journey(&net)
            };
            let balanced = place(&entry, balanced(&entry, &mut 0, &journey));
            assert_eq!(place(&entry, closest(&entry, &mut 0, &journey)), balanced);
            balanced
        };
        let mut tried = vec![Arc::clone(&entry.remotes[0].load)];
        assert_eq!(choose(&tried, false), Some(-1), "the router behind it");
        assert_eq!(choose(&tried, true), Some(-2));
        tried.push(Arc::clone(&entry.remotes[2].load));
        assert_eq!(choose(&tried, true), None);
    }

    #[test]
    fn routers_behind_one_neighbour_share_its_load() {
        let net = network(&[(0, 1), (0, 1), (1, 5)]);
        let choose = |there: &[u32]| choose_balanced(&entry(&[], there), &mut 0, &net);
        assert_eq!(choose(&[3, 0, 0]), Some(-1));
        assert_eq!(choose(&[3, 2, 0]), Some(-2));
    }

    #[test]
    fn the_nearest_of_many_routers_is_found_wherever_it_stands() {
        let mut routers = vec![(0, 9); 200];
        routers[150] = (1, 2);
        let mut net = network(&routers);
        let entry = entry(&[], &[0; 200]);
        assert_eq!(choose_balanced(&entry, &mut 0, &net), Some(-2));
        assert_eq!(choose_closest(&entry, &mut 0, &net), Some(-2));
        for row in net.routers[..199].iter_mut().flatten() {
            row.hop = None;
        }
        let only = Some(-1);
        assert_eq!(choose_balanced(&entry, &mut 0, &net), only);
        assert_eq!(choose_closest(&entry, &mut 0, &net), only);
    }

    #[test]
    fn what_entered_elsewhere_goes_only_where_its_path_leads() {
        let mut net = network(&[(0, 1), (1, 2)]);
        let from = RouterIndex(5);
        if let Some(row) = &mut net.routers[1] {
            row.valid_origins = Arc::new([from].into_iter().collect());
        }
        let entry = entry(&[], &[0, 0]);
        let ingress = Ingress::Router(from);
        let journey = Journey {
            ingress,
            ..journey(&net)
        };
        assert_eq!(place(&entry, closest(&entry, &mut 0, &journey)), Some(-2));
        assert_eq!(place(&entry, balanced(&entry, &mut 0, &journey)), Some(-2));
        assert_eq!(branches(&entry, &journey), [NeighbourIndex(1)]);
    }

    #[test]
    fn a_multicast_goes_to_each_neighbour_once_and_not_back() {
        let net = network(&[(0, 1), (0, 2), (1, 1), (2, 1)]);
        let journey = Journey {
            passed: &[NeighbourIndex(1)],
            ..journey(&net)
        };
        let entry = entry(&[], &[0, 0, 0, 0]);
        let expected = [NeighbourIndex(0), NeighbourIndex(2)];
        assert_eq!(branches(&entry, &journey), expected);
    }
}
