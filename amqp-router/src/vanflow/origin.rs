//! Where the numbers of records come from, and how many records of connections there may be.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use super::identity::{Identity, RecordId, Source};

/// What a router's threads share so that each can name records, and none makes too many.
///
/// The number of *discretionary* records, those of connections and requests, is bounded: at
/// [`MOST`](Self::MOST) no more are made until [`ENOUGH`](Self::ENOUGH) are left
/// (`reference/router/vanflow.md` §4). A connection without a record works like any other.
#[derive(Debug)]
pub(crate) struct Origin {
    source: Source,
    next: AtomicU64,
    live: AtomicU32,
    shut: AtomicBool,
    refused: AtomicU64,
    refused_requests: AtomicU64,
}

impl Origin {
    /// Discretionary records at which no more are made.
    pub(crate) const MOST: u32 = 5000;
    /// Discretionary records at which requests get none: there are far more of them than of
    /// connections, which are not to go without because of that.
    pub(crate) const MOST_WITH_REQUESTS: u32 = 4000;
    /// Discretionary records at which more are made again.
    pub(crate) const ENOUGH: u32 = 4990;

    pub(crate) fn new(source: Source) -> Self {
        Self {
            source,
            next: AtomicU64::new(0),
            live: AtomicU32::new(0),
            shut: AtomicBool::new(false),
            refused: AtomicU64::new(0),
            refused_requests: AtomicU64::new(0),
        }
    }

    pub(crate) fn source(&self) -> Source {
        self.source
    }

    /// Names a new record.
    pub(crate) fn next_id(&self) -> RecordId {
        RecordId(self.next.fetch_add(1, Ordering::Relaxed))
    }

    /// Whether a number has been taken.
    pub(crate) fn knows(&self, id: RecordId) -> bool {
        id.0 < self.next.load(Ordering::Relaxed)
    }

    /// The name of a record of this router elsewhere.
    pub(crate) fn identity(&self, id: RecordId) -> Identity {
        Identity {
            source: self.source,
            id,
        }
    }

    /// Whether there may be one more discretionary record; if so, whoever forgets it
    /// [says so](Self::release).
    pub(crate) fn admit(&self) -> bool {
        let admitted = !self.shut.load(Ordering::Relaxed) && self.take_place();
        if !admitted {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
        admitted
    }

    /// The same, for the record of a request.
    pub(crate) fn admit_request(&self) -> bool {
        let room = self.live.load(Ordering::Relaxed) < Self::MOST_WITH_REQUESTS;
        let admitted = room && self.take_place();
        if !admitted {
            self.refused_requests.fetch_add(1, Ordering::Relaxed);
        }
        admitted
    }

    fn take_place(&self) -> bool {
        let before = self.live.fetch_add(1, Ordering::Relaxed);
        if before >= Self::MOST {
            self.live.fetch_sub(1, Ordering::Relaxed);
            return false;
        }
        // Whoever has this last place will release it, and so does not leave the door shut.
        if before + 1 == Self::MOST {
            self.shut.store(true, Ordering::Relaxed);
        }
        true
    }

    /// Discretionary records have been forgotten.
    pub(crate) fn release(&self, records: u32) {
        let before = self.live.fetch_sub(records, Ordering::Relaxed);
        if before.saturating_sub(records) <= Self::ENOUGH {
            self.shut.store(false, Ordering::Relaxed);
        }
    }

    /// Discretionary records that there are.
    #[cfg(test)]
    pub(crate) fn live(&self) -> u32 {
        self.live.load(Ordering::Relaxed)
    }

    /// Records of connections that were not made because there were too many.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Likewise of requests.
    pub(crate) fn refused_requests(&self) -> u64 {
        self.refused_requests.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin() -> Origin {
        Origin::new(Source::parse("abcde").unwrap())
    }

    #[test]
    fn the_first_record_is_number_nought() {
        let origin = origin();
        let first = origin.next_id();
        assert_eq!(origin.identity(first).to_string(), "abcde:0");
        assert_eq!(origin.next_id(), RecordId(1));
    }

    #[test]
    fn when_there_are_too_many_no_more_are_made_until_some_are_gone() {
        let origin = origin();
        let admitted = (0..6000).filter(|_| origin.admit()).count();
        assert_eq!(
            (admitted, origin.live(), origin.refused()),
            (5000, 5000, 1000)
        );
        origin.release(9);
        assert!(!origin.admit(), "at 4991");
        origin.release(1);
        assert!(origin.admit(), "at 4990");
        let more = (0..100).filter(|_| origin.admit()).count();
        assert_eq!((more, origin.live()), (9, 5000));
    }

    #[test]
    fn the_bound_holds_whoever_asks_at_once() {
        let origin = origin();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..20_000 {
                        if origin.admit() && origin.live().is_multiple_of(7) {
                            origin.release(1);
                        }
                    }
                });
            }
        });
        assert!(origin.live() <= Origin::MOST);
    }
}
