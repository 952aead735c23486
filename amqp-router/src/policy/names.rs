//! Lists of addresses that a group may use: `sources`, `targets` and their patterns.

use std::fmt;

use crate::control::pattern::PatternTree;

/// The addresses that a list allows.
pub(crate) enum Names {
    /// `sources` and `targets`: names, where a `*` at the end stands for anything.
    List(Vec<Name>),
    /// `sourcePattern` and `targetPattern`: patterns as those of `address` entities.
    Patterns(Box<Patterns>),
}

/// One name of a list, around the place where the user's name goes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Name {
    before: Box<str>,
    /// What follows `${user}`; absent without it.
    after: Option<Box<str>>,
    /// It ended with `*`.
    open: bool,
}

/// Patterns by where the user's name stands in them.
#[derive(Debug, Default)]
pub(crate) struct Patterns {
    without: PatternTree<()>,
    /// `${user}` first.
    leading: PatternTree<()>,
    /// `${user}` last.
    trailing: PatternTree<()>,
}

impl Names {
    /// Nothing is allowed.
    pub(crate) fn none() -> Self {
        Self::List(Vec::new())
    }

    /// # Errors
    /// A name with more than one `${user}`.
    pub(crate) fn list<'a>(names: impl Iterator<Item = &'a str>) -> Result<Self, String> {
        names
            .map(Name::parse)
            .collect::<Result<_, _>>()
            .map(Self::List)
    }

    /// # Errors
    /// `${user}` more than once, or in the middle of a pattern.
    pub(crate) fn patterns<'a>(list: impl Iterator<Item = &'a str>) -> Result<Self, String> {
        let mut patterns = Patterns::default();
        for pattern in list {
            let tree = match once(pattern)? {
                None => &mut patterns.without,
                Some(("", _)) => &mut patterns.leading,
                Some((_, "")) => &mut patterns.trailing,
                Some(_) => {
                    return Err(format!(
                        "'{pattern}' must have {USER} first or last, not in the middle"
                    ));
                }
            };
            tree.insert(pattern, ());
        }
        Ok(Self::Patterns(Box::new(patterns)))
    }

    /// Whether `user` may use `address`. The empty address is nobody's.
    pub(crate) fn allow(&self, user: &str, address: &str) -> bool {
        match self {
            _ if address.is_empty() => false,
            Self::List(names) => names.iter().any(|name| name.matches(user, address)),
            Self::Patterns(patterns) => patterns.match_one(user, address),
        }
    }
}

impl Name {
    fn parse(text: &str) -> Result<Self, String> {
        let split = once(text)?;
        let (before, after) = match split {
            Some((before, after)) => (before, Some(after)),
            None => (text, None),
        };
        let last = after.unwrap_or(before);
        let open = last.ends_with('*');
        let last = last.strip_suffix('*').unwrap_or(last);
        Ok(match after {
            Some(_) => Self {
                before: before.into(),
                after: Some(last.into()),
                open,
            },
            None => Self {
                before: last.into(),
                after: None,
                open,
            },
        })
    }

    fn matches(&self, user: &str, address: &str) -> bool {
        let Some(rest) = address.strip_prefix(&*self.before) else {
            return false;
        };
        let rest = match &self.after {
            None => Some(rest),
            Some(after) => rest
                .strip_prefix(user)
                .and_then(|rest| rest.strip_prefix(&**after)),
        };
        rest.is_some_and(|rest| self.open || rest.is_empty())
    }
}

impl Patterns {
    fn match_one(&self, user: &str, address: &str) -> bool {
        self.without.get(address).is_some()
            || leading(user, address).is_some_and(|name| self.leading.get(&name).is_some())
            || trailing(user, address).is_some_and(|name| self.trailing.get(&name).is_some())
    }
}

/// The address with `${user}` in place of the user's name at its start, which must be whole
/// tokens of it.
fn leading(user: &str, address: &str) -> Option<String> {
    let rest = address.strip_prefix(user)?;
    (rest.is_empty() || rest.starts_with(SEPARATORS)).then(|| format!("{USER}{rest}"))
}

/// The same at its end.
fn trailing(user: &str, address: &str) -> Option<String> {
    let rest = address.strip_suffix(user)?;
    rest.ends_with(SEPARATORS).then(|| format!("{rest}{USER}"))
}

/// What stands before and after `${user}`, if it is there.
fn once(text: &str) -> Result<Option<(&str, &str)>, String> {
    match text.split_once(USER) {
        Some((_, after)) if after.contains(USER) => {
            Err(format!("'{text}' has {USER} more than once"))
        }
        split => Ok(split),
    }
}

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::List(names) => f.debug_list().entries(names).finish(),
            Self::Patterns(_) => f.write_str("Patterns"),
        }
    }
}

const USER: &str = "${user}";
const SEPARATORS: [char; 2] = ['.', '/'];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_whole_unless_they_end_with_a_star() {
        let allowed = list("A, tmp*, exact");
        assert!(allowed.allow("bob", "A") && allowed.allow("bob", "exact"));
        assert!(!allowed.allow("bob", "AB") && !allowed.allow("bob", "a"));
        assert!(allowed.allow("bob", "tmp") && allowed.allow("bob", "tmp-5"));
        assert!(list("*").allow("bob", "anything"));
        assert!(!list("*").allow("bob", ""));
        assert!(!Names::none().allow("bob", "A"));
    }

    #[test]
    fn the_users_name_stands_where_it_is_written() {
        for (rule, address, expected) in [
            ("tmp-${user}", "tmp-bob", true),
            ("tmp-${user}", "tmp-bobby", false),
            ("tmp-${user}*", "tmp-bobby", true),
            ("${user}.*", "bob.x", true),
            ("${user}.*", "alice.x", false),
            ("a/${user}/in", "a/bob/in", true),
            ("a/${user}/in", "a/bob/out", false),
        ] {
            assert_eq!(
                list(rule).allow("bob", address),
                expected,
                "{rule} {address}"
            );
        }
    }

    #[test]
    fn a_users_name_is_never_a_wildcard() {
        assert!(!list("tmp-${user}").allow("*", "tmp-anything"));
        assert!(list("tmp-${user}").allow("*", "tmp-*"));
        assert!(!patterns("${user}/x").allow("#", "a/x"));
        assert!(!patterns("${user}/x").allow("bob", "${user}/x"));
    }

    #[test]
    fn patterns_match_tokens_and_the_user_is_whole_tokens() {
        for (rule, address, expected) in [
            ("a/*/c", "a/b/c", true),
            ("a/#", "a", true),
            ("a/#", "ab", false),
            ("${user}/#", "bob/x/y", true),
            ("${user}/#", "bobby/x", false),
            ("in/*/${user}", "in/1/bob", true),
            ("in/*/${user}", "in/1/notbob", false),
        ] {
            assert_eq!(
                patterns(rule).allow("bob", address),
                expected,
                "{rule} {address}"
            );
        }
    }

    #[test]
    fn misplaced_substitutions_are_refused() {
        let twice = Names::list(["${user}${user}"].into_iter()).unwrap_err();
        assert!(twice.contains("more than once"), "{twice}");
        let middle = Names::patterns(["a/${user}/b"].into_iter()).unwrap_err();
        assert!(middle.contains("first or last"), "{middle}");
    }

    fn list(text: &str) -> Names {
        Names::list(text.split(',').map(str::trim)).unwrap()
    }

    fn patterns(text: &str) -> Names {
        Names::patterns(text.split(',').map(str::trim)).unwrap()
    }
}
