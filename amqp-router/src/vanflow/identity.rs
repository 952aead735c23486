//! Names of records (`reference/router/vanflow.md` §1).

use std::fmt;

/// The router that a record is of, by five characters.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Source([u8; Source::LEN]);

impl Source {
    const LEN: usize = 5;

    /// The source of a router: the end of its host name if that is the name of a pod
    /// (`name-abcde`), else whatever `random` says.
    pub(crate) fn of_host(hostname: Option<&str>, mut random: impl FnMut() -> u8) -> Self {
        let pod = hostname.and_then(|name| {
            let (name, suffix) = name.split_at_checked(name.len().checked_sub(Self::LEN)?)?;
            let named = name.len() > 1 && name.ends_with('-');
            named.then(|| Self::parse(suffix))?
        });
        let letter = |random: u8| ALPHABET[usize::from(random) % ALPHABET.len()];
        pod.unwrap_or_else(|| Self(std::array::from_fn(|_| letter(random()))))
    }

    /// Five characters that may be part of an address.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let octets: [u8; Self::LEN] = text.as_bytes().try_into().ok()?;
        let plain = |octet: &u8| octet.is_ascii_graphic() && !matches!(octet, b'/' | b':');
        octets.iter().all(plain).then_some(Self(octets))
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.0).expect("its characters are ASCII"))
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Tells the records of one router apart. They are numbered from 0, which is the router itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub(crate) struct RecordId(pub(crate) u64);

/// The name of a record everywhere: `abcde:7`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Identity {
    pub(crate) source: Source,
    pub(crate) id: RecordId,
}

impl Identity {
    /// Five characters, a colon and a number; nothing else.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (source, number) = text.split_once(':')?;
        let digits = !number.is_empty() && number.bytes().all(|octet| octet.is_ascii_digit());
        let number = digits.then(|| number.parse().ok())??;
        // The largest is no number of a record elsewhere.
        let id = (number != u64::MAX).then_some(RecordId(number))?;
        let source = Source::parse(source)?;
        Some(Self { source, id })
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.source, self.id.0)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

const ALPHABET: &[u8; 62] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";

#[cfg(test)]
mod tests {
    use super::*;

    fn of_host(hostname: &str) -> String {
        Source::of_host(Some(hostname), || 25).to_string()
    }

    #[test]
    fn a_pod_is_known_by_the_end_of_its_name() {
        assert_eq!(of_host("skupper-router-7c9-x2f4k"), "x2f4k");
        assert_eq!(of_host("a-bcdef"), "bcdef");
        for other in [
            "laptop",
            "-bcdef",
            "bcdef",
            "",
            "node-12",
            "name-abcdé",
            "a-b/cde",
        ] {
            assert_eq!(of_host(other), "zzzzz", "{other}");
        }
        assert_eq!(Source::of_host(None, || 0).to_string(), "aaaaa");
    }

    #[test]
    fn an_identity_is_five_characters_and_a_number() {
        for text in ["abcde:0", "x2f4k:18446744073709551614", "+_-9A:7"] {
            assert_eq!(Identity::parse(text).unwrap().to_string(), text);
        }
        for text in [
            "",
            "abcde",
            "abcde:",
            "abcd:1",
            "abcdef:1",
            "abcde:1x",
            "abcde:+1",
            "abcde: 1",
            "abcde:18446744073709551615",
            "abcde:99999999999999999999",
            "ab/de:1",
            "abcdé:1",
            "a:cde:1",
        ] {
            assert_eq!(Identity::parse(text), None, "{text}");
        }
    }
}
