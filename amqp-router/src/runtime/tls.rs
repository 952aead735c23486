//! TLS for listeners and connectors: an sslProfile becomes rustls configurations.
//!
//! A [`TlsProfile`] is loaded once (and again when the profile is updated: new connections use
//! the new files) and hands out an acceptor per listener and a connector per connector. What is
//! wrong with a profile is said with its name, the attribute, the file and the reason.

mod ciphers;
pub(crate) mod expiry;
mod identity;
pub(crate) mod live;
mod pem;
#[cfg(test)]
pub(crate) mod pki;
mod verify;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::CertificateDer;
use rustls::server::WebPkiClientVerifier;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use zeroize::Zeroizing;

use super::secret::Secret;
use expiry::Expiry;
pub(crate) use identity::{TlsInfo, UidFormat};
use verify::{Noting, PeerVerifier};

/// The attributes of an sslProfile that decide how its connections are secured.
#[derive(Clone, Debug, Default)]
pub(crate) struct ProfileSettings {
    pub(crate) name: String,
    /// PEM: the own certificate first, then the chain that leads to its authority.
    pub(crate) cert_file: Option<PathBuf>,
    /// PEM: PKCS#8 (clear or encrypted), PKCS#1 or SEC1. Absent: the key stands in `cert_file`.
    pub(crate) private_key_file: Option<PathBuf>,
    /// Opens an encrypted private key.
    pub(crate) password: Option<Secret>,
    /// PEM: the authorities whose certificates are accepted from peers.
    pub(crate) ca_cert_file: Option<PathBuf>,
    /// `TLSv1.2`, `TLSv1.3` or both, separated by blanks; absent: both.
    pub(crate) protocols: Option<String>,
    /// Names of cipher suites, in OpenSSL's or IANA's spelling; absent: all that are good.
    pub(crate) ciphers: Option<String>,
    /// Which parts of a peer's certificate make its user id.
    pub(crate) uid_format: Option<String>,
    /// JSON: names to use in place of user ids, `{"id": "name"}`.
    pub(crate) uid_name_mapping_file: Option<PathBuf>,
}

/// An sslProfile whose files have been read and found valid.
#[derive(Clone)]
pub(crate) struct TlsProfile {
    name: String,
    own: Option<Arc<CertifiedKey>>,
    trusted: Option<Arc<RootCertStore>>,
    versions: Vec<&'static SupportedProtocolVersion>,
    provider: Arc<CryptoProvider>,
    uid_format: UidFormat,
    expiries: Arc<[Expiry]>,
}

impl TlsProfile {
    /// Reads the files that `settings` names.
    ///
    /// # Errors
    ///
    /// A file that cannot be read or holds no usable PEM, a key that does not belong to the
    /// certificate, an unknown protocol version or cipher suite.
    pub(crate) fn load(settings: &ProfileSettings) -> Result<Self, TlsError> {
        let fault = |attribute, value: &dyn fmt::Display, reason: String| {
            TlsError::new(&settings.name, attribute, value, reason)
        };
        let mut provider = aws_lc_rs::default_provider();
        if let Some(list) = &settings.ciphers {
            provider.cipher_suites = ciphers::select(&provider.cipher_suites, list)
                .map_err(|reason| fault("ciphers", list, reason))?;
        }
        let list = settings.protocols.as_deref().unwrap_or_default();
        let versions = versions(list).map_err(|reason| fault("protocols", &list, reason))?;
        if !versions.iter().any(|version| {
            provider
                .cipher_suites
                .iter()
                .any(|suite| suite.version() == *version)
        }) {
            let list = settings.ciphers.as_deref().unwrap_or_default();
            return Err(fault(
                "ciphers",
                &list,
                "none of them exists in the given protocols".into(),
            ));
        }
        let own = load_own(settings, &provider)?;
        let trusted = load_trusted(settings)?;
        let mut expiries = Vec::new();
        for certificate in own.iter().flat_map(|own| &own.cert) {
            expiries.extend(Expiry::of("certFile", certificate));
        }
        for certificate in trusted.iter().flatten() {
            expiries.extend(Expiry::of("caCertFile", certificate));
        }
        let trusted = trusted.map(root_store).transpose();
        let trusted = trusted.map_err(|reason| {
            let file = settings.ca_cert_file.as_deref().unwrap_or(Path::new(""));
            fault("caCertFile", &file.display(), reason)
        })?;
        Ok(Self {
            own: own.map(Arc::new),
            trusted: trusted.map(Arc::new),
            expiries: expiries.into(),
            versions,
            uid_format: load_uid_format(settings)?,
            provider: Arc::new(provider),
            name: settings.name.clone(),
        })
    }

    /// What a listener accepts with. `alpn` lists application protocols, best first; AMQP
    /// listeners offer none.
    ///
    /// # Errors
    ///
    /// The profile has no certificate, or client certificates are asked for and it has no
    /// authorities to check them against.
    pub(crate) fn acceptor(
        &self,
        clients: ClientCertificate,
        alpn: &[&[u8]],
    ) -> Result<TlsAcceptor, TlsError> {
        let own = self.own.clone().ok_or_else(|| {
            self.fault(
                "certFile",
                "a listener needs a certificate; name a PEM file",
            )
        })?;
        let builder = ServerConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&self.versions)
            .map_err(|error| self.fault("protocols", &error.to_string()))?;
        let builder = match clients {
            ClientCertificate::NotAsked => builder.with_no_client_auth(),
            ClientCertificate::Optional | ClientCertificate::Required => {
                let roots = self.trusted.clone().ok_or_else(|| {
                    self.fault(
                        "caCertFile",
                        "client certificates are asked for and there is no authority to check \
                         them against; name a PEM file",
                    )
                })?;
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(roots, self.provider.clone());
                let verifier = match clients {
                    ClientCertificate::Optional => verifier.allow_unauthenticated(),
                    _ => verifier,
                };
                let verifier = verifier
                    .build()
                    .map_err(|error| self.fault("caCertFile", &error.to_string()))?;
                builder.with_client_cert_verifier(Arc::new(Noting(verifier)))
            }
        };
        let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(own)));
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        Ok(TlsAcceptor::from(Arc::new(config)))
    }

    /// What a connector connects with. The chain of the server's certificate is always checked,
    /// against `caCertFile` or, without one, the system's authorities; `verify_hostname: false`
    /// leaves out the comparison of its names with the host that was dialled.
    ///
    /// # Errors
    ///
    /// There is no authority at all to check a server against.
    pub(crate) fn connector(
        &self,
        verify_hostname: bool,
        alpn: &[&[u8]],
    ) -> Result<TlsConnector, TlsError> {
        let roots = match &self.trusted {
            Some(roots) => roots.clone(),
            None => Arc::new(system_roots().map_err(|reason| self.fault("caCertFile", &reason))?),
        };
        let verifier = PeerVerifier::new(roots, &self.provider, verify_hostname);
        let builder = ClientConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&self.versions)
            .map_err(|error| self.fault("protocols", &error.to_string()))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = match self.own.clone() {
            Some(own) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(own))),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        Ok(TlsConnector::from(Arc::new(config)))
    }

    /// Whether there are authorities to check a peer's certificate against.
    pub(crate) fn can_check_peers(&self) -> bool {
        self.trusted.is_some()
    }

    pub(crate) fn uid_format(&self) -> &UidFormat {
        &self.uid_format
    }

    fn fault(&self, attribute: &'static str, reason: &str) -> TlsError {
        TlsError::new(&self.name, attribute, &"", reason.into())
    }
}

impl fmt::Debug for TlsProfile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsProfile")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Whether a listener asks its clients for a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClientCertificate {
    NotAsked,
    /// Asked for; a client without one may still use another SASL mechanism.
    Optional,
    /// The handshake fails without one.
    Required,
}

impl ClientCertificate {
    /// A certificate is asked for where SASL EXTERNAL can use it. It is required where the peer
    /// must authenticate and EXTERNAL is the only way to.
    pub(crate) fn wanted(authenticate_peer: bool, mechanisms: &[impl AsRef<str>]) -> Self {
        let external = mechanisms
            .iter()
            .any(|m| m.as_ref().eq_ignore_ascii_case("EXTERNAL"));
        let others = mechanisms
            .iter()
            .any(|m| !m.as_ref().eq_ignore_ascii_case("EXTERNAL"));
        match (external, authenticate_peer && !others) {
            (false, _) => Self::NotAsked,
            (true, false) => Self::Optional,
            (true, true) => Self::Required,
        }
    }
}

/// The error of a handshake, said so that an operator knows what to do where rustls would not. To
/// be asked where the handshake failed, and at once: it knows whose certificate was rejected last.
pub(crate) fn explained(error: io::Error) -> io::Error {
    let inner = error
        .get_ref()
        .and_then(|e| e.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType)) => {
            io::Error::new(error.kind(), "the peer does not speak TLS")
        }
        Some(rustls::Error::InvalidCertificate(_)) => match verify::rejected() {
            Some(whose) => io::Error::new(error.kind(), format!("{error}: {whose}")),
            None => error,
        },
        _ => error,
    }
}

/// Whether what a peer sends first, at least one byte of it, begins a TLS handshake: a
/// ClientHello record (RFC 8446 5.1). A listener whose TLS is optional (`requireSsl: no`) decides
/// by this.
pub(crate) fn begins_handshake(first: &[u8]) -> bool {
    const HANDSHAKE: u8 = 22;
    matches!(first, [HANDSHAKE] | [HANDSHAKE, 3, ..])
}

/// Why an sslProfile cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TlsError {
    profile: String,
    attribute: &'static str,
    value: String,
    reason: String,
}

impl TlsError {
    fn new(
        profile: &str,
        attribute: &'static str,
        value: &dyn fmt::Display,
        reason: String,
    ) -> Self {
        Self {
            profile: profile.into(),
            attribute,
            value: value.to_string(),
            reason,
        }
    }

    /// What is wrong, to be said of the profile.
    pub(crate) fn problem(&self) -> String {
        let (attribute, value, reason) = (self.attribute, &self.value, &self.reason);
        match value.is_empty() {
            true => format!("{attribute}: {reason}"),
            false => format!("{attribute} '{value}': {reason}"),
        }
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sslProfile '{}': {}", self.profile, self.problem())
    }
}

impl std::error::Error for TlsError {}

fn load_own(
    settings: &ProfileSettings,
    provider: &CryptoProvider,
) -> Result<Option<CertifiedKey>, TlsError> {
    let Some(cert_file) = &settings.cert_file else {
        return Ok(None);
    };
    let fault = |attribute, file: &Path, reason| {
        TlsError::new(&settings.name, attribute, &file.display(), reason)
    };
    let chain = read(cert_file)
        .and_then(|text| pem::certificates(&text))
        .map_err(|reason| fault("certFile", cert_file, reason))?;
    let (attribute, key_file) = match &settings.private_key_file {
        Some(file) => ("privateKeyFile", file),
        None => ("certFile", cert_file),
    };
    let password = settings.password.as_ref().map(Secret::as_str);
    let key = read(key_file)
        .and_then(|text| pem::private_key(&text, password))
        .map_err(|reason| fault(attribute, key_file, reason))?;
    CertifiedKey::from_der(chain, key, provider)
        .map(Some)
        .map_err(|error| {
            let reason = match error {
                rustls::Error::InconsistentKeys(_) => {
                    format!(
                        "the key does not belong to the certificate in '{}'",
                        cert_file.display()
                    )
                }
                other => other.to_string(),
            };
            fault(attribute, key_file, reason)
        })
}

fn load_trusted(
    settings: &ProfileSettings,
) -> Result<Option<Vec<CertificateDer<'static>>>, TlsError> {
    let Some(file) = &settings.ca_cert_file else {
        return Ok(None);
    };
    read(file)
        .and_then(|text| pem::certificates(&text))
        .map(Some)
        .map_err(|reason| TlsError::new(&settings.name, "caCertFile", &file.display(), reason))
}

fn load_uid_format(settings: &ProfileSettings) -> Result<UidFormat, TlsError> {
    let fault = |attribute, value: &dyn fmt::Display, reason| {
        TlsError::new(&settings.name, attribute, value, reason)
    };
    let letters = settings.uid_format.as_deref().unwrap_or_default();
    let format: UidFormat = letters
        .parse()
        .map_err(|reason| fault("uidFormat", &letters, reason))?;
    match &settings.uid_name_mapping_file {
        None => Ok(format),
        Some(file) => read(file)
            .and_then(|text| format.with_names(&text))
            .map_err(|reason| fault("uidNameMappingFile", &file.display(), reason)),
    }
}

fn read(file: &Path) -> Result<Zeroizing<Vec<u8>>, String> {
    std::fs::read(file)
        .map(Zeroizing::new)
        .map_err(|error| error.to_string())
}

fn root_store(certificates: Vec<CertificateDer<'static>>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for (index, certificate) in certificates.into_iter().enumerate() {
        roots
            .add(certificate)
            .map_err(|error| format!("certificate {} of the file: {error}", index + 1))?;
    }
    Ok(roots)
}

fn system_roots() -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    // Systems carry certificates that no verifier takes any more; the others count.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    match roots.is_empty() {
        false => Ok(roots),
        true => Err("not given, and the system has no certificate authorities; \
                     name a PEM file of the authorities to trust"
            .into()),
    }
}

/// The protocol versions that a list allows. Versions that rustls does not speak any more may
/// stand beside one that it does: allowing them obliges nobody to use them.
fn versions(list: &str) -> Result<Vec<&'static SupportedProtocolVersion>, String> {
    if list.trim().is_empty() {
        return Ok(vec![&TLS13, &TLS12]);
    }
    let mut versions = Vec::new();
    for name in list.split([' ', ',', '\t']).filter(|name| !name.is_empty()) {
        match name {
            "TLSv1.3" => versions.push(&TLS13),
            "TLSv1.2" => versions.push(&TLS12),
            "TLSv1" | "TLSv1.0" | "TLSv1.1" => {}
            other => return Err(format!("'{other}' is unknown; valid: TLSv1.2, TLSv1.3")),
        }
    }
    match versions.is_empty() {
        false => Ok(versions),
        true => Err("none of these is considered secure any more; valid: TLSv1.2, TLSv1.3".into()),
    }
}

#[cfg(test)]
mod tests;
