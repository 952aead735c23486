//! How addresses are treated: what is configured, and what others have said.

use crate::control::address::AddressKey;
use crate::control::commands::{Command, Recipient};
use crate::control::links::Control;
use crate::control::pattern::prefix_pattern;
use crate::control::table::Treatment;

/// How addresses that match a pattern are treated: one `address` entity.
#[derive(Clone, Debug)]
pub(crate) struct AddressRule {
    pub(crate) treatment: Treatment,
    pub(crate) priority: Option<u8>,
}

/// A pattern as an `address` entity writes it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Scope<'a> {
    Prefix(&'a str),
    Pattern(&'a str),
}

impl Control {
    /// Configures how addresses of `scope` are treated from now on. Addresses that exist keep
    /// their treatment.
    pub(crate) fn configure(&mut self, scope: Scope<'_>, rule: AddressRule) {
        self.tell_rule(scope.pattern().into(), Some(rule.treatment));
        self.configured.insert(&scope.pattern(), rule);
    }

    /// The same, unless that scope is configured already.
    pub(crate) fn prefer(&mut self, scope: Scope<'_>, rule: AddressRule) {
        let pattern = scope.pattern();
        let treatment = Some(rule.treatment);
        if let Some(configured) = self.configured.insert(&pattern, rule) {
            self.configured.insert(&pattern, configured);
        } else {
            self.tell_rule(pattern.into(), treatment);
        }
    }

    /// Workers decide on messages to addresses that are none yet.
    fn tell_rule(&mut self, pattern: Box<str>, treatment: Option<Treatment>) {
        let command = Command::Rule { pattern, treatment };
        self.commands.push_back((Recipient::Everyone, command));
    }

    /// Takes back what [`configure`](Self::configure) said of `scope`.
    pub(crate) fn unconfigure(&mut self, scope: Scope<'_>) {
        self.tell_rule(scope.pattern().into(), None);
        self.configured.remove(&scope.pattern());
    }

    /// How an address would be treated if it were made now.
    pub(crate) fn rule(&self, key: &AddressKey) -> AddressRule {
        let default = AddressRule {
            treatment: self.default_treatment,
            priority: None,
        };
        match key.class() {
            // Every router has an agent of its own, whatever becomes of others' addresses.
            'M' if key.text() == "$management" => AddressRule {
                treatment: Treatment::Closest,
                priority: None,
            },
            'M' => self.configured.get(key.text()).cloned().unwrap_or(default),
            'T' => AddressRule {
                treatment: Treatment::Multicast,
                priority: None,
            },
            // Only the router itself makes local addresses: its own services and dynamic nodes.
            _ => AddressRule {
                treatment: Treatment::Balanced,
                priority: None,
            },
        }
    }

    /// How an address is to be treated that this router learns of from another one: as it is
    /// configured here, if it is; else as the other treats it.
    pub(super) fn learnt_treatment(
        &self,
        key: &AddressKey,
        theirs: Option<Treatment>,
    ) -> Treatment {
        let configured = match key.class() {
            'M' => self.configured.get(key.text()).map(|rule| rule.treatment),
            _ => None,
        };
        configured
            .or(theirs)
            .unwrap_or_else(|| self.rule(key).treatment)
    }
}

impl Scope<'_> {
    fn pattern(self) -> String {
        match self {
            Self::Prefix(prefix) => prefix_pattern(prefix),
            Self::Pattern(pattern) => pattern.to_owned(),
        }
    }
}

/// The priority of what has no other.
pub(super) const USUAL_PRIORITY: u8 = 4;
