//! What the log says of links that come and go.

use tracing::{Level, debug, enabled, info};

use crate::control::links::{Link, Loss};
use crate::control::table::{Direction, LinkRef};
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
    pub(super) fn log_detached(&self, link: LinkRef, loss: &Loss, closed: bool) {
        let error = match loss {
            Loss::Detached(error) => error.as_ref(),
            Loss::Connection => None,
        };
        let is_news = closed && error.is_some();
        if !is_news && !enabled!(target: "ROUTER_CORE", Level::DEBUG) {
            return;
        }
        let Some(link) = self.control.filed(link) else {
            return;
        };
        let (conn, id) = (link.connection, link.id);
        let text = self.described(link);
        match error.filter(|_| is_news) {
            Some(error) => {
                info!(target: "ROUTER_CORE", conn, link = id, "Link detached: {text} ({error})");
            }
            None => debug!(target: "ROUTER_CORE", conn, link = id, "Link detached: {text}"),
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
