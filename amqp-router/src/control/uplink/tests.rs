//! The control planes of an edge router and of interior routers, without what is between them.

#![allow(clippy::disallowed_methods)] // a test asks the clock once

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::rngs::StdRng;

use super::*;
use crate::codec::{Attach, Role, Source, Target, TargetNode};
use crate::control::address::Identity;
use crate::control::edge_mesh::Election;
use crate::control::links::{AddressRule, AttachRequest, Loss, Scope};
use crate::control::table::{LinkLoad, Slot};
use crate::control::trunk::{Purpose, RouterLink, Ticket};

/// Edge routers, the interior routers that they are connected to, and each other.
struct Net {
    /// The edge routers come first.
    routers: Vec<Control>,
    edges: usize,
    /// Which routers a connection is between, the edge router that connects first.
    connections: HashMap<u64, [usize; 2]>,
    /// The other end of each link, and whose it is.
    far: HashMap<LinkRef, (usize, LinkRef)>,
    /// Attaches that the other router has not yet been shown.
    asked: VecDeque<(usize, u64, Ticket, Attach)>,
    /// Links that have yet to be accepted, by their other end, and whose they are.
    attaching: HashMap<LinkRef, (usize, RouterLink)>,
    accepted: Vec<LinkRef>,
    /// Links that were given up gently.
    finished: usize,
    /// A router whose workers do not answer.
    slow: Option<usize>,
    next: u32,
    now: Instant,
}

fn control(id: &str, edge: bool) -> Control {
    let mut seed = [7; 32];
    seed[..id.len()].copy_from_slice(id.as_bytes());
    let identity = Identity {
        id: id.into(),
        edge,
        ..Identity::default()
    };
    let mut control = Control::new(Arc::new(identity), Treatment::Balanced, seed);
    let rule = AddressRule {
        treatment: Treatment::Multicast,
        priority: None,
    };
    control.configure(Scope::Prefix("multicast"), rule);
    control
}

impl Net {
    /// One edge router that is connected to each of some interior ones.
    fn new(interiors: usize) -> Self {
        let mut net = Self::of(1, interiors);
        for interior in 1..=interiors {
            net.connect(0, interior, 0);
        }
        net
    }

    fn of(edges: usize, interiors: usize) -> Self {
        let mut routers = Vec::new();
        for number in 0..edges {
            let mut edge = control(&format!("E{number}"), true);
            edge.become_edge(1_000_000_000 * number as i64);
            routers.push(edge);
        }
        routers.extend((0..interiors).map(|n| control(&format!("I{n}"), false)));
        Self {
            routers,
            edges,
            connections: HashMap::new(),
            far: HashMap::new(),
            asked: VecDeque::new(),
            attaching: HashMap::new(),
            accepted: Vec::new(),
            finished: 0,
            slow: None,
            next: 0,
            now: Instant::now(),
        }
    }

    /// Connects an edge router to another router, with credentials of that ordinal.
    fn connect(&mut self, from: usize, to: usize, ordinal: u64) -> u64 {
        let connection = self.connections.len() as u64 + 1;
        self.connections.insert(connection, [from, to]);
        let role = self.role(connection);
        for (router, other) in [(from, to), (to, from)] {
            let opened = Opened {
                connection,
                role,
                ordinal,
                container: self.routers[other].identity.id.clone(),
                connector: (router == from).then(|| format!("to{to}")),
                ..Opened::default()
            };
            self.routers[router].opened(&opened, self.now);
        }
        connection
    }

    fn role(&self, connection: u64) -> ConnectionRole {
        match self.connections[&connection]
            .iter()
            .all(|end| *end < self.edges)
        {
            true => ConnectionRole::InterEdge,
            false => ConnectionRole::Edge,
        }
    }

    fn link(&mut self, direction: Direction) -> LinkRef {
        self.next += 1;
        let slot = Slot {
            index: self.next,
            serial: 0,
        };
        LinkRef {
            worker: WorkerId(0),
            direction,
            slot,
        }
    }

    /// A client's link to a router.
    fn client(&mut self, router: usize, direction: Direction, address: &str) -> LinkRef {
        let link = self.link(direction);
        let (mut source, mut target) = (Source::default(), TargetNode::default());
        let role = match direction {
            Direction::Incoming => {
                target.address = Some(address.into());
                Role::Sender
            }
            Direction::Outgoing => {
                source.address = Some(address.into());
                Role::Receiver
            }
        };
        let attach = Attach {
            role,
            source: Some(source),
            target: Some(Target::Node(target)),
            ..Attach::default()
        };
        let request = request(link, 99, ConnectionRole::Normal, attach);
        self.routers[router].attach(&request, self.now);
        link
    }

    /// Passes everything on until nobody has anything to say.
    fn settle(&mut self) {
        loop {
            self.take_commands();
            let Some((router, connection, ticket, attach)) = self.asked.pop_front() else {
                return;
            };
            let ends = self.connections[&connection];
            let other = if ends[0] == router { ends[1] } else { ends[0] };
            let (near, far) = match attach.role {
                Role::Sender => (Direction::Outgoing, Direction::Incoming),
                Role::Receiver => (Direction::Incoming, Direction::Outgoing),
            };
            let (near, far) = (self.link(near), self.link(far));
            self.far.insert(near, (other, far));
            self.far.insert(far, (router, near));
            let (now, load) = (self.now, Arc::new(LinkLoad::default()));
            let link = RouterLink {
                link: near,
                connection,
                name: format!("{near:?}"),
                purpose: Purpose::Proxy(ticket),
                capacity: 250,
                load: (near.direction == Direction::Outgoing).then_some(load),
            };
            self.attaching.insert(far, (router, link));
            let request = request(far, connection, self.role(connection), attach);
            self.routers[other].attach(&request, now);
        }
    }

    fn take_commands(&mut self) {
        while let Some((router, command)) = self.next_command() {
            match command {
                Command::Tell { link, message } => {
                    if let Some(&(other, far)) = self.far.get(&link) {
                        self.routers[other].heard(far, &message, self.now);
                    }
                }
                Command::Announce { link, message } => {
                    if let Some(&(other, far)) = self.far.get(&link) {
                        self.routers[other].heard(far, &message, self.now);
                        self.routers[router].announced(link);
                    }
                }
                Command::Attach {
                    connection,
                    ticket,
                    attach,
                } => self.asked.push_back((router, connection, ticket, *attach)),
                Command::Fence if self.slow == Some(router) => {}
                Command::Fence => self.routers[router].fenced(1),
                Command::Detach { link } => self.detach(router, link),
                Command::Finish { link } => {
                    self.finished += 1;
                    self.detach(router, link);
                }
                Command::Accept { link, .. } => {
                    self.accepted.push(link);
                    if let Some((router, near)) = self.attaching.remove(&link) {
                        self.routers[router].attached(&near, self.now);
                    }
                }
                Command::Refuse { error, .. } => panic!("refused: {error:?}"),
                _ => {}
            }
        }
    }

    fn next_command(&mut self) -> Option<(usize, Command)> {
        let mut routers = self.routers.iter_mut().enumerate();
        routers.find_map(|(number, router)| Some((number, router.poll_command()?.1)))
    }

    fn detach(&mut self, router: usize, link: LinkRef) {
        self.routers[router].detached(link, &Loss::Connection, self.now);
        if let Some((other, far)) = self.far.remove(&link) {
            self.far.remove(&far);
            self.routers[other].detached(far, &Loss::Connection, self.now);
        }
    }

    /// How many links there are between routers.
    fn links(&self) -> usize {
        self.far.len() / 2
    }

    /// Whether an edge router sends what is for an address to other routers, and by how many links.
    fn ways_out(&self, router: usize, address: &str) -> usize {
        let key = format!("M{address}");
        let id = self.routers[router].by_key.get(&*key);
        let address = id.and_then(|id| self.routers[router].address(*id));
        let destinations = address.into_iter().flat_map(|one| &one.entry.destinations);
        destinations.filter(|one| one.side.is_network()).count()
    }

    fn leads_up(&self, address: &str) -> bool {
        self.ways_out(0, address) > 0
    }

    fn lose(&mut self, connection: u64) {
        for router in self.connections[&connection] {
            let links = self.routers[router].links();
            let links = links.filter(|link| link.connection == connection);
            for link in links.map(|link| link.reference).collect::<Vec<_>>() {
                self.detach(router, link);
            }
        }
        for router in self.connections[&connection] {
            self.routers[router].closed(connection, self.now);
        }
        self.asked.retain(|(_, of, ..)| *of != connection);
    }
}

fn request(link: LinkRef, connection: u64, role: ConnectionRole, attach: Attach) -> AttachRequest {
    AttachRequest {
        link,
        connection,
        role,
        attach: Box::new(attach),
        capacity: 250,
        load: (link.direction == Direction::Outgoing).then(Arc::default),
    }
}

use Direction::{Incoming, Outgoing};

#[test]
fn messages_go_up_while_somebody_there_receives() {
    let mut net = Net::new(1);
    net.client(0, Incoming, "a");
    net.settle();
    assert!(!net.leads_up("a"));
    let first = net.client(1, Outgoing, "a");
    let second = net.client(1, Outgoing, "a");
    net.settle();
    assert!(net.leads_up("a"));
    net.routers[1].detached(first, &Loss::Connection, net.now);
    net.settle();
    assert!(net.leads_up("a"));
    net.routers[1].detached(second, &Loss::Connection, net.now);
    net.settle();
    assert!(!net.leads_up("a"));
}

#[test]
fn its_own_receivers_lead_an_edge_router_nowhere() {
    let mut net = Net::new(1);
    net.client(0, Outgoing, "a");
    net.client(0, Incoming, "a");
    net.settle();
    let interior = &net.routers[1];
    let id = interior
        .by_key
        .get("Ma")
        .expect("the edge receives from it");
    assert_eq!(interior.address(*id).expect("it is there").consumers(), 1);
    assert!(!net.leads_up("a"));
}

#[test]
fn links_into_the_network_go_with_the_last_who_needs_them() {
    let mut net = Net::new(1);
    net.settle();
    let standing = net.links();
    let clients = [Incoming, Incoming, Outgoing].map(|way| net.client(0, way, "a"));
    net.settle();
    assert_eq!(net.links(), standing + 2);
    for (client, left) in clients.into_iter().zip([2, 1, 0]) {
        net.routers[0].detached(client, &Loss::Connection, net.now);
        net.settle();
        assert_eq!(net.links(), standing + left);
    }
    assert!(!net.routers[0].by_key.contains_key("Ma"));
}

#[test]
fn another_connection_takes_over() {
    let mut net = Net::new(2);
    net.client(0, Outgoing, "a");
    net.settle();
    assert!(net.routers[1].by_key.contains_key("Ma"));
    assert!(!net.routers[2].by_key.contains_key("Ma"));
    net.lose(1);
    net.settle();
    assert!(net.routers[2].by_key.contains_key("Ma"));
    assert_eq!(net.routers[0].active_uplink(), Some(2));
    let notices = std::iter::from_fn(|| net.routers[0].poll_uplink_notice());
    let notices: Vec<_> = notices
        .filter(|notice| !matches!(notice, UplinkNotice::Mesh(_)))
        .collect();
    let (up, down) = (UplinkNotice::Established, UplinkNotice::Lost);
    assert_eq!(notices, [up(1), down(1), up(2)]);
    net.lose(2);
    net.settle();
    assert_eq!(net.routers[0].active_uplink(), None);
}

#[test]
fn a_sender_to_a_multicast_address_is_answered_when_the_network_has_said_who_receives() {
    let mut net = Net::new(1);
    net.client(1, Outgoing, "multicast/a");
    net.client(0, Outgoing, "multicast/a");
    net.settle();
    let sender = net.client(0, Incoming, "multicast/a");
    net.take_commands();
    assert!(!net.accepted.contains(&sender));
    net.settle();
    assert!(net.accepted.contains(&sender) && net.leads_up("multicast/a"));
    // The next one finds everything in its place.
    let sender = net.client(0, Incoming, "multicast/a");
    net.take_commands();
    assert!(net.accepted.contains(&sender));
}

#[test]
fn a_sender_does_not_wait_where_there_is_nothing_to_wait_for() {
    let mut net = Net::new(1);
    let balanced = net.client(0, Incoming, "a");
    net.take_commands();
    assert!(net.accepted.contains(&balanced));

    // The network is silent.
    let sender = net.client(0, Incoming, "multicast/a");
    net.take_commands();
    assert!(!net.accepted.contains(&sender));
    net.now = net.routers[0].poll_timeout().expect("somebody waits");
    net.routers[0].handle_timeout(net.now);
    net.take_commands();
    assert!(net.accepted.contains(&sender));
    assert_eq!(net.routers[0].poll_timeout(), None);

    // It goes.
    let sender = net.client(0, Incoming, "multicast/b");
    net.take_commands();
    assert!(!net.accepted.contains(&sender));
    net.now += Duration::from_millis(1);
    net.lose(1);
    net.take_commands();
    assert!(net.accepted.contains(&sender));

    // It is not there.
    let sender = net.client(0, Incoming, "multicast/c");
    net.take_commands();
    assert!(net.accepted.contains(&sender));
}

#[test]
fn what_edge_routers_may_attach_is_not_for_clients() {
    let mut interior = control("I", false);
    let mut refused = |source: Source| {
        let link = LinkRef {
            worker: WorkerId(0),
            direction: Outgoing,
            slot: Slot {
                index: 1,
                serial: 0,
            },
        };
        let attach = Attach {
            role: Role::Receiver,
            source: Some(source),
            ..Attach::default()
        };
        let request = request(link, 1, ConnectionRole::Normal, attach);
        interior.attach(&request, Instant::now());
        let commands = std::iter::from_fn(|| interior.poll_command());
        let mut errors = commands.filter_map(|(_, command)| match command {
            Command::Refuse { error, .. } => Some(error.condition.to_string()),
            _ => None,
        });
        errors.next()
    };
    let tracking = Source {
        address: Some(TRACKING.into()),
        ..Source::default()
    };
    assert_eq!(refused(tracking).as_deref(), Some("qd:connection-role"));
    let downlink = Source {
        address: Some("E1".into()),
        capabilities: vec![downlink_capability()],
        ..Source::default()
    };
    assert_eq!(refused(downlink).as_deref(), Some("qd:forbidden"));
}

fn drive(net: &mut Net, time: Duration) {
    net.now += time;
    for router in &mut net.routers {
        router.handle_timeout(net.now);
    }
    net.settle();
}

#[test]
fn newer_credentials_take_over_link_by_link() {
    let mut net = Net::new(1);
    net.client(0, Outgoing, "a");
    net.client(0, Incoming, "b");
    net.client(0, Incoming, "c");
    net.client(1, Outgoing, "b");
    net.settle();
    let standing = net.links();
    let newer = net.connect(0, 1, 5);
    // Until the new links are there, the old ones serve.
    assert_eq!(net.routers[0].active_uplink(), Some(newer));
    assert_eq!(net.ways_out(0, "b"), 1);
    net.settle();
    assert_eq!(net.ways_out(0, "b"), 1);
    // The sender to an address that leads nowhere has nothing to wait for but the time.
    assert_eq!(net.links(), standing + 1);
    drive(&mut net, HANDOVER);
    assert_eq!(net.links(), standing);
    assert_eq!(net.finished, standing, "all of them gently");
    let on_old = net.routers[0].links().filter(|link| link.connection == 1);
    assert_eq!(on_old.count(), 0);
    let id = net.routers[1].by_key["Ma"];
    let consumers = net.routers[1].address(id).expect("it is there").consumers();
    assert_eq!(consumers, 1);
    assert_eq!(net.routers[0].poll_timeout(), None);
}

#[test]
fn newer_credentials_take_over_between_edge_routers_at_both_ends() {
    let mut net = Net::of(2, 0);
    let old = net.connect(0, 1, 0);
    for (router, other, address) in [(0, 1, "a"), (1, 0, "multicast/b")] {
        net.client(router, Outgoing, address);
        net.client(other, Incoming, address);
    }
    net.settle();
    let standing = net.links();
    let newer = net.connect(0, 1, 5);
    let older = net.connect(0, 1, 4);
    net.settle();
    let ways_out = |net: &Net| [net.ways_out(1, "a"), net.ways_out(0, "multicast/b")];
    assert_eq!(ways_out(&net), [1, 1], "nothing goes by two connections");
    assert_eq!(net.links(), standing);
    let links = |net: &Net, router: usize, connection: u64| {
        let links = net.routers[router].links();
        links.filter(|link| link.connection == connection).count()
    };
    assert_eq!([links(&net, 0, old), links(&net, 1, old)], [0, 0]);
    for lost in [old, newer] {
        net.lose(lost);
        net.settle();
        assert_eq!(ways_out(&net), [1, 1], "after the loss of {lost}");
        assert_eq!(net.links(), standing);
    }
    net.lose(older);
    net.settle();
    let notices = std::iter::from_fn(|| net.routers[0].poll_uplink_notice());
    let (found, lost) = (UplinkNotice::Peer, UplinkNotice::PeerLost);
    let succeeded = UplinkNotice::Succeeded { old, new: newer };
    assert_eq!(
        notices.collect::<Vec<_>>(),
        [found("E1".into()), succeeded, lost("E1".into())]
    );
}

#[test]
fn an_interior_router_knows_the_mesh_before_it_knows_who_receives() {
    let mut net = mesh();
    net.client(0, Outgoing, "a");
    net.settle();
    let of_a = |net: &Net| {
        let names = net.asked.iter().filter_map(|(.., attach)| {
            let source = attach.source.as_ref()?;
            source.address.as_deref()
        });
        names.filter(|name| *name == "a").count()
    };
    net.connect(0, 2, 5);
    net.take_commands();
    assert_eq!(of_a(&net), 0);
    // An interior router that takes no note of it is not waited for.
    net.now = net.routers[0].poll_timeout().expect("it waits");
    net.routers[0].handle_timeout(net.now);
    net.take_commands();
    assert_eq!(of_a(&net), 1);
    net.settle();
    let id = net.routers[2].by_key["Ma"];
    let address = net.routers[2].address(id).expect("it is there");
    assert_eq!(address.consumers(), 1);
}

#[test]
fn older_credentials_serve_when_there_are_no_others() {
    let mut net = Net::new(1);
    net.client(0, Incoming, "b");
    net.client(1, Outgoing, "b");
    let newer = net.connect(0, 1, 5);
    let older = net.connect(0, 1, 4);
    net.settle();
    assert_eq!(net.routers[0].active_uplink(), Some(newer));
    net.lose(newer);
    net.settle();
    assert_eq!(net.routers[0].active_uplink(), Some(older));
    net.lose(older);
    net.settle();
    assert_eq!(
        net.routers[0].active_uplink(),
        Some(1),
        "whose links were given up"
    );
    assert_eq!(net.ways_out(0, "b"), 1);
}

#[test]
fn newer_credentials_do_not_move_an_edge_router_whose_connection_has_a_successor() {
    let mut net = Net::new(2);
    net.client(0, Outgoing, "a");
    net.settle();
    let elsewhere = net.connect(0, 2, 5);
    net.settle();
    assert_eq!(net.routers[0].active_uplink(), Some(1));
    assert!(!net.routers[2].by_key.contains_key("Ma"));
    let successor = net.connect(0, 1, 5);
    net.settle();
    assert_eq!(net.routers[0].active_uplink(), Some(successor));
    drive(&mut net, STAY);
    assert_eq!(net.routers[0].active_uplink(), Some(successor));
    assert_eq!(net.routers[0].poll_timeout(), None);
    assert!(!net.routers[2].by_key.contains_key("Ma"));
    // When the way there is lost, the other is there.
    net.lose(successor);
    net.settle();
    assert_eq!(net.routers[0].active_uplink(), Some(elsewhere));
}

#[test]
fn newer_credentials_move_an_edge_router_whose_connection_has_no_successor() {
    let mut net = Net::new(2);
    net.client(0, Outgoing, "a");
    net.settle();
    let elsewhere = net.connect(0, 2, 5);
    // One more of them does not change when that is.
    drive(&mut net, STAY / 2);
    net.connect(0, 2, 5);
    net.settle();
    assert_eq!(net.routers[0].active_uplink(), Some(1));
    drive(&mut net, STAY / 2);
    assert_eq!(net.routers[0].active_uplink(), Some(elsewhere));
    assert!(net.routers[2].by_key.contains_key("Ma"));
    // Those that are lost meanwhile are not followed.
    let mut net = Net::new(2);
    let elsewhere = net.connect(0, 2, 5);
    net.lose(elsewhere);
    net.settle();
    drive(&mut net, STAY);
    assert_eq!(net.routers[0].active_uplink(), Some(1));
}

/// Those of a destination that is there before and after.
fn load_of(net: &Net, router: usize, address: &str) -> Arc<LinkLoad> {
    let id = net.routers[router].by_key[&*format!("M{address}")];
    let address = net.routers[router].address(id).expect("it is there");
    let [one] = &address.entry.destinations[..] else {
        panic!("{:?}", address.entry.destinations);
    };
    Arc::clone(&one.load)
}

#[test]
fn links_that_take_each_others_place_know_each_other_at_both_ends() {
    for is_peer in [false, true] {
        let mut net = Net::of(2, 1);
        let (from, to) = (0, if is_peer { 1 } else { 2 });
        net.connect(from, to, 0);
        net.client(from, Outgoing, "a");
        net.client(from, Incoming, "b");
        net.client(to, Incoming, "a");
        net.client(to, Outgoing, "b");
        net.settle();
        let loads = |net: &Net| [load_of(net, to, "a"), load_of(net, from, "b")];
        let first = loads(&net);
        for ordinal in [5, 6] {
            net.connect(from, to, ordinal);
            net.settle();
            for (load, first) in loads(&net).iter().zip(&first) {
                assert!(!Arc::ptr_eq(load, first));
                assert!(load.is_in_line_with(first), "to a peer: {is_peer}");
            }
        }
        assert!(!first[0].is_in_line_with(&first[1]));
    }
}

/// However long the other router takes to accept the newer ones.
#[test]
fn older_links_stay_until_the_newer_ones_are_accepted() {
    let mut net = Net::new(1);
    net.client(0, Outgoing, "a");
    net.settle();
    let of_old = |net: &Net| {
        let links = net.routers[0].links();
        links.filter(|link| link.connection == 1).count()
    };
    net.slow = Some(1);
    let newer = net.connect(0, 1, 5);
    net.settle();
    let before = of_old(&net);
    assert!(before > 0);
    for _ in 0..3 {
        drive(&mut net, HANDOVER);
    }
    assert_eq!(of_old(&net), before);
    net.slow = None;
    net.routers[1].fenced(1);
    net.settle();
    drive(&mut net, HANDOVER);
    assert_eq!(of_old(&net), 0);
    assert_eq!(net.routers[0].active_uplink(), Some(newer));
    assert_eq!(net.routers[0].poll_timeout(), None);
}

/// What workers have yet to hear of is given to the older link, which goes after that.
#[test]
fn an_older_link_stays_until_all_workers_know_the_newer_one() {
    for slow in [0, 1] {
        let mut net = Net::new(1);
        net.client(0, Incoming, "a");
        net.client(1, Outgoing, "a");
        net.client(0, Outgoing, "b");
        net.client(1, Incoming, "b");
        net.settle();
        let of_old = |net: &Net, router: usize| {
            let known = |name: &str| {
                net.routers[router]
                    .by_key
                    .get(&*format!("M{name}"))
                    .copied()
            };
            let (a, b) = (known("a"), known("b"));
            let links = net.routers[router].links();
            let links = links.filter(|link| link.connection == 1 && link.address.is_some());
            links
                .filter(|link| link.address == a || link.address == b)
                .count()
        };
        let before = [net.finished, of_old(&net, 1)];
        net.slow = Some(slow);
        net.connect(0, 1, 5);
        net.settle();
        assert_eq!(net.ways_out(0, "a"), 1, "slow: {slow}");
        // One of the two addresses' links has gone: what the slow router does not send by.
        assert_eq!(of_old(&net, 1), before[1] - 1, "slow: {slow}");
        net.slow = None;
        net.routers[slow].fenced(1);
        net.settle();
        assert_eq!(of_old(&net, 1), 0, "slow: {slow}");
        assert!(net.finished > before[0]);
    }
}

/// Two edge routers that are connected to each other and, both, to an interior router.
fn mesh() -> Net {
    let mut net = Net::of(2, 1);
    net.connect(0, 2, 0);
    net.connect(1, 2, 0);
    net.connect(0, 1, 0);
    net.settle();
    net
}

#[test]
fn edge_routers_of_a_mesh_agree_on_its_name() {
    let net = mesh();
    let of = |router: usize| net.routers[router].uplink.as_ref().unwrap().peers.mesh();
    assert_eq!(of(0), of(1));
    let known = [1, 2].map(|connection| net.routers[2].mesh_of(connection));
    assert_eq!(known, [Some(of(0)); 2]);
}

#[test]
fn what_can_stay_in_the_mesh_does() {
    let mut net = mesh();
    let receiver = net.client(1, Outgoing, "a");
    net.client(0, Incoming, "a");
    net.settle();
    // The interior router knows that this would come back into the mesh.
    assert_eq!(net.ways_out(0, "a"), 1, "to the other edge router alone");
    let elsewhere = net.client(2, Outgoing, "a");
    net.settle();
    assert_eq!(net.ways_out(0, "a"), 2);
    net.detach(2, elsewhere);
    net.settle();
    assert_eq!(net.ways_out(0, "a"), 1);
    net.detach(1, receiver);
    net.settle();
    assert_eq!(net.ways_out(0, "a"), 0);
}

#[test]
fn nothing_is_passed_on_from_one_edge_router_to_a_third() {
    let mut net = Net::of(3, 0);
    net.connect(0, 1, 0);
    net.connect(1, 2, 0);
    net.settle();
    net.client(2, Outgoing, "a");
    net.client(0, Incoming, "a");
    net.settle();
    assert_eq!(net.ways_out(1, "a"), 1);
    assert_eq!(net.ways_out(0, "a"), 0);
}

#[test]
fn an_edge_router_is_reached_by_its_name_while_it_is_connected() {
    let mut net = Net::of(2, 1);
    net.connect(0, 2, 0);
    let peers = [net.connect(0, 1, 0), net.connect(1, 0, 0)];
    net.settle();
    assert!(net.routers[0].by_key.contains_key("HE1"));
    net.lose(peers[0]);
    net.settle();
    assert!(
        net.routers[0].by_key.contains_key("HE1"),
        "by the other connection"
    );
    net.lose(peers[1]);
    net.settle();
    assert!(!net.routers[0].by_key.contains_key("HE1"));
    let notices = std::iter::from_fn(|| net.routers[0].poll_uplink_notice());
    let about_peers: Vec<_> = notices
        .filter(|one| matches!(one, UplinkNotice::Peer(_) | UplinkNotice::PeerLost(_)))
        .collect();
    let (found, lost) = (UplinkNotice::Peer, UplinkNotice::PeerLost);
    assert_eq!(about_peers, [found("E1".into()), lost("E1".into())]);
}

/// Each end chooses by itself by which of several connections it bids.
#[test]
fn a_bid_goes_with_the_connection_that_it_came_by() {
    let mut net = Net::of(2, 0);
    let [_, second] = [net.connect(0, 1, 0), net.connect(0, 1, 0)];
    net.lose(1);
    let first = net.connect(0, 1, 0);
    let bid = |started: i64, seed| {
        let mut rng = StdRng::seed_from_u64(seed);
        Election::new(started, &mut rng)
    };
    let (oldest, older) = (bid(-9_000_000, 1), bid(-5_000_000, 2));
    let mesh = |net: &Net| net.routers[1].uplink.as_ref().unwrap().peers.mesh();
    net.routers[1].bid_heard(first, &oldest.bid().encode());
    assert_eq!(mesh(&net), oldest.id());
    net.lose(first);
    net.routers[1].bid_heard(second, &older.bid().encode());
    assert_eq!(mesh(&net), older.id(), "the oldest is there no more");
}

#[test]
fn an_edge_router_that_keeps_changing_its_mesh_is_not_followed() {
    let mut net = mesh();
    let before = std::iter::from_fn(|| net.routers[2].poll_uplink_notice()).count();
    assert_eq!(before, 0);
    let name = |number: usize| MeshId::parse(&format!("mesh{number:011}")).unwrap();
    let announce = |net: &mut Net, number: usize| {
        let message = name(number).announcement();
        net.routers[2].mesh_announced(1, &message, net.now);
        net.routers[2].mesh_of(1) == Some(name(number))
    };
    let followed = (0..1000).filter(|number| announce(&mut net, *number));
    assert_eq!(followed.count(), 16);
    let notices: Vec<_> = std::iter::from_fn(|| net.routers[2].poll_uplink_notice()).collect();
    assert_eq!(notices, [UplinkNotice::Unsteady(1)]);
    // Later it may change again, and nothing is said of it any more.
    net.now += Duration::from_secs(10);
    assert!(announce(&mut net, 1000));
    assert_eq!(net.routers[2].poll_uplink_notice(), None);
}

#[test]
fn the_network_knows_which_addresses_are_of_one_mesh() {
    let mut net = mesh();
    net.client(0, Outgoing, "a");
    net.client(1, Outgoing, "a");
    net.settle();
    let sole = |net: &Net| {
        let id = net.routers[2].by_key["Ma"];
        let address = net.routers[2].address(id).expect("it is there");
        net.routers[2].sole_mesh(address)
    };
    let mesh = net.routers[2].mesh_of(1);
    assert!(mesh.is_some());
    assert_eq!(sole(&net), mesh);
    let other = net.client(2, Outgoing, "a");
    net.settle();
    assert_eq!(sole(&net), None);
    net.detach(2, other);
    net.settle();
    assert_eq!(sole(&net), mesh);
}

#[test]
fn what_a_real_interior_router_says_of_addresses_is_understood() {
    let [_, interior] = crate::recorded::edge();
    let messages = interior.messages();
    let told: Vec<_> = messages
        .iter()
        .filter(|one| {
            let source = one.link.source.as_ref();
            source.is_some_and(|source| source.address.as_deref() == Some(TRACKING))
        })
        .map(|one| Tracked::decode(&one.octets).expect("an address"))
        .collect();
    let tracked = Tracked {
        reachable: true,
        prompt: false,
    };
    assert!(told.contains(&("Mqueue".to_owned(), tracked)), "{told:?}");
}

#[test]
fn an_interior_router_sends_an_edge_router_nothing_by_what_it_is_about_to_leave() {
    let mut net = Net::of(0, 1);
    let interior = &mut net.routers[0];
    for (connection, container) in [(1, "E"), (2, "E"), (3, "F")] {
        let opened = Opened {
            connection,
            role: ConnectionRole::Edge,
            container: container.into(),
            ..Opened::default()
        };
        interior.opened(&opened, net.now);
    }
    // In turn: the newer replaces the older of the same router, and nobody else's.
    for (connection, consumers) in [(1, 1), (3, 2), (2, 2), (1, 3)] {
        let link = net.link(Outgoing);
        let attach = Attach {
            role: Role::Receiver,
            source: Some(Source {
                address: Some("a".into()),
                ..Source::default()
            }),
            ..Attach::default()
        };
        let request = request(link, connection, ConnectionRole::Edge, attach);
        net.routers[0].attach(&request, net.now);
        let id = net.routers[0].by_key["Ma"];
        let address = net.routers[0].address(id).expect("it is there");
        assert_eq!(
            address.consumers(),
            consumers,
            "after connection {connection}"
        );
    }
}
