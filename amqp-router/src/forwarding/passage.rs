//! What a router writes ahead of a message that goes to another router.

use std::sync::{Arc, OnceLock};

use bytes::{Bytes, BytesMut};

use crate::codec::{DecodeError, RouterAnnotations};
use crate::control::address::{AddressKey, prompt_for};
use crate::control::edge_mesh::MeshId;
use crate::control::table::AddressId;
use crate::control::topology::{Ingress, Passed, Topology};

/// The router annotations of a message as it leaves this router.
#[derive(Debug)]
pub(crate) struct Passage {
    section: Bytes,
    /// The same for another network, once it has been asked for.
    abroad: OnceLock<Bytes>,
    streaming: bool,
}

impl Passage {
    /// Of a message that enters the network here.
    pub(super) fn entering(to: Option<&str>, topology: &Topology, flags: u32) -> Arc<Self> {
        let annotations = RouterAnnotations {
            flags,
            to,
            mesh: topology.mesh.as_ref().map(MeshId::as_str),
            ..RouterAnnotations::default()
        };
        Self::onward(&annotations, &topology.me)
    }

    /// Of a message that came with annotations.
    fn onward(annotations: &RouterAnnotations<'_>, me: &str) -> Arc<Self> {
        let mut annotations = annotations.clone();
        // An edge router leaves no traces: the network begins behind it.
        let me = Some(me).filter(|me| !me.is_empty());
        match me {
            Some(_) => annotations.ingress = annotations.ingress.or(me),
            None => (annotations.ingress, annotations.trace) = Default::default(),
        }
        let mut section = BytesMut::new();
        annotations.encode(me, &mut section);
        Arc::new(Self {
            section: section.freeze(),
            abroad: OnceLock::new(),
            streaming: annotations.flags & RouterAnnotations::STREAMING != 0,
        })
    }

    pub(super) fn section(&self) -> &[u8] {
        &self.section
    }

    /// What goes ahead of it into another network, where nobody knows the routers that it has passed.
    #[cold]
    pub(super) fn section_abroad(&self) -> &[u8] {
        self.abroad.get_or_init(|| {
            let Ok(mut annotations) = RouterAnnotations::decode(&self.section) else {
                return self.section.clone();
            };
            (annotations.ingress, annotations.trace) = Default::default();
            let mut section = BytesMut::new();
            annotations.encode(None, &mut section);
            section.freeze()
        })
    }

    /// Its body comes for as long as its sender likes: it must not wait to be complete.
    pub(super) fn is_streaming(&self) -> bool {
        self.streaming
    }
}

/// What annotations mean here: kept with the link that they came by, as the next message often
/// has the same.
#[derive(Debug)]
pub(super) struct Course {
    /// The annotations as they came.
    section: Bytes,
    /// The network as it was when they were read.
    topology: Arc<Topology>,
    pub(super) ingress: Ingress,
    pub(super) passed: Passed,
    /// The mesh of edge routers that it entered the network from.
    pub(super) mesh: Option<MeshId>,
    /// It has been here before, or has come further than the network is wide.
    pub(super) circles: bool,
    /// It is a TCP stream whose octets do not wait for an answer.
    pub(super) prompt: bool,
    /// What gives it back is to be followed by another destination.
    pub(super) resends: bool,
    /// Where it goes, if the annotations say so.
    pub(super) to: Option<Box<str>>,
    /// The address that this was when last looked up.
    pub(super) address: Option<(AddressId, AddressKey)>,
    pub(super) passage: Arc<Passage>,
}

impl Course {
    /// Reads the annotations that a message came with; an empty section if it came without.
    pub(super) fn read(section: Bytes, topology: &Arc<Topology>) -> Result<Self, DecodeError> {
        let annotations = if section.is_empty() {
            RouterAnnotations::default()
        } else {
            RouterAnnotations::decode(&section)?
        };
        let trace = annotations.trace;
        let mine = trace.iter().any(|hop| *hop == *topology.me);
        Ok(Self {
            ingress: topology.ingress(annotations.ingress),
            passed: topology.passed(trace.iter()),
            mesh: annotations.mesh.and_then(MeshId::parse),
            circles: mine || trace.len() > topology.radius + 1,
            prompt: annotations.flags & RouterAnnotations::PROMPT != 0
                || annotations.to.and_then(prompt_for).is_some(),
            resends: annotations.flags & RouterAnnotations::RESEND_RELEASED != 0,
            to: annotations.to.map(Box::from),
            address: None,
            passage: Passage::onward(&annotations, &topology.me),
            topology: Arc::clone(topology),
            section,
        })
    }

    /// What goes ahead of the message if it goes to another address than it came for.
    pub(super) fn passage_to(&self, to: &str) -> Arc<Passage> {
        match RouterAnnotations::decode(&self.section) {
            Ok(annotations) => {
                let to = Some(to);
                Passage::onward(&RouterAnnotations { to, ..annotations }, &self.topology.me)
            }
            // It came without any.
            Err(_) => Arc::clone(&self.passage),
        }
    }

    /// The routers that the message has passed, with `|` between them; none if it has passed none.
    pub(super) fn trace(&self) -> Option<String> {
        let annotations = RouterAnnotations::decode(&self.section).ok()?;
        let hops: Vec<&str> = annotations.trace.iter().collect();
        (!hops.is_empty()).then(|| hops.join("|"))
    }

    /// The annotations as they came.
    pub(super) fn section(&self) -> &Bytes {
        &self.section
    }

    /// How long the section is with which `message` starts, if it means what this one does.
    pub(super) fn covers(&self, message: &[u8], topology: &Arc<Topology>) -> Option<usize> {
        let same = !self.section.is_empty()
            && message.starts_with(&self.section)
            && Arc::ptr_eq(&self.topology, topology);
        same.then_some(self.section.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topology(me: &str) -> Arc<Topology> {
        Arc::new(Topology {
            me: me.into(),
            radius: 5,
            ..Topology::default()
        })
    }

    #[test]
    fn each_router_adds_itself_to_the_trace() {
        let first = Passage::entering(Some("a"), &topology("0/A"), RouterAnnotations::STREAMING);
        let course = Course::read(first.section.clone(), &topology("0/B")).unwrap();
        assert_eq!(course.to.as_deref(), Some("a"));
        assert!(!course.circles && course.passage.is_streaming());
        let annotations = RouterAnnotations::decode(course.passage.section()).unwrap();
        assert_eq!(annotations.ingress, Some("0/A"));
        assert_eq!(annotations.trace.iter().collect::<Vec<_>>(), ["0/A", "0/B"]);
    }

    #[test]
    fn what_an_edge_router_sends_enters_the_network_here() {
        let mut section = BytesMut::new();
        RouterAnnotations::default().encode(None, &mut section);
        let course = Course::read(section.freeze(), &topology("0/B")).unwrap();
        assert_eq!(course.ingress, Ingress::Here);
        let onward = RouterAnnotations::decode(course.passage.section()).unwrap();
        assert_eq!(onward.ingress, Some("0/B"));
    }

    #[test]
    fn what_has_been_here_goes_in_circles() {
        let first = Passage::entering(Some("a"), &topology("0/A"), 0);
        let back = Course::read(first.section.clone(), &topology("0/A")).unwrap();
        assert!(back.circles);
    }

    #[test]
    fn into_another_network_nobody_goes_by_name() {
        let first = Passage::entering(Some("a"), &topology("0/A"), RouterAnnotations::STREAMING);
        let abroad = RouterAnnotations::decode(first.section_abroad()).unwrap();
        assert_eq!((abroad.to, abroad.ingress), (Some("a"), None));
        assert_eq!(abroad.trace.iter().count(), 0);
        assert_eq!(abroad.flags, RouterAnnotations::STREAMING);
        let section = first.section_abroad().to_vec().into();
        let course = Course::read(section, &topology("0/A")).unwrap();
        assert!(!course.circles && course.ingress == Ingress::Here);
    }

    #[test]
    fn another_network_gives_another_meaning() {
        let (before, after) = (topology("0/B"), topology("0/B"));
        let section = Passage::entering(Some("a"), &topology("0/A"), 0)
            .section
            .clone();
        let course = Course::read(section.clone(), &before).unwrap();
        let message = [&section[..], b"body"].concat();
        assert_eq!(course.covers(&message, &before), Some(section.len()));
        assert_eq!(course.covers(&message, &after), None);
        assert_eq!(course.covers(b"body", &before), None);
    }
}
