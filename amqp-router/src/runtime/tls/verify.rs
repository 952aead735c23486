//! How certificates are checked: a server's by a connector, a client's by a listener.

use std::cell::RefCell;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme};
use x509_parser::prelude::{FromDer, X509Certificate, X509Name};

use super::identity::subject;

/// Checks the chain always and the host name when asked to.
///
/// Unlike rustls's own verifier it takes the common name of a certificate that has no
/// subjectAltName at all, as OpenSSL does: private authorities still issue such.
#[derive(Debug)]
pub(super) struct PeerVerifier {
    roots: Arc<RootCertStore>,
    algorithms: WebPkiSupportedAlgorithms,
    verify_hostname: bool,
}

impl PeerVerifier {
    pub(super) fn new(
        roots: Arc<RootCertStore>,
        provider: &CryptoProvider,
        verify_hostname: bool,
    ) -> Self {
        let algorithms = provider.signature_verification_algorithms;
        Self {
            roots,
            algorithms,
            verify_hostname,
        }
    }
}

impl PeerVerifier {
    fn verify(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<(), Error> {
        let certificate = ParsedCertificate::try_from(end_entity)?;
        verify_server_cert_signed_by_trust_anchor(
            &certificate,
            &self.roots,
            intermediates,
            now,
            self.algorithms.all,
        )?;
        if self.verify_hostname {
            verify_server_name(&certificate, server_name)
                .or_else(|error| verify_common_name(end_entity, server_name).ok_or(error))?;
        }
        Ok(())
    }
}

impl ServerCertVerifier for PeerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.verify(end_entity, intermediates, server_name, now)
            .inspect_err(|_| note(end_entity))?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Checks clients as another verifier does, and notes whose certificate is rejected.
#[derive(Debug)]
pub(super) struct Noting(pub(super) Arc<dyn ClientCertVerifier>);

impl ClientCertVerifier for Noting {
    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.0.verify_client_cert(end_entity, intermediates, now);
        verified.inspect_err(|_| note(end_entity))
    }

    fn offer_client_auth(&self) -> bool {
        self.0.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.0.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

thread_local! {
    /// Whose certificate was last rejected on this thread. A handshake fails where its certificate
    /// is rejected, and rustls's error does not say whose it was.
    static REJECTED: RefCell<Option<String>> = const { RefCell::new(None) };
}

fn note(certificate: &CertificateDer<'_>) {
    let shown = |name: &X509Name<'_>| crate::policy::shown(&subject(name));
    let names = X509Certificate::from_der(certificate).ok().map(|(_, it)| {
        let (subject, issuer) = (shown(it.subject()), shown(it.issuer()));
        format!("subject '{subject}', issuer '{issuer}'")
    });
    REJECTED.set(names);
}

/// The subject and the issuer of the certificate that a handshake has just failed with.
pub(super) fn rejected() -> Option<String> {
    REJECTED.take()
}

/// `Some` when the certificate has no subjectAltName and its only common name is the host.
fn verify_common_name(certificate: &CertificateDer<'_>, host: &ServerName<'_>) -> Option<()> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    if certificate.subject_alternative_name().ok()?.is_some() {
        return None;
    }
    let mut names = certificate.subject().iter_common_name();
    let (name, None) = (names.next()?.as_str().ok()?, names.next()) else {
        return None;
    };
    name.eq_ignore_ascii_case(&host.to_str()).then_some(())
}
