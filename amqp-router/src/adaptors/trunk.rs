//! The sessions and links that this router makes on a connection to another router
//! (`reference/router/inter-router-protocol.md` §2), to a container, or to a client that takes
//! links for messages that are not complete.

use crate::codec::{Attach, Role, SenderSettleMode, Source, Symbol, Target, TargetNode};
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
    streams: Session,
    /// What their termini can do.
    stream_capabilities: Vec<Symbol>,
    /// Where this router attaches links for itself, once the peer has begun it too.
    proxies: Session,
    /// Links that wait for that.
    waiting: Vec<(Ticket, Attach)>,
    /// This router's id, which tells its links' names from those that the neighbour gives: a name
    /// belongs to both ends (AMQP 2.6.1).
    container: String,
    names: u64,
}

/// A session for links of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Session {
    #[default]
    None,
    /// It begins with the first of them, again if it has ended.
    Late(Option<SessionId>),
    Begun(SessionId),
}

impl Session {
    fn get(&mut self, endpoint: &mut Connection) -> Result<SessionId, LimitReached> {
        match self {
            Self::None => Err(LimitReached::NoSession),
            Self::Begun(session) | Self::Late(Some(session)) => Ok(*session),
            Self::Late(late) => Ok(*late.insert(endpoint.begin()?)),
        }
    }

    fn is(self, session: SessionId) -> bool {
        self == Self::Begun(session) || self == Self::Late(Some(session))
    }

    fn ended(&mut self, session: SessionId) {
        if let Self::Late(late) = self {
            late.take_if(|late| *late == session);
        }
    }
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
        trunk.streams = Session::Begun(endpoint.begin()?);
        Ok(trunk)
    }

    /// Begins the session of a connection for messages that take long.
    pub(crate) fn begin_data(endpoint: &mut Connection) -> Result<Self, LimitReached> {
        let session = endpoint.begin()?;
        Ok(Self {
            container: endpoint.config().container_id.clone(),
            proxies: Session::Begun(session),
            streams: Session::Begun(session),
            ..Self::default()
        })
    }

    /// Begins the sessions of a connection of an edge router: to an interior router, where the edge
    /// router attaches links for itself, or to another edge router, where both do.
    pub(crate) fn begin_edge(
        endpoint: &mut Connection,
        attaches: bool,
    ) -> Result<Self, LimitReached> {
        let proxies = match attaches {
            true => Session::Begun(endpoint.begin()?),
            false => Session::None,
        };
        Ok(Self {
            container: endpoint.config().container_id.clone(),
            proxies,
            streams: Session::Begun(endpoint.begin()?),
            ..Self::default()
        })
    }

    /// A connection to a container, where this router attaches links for itself on a session that
    /// begins with the first of them, or to a client. Either may take links for incomplete messages,
    /// but need not have a session to spare for them.
    pub(crate) fn to_client(
        endpoint: &mut Connection,
        takes_streams: bool,
        is_container: bool,
    ) -> Self {
        let streams = takes_streams.then(|| endpoint.begin().ok());
        Self {
            container: endpoint.config().container_id.clone(),
            streams: streams.flatten().map_or(Session::None, Session::Begun),
            proxies: match is_container {
                true => Session::Late(None),
                false => Session::None,
            },
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
        let session = self.proxies.get(endpoint)?;
        if endpoint.is_mapped(session) {
            return Ok(Some((session, attach)));
        }
        self.waiting.push((ticket, attach));
        Ok(None)
    }

    /// A session is gone, and its links before it; returns those that were to be attached there.
    pub(crate) fn ended(&mut self, session: SessionId) -> Vec<(Ticket, Attach)> {
        let waiting = self.take_waiting(session);
        self.proxies.ended(session);
        waiting
    }

    /// The links that have waited for a session which has begun now.
    pub(crate) fn take_waiting(&mut self, session: SessionId) -> Vec<(Ticket, Attach)> {
        match self.proxies.is(session) {
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

    /// The peer takes no links for incomplete messages after all.
    pub(crate) fn end_streams(&mut self) {
        self.streams = Session::None;
    }

    /// Attaches a link for an incomplete message.
    pub(crate) fn open_stream(
        &mut self,
        endpoint: &mut Connection,
        presettled: bool,
    ) -> Result<(SessionId, LinkId), LimitReached> {
        let session = self.streams.get(endpoint)?;
        let mut attach = self.attach_with(Role::Sender, self.stream_capabilities.clone());
        if presettled {
            attach.snd_settle_mode = SenderSettleMode::Settled;
        }
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
