//! What lines about messages show of them: the attribute `messageLoggingComponents`.

/// Parts of messages: bit by bit the fields of the properties section in the standard's order (AMQP
/// 3.2.4), then the application-properties.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Components(u16);

impl Components {
    /// Reads `all`, `none`, or names with commas between them.
    ///
    /// # Errors
    /// A name that is none.
    pub(crate) fn parse(text: &str) -> Result<Self, &str> {
        match text.trim() {
            "all" => return Ok(Self((1 << NAMES.len()) - 1)),
            "none" | "" => return Ok(Self::default()),
            _ => {}
        }
        let names = text
            .split(',')
            .map(str::trim)
            .filter(|name| !name.is_empty());
        names
            .map(Self::one)
            .try_fold(Self::default(), |so_far, one| Ok(Self(so_far.0 | one?)))
    }

    fn one(name: &str) -> Result<u16, &str> {
        let at = NAMES.iter().position(|known| *known == name);
        at.map(|at| 1 << at).ok_or(name)
    }

    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The name of the field of the properties with this number, if it is to be shown.
    pub(crate) fn field(self, number: usize) -> Option<&'static str> {
        let is_field = number < APPLICATION_PROPERTIES;
        (is_field && self.has(number)).then(|| NAMES[number])
    }

    /// The name of the application-properties, if they are to be shown.
    pub(crate) fn application_properties(self) -> Option<&'static str> {
        let number = APPLICATION_PROPERTIES;
        self.has(number).then(|| NAMES[number])
    }

    fn has(self, number: usize) -> bool {
        self.0 & 1 << number != 0
    }
}

/// The names that skrouterd has for them.
pub(crate) const NAMES: [&str; APPLICATION_PROPERTIES + 1] = [
    "message-id",
    "user-id",
    "to",
    "subject",
    "reply-to",
    "correlation-id",
    "content-type",
    "content-encoding",
    "absolute-expiry-time",
    "creation-time",
    "group-id",
    "group-sequence",
    "reply-to-group-id",
    "app-properties",
];
const APPLICATION_PROPERTIES: usize = 13;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn components_are_all_none_or_some() {
        let parse = |text| Components::parse(text).unwrap();
        assert!(parse("none").is_empty() && parse("").is_empty());
        let all = parse("all");
        assert!((0..13).all(|number| all.field(number).is_some()));
        assert_eq!(all.application_properties(), Some("app-properties"));
        assert_eq!(all.field(13), None);
        let some = parse("to, message-id,");
        assert_eq!(some.field(0), Some("message-id"));
        assert_eq!((some.field(1), some.field(2)), (None, Some("to")));
        assert_eq!(some.application_properties(), None);
    }

    #[test]
    fn what_is_no_component_is_told() {
        assert_eq!(Components::parse("to, mesage-id,b"), Err("mesage-id"));
        // They are words for the whole list.
        assert_eq!(Components::parse("to,all"), Err("all"));
    }
}
