//! The client's side of SCRAM.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use zeroize::Zeroizing;

use super::{
    Key, MAX_ITERATIONS, MAX_SALT, MIN_ITERATIONS, ScramHash, attribute, escape, is_nonce, xor,
};
use crate::runtime::secret::Secret;
use crate::runtime::users::prepare;

/// A name and its password, and the keys that a server asked for the last time, which take long to
/// have.
pub(crate) struct Credentials {
    user: String,
    password: Zeroizing<String>,
    derived: Mutex<Option<(Salting, Keys)>>,
}

impl Credentials {
    /// `None` where the name or password is empty, too long or has what SASLprep prohibits.
    pub(crate) fn new(user: &str, password: &Secret) -> Option<Self> {
        let prepared = prepare(user)?.into_owned();
        let password = Zeroizing::new(prepare(password.as_str())?.into_owned());
        (escape(&prepared).len() <= MAX_NAME).then_some(Self {
            user: prepared,
            password,
            derived: Mutex::default(),
        })
    }

    /// Takes long, unless the server says the same as the last time.
    fn keys(&self, salting: Salting) -> Keys {
        let mut derived = self.derived.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, keys)) = &*derived
            && *known == salting
        {
            return keys.clone();
        }
        let hash = salting.hash;
        let salted = hash.salted_password(&self.password, &salting.salt, salting.iterations);
        let keys = Keys {
            client: hash.client_key(&salted),
            server: Zeroizing::new(hash.server_key(&salted)),
        };
        *derived = Some((salting, keys.clone()));
        keys
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// How a server has its passwords hashed.
#[derive(PartialEq, Eq)]
struct Salting {
    hash: ScramHash,
    salt: Vec<u8>,
    iterations: u32,
}

#[derive(Clone)]
struct Keys {
    client: Key,
    server: Key,
}

/// An exchange whose first message has been made.
#[derive(Debug)]
pub(crate) struct ClientExchange {
    hash: ScramHash,
    credentials: Arc<Credentials>,
    nonce: String,
    /// The first message without its header.
    bare: String,
    /// What the server's last message must hold, once we have answered its challenge.
    signature: Option<Vec<u8>>,
    /// The server has proved itself.
    is_confirmed: bool,
}

impl ClientExchange {
    /// The first message.
    pub(crate) fn begin(
        hash: ScramHash,
        credentials: Arc<Credentials>,
        nonce: String,
    ) -> (String, Self) {
        let bare = format!("n={},r={nonce}", escape(&credentials.user));
        let message = format!("{HEADER}{bare}");
        let exchange = Self {
            hash,
            credentials,
            nonce,
            bare,
            signature: None,
            is_confirmed: false,
        };
        (message, exchange)
    }

    /// Answers the server's challenge. Takes long on purpose: not to be called on a worker's
    /// thread.
    ///
    /// # Errors
    /// The challenge is none, or would have the password hashed too little or without end.
    pub(crate) fn respond(&mut self, server_first: &[u8]) -> Result<String, &'static str> {
        let text = std::str::from_utf8(server_first).map_err(|_| MALFORMED)?;
        let (nonce, rest) = attribute(text, 'r').ok_or(MALFORMED)?;
        let (salt, rest) = attribute(rest, 's').ok_or(MALFORMED)?;
        let (iterations, _extensions) = attribute(rest, 'i').ok_or(MALFORMED)?;
        let own = nonce.strip_prefix(&self.nonce).ok_or(MALFORMED)?;
        if !is_nonce(own) {
            return Err(MALFORMED);
        }
        let salt = BASE64.decode(salt).map_err(|_| MALFORMED)?;
        if salt.is_empty() || salt.len() > MAX_SALT {
            return Err(MALFORMED);
        }
        let iterations: u32 = iterations.parse().map_err(|_| MALFORMED)?;
        if !(MIN_ITERATIONS..=MAX_ITERATIONS).contains(&iterations) {
            return Err("the server asks for too few or too many iterations");
        }
        let keys = self.credentials.keys(Salting {
            hash: self.hash,
            salt,
            iterations,
        });
        let without_proof = format!("c={},r={nonce}", BASE64.encode(HEADER));
        let message = format!("{},{text},{without_proof}", self.bare);
        let stored_key = self.hash.stored_key(&keys.client);
        let signature = self.hash.mac(&stored_key, message.as_bytes());
        let proof = BASE64.encode(xor(&keys.client, &signature));
        self.signature = Some(self.hash.mac(&keys.server, message.as_bytes()));
        Ok(format!("{without_proof},p={proof}"))
    }

    /// Whether the challenge has been answered, and the server is to prove itself next.
    pub(crate) fn has_responded(&self) -> bool {
        self.signature.is_some()
    }

    /// Whether the server has proved itself.
    pub(crate) fn is_confirmed(&self) -> bool {
        self.is_confirmed
    }

    /// Checks the server's last message.
    ///
    /// # Errors
    /// Whoever sent it does not know the verifier of our password.
    pub(crate) fn confirm(&mut self, server_final: &[u8]) -> Result<(), &'static str> {
        let wrong = "the server has not proved that it knows the password";
        let expected = self.signature.as_ref().ok_or(wrong)?;
        let text = std::str::from_utf8(server_final).map_err(|_| MALFORMED)?;
        let (signature, _extensions) = attribute(text, 'v').ok_or(wrong)?;
        let signature = BASE64.decode(signature).map_err(|_| MALFORMED)?;
        verify_slices_are_equal(&signature, expected).map_err(|_| wrong)?;
        self.is_confirmed = true;
        Ok(())
    }
}

/// No channel binding, no other user to act for.
const HEADER: &str = "n,,";
/// Octets of a name as messages spell it: with it, the first one fits a SASL frame of 512 octets.
const MAX_NAME: usize = 255;
const MALFORMED: &str = "malformed challenge";

#[cfg(test)]
mod tests {
    use super::super::tests::credentials;
    use super::*;

    #[test]
    fn challenges_that_are_refused() {
        for challenge in [
            "",
            "r=abcxyz",
            "r=abc,s=c2FsdA==,i=4096",
            "r=xyz,s=c2FsdA==,i=4096",
            "s=c2FsdA==,r=abcxyz,i=4096",
            "r=abcxyz,s=,i=4096",
            "r=abcxyz,s=!,i=4096",
            "r=abcxyz,s=c2FsdA==,i=4095",
            "r=abcxyz,s=c2FsdA==,i=10000001",
            "r=abcxyz,s=c2FsdA==,i=-1",
            "m=ext,r=abcxyz,s=c2FsdA==,i=4096",
            "e=other-error",
        ] {
            let mut client = begun();
            assert!(client.respond(challenge.as_bytes()).is_err(), "{challenge}");
            assert!(!client.has_responded());
        }
        let mut client = begun();
        let challenge = "r=abcxyz,s=c2FsdA==,i=4096,x=extension";
        assert!(client.respond(challenge.as_bytes()).is_ok());
    }

    #[test]
    fn a_server_that_does_not_know_the_password_is_found_out() {
        let mut client = begun();
        assert!(client.confirm(b"v=AAAA").is_err(), "before the challenge");
        client.respond(b"r=abcxyz,s=c2FsdA==,i=4096").unwrap();
        for last in ["", "v=", "v=AAAA", "v=!", "e=unknown-user"] {
            assert!(client.confirm(last.as_bytes()).is_err(), "{last}");
        }
    }

    #[test]
    fn keys_are_derived_once_for_one_salt() {
        let credentials = credentials("u", "p");
        let salting = |salt: &[u8]| Salting {
            hash: ScramHash::Sha256,
            salt: salt.to_vec(),
            iterations: 4096,
        };
        let first = credentials.keys(salting(b"one"));
        assert_eq!(credentials.keys(salting(b"one")).client, first.client);
        assert_ne!(credentials.keys(salting(b"two")).client, first.client);
        assert!(!format!("{credentials:?}").contains('p'.to_string().repeat(2).as_str()));
    }

    fn begun() -> ClientExchange {
        ClientExchange::begin(ScramHash::Sha256, credentials("u", "p"), "abc".into()).1
    }
}
