//! A certificate authority of one test, a server and a client it vouches for.

use crate::job::Tls;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, date_time_ymd,
};
use std::{fs, path::PathBuf};
use tempfile::TempDir;

/// PEM files in a temporary directory that goes when this is dropped.
#[derive(Debug)]
pub struct Certificates {
    directory: TempDir,
}

impl Certificates {
    /// Makes a CA, a server for `localhost` and 127.0.0.1, and a client named `alice`; and some
    /// that are not to be trusted: the server `elsewhere` is one for another host, `expired` was one
    /// and `early` will be one, and `own` vouches for itself; so do the clients `late-alice`,
    /// `early-alice` and `own-alice`.
    pub fn generate() -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        let files = Self { directory };
        let authority = authority();
        files.write("ca.pem", &authority.pem());
        let server = || params("server", &HERE, ExtendedKeyUsagePurpose::ServerAuth);
        let client = params("alice", &HERE, ExtendedKeyUsagePurpose::ClientAuth);
        let there = ["elsewhere.example"];
        let elsewhere = params("elsewhere", &there, ExtendedKeyUsagePurpose::ServerAuth);
        let mut expired = server();
        expired.not_after = date_time_ymd(2001, 1, 1);
        files.issue("elsewhere", elsewhere, &authority);
        files.issue("expired", expired, &authority);
        let mut early = server();
        early.not_before = date_time_ymd(2999, 1, 1);
        early.not_after = date_time_ymd(3000, 1, 1);
        files.vouch("own", server());
        files.issue("server", server(), &authority);
        let mut late = client.clone();
        late.not_after = date_time_ymd(2001, 1, 1);
        files.issue("late-alice", late, &authority);
        let mut soon = client.clone();
        (soon.not_before, soon.not_after) = (early.not_before, early.not_after);
        files.issue("early", early, &authority);
        files.issue("early-alice", soon, &authority);
        files.vouch("own-alice", client.clone());
        files.issue("alice", client, &authority);
        files
    }

    /// The path of `ca.pem`, or of `server.pem`, `server.key` and so on.
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
        self.client("alice")
    }

    /// A client that knows the CA and shows this certificate.
    pub fn client(&self, name: &str) -> Tls {
        Tls {
            ca: self.path("ca.pem"),
            certificate: Some(self.path(&format!("{name}.pem"))),
            key: Some(self.path(&format!("{name}.key"))),
        }
    }

    /// One that nobody vouches for but its owner.
    fn vouch(&self, name: &str, of: CertificateParams) {
        let key = KeyPair::generate().expect("a key");
        let certificate = of.self_signed(&key).expect("a certificate");
        self.keep(name, &certificate.pem(), &key);
    }

    fn issue(&self, name: &str, of: CertificateParams, authority: &CertifiedIssuer<'_, KeyPair>) {
        let key = KeyPair::generate().expect("a key");
        let certificate = of.signed_by(&key, authority).expect("a certificate");
        self.keep(name, &certificate.pem(), &key);
    }

    fn keep(&self, name: &str, certificate: &str, key: &KeyPair) {
        self.write(&format!("{name}.pem"), certificate);
        self.write(&format!("{name}.key"), &key.serialize_pem());
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("a temporary file");
    }
}

fn params(name: &str, hosts: &[&str], usage: ExtendedKeyUsagePurpose) -> CertificateParams {
    let hosts: Vec<String> = hosts.iter().map(|&host| host.to_owned()).collect();
    let mut params = CertificateParams::new(hosts).expect("valid names");
    params.distinguished_name.push(DnType::CommonName, name);
    params.extended_key_usages = vec![usage];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    params
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

const HERE: [&str; 2] = ["localhost", "127.0.0.1"];
