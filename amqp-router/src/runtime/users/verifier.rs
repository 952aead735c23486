//! What is kept instead of a password: the verifier of a SCRAM mechanism (RFC 5802, RFC 7677).

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::runtime::scram::{MAX_ITERATIONS, MAX_SALT, MIN_ITERATIONS, ScramHash};

/// `iterations`, `salt`, `StoredKey` and `ServerKey` of RFC 5802 section 3.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Verifier {
    hash: ScramHash,
    iterations: u32,
    salt: Vec<u8>,
    stored_key: Vec<u8>,
    server_key: Vec<u8>,
}

impl Verifier {
    /// `iterations` outside of what we allow is brought inside.
    pub(crate) fn new(hash: ScramHash, password: &str, salt: &[u8], iterations: u32) -> Self {
        let iterations = iterations.clamp(MIN_ITERATIONS, MAX_ITERATIONS);
        let salted = hash.salted_password(password, salt, iterations);
        Self {
            hash,
            iterations,
            salt: salt.to_vec(),
            stored_key: hash.stored_key(&hash.client_key(&salted)),
            server_key: hash.server_key(&salted),
        }
    }

    /// One that no password fits.
    pub(crate) fn impossible(hash: ScramHash, salt: &[u8], iterations: u32) -> Self {
        let zeros = vec![0; hash.len()];
        Self {
            hash,
            iterations,
            salt: salt.to_vec(),
            stored_key: zeros.clone(),
            server_key: zeros,
        }
    }

    /// Takes long on purpose.
    pub(super) fn verify(&self, password: &str) -> bool {
        let hash = self.hash;
        let salted = hash.salted_password(password, &self.salt, self.iterations);
        let stored_key = hash.stored_key(&hash.client_key(&salted));
        verify_slices_are_equal(&stored_key, &self.stored_key).is_ok()
    }

    pub(crate) fn hash(&self) -> ScramHash {
        self.hash
    }

    pub(crate) fn iterations(&self) -> u32 {
        self.iterations
    }

    pub(crate) fn salt(&self) -> &[u8] {
        &self.salt
    }

    pub(crate) fn stored_key(&self) -> &[u8] {
        &self.stored_key
    }

    pub(crate) fn server_key(&self) -> &[u8] {
        &self.server_key
    }
}

/// As RFC 5803 has it.
impl fmt::Display for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            hash,
            iterations,
            salt,
            stored_key,
            server_key,
        } = self;
        let (salt, stored, server) = (
            BASE64.encode(salt),
            BASE64.encode(stored_key),
            BASE64.encode(server_key),
        );
        write!(f, "{hash}${iterations}:{salt}${stored}:{server}")
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier")
            .field("hash", &self.hash)
            .field("iterations", &self.iterations)
            .finish_non_exhaustive()
    }
}

impl FromStr for Verifier {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let [scheme, parameters, keys] = text
            .split('$')
            .collect::<Vec<_>>()
            .try_into()
            .map_err(|_| "expected SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey")?;
        let hash = ScramHash::ALL
            .into_iter()
            .find(|hash| hash.mechanism() == scheme)
            .ok_or_else(|| {
                let valid = ScramHash::ALL.map(ScramHash::mechanism).join(", ");
                format!("scheme '{scheme}' is unknown; valid: {valid}")
            })?;
        let (iterations, salt) = pair(parameters)?;
        let (stored_key, server_key) = pair(keys)?;
        let iterations = iterations
            .parse()
            .ok()
            .filter(|count| (MIN_ITERATIONS..=MAX_ITERATIONS).contains(count))
            .ok_or_else(|| {
                format!("iterations '{iterations}': must be {MIN_ITERATIONS} to {MAX_ITERATIONS}")
            })?;
        let salt = BASE64
            .decode(salt)
            .map_err(|error| format!("salt: {error}"))?;
        if salt.is_empty() || salt.len() > MAX_SALT {
            return Err(format!("a salt must have 1 to {MAX_SALT} bytes"));
        }
        Ok(Self {
            hash,
            iterations,
            salt,
            stored_key: key(hash, stored_key)?,
            server_key: key(hash, server_key)?,
        })
    }
}

fn pair(text: &str) -> Result<(&str, &str), String> {
    text.split_once(':')
        .ok_or_else(|| format!("expected a ':' in '{text}'"))
}

fn key(hash: ScramHash, text: &str) -> Result<Vec<u8>, String> {
    let bytes = BASE64
        .decode(text)
        .map_err(|error| format!("key: {error}"))?;
    match bytes.len() == hash.len() {
        true => Ok(bytes),
        false => Err(format!("a key of {hash} must have {} bytes", hash.len())),
    }
}

/// How dear a guess is unless said otherwise.
pub const DEFAULT_ITERATIONS: u32 = 100_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_back() {
        for hash in ScramHash::ALL {
            let verifier = Verifier::new(hash, "x", &[7; 16], 5000);
            let text = verifier.to_string();
            assert!(text.starts_with(&format!("{hash}$5000:")), "{text}");
            assert!(verifier.verify("x") && !verifier.verify("y"));
            assert_eq!(text.parse(), Ok(verifier));
        }
        for bad in [
            "",
            "SCRAM-SHA-256$1:AA==$AA==:AA==",
            "SCRAM-SHA-256$99999999999:AA==$AA==:AA==",
            "SCRAM-MD5$4096:AA==$AA==:AA==",
            "SCRAM-SHA-1$4096:AA==$AA==:AA==",
            "SCRAM-SHA-256$4096:AA==$AA==:AA==",
            "SCRAM-SHA-256$4096$AA==",
        ] {
            assert!(bad.parse::<Verifier>().is_err(), "{bad}");
        }
    }
}
