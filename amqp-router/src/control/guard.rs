//! What policy lets a neighbour say to the network.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;

use crate::mesh::{Screened, screen};
use crate::policy::{Grant, shown};

/// Stands between a neighbour that policy governs and the routing protocol: it speaks for itself
/// alone, unless its group has `allowTransit`, and announces the addresses that are its `sources`.
#[derive(Debug)]
pub(super) struct Guard {
    grant: Arc<Grant>,
    neighbour: String,
    /// What has been told of already.
    told: BTreeSet<String>,
}

/// Why something was not passed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NeighbourDenial {
    pub(crate) connection: u64,
    pub(crate) neighbour: String,
    pub(crate) reason: String,
}

impl Guard {
    pub(super) fn new(grant: Arc<Grant>, neighbour: &str) -> Self {
        Self {
            grant,
            neighbour: neighbour.to_owned(),
            told: BTreeSet::new(),
        }
    }

    /// What is left of a message that was sent to `to`, and reasons that are to be told of: each
    /// once, and no more than [`MOST_TOLD`].
    pub(super) fn screen(
        &mut self,
        connection: u64,
        message: &Bytes,
        to: &str,
    ) -> (Option<Bytes>, Vec<NeighbourDenial>) {
        let transit = self.grant.group.allow_transit;
        let may_speak_for = |id: &str| transit || id == self.neighbour;
        let may_announce = |address: &str| self.grant.may_receive_from(address);
        let (left, reasons) = match screen(message, to, may_speak_for, may_announce) {
            Screened::Whole => return (Some(message.clone()), Vec::new()),
            Screened::Without { message, addresses } => {
                let reason = |address: &String| format!("source '{}'", shown(address));
                (Some(message), addresses.iter().map(reason).collect())
            }
            Screened::ForAnother(id) => {
                let reason = format!("allowTransit, it speaks for router '{}'", shown(&id));
                (None, vec![reason])
            }
            Screened::Unreadable => (None, vec!["it cannot be read".to_owned()]),
        };
        let mut denials = Vec::new();
        for reason in reasons {
            self.grant.count_announcement();
            if self.is_news(&reason) {
                denials.push(NeighbourDenial {
                    connection,
                    neighbour: shown(&self.neighbour),
                    reason,
                });
            }
        }
        (left, denials)
    }

    fn is_news(&mut self, reason: &str) -> bool {
        self.told.len() < MOST_TOLD && self.told.insert(reason.to_owned())
    }
}

/// Reasons that are told of a connection.
const MOST_TOLD: usize = 256;

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering::Relaxed;

    use super::*;
    use crate::codec::{Body, Message, Value};
    use crate::policy::granted;

    fn update(id: &str, address: &str) -> Bytes {
        let record = Value::List(vec![format!("M{address}").into(), Value::Int(1)]);
        let fields = [
            ("id", Value::from(id)),
            ("mobile_seq", Value::Long(3)),
            ("exist", Value::List(vec![record])),
        ];
        let fields = fields.map(|(key, value)| (Value::from(key), value));
        Message {
            application_properties: vec![("opcode".to_owned(), "MAU".into())],
            body: Body::Value(Value::Map(fields.into())),
            ..Message::default()
        }
        .encode()
    }

    fn reasons(guard: &mut Guard, message: &Bytes) -> Vec<String> {
        let (_, denials) = guard.screen(1, message, "amqp:/_topo/0/all/qdrouter.ma");
        denials.into_iter().map(|denial| denial.reason).collect()
    }

    #[test]
    fn each_denial_is_told_of_once() {
        let mut guard = Guard::new(granted(&[("sources", "a")]), "S");
        assert!(reasons(&mut guard, &update("S", "a")).is_empty());
        assert_eq!(reasons(&mut guard, &update("S", "b")), ["source 'b'"]);
        assert!(reasons(&mut guard, &update("S", "b")).is_empty());
        let forged = reasons(&mut guard, &update("A", "a"));
        assert_eq!(forged, ["allowTransit, it speaks for router 'A'"]);
        for n in 0..2 * MOST_TOLD {
            reasons(&mut guard, &update("S", &format!("c{n}")));
        }
        assert_eq!(guard.told.len(), MOST_TOLD);
        let counted = guard.grant.counts.announcements.load(Relaxed);
        assert_eq!(counted, 3 + 2 * MOST_TOLD as u64, "each, told or not");
    }

    #[test]
    fn a_router_in_between_speaks_for_others() {
        let rules = [("sources", "a"), ("allowTransit", "yes")];
        let mut guard = Guard::new(granted(&rules), "S");
        let message = update("A", "a");
        let (left, denials) = guard.screen(1, &message, "amqp:/_topo/0/all/qdrouter.ma");
        assert_eq!((left, denials), (Some(message), Vec::new()));
        assert_eq!(reasons(&mut guard, &update("A", "b")), ["source 'b'"]);
    }
}
