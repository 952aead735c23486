//! How a connector checks a server's certificate.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use x509_parser::prelude::{FromDer, X509Certificate};

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

impl ServerCertVerifier for PeerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
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
