//! The control planes of an edge router and of interior routers, without what is between them.

#![allow(clippy::disallowed_methods)] // a test asks the clock once

use std::time::{Duration, Instant};

use super::*;
use crate::control::address::Identity;
use crate::control::links::{AddressRule, AttachRequest, Loss, Scope};
use crate::control::table::{LinkLoad, Slot};

/// An edge router and the interior routers that it is connected to.
struct Net {
    edge: Control,
    interiors: Vec<Control>,
    /// For each link of the edge router: which interior router has it, as what.
    far: HashMap<LinkRef, (usize, LinkRef)>,
    /// Attaches that an interior router has not yet been shown.
    asked: VecDeque<(u64, Ticket, Attach)>,
    accepted: Vec<LinkRef>,
    next: u32,
    now: Instant,
}

fn control(id: &str, edge: bool) -> Control {
    let identity = Identity {
        id: id.into(),
        edge,
        network: None,
        tenant: None,
    };
    let mut control = Control::new(Arc::new(identity), Treatment::Balanced, [7; 32]);
    let rule = AddressRule {
        treatment: Treatment::Multicast,
        priority: None,
    };
    control.configure(Scope::Prefix("multicast"), rule);
    control
}

impl Net {
    fn new(interiors: u32) -> Self {
        let mut edge = control("E", true);
        edge.become_edge();
        let names = (0..interiors).map(|n| control(&format!("I{n}"), false));
        let mut net = Self {
            edge,
            interiors: names.collect(),
            far: HashMap::new(),
            asked: VecDeque::new(),
            accepted: Vec::new(),
            next: 0,
            now: Instant::now(),
        };
        for interior in 0..interiors {
            let opened = Opened {
                connection: u64::from(interior) + 1,
                role: ConnectionRole::Edge,
                container: format!("I{interior}"),
                ..Opened::default()
            };
            net.edge.opened(&opened, net.now);
        }
        net
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

    /// A client's link to the edge router, or to the first interior one.
    fn client(&mut self, at_edge: bool, direction: Direction, address: &str) -> LinkRef {
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
        let now = self.now;
        match at_edge {
            true => self.edge.attach(request, now),
            false => self.interiors[0].attach(request, now),
        }
        link
    }

    /// Passes everything on until nobody has anything to say.
    fn settle(&mut self) {
        loop {
            self.take_commands();
            let Some((connection, ticket, attach)) = self.asked.pop_front() else {
                return;
            };
            let interior = connection as usize - 1;
            let (near, far) = match attach.role {
                Role::Sender => (Direction::Outgoing, Direction::Incoming),
                Role::Receiver => (Direction::Incoming, Direction::Outgoing),
            };
            let (near, far) = (self.link(near), self.link(far));
            self.far.insert(near, (interior, far));
            let (now, load) = (self.now, Arc::new(LinkLoad::default()));
            let request = request(far, connection, ConnectionRole::Edge, attach);
            self.interiors[interior].attach(request, now);
            let link = RouterLink {
                link: near,
                connection,
                name: format!("{near:?}"),
                purpose: Purpose::Proxy(ticket),
                capacity: 250,
                load: (near.direction == Direction::Outgoing).then_some(load),
            };
            self.edge.attached(&link, now);
        }
    }

    fn take_commands(&mut self) {
        let mut told = Vec::new();
        for (number, interior) in self.interiors.iter_mut().enumerate() {
            while let Some((_, command)) = interior.poll_command() {
                match command {
                    Command::Tell { link, message } => told.push((number, link, message)),
                    Command::Refuse { error, .. } => panic!("refused: {error:?}"),
                    _ => {}
                }
            }
        }
        for (number, link, message) in told {
            let mut far = self.far.iter();
            if let Some((&near, _)) = far.find(|(_, far)| **far == (number, link)) {
                self.edge.heard(near, &message, self.now);
            }
        }
        while let Some((_, command)) = self.edge.poll_command() {
            match command {
                Command::Attach {
                    connection,
                    ticket,
                    attach,
                } => self.asked.push_back((connection, ticket, *attach)),
                Command::Detach { link } => {
                    self.edge.detached(link, &Loss::Connection, self.now);
                    if let Some((interior, far)) = self.far.remove(&link) {
                        self.interiors[interior].detached(far, &Loss::Connection, self.now);
                    }
                }
                Command::Accept { link, .. } => self.accepted.push(link),
                _ => {}
            }
        }
    }

    /// Whether the edge router sends what is for an address into the network.
    fn leads_up(&self, address: &str) -> bool {
        let key = format!("M{address}");
        let id = self.edge.by_key.get(&*key);
        let address = id.and_then(|id| self.edge.address(*id));
        let mut destinations = address.into_iter().flat_map(|one| &one.entry.destinations);
        destinations.any(|one| one.side == Side::NETWORK)
    }

    fn lose(&mut self, interior: usize) {
        let links: Vec<LinkRef> = (self.far.iter())
            .filter(|(_, (of, _))| *of == interior)
            .map(|(near, _)| *near)
            .collect();
        for near in links {
            let (_, far) = self.far.remove(&near).expect("it was there");
            self.edge.detached(near, &Loss::Connection, self.now);
            self.interiors[interior].detached(far, &Loss::Connection, self.now);
        }
        let connection = interior as u64 + 1;
        self.edge.closed(connection, self.now);
        self.asked.retain(|(of, ..)| *of != connection);
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
    net.client(true, Incoming, "a");
    net.settle();
    assert!(!net.leads_up("a"));
    let first = net.client(false, Outgoing, "a");
    let second = net.client(false, Outgoing, "a");
    net.settle();
    assert!(net.leads_up("a"));
    net.interiors[0].detached(first, &Loss::Connection, net.now);
    net.settle();
    assert!(net.leads_up("a"));
    net.interiors[0].detached(second, &Loss::Connection, net.now);
    net.settle();
    assert!(!net.leads_up("a"));
}

#[test]
fn its_own_receivers_lead_an_edge_router_nowhere() {
    let mut net = Net::new(1);
    net.client(true, Outgoing, "a");
    net.client(true, Incoming, "a");
    net.settle();
    let interior = &net.interiors[0];
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
    let standing = net.far.len();
    let clients = [Incoming, Incoming, Outgoing].map(|way| net.client(true, way, "a"));
    net.settle();
    assert_eq!(net.far.len(), standing + 2);
    for (client, left) in clients.into_iter().zip([2, 1, 0]) {
        net.edge.detached(client, &Loss::Connection, net.now);
        net.settle();
        assert_eq!(net.far.len(), standing + left);
    }
    assert!(!net.edge.by_key.contains_key("Ma"));
}

#[test]
fn another_connection_takes_over() {
    let mut net = Net::new(2);
    net.client(true, Outgoing, "a");
    net.settle();
    assert!(net.interiors[0].by_key.contains_key("Ma"));
    assert!(!net.interiors[1].by_key.contains_key("Ma"));
    net.lose(0);
    net.settle();
    assert!(net.interiors[1].by_key.contains_key("Ma"));
    assert_eq!(net.edge.active_uplink(), Some(2));
    let notices = std::iter::from_fn(|| net.edge.poll_uplink_notice());
    let (up, down) = (UplinkNotice::Established, UplinkNotice::Lost);
    assert_eq!(notices.collect::<Vec<_>>(), [up(1), down(1), up(2)]);
    net.lose(1);
    net.settle();
    assert_eq!(net.edge.active_uplink(), None);
}

#[test]
fn a_sender_to_a_multicast_address_is_answered_when_the_network_has_said_who_receives() {
    let mut net = Net::new(1);
    net.client(false, Outgoing, "multicast/a");
    net.client(true, Outgoing, "multicast/a");
    net.settle();
    let sender = net.client(true, Incoming, "multicast/a");
    net.take_commands();
    assert!(!net.accepted.contains(&sender));
    net.settle();
    assert!(net.accepted.contains(&sender) && net.leads_up("multicast/a"));
    // The next one finds everything in its place.
    let sender = net.client(true, Incoming, "multicast/a");
    net.take_commands();
    assert!(net.accepted.contains(&sender));
}

#[test]
fn a_sender_does_not_wait_where_there_is_nothing_to_wait_for() {
    let mut net = Net::new(1);
    let balanced = net.client(true, Incoming, "a");
    net.take_commands();
    assert!(net.accepted.contains(&balanced));

    // The network is silent.
    let sender = net.client(true, Incoming, "multicast/a");
    net.take_commands();
    assert!(!net.accepted.contains(&sender));
    net.now = net.edge.poll_timeout().expect("somebody waits");
    net.edge.handle_timeout(net.now);
    net.take_commands();
    assert!(net.accepted.contains(&sender));
    assert_eq!(net.edge.poll_timeout(), None);

    // It goes.
    let sender = net.client(true, Incoming, "multicast/b");
    net.take_commands();
    assert!(!net.accepted.contains(&sender));
    net.now += Duration::from_millis(1);
    net.lose(0);
    net.take_commands();
    assert!(net.accepted.contains(&sender));

    // It is not there.
    let sender = net.client(true, Incoming, "multicast/c");
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
        interior.attach(request, Instant::now());
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
