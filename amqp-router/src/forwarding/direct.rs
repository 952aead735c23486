//! Deliveries that are no more than a way from one connection to another.

use super::Forwarder;
use crate::control::table::Slot;
use crate::forwarding::wire::Terminal;

impl Forwarder {
    /// Where all goes that arrives on a link, at once and unchanged: the one copy of the delivery
    /// that is arriving leaves by a link of this worker, it has begun to leave, and none of it
    /// waits here.
    pub(crate) fn direct(&self, link: Slot) -> Option<Terminal> {
        let delivery = self.incoming.get(link)?.current?;
        let [copy] = &self.inbound[delivery].copies[..] else {
            return None;
        };
        let outbound = self.outbound.get(copy.outbound?)?;
        let flows = outbound.number.is_some() && outbound.body.is_empty();
        let lasts = !outbound.aborted && !copy.closed;
        (flows && lasts).then(|| self.outgoing[outbound.link].terminal)
    }
}
