//! The outcomes a sender waits for, each due exactly once.

use std::collections::VecDeque;

/// Unsettled deliveries of a session, from the oldest without outcome on. Delivery-ids wrap, so
/// they are compared by their distance from the oldest (RFC 1982).
#[derive(Debug, Default)]
pub struct Outcomes {
    oldest: u32,
    outstanding: u32,
    /// Settled out of order, by distance from the oldest. Empty while all come in order.
    settled: VecDeque<bool>,
    /// Settled deliveries in there.
    early: u32,
}

/// A disposition names a delivery that does not await an outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OutcomeError {
    /// Never sent, or settled before.
    #[error("disposition over {first}..={last}, but only {outstanding} from {oldest} await one")]
    NotOutstanding {
        /// Start of the range.
        first: u32,
        /// End of the range.
        last: u32,
        /// The oldest delivery without outcome.
        oldest: u32,
        /// Deliveries sent since.
        outstanding: u32,
    },
    /// Settled before, while an older one still waits.
    #[error("delivery {0} was settled twice")]
    Twice(u32),
}

impl Outcomes {
    /// `count` more deliveries have been sent, numbered on from the last.
    pub fn sent(&mut self, count: u32) {
        self.outstanding += count;
    }

    /// Deliveries without outcome.
    pub fn outstanding(&self) -> u32 {
        self.outstanding - self.early
    }

    /// Takes the outcome of `first..=last` and says how many that are.
    pub fn settle(&mut self, first: u32, last: u32) -> Result<u32, OutcomeError> {
        let from = first.wrapping_sub(self.oldest);
        let to = last.wrapping_sub(self.oldest);
        if from > to || to >= self.outstanding {
            let Outcomes {
                oldest,
                outstanding,
                ..
            } = *self;
            return Err(OutcomeError::NotOutstanding {
                first,
                last,
                oldest,
                outstanding,
            });
        }
        if from == 0 && self.settled.is_empty() {
            self.advance(to + 1);
        } else {
            self.settle_out_of_order(from, to)?;
        }
        Ok(to - from + 1)
    }

    fn settle_out_of_order(&mut self, from: u32, to: u32) -> Result<(), OutcomeError> {
        if self.settled.len() <= to as usize {
            self.settled.resize(to as usize + 1, false);
        }
        for distance in from..=to {
            let settled = &mut self.settled[distance as usize];
            if std::mem::replace(settled, true) {
                return Err(OutcomeError::Twice(self.oldest.wrapping_add(distance)));
            }
            self.early += 1;
        }
        while self.settled.front() == Some(&true) {
            self.settled.pop_front();
            self.early -= 1;
            self.advance(1);
        }
        Ok(())
    }

    fn advance(&mut self, count: u32) {
        self.oldest = self.oldest.wrapping_add(count);
        self.outstanding -= count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_in_order_leave_nothing_outstanding() {
        let mut outcomes = Outcomes::default();
        outcomes.sent(10);
        assert_eq!(outcomes.settle(0, 3), Ok(4));
        assert_eq!(outcomes.settle(4, 9), Ok(6));
        assert_eq!(outcomes.outstanding(), 0);
    }

    #[test]
    fn outcomes_may_come_in_any_order() {
        let mut outcomes = Outcomes::default();
        outcomes.sent(10);
        assert_eq!(outcomes.settle(5, 9), Ok(5));
        assert_eq!(outcomes.settle(0, 1), Ok(2));
        assert_eq!(outcomes.outstanding(), 3);
        assert_eq!(outcomes.settle(2, 4), Ok(3));
        assert_eq!(outcomes.outstanding(), 0);
    }

    #[test]
    fn a_second_outcome_is_an_error() {
        let mut outcomes = Outcomes::default();
        outcomes.sent(4);
        outcomes.settle(0, 0).unwrap();
        assert!(matches!(
            outcomes.settle(0, 0),
            Err(OutcomeError::NotOutstanding { .. })
        ));
        outcomes.settle(3, 3).unwrap();
        assert_eq!(outcomes.settle(2, 3), Err(OutcomeError::Twice(3)));
    }

    #[test]
    fn an_outcome_for_what_was_never_sent_is_an_error() {
        let mut outcomes = Outcomes::default();
        outcomes.sent(2);
        for (first, last) in [(0, 2), (2, 2), (1, 0), (0, u32::MAX)] {
            assert!(outcomes.settle(first, last).is_err(), "{first}..={last}");
        }
    }

    #[test]
    fn delivery_ids_wrap() {
        let mut outcomes = Outcomes {
            oldest: u32::MAX - 1,
            ..Outcomes::default()
        };
        outcomes.sent(5);
        assert_eq!(outcomes.settle(0, 2), Ok(3));
        assert_eq!(outcomes.settle(u32::MAX - 1, u32::MAX), Ok(2));
        assert_eq!(outcomes.outstanding(), 0);
    }
}
