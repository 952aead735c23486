//! How often the log tells of what may come very often.

use std::time::{Duration, Instant};

/// One line in a while says it for all.
#[derive(Debug, Default)]
pub(crate) struct Told(Option<Instant>);

impl Told {
    /// Whether it is to be told now.
    pub(crate) fn is_news(&mut self, now: Instant) -> bool {
        let news = self
            .0
            .is_none_or(|told| now.duration_since(told) >= TELL_INTERVAL);
        if news {
            self.0 = Some(now);
        }
        news
    }
}

/// A line for each, as long as they are few.
#[derive(Debug, Default)]
pub(crate) struct Few {
    since: Option<Instant>,
    lines: u32,
}

impl Few {
    /// What a line of one more is to end with; `None`: there is to be none.
    pub(crate) fn tell(&mut self, now: Instant) -> Option<&'static str> {
        let since = self.since.get_or_insert(now);
        if now.duration_since(*since) >= TELL_INTERVAL {
            (*since, self.lines) = (now, 0);
        }
        self.lines = self.lines.saturating_add(1);
        match self.lines {
            ..MOST_LINES => Some(""),
            MOST_LINES => Some("; more of these are only counted, for a while"),
            _ => None,
        }
    }
}

const TELL_INTERVAL: Duration = Duration::from_secs(10);
/// Lines in that time, of what gets a line for each.
const MOST_LINES: u32 = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_told_while_they_are_few_and_the_last_line_says_that_it_is_the_last() {
        let (mut few, start) = (Few::default(), Instant::now());
        for _ in 1..MOST_LINES {
            assert_eq!(few.tell(start), Some(""));
        }
        assert!(few.tell(start).is_some_and(|end| !end.is_empty()));
        assert_eq!(few.tell(start + TELL_INTERVAL / 2), None);
        assert_eq!(few.tell(start + TELL_INTERVAL), Some(""));
    }

    #[test]
    fn one_line_says_it_for_a_while() {
        let (mut told, start) = (Told::default(), Instant::now());
        let seconds = [0, 1, 9, 10, 19, 20].map(Duration::from_secs);
        let news = seconds.map(|second| told.is_news(start + second));
        assert_eq!(news, [true, false, false, true, false, true]);
    }
}
