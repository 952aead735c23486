use std::cmp::Ordering;

/// An RFC 1982 serial number: delivery-number, transfer-number or sequence-no (AMQP 2.8.7–2.8.10).
///
/// It wraps at 2^32, and of two numbers the one that is less than half the circle ahead is later.
/// There is no total order, hence no `Ord`.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct Serial(pub u32);

impl Serial {
    /// The number `n` steps further on.
    #[must_use]
    pub const fn plus(self, n: u32) -> Self {
        Self(self.0.wrapping_add(n))
    }

    /// Steps from `earlier` to `self`; negative when `self` is in fact the earlier one.
    #[must_use]
    pub const fn since(self, earlier: Self) -> i32 {
        self.0.wrapping_sub(earlier.0).cast_signed()
    }

    #[must_use]
    pub const fn is_before(self, other: Self) -> bool {
        self.since(other) < 0
    }

    #[must_use]
    pub const fn is_after(self, other: Self) -> bool {
        self.since(other) > 0
    }

    /// Whether `self` lies in `first..=last`, which may span the wrap.
    #[must_use]
    pub const fn is_within(self, first: Self, last: Self) -> bool {
        self.0.wrapping_sub(first.0) <= last.0.wrapping_sub(first.0)
    }

    /// `Less` means that `self` comes before `other`.
    #[must_use]
    pub fn compare(self, other: Self) -> Ordering {
        self.since(other).cmp(&0)
    }
}

impl From<u32> for Serial {
    fn from(number: u32) -> Self {
        Self(number)
    }
}

impl From<Serial> for u32 {
    fn from(serial: Serial) -> Self {
        serial.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_survives_the_wrap() {
        let last = Serial(u32::MAX);
        let first = last.plus(1);
        assert_eq!(first, Serial(0));
        assert!(last.is_before(first));
        assert!(first.is_after(last));
        assert_eq!(first.since(last), 1);
        assert_eq!(last.compare(first), Ordering::Less);
    }

    #[test]
    fn a_range_may_span_the_wrap() {
        let (first, last) = (Serial(u32::MAX - 1), Serial(1));
        assert!(Serial(0).is_within(first, last));
        assert!(Serial(u32::MAX).is_within(first, last));
        assert!(!Serial(2).is_within(first, last));
    }
}
