//! A certificate authority of one test, a server and a client it vouches for.

use crate::job::Tls;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};
use std::{fs, path::PathBuf};
use tempfile::TempDir;

/// PEM files in a temporary directory that goes when this is dropped.
#[derive(Debug)]
pub struct Certificates {
    directory: TempDir,
}

impl Certificates {
    /// Makes a CA, a server for `localhost` and 127.0.0.1, and a client named `alice`.
    pub fn generate() -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        let files = Self { directory };
        let authority = authority();
        files.write("ca.pem", &authority.pem());
        files.issue("server", &authority, ExtendedKeyUsagePurpose::ServerAuth);
        files.issue("alice", &authority, ExtendedKeyUsagePurpose::ClientAuth);
        files
    }

    /// The path of `ca.pem`, `server.pem`, `server.key`, `alice.pem` or `alice.key`.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A client that knows the CA and has no identity.
    pub fn nobody(&self) -> Tls {
        Tls {
            ca: self.path("ca.pem"),
            certificate: None,
            key: None,
        }
    }

    /// A client that knows the CA and can prove to be `alice`.
    pub fn alice(&self) -> Tls {
        let (certificate, key) = (Some(self.path("alice.pem")), Some(self.path("alice.key")));
        Tls {
            ca: self.path("ca.pem"),
            certificate,
            key,
        }
    }

    fn issue(
        &self,
        name: &str,
        authority: &CertifiedIssuer<'_, KeyPair>,
        usage: ExtendedKeyUsagePurpose,
    ) {
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let mut params = CertificateParams::new(names).expect("valid names");
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![usage];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, authority).expect("a certificate");
        self.write(&format!("{name}.pem"), &certificate.pem());
        self.write(&format!("{name}.key"), &key.serialize_pem());
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("a temporary file");
    }
}

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params
        .distinguished_name
        .push(DnType::CommonName, "interop tests");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key"))
        .expect("a certificate")
}
