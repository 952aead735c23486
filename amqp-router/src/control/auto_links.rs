//! Auto links: links that this router attaches to brokers and other containers, as `autoLink`
//! entities ask for (`reference/router/config-and-management.md` §2).
//!
//! A connection with the role `route-container` is one to somebody who has addresses of their own,
//! one with the role `inter-network` leads to a router of another network
//! (`reference/router/inter-router-protocol.md` §8), which may take the same links.
//! Where an auto link names its container, or the connector or listener that it came by, the router
//! attaches a link there: a receiver for the direction `in`, whose messages enter the network here, or a
//! sender for `out`, which is a receiver of its address to everyone else. One that is refused, or
//! detached by the peer, is tried again 2 seconds later, and every 5 seconds after that.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::fmt;
use std::time::{Duration, Instant};

use crate::codec::{Attach, Error, Role, Source, Target, TargetNode};
use crate::control::links::{
    Command, Control, Filed, LeadsTo, LinkKind, Loss, Recipient, USUAL_PRIORITY,
};
use crate::control::network::Opened;
use crate::control::role::Role as ConnectionRole;
use crate::control::table::{AddressId, Direction, LinkRef, Treatment, WorkerId};
use crate::control::trunk::{RouterLink, Ticket};

/// All auto links of a router, and the connections that they may be on.
#[derive(Debug, Default)]
pub(super) struct AutoLinks {
    links: BTreeMap<String, AutoLink>,
    /// Connections to containers that are open.
    containers: BTreeMap<u64, Container>,
    /// Attaches that are not answered yet: of which auto link, on which connection.
    asked: HashMap<Ticket, (String, u64)>,
    attached: HashMap<LinkRef, (String, u64)>,
    /// When to try again.
    retries: BTreeSet<(Instant, String, u64)>,
    notices: VecDeque<AutoLinkNotice>,
}

/// What an `autoLink` entity says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AutoLinkRule {
    /// Unique among auto links.
    pub(crate) name: String,
    /// `Incoming`: messages come from the container.
    pub(crate) direction: Direction,
    /// The address in the network. None: each message's own.
    pub(crate) address: Option<String>,
    /// The container's name for it, if that is another.
    pub(crate) external: Option<String>,
    pub(crate) peer: Peer,
}

/// Which connections an auto link is on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    /// Those whose peer has this container-id.
    Container(String),
    /// Those that the connector or listener of this name has made.
    Connection(String),
    /// None: the entity does not say.
    Nobody,
}

#[derive(Debug)]
struct AutoLink {
    rule: AutoLinkRule,
    /// By connection.
    attempts: BTreeMap<u64, Attempt>,
    last_error: Option<String>,
}

#[derive(Debug)]
struct Attempt {
    state: State,
    /// It has failed on this connection before.
    again: bool,
}

#[derive(Debug)]
enum State {
    Attaching(Ticket),
    Active(LinkRef),
    Failed { retry: Instant },
}

#[derive(Debug)]
struct Container {
    worker: WorkerId,
    name: String,
    /// The connector or listener that it came by.
    way: Option<String>,
}

/// How an auto link is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AutoLinkStatus {
    pub(crate) state: &'static str,
    /// The number of its link.
    pub(crate) link: Option<u64>,
    pub(crate) last_error: Option<String>,
}

/// What an operator wants to read of an auto link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AutoLinkNotice {
    Activated { link: String, on: String },
    Deactivated { link: String, on: String },
    Failed { link: String, error: String },
}

impl fmt::Display for AutoLinkNotice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Activated { link, on } => write!(f, "Auto Link Activated '{link}' on {on}"),
            Self::Deactivated { link, on } => write!(f, "Auto Link Deactivated '{link}' on {on}"),
            Self::Failed { link, error } => {
                write!(f, "Auto Link Activation Failed. {error} '{link}'")
            }
        }
    }
}

impl AutoLinkRule {
    fn is_on(&self, container: &Container) -> bool {
        match &self.peer {
            Peer::Container(name) => *name == container.name,
            Peer::Connection(name) => Some(name) == container.way.as_ref(),
            Peer::Nobody => false,
        }
    }

    fn attach(&self) -> Attach {
        let name = self.external.clone().or_else(|| self.address.clone());
        let (mut source, mut target) = (Source::default(), TargetNode::default());
        let role = match self.direction {
            Direction::Incoming => {
                source.address = name;
                Role::Receiver
            }
            Direction::Outgoing => {
                target.address = name;
                Role::Sender
            }
        };
        Attach {
            role,
            source: Some(source),
            target: Some(Target::Node(target)),
            ..Attach::default()
        }
    }

    fn on(&self) -> String {
        match &self.peer {
            Peer::Container(name) => format!("container {name}"),
            Peer::Connection(name) => format!("connection {name}"),
            Peer::Nobody => "no connection".into(),
        }
    }
}

impl AutoLinks {
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.retries.first().map(|(due, ..)| *due)
    }

    fn attempt(&mut self, name: &str, connection: u64) -> Option<&mut Attempt> {
        self.links.get_mut(name)?.attempts.get_mut(&connection)
    }

    /// Forgets what was to happen on a connection; says which link there is.
    fn forget(&mut self, name: &str, connection: u64) -> Option<LinkRef> {
        let link = self.links.get_mut(name)?;
        let attempt = link.attempts.remove(&connection)?;
        match attempt.state {
            State::Attaching(ticket) => {
                self.asked.remove(&ticket);
                None
            }
            State::Failed { retry } => {
                self.retries.remove(&(retry, name.to_owned(), connection));
                None
            }
            State::Active(link) => {
                self.attached.remove(&link);
                Some(link)
            }
        }
    }

    /// An attempt has failed: it is to be tried again.
    fn failed(&mut self, name: &str, connection: u64, error: Option<&Error>, now: Instant) {
        let Some(link) = self.links.get_mut(name) else {
            return;
        };
        let Some(attempt) = link.attempts.get_mut(&connection) else {
            return;
        };
        let delay = if attempt.again { LATER } else { FIRST };
        let retry = now + delay;
        attempt.state = State::Failed { retry };
        attempt.again = true;
        self.retries.insert((retry, name.to_owned(), connection));
        let text = error.map_or_else(
            || "The peer has detached the link.".to_owned(),
            |error| {
                error
                    .description
                    .clone()
                    .unwrap_or_else(|| error.condition.to_string())
            },
        );
        if link.last_error.as_ref() != Some(&text) {
            self.notices.push_back(AutoLinkNotice::Failed {
                link: name.to_owned(),
                error: text.clone(),
            });
        }
        link.last_error = Some(text);
    }
}

impl Control {
    /// Attaches a link wherever `rule` says, from now on. Does nothing if there is one of that name.
    pub(crate) fn add_auto_link(&mut self, rule: AutoLinkRule) {
        let name = rule.name.clone();
        if self.auto_links.links.contains_key(&name) {
            return;
        }
        let on: Vec<u64> = (self.auto_links.containers.iter())
            .filter(|(_, container)| rule.is_on(container))
            .map(|(connection, _)| *connection)
            .collect();
        let nobody = "neither 'containerId' nor 'connection' says whom to attach it to";
        let link = AutoLink {
            last_error: (rule.peer == Peer::Nobody).then(|| nobody.to_owned()),
            rule,
            attempts: BTreeMap::new(),
        };
        self.auto_links.links.insert(name.clone(), link);
        for connection in on {
            self.attempt_auto_link(&name, connection);
        }
    }

    /// Detaches the links of an auto link, and forgets it.
    pub(crate) fn remove_auto_link(&mut self, name: &str) {
        let Some(link) = self.auto_links.links.get(name) else {
            return;
        };
        let on = link.rule.on();
        for connection in link.attempts.keys().copied().collect::<Vec<_>>() {
            if let Some(link) = self.auto_links.forget(name, connection) {
                self.detach_own(link);
                self.auto_links
                    .notices
                    .push_back(AutoLinkNotice::Deactivated {
                        link: name.to_owned(),
                        on: on.clone(),
                    });
            }
        }
        self.auto_links.links.remove(name);
    }

    pub(crate) fn auto_link_count(&self) -> usize {
        self.auto_links.links.len()
    }

    /// How an auto link is doing: of several connections, on that where it does best.
    pub(crate) fn auto_link(&self, name: &str) -> Option<AutoLinkStatus> {
        let link = self.auto_links.links.get(name)?;
        let best = link
            .attempts
            .values()
            .max_by_key(|attempt| match attempt.state {
                State::Failed { .. } => 0,
                State::Attaching(_) => 1,
                State::Active(_) => 2,
            });
        let (state, reference) = match best.map(|attempt| &attempt.state) {
            None => ("inactive", None),
            Some(State::Failed { .. }) => ("failed", None),
            Some(State::Attaching(_)) => ("attaching", None),
            Some(State::Active(link)) => ("active", Some(link)),
        };
        Some(AutoLinkStatus {
            state,
            link: reference.and_then(|link| self.link_number(link)),
            last_error: link.last_error.clone(),
        })
    }

    /// Something about auto links that an operator wants to read.
    pub(crate) fn poll_auto_link_notice(&mut self) -> Option<AutoLinkNotice> {
        self.auto_links.notices.pop_front()
    }

    /// A connection has been opened, which may be to a container.
    pub(super) fn container_opened(&mut self, opened: &Opened) {
        if !opened.role.is_container() {
            return;
        }
        let container = Container {
            worker: opened.worker,
            name: opened.container.clone(),
            way: opened.connector.clone().or_else(|| opened.listener.clone()),
        };
        let links = self.auto_links.links.values();
        let names: Vec<String> = links
            .filter(|link| link.rule.is_on(&container))
            .map(|link| link.rule.name.clone())
            .collect();
        self.auto_links
            .containers
            .insert(opened.connection, container);
        for name in names {
            self.attempt_auto_link(&name, opened.connection);
        }
    }

    /// A connection is gone, and all its links before it.
    pub(super) fn container_closed(&mut self, connection: u64) {
        if self.auto_links.containers.remove(&connection).is_none() {
            return;
        }
        let names: Vec<String> = (self.auto_links.links.values())
            .filter(|link| link.attempts.contains_key(&connection))
            .map(|link| link.rule.name.clone())
            .collect();
        for name in names {
            self.auto_links.forget(&name, connection);
        }
    }

    fn attempt_auto_link(&mut self, name: &str, connection: u64) {
        let ticket = self.take_ticket();
        let auto = &mut self.auto_links;
        let (Some(link), Some(container)) =
            (auto.links.get_mut(name), auto.containers.get(&connection))
        else {
            return;
        };
        let attempt = link.attempts.entry(connection).or_insert(Attempt {
            state: State::Attaching(ticket),
            again: false,
        });
        attempt.state = State::Attaching(ticket);
        auto.asked.insert(ticket, (name.to_owned(), connection));
        let command = Command::Attach {
            connection,
            ticket,
            attach: Box::new(link.rule.attach()),
        };
        let recipient = Recipient::Worker(container.worker);
        self.commands.push_back((recipient, command));
    }

    /// A container has accepted a link. False if it is no auto link's.
    pub(super) fn auto_link_attached(
        &mut self,
        ticket: Ticket,
        link: &RouterLink,
        now: Instant,
    ) -> bool {
        let Some((name, connection)) = self.auto_links.asked.remove(&ticket) else {
            return false;
        };
        let Some(rule) = self
            .auto_links
            .links
            .get(&name)
            .map(|link| link.rule.clone())
        else {
            return false;
        };
        let address = match rule.address.as_deref().map(|name| self.auto_address(name)) {
            None => None,
            Some(Ok(address)) => Some(address),
            Some(Err(error)) => {
                self.detach_own(link.link);
                self.auto_links.failed(&name, connection, Some(&error), now);
                return true;
            }
        };
        self.file(Filed {
            prompt: false,
            link: link.link,
            connection,
            role: ConnectionRole::RouteContainer,
            name: link.name.clone(),
            capacity: link.capacity,
            load: link.load.clone(),
            address,
            kind: LinkKind::Endpoint,
            priority: USUAL_PRIORITY,
        });
        if rule.direction == Direction::Incoming {
            let command = Command::Open {
                link: link.link,
                leads_to: address.map_or(LeadsTo::EachMessage, LeadsTo::Address),
                address: rule.address.clone(),
            };
            let recipient = Recipient::Worker(link.link.worker);
            self.commands.push_back((recipient, command));
        }
        let auto = &mut self.auto_links;
        auto.attached.insert(link.link, (name.clone(), connection));
        if let Some(attempt) = auto.attempt(&name, connection) {
            attempt.state = State::Active(link.link);
        }
        let on = rule.on();
        auto.notices
            .push_back(AutoLinkNotice::Activated { link: name, on });
        true
    }

    /// A container has refused a link, or it could not be asked.
    pub(crate) fn not_attached(&mut self, ticket: Ticket, error: Option<&Error>, now: Instant) {
        if let Some((name, connection)) = self.auto_links.asked.remove(&ticket) {
            self.auto_links.failed(&name, connection, error, now);
        }
    }

    /// A link is gone, which may be an auto link's.
    pub(super) fn auto_link_lost(&mut self, link: LinkRef, loss: &Loss, now: Instant) {
        // What is lost with its connection is forgotten when that is closed.
        let Loss::Detached(error) = loss else { return };
        if let Some((name, connection)) = self.auto_links.attached.remove(&link) {
            let error = error.as_ref();
            self.auto_links.failed(&name, connection, error, now);
        }
    }

    pub(super) fn retry_auto_links(&mut self, now: Instant) {
        while let Some((due, name, connection)) = self.auto_links.retries.pop_first() {
            if due > now {
                self.auto_links.retries.insert((due, name, connection));
                return;
            }
            self.attempt_auto_link(&name, connection);
        }
    }

    /// The address of an auto link. One that is unavailable to clients is not to its broker.
    fn auto_address(&mut self, name: &str) -> Result<AddressId, Error> {
        self.may_receive(name)?;
        let key = self.identity.key(name);
        let treatment = match self.rule(&key).treatment {
            Treatment::Unavailable => Treatment::Balanced,
            treatment => treatment,
        };
        Ok(self.find_or_make(key, treatment))
    }
}

/// How long after a first failure to try again, and after later ones.
const FIRST: Duration = Duration::from_secs(2);
const LATER: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests;
