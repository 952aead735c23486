//! What forwarding reads of a message: the sections before the bare message and, on anonymous
//! links, the address in its properties. Nothing else is looked at, and nothing is re-encoded but
//! a header whose time to live has run.

use std::ops::Range;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};

use crate::codec::{MessageView, Progress};

/// The least that a header can say of it.
const LEAST_TIME_TO_LIVE: Duration = Duration::from_millis(1);

/// Bytes of leading sections that are kept while they are incomplete.
pub(super) const MAX_SECTIONS: usize = 32 * 1024;

/// What the start of a message says.
#[derive(Debug)]
pub(super) enum Inspected {
    Decided {
        /// Sections to take out.
        strip: Option<Strip>,
        priority: Option<u8>,
        time_to_live: Option<Duration>,
        /// The address in its properties, if it was asked for.
        to: Option<String>,
    },
    NeedMore,
    Malformed,
}

/// Sections that do not go on to the next hop.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Strip {
    ranges: [Range<usize>; 2],
}

impl Inspected {
    /// Of a message whose format is not known.
    pub(super) fn opaque() -> Self {
        Self::Decided {
            strip: None,
            priority: None,
            time_to_live: None,
            to: None,
        }
    }
}

impl Strip {
    /// The message without those sections.
    pub(super) fn apply(&self, payload: &Bytes) -> Bytes {
        let mut kept = BytesMut::with_capacity(payload.len());
        let mut at = 0;
        for range in &self.ranges {
            kept.extend_from_slice(&payload[at..range.start.max(at)]);
            at = range.end.max(at);
        }
        kept.extend_from_slice(&payload[at..]);
        kept.freeze()
    }
}

/// Whether a message starts with what forwarding has no interest in: message annotations, a part
/// of the bare message, or octets that are no section at all, which some clients send to others
/// that know what to make of them, and which skrouterd passes on, too.
pub(super) fn is_plain(payload: &[u8]) -> bool {
    matches!(payload, [0x00, 0x53, 0x72..=0x78, ..] | [0x01..=0xff, ..])
}

/// Reads what forwarding must know, from as much of a message as there is: `more` may follow.
pub(super) fn inspect(payload: &[u8], more: bool, with_address: bool) -> Inspected {
    if payload.is_empty() {
        return Inspected::NeedMore;
    }
    let view = match MessageView::parse_part(payload, !more) {
        Progress::Complete(view) => view,
        Progress::NeedMore => return Inspected::NeedMore,
        Progress::Malformed => return Inspected::Malformed,
    };
    let header = view.header();
    let to = if with_address {
        match view.to() {
            Progress::Complete(to) => to.map(str::to_owned),
            Progress::NeedMore => return Inspected::NeedMore,
            Progress::Malformed => return Inspected::Malformed,
        }
    } else {
        None
    };
    Inspected::Decided {
        strip: strip(view.router_annotations(), view.delivery_annotations()),
        priority: header.map(|header| header.priority),
        // Clients that mean no limit write 0, and other routers take it so.
        time_to_live: header
            .and_then(|header| header.ttl)
            .filter(|ttl| !ttl.is_zero()),
        to,
    }
}

fn strip(first: Option<Range<usize>>, second: Option<Range<usize>>) -> Option<Strip> {
    match (first, second) {
        (None, None) => None,
        (first, second) => Some(Strip {
            ranges: [first.unwrap_or(0..0), second.unwrap_or(0..0)],
        }),
    }
}

/// The first frame of a message with its time to live shortened by the time it has waited
/// (AMQP 3.2.1). Some is left as long as it goes on: 0 would be no limit.
pub(super) fn age(payload: &Bytes, waited: Duration) -> Bytes {
    let Progress::Complete(view) = MessageView::parse_whole(payload) else {
        return payload.clone();
    };
    let (Some(header), Some(range)) = (view.header(), view.header_range()) else {
        return payload.clone();
    };
    let mut header = *header;
    header.ttl = header
        .ttl
        .map(|ttl| ttl.saturating_sub(waited).max(LEAST_TIME_TO_LIVE));
    let mut aged = BytesMut::with_capacity(payload.len() + 8);
    aged.put_slice(&payload[..range.start]);
    header.encode(&mut aged);
    aged.put_slice(&payload[range.end..]);
    aged.freeze()
}
