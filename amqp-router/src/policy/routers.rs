//! What routers need of each other, whatever a group's `sources` and `targets` say.

use crate::codec::{Attach, Role, Source, Symbol, Target};
use crate::control::address::canonical;
use crate::control::edge_mesh::{DISCOVERY, NEGOTIATION};
use crate::control::role::{Role as ConnectionRole, control_capability, data_capability};
use crate::control::uplink::{TRACKING, downlink_capability};

/// Whether a link is one that routers make for themselves, as its connection's role has them
/// (`reference/router/inter-router-protocol.md` §2 and §7): such links name no address of anybody,
/// and what passes by them is looked at message by message. `neighbor` is the id of the peer: what
/// is for an edge router goes to no other.
pub(super) fn is_of_routers(role: ConnectionRole, attach: &Attach, neighbor: Option<&str>) -> bool {
    if !role.is_neighbour() {
        return false;
    }
    let source = attach.source.as_ref();
    if source.is_some_and(|source| source.dynamic) {
        return false;
    }
    let can = |capability: Symbol| has_capability(attach, &capability);
    let address = source.and_then(|source| source.address.as_deref());
    let address = address.filter(|address| !address.is_empty());
    match (attach.role, role) {
        (Role::Sender, role) => match (target_of(attach), role) {
            (Some(address), ConnectionRole::Edge) => address == DISCOVERY,
            (Some(address), ConnectionRole::InterEdge) => address == NEGOTIATION,
            (address, _) => address.is_none() && is_anonymous(attach.target.as_ref()),
        },
        (Role::Receiver, ConnectionRole::InterRouter) => {
            address.is_none() && (can(control_capability()) || can(data_capability()))
        }
        (Role::Receiver, ConnectionRole::Edge) if can(downlink_capability()) => {
            address.is_some() && address == neighbor
        }
        (Role::Receiver, ConnectionRole::Edge) => address == Some(TRACKING),
        (Role::Receiver, _) => false,
    }
}

/// Whether an address is one that a router made for a single link, so that who has been told it can
/// answer: `_topo/AREA/ID/temp.…` and those like it, of an edge router or another network, with a
/// tenant's name before the last part or without.
pub(super) fn is_reply_address(address: &str) -> bool {
    let mut parts = canonical(address).split('/');
    let places = match parts.next() {
        Some("_edge") => 1,
        Some("_topo" | "_xedge") => 2,
        Some("_xtopo") => 3,
        _ => return false,
    };
    let rest: Vec<&str> = parts.skip(places).collect();
    let is_temporary = |part: &str| part.starts_with("temp.");
    matches!(rest[..], [last] | [_, last] if is_temporary(last))
}

/// The address that a link sends to, if it names one.
fn target_of(attach: &Attach) -> Option<&str> {
    let target = attach.target.as_ref();
    let address = target.and_then(Target::address);
    address.filter(|address| !address.is_empty())
}

fn is_anonymous(target: Option<&Target>) -> bool {
    match target {
        Some(Target::Node(node)) => node.address.as_deref().is_none_or(str::is_empty),
        Some(Target::Coordinator { .. }) => false,
        None => true,
    }
}

fn has_capability(attach: &Attach, wanted: &Symbol) -> bool {
    let source = |source: &Source| source.capabilities.contains(wanted);
    attach.source.as_ref().is_some_and(source)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::TargetNode;

    fn receiver(address: Option<&str>, capability: Option<&'static str>) -> Attach {
        Attach {
            role: Role::Receiver,
            source: Some(Source {
                address: address.map(str::to_owned),
                capabilities: capability.map(Symbol::from_static).into_iter().collect(),
                ..Source::default()
            }),
            ..Attach::default()
        }
    }

    fn sender(address: Option<&str>, capability: Option<&'static str>) -> Attach {
        Attach {
            role: Role::Sender,
            target: Some(Target::Node(TargetNode {
                address: address.map(str::to_owned),
                capabilities: capability.map(Symbol::from_static).into_iter().collect(),
                ..TargetNode::default()
            })),
            ..Attach::default()
        }
    }

    #[test]
    fn routers_have_their_own_links_and_no_others() {
        use ConnectionRole::{Edge, InterEdge, InterRouter, InterRouterData, Normal};
        let (control, data) = (Some("qd.router"), Some("qd.router-data"));
        let downlink = Some("qd.router-edge-downlink");
        let mesh = Some("qd.router-inter-edge");
        for (role, attach, expected) in [
            (InterRouter, receiver(None, control), true),
            (InterRouter, receiver(None, data), true),
            (InterRouter, sender(None, data), true),
            (InterRouterData, sender(None, None), true),
            (InterRouter, receiver(None, None), false),
            (InterRouter, receiver(Some("a"), data), false),
            (InterRouter, sender(Some("a"), data), false),
            (InterRouterData, receiver(None, data), false),
            (Edge, sender(None, None), true),
            (Edge, sender(Some("a"), None), false),
            (Edge, receiver(Some("E"), downlink), true),
            (Edge, receiver(Some("F"), downlink), false),
            (Edge, receiver(None, downlink), false),
            (Edge, receiver(Some(TRACKING), None), true),
            (Edge, receiver(Some("a"), None), false),
            (Edge, receiver(None, control), false),
            (InterEdge, sender(None, mesh), true),
            (InterEdge, sender(Some(NEGOTIATION), None), true),
            (InterEdge, sender(Some("a"), mesh), false),
            (InterEdge, receiver(Some("a"), mesh), false),
            (Edge, sender(Some(DISCOVERY), None), true),
            (InterRouter, sender(Some(DISCOVERY), None), false),
            (Normal, receiver(None, control), false),
            (Normal, receiver(Some(TRACKING), None), false),
            (Normal, sender(None, None), false),
        ] {
            let own = is_of_routers(role, &attach, Some("E"));
            assert_eq!(own, expected, "{role}: {attach:?}");
        }
        assert!(!is_of_routers(Edge, &receiver(Some("E"), downlink), None));
        let mut dynamic = receiver(None, data);
        dynamic.source.as_mut().unwrap().dynamic = true;
        assert!(!is_of_routers(InterRouter, &dynamic, None));
    }

    #[test]
    fn an_answer_goes_to_the_address_of_one_link() {
        for address in [
            "amqp:/_topo/0/A/temp.x1",
            "_topo/0/A/temp.x1",
            "amqp:/_topo/0/A/tenant/temp.x1",
            "amqp:/_edge/E/temp.x1",
            "amqp:/_xtopo/n/0/A/temp.x1",
            "amqp:/_xedge/n/E/temp.x1",
        ] {
            assert!(is_reply_address(address), "{address}");
        }
        for address in [
            "temp.x1",
            "_topo/0/A/$management",
            "_topo/0/A/temp.x:/orders",
            "_topo/0/A/temp.x://host/orders",
            "_topo/0/temp.A",
            "_topo/0/A/b/c/temp.x1",
            "_edge/temp.x1",
            "orders/0/A/temp.x1",
            "",
        ] {
            assert!(!is_reply_address(address), "{address}");
        }
    }
}
