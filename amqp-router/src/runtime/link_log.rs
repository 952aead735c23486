//! What the log says of links that come and go, of what comes by them, and of sessions that fail.

use std::time::Instant;

use tracing::{Level, debug, enabled, info};

use crate::codec::{Attach, Error, Role, Target};
use crate::control::links::{Link, Loss};
use crate::control::table::{Direction, LinkRef};
use crate::forwarding::stats::Trouble;
use crate::policy::shown;
use crate::runtime::service::Service;

impl Service {
    pub(super) fn log_attached(&self, link: LinkRef) {
        if !enabled!(target: "ROUTER_CORE", Level::DEBUG) {
            return;
        }
        if let Some(link) = self.control.filed(link) {
            let (conn, id) = (link.connection, link.id);
            debug!(target: "ROUTER_CORE", conn, link = id, "Link attached: {}", self.described(link));
        }
    }

    /// The end of one link alone, for a reason, is news; others go with what is told anyway.
    pub(super) fn log_detached(&mut self, link: LinkRef, loss: &Loss, closed: bool, now: Instant) {
        let error = match loss {
            Loss::Detached(error) => error.as_ref().filter(|_| closed),
            Loss::Connection => None,
        };
        if error.is_none() && !enabled!(target: "ROUTER_CORE", Level::DEBUG) {
            return;
        }
        let Some(link) = self.control.filed(link) else {
            return;
        };
        let (conn, id) = (link.connection, link.id);
        let text = self.described(link);
        let end = error.and_then(|_| self.tell_fault(conn, now));
        match (error, end) {
            (Some(error), Some(end)) => {
                let error = shown(&error.to_string());
                info!(target: "ROUTER_CORE", conn, link = id, "Link detached: {text} ({error}){end}");
            }
            _ => debug!(target: "ROUTER_CORE", conn, link = id, "Link detached: {text}"),
        }
    }

    pub(super) fn log_session_failed(&mut self, conn: u64, error: &Error, now: Instant) {
        if let Some(end) = self.tell_fault(conn, now) {
            let error = shown(&error.to_string());
            info!(target: "ROUTER_CORE", conn, "Session ended: {error}{end}");
        }
    }

    /// A message came that cannot be read: of each link, the first.
    pub(super) fn log_malformed(&mut self, conn: u64, what: &str, now: Instant) {
        if let Some(end) = self.tell_fault(conn, now) {
            info!(target: "MESSAGE", conn, "Message rejected: {what}{end}");
        }
    }

    /// A link that was not to be, whoever decided so; what policy denies is told of elsewhere.
    pub(super) fn log_refused(&mut self, conn: u64, attach: &Attach, error: &Error, now: Instant) {
        if let Some(end) = self.tell_fault(conn, now) {
            let text = asked(attach);
            let error = shown(&error.to_string());
            info!(target: "ROUTER_CORE", conn, "Link refused: {text} ({error}){end}");
        }
    }

    /// A link that does not get on. Tools look for how these lines begin.
    pub(super) fn log_trouble(&mut self, conn: u64, link: LinkRef, trouble: Trouble, now: Instant) {
        let Some(link) = self.control.filed(link) else {
            return;
        };
        let (id, text) = (link.id, self.described(link));
        if let Some(end) = self.tell_fault(conn, now) {
            match trouble {
                Trouble::Stuck(seconds) => {
                    info!(target: "ROUTER_CORE", conn, link = id, "Stuck delivery: {text} has some that wait to leave or to be settled for {seconds} s or longer{end}");
                }
                Trouble::Blocked(seconds) => {
                    info!(target: "ROUTER_CORE", conn, link = id, "Link blocked with zero credit for {seconds} seconds: {text}{end}");
                }
            }
        }
    }

    /// What a line of one more fault of a connection ends with; a peer that does nothing else must
    /// not fill the log.
    fn tell_fault(&mut self, connection: u64, now: Instant) -> Option<&'static str> {
        match self.connections.get_mut(&connection) {
            Some(row) => row.faults_told.tell(now),
            // A program in this process.
            None => Some(""),
        }
    }

    fn described(&self, link: &Link) -> String {
        let dir = match link.reference.direction {
            Direction::Incoming => "in",
            Direction::Outgoing => "out",
        };
        let address = link.address.and_then(|id| self.control.address(id));
        let address = address.map_or("(any)", |address| address.entry.key.text());
        let name = link.name.escape_debug();
        format!("dir={dir} name={name} address={}", address.escape_debug())
    }
}

/// What a peer wanted of us.
fn asked(attach: &Attach) -> String {
    let (dir, address, none) = match attach.role {
        Role::Sender => {
            let target = attach.target.as_ref();
            let none = match target {
                Some(Target::Coordinator(_)) => "(coordinator)",
                Some(Target::Node(_)) => "(any)",
                None => "(none)",
            };
            ("in", target.and_then(Target::address), none)
        }
        Role::Receiver => {
            let source = attach.source.as_ref();
            let address = source.and_then(|source| source.address.as_deref());
            ("out", address, "(none)")
        }
    };
    let name = shown(&attach.name);
    let address = address.map_or_else(|| none.to_owned(), shown);
    format!("dir={dir} name={name} address={address}")
}
