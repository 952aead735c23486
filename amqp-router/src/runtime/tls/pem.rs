//! Certificates and private keys out of PEM text.

use pkcs8::der::asn1::AnyRef;
use pkcs8::der::{Decode, Document, Reader, SliceReader, Tag, Tagged};
use pkcs8::{EncryptedPrivateKeyInfoRef, ObjectIdentifier};
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
        return Err(format!(
            "the key is encrypted in OpenSSL's traditional format; {CONVERT}"
        ));
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
    if let Some(encryption) = unsupported(document.as_bytes()) {
        return Err(format!(
            "the key is encrypted with {encryption}, which is not supported; {CONVERT}"
        ));
    }
    let encrypted = EncryptedPrivateKeyInfoRef::try_from(document.as_bytes())
        .map_err(|error| format!("not an encrypted PKCS#8 key: {error}"))?;
    let key = encrypted.decrypt(password).map_err(|error| match error {
        pkcs8::Error::EncryptedPrivateKey(
            error @ (pkcs8::pkcs5::Error::UnsupportedAlgorithm { .. }
            | pkcs8::pkcs5::Error::NoPbes1CryptSupport),
        ) => format!("the key's encryption is not supported ({error}); {CONVERT}"),
        error => format!("the password does not open the key ({error})"),
    })?;
    Ok(PrivatePkcs8KeyDer::from(key.as_bytes().to_vec()).into())
}

/// What a key is encrypted with, if that is known to be more than is supported here.
fn unsupported(key: &[u8]) -> Option<&'static str> {
    let mut names = Vec::new();
    identifiers(key, 0, &mut names);
    let has = |one: &str| names.iter().any(|name| name.to_string() == one);
    let known = UNSUPPORTED.iter().find(|(identifier, _)| has(identifier));
    // PBKDF2 that names no function of its own has this one (RFC 8018 A.2).
    let of_sha1 = || has(PBKDF2) && !names.iter().any(|name| is_hmac(*name));
    known
        .map(|(_, name)| *name)
        .or_else(|| of_sha1().then_some(HMAC_SHA1))
}

fn is_hmac(name: ObjectIdentifier) -> bool {
    name.to_string().starts_with("1.2.840.113549.2.")
}

/// Every object identifier in what stands in DER, as far as it can be read.
fn identifiers(der: &[u8], depth: u8, found: &mut Vec<ObjectIdentifier>) {
    let Ok(mut reader) = SliceReader::new(der) else {
        return;
    };
    while let Ok(value) = AnyRef::decode(&mut reader) {
        match value.tag() {
            Tag::ObjectIdentifier => found.extend(value.decode_as::<ObjectIdentifier>()),
            Tag::Sequence if depth < DEEPEST => identifiers(value.value(), depth + 1, found),
            _ => {}
        }
        if reader.is_finished() {
            return;
        }
    }
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

const CONVERT: &str = "convert it with \
    'openssl pkcs8 -topk8 -v2 aes-256-cbc -v2prf hmacWithSHA256 -in OLD.key -out NEW.key'";
const PBKDF2: &str = "1.2.840.113549.1.5.12";
const HMAC_SHA1: &str = "PBKDF2 and HMAC-SHA-1";
/// What older tools encrypt keys with (RFC 8018 A and B, RFC 7292 C).
const UNSUPPORTED: [(&str, &str); 16] = [
    ("1.2.840.113549.1.5.1", "PBE-MD2-DES"),
    ("1.2.840.113549.1.5.3", "PBE-MD5-DES"),
    ("1.2.840.113549.1.5.4", "PBE-MD2-RC2-64"),
    ("1.2.840.113549.1.5.6", "PBE-MD5-RC2-64"),
    ("1.2.840.113549.1.5.10", "PBE-SHA1-DES"),
    ("1.2.840.113549.1.5.11", "PBE-SHA1-RC2-64"),
    ("1.2.840.113549.1.12.1.1", "PBE-SHA1-RC4-128"),
    ("1.2.840.113549.1.12.1.2", "PBE-SHA1-RC4-40"),
    ("1.2.840.113549.1.12.1.3", "PBE-SHA1-3DES"),
    ("1.2.840.113549.1.12.1.4", "PBE-SHA1-2DES"),
    ("1.2.840.113549.1.12.1.5", "PBE-SHA1-RC2-128"),
    ("1.2.840.113549.1.12.1.6", "PBE-SHA1-RC2-40"),
    ("1.2.840.113549.3.7", "3DES (des-ede3-cbc)"),
    ("1.3.14.3.2.7", "DES (des-cbc)"),
    ("1.2.840.113549.3.2", "RC2 (rc2-cbc)"),
    ("1.2.840.113549.2.7", HMAC_SHA1),
];
/// Sequences in sequences that the algorithm of a key may have, and more.
const DEEPEST: u8 = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_encryption_that_is_not_supported_is_named_with_the_way_out() {
        for (encryption, key) in [
            ("PBE-SHA1-3DES", SHA1_3DES),
            ("3DES (des-ede3-cbc)", DES3),
            ("PBKDF2 and HMAC-SHA-1", AES_SHA1),
        ] {
            let text = format!(
                "-----BEGIN ENCRYPTED PRIVATE KEY-----\n{key}\n-----END ENCRYPTED PRIVATE KEY-----\n"
            );
            let error = private_key(text.as_bytes(), Some("server-password")).unwrap_err();
            let expected = format!(
                "the key is encrypted with {encryption}, which is not supported; convert it with \
                 'openssl pkcs8 -topk8 -v2 aes-256-cbc "
            );
            assert!(error.starts_with(&expected), "{error}");
        }
    }

    #[test]
    fn a_key_of_scrypt_is_opened() {
        let text = format!(
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\n{SCRYPT}\n-----END ENCRYPTED PRIVATE KEY-----\n"
        );
        private_key(text.as_bytes(), Some("server-password")).unwrap();
    }

    /// Made by `openssl pkcs8 -topk8` with `-v1 PBE-SHA1-3DES`.
    const SHA1_3DES: &str = "MIGxMBwGCiqGSIb3DQEMAQMwDgQI863KEjHddzACAggABIGQc5e2vatV1nD2oc+G
r6t6xTO2ayIqQSUzbSwyQS1MPvh4PRC9ZFW/ld/9zRgU3zN42vwxbbrmmJoxh55Y
3cnAUX/VD0LKjSq1Nj3+vuprxeVpruPcqsXpY6acmyuvQMhydnskVT1gZIwTrJoX
INz7+YBzds335R3W+fChNl+bN96FFu7Qt3OiE5Wd0yruyXbT";
    /// With `-v2 des3`.
    const DES3: &str = "MIHjME4GCSqGSIb3DQEFDTBBMCkGCSqGSIb3DQEFDDAcBAiXku4rlL9HjwICCAAw
DAYIKoZIhvcNAgkFADAUBggqhkiG9w0DBwQI1dJdNjT9LfUEgZCCsSCWsuaersXi
9du3IZycSJ6NDoz40JMj3lnG2F0G2wYtOtT5RWGdEBnaOmimyx2r0ZImE35cwfNx
wmQEK0DPQsHsyP477dxybMtmlhxmzPW5jx8QfjTA6JyshD5ylui30e2lGdeJEwD2
2NGxYg4f9BGYuClHdhmsHRqTD2zizFgRzMwp7QZUVXXYB787yAE=";
    /// With `-v2 aes-256-cbc -v2prf hmacWithSHA1`.
    const AES_SHA1: &str = "MIHeMEkGCSqGSIb3DQEFDTA8MBsGCSqGSIb3DQEFDDAOBAjxszMXbRSuJAICCAAw
HQYJYIZIAWUDBAEqBBDc5NwHxax6V9B/Iqz3Ou0IBIGQJ0i1Z6H/ajOkwL4gEb1G
JJro6tkT3wgpa/yx4r1hzVEhg2J/6k3fa8bIDIJuBAKE8Mglvo3lYmvLaJWZ06hs
wQQulp9gpGwT3ppVlaHQiBcZ9wxlOy1LLZwmWb48IOhZZbVHmP4rhkSZfUhGq28q
ic2S7wHMwdO9edl2DJzsK2EFeYfVGj0owy9ema3OMhWC";
    /// With `-scrypt`.
    const SCRYPT: &str = "MIHkME8GCSqGSIb3DQEFDTBCMCEGCSsGAQQB2kcECzAUBAg5i3kjiof6LwICQAAC
AQgCAQEwHQYJYIZIAWUDBAEqBBBCi1J+MJvnx/PNcQAsd3wyBIGQhRFGbvYhIQpN
WRHXSlYCQCNBo0Z2+/MxEcJBi8TEBVCoFOh19176CDG8SvPULE8A1Zj2vje0vIUa
MJIRfLS/CPm48NhuRTpv7F1kZL4BNvOyHeYDJxiINIcA9GWLHIxYVQQpLY/OIAN9
a7+4leQX8H7WU2pqNVSqpYkBLu0lAcnnjz9YpCZJebUcjfWY1Kxv";
}
