//! One record: what it says, and what of that has not been told yet.

use super::attribute::{Attribute, Datum, RecordType, start};
use super::identity::RecordId;

/// What a record says, in the order of the attributes' codes.
#[derive(Clone, Debug, Default)]
pub(super) struct Attributes {
    values: Vec<(Attribute, Datum)>,
    /// One bit for each attribute that has changed since the last emission.
    changed: u128,
}

impl Attributes {
    /// True if that is news. What is not of the attribute's kind is none.
    pub(super) fn set(&mut self, attribute: Attribute, datum: Datum) -> bool {
        if datum.kind() != attribute.kind() {
            return false;
        }
        let datum = datum.cut(attribute.longest());
        match self.position(attribute) {
            Ok(at) if self.values[at].1 == datum => return false,
            Ok(at) => self.values[at].1 = datum,
            Err(at) => self.values.insert(at, (attribute, datum)),
        }
        self.changed |= bit(attribute);
        true
    }

    /// A number that has not been set is 0.
    pub(super) fn number(&self, attribute: Attribute) -> u64 {
        match self.get(attribute) {
            Some(Datum::Number(number)) => *number,
            _ => 0,
        }
    }

    pub(super) fn get(&self, attribute: Attribute) -> Option<&Datum> {
        let at = self.position(attribute).ok()?;
        Some(&self.values[at].1)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (Attribute, &Datum)> {
        self.values
            .iter()
            .map(|(attribute, datum)| (*attribute, datum))
    }

    /// What has changed since it was last [`told`](Self::told).
    pub(super) fn news(&self) -> impl Iterator<Item = (Attribute, &Datum)> {
        self.all().filter(|(attribute, _)| self.is_news(*attribute))
    }

    /// Whether this has changed since it was last told.
    fn is_news(&self, attribute: Attribute) -> bool {
        self.changed & bit(attribute) != 0
    }

    /// All that there is to say has been said.
    pub(super) fn told(&mut self) {
        self.changed = 0;
    }

    /// Takes all of them away.
    pub(super) fn take(&mut self) -> Vec<(Attribute, Datum)> {
        self.changed = 0;
        std::mem::take(&mut self.values)
    }

    /// Everything is to be said again.
    pub(super) fn repeat(&mut self) {
        self.changed = u128::MAX;
    }

    fn position(&self, attribute: Attribute) -> Result<usize, usize> {
        self.values.binary_search_by_key(&attribute, |(of, _)| *of)
    }
}

fn bit(attribute: Attribute) -> u128 {
    1 << attribute.code()
}

/// Something that exists for a while, as collectors see it.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) kind: RecordType,
    pub(super) parent: Option<RecordId>,
    /// A name of its own in place of that of its number.
    pub(super) custom: Option<Box<str>>,
    pub(super) attributes: Attributes,
    /// The slot that it is emitted in, since it was first changed.
    pub(super) slot: Option<usize>,
    pub(super) place: Place,
    pub(super) ended: bool,
    /// The log has a line of it.
    pub(super) logged: bool,
    /// The log is to have one with its next emission, ahead of its children's.
    pub(super) to_log: bool,
}

/// Where a record waits to be emitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// There is nothing to say of it.
    Idle,
    /// In its slot.
    Slot,
    /// Among those that have ended, for what others know of them to arrive.
    Ending,
}

impl Record {
    pub(super) fn new(kind: RecordType, parent: Option<RecordId>) -> Self {
        Self {
            kind,
            parent,
            custom: None,
            attributes: Attributes::default(),
            slot: None,
            place: Place::Idle,
            ended: false,
            logged: false,
            to_log: false,
        }
    }

    /// Whether somebody has been told of it, or would have been.
    pub(super) fn is_told(&self) -> bool {
        !self.attributes.is_news(Attribute::StartTime)
    }

    /// A line for the log, of a record of this name.
    pub(super) fn line(&self, identity: &str) -> String {
        let mut line = format!("{} [{identity}]", self.kind.name());
        if !self.logged {
            line.push_str(" BEGIN");
        }
        if self.ended {
            line.push_str(" END");
        }
        for (attribute, datum) in self.attributes.all() {
            if matches!(attribute, Attribute::StartTime | Attribute::EndTime) {
                continue;
            }
            line.push(' ');
            line.push_str(attribute.name());
            line.push('=');
            match datum {
                Datum::Number(number) => line.push_str(&number.to_string()),
                Datum::Text(text) => {
                    line.push_str(start(text, LONGEST_VALUE));
                }
            }
        }
        line.truncate(start(&line, LONGEST_LINE).len());
        line
    }
}

/// Octets of a value that a line of the log shows.
const LONGEST_VALUE: usize = 65;
const LONGEST_LINE: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_news_is_told() {
        let mut attributes = Attributes::default();
        assert!(attributes.set(Attribute::Octets, 7.into()));
        assert!(attributes.set(Attribute::Name, "a".into()));
        assert!(!attributes.set(Attribute::Octets, 7.into()), "the same");
        assert!(!attributes.set(Attribute::Octets, "7".into()), "no number");
        let news: Vec<u32> = attributes.news().map(|(a, _)| a.code()).collect();
        assert_eq!(news, [23, 30], "in ascending order");
        attributes.told();
        attributes.set(Attribute::Octets, 8.into());
        assert_eq!(attributes.news().count(), 1);
        attributes.repeat();
        assert_eq!(attributes.news().count(), 2);
    }

    #[test]
    fn a_line_says_everything_within_bounds() {
        let mut record = Record::new(RecordType::Listener, Some(RecordId(0)));
        record.attributes.set(Attribute::StartTime, 5.into());
        record
            .attributes
            .set(Attribute::Name, "ä".repeat(80).into());
        record.attributes.set(Attribute::FlowCountL4, 3.into());
        let name = "ä".repeat(32);
        let line = format!("LISTENER [abcde:4] BEGIN name={name} flowCountL4=3");
        assert_eq!(record.line("abcde:4"), line);
        record.logged = true;
        record.ended = true;
        assert!(
            record
                .line("abcde:4")
                .starts_with("LISTENER [abcde:4] END name=")
        );
        for attribute in (5..68).filter_map(Attribute::of_code) {
            record.attributes.set(attribute, "x".repeat(300).into());
        }
        assert_eq!(record.line("abcde:4").len(), LONGEST_LINE);
    }
}
