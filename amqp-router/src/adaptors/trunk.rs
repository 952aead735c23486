//! The sessions and links that this router makes on a connection to another router
//! (`reference/router/inter-router-protocol.md` §2), or to a container.

use crate::codec::{Attach, Role, Source, Symbol, Target, TargetNode};
use crate::control::role::{control_capability, data_capability};
use crate::control::topology::PRIORITIES;
use crate::control::trunk::{Purpose, Ticket};
use crate::endpoint::{Connection, LimitReached, LinkId, SessionId};

/// The sessions of a connection between routers, and the links that wait for their peer's answer.
#[derive(Debug, Default)]
pub(crate) struct Trunk {
    /// Sessions that the peer has not begun yet, and what they are for.
    beginning: Vec<(SessionId, Purpose)>,
    attaching: Vec<(LinkId, Purpose)>,
    /// Where links for incomplete messages are attached.
    streams: Option<SessionId>,
    /// What their termini can do.
    stream_capabilities: Vec<Symbol>,
    /// Where this router attaches links for itself, once the peer has begun it too.
    proxies: Option<SessionId>,
    /// It begins with the first of them.
    begins_late: bool,
    /// Links that wait for that.
    waiting: Vec<(Ticket, Attach)>,
    /// This router's id, which tells its links' names from those that the neighbour gives: a name
    /// belongs to both ends (AMQP 2.6.1).
    container: String,
    names: u64,
}

impl Trunk {
    /// Begins the sessions of a connection that has just been opened. Who has connected makes the
    /// links that both ends need; both make those that they need for themselves.
    pub(crate) fn begin(endpoint: &mut Connection, connector: bool) -> Result<Self, LimitReached> {
        let mut trunk = Self {
            container: endpoint.config().container_id.clone(),
            stream_capabilities: vec![data_capability()],
            ..Self::default()
        };
        if connector {
            let data = (0..PRIORITIES as u8).map(Purpose::Data);
            for purpose in [Purpose::Control].into_iter().chain(data) {
                trunk.beginning.push((endpoint.begin()?, purpose));
            }
        }
        trunk.streams = Some(endpoint.begin()?);
        Ok(trunk)
    }

    /// Begins the session of a connection for messages that take long.
    pub(crate) fn begin_data(endpoint: &mut Connection) -> Result<Self, LimitReached> {
        let session = endpoint.begin()?;
        Ok(Self {
            container: endpoint.config().container_id.clone(),
            proxies: Some(session),
            streams: Some(session),
            ..Self::default()
        })
    }

    /// Begins the sessions of a connection of an edge router: to an interior router, where the edge
    /// router attaches links for itself, or to another edge router, where both do.
    pub(crate) fn begin_edge(
        endpoint: &mut Connection,
        attaches: bool,
    ) -> Result<Self, LimitReached> {
        Ok(Self {
            container: endpoint.config().container_id.clone(),
            proxies: attaches.then(|| endpoint.begin()).transpose()?,
            streams: Some(endpoint.begin()?),
            ..Self::default()
        })
    }

    /// A connection to a container, where a session begins with the first link.
    pub(crate) fn to_container(endpoint: &Connection) -> Self {
        Self {
            container: endpoint.config().container_id.clone(),
            begins_late: true,
            ..Self::default()
        }
    }

    /// Takes a link that this router is to attach for itself, and gives it back when it can.
    ///
    /// # Errors
    /// There is no session for it, and there can be none.
    pub(crate) fn ready(
        &mut self,
        endpoint: &mut Connection,
        ticket: Ticket,
        attach: Attach,
    ) -> Result<Option<(SessionId, Attach)>, LimitReached> {
        let attach = self.named(attach);
        if self.proxies.is_none() && self.begins_late {
            self.proxies = Some(endpoint.begin()?);
        }
        let session = self.proxies.ok_or(LimitReached::NoSession)?;
        if endpoint.is_mapped(session) {
            return Ok(Some((session, attach)));
        }
        self.waiting.push((ticket, attach));
        Ok(None)
    }

    /// A session is gone, and its links before it; returns those that were to be attached there.
    pub(crate) fn ended(&mut self, session: SessionId) -> Vec<(Ticket, Attach)> {
        let waiting = self.take_waiting(session);
        if self.begins_late {
            self.proxies.take_if(|proxies| *proxies == session);
        }
        waiting
    }

    /// The links that have waited for a session which has begun now.
    pub(crate) fn take_waiting(&mut self, session: SessionId) -> Vec<(Ticket, Attach)> {
        match self.proxies == Some(session) {
            true => std::mem::take(&mut self.waiting),
            false => Vec::new(),
        }
    }

    /// A session has begun: what its links are for.
    pub(crate) fn begun(&mut self, session: SessionId) -> Option<Purpose> {
        let at = self.beginning.iter().position(|(id, _)| *id == session)?;
        Some(self.beginning.swap_remove(at).1)
    }

    /// A link was attached whose peer has yet to answer.
    pub(crate) fn attaching(&mut self, link: LinkId, purpose: Purpose) {
        self.attaching.push((link, purpose));
    }

    /// The peer has answered: what the link is for.
    pub(crate) fn attached(&mut self, link: LinkId) -> Option<Purpose> {
        let at = self.attaching.iter().position(|(id, _)| *id == link)?;
        Some(self.attaching.swap_remove(at).1)
    }

    /// The attach of one of the links that both ends need.
    pub(crate) fn attach(&mut self, role: Role, purpose: Purpose) -> Attach {
        let capability = match purpose {
            Purpose::Control => control_capability(),
            _ => data_capability(),
        };
        self.attach_with(role, vec![capability])
    }

    /// Attaches a link for an incomplete message.
    pub(crate) fn open_stream(
        &mut self,
        endpoint: &mut Connection,
    ) -> Result<(SessionId, LinkId), LimitReached> {
        let session = self.streams.ok_or(LimitReached::NoSession)?;
        let attach = self.attach_with(Role::Sender, self.stream_capabilities.clone());
        let link = endpoint.attach(session, attach)?;
        self.attaching(link, Purpose::Stream);
        Ok((session, link))
    }

    fn attach_with(&mut self, role: Role, capabilities: Vec<Symbol>) -> Attach {
        self.named(Attach {
            role,
            source: Some(Source {
                capabilities: capabilities.clone(),
                ..Source::default()
            }),
            target: Some(Target::Node(TargetNode {
                capabilities,
                ..TargetNode::default()
            })),
            ..Attach::default()
        })
    }

    fn named(&mut self, mut attach: Attach) -> Attach {
        self.names += 1;
        attach.name = format!("qdlink.{}.{}", self.container, self.names);
        attach
    }
}
