//! What is kept instead of a password: the verifier of SCRAM-SHA-256 (RFC 5802, RFC 7677).

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::{digest, hmac, pbkdf2};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use zeroize::Zeroizing;

/// `iterations`, `salt`, `StoredKey` and `ServerKey` of RFC 5802 section 3.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Verifier {
    iterations: u32,
    salt: Vec<u8>,
    stored_key: [u8; KEY_LEN],
    server_key: [u8; KEY_LEN],
}

impl Verifier {
    /// `iterations` outside of what we allow is brought inside.
    pub(super) fn new(password: &str, salt: [u8; SALT_LEN], iterations: u32) -> Self {
        let iterations = iterations.clamp(MIN_ITERATIONS, MAX_ITERATIONS);
        let salted = salted_password(password, &salt, iterations);
        Self {
            iterations,
            salt: salt.to_vec(),
            stored_key: stored_key(&salted),
            server_key: mac(salted.as_ref(), b"Server Key"),
        }
    }

    /// One that no password fits.
    pub(super) fn impossible(iterations: u32) -> Self {
        let zeros = [0; KEY_LEN];
        Self {
            iterations,
            salt: vec![0; SALT_LEN],
            stored_key: zeros,
            server_key: zeros,
        }
    }

    pub(super) fn verify(&self, password: &str) -> bool {
        let salted = salted_password(password, &self.salt, self.iterations);
        verify_slices_are_equal(&stored_key(&salted), &self.stored_key).is_ok()
    }

    pub(super) fn iterations(&self) -> u32 {
        self.iterations
    }
}

impl fmt::Display for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
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
        write!(f, "{SCHEME}${iterations}:{salt}${stored}:{server}")
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier")
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
            .map_err(|_| format!("expected {SCHEME}$iterations:salt$StoredKey:ServerKey"))?;
        if scheme != SCHEME {
            return Err(format!("scheme '{scheme}' is unknown; valid: {SCHEME}"));
        }
        let (iterations, salt) = pair(parameters)?;
        let (stored_key, server_key) = pair(keys)?;
        let iterations = iterations
            .parse()
            .ok()
            .filter(|count| (MIN_ITERATIONS..=MAX_ITERATIONS).contains(count))
            .ok_or_else(|| {
                format!("iterations '{iterations}': must be {MIN_ITERATIONS} to {MAX_ITERATIONS}")
            })?;
        Ok(Self {
            iterations,
            salt: BASE64
                .decode(salt)
                .map_err(|error| format!("salt: {error}"))?,
            stored_key: key(stored_key)?,
            server_key: key(server_key)?,
        })
    }
}

fn pair(text: &str) -> Result<(&str, &str), String> {
    text.split_once(':')
        .ok_or_else(|| format!("expected a ':' in '{text}'"))
}

fn key(text: &str) -> Result<[u8; KEY_LEN], String> {
    let bytes = BASE64
        .decode(text)
        .map_err(|error| format!("key: {error}"))?;
    bytes
        .try_into()
        .map_err(|_| format!("a key must have {KEY_LEN} bytes"))
}

fn salted_password(password: &str, salt: &[u8], iterations: u32) -> Zeroizing<[u8; KEY_LEN]> {
    let iterations = NonZeroU32::new(iterations).unwrap_or(NonZeroU32::MIN);
    let mut salted = Zeroizing::new([0; KEY_LEN]);
    pbkdf2::derive(
        pbkdf2::PBKDF2_HMAC_SHA256,
        iterations,
        salt,
        password.as_bytes(),
        salted.as_mut(),
    );
    salted
}

fn stored_key(salted: &[u8; KEY_LEN]) -> [u8; KEY_LEN] {
    let client_key = Zeroizing::new(mac(salted, b"Client Key"));
    let digest = digest::digest(&digest::SHA256, client_key.as_ref());
    digest.as_ref().try_into().expect("SHA-256 gives 32 bytes")
}

fn mac(key: &[u8], text: &[u8]) -> [u8; KEY_LEN] {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text);
    tag.as_ref()
        .try_into()
        .expect("HMAC-SHA-256 gives 32 bytes")
}

/// How dear a guess is unless said otherwise.
pub const DEFAULT_ITERATIONS: u32 = 100_000;
/// RFC 7677 section 4.
pub(super) const MIN_ITERATIONS: u32 = 4096;
/// Keeps a login under some seconds whatever a file says.
pub(super) const MAX_ITERATIONS: u32 = 10_000_000;
pub(super) const SALT_LEN: usize = 16;

const KEY_LEN: usize = 32;
const SCHEME: &str = "SCRAM-SHA-256";

#[cfg(test)]
mod tests {
    use super::*;

    /// The exchange of RFC 7677 section 3: its client proof follows from StoredKey, its server
    /// signature from ServerKey.
    #[test]
    fn the_keys_are_those_of_rfc_7677() {
        let salt = BASE64.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let verifier = Verifier::new("pencil", salt.try_into().unwrap(), 4096);
        let message = b"n=user,r=rOprNGfwEbeRWgbNEkqO,r=rOprNGfwEbeRWgbNEkqO\
            %hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,\
            c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
        let signature = mac(&verifier.server_key, message);
        assert_eq!(
            BASE64.encode(signature),
            "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
        );
        let proof = BASE64
            .decode("dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=")
            .unwrap();
        let client_signature = mac(&verifier.stored_key, message);
        let client_key: Vec<u8> = proof
            .iter()
            .zip(client_signature)
            .map(|(a, b)| a ^ b)
            .collect();
        let digest = digest::digest(&digest::SHA256, &client_key);
        assert_eq!(digest.as_ref(), verifier.stored_key);
    }

    #[test]
    fn text_and_back() {
        let verifier = Verifier::new("x", [7; SALT_LEN], 5000);
        assert_eq!(verifier.to_string().parse(), Ok(verifier));
        for bad in [
            "",
            "SCRAM-SHA-256$1:AA==$AA==:AA==",
            "SCRAM-SHA-256$99999999999:AA==$AA==:AA==",
            "SCRAM-SHA-1$4096:AA==$AA==:AA==",
            "SCRAM-SHA-256$4096:AA==$AA==:AA==",
            "SCRAM-SHA-256$4096$AA==",
        ] {
            assert!(bad.parse::<Verifier>().is_err(), "{bad}");
        }
    }
}
