//! What routers have told of the connections that they carried.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::vanflow::{Attribute, Datum, FlowEvent, FlowKey, Identity, Origin, RecordId, Source};

/// What one router has told.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) origin: Arc<Origin>,
    own: BTreeMap<RecordId, Flow>,
    of_others: BTreeMap<Identity, Flow>,
}

/// A connection as it was told.
#[derive(Debug, Default)]
struct Flow {
    attributes: BTreeMap<Attribute, Datum>,
    began: u32,
    ended: u32,
}

impl Told {
    pub(super) fn new(router: usize) -> Self {
        let source = Source::parse(&format!("r{router:04}")).expect("five characters");
        Self {
            origin: Arc::new(Origin::new(source)),
            own: BTreeMap::new(),
            of_others: BTreeMap::new(),
        }
    }

    pub(super) fn hear(&mut self, events: Vec<FlowEvent>) {
        for event in events {
            match event {
                FlowEvent::Began { record, .. } | FlowEvent::Asked { record, .. } => {
                    self.own.entry(record).or_default().began += 1
                }
                FlowEvent::Joined(identity) => {
                    self.of_others.entry(identity).or_default().began += 1;
                }
                FlowEvent::Says(key, attribute, datum) => {
                    self.flow(key).attributes.insert(attribute, datum);
                }
                FlowEvent::Ended(key, _) => self.flow(key).ended += 1,
            }
        }
    }

    /// Nothing is told of what has not begun, nor after its end.
    fn flow(&mut self, key: FlowKey) -> &mut Flow {
        let flow = match key {
            FlowKey::Own(record) => self.own.get_mut(&record),
            FlowKey::Of(identity) => self.of_others.get_mut(&identity),
        };
        let flow = flow.expect("it has begun");
        assert!(flow.ended < flow.began, "it has not ended");
        flow
    }

    /// Every connection that began has ended.
    pub(super) fn check_empty(&self) {
        for flow in self.own.values().chain(self.of_others.values()) {
            assert_eq!(flow.began, flow.ended, "{flow:?}");
        }
        assert!(self.own.values().all(|flow| flow.began == 1));
    }

    /// The connection of the client at this port, and the octets that it sent and got.
    pub(super) fn of_client(&self, port: &str) -> Option<(Identity, [u64; 2])> {
        let port = Datum::from(port);
        let mut flows = self.own.iter();
        let of_it =
            flows.find(|(_, flow)| flow.attributes.get(&Attribute::SourcePort) == Some(&port));
        let (record, flow) = of_it?;
        let octets = [Attribute::Octets, Attribute::OctetsReverse];
        let octets = octets.map(|attribute| match flow.attributes.get(&attribute) {
            Some(Datum::Number(octets)) => *octets,
            _ => 0,
        });
        Some((self.origin.identity(*record), octets))
    }

    /// Whether a connection with a client elsewhere was told to be with a service here.
    pub(super) fn serves(&self, identity: Identity) -> bool {
        let flow = self.of_others.get(&identity);
        flow.is_some_and(|flow| {
            let says = |attribute| flow.attributes.contains_key(&attribute);
            says(Attribute::Connector) && says(Attribute::Trace)
        })
    }
}
