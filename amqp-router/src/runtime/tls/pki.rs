//! Certificates for tests.

use std::fs;
use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType};
use tempfile::TempDir;

use super::ProfileSettings;

/// A certificate authority with its files in a directory of its own.
pub(crate) struct Pki {
    directory: TempDir,
    authority: CertifiedIssuer<'static, KeyPair>,
}

impl Pki {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params
            .distinguished_name
            .push(DnType::CommonName, "authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let authority = CertifiedIssuer::self_signed(params, key).unwrap();
        let directory = TempDir::new().unwrap();
        fs::write(directory.path().join("ca.crt"), authority.pem()).unwrap();
        Self {
            directory,
            authority,
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn issue(&self, name: &str, hosts: &[&str]) -> (String, String) {
        let mut params = CertificateParams::new([]).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CountryName, "US");
        params
            .distinguished_name
            .push(DnType::OrganizationName, "Trust, Me");
        params.distinguished_name.push(DnType::CommonName, name);
        for host in hosts {
            params
                .subject_alt_names
                .push(SanType::DnsName((*host).try_into().unwrap()));
        }
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.authority).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    pub(crate) fn profile(&self, name: &str, hosts: &[&str]) -> ProfileSettings {
        let (certificate, key) = self.issue(name, hosts);
        let (cert_file, key_file) = (
            self.path(&format!("{name}.crt")),
            self.path(&format!("{name}.key")),
        );
        fs::write(&cert_file, certificate).unwrap();
        fs::write(&key_file, key).unwrap();
        ProfileSettings {
            name: name.into(),
            cert_file: Some(cert_file),
            private_key_file: Some(key_file),
            ca_cert_file: Some(self.path("ca.crt")),
            ..Default::default()
        }
    }
}
