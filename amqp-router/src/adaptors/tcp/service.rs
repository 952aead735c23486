//! Services that TCP connections are of: what is counted of them, and places in them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use crate::observers::{Protocol, Watch};
use crate::vanflow::RecordId;

/// What the connections of one `tcpListener` or `tcpConnector` have in common.
#[derive(Debug, Default)]
pub(crate) struct TcpService {
    /// The entity's name.
    pub(crate) name: String,
    /// The address that a connector serves; a listener's connections each have theirs.
    pub(crate) address: String,
    /// Shared with what the entity was before it was updated.
    pub(crate) counts: Arc<TcpCounts>,
    /// A connector's record in telemetry.
    pub(crate) record: Option<RecordId>,
    /// What a listener looks for in the connections that come.
    pub(crate) watch: AtomicU8,
}

impl TcpService {
    pub(crate) fn watch(&self) -> Watch {
        Watch::of_number(self.watch.load(Ordering::Relaxed))
    }

    /// Whether both are of one entity, which may have been updated in between.
    pub(crate) fn is_of(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.counts, &other.counts)
    }

    /// Connections that come from now on are looked at so.
    pub(crate) fn set_watch(&self, watch: Watch) {
        self.watch.store(watch as u8, Ordering::Relaxed);
    }
}

/// What has been counted of a service's connections.
#[derive(Debug, Default)]
pub(crate) struct TcpCounts {
    pub(crate) opened: AtomicU64,
    pub(crate) closed: AtomicU64,
    /// Octets read from its sockets, and written to them; without TLS's own.
    pub(crate) octets_in: AtomicU64,
    pub(crate) octets_out: AtomicU64,
    /// Connections that could not be made, or whose stream found nobody to take it.
    pub(crate) failed: AtomicU64,
    /// Clients that a listener did not let in.
    pub(crate) refused: AtomicU64,
    /// Streams that were not TCP's.
    pub(crate) malformed: AtomicU64,
    /// Clients that are connected, or securing their connection.
    seated: AtomicU64,
    /// Answers of HTTP services, by the first digit of the status: the first is of 1.
    pub(crate) responses: [AtomicU64; 5],
}

/// A client's place among those that a listener may have.
#[derive(Debug)]
pub(crate) struct Seat(Arc<TcpCounts>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.seated.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What TLS has agreed on for a TCP connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TcpTls {
    pub(crate) protocol: &'static str,
    pub(crate) cipher: &'static str,
    /// Bits of the cipher's key.
    pub(crate) strength: u32,
    /// Who the other end is, by its certificate.
    pub(crate) user: Option<String>,
    /// The ordinal of the sslProfile.
    pub(crate) ordinal: u64,
}

impl TcpCounts {
    /// Takes a place for a client. None: there are `most` already; 0 is without limit.
    pub(crate) fn seat(self: &Arc<Self>, most: u64) -> Option<Seat> {
        let before = self.seated.fetch_add(1, Ordering::Relaxed);
        let seat = Seat(Arc::clone(self));
        (most == 0 || before < most).then_some(seat)
    }

    /// A service has answered a request.
    pub(crate) fn responded(&self, status: u16) {
        let class = usize::from(status / 100).checked_sub(1);
        if let Some(count) = class.and_then(|class| self.responses.get(class)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// How many TCP connections are open, by what they have turned out to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Census {
    pub(crate) http1: usize,
    pub(crate) http2: usize,
    pub(crate) other: usize,
}

impl Census {
    pub(crate) fn count(&mut self, protocol: Option<Protocol>) {
        *match protocol {
            Some(Protocol::Http1) => &mut self.http1,
            Some(Protocol::Http2) => &mut self.http2,
            None => &mut self.other,
        } += 1;
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.http1 += other.http1;
        self.http2 += other.http2;
        self.other += other.other;
    }

    pub(crate) fn all(self) -> usize {
        self.http1 + self.http2 + self.other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_given_back() {
        let counts = Arc::<TcpCounts>::default();
        let first = counts.seat(2);
        let second = counts.seat(2);
        assert!(first.is_some() && second.is_some());
        assert!(counts.seat(2).is_none() && counts.seat(2).is_none());
        drop(first);
        assert!(counts.seat(2).is_some(), "and gone again");
        assert!(counts.seat(0).is_some());
    }
}
