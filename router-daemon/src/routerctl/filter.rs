//! `--where`: which rows a query shows.

use std::str::FromStr;

use crate::value::{Row, text};

/// A condition on one attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Filter {
    pub(crate) name: String,
    test: Test,
    value: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Test {
    Is,
    IsNot,
    Contains,
}

impl Filter {
    /// Whether the row has such a value. Values are compared as they are shown; what is absent
    /// is the empty text.
    pub(crate) fn admits(&self, row: &Row) -> bool {
        let value = row.get(&self.name).map(text).unwrap_or_default();
        match self.test {
            Test::Is => value == self.value,
            Test::IsNot => value != self.value,
            Test::Contains => value.contains(&self.value),
        }
    }
}

impl FromStr for Filter {
    type Err = String;

    fn from_str(written: &str) -> Result<Self, String> {
        let wrong = || "write ATTRIBUTE=VALUE, ATTRIBUTE!=VALUE or ATTRIBUTE~SUBSTRING".to_owned();
        let at = written.find(['=', '!', '~']).ok_or_else(wrong)?;
        let (name, rest) = written.split_at(at);
        let tests = [("!=", Test::IsNot), ("=", Test::Is), ("~", Test::Contains)];
        let mut tests = tests.into_iter();
        let found = tests.find_map(|(sign, test)| Some((test, rest.strip_prefix(sign)?)));
        match found {
            Some((test, value)) if !name.is_empty() => Ok(Self {
                name: name.to_owned(),
                test,
                value: value.to_owned(),
            }),
            _ => Err(wrong()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn filters_compare_what_is_shown() {
        let row = json!({"host": "10.0.0.1:99", "cost": 3, "up": true, "user": null});
        let row = row.as_object().unwrap();
        for (filter, admits) in [
            ("cost=3", true),
            ("cost!=3", false),
            ("host~0.0.", true),
            ("host~11", false),
            ("up=true", true),
            ("user=", true),
            ("user!=", false),
            ("absent=", true),
            ("host=10.0.0.1:99", true),
        ] {
            let parsed: Filter = filter.parse().unwrap();
            assert_eq!(parsed.admits(row), admits, "{filter}");
        }
    }

    #[test]
    fn values_may_contain_the_signs() {
        let filter: Filter = "name~a=b!".parse().unwrap();
        let row = json!({"name": "xa=b!"});
        assert!(filter.admits(row.as_object().unwrap()));
    }

    #[test]
    fn a_filter_without_name_or_sign_is_refused() {
        for written in ["name", "=value", "name!value", ""] {
            assert!(written.parse::<Filter>().is_err(), "{written}");
        }
    }
}
