#![allow(clippy::disallowed_methods)] // any moment will do

use std::time::Duration;

use super::*;
use crate::codec::{
    Attach, Coordinator, ExpiryPolicy, Role, Source, Target, TargetNode, TerminusDurability,
};
use crate::control::network::Opened;
use crate::control::table::{Outlet, Slot, WorkerId};

fn control() -> Control {
    let identity = Identity {
        id: "R".into(),
        edge: false,
        ..Identity::default()
    };
    Control::new(Arc::new(identity), Treatment::Balanced, [0; 32])
}

/// What a client is told of the terminus that it has asked this router for.
fn answered(attach: Attach) -> Termini {
    answered_by(&mut control(), attach)
}

fn answered_by(control: &mut Control, attach: Attach) -> Termini {
    control.attach(&request(attach), Instant::now());
    while let Some((_, command)) = control.poll_command() {
        if let Command::Accept { termini, .. } = command {
            return *termini;
        }
    }
    panic!("it is refused")
}

fn request(attach: Attach) -> AttachRequest {
    let direction = match attach.role {
        Role::Sender => Direction::Incoming,
        Role::Receiver => Direction::Outgoing,
    };
    AttachRequest {
        link: LinkRef {
            worker: WorkerId(0),
            direction,
            slot: Slot {
                index: 0,
                serial: 0,
            },
        },
        connection: 1,
        role: ConnectionRole::Normal,
        attach: Box::new(attach),
        capacity: 250,
        load: (direction == Direction::Outgoing).then(Arc::default),
    }
}

#[test]
fn nobody_is_promised_a_terminus_that_outlives_its_link() {
    let source = Source {
        address: Some("a".into()),
        durable: TerminusDurability::UnsettledState,
        expiry_policy: ExpiryPolicy::Never,
        timeout: Duration::from_secs(60),
        ..Source::default()
    };
    let target = TargetNode {
        address: Some("a".into()),
        durable: TerminusDurability::Configuration,
        expiry_policy: ExpiryPolicy::ConnectionClose,
        timeout: Duration::from_secs(60),
        ..TargetNode::default()
    };
    let attach = |role| Attach {
        role,
        source: Some(source.clone()),
        target: Some(target.clone().into()),
        ..Attach::default()
    };
    let none = (
        TerminusDurability::None,
        ExpiryPolicy::LinkDetach,
        Duration::ZERO,
    );
    let answer = answered(attach(Role::Receiver));
    let ours = answer.source.expect("a source");
    assert_eq!((ours.durable, ours.expiry_policy, ours.timeout), none);
    let Some(Target::Node(theirs)) = answer.target else {
        panic!("their target is theirs")
    };
    assert_eq!(theirs, target);

    let answer = answered(attach(Role::Sender));
    let Some(Target::Node(ours)) = answer.target else {
        panic!("a target")
    };
    assert_eq!((ours.durable, ours.expiry_policy, ours.timeout), none);
    assert_eq!(answer.source, Some(source.clone()));
}

/// There are no transactions here, and whoever asks is told so (AMQP 4.2).
#[test]
fn a_coordinator_is_refused() {
    let attach = Attach {
        role: Role::Sender,
        source: Some(Source::default()),
        target: Some(Target::Coordinator(Coordinator::default())),
        ..Attach::default()
    };
    let request = request(attach);
    let mut control = control();
    let refusal = control.attach(&request, Instant::now());
    let condition = refusal.as_ref().map(|error| error.condition.as_str());
    assert_eq!(condition, Some("amqp:not-implemented"));
    let told = control.poll_command();
    assert!(
        matches!(&told, Some((_, Command::Refuse { error, .. })) if Some(error) == refusal.as_ref()),
        "{told:?}"
    );
    assert_eq!(control.link_count(), 0);
}

#[test]
fn a_terminus_of_the_usual_kind_is_answered_as_it_is() {
    let source = Source {
        address: Some("a".into()),
        ..Source::default()
    };
    let attach = Attach {
        role: Role::Receiver,
        source: Some(source.clone()),
        target: Some(TargetNode::default().into()),
        ..Attach::default()
    };
    assert_eq!(answered(attach).source, Some(source));
}

#[test]
fn a_network_gets_and_changes_its_name_while_the_router_works() {
    let mut control = control();
    #[allow(clippy::disallowed_methods)] // any instant will do
    let now = Instant::now();
    for (name, foreign) in [
        (Some("here"), "Nthere"),
        (Some("there"), "Lx"),
        (None, "Lx"),
    ] {
        control.name_network(name.map(str::to_owned), now);
        let told = control.poll_command();
        let Some((Recipient::Everyone, Command::Identity(told))) = told else {
            panic!("workers must know: {told:?}")
        };
        let attach = Attach {
            role: Role::Receiver,
            source: Some(Source {
                dynamic: true,
                ..Source::default()
            }),
            target: Some(TargetNode::default().into()),
            ..Attach::default()
        };
        let source = answered_by(&mut control, attach).source.expect("a source");
        let address = source.address.expect("it is made");
        let expected = name.map_or("amqp:/_topo/0/R/temp.".to_owned(), |name| {
            format!("amqp:/_xtopo/{name}/0/R/temp.")
        });
        assert!(address.starts_with(&expected), "{address}");
        assert_eq!(told.key("_xtopo/there/0/R/x").as_str(), foreign);
    }
}

/// Requests that are on their way, as the one that renames it, are to be answered.
#[test]
fn a_networks_former_name_is_known_for_a_while() {
    let mut control = control();
    #[allow(clippy::disallowed_methods)] // any instant will do
    let now = Instant::now();
    control.name_network(Some("here".into()), now);
    assert_eq!(control.poll_timeout(), None);
    control.name_network(Some("there".into()), now);
    let key = |control: &Control| control.identity.key("_xtopo/here/0/R/x").to_string();
    assert_eq!(key(&control), "Lx");
    let until = control.poll_timeout().expect("it is to be forgotten");
    control.handle_timeout(until);
    assert_eq!(key(&control), "Nhere");
    assert_eq!(control.poll_timeout(), None);
}

#[test]
fn links_are_found_by_number_and_by_name_as_long_as_they_are_there() {
    let mut control = control();
    let attach = |name: &str, index| {
        let mut request = request(Attach {
            name: name.into(),
            role: Role::Sender,
            target: Some(TargetNode::default().into()),
            ..Attach::default()
        });
        request.link.slot.index = index;
        request
    };
    let links = [("a", 0), ("b", 1), ("a", 2), ("aa", 3)].map(|(name, index)| attach(name, index));
    for request in &links {
        control.attach(request, Instant::now());
    }
    let named = |control: &Control, name| -> Vec<u32> {
        let links = control.named(name);
        links.map(|link| link.reference.slot.index).collect()
    };
    assert_eq!(named(&control, "a"), [0, 2]);
    assert_eq!(named(&control, "aa"), [3]);
    let number = control.filed(links[1].link).expect("it is there").id;
    assert_eq!(&*control.numbered(number).expect("it is there").name, "b");

    for gone in [0, 1] {
        control.detached(links[gone].link, &Loss::Detached(None), Instant::now());
    }
    assert_eq!(named(&control, "a"), [2]);
    assert!(named(&control, "b").is_empty());
    assert!(control.numbered(number).is_none());
}

/// An edge router may have fallen back to an older connection before what it had said by the newer one
/// was heard, and so has nothing to say again when that is gone.
#[test]
fn an_edge_router_is_sent_to_by_its_older_connection_when_the_newer_one_is_lost() {
    let mut control = control();
    let now = Instant::now();
    let attach = |name: &str, connection, index| {
        let attach = Attach {
            name: name.into(),
            role: Role::Receiver,
            source: Some(Source {
                address: Some("a".into()),
                ..Source::default()
            }),
            target: Some(TargetNode::default().into()),
            ..Attach::default()
        };
        let mut request = request(attach);
        request.role = ConnectionRole::Edge;
        request.connection = connection;
        request.link.slot.index = index;
        request
    };
    for connection in [1, 2] {
        let opened = Opened {
            connection,
            role: ConnectionRole::Edge,
            container: "E".into(),
            ..Opened::default()
        };
        control.opened(&opened, now);
    }
    let [kept, late] = [attach("one", 1, 1), attach("two", 2, 2)];
    assert_eq!(control.attach(&kept, now), None);
    assert_eq!(control.attach(&late, now), None);
    let links = |control: &Control| {
        let id = control.by_key[&AddressKey::mobile("a")];
        let entry = &control.address(id).expect("it is there").entry;
        let outlets = entry.destinations.iter().map(|one| one.outlet);
        outlets.collect::<Vec<_>>()
    };
    let outlet = |request: &AttachRequest| Outlet::Link {
        worker: request.link.worker,
        link: request.link.slot,
        to_router: true,
    };
    assert_eq!(links(&control), [outlet(&late)]);
    control.detached(late.link, &Loss::Connection, now);
    control.closed(2, now);
    assert_eq!(links(&control), [outlet(&kept)]);
}
