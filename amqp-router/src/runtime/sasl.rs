//! SASL as listeners offer it and connectors choose it: ANONYMOUS, PLAIN, SCRAM and EXTERNAL.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tracing::warn;
use zeroize::Zeroizing;

use super::scram::server::ServerExchange;
use super::scram::{ScramHash, new_nonce};
use super::secret::Secret;
use super::tls::TlsInfo;
use super::users::{UsersError, UsersFile};
use crate::codec::Symbol;
use crate::endpoint::{ClientChoice, Opening};

/// The mechanisms we speak, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mechanism {
    /// The peer is who its TLS certificate says (RFC 4422 appendix A).
    External,
    /// A password that is proved and not told (RFC 5802).
    Scram(ScramHash),
    /// Name and password (RFC 4616).
    Plain,
    /// Nobody in particular (RFC 4505).
    Anonymous,
}

impl Mechanism {
    const ALL: [Self; 6] = [
        Self::External,
        Self::Scram(ScramHash::Sha512),
        Self::Scram(ScramHash::Sha256),
        Self::Scram(ScramHash::Sha1),
        Self::Plain,
        Self::Anonymous,
    ];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::External => "EXTERNAL",
            Self::Scram(hash) => hash.mechanism(),
            Self::Plain => "PLAIN",
            Self::Anonymous => "ANONYMOUS",
        }
    }

    /// SASL names are upper case on the wire; configurations are read with more patience.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|mechanism| mechanism.as_str().eq_ignore_ascii_case(name))
    }

    /// What a `saslMechanisms` attribute names and we do not speak.
    fn unknown(names: Option<&str>) -> Vec<&str> {
        let names = names.unwrap_or_default().split([' ', ',', '\t']);
        names
            .filter(|name| !name.is_empty() && Self::from_name(name).is_none())
            .collect()
    }

    fn needs_users(self) -> bool {
        matches!(self, Self::Plain | Self::Scram(_))
    }

    /// The mechanisms that a `saslMechanisms` attribute allows; without a list, all of them.
    /// Those that only other implementations have are left out.
    pub(crate) fn list(names: Option<&str>) -> Vec<Self> {
        let Some(names) = names.filter(|names| !names.trim().is_empty()) else {
            return Self::ALL.to_vec();
        };
        let names: Vec<_> = names
            .split([' ', ',', '\t'])
            .filter_map(Self::from_name)
            .collect();
        Self::ALL
            .into_iter()
            .filter(|mechanism| names.contains(mechanism))
            .collect()
    }
}

impl AsRef<str> for Mechanism {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Display for Mechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

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

/// The users of a router, shared by its listeners.
#[derive(Debug)]
pub(crate) struct Logins {
    users: UsersFile,
    permits: Semaphore,
}

impl Logins {
    pub(crate) fn new(users: UsersFile) -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            users,
            permits: Semaphore::new((processors / 2).max(1)),
        }
    }
}

/// The users of a router, once somebody has asked for them: all its listeners have the same,
/// whenever they come.
#[derive(Clone, Debug, Default)]
pub(crate) struct SharedLogins(Arc<Mutex<Option<Arc<Logins>>>>);

impl SharedLogins {
    /// The users of the file that `saslConfigDir` and `saslConfigName` lead to; none where there is
    /// no such file. It is opened once, and then read again whenever it changes.
    ///
    /// # Errors
    /// It cannot be opened. The next who asks tries again.
    pub(crate) fn get_or_open(
        &self,
        directory: Option<&Path>,
        name: &str,
    ) -> Result<Option<Arc<Logins>>, UsersError> {
        let mut opened = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if opened.is_none()
            && let Some(file) = users_file(directory, name)
        {
            *opened = Some(Arc::new(Logins::new(UsersFile::open(&file)?)));
        }
        Ok(opened.clone())
    }
}

/// Where the users are, by the router's `saslConfigDir` and `saslConfigName`:
/// `<saslConfigDir>/<saslConfigName>.users`, if it exists.
fn users_file(directory: Option<&Path>, name: &str) -> Option<PathBuf> {
    let file = directory?.join(format!("{name}.users"));
    file.exists().then_some(file)
}

/// What a connector may say in `sasl-init`, the best first. EXTERNAL needs an own certificate in
/// the sslProfile, PLAIN and SCRAM a name and a password.
pub(crate) fn client_choices(
    mechanisms: Option<&str>,
    has_certificate: bool,
    user: Option<(&str, &Secret)>,
) -> Vec<ClientChoice> {
    let choice = |mechanism: Mechanism| {
        let opening = match mechanism {
            Mechanism::External => has_certificate.then(|| Opening::Response(Bytes::new())),
            Mechanism::Scram(_) => user.is_some().then_some(Opening::Exchange),
            Mechanism::Plain => user.map(|(name, password)| {
                let message = format!("\0{name}\0{}", password.as_str());
                Opening::Response(message.into())
            }),
            Mechanism::Anonymous => Some(Opening::Response(Bytes::from_static(b"anonymous"))),
        };
        opening.map(|opening| ClientChoice {
            mechanism: Symbol::from(mechanism.as_str()),
            opening,
        })
    };
    let list = Mechanism::list(mechanisms);
    list.into_iter().filter_map(choice).collect()
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

#[cfg(test)]
mod tests {
    use super::super::users::Users;
    use super::*;

    #[test]
    fn without_a_list_whatever_is_possible_is_offered() {
        let listener = authenticator(SaslSettings::default());
        assert_eq!(
            names(&listener, None),
            ["SCRAM-SHA-256", "PLAIN", "ANONYMOUS"]
        );
        assert_eq!(
            names(&listener, Some(&tls(None))),
            ["SCRAM-SHA-256", "PLAIN", "ANONYMOUS"]
        );
        let certified = tls(Some("CN=alice"));
        assert_eq!(
            names(&listener, Some(&certified)),
            ["EXTERNAL", "SCRAM-SHA-256", "PLAIN", "ANONYMOUS"]
        );
        assert!(!listener.is_required());
    }

    #[test]
    fn an_attempt_is_told_without_its_secret() {
        assert_eq!(
            attempt("PLAIN", b"\0a\nb\0secret", None),
            " as 'a\\nb' by PLAIN"
        );
        assert_eq!(attempt("PLAIN", b"secret", None), " by PLAIN");
        assert_eq!(
            attempt("SCRAM-SHA-256", b"n,,n=ann,r=x", None),
            " as 'ann' by SCRAM-SHA-256"
        );
        assert_eq!(
            attempt("EXTERNAL", b"CN=bob", Some(&tls(Some("CN=ann")))),
            " as 'CN=ann' by EXTERNAL"
        );
        assert_eq!(
            attempt(&"x".repeat(99), b"secret", None).len(),
            4 + MAX_SHOWN
        );
    }

    #[test]
    fn configuration_knows_the_same_mechanisms() {
        let known = crate::management::config::check::SASL_MECHANISMS;
        assert_eq!(known, Mechanism::ALL.map(Mechanism::as_str));
        assert_eq!(Mechanism::unknown(Some("PLAIN, plane")), ["plane"]);
    }

    #[test]
    fn the_list_limits_what_is_offered() {
        let list = |list: &str| SaslSettings {
            mechanisms: Some(list.into()),
            ..Default::default()
        };
        let listener = authenticator(list("ANONYMOUS,external DIGEST-MD5"));
        assert_eq!(
            names(&listener, Some(&tls(Some("x")))),
            ["EXTERNAL", "ANONYMOUS"]
        );
        let listener = Authenticator::new(list("PLAIN"));
        assert_eq!(names(&listener, None), [""; 0], "no users file");
    }

    #[test]
    fn a_peer_that_must_authenticate_cannot_be_anonymous() {
        let listener = authenticator(SaslSettings {
            authenticate_peer: true,
            ..Default::default()
        });
        assert!(listener.is_required());
        assert_eq!(names(&listener, None), ["SCRAM-SHA-256", "PLAIN"]);
        assert!(matches!(
            listener.authenticate("ANONYMOUS", b"", None),
            Outcome::Rejected {
                reason: "the mechanism was not offered"
            }
        ));
    }

    #[test]
    fn nothing_goes_in_clear_where_encryption_is_required() {
        let listener = authenticator(SaslSettings {
            require_encryption: true,
            ..Default::default()
        });
        assert_eq!(names(&listener, None), [""; 0]);
        assert!(!accepts(&listener, "PLAIN", b"\0alice\0secret", None));
        assert!(accepts(
            &listener,
            "PLAIN",
            b"\0alice\0secret",
            Some(&tls(None))
        ));
    }

    #[test]
    fn a_listener_that_keeps_everybody_out_is_found() {
        let shut = |list: Option<&str>, change: fn(&mut SaslSettings)| {
            let mut settings = SaslSettings {
                mechanisms: list.map(str::to_owned),
                authenticate_peer: true,
                ..Default::default()
            };
            change(&mut settings);
            Authenticator::new(settings).shut().unwrap_or_default()
        };
        let in_clear = |_: &mut SaslSettings| {};
        let with_tls = |settings: &mut SaslSettings| settings.can_encrypt = true;
        let encrypted_only = |settings: &mut SaslSettings| settings.require_encryption = true;
        let for_anyone = |settings: &mut SaslSettings| settings.authenticate_peer = false;
        for (list, change, expected) in [
            (
                Some("EXTERNAL"),
                in_clear as fn(&mut SaslSettings),
                "EXTERNAL needs an sslProfile",
            ),
            (None, in_clear, "EXTERNAL needs an sslProfile"),
            (Some("PLAIN"), with_tls, "PLAIN and SCRAM need a users file"),
            (None, encrypted_only, "no sslProfile to encrypt with"),
        ] {
            let reason = shut(list, change);
            assert!(reason.contains(expected), "{list:?}: {reason}");
        }
        assert_eq!(shut(Some("EXTERNAL"), with_tls), "");
        assert_eq!(shut(Some("ANONYMOUS"), for_anyone), "");
        assert_eq!(shut(None, for_anyone), "");
    }

    #[test]
    fn plain_takes_the_right_password_for_the_user_itself() {
        let listener = authenticator(SaslSettings::default());
        let outcome = listener.authenticate("PLAIN", b"alice\0alice\0secret", None);
        assert_eq!(
            outcome,
            Outcome::Accepted {
                user: "alice".into(),
                mechanism: Mechanism::Plain
            }
        );
        for response in [
            &b"\0alice\0wrong"[..],
            b"\0bob\0secret",
            b"bob\0alice\0secret",
            b"",
            b"\0alice",
            b"\0\0",
            b"\0alice\0secret\0",
            b"\0alice\0\xff",
            &[b'a'; 4000],
        ] {
            assert!(!accepts(&listener, "PLAIN", response, None), "{response:?}");
        }
    }

    #[test]
    fn external_is_who_the_certificate_says() {
        let listener = authenticator(SaslSettings::default());
        let peer = tls(Some("CN=alice"));
        assert!(accepts(&listener, "EXTERNAL", b"", Some(&peer)));
        assert!(accepts(&listener, "EXTERNAL", b"CN=alice", Some(&peer)));
        assert!(!accepts(&listener, "EXTERNAL", b"CN=bob", Some(&peer)));
        assert!(!accepts(&listener, "EXTERNAL", b"", Some(&tls(None))));
        assert!(!accepts(&listener, "EXTERNAL", b"", None));
    }

    #[test]
    fn passwords_are_checked_beside_the_caller() {
        let listener = Arc::new(authenticator(SaslSettings::default()));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let response = Zeroizing::new(b"\0alice\0secret".to_vec());
        let outcome = listener.authenticate_in_background("PLAIN".into(), response, None);
        assert!(matches!(
            runtime.block_on(outcome),
            Outcome::Accepted { .. }
        ));
    }

    #[test]
    fn scram_is_offered_for_what_users_can_use_and_refused_otherwise() {
        let listener = authenticator(SaslSettings {
            mechanisms: Some("SCRAM-SHA-512 SCRAM-SHA-256".into()),
            ..Default::default()
        });
        assert_eq!(names(&listener, None), ["SCRAM-SHA-256"]);
        let first = b"n,,n=alice,r=abc";
        assert!(listener.challenge(ScramHash::Sha256, first, None).is_ok());
        for hash in [ScramHash::Sha512, ScramHash::Sha1] {
            assert_eq!(
                listener.challenge(hash, first, None).err(),
                Some(NOT_OFFERED)
            );
        }
        assert!(!accepts(&listener, "SCRAM-SHA-256", first, None));
        let listener = authenticator(SaslSettings {
            require_encryption: true,
            ..Default::default()
        });
        assert!(listener.challenge(ScramHash::Sha256, first, None).is_err());
    }

    #[test]
    fn a_connector_prefers_its_certificate_to_its_password() {
        let password = super::super::secret::resolve("pass:p", false).unwrap();
        let choices = |list, certificate, user: Option<(&str, &Secret)>| {
            let choices = client_choices(list, certificate, user).into_iter();
            choices
                .map(|choice| (choice.mechanism.to_string(), choice.opening))
                .collect::<Vec<_>>()
        };
        let said = |name: &str, text: &'static str| {
            let response = Bytes::from_static(text.as_bytes());
            (name.to_owned(), Opening::Response(response))
        };
        let exchanged = |name: &str| (name.to_owned(), Opening::Exchange);
        let all = choices(None, true, Some(("u", &password)));
        let expected = [
            said("EXTERNAL", ""),
            exchanged("SCRAM-SHA-512"),
            exchanged("SCRAM-SHA-256"),
            exchanged("SCRAM-SHA-1"),
            said("PLAIN", "\0u\0p"),
            said("ANONYMOUS", "anonymous"),
        ];
        assert_eq!(all, expected);
        assert_eq!(choices(None, false, None)[0].0, "ANONYMOUS");
        assert!(choices(Some("EXTERNAL"), false, None).is_empty());
        assert!(choices(Some("scram-sha-1"), true, None).is_empty());
    }

    #[test]
    fn the_users_file_is_beside_the_sasl_configuration() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(users_file(None, "skrouterd"), None);
        assert_eq!(users_file(Some(directory.path()), "skrouterd"), None);
        let file = directory.path().join("skrouterd.users");
        std::fs::write(&file, "").unwrap();
        assert_eq!(users_file(Some(directory.path()), "skrouterd"), Some(file));
    }

    thread_local! {
        static DIRECTORY: tempfile::TempDir = tempfile::tempdir().unwrap();
    }

    fn authenticator(settings: SaslSettings) -> Authenticator {
        let mut users = Users::default();
        users.set("alice", "secret", 4096).unwrap();
        let users = DIRECTORY.with(|directory| {
            let file = directory.path().join("users");
            users.save(&file).unwrap();
            UsersFile::open(&file).unwrap()
        });
        Authenticator::new(SaslSettings {
            users: Some(Arc::new(Logins::new(users))),
            ..settings
        })
    }

    fn tls(user: Option<&str>) -> TlsInfo {
        TlsInfo {
            protocol: "TLSv1.3",
            cipher: "TLS_AES_256_GCM_SHA384",
            strength: 256,
            user: user.map(str::to_owned),
            alpn: None,
            certificate: Default::default(),
            profile: Default::default(),
            ordinal: 0,
        }
    }

    fn names(listener: &Authenticator, tls: Option<&TlsInfo>) -> Vec<&'static str> {
        listener
            .offered(tls)
            .into_iter()
            .map(Mechanism::as_str)
            .collect()
    }

    fn accepts(
        listener: &Authenticator,
        mechanism: &str,
        response: &[u8],
        tls: Option<&TlsInfo>,
    ) -> bool {
        matches!(
            listener.authenticate(mechanism, response, tls),
            Outcome::Accepted { .. }
        )
    }
}
