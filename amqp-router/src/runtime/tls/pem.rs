//! Certificates and private keys out of PEM text.

use pkcs8::EncryptedPrivateKeyInfoRef;
use pkcs8::der::Document;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

/// All certificates of the text, in order.
///
/// # Errors
///
/// Broken PEM, or no certificate at all.
pub(super) fn certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(text)
        .collect::<Result<_, _>>()
        .map_err(|error| format!("not valid PEM: {error}"))?;
    match certificates.is_empty() {
        false => Ok(certificates),
        true => Err("contains no PEM certificate (-----BEGIN CERTIFICATE-----)".into()),
    }
}

/// The private key of the text, opened with `password` when it is encrypted.
///
/// # Errors
///
/// No key, broken PEM, an encrypted key without the right password, or an encryption other
/// than that of PKCS#8.
pub(super) fn private_key(
    text: &[u8],
    password: Option<&str>,
) -> Result<PrivateKeyDer<'static>, String> {
    if let Some(block) = block(text, "ENCRYPTED PRIVATE KEY") {
        return decrypt(block, password);
    }
    if find(text, "Proc-Type: 4,ENCRYPTED").is_some() {
        return Err(
            "the key is encrypted in OpenSSL's traditional format; convert it with \
                    'openssl pkcs8 -topk8'"
                .into(),
        );
    }
    PrivateKeyDer::from_pem_slice(text).map_err(|error| match error {
        rustls::pki_types::pem::Error::NoItemsFound => {
            "contains no PEM private key (-----BEGIN PRIVATE KEY-----)".into()
        }
        other => format!("not valid PEM: {other}"),
    })
}

fn decrypt(block: &str, password: Option<&str>) -> Result<PrivateKeyDer<'static>, String> {
    let password = password.ok_or("the key is encrypted and the profile has no password")?;
    let (_, document) =
        Document::from_pem(block).map_err(|error| format!("not valid PEM: {error}"))?;
    let encrypted = EncryptedPrivateKeyInfoRef::try_from(document.as_bytes())
        .map_err(|error| format!("not an encrypted PKCS#8 key: {error}"))?;
    let key = encrypted
        .decrypt(password)
        .map_err(|error| format!("the password does not open the key ({error})"))?;
    Ok(PrivatePkcs8KeyDer::from(key.as_bytes().to_vec()).into())
}

/// The lines from BEGIN to END of the first block with this label.
fn block<'a>(text: &'a [u8], label: &str) -> Option<&'a str> {
    let start = find(text, &format!("-----BEGIN {label}-----"))?;
    let footer = format!("-----END {label}-----");
    let length = find(&text[start..], &footer)? + footer.len();
    std::str::from_utf8(&text[start..start + length]).ok()
}

fn find(text: &[u8], what: &str) -> Option<usize> {
    text.windows(what.len())
        .position(|window| window == what.as_bytes())
}
