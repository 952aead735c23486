use std::sync::Arc;

use super::*;
use crate::control::address::{AddressKey, Identity};
use crate::control::table::{LinkLoad, Slot};

/// A control plane, and a worker that does what it is told.
struct Scene {
    control: Control,
    now: Instant,
    next_slot: u32,
    /// Tickets and attaches that were asked for, by connection.
    asked: Vec<(u64, Ticket, Attach)>,
    detached: Vec<LinkRef>,
    opened: Vec<(LinkRef, LeadsTo)>,
}

impl Scene {
    fn new() -> Self {
        let identity = Identity {
            id: "R".into(),
            edge: false,
            ..Identity::default()
        };
        Self {
            control: Control::new(Arc::new(identity), Treatment::Balanced, [7; 32]),
            #[allow(clippy::disallowed_methods)] // any instant will do
            now: Instant::now(),
            next_slot: 0,
            asked: Vec::new(),
            detached: Vec::new(),
            opened: Vec::new(),
        }
    }

    fn turn(&mut self) {
        while let Some((_, command)) = self.control.poll_command() {
            match command {
                Command::Attach {
                    connection,
                    ticket,
                    attach,
                } => self.asked.push((connection, ticket, *attach)),
                Command::Detach { link } => self.detached.push(link),
                Command::Open { link, leads_to, .. } => self.opened.push((link, leads_to)),
                _ => {}
            }
        }
    }

    fn open(&mut self, connection: u64, container: &str, connector: Option<&str>) {
        self.open_as(
            ConnectionRole::RouteContainer,
            connection,
            container,
            connector,
        );
    }

    fn open_as(
        &mut self,
        role: ConnectionRole,
        connection: u64,
        container: &str,
        connector: Option<&str>,
    ) {
        let opened = Opened {
            connection,
            role,
            container: container.into(),
            connector: connector.map(str::to_owned),
            ..Opened::default()
        };
        self.control.opened(&opened, self.now);
        self.turn();
    }

    /// The peer accepts the oldest attach.
    fn accept(&mut self) -> LinkRef {
        let (connection, ticket, attach) = self.asked.remove(0);
        let direction = match attach.role {
            Role::Receiver => Direction::Incoming,
            Role::Sender => Direction::Outgoing,
        };
        let link = LinkRef {
            worker: WorkerId(0),
            direction,
            slot: Slot {
                index: self.next_slot,
                serial: 0,
            },
        };
        self.next_slot += 1;
        let accepted = RouterLink {
            link,
            connection,
            name: format!("link {}", self.next_slot),
            purpose: crate::control::trunk::Purpose::Proxy(ticket),
            capacity: 250,
            load: (direction == Direction::Outgoing).then(|| Arc::new(LinkLoad::default())),
        };
        self.control.attached(&accepted, self.now);
        self.turn();
        link
    }

    fn refuse(&mut self, text: &str) {
        let (_, ticket, _) = self.asked.remove(0);
        let error = Error::new("amqp:not-found", text);
        self.control.not_attached(ticket, Some(&error), self.now);
        self.turn();
    }

    fn pass(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
        self.control.handle_timeout(self.now);
        self.turn();
    }

    fn state(&self, name: &str) -> &'static str {
        self.control.auto_link(name).expect("it is there").state
    }

    fn notices(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.control.poll_auto_link_notice())
            .map(|notice| notice.to_string())
            .collect()
    }

    /// Senders and receivers of an address.
    fn links_of(&self, address: &str) -> Option<(usize, usize)> {
        let id = self.control.by_key.get(&AddressKey::mobile(address))?;
        let address = self.control.address(*id)?;
        Some((address.producers, address.consumers()))
    }
}

fn rule(name: &str, direction: Direction, address: &str) -> AutoLinkRule {
    AutoLinkRule {
        name: name.into(),
        direction,
        address: (!address.is_empty()).then(|| address.into()),
        external: None,
        peer: Peer::Container("broker".into()),
    }
}

#[test]
fn links_of_both_directions_come_with_their_container() {
    let mut scene = Scene::new();
    scene
        .control
        .add_auto_link(rule("in", Direction::Incoming, "queue"));
    let mut outward = rule("out", Direction::Outgoing, "queue");
    outward.external = Some("the/queue".into());
    scene.control.add_auto_link(outward);
    assert_eq!(scene.state("in"), "inactive");
    scene.open(1, "someone else", None);
    assert!(scene.asked.is_empty());
    scene.open(2, "broker", None);
    assert_eq!(scene.state("out"), "attaching");
    let (_, _, first) = &scene.asked[0];
    let source = first.source.as_ref().expect("a source");
    assert_eq!(source.address.as_deref(), Some("queue"));
    let Some(Target::Node(target)) = &scene.asked[1].2.target else {
        panic!("{:?}", scene.asked);
    };
    assert_eq!(target.address.as_deref(), Some("the/queue"));
    let inward = scene.accept();
    scene.accept();
    assert_eq!(
        (scene.state("in"), scene.state("out")),
        ("active", "active")
    );
    assert_eq!(scene.links_of("queue"), Some((1, 1)));
    let id = scene.control.by_key[&AddressKey::mobile("queue")];
    assert_eq!(scene.opened, [(inward, LeadsTo::Address(id))]);
    let status = scene.control.auto_link("in").expect("it is there");
    assert_eq!(status.link, scene.control.link_number(&inward));
    assert_eq!(
        scene.notices(),
        [
            "Auto Link Activated 'in' on container broker",
            "Auto Link Activated 'out' on container broker"
        ]
    );
}

#[test]
fn without_an_address_each_message_says_where_it_goes() {
    let mut scene = Scene::new();
    let mut anonymous = rule("in", Direction::Incoming, "");
    anonymous.external = Some("outbox".into());
    scene.control.add_auto_link(anonymous);
    scene.open(1, "broker", None);
    let link = scene.accept();
    assert_eq!(scene.opened, [(link, LeadsTo::EachMessage)]);
}

#[test]
fn what_is_refused_is_tried_again_after_two_seconds_and_then_every_five() {
    let mut scene = Scene::new();
    scene.open(1, "broker", None);
    scene
        .control
        .add_auto_link(rule("in", Direction::Incoming, "queue"));
    scene.turn();
    scene.refuse("no such queue");
    let status = scene.control.auto_link("in").expect("it is there");
    assert_eq!(status.state, "failed");
    assert_eq!(status.last_error.as_deref(), Some("no such queue"));
    scene.pass(1);
    assert!(scene.asked.is_empty());
    scene.pass(1);
    scene.refuse("no such queue");
    scene.pass(4);
    assert!(scene.asked.is_empty());
    scene.pass(1);
    // The same error is told once.
    assert_eq!(
        scene.notices(),
        ["Auto Link Activation Failed. no such queue 'in'"]
    );
    let link = scene.accept();
    assert_eq!(scene.state("in"), "active");
    let error = Error::new("amqp:resource-deleted", "the queue is gone");
    let loss = Loss::Detached(Some(error));
    scene.control.detached(link, &loss, scene.now);
    assert_eq!(scene.state("in"), "failed");
    assert_eq!(scene.links_of("queue"), None);
    assert_eq!(scene.control.poll_timeout(), Some(scene.now + LATER));
}

#[test]
fn a_connection_takes_its_links_with_it() {
    let mut scene = Scene::new();
    scene
        .control
        .add_auto_link(rule("in", Direction::Incoming, "queue"));
    scene
        .control
        .add_auto_link(rule("out", Direction::Outgoing, "queue"));
    scene.open(1, "broker", None);
    let link = scene.accept();
    scene.control.detached(link, &Loss::Connection, scene.now);
    scene.control.closed(1, scene.now);
    assert_eq!(
        (scene.state("in"), scene.state("out")),
        ("inactive", "inactive")
    );
    assert_eq!(scene.links_of("queue"), None);
    assert_eq!(scene.control.poll_timeout(), None);
    // What the worker says late of an attach is of no interest.
    scene.refuse("too late");
    assert_eq!(scene.state("out"), "inactive");
}

#[test]
fn a_connector_is_told_from_others_to_the_same_container() {
    let mut scene = Scene::new();
    let mut named = rule("in", Direction::Incoming, "queue");
    named.peer = Peer::Connection("first".into());
    scene.control.add_auto_link(named);
    scene.open(1, "broker", Some("second"));
    assert!(scene.asked.is_empty());
    scene.open(2, "broker", Some("first"));
    assert_eq!(scene.asked[0].0, 2);
}

#[test]
fn a_listener_stands_for_all_that_it_accepts() {
    let mut scene = Scene::new();
    let mut named = rule("in", Direction::Incoming, "queue");
    named.peer = Peer::Connection("brokers".into());
    scene.control.add_auto_link(named);
    for (connection, listener) in [(1, "brokers"), (2, "others"), (3, "brokers")] {
        let opened = Opened {
            connection,
            role: ConnectionRole::RouteContainer,
            container: "any".into(),
            listener: Some(listener.into()),
            ..Opened::default()
        };
        scene.control.opened(&opened, scene.now);
    }
    scene.turn();
    let on: Vec<u64> = scene.asked.iter().map(|(on, ..)| *on).collect();
    assert_eq!(on, [1, 3]);
}

#[test]
fn who_says_nothing_of_whom_waits_and_says_so() {
    let mut scene = Scene::new();
    let mut nobody = rule("in", Direction::Incoming, "queue");
    nobody.peer = Peer::Nobody;
    scene.control.add_auto_link(nobody);
    scene.open(1, "", None);
    assert!(scene.asked.is_empty());
    let status = scene.control.auto_link("in").expect("it is there");
    assert_eq!(status.state, "inactive");
    assert!(
        status
            .last_error
            .is_some_and(|error| error.contains("'containerId'"))
    );
}

#[test]
fn several_connections_have_a_link_each() {
    let mut scene = Scene::new();
    scene
        .control
        .add_auto_link(rule("out", Direction::Outgoing, "queue"));
    scene.open(1, "broker", None);
    scene.open(2, "broker", None);
    scene.accept();
    scene.accept();
    assert_eq!(scene.links_of("queue"), Some((0, 2)));
    scene.control.closed(1, scene.now);
    assert_eq!(scene.state("out"), "active");
}

#[test]
fn what_is_removed_is_detached_also_when_it_was_still_attaching() {
    let mut scene = Scene::new();
    scene.open(1, "broker", None);
    for name in ["in", "late"] {
        let rule = rule(name, Direction::Incoming, "queue");
        scene.control.add_auto_link(rule);
    }
    scene.turn();
    let link = scene.accept();
    scene.control.remove_auto_link("in");
    scene.control.remove_auto_link("late");
    scene.turn();
    assert_eq!(scene.detached, [link]);
    let late = scene.accept();
    assert_eq!(scene.detached, [link, late]);
    assert_eq!(scene.control.auto_link("in"), None);
    assert_eq!(scene.control.auto_link_count(), 0);
    scene.pass(10);
    assert!(scene.asked.is_empty());
}

#[test]
fn what_is_for_another_router_is_not_sent_to_a_container() {
    let mut scene = Scene::new();
    let rule = rule("out", Direction::Outgoing, "_topo/0/B/$management");
    scene.control.add_auto_link(rule);
    scene.open(1, "broker", None);
    let link = scene.accept();
    assert_eq!(scene.detached, [link]);
    assert_eq!(scene.state("out"), "failed");
}

/// What another network has for the dynamic addresses of this one comes by a link without an address
/// here, and what this one has for those of the other leaves by the other's.
#[test]
fn links_to_another_network_come_with_its_router() {
    let mut scene = Scene::new();
    scene.control.name_network(Some("here".into()), scene.now);
    let mut answers = rule("answers", Direction::Incoming, "");
    answers.external = Some("_xtopo/here".into());
    answers.peer = Peer::Connection("abroad".into());
    scene.control.add_auto_link(answers);
    scene.open_as(ConnectionRole::InterRouter, 1, "X", Some("abroad"));
    assert!(scene.asked.is_empty(), "a router of this network");
    scene.open_as(ConnectionRole::InterNetwork, 2, "X", Some("abroad"));
    let (_, _, attach) = &scene.asked[0];
    let source = attach.source.as_ref().expect("a source");
    assert_eq!(source.address.as_deref(), Some("_xtopo/here"));
    let link = scene.accept();
    assert_eq!(scene.opened, [(link, LeadsTo::EachMessage)]);
    assert_eq!(scene.state("answers"), "active");
    scene.control.closed(2, scene.now);
    assert_eq!(scene.state("answers"), "inactive");
}
