//! The server's side of SCRAM.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::{ScramHash, attribute, is_nonce, unescape, xor};
use crate::runtime::users::Verifier;

/// An exchange whose challenge has been sent.
#[derive(Debug)]
pub(crate) struct ServerExchange {
    hash: ScramHash,
    user: String,
    verifier: Verifier,
    is_known: bool,
    /// The header of the client's first message, which its last must repeat.
    header: String,
    /// Both nonces.
    nonce: String,
    /// The client's first message without its header, a comma, our challenge and a comma.
    so_far: String,
}

impl ServerExchange {
    /// Takes a client's first message and gives the challenge. `find` has the verifier of a user
    /// and whether there is such a user; one that there is not goes through the same exchange, so
    /// that a client does not learn of it.
    ///
    /// # Errors
    /// The message is none, or asks for what we do not do; for the log.
    pub(crate) fn begin(
        hash: ScramHash,
        client_first: &[u8],
        nonce: &str,
        find: impl FnOnce(&str) -> (Verifier, bool),
    ) -> Result<(String, Self), &'static str> {
        let text = std::str::from_utf8(client_first).map_err(|_| MALFORMED)?;
        let (binding, rest) = text.split_once(',').ok_or(MALFORMED)?;
        match binding {
            "n" | "y" => {}
            _ if binding.starts_with("p=") => return Err("the peer asks for channel binding"),
            _ => return Err(MALFORMED),
        }
        let (authority, bare) = rest.split_once(',').ok_or(MALFORMED)?;
        let header = text[..text.len() - bare.len()].to_owned();
        let (name, rest) = attribute(bare, 'n').ok_or(MALFORMED)?;
        let (client_nonce, _extensions) = attribute(rest, 'r').ok_or(MALFORMED)?;
        if !is_nonce(client_nonce) || client_nonce.len() > MAX_CLIENT_NONCE {
            return Err(MALFORMED);
        }
        if !authority.is_empty() && authority.strip_prefix("a=") != Some(name) {
            return Err("the peer asks to act for another user");
        }
        let user = unescape(name)
            .filter(|name| !name.is_empty())
            .ok_or(MALFORMED)?
            .into_owned();
        let (verifier, is_known) = find(&user);
        let nonce = format!("{client_nonce}{nonce}");
        let salt = BASE64.encode(verifier.salt());
        let challenge = format!("r={nonce},s={salt},i={}", verifier.iterations());
        let exchange = Self {
            hash,
            user,
            verifier,
            is_known,
            header,
            nonce,
            so_far: format!("{bare},{challenge},"),
        };
        Ok((challenge, exchange))
    }

    /// Judges the client's answer: its user and our last message, which proves that we know the
    /// verifier.
    ///
    /// # Errors
    /// The password is wrong, or there is no such user; for the log.
    pub(crate) fn finish(self, client_final: &[u8]) -> Result<(String, String), &'static str> {
        let text = std::str::from_utf8(client_final).map_err(|_| MALFORMED)?;
        let (without_proof, proof) = text.rsplit_once(",p=").ok_or(MALFORMED)?;
        let (binding, rest) = attribute(without_proof, 'c').ok_or(MALFORMED)?;
        let (nonce, _extensions) = attribute(rest, 'r').ok_or(MALFORMED)?;
        if binding != BASE64.encode(&self.header) || nonce != self.nonce {
            return Err("the answer is not to our challenge");
        }
        let proof = BASE64.decode(proof).map_err(|_| MALFORMED)?;
        if proof.len() != self.hash.len() {
            return Err(MALFORMED);
        }
        let message = self.so_far + without_proof;
        let stored_key = self.verifier.stored_key();
        let signature = self.hash.mac(stored_key, message.as_bytes());
        let client_key = xor(&proof, &signature);
        let proved = verify_slices_are_equal(&self.hash.stored_key(&client_key), stored_key);
        if proved.is_err() || !self.is_known {
            return Err("unknown user or wrong password");
        }
        let signature = self
            .hash
            .mac(self.verifier.server_key(), message.as_bytes());
        Ok((self.user, format!("v={}", BASE64.encode(signature))))
    }
}

const MALFORMED: &str = "malformed response";
/// Octets of a client's nonce: with it, our challenge fits a SASL frame of 512 octets.
const MAX_CLIENT_NONCE: usize = 256;

#[cfg(test)]
mod tests {
    use super::super::client::ClientExchange;
    use super::super::tests::credentials;
    use super::*;

    const HASH: ScramHash = ScramHash::Sha256;

    #[test]
    fn first_messages_that_are_refused() {
        for (message, reason) in [
            ("", MALFORMED),
            ("n", MALFORMED),
            ("n,,", MALFORMED),
            ("n,,n=u", MALFORMED),
            ("n,,r=abc,n=u", MALFORMED),
            ("n,,n=,r=abc", MALFORMED),
            ("n,,n=u=zz,r=abc", MALFORMED),
            ("n,,n=u,r=", MALFORMED),
            ("n,,n=u,r=a b", MALFORMED),
            ("n,,m=ext,n=u,r=abc", MALFORMED),
            ("q,,n=u,r=abc", MALFORMED),
            (
                "p=tls-unique,,n=u,r=abc",
                "the peer asks for channel binding",
            ),
            (
                "n,a=root,n=u,r=abc",
                "the peer asks to act for another user",
            ),
            ("n,root,n=u,r=abc", "the peer asks to act for another user"),
        ] {
            let refused = ServerExchange::begin(HASH, message.as_bytes(), "x", |_| {
                panic!("nobody is looked for: {message}")
            });
            assert_eq!(refused.err(), Some(reason), "{message}");
        }
        let long = format!("n,,n=u,r={}", "x".repeat(257));
        assert!(ServerExchange::begin(HASH, long.as_bytes(), "x", |_| user()).is_err());
        assert!(ServerExchange::begin(HASH, b"n,,n=\xff,r=abc", "x", |_| user()).is_err());
        for good in ["y,,n=u,r=abc", "n,a=u,n=u,r=abc,x=ext"] {
            assert!(ServerExchange::begin(HASH, good.as_bytes(), "x", |_| user()).is_ok());
        }
    }

    #[test]
    fn the_largest_challenge_fits_a_frame() {
        let first = format!("n,,n=u,r={}", "x".repeat(MAX_CLIENT_NONCE));
        let verifier = Verifier::impossible(HASH, &[7; super::super::MAX_SALT], 10_000_000);
        let begun =
            ServerExchange::begin(HASH, first.as_bytes(), &super::super::new_nonce(), |_| {
                (verifier, false)
            });
        assert!(begun.unwrap().0.len() < 480);
    }

    #[test]
    fn answers_that_are_refused() {
        for spoil in [
            |answer: String| answer.replace("c=biws", "c=eSws"),
            |answer: String| answer.replace("r=abc", "r=abd"),
            |answer: String| answer.replace(",p=", ",p=A"),
            |answer: String| answer[..answer.len() - 4].to_owned(),
            |answer: String| answer.split(",p=").next().unwrap().to_owned(),
            |answer: String| format!("{answer},x=y"),
            |_| String::new(),
        ] {
            let (server, answer) = answered("secret", user());
            assert!(server.finish(spoil(answer).as_bytes()).is_err());
        }
        let (server, answer) = answered("secret", user());
        assert!(server.finish(answer.as_bytes()).is_ok());
        let (server, answer) = answered("guess", user());
        assert_eq!(server.finish(answer.as_bytes()), Err(WRONG));
    }

    #[test]
    fn a_user_that_does_not_exist_gets_the_same_exchange() {
        let nobody = (user().0, false);
        let (server, answer) = answered("secret", nobody);
        assert_eq!(server.finish(answer.as_bytes()), Err(WRONG));
        let nobody = (Verifier::impossible(HASH, b"some salt", 4096), false);
        let (server, answer) = answered("secret", nobody);
        assert_eq!(server.finish(answer.as_bytes()), Err(WRONG));
    }

    const WRONG: &str = "unknown user or wrong password";

    fn user() -> (Verifier, bool) {
        (Verifier::new(HASH, "secret", b"some salt", 4096), true)
    }

    fn answered(password: &str, user: (Verifier, bool)) -> (ServerExchange, String) {
        let (first, mut client) =
            ClientExchange::begin(HASH, credentials("u", password), "abc".into());
        let (challenge, server) =
            ServerExchange::begin(HASH, first.as_bytes(), "xyz", |_| user).unwrap();
        let answer = client.respond(challenge.as_bytes()).unwrap();
        (server, answer)
    }
}
