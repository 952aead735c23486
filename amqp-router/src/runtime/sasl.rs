//! SASL as listeners offer it and connectors choose it: ANONYMOUS, PLAIN, SCRAM and EXTERNAL.

mod client;
mod logins;
mod mechanism;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::task::spawn_blocking;
use tracing::warn;
use zeroize::Zeroizing;

use super::scram::server::ServerExchange;
use super::scram::{ScramHash, new_nonce};
use super::tls::TlsInfo;

pub(crate) use client::client_choices;
pub(crate) use logins::{Logins, SharedLogins};
pub(crate) use mechanism::Mechanism;

/// Decides which mechanisms a listener offers and whom it lets in.
#[derive(Debug)]
pub(crate) struct Authenticator {
    listener: String,
    mechanisms: Vec<Mechanism>,
    authenticate_peer: bool,
    require_encryption: bool,
    can_encrypt: bool,
    users: Option<Arc<Logins>>,
    warned: AtomicBool,
}

/// The attributes of a listener that concern authentication.
#[derive(Clone, Debug, Default)]
pub(crate) struct SaslSettings {
    pub(crate) listener: String,
    /// `saslMechanisms`; absent: whatever the rest allows.
    pub(crate) mechanisms: Option<String>,
    /// A peer that is nobody in particular is refused, and so is one that skips SASL.
    pub(crate) authenticate_peer: bool,
    /// `requireEncryption` or `requireSsl`.
    pub(crate) require_encryption: bool,
    /// There is an `sslProfile`.
    pub(crate) can_encrypt: bool,
    /// For PLAIN and SCRAM; absent: they are not offered.
    pub(crate) users: Option<Arc<Logins>>,
}

impl Authenticator {
    pub(crate) fn new(settings: SaslSettings) -> Self {
        let SaslSettings {
            listener,
            mechanisms,
            authenticate_peer,
            require_encryption,
            can_encrypt,
            users,
        } = settings;
        let named = mechanisms
            .as_ref()
            .is_some_and(|names| !names.trim().is_empty());
        for unknown in Mechanism::unknown(mechanisms.as_deref()) {
            warn!(target: "SERVER", "Listener '{listener}': saslMechanisms names {unknown}, which \
                this router does not know; it is not offered");
        }
        let mut mechanisms = Mechanism::list(mechanisms.as_deref());
        let listed = |mechanism| named && mechanisms.contains(&mechanism);
        let for_passwords = mechanisms.iter().find(|mechanism| mechanism.needs_users());
        if let Some(mechanism) = for_passwords.filter(|_| named && users.is_none()) {
            warn!(target: "SERVER", "Listener '{listener}': {mechanism} is listed but there is no \
                users file (saslConfigDir, saslConfigName); it is not offered");
        }
        if listed(Mechanism::Anonymous) && authenticate_peer {
            warn!(target: "SERVER", "Listener '{listener}': ANONYMOUS is listed but \
                authenticatePeer is set; it is not offered");
        }
        mechanisms.retain(|mechanism| match mechanism {
            Mechanism::External => true,
            Mechanism::Scram(_) | Mechanism::Plain => users.is_some(),
            Mechanism::Anonymous => !authenticate_peer,
        });
        let warned = AtomicBool::new(false);
        Self {
            listener,
            mechanisms,
            authenticate_peer,
            require_encryption,
            can_encrypt,
            users,
            warned,
        }
    }

    /// Tells the log where nobody can ever attach.
    pub(crate) fn warn_if_shut(&self) {
        if let Some(reason) = self.shut() {
            warn!(target: "SERVER", "Listener '{}': nobody can attach: {reason}", self.listener);
        }
    }

    fn shut(&self) -> Option<&'static str> {
        let cannot = |mechanism: &Mechanism| *mechanism == Mechanism::External;
        match self.can_encrypt {
            false if self.require_encryption => {
                Some("requireEncryption is set, but there is no sslProfile to encrypt with")
            }
            false if self.mechanisms.iter().all(cannot) => Some(
                "no mechanism can be offered. EXTERNAL needs an sslProfile, PLAIN and SCRAM a \
                 users file (saslConfigDir, saslConfigName), ANONYMOUS 'authenticatePeer: no'",
            ),
            true if self.mechanisms.is_empty() => Some(
                "no mechanism can be offered. PLAIN and SCRAM need a users file (saslConfigDir, \
                 saslConfigName), ANONYMOUS 'authenticatePeer: no'",
            ),
            _ => None,
        }
    }

    /// Whether a peer is refused because its connection is in clear.
    pub(crate) fn wants_encryption(&self, tls: Option<&TlsInfo>) -> bool {
        self.require_encryption && tls.is_none()
    }

    /// Whether a peer must go through SASL: one that starts with a bare AMQP header is refused.
    pub(crate) fn is_required(&self) -> bool {
        self.authenticate_peer
    }

    /// The mechanisms that this listener can ever offer; decides on
    /// [client certificates](super::tls::ClientCertificate::wanted).
    pub(crate) fn mechanisms(&self) -> &[Mechanism] {
        &self.mechanisms
    }

    /// What is offered to a peer on a connection with or without TLS: EXTERNAL only to one that
    /// has shown a certificate, of SCRAM what any user can use, nothing at all in clear where
    /// encryption is required.
    pub(crate) fn offered(&self, tls: Option<&TlsInfo>) -> Vec<Mechanism> {
        let mut offered = self.mechanisms.clone();
        offered.retain(|mechanism| self.possible(*mechanism, tls));
        offered
    }

    /// Begins an exchange of SCRAM with what the peer's `sasl-init` holds: the challenge, and what
    /// judges the answer to it.
    ///
    /// # Errors
    /// The peer is refused; the reason is for the log.
    pub(crate) fn challenge(
        &self,
        hash: ScramHash,
        response: &[u8],
        tls: Option<&TlsInfo>,
    ) -> Result<(String, ServerExchange), &'static str> {
        let mechanism = Mechanism::Scram(hash);
        let offered = self.mechanisms.contains(&mechanism) && self.possible(mechanism, tls);
        let logins = self.users.as_ref().filter(|_| offered).ok_or(NOT_OFFERED)?;
        let users = logins.users.users();
        ServerExchange::begin(hash, response, &new_nonce(), |name| {
            users.verifier(name, hash)
        })
    }

    /// Judges the peer's `sasl-init`. PLAIN takes long on purpose (see
    /// [`Users::verify`](super::users::Users::verify)): not to be called on a worker's thread.
    pub(crate) fn authenticate(
        &self,
        mechanism: &str,
        response: &[u8],
        tls: Option<&TlsInfo>,
    ) -> Outcome {
        let chosen = Mechanism::from_name(mechanism)
            .filter(|chosen| self.mechanisms.contains(chosen) && self.possible(*chosen, tls));
        let user = match chosen {
            None => Err(NOT_OFFERED),
            Some(Mechanism::Scram(_)) => Err("a challenge comes first"),
            Some(Mechanism::Anonymous) => Ok("anonymous".into()),
            Some(Mechanism::External) => external(response, tls),
            Some(Mechanism::Plain) => self.plain(response, tls),
        };
        match (chosen, user) {
            (Some(mechanism), Ok(user)) => Outcome::Accepted { user, mechanism },
            (_, Err(reason)) => Outcome::Rejected { reason },
            (None, Ok(_)) => Outcome::Rejected {
                reason: NOT_OFFERED,
            },
        }
    }

    /// [`authenticate`](Self::authenticate) for asynchronous callers: what takes long runs on
    /// another thread, and only as many at a time as leave processors for messages.
    pub(crate) async fn authenticate_in_background(
        self: Arc<Self>,
        mechanism: String,
        response: Zeroizing<Vec<u8>>,
        tls: Option<TlsInfo>,
    ) -> Outcome {
        let logins = match (Mechanism::from_name(&mechanism), &self.users) {
            (Some(Mechanism::Plain), Some(logins)) => logins.clone(),
            _ => return self.authenticate(&mechanism, &response, tls.as_ref()),
        };
        let Ok(_permit) = logins.permits.acquire().await else {
            return Outcome::Rejected {
                reason: "the router is stopping",
            };
        };
        spawn_blocking(move || self.authenticate(&mechanism, &response, tls.as_ref()))
            .await
            .unwrap_or(Outcome::Rejected {
                reason: "the router is stopping",
            })
    }

    fn possible(&self, mechanism: Mechanism, tls: Option<&TlsInfo>) -> bool {
        match mechanism {
            _ if self.wants_encryption(tls) => false,
            Mechanism::External => tls.is_some_and(|tls| tls.user.is_some()),
            Mechanism::Scram(hash) => self
                .users
                .as_ref()
                .is_some_and(|logins| logins.users.users().serve(hash)),
            Mechanism::Plain | Mechanism::Anonymous => true,
        }
    }

    fn plain(&self, response: &[u8], tls: Option<&TlsInfo>) -> Result<String, &'static str> {
        if tls.is_none() && !self.warned.swap(true, Ordering::Relaxed) {
            warn!(target: "SERVER", "Listener '{}': a peer has sent its password in clear; \
                requireEncryption would forbid it", self.listener);
        }
        let logins = self.users.as_ref().ok_or(NOT_OFFERED)?;
        let (authority, name, password) = plain_message(response).ok_or("malformed response")?;
        let known = logins.users.verify(name, password);
        match known && (authority.is_empty() || authority == name) {
            true => Ok(name.to_owned()),
            false => Err("unknown user or wrong password"),
        }
    }
}

/// How a peer's attempt to authenticate ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Accepted {
        user: String,
        mechanism: Mechanism,
    },
    /// The reason is for the log, not for the peer.
    Rejected {
        reason: &'static str,
    },
}

fn external(response: &[u8], tls: Option<&TlsInfo>) -> Result<String, &'static str> {
    let user = tls
        .and_then(|tls| tls.user.clone())
        .ok_or("no client certificate")?;
    match response.is_empty() || response == user.as_bytes() {
        true => Ok(user),
        false => Err("the peer asks to act for another user"),
    }
}

/// Who tries to authenticate and how, for the log; never what is secret.
pub(crate) fn attempt(mechanism: &str, response: &[u8], tls: Option<&TlsInfo>) -> String {
    let user = match Mechanism::from_name(mechanism) {
        Some(Mechanism::Plain) => plain_message(response).map(|(_, name, _)| name),
        Some(Mechanism::Scram(_)) => std::str::from_utf8(response)
            .ok()
            .and_then(|text| text.split(',').find_map(|part| part.strip_prefix("n="))),
        Some(Mechanism::External) => tls.and_then(|tls| tls.user.as_deref()),
        _ => None,
    };
    let cut = |text: &str| -> String { text.chars().take(MAX_SHOWN).collect() };
    let by = format!(" by {}", cut(mechanism).escape_debug());
    match user {
        Some(user) => format!(" as '{}'{by}", cut(user).escape_debug()),
        None => by,
    }
}

/// `[authzid] NUL authcid NUL passwd` (RFC 4616 section 2).
fn plain_message(response: &[u8]) -> Option<(&str, &str, &str)> {
    let text = std::str::from_utf8(response)
        .ok()
        .filter(|text| text.len() <= MAX_PLAIN)?;
    let mut parts = text.split('\0');
    let message = (parts.next()?, parts.next()?, parts.next()?);
    (parts.next().is_none() && !message.1.is_empty() && !message.2.is_empty()).then_some(message)
}

const NOT_OFFERED: &str = "the mechanism was not offered";
/// Characters of what a peer says it is that are logged.
const MAX_SHOWN: usize = 64;
/// Three parts of 255 bytes each, which is what RFC 4616 asks servers to take.
const MAX_PLAIN: usize = 3 * 255 + 2;
