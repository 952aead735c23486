//! The `ciphers` attribute: OpenSSL's cipher list, as far as rustls has what it speaks of.

use rustls::{CipherSuite, SupportedCipherSuite};

/// Those of `available` that `list` leaves, in its order. Suites of TLS 1.3 stay unless the list
/// names some, as OpenSSL's cipher list is about TLS 1.2 and older.
///
/// The list is read from left to right: `NAME` adds suites, `-NAME` takes them out, `!NAME` for
/// good, `+NAME` moves them to the end, `@STRENGTH` puts long keys first. A name is a suite, or a
/// group (`HIGH`), or several joined by `+`, which means what is in all of them. What OpenSSL has
/// and this router has not is passed over.
///
/// # Errors
///
/// A word that is no name, or nothing of TLS 1.2 left where the list names nothing else.
pub(super) fn select(
    available: &[SupportedCipherSuite],
    list: &str,
) -> Result<Vec<SupportedCipherSuite>, String> {
    if list.trim().is_empty() {
        return Ok(available.to_vec());
    }
    let mut selection = Selection::default();
    // A command need not be parted from what is before it.
    let list = list.replace('@', ":@");
    let words = list.split([':', ',', ' ', ';']);
    for (place, word) in words.filter(|word| !word.is_empty()).enumerate() {
        selection.apply(available, place, word)?;
    }
    let mut chosen = selection.chosen;
    if chosen.is_empty() {
        return Err(format!("this leaves no cipher suite; {}", valid(available)));
    }
    if !chosen.iter().any(is_13) {
        chosen.splice(0..0, available.iter().copied().filter(is_13));
    }
    Ok(chosen)
}

#[derive(Default)]
struct Selection {
    chosen: Vec<SupportedCipherSuite>,
    banned: Vec<CipherSuite>,
}

impl Selection {
    fn apply(
        &mut self,
        available: &[SupportedCipherSuite],
        place: usize,
        word: &str,
    ) -> Result<(), String> {
        if word == "@STRENGTH" {
            let weakness = |suite: &SupportedCipherSuite| u32::MAX - strength(suite.suite());
            self.chosen.sort_by_key(weakness);
            return Ok(());
        }
        if word.starts_with("@SECLEVEL=") {
            // All that rustls has is beyond the highest in use.
            return Ok(());
        }
        let (operator, name) = match word.split_at_checked(1) {
            Some((operator @ ("!" | "-" | "+"), name)) => (operator, name),
            _ => ("", word),
        };
        let meant = matching(available, name).ok_or_else(|| unknown(available, name))?;
        if name == "DEFAULT" && place > 0 {
            return Err("'DEFAULT' can only be the first word".into());
        }
        let is_meant = |suite: &SupportedCipherSuite| meant.contains(suite);
        match operator {
            "!" => {
                self.chosen.retain(|suite| !is_meant(suite));
                self.banned
                    .extend(meant.iter().map(SupportedCipherSuite::suite));
            }
            "-" => self.chosen.retain(|suite| !is_meant(suite)),
            "+" => self.chosen.sort_by_key(is_meant),
            _ => {
                let new = |suite: &&SupportedCipherSuite| {
                    !self.chosen.contains(suite) && !self.banned.contains(&suite.suite())
                };
                let new: Vec<_> = meant.iter().filter(new).copied().collect();
                self.chosen.extend(new);
            }
        }
        Ok(())
    }
}

/// The suites that a name means, be it none; `None` if it is no name.
fn matching(available: &[SupportedCipherSuite], name: &str) -> Option<Vec<SupportedCipherSuite>> {
    let is_named = |suite: &&SupportedCipherSuite| {
        openssl_name(suite.suite()) == name || iana_name(suite.suite()) == name
    };
    if let Some(suite) = available.iter().find(is_named) {
        return Some(vec![*suite]);
    }
    if is_absent_suite(name) {
        return Some(Vec::new());
    }
    let tests = name.split('+').map(group).collect::<Option<Vec<_>>>()?;
    let of_12 = available.iter().filter(|suite| !is_13(suite));
    let meant = of_12.filter(|suite| {
        let name = openssl_name(suite.suite());
        tests.iter().all(|test| test(name))
    });
    Some(meant.copied().collect())
}

/// What a group says of the name of a suite of TLS 1.2.
fn group(name: &str) -> Option<fn(&str) -> bool> {
    Some(match name {
        // All that there is has ephemeral keys, 128 bits or more, and authenticates what it
        // encrypts.
        "ALL" | "DEFAULT" | "HIGH" | "TLSv1.2" | "ECDHE" | "EECDH" | "kECDHE" | "kEECDH"
        | "ECDH" => |_| true,
        "aRSA" => |name| name.contains("-RSA-"),
        "aECDSA" | "ECDSA" => |name| name.contains("-ECDSA-"),
        "AES" | "AESGCM" => |name| name.contains("-AES"),
        "AES128" => |name| name.contains("-AES128-"),
        "AES256" => |name| name.contains("-AES256-"),
        "CHACHA20" => |name| name.contains("-CHACHA20-"),
        absent if ABSENT.contains(&absent) => |_| false,
        _ => return None,
    })
}

/// Whether a name is made as OpenSSL makes those of suites: of words for what they do.
fn is_absent_suite(name: &str) -> bool {
    name.contains('-') && name.split('-').all(|word| SUITE_WORDS.contains(&word))
}

fn is_13(suite: &SupportedCipherSuite) -> bool {
    suite.tls13().is_some()
}

/// OpenSSL's name, which is what `sslCipher` of a connection shows.
pub(super) fn openssl_name(suite: CipherSuite) -> &'static str {
    NAMES
        .iter()
        .find(|(id, ..)| *id == suite)
        .map_or("unknown", |(_, name, _)| name)
}

/// Bits of the key of the suite's cipher, which is what `sslSsf` of a connection shows.
pub(super) fn strength(suite: CipherSuite) -> u32 {
    NAMES
        .iter()
        .find(|(id, ..)| *id == suite)
        .map_or(0, |(_, _, bits)| *bits)
}

fn iana_name(suite: CipherSuite) -> String {
    let name = suite.as_str().unwrap_or_default();
    match name.strip_prefix("TLS13_") {
        Some(rest) => format!("TLS_{rest}"),
        None => name.to_owned(),
    }
}

fn unknown(available: &[SupportedCipherSuite], name: &str) -> String {
    format!("'{name}' is no cipher suite or group; {}", valid(available))
}

fn valid(available: &[SupportedCipherSuite]) -> String {
    let suites: Vec<_> = available
        .iter()
        .map(|suite| openssl_name(suite.suite()))
        .collect();
    format!(
        "there are {}, and groups of them as OpenSSL has: HIGH, ECDHE, aRSA, aECDSA, AESGCM, \
         AES128, AES256, CHACHA20",
        suites.join(":")
    )
}

/// Groups of OpenSSL of which this router has none: they are weak, have no forward secrecy, or
/// authenticate what they encrypt by other means.
const ABSENT: [&str; 45] = [
    "COMPLEMENTOFDEFAULT",
    "COMPLEMENTOFALL",
    "MEDIUM",
    "LOW",
    "EXP",
    "EXPORT",
    "NULL",
    "eNULL",
    "aNULL",
    "kRSA",
    "RSA",
    "kDHE",
    "kEDH",
    "DHE",
    "EDH",
    "DH",
    "ADH",
    "AECDH",
    "aDSS",
    "DSS",
    "TLSv1.0",
    "TLSv1",
    "SSLv3",
    "AESCCM",
    "AESCCM8",
    "ARIA",
    "ARIA128",
    "ARIA256",
    "ARIAGCM",
    "CAMELLIA",
    "CAMELLIA128",
    "CAMELLIA256",
    "3DES",
    "DES",
    "RC4",
    "RC2",
    "IDEA",
    "SEED",
    "MD5",
    "SHA",
    "SHA1",
    "SHA256",
    "SHA384",
    "PSK",
    "SRP",
];

const SUITE_WORDS: [&str; 32] = [
    "ECDHE",
    "DHE",
    "EDH",
    "ECDH",
    "DH",
    "ADH",
    "AECDH",
    "PSK",
    "SRP",
    "RSA",
    "ECDSA",
    "DSS",
    "anon",
    "AES128",
    "AES256",
    "ARIA128",
    "ARIA256",
    "CAMELLIA128",
    "CAMELLIA256",
    "CHACHA20",
    "POLY1305",
    "DES",
    "CBC3",
    "CBC",
    "RC4",
    "NULL",
    "GCM",
    "CCM",
    "CCM8",
    "SHA",
    "SHA256",
    "SHA384",
];

const NAMES: [(CipherSuite, &str, u32); 9] = [
    (
        CipherSuite::TLS13_AES_256_GCM_SHA384,
        "TLS_AES_256_GCM_SHA384",
        256,
    ),
    (
        CipherSuite::TLS13_AES_128_GCM_SHA256,
        "TLS_AES_128_GCM_SHA256",
        128,
    ),
    (
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
        "TLS_CHACHA20_POLY1305_SHA256",
        256,
    ),
    (
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        256,
    ),
    (
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        128,
    ),
    (
        CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
        "ECDHE-ECDSA-CHACHA20-POLY1305",
        256,
    ),
    (
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
        "ECDHE-RSA-AES256-GCM-SHA384",
        256,
    ),
    (
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        "ECDHE-RSA-AES128-GCM-SHA256",
        128,
    ),
    (
        CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
        "ECDHE-RSA-CHACHA20-POLY1305",
        256,
    ),
];

#[cfg(test)]
mod tests {
    use rustls::crypto::aws_lc_rs::default_provider;

    use super::*;

    /// The suites of TLS 1.2, without what all have in common.
    fn selected(list: &str) -> Result<String, String> {
        let chosen = select(&default_provider().cipher_suites, list)?;
        let names = chosen.iter().filter(|suite| !is_13(suite));
        let names = names.map(|suite| {
            let name = openssl_name(suite.suite());
            let name = name.strip_prefix("ECDHE-").expect("ephemeral");
            let name = name.replace("-GCM-SHA256", "").replace("-GCM-SHA384", "");
            name.replace("-POLY1305", "")
        });
        Ok(names.collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn lists_are_read_as_openssl_reads_them() {
        let all = "ECDSA-AES256 ECDSA-AES128 ECDSA-CHACHA20 RSA-AES256 RSA-AES128 RSA-CHACHA20";
        let rsa_last = "ECDSA-AES256 ECDSA-AES128 RSA-AES256 RSA-AES128";
        let by_strength =
            "ECDSA-AES256 ECDSA-CHACHA20 RSA-AES256 RSA-CHACHA20 ECDSA-AES128 RSA-AES128";
        let cases = [
            ("HIGH", all),
            ("HIGH:!aNULL:!MD5:!RSA:!SHA256", all),
            ("DEFAULT@SECLEVEL=2", all),
            ("DEFAULT:@SECLEVEL=2", all),
            ("HIGH:DEFAULT", "error"),
            ("ECDHE+AESGCM", rsa_last),
            ("ECDHE+AESGCM:!aECDSA", "RSA-AES256 RSA-AES128"),
            (
                "ALL:!AES128",
                "ECDSA-AES256 ECDSA-CHACHA20 RSA-AES256 RSA-CHACHA20",
            ),
            ("ALL:@STRENGTH", by_strength),
            ("CHACHA20:+aECDSA", "RSA-CHACHA20 ECDSA-CHACHA20"),
            ("aRSA:-AES:aRSA+AES128", "RSA-CHACHA20 RSA-AES128"),
            (
                "!aRSA:HIGH:-ALL:HIGH",
                "ECDSA-AES256 ECDSA-AES128 ECDSA-CHACHA20",
            ),
            (
                "ECDHE-RSA-AES128-GCM-SHA256:DHE-RSA-AES256-GCM-SHA384:AES256-SHA",
                "RSA-AES128",
            ),
            ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "RSA-AES128"),
            ("TLS_AES_256_GCM_SHA384", ""),
            ("", all),
            ("aNULL", "error"),
            ("DHE-RSA-AES256-GCM-SHA384", "error"),
            ("HIHG", "error"),
            ("ECDHE-RSA-AES128-GCM-SHA265", "error"),
            ("ECDHE+", "error"),
            ("!", "error"),
        ];
        for (list, expected) in cases {
            let selected = selected(list).unwrap_or_else(|_| "error".into());
            assert_eq!(selected, expected, "{list}");
        }
    }

    #[test]
    fn what_is_no_name_is_named_with_those_that_are() {
        let text = selected("HIGH:HIHG").expect_err("misspelt");
        assert!(text.starts_with("'HIHG' is no cipher suite or group; there are TLS_AES_256"));
        assert!(text.contains("ECDHE-RSA-AES128-GCM-SHA256") && text.contains("aRSA"));
    }
}
