//! The sessions and links of a connection between routers
//! (`reference/router/inter-router-protocol.md` §2).

use crate::codec::{Attach, Role, Source, Symbol, Target, TargetNode};
use crate::control::role::{control_capability, data_capability};
use crate::control::topology::PRIORITIES;
use crate::control::trunk::Purpose;
use crate::endpoint::{Connection, LimitReached, LinkId, SessionId};

/// The sessions of a connection between routers, and the links that wait for their peer's answer.
#[derive(Debug, Default)]
pub(crate) struct Trunk {
    /// Sessions that the peer has not begun yet, and what they are for.
    beginning: Vec<(SessionId, Purpose)>,
    attaching: Vec<(LinkId, Purpose)>,
    /// Where links for incomplete messages are attached.
    streams: Option<SessionId>,
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
            Purpose::Data(_) | Purpose::Stream => data_capability(),
        };
        self.attach_with(role, vec![capability])
    }

    /// Attaches a link for an incomplete message.
    pub(crate) fn open_stream(
        &mut self,
        endpoint: &mut Connection,
    ) -> Result<(SessionId, LinkId), LimitReached> {
        let session = self.streams.ok_or(LimitReached::NoSession)?;
        let attach = self.attach_with(Role::Sender, vec![data_capability()]);
        Ok((session, endpoint.attach(session, attach)?))
    }

    fn attach_with(&mut self, role: Role, capabilities: Vec<Symbol>) -> Attach {
        self.names += 1;
        Attach {
            name: format!("qdlink.{}.{}", self.container, self.names),
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
        }
    }
}
