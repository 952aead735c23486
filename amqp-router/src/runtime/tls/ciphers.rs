//! The `ciphers` attribute: a plain list of cipher suites.

use rustls::{CipherSuite, SupportedCipherSuite};

/// Keeps those of `available` that `list` names, in the list's order. Suites of TLS 1.3 stay
/// unless the list names some, as OpenSSL's cipher list is about TLS 1.2 and older.
///
/// # Errors
///
/// A name that is not a suite we have: OpenSSL's keywords and operators (`HIGH`, `!aNULL`) are
/// refused rather than half understood.
pub(super) fn select(
    available: &[SupportedCipherSuite],
    list: &str,
) -> Result<Vec<SupportedCipherSuite>, String> {
    let mut chosen = Vec::new();
    for name in list
        .split([':', ',', ' ', ';'])
        .filter(|name| !name.is_empty())
    {
        let suite = available
            .iter()
            .find(|suite| openssl_name(suite.suite()) == name || iana_name(suite.suite()) == name)
            .ok_or_else(|| unknown(available, name))?;
        if !chosen.contains(suite) {
            chosen.push(*suite);
        }
    }
    let is_13 = |suite: &SupportedCipherSuite| suite.tls13().is_some();
    if !chosen.iter().any(is_13) {
        chosen.splice(0..0, available.iter().copied().filter(is_13));
    }
    Ok(chosen)
}

/// OpenSSL's name, which is what `sslCipher` of a connection shows.
pub(super) fn openssl_name(suite: CipherSuite) -> &'static str {
    NAMES
        .iter()
        .find(|(id, ..)| *id == suite)
        .map_or("unknown", |(_, name, _)| name)
}

/// Bits of the key of the suite's cipher, which is what `sslSsf` of a connection shows.
pub(super) fn strength(suite: CipherSuite) -> u32 {
    NAMES
        .iter()
        .find(|(id, ..)| *id == suite)
        .map_or(0, |(_, _, bits)| *bits)
}

fn iana_name(suite: CipherSuite) -> String {
    let name = suite.as_str().unwrap_or_default();
    match name.strip_prefix("TLS13_") {
        Some(rest) => format!("TLS_{rest}"),
        None => name.to_owned(),
    }
}

fn unknown(available: &[SupportedCipherSuite], name: &str) -> String {
    let valid: Vec<_> = available
        .iter()
        .map(|suite| openssl_name(suite.suite()))
        .collect();
    format!(
        "'{name}' is not a cipher suite of this router; valid: {}",
        valid.join(":")
    )
}

const NAMES: [(CipherSuite, &str, u32); 9] = [
    (
        CipherSuite::TLS13_AES_256_GCM_SHA384,
        "TLS_AES_256_GCM_SHA384",
        256,
    ),
    (
        CipherSuite::TLS13_AES_128_GCM_SHA256,
        "TLS_AES_128_GCM_SHA256",
        128,
    ),
    (
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
        "TLS_CHACHA20_POLY1305_SHA256",
        256,
    ),
    (
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        256,
    ),
    (
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        128,
    ),
    (
        CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
        "ECDHE-ECDSA-CHACHA20-POLY1305",
        256,
    ),
    (
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
        "ECDHE-RSA-AES256-GCM-SHA384",
        256,
    ),
    (
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        "ECDHE-RSA-AES128-GCM-SHA256",
        128,
    ),
    (
        CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
        "ECDHE-RSA-CHACHA20-POLY1305",
        256,
    ),
];
