//! SASL SCRAM (RFC 5802, RFC 7677): a password is proved, by both sides, without being told.
//!
//! Without channel binding: the header of messages is `n` or `y`, and `p=` is refused. Either
//! side's exchange is a state machine that is handed its nonce; [`users`](super::users) keeps the
//! verifiers.

pub(crate) mod client;
pub(crate) mod server;

use std::borrow::Cow;
use std::fmt;
use std::num::NonZeroU32;

use aws_lc_rs::{digest, hmac, pbkdf2};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use zeroize::Zeroizing;

/// The hash function of a SCRAM mechanism; the weakest is the least.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ScramHash {
    /// RFC 5802: for peers that know nothing better.
    Sha1,
    /// RFC 7677.
    Sha256,
    /// As the others, by `draft-melnikov-scram-sha-512`.
    Sha512,
}

impl ScramHash {
    pub const ALL: [Self; 3] = [Self::Sha1, Self::Sha256, Self::Sha512];

    /// The name of the mechanism, as `SCRAM-SHA-256`.
    #[must_use]
    pub fn mechanism(self) -> &'static str {
        match self {
            Self::Sha1 => "SCRAM-SHA-1",
            Self::Sha256 => "SCRAM-SHA-256",
            Self::Sha512 => "SCRAM-SHA-512",
        }
    }

    /// The hash of the mechanism of this name, whatever its case.
    #[must_use]
    pub fn of_mechanism(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|hash| hash.mechanism().eq_ignore_ascii_case(name))
    }

    /// Octets of a hash, and so of every key.
    pub(crate) fn len(self) -> usize {
        self.digest_algorithm().output_len()
    }

    /// `Hi` (RFC 5802 section 2.2): takes as long as `iterations` says.
    pub(crate) fn salted_password(self, password: &str, salt: &[u8], iterations: u32) -> Key {
        let algorithm = match self {
            Self::Sha1 => pbkdf2::PBKDF2_HMAC_SHA1,
            Self::Sha256 => pbkdf2::PBKDF2_HMAC_SHA256,
            Self::Sha512 => pbkdf2::PBKDF2_HMAC_SHA512,
        };
        let iterations = NonZeroU32::new(iterations).unwrap_or(NonZeroU32::MIN);
        let mut salted = Zeroizing::new(vec![0; self.len()]);
        pbkdf2::derive(
            algorithm,
            iterations,
            salt,
            password.as_bytes(),
            &mut salted,
        );
        salted
    }

    pub(crate) fn client_key(self, salted: &Key) -> Key {
        Zeroizing::new(self.mac(salted, b"Client Key"))
    }

    pub(crate) fn server_key(self, salted: &Key) -> Vec<u8> {
        self.mac(salted, b"Server Key")
    }

    /// `H` of a client key.
    pub(crate) fn stored_key(self, client_key: &[u8]) -> Vec<u8> {
        digest::digest(self.digest_algorithm(), client_key)
            .as_ref()
            .to_vec()
    }

    pub(crate) fn mac(self, key: &[u8], text: &[u8]) -> Vec<u8> {
        let algorithm = match self {
            Self::Sha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha256 => hmac::HMAC_SHA256,
            Self::Sha512 => hmac::HMAC_SHA512,
        };
        hmac::sign(&hmac::Key::new(algorithm, key), text)
            .as_ref()
            .to_vec()
    }

    fn digest_algorithm(self) -> &'static digest::Algorithm {
        match self {
            Self::Sha1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha256 => &digest::SHA256,
            Self::Sha512 => &digest::SHA512,
        }
    }
}

impl fmt::Display for ScramHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.mechanism())
    }
}

/// A secret from which one could log in.
pub(crate) type Key = Zeroizing<Vec<u8>>;

/// 144 random bits as text that a message may hold.
pub(crate) fn new_nonce() -> String {
    let mut octets = [0; 18];
    aws_lc_rs::rand::fill(&mut octets).expect("the system gives random bytes once it has booted");
    BASE64.encode(octets)
}

fn xor(one: &[u8], other: &[u8]) -> Key {
    let pairs = one.iter().zip(other);
    Zeroizing::new(pairs.map(|(a, b)| a ^ b).collect())
}

/// The value of the next attribute of a message, which must have this name, and what follows it.
fn attribute(text: &str, name: char) -> Option<(&str, &str)> {
    let value = text.strip_prefix(name)?.strip_prefix('=')?;
    Some(value.split_once(',').unwrap_or((value, "")))
}

/// A name as messages spell it (RFC 5802 section 5.1, `saslname`).
fn escape(name: &str) -> String {
    name.replace('=', "=3D").replace(',', "=2C")
}

fn unescape(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains('=') {
        return Some(text.into());
    }
    let mut parts = text.split('=');
    let mut name = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (character, rest) = match part.split_at_checked(2)? {
            ("2C", rest) => (',', rest),
            ("3D", rest) => ('=', rest),
            _ => return None,
        };
        name.push(character);
        name.push_str(rest);
    }
    Some(name.into())
}

fn is_nonce(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Has both sides hear anything at all: whatever is answered fits a SASL frame, and nothing proves
/// a password.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz(bytes: &[u8]) {
    let hash = ScramHash::Sha256;
    let nobody = || {
        (
            super::users::Verifier::impossible(hash, &[1; 16], MIN_ITERATIONS),
            false,
        )
    };
    let (first, last) = bytes.split_at(bytes.len() / 2);
    for first in [first, b"n,,n=u,r=abc"] {
        if let Ok((challenge, exchange)) =
            server::ServerExchange::begin(hash, first, "xyz", |_| nobody())
        {
            assert!(challenge.len() < 480);
            assert!(exchange.finish(last).is_err());
        }
    }
    let password = super::secret::resolve("pass:p", false).expect("a password");
    let credentials = client::Credentials::new("u", &password).expect("sound credentials");
    let (_, mut exchange) = client::ClientExchange::begin(hash, credentials.into(), "abc".into());
    // More iterations would only take time.
    if !last.ends_with(b"i=4096")
        && std::str::from_utf8(last).is_ok_and(|text| text.contains(",i="))
    {
        return;
    }
    let _ = exchange.respond(last);
    assert!(exchange.confirm(first).is_err());
}

/// RFC 7677 section 4.
pub(crate) const MIN_ITERATIONS: u32 = 4096;
/// Keeps a login under some seconds, whatever a file or a server says.
pub(crate) const MAX_ITERATIONS: u32 = 10_000_000;
/// Octets of a salt that we take: with it, every message fits a SASL frame of 512 octets.
pub(crate) const MAX_SALT: usize = 64;

#[cfg(test)]
mod tests {
    use super::client::{ClientExchange, Credentials};
    use super::server::ServerExchange;
    use super::*;
    use crate::runtime::users::Verifier;

    /// RFC 5802 section 5, RFC 7677 section 3, and the same for SHA-512.
    const EXAMPLES: [(ScramHash, &str, &str, &str, &str, &str); 2] = [
        (
            ScramHash::Sha1,
            "fyko+d2lbbFgONRv9qkxdawL",
            "3rfcNHYJY1ZVvWVs7j",
            "QSXCR+Q6sek8bf92",
            "v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
            "v=rmF9pqV8S7suAoZWja4dJRkFsKQ=",
        ),
        (
            ScramHash::Sha256,
            "rOprNGfwEbeRWgbNEkqO",
            "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0",
            "W22ZaJ0SNY7soEsUEjb6gQ==",
            "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
            "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
        ),
    ];

    #[test]
    fn the_examples_of_the_rfcs_on_both_sides() {
        for (hash, client_nonce, server_nonce, salt, proof, server_final) in EXAMPLES {
            let salt_octets = BASE64.decode(salt).unwrap();
            let verifier = Verifier::new(hash, "pencil", &salt_octets, 4096);
            let credentials = credentials("user", "pencil");
            let (first, mut client) =
                ClientExchange::begin(hash, credentials, client_nonce.to_owned());
            assert_eq!(first, format!("n,,n=user,r={client_nonce}"));
            let (challenge, server) =
                ServerExchange::begin(hash, first.as_bytes(), server_nonce, |name| {
                    assert_eq!(name, "user");
                    (verifier, true)
                })
                .unwrap();
            let nonce = format!("{client_nonce}{server_nonce}");
            assert_eq!(challenge, format!("r={nonce},s={salt},i=4096"));
            let answer = client.respond(challenge.as_bytes()).unwrap();
            assert_eq!(answer, format!("c=biws,r={nonce},p={proof}"));
            let (user, last) = server.finish(answer.as_bytes()).unwrap();
            assert_eq!((user.as_str(), last.as_str()), ("user", server_final));
            client.confirm(last.as_bytes()).unwrap();
        }
    }

    #[test]
    fn what_is_fed_is_handled() {
        for bytes in [
            &b""[..],
            b"n,,n=u,r=abcr=abcxyz,s=c2Fs,i=4096",
            b"c=biws,r=abcxyz,p=AA==",
        ] {
            fuzz(bytes);
        }
    }

    #[test]
    fn names_with_commas_and_equal_signs_arrive() {
        let name = "a,b=c=2C,";
        let verifier = Verifier::new(ScramHash::Sha512, "p", b"salt", 4096);
        let (first, mut client) =
            ClientExchange::begin(ScramHash::Sha512, credentials(name, "p"), new_nonce());
        let begun = ServerExchange::begin(
            ScramHash::Sha512,
            first.as_bytes(),
            &new_nonce(),
            |sought| {
                assert_eq!(sought, name);
                (verifier, true)
            },
        );
        let (challenge, server) = begun.unwrap();
        let answer = client.respond(challenge.as_bytes()).unwrap();
        let (user, last) = server.finish(answer.as_bytes()).unwrap();
        assert_eq!(user, name);
        client.confirm(last.as_bytes()).unwrap();
        assert_eq!(unescape("a=2Cb=3D"), Some("a,b=".into()));
        for bad in ["=", "a=2", "a=2c", "a=41", "=é"] {
            assert_eq!(unescape(bad), None, "{bad}");
        }
    }

    pub(super) fn credentials(user: &str, password: &str) -> std::sync::Arc<Credentials> {
        let password = crate::runtime::secret::resolve(password, false).unwrap();
        std::sync::Arc::new(Credentials::new(user, &password).unwrap())
    }
}
