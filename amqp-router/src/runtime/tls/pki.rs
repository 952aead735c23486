//! Certificates for tests.

use std::fs;
use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
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
        let key = KeyPair::generate().unwrap();
        let certificate = params(name, hosts).signed_by(&key, &self.authority);
        (certificate.unwrap().pem(), key.serialize_pem())
    }

    pub(crate) fn profile(&self, name: &str, hosts: &[&str]) -> ProfileSettings {
        let (certificate, key) = self.issue(name, hosts);
        self.write(name, &certificate, &key)
    }

    /// A certificate that is valid in these years from now.
    pub(crate) fn profile_of_years(
        &self,
        name: &str,
        hosts: &[&str],
        years: std::ops::Range<i32>,
    ) -> ProfileSettings {
        let mut params = params(name, hosts);
        let this_year = jiff::Zoned::now().year();
        let start = |years: i32| rcgen::date_time_ymd(i32::from(this_year) + years, 1, 1);
        params.not_before = start(years.start);
        params.not_after = start(years.end);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.authority).unwrap();
        self.write(name, &certificate.pem(), &key.serialize_pem())
    }

    pub(crate) fn self_signed(&self, name: &str, hosts: &[&str]) -> ProfileSettings {
        let key = KeyPair::generate().unwrap();
        let certificate = params(name, hosts).self_signed(&key).unwrap();
        self.write(name, &certificate.pem(), &key.serialize_pem())
    }

    fn write(&self, name: &str, certificate: &str, key: &str) -> ProfileSettings {
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

fn params(name: &str, hosts: &[&str]) -> CertificateParams {
    let hosts: Vec<String> = hosts.iter().map(|&host| host.to_owned()).collect();
    // An address among them becomes one.
    let mut params = CertificateParams::new(hosts).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CountryName, "US");
    params
        .distinguished_name
        .push(DnType::OrganizationName, "Trust, Me");
    params.distinguished_name.push(DnType::CommonName, name);
    params
}
