//! TLS as the options ask for it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use pkcs8::{Document, EncryptedPrivateKeyInfoRef};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{AlertDescription, CertificateError, ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;

use crate::failure::{Failure, Outcome};
use crate::files::{first_line, text, unusable};

#[derive(Clone, Debug, Default, Args)]
pub(crate) struct TlsOptions {
    /// Certificates of the authorities to trust (PEM), which asks for TLS; without it, those of the
    /// system
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) ssl_trustfile: Option<PathBuf>,

    /// Our own certificate and its chain (PEM)
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) ssl_certificate: Option<PathBuf>,

    /// The private key of our own certificate (PEM)
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) ssl_key: Option<PathBuf>,

    /// A file whose first line is the password of the private key; `-` is standard input
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) ssl_password_file: Option<PathBuf>,
}

impl TlsOptions {
    /// Whether any of them is given, which asks for TLS.
    pub(crate) fn any(&self) -> bool {
        self.ssl_trustfile.is_some() || self.ssl_certificate.is_some() || self.ssl_key.is_some()
    }

    pub(crate) fn connector(&self) -> Outcome<TlsConnector> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| Failure::Usage(format!("TLS: {error}")))?
            .with_root_certificates(self.roots()?);
        let config = match (&self.ssl_certificate, &self.ssl_key) {
            (None, None) => builder.with_no_client_auth(),
            (Some(certificate), Some(key)) => {
                let chain = certificates(certificate)?;
                let key_of = self.private_key(key)?;
                builder
                    .with_client_auth_cert(chain, key_of)
                    .map_err(|error| match error {
                        rustls::Error::InconsistentKeys(_) => {
                            let name = certificate.display();
                            unusable(key, &format!("it is not the key of {name}"))
                        }
                        rustls::Error::InvalidCertificate(_) => {
                            unusable(certificate, NO_CERTIFICATE)
                        }
                        _ => unusable(key, "it is no private key for RSA, ECDSA or EdDSA"),
                    })?
            }
            _ => {
                let text = "--ssl-certificate and --ssl-key belong together: give both";
                return Err(Failure::Usage(text.into()));
            }
        };
        Ok(Arc::new(config).into())
    }

    fn roots(&self) -> Outcome<RootCertStore> {
        let mut roots = RootCertStore::empty();
        let Some(file) = &self.ssl_trustfile else {
            let found = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(found.certs);
            return Ok(roots);
        };
        for certificate in certificates(file)? {
            let added = roots.add(certificate);
            added.map_err(|_| unusable(file, NO_CERTIFICATE))?;
        }
        Ok(roots)
    }

    fn private_key(&self, file: &Path) -> Outcome<PrivateKeyDer<'static>> {
        let text = text(file)?;
        let Some(block) = encrypted(&text) else {
            return PrivateKeyDer::from_pem_slice(text.as_bytes())
                .map_err(|_| unusable(file, "it has no PEM private key"));
        };
        let Some(password) = &self.ssl_password_file else {
            return Err(unusable(
                file,
                "it is encrypted; --ssl-password-file opens it",
            ));
        };
        decrypt(block, &first_line(password)?).map_err(|error| unusable(file, &error))
    }
}

/// Why the certificate of a host is not trusted, and what may be done about it.
pub(crate) fn distrust(error: &CertificateError, host: &str) -> String {
    use CertificateError as E;
    match error {
        E::UnknownIssuer => "none of the authorities that we trust has issued it; \
                             --ssl-trustfile names others"
            .into(),
        E::NotValidForName | E::NotValidForNameContext { .. } => {
            format!("it is not for the name '{host}'; the host of -b must be one that it is for")
        }
        E::Expired | E::ExpiredContext { .. } => "it has expired".into(),
        E::NotValidYet | E::NotValidYetContext { .. } => {
            "it is not valid yet; is the clock right?".into()
        }
        E::Revoked => "it has been revoked".into(),
        E::BadSignature => "its signature is wrong".into(),
        E::InvalidPurpose | E::InvalidPurposeContext { .. } => "it is not for servers".into(),
        E::Other(other) => other.to_string(),
        _ => "it is not as it should be".into(),
    }
}

/// The name of an alert, as the standard has it (RFC 8446, 6).
pub(crate) fn alert(alert: AlertDescription) -> String {
    let Some(name) = alert.as_str() else {
        return format!("alert {}", u8::from(alert));
    };
    let mut written = String::new();
    let mut was_upper = true;
    for c in name.chars() {
        if c.is_uppercase() && !was_upper {
            written.push('_');
        }
        was_upper = c.is_uppercase();
        written.extend(c.to_lowercase());
    }
    written
}

fn certificates(file: &Path) -> Outcome<Vec<CertificateDer<'static>>> {
    let text = text(file)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(unusable(file, "it has no PEM certificate")),
        Err(_) => Err(unusable(file, "what it has is no proper PEM")),
    }
}

/// The block of an encrypted PKCS#8 key.
fn encrypted(text: &str) -> Option<&str> {
    const END: &str = "-----END ENCRYPTED PRIVATE KEY-----";
    let block = &text[text.find("-----BEGIN ENCRYPTED PRIVATE KEY-----")?..];
    Some(&block[..block.find(END)? + END.len()])
}

fn decrypt(block: &str, password: &str) -> Result<PrivateKeyDer<'static>, String> {
    let (_, document) = Document::from_pem(block).map_err(|error| error.to_string())?;
    let key = EncryptedPrivateKeyInfoRef::try_from(document.as_bytes())
        .map_err(|error| error.to_string())?
        .decrypt(password)
        .map_err(|error| format!("the password does not open it ({error})"))?;
    Ok(PrivatePkcs8KeyDer::from(key.as_bytes().to_vec()).into())
}

const NO_CERTIFICATE: &str = "what it calls a certificate is none";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alerts_go_by_their_names() {
        for (description, name) in [
            (
                AlertDescription::CertificateRequired,
                "certificate_required",
            ),
            (AlertDescription::UnknownCA, "unknown_ca"),
            (AlertDescription::Unknown(200), "alert 200"),
        ] {
            assert_eq!(alert(description), name);
        }
    }
}
