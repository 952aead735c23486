//! A client of the router: a connection, and what the program behind it does with its links.

use std::sync::Arc;
use std::time::Instant;

use bytes::BytesMut;
use rand::Rng;
use rand::rngs::StdRng;

use crate::codec::{
    Attach, ReceiverSettleMode, Role, SenderSettleMode, Source, Symbol, Target, TargetNode,
};
use crate::control::table::Treatment;
use crate::endpoint::{Config, Connection, Event, LinkId, SessionId};

use super::ledger::{AddressNo, Gone, Ledger, LinkNo};
use super::receiver::Receiver;
use super::sender::Sender;

#[derive(Debug)]
pub(super) struct Client {
    pub(super) endpoint: Connection,
    pub(super) phase: ClientPhase,
    /// How many sessions it wants.
    wanted_sessions: u16,
    pub(super) sessions: Vec<SessionId>,
    /// Indexed by the token of the link.
    pub(super) links: Vec<Link>,
    /// Places in sessions' windows that it has not let go yet.
    unreleased: Vec<(SessionId, u32)>,
    /// Lets go of places in the window only when it is told to.
    pub(super) lazy: bool,
    pub(super) habit: Habit,
}

/// How a client shares the window of a session among its senders.
///
/// A delivery that has not all arrived can wait for a window that is full of deliveries which wait
/// for it to leave before them. Who streams and shares a small window asks for that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Habit {
    /// The window is large enough for anything.
    Any,
    /// Each session has one sender at most.
    OneSender,
    /// Each message fits one frame.
    SingleFrames,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClientPhase {
    Opening,
    Open,
    Closing,
    Closed,
}

#[derive(Debug)]
pub(super) struct Link {
    pub(super) number: LinkNo,
    pub(super) id: LinkId,
    pub(super) session: SessionId,
    pub(super) phase: LinkPhase,
    pub(super) half: Half,
    /// The router will not have it.
    to_be_refused: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LinkPhase {
    Attaching,
    Attached,
    Gone,
}

#[derive(Debug)]
pub(super) enum Half {
    Sender(Sender),
    Receiver(Receiver),
}

/// What a client needs of the world.
#[derive(Debug)]
pub(super) struct Scope<'a> {
    pub(super) now: Instant,
    pub(super) ledger: &'a mut Ledger,
    pub(super) rng: &'a mut StdRng,
}

/// How a link is to be.
#[derive(Clone, Debug)]
pub(super) struct LinkWish {
    pub(super) role: Role,
    /// None is an anonymous sender, or a receiver with an address of its own.
    pub(super) address: Option<AddressNo>,
    pub(super) snd_settle_mode: SenderSettleMode,
    pub(super) rcv_settle_mode: ReceiverSettleMode,
    pub(super) initial_delivery_count: u32,
    /// The router will not have it.
    pub(super) to_be_refused: bool,
    /// Has what is released tried elsewhere.
    pub(super) resends: bool,
}

impl Client {
    pub(super) fn new(config: Arc<Config>, sessions: u16, now: Instant) -> Self {
        Self {
            endpoint: Connection::client(config, now),
            phase: ClientPhase::Opening,
            wanted_sessions: sessions,
            sessions: Vec::new(),
            links: Vec::new(),
            unreleased: Vec::new(),
            lazy: false,
            habit: Habit::Any,
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.phase == ClientPhase::Open && !self.sessions.is_empty()
    }

    /// Takes in what has arrived and reacts.
    pub(super) fn input(&mut self, scope: &mut Scope<'_>, bytes: BytesMut) {
        self.endpoint.handle_input(bytes, scope.now);
        self.process(scope);
    }

    pub(super) fn eof(&mut self, scope: &mut Scope<'_>) {
        self.endpoint.handle_eof();
        self.process(scope);
    }

    /// Has timers run, if one is due.
    pub(super) fn timers(&mut self, scope: &mut Scope<'_>) {
        if self
            .endpoint
            .poll_timeout()
            .is_some_and(|due| due <= scope.now)
        {
            self.endpoint.handle_timeout(scope.now);
            self.process(scope);
            let next = self.endpoint.poll_timeout();
            assert!(
                next.is_none_or(|next| next > scope.now),
                "a client's timer does not advance"
            );
        }
    }

    pub(super) fn process(&mut self, scope: &mut Scope<'_>) {
        while let Some(event) = self.endpoint.poll_event(scope.now) {
            self.handle(scope, event);
        }
    }

    fn handle(&mut self, scope: &mut Scope<'_>, event: Event) {
        match event {
            Event::Opened => {
                self.phase = ClientPhase::Open;
                for _ in 0..self.wanted_sessions {
                    self.begin();
                }
            }
            Event::Begun(session) => self.sessions.push(session),
            Event::Ended { session, error } => {
                assert_eq!(error, None, "the router ended a session");
                self.sessions.retain(|other| *other != session);
            }
            Event::Attached { token, attach, .. } => self.attached(scope, token, &attach),
            Event::Detached { token, error, .. } => {
                let link = &mut self.links[token as usize];
                if link.phase != LinkPhase::Gone {
                    assert!(
                        link.to_be_refused,
                        "{:?} was detached: {error:?}",
                        link.number
                    );
                    scope.ledger.tally.refused += 1;
                    link.leave(scope, Gone::Properly);
                }
            }
            Event::Transfer(transfer) => {
                let session = transfer.delivery.session;
                let octets = transfer.payload.len() as u32;
                let link = &mut self.links[transfer.token as usize];
                match &mut link.half {
                    Half::Receiver(receiver) if link.phase != LinkPhase::Gone => {
                        receiver.take(scope, link.number, &mut self.endpoint, transfer);
                    }
                    _ => {}
                }
                self.unreleased.push((session, octets));
                if !self.lazy {
                    self.release();
                }
            }
            Event::Updated {
                role: Role::Receiver,
                token,
                session,
                id,
                state,
                settled,
            } => {
                let message = super::ledger::MessageNo(token as usize);
                let sender = scope.ledger.messages[message.0].sender;
                if let Some(sender) = self.sender(sender) {
                    sender.updated(message);
                }
                if settled || state.as_ref().is_some_and(|state| state.is_terminal()) {
                    if !settled {
                        self.endpoint.update_sent(session, id, state.as_ref(), true);
                    }
                    scope.ledger.outcome(message, state);
                }
            }
            Event::Updated {
                role: Role::Sender,
                token,
                settled,
                ..
            } => {
                // Which copy it is may not have arrived yet.
                let Some(copy) = super::ledger::CopyNo::of_token(token) else {
                    return;
                };
                let receiver = scope.ledger.copies[copy.0].receiver;
                if let (true, Some(receiver)) = (settled, self.receiver(receiver)) {
                    receiver.settled(copy);
                }
            }
            Event::Flow { token, .. } => {
                let link = &mut self.links[token as usize];
                match &mut link.half {
                    Half::Sender(sender) => sender.flow(scope, &mut self.endpoint, link.id),
                    Half::Receiver(receiver) => {
                        receiver.flow(scope, self.endpoint.credit(link.id));
                    }
                }
            }
            Event::Window => {}
            Event::Closed { error, local } => {
                let expected = self.phase == ClientPhase::Closing && local.is_none();
                assert!(expected, "a connection was closed: {error:?} {local:?}");
                self.phase = ClientPhase::Closed;
            }
            Event::SaslInit { .. }
            | Event::SaslResponse(_)
            | Event::SaslChosen(_)
            | Event::SaslChallenge(_)
            | Event::SaslSuccess(_)
            | Event::Attach { .. }
            | Event::Refused { .. } => {
                panic!("a router's event came to a client: {event:?}");
            }
        }
    }

    fn attached(&mut self, scope: &mut Scope<'_>, token: u32, attach: &Attach) {
        let link = &mut self.links[token as usize];
        if link.phase == LinkPhase::Gone {
            return;
        }
        let refused = match link.half {
            Half::Sender(_) => attach.target.is_none(),
            Half::Receiver(_) => attach.source.is_none(),
        };
        assert_eq!(
            refused, link.to_be_refused,
            "{:?} got {attach:?}",
            link.number
        );
        if !refused {
            link.phase = LinkPhase::Attached;
            if let Half::Receiver(receiver) = &mut link.half {
                receiver.answered = Some(attach.snd_settle_mode);
            }
            let source = attach.source.as_ref().filter(|source| source.dynamic);
            if let (Half::Receiver(_), Some(source)) = (&link.half, source) {
                let name = source.address.clone().expect("it has been given one");
                let address = scope.ledger.address(name, Treatment::Balanced);
                let record = &mut scope.ledger.links[link.number.0];
                record.address = Some(address);
                scope.ledger.addresses[address.0].presettling = record.presettles;
            }
            scope
                .ledger
                .say(|| format!("{:?} is attached", link.number));
        }
    }

    pub(super) fn begin(&mut self) {
        self.endpoint.begin().expect("a client has few sessions");
    }

    /// Attaches a link to a session; the router will answer.
    pub(super) fn attach(
        &mut self,
        scope: &mut Scope<'_>,
        session: SessionId,
        wish: &LinkWish,
    ) -> LinkNo {
        let presettles =
            wish.role == Role::Receiver && wish.snd_settle_mode == SenderSettleMode::Settled;
        let number = scope
            .ledger
            .link(wish.role == Role::Sender, wish.address, presettles);
        let address = wish
            .address
            .map(|no| scope.ledger.addresses[no.0].name.to_owned());
        scope.ledger.links[number.0].resends = wish.resends;
        scope
            .ledger
            .say(|| format!("{number:?} attaches: {wish:?} {address:?}"));
        let id = self
            .endpoint
            .attach(session, wish.attach(number, address))
            .expect("a client has few links");
        let token = self.links.len() as u32;
        self.endpoint.set_token(id, token);
        let half = match wish.role {
            Role::Sender => Half::Sender(Sender::new(wish.address)),
            Role::Receiver => Half::Receiver(Receiver::default()),
        };
        let to_be_refused = wish.to_be_refused;
        let phase = LinkPhase::Attaching;
        self.links.push(Link {
            number,
            id,
            session,
            phase,
            half,
            to_be_refused,
        });
        number
    }

    /// Detaches a link.
    pub(super) fn detach(&mut self, scope: &mut Scope<'_>, token: usize, closed: bool) {
        let link = &mut self.links[token];
        self.endpoint.detach(link.id, closed, None);
        link.leave(scope, Gone::Properly);
    }

    /// Ends a session and its links.
    pub(super) fn end(&mut self, scope: &mut Scope<'_>, session: SessionId) {
        scope.ledger.say(|| format!("{session:?} ends"));
        self.endpoint.end(session, None);
        self.sessions.retain(|other| *other != session);
        self.unreleased.retain(|(other, _)| *other != session);
        for link in self.links.iter_mut().filter(|link| link.session == session) {
            link.leave(scope, Gone::Properly);
        }
    }

    /// Closes the connection.
    pub(super) fn close(&mut self, scope: &mut Scope<'_>) {
        scope.ledger.say(|| "a client closes".to_owned());
        self.phase = ClientPhase::Closing;
        self.endpoint.close(None, scope.now);
        self.leave(scope, Gone::Properly);
    }

    /// All links are gone.
    pub(super) fn leave(&mut self, scope: &mut Scope<'_>, gone: Gone) {
        for link in &mut self.links {
            link.leave(scope, gone);
        }
        self.unreleased.clear();
        self.sessions.clear();
    }

    /// Lets go of the places in the window that it holds.
    pub(super) fn release(&mut self) {
        for (session, octets) in self.unreleased.drain(..) {
            self.endpoint.release_window(session, 1, octets);
        }
    }

    /// Links that are attached, of either kind.
    pub(super) fn attached_links(&self, role: Role) -> Vec<usize> {
        let is_wanted = |link: &Link| {
            link.phase == LinkPhase::Attached
                && matches!(link.half, Half::Sender(_)) == (role == Role::Sender)
        };
        (0..self.links.len())
            .filter(|&token| is_wanted(&self.links[token]))
            .collect()
    }

    pub(super) fn has_sender(&self, session: SessionId) -> bool {
        self.links.iter().any(|link| {
            link.session == session
                && link.phase != LinkPhase::Gone
                && matches!(link.half, Half::Sender(_))
        })
    }

    pub(super) fn token(&self, number: LinkNo) -> Option<usize> {
        self.links.iter().position(|link| link.number == number)
    }

    pub(super) fn sender(&mut self, number: LinkNo) -> Option<&mut Sender> {
        let token = self.token(number)?;
        match &mut self.links[token].half {
            Half::Sender(sender) => Some(sender),
            Half::Receiver(_) => None,
        }
    }

    pub(super) fn receiver(&mut self, number: LinkNo) -> Option<&mut Receiver> {
        let token = self.token(number)?;
        match &mut self.links[token].half {
            Half::Receiver(receiver) => Some(receiver),
            Half::Sender(_) => None,
        }
    }

    /// A link with the connection that it uses, as a sender.
    pub(super) fn sending(
        &mut self,
        token: usize,
    ) -> (LinkNo, LinkId, &mut Sender, &mut Connection) {
        let link = &mut self.links[token];
        match &mut link.half {
            Half::Sender(sender) => (link.number, link.id, sender, &mut self.endpoint),
            Half::Receiver(_) => panic!("{:?} is a receiver", link.number),
        }
    }

    /// A link with the connection that it uses, as a receiver.
    pub(super) fn receiving(&mut self, token: usize) -> (LinkId, &mut Receiver, &mut Connection) {
        let link = &mut self.links[token];
        match &mut link.half {
            Half::Receiver(receiver) => (link.id, receiver, &mut self.endpoint),
            Half::Sender(_) => panic!("{:?} is a sender", link.number),
        }
    }
}

impl Link {
    fn leave(&mut self, scope: &mut Scope<'_>, gone: Gone) {
        if self.phase != LinkPhase::Gone {
            self.phase = LinkPhase::Gone;
            scope.ledger.link_gone(self.number, gone);
            if let Half::Sender(sender) = &mut self.half {
                sender.leave();
            }
        }
    }
}

impl LinkWish {
    pub(super) fn sender(address: Option<AddressNo>) -> Self {
        Self {
            role: Role::Sender,
            address,
            snd_settle_mode: SenderSettleMode::Mixed,
            rcv_settle_mode: ReceiverSettleMode::First,
            initial_delivery_count: 0,
            to_be_refused: false,
            resends: false,
        }
    }

    pub(super) fn receiver(address: AddressNo) -> Self {
        Self {
            role: Role::Receiver,
            ..Self::sender(Some(address))
        }
    }

    /// A receiver whose address the router is to make up.
    pub(super) fn dynamic_receiver() -> Self {
        Self {
            role: Role::Receiver,
            ..Self::sender(None)
        }
    }

    /// With settle modes and counts that a client may well choose.
    pub(super) fn varied(mut self, rng: &mut StdRng) -> Self {
        self.initial_delivery_count = u32::MAX.wrapping_add(rng.random_range(0..5));
        if rng.random_bool(0.2) {
            self.rcv_settle_mode = ReceiverSettleMode::Second;
        }
        self.resends = self.role == Role::Sender && rng.random_bool(0.3);
        if self.role == Role::Receiver {
            self.snd_settle_mode = match rng.random_range(0..20) {
                0 => SenderSettleMode::Settled,
                1 | 2 => SenderSettleMode::Unsettled,
                _ => SenderSettleMode::Mixed,
            };
        }
        self
    }

    fn attach(&self, number: LinkNo, address: Option<String>) -> Attach {
        let is_sender = self.role == Role::Sender;
        let near = Some(format!("client {}", number.0));
        let (source, target) = if is_sender {
            (near, address)
        } else {
            (address, near)
        };
        Attach {
            name: number.0.to_string(),
            role: self.role,
            snd_settle_mode: self.snd_settle_mode,
            rcv_settle_mode: self.rcv_settle_mode,
            source: Some(Source {
                dynamic: !is_sender && source.is_none(),
                address: source,
                ..Source::default()
            }),
            target: Some(Target::Node(TargetNode {
                address: target,
                capabilities: match self.resends {
                    true => vec![Symbol::from_static("qd.resend-released")],
                    false => Vec::new(),
                },
                ..TargetNode::default()
            })),
            initial_delivery_count: is_sender.then_some(self.initial_delivery_count),
            ..Attach::default()
        }
    }
}
