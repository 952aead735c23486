//! Who the peer of a TLS connection is, by its certificate.

use std::collections::HashMap;
use std::fmt::Write;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use std::sync::Arc;

use aws_lc_rs::digest;
use rustls::CommonState;
use rustls::pki_types::CertificateDer;
use serde_json::Value;
use x509_parser::prelude::{
    AttributeTypeAndValue, FromDer, GeneralName, X509Certificate, X509Name,
};

use super::ciphers;
use super::live::Ready;

/// What a finished handshake tells: the attributes `sslProto`, `sslCipher` and `sslSsf` of a
/// connection, and its peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TlsInfo {
    /// `TLSv1.2` or `TLSv1.3`.
    pub(crate) protocol: &'static str,
    /// The cipher suite by OpenSSL's name.
    pub(crate) cipher: &'static str,
    /// Bits of the cipher's key.
    pub(crate) strength: u32,
    /// The peer's user id, if it showed a certificate (which was verified).
    pub(crate) user: Option<String>,
    /// The application protocol that both sides agreed on.
    pub(crate) alpn: Option<Vec<u8>>,
    /// What its certificate says of the peer.
    pub(crate) certificate: PeerCertificate,
    /// The sslProfile that secured the connection.
    pub(crate) profile: Arc<str>,
    /// The ordinal that the profile had.
    pub(crate) ordinal: u64,
}

/// The names in a peer's certificate; empty without one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PeerCertificate {
    /// As RFC 2253 writes it: `CN=client,O=Trust Me,C=US`.
    pub(crate) subject: Option<String>,
    /// `DNS:host`, `URI:text`, `email:text` and `IP:address`.
    pub(crate) alternatives: Vec<String>,
}

impl PeerCertificate {
    fn of(der: &CertificateDer<'_>) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let names = certificate.subject_alternative_name().ok().flatten();
        let names = names.iter().flat_map(|names| &names.value.general_names);
        Some(Self {
            subject: Some(subject(certificate.subject())),
            alternatives: names.filter_map(alternative).take(MAX_NAMES).collect(),
        })
    }
}

fn alternative(name: &GeneralName<'_>) -> Option<String> {
    Some(match name {
        GeneralName::DNSName(name) => format!("DNS:{name}"),
        GeneralName::URI(uri) => format!("URI:{uri}"),
        GeneralName::RFC822Name(name) => format!("email:{name}"),
        GeneralName::IPAddress(octets) => match **octets {
            [a, b, c, d] => format!("IP:{}", Ipv4Addr::new(a, b, c, d)),
            ref octets => {
                let octets: [u8; 16] = octets.try_into().ok()?;
                format!("IP:{}", Ipv6Addr::from(octets))
            }
        },
        _ => return None,
    })
}

/// Names of one certificate that are looked at.
const MAX_NAMES: usize = 64;

impl TlsInfo {
    /// Reads the state of a connection whose handshake is complete: `stream.get_ref().1`.
    pub(crate) fn of<T>(connection: &CommonState, by: &Ready<T>) -> Self {
        Self {
            profile: Arc::clone(&by.profile),
            ordinal: by.ordinal,
            ..Self::with_format(connection, &by.uid_format)
        }
    }

    pub(super) fn with_format(connection: &CommonState, format: &UidFormat) -> Self {
        let shown = connection.peer_certificates().and_then(<[_]>::first);
        let suite = connection
            .negotiated_cipher_suite()
            .map(|suite| suite.suite());
        Self {
            protocol: match connection.protocol_version() {
                Some(rustls::ProtocolVersion::TLSv1_3) => "TLSv1.3",
                _ => "TLSv1.2",
            },
            cipher: suite.map_or("unknown", ciphers::openssl_name),
            strength: suite.map_or(0, ciphers::strength),
            user: shown.and_then(|certificate| format.user(certificate)),
            alpn: connection.alpn_protocol().map(<[u8]>::to_vec),
            certificate: shown.and_then(PeerCertificate::of).unwrap_or_default(),
            profile: Arc::default(),
            ordinal: 0,
        }
    }
}

/// How the certificates of an sslProfile's peers become user ids: its `uidFormat` and
/// `uidNameMappingFile`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct UidFormat {
    /// Which parts of a certificate make a user id, in order.
    parts: Vec<Part>,
    /// What a user is called instead of its id.
    names: Arc<HashMap<String, String>>,
}

impl UidFormat {
    /// The user of a peer with this certificate: the chosen parts joined with `;`, leaving out
    /// what the certificate does not have; without a format the whole subject. `None` if nothing
    /// is left.
    pub(crate) fn user(&self, certificate: &CertificateDer<'_>) -> Option<String> {
        let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
        let id = match self.parts.is_empty() {
            true => subject(parsed.subject()),
            false => {
                let parts = self
                    .parts
                    .iter()
                    .filter_map(|part| part.of(&parsed, certificate));
                parts.collect::<Vec<_>>().join(";")
            }
        };
        let user = self.names.get(&id).cloned().unwrap_or(id);
        (!user.is_empty()).then_some(user)
    }

    /// Takes names in place of ids from a `uidNameMappingFile`: one JSON object,
    /// `{"id": "name", …}`.
    ///
    /// # Errors
    ///
    /// It is something else.
    pub(super) fn with_names(self, text: &[u8]) -> Result<Self, String> {
        let value: Value =
            serde_json::from_slice(text).map_err(|error| format!("not valid JSON: {error}"))?;
        let object = value
            .as_object()
            .ok_or("must hold a JSON object of ids and names")?;
        let name = |(id, name): (&String, &Value)| {
            let name = name
                .as_str()
                .ok_or_else(|| format!("the name of '{id}' is no string"))?;
            Ok((id.clone(), name.to_owned()))
        };
        let names: HashMap<_, _> = object.iter().map(name).collect::<Result<_, String>>()?;
        Ok(Self {
            names: names.into(),
            ..self
        })
    }
}

impl FromStr for UidFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.chars().map(|letter| {
            Part::from_letter(letter).ok_or_else(|| {
                format!(
                    "'{letter}' is unknown; valid: c country, s state, l locality, \
                     o organisation, u unit, n common name, and one of 1 (SHA-1), 2 (SHA-256), \
                     5 (SHA-512) fingerprint"
                )
            })
        });
        let parts: Vec<_> = parts.collect::<Result<_, _>>()?;
        match parts.iter().filter(|part| part.is_fingerprint()).count() {
            0 | 1 => Ok(Self {
                parts,
                names: Arc::default(),
            }),
            _ => Err("at most one of the fingerprints 1, 2 and 5 can be used".into()),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Country,
    State,
    Locality,
    Organization,
    Unit,
    CommonName,
    Sha1,
    Sha256,
    Sha512,
}

impl Part {
    fn from_letter(letter: char) -> Option<Self> {
        Some(match letter {
            'c' => Self::Country,
            's' => Self::State,
            'l' => Self::Locality,
            'o' => Self::Organization,
            'u' => Self::Unit,
            'n' => Self::CommonName,
            '1' => Self::Sha1,
            '2' => Self::Sha256,
            '5' => Self::Sha512,
            _ => return None,
        })
    }

    fn is_fingerprint(self) -> bool {
        matches!(self, Self::Sha1 | Self::Sha256 | Self::Sha512)
    }

    fn of(self, certificate: &X509Certificate<'_>, der: &[u8]) -> Option<String> {
        let subject = certificate.subject();
        match self {
            Self::Country => first(subject.iter_country()),
            Self::State => first(subject.iter_state_or_province()),
            Self::Locality => first(subject.iter_locality()),
            Self::Organization => first(subject.iter_organization()),
            Self::Unit => first(subject.iter_organizational_unit()),
            Self::CommonName => first(subject.iter_common_name()),
            Self::Sha1 => Some(hex(&digest::SHA1_FOR_LEGACY_USE_ONLY, der)),
            Self::Sha256 => Some(hex(&digest::SHA256, der)),
            Self::Sha512 => Some(hex(&digest::SHA512, der)),
        }
    }
}

fn first<'a>(
    mut attributes: impl Iterator<Item = &'a AttributeTypeAndValue<'a>>,
) -> Option<String> {
    attributes.next()?.as_str().ok().map(str::to_owned)
}

pub(super) fn hex(algorithm: &'static digest::Algorithm, data: &[u8]) -> String {
    let mut text = String::new();
    for byte in digest::digest(algorithm, data).as_ref() {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// A subject as RFC 2253 writes it, most specific part first: `CN=client,O=Trust Me,C=US`.
pub(super) fn subject(name: &X509Name<'_>) -> String {
    let parts: Vec<_> = name.iter_rdn().collect();
    let parts = parts.iter().rev().map(|rdn| {
        let attributes: Vec<_> = rdn.iter().map(attribute).collect();
        attributes.join("+")
    });
    parts.collect::<Vec<_>>().join(",")
}

fn attribute(attribute: &AttributeTypeAndValue<'_>) -> String {
    let id = attribute.attr_type().to_id_string();
    let name = SHORT_NAMES
        .iter()
        .find(|(oid, _)| *oid == id)
        .map(|(_, name)| *name);
    match attribute.as_str() {
        Ok(value) => format!("{}={}", name.unwrap_or(&id), escape(value)),
        Err(_) => {
            let mut text = format!("{}=#", name.unwrap_or(&id));
            for byte in attribute.as_slice() {
                let _ = write!(text, "{byte:02X}");
            }
            text
        }
    }
}

/// RFC 2253 2.4; controls and what is not ASCII become `\` and two hexadecimal digits a byte.
fn escape(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    let last = value.len().saturating_sub(1);
    for (index, byte) in value.bytes().enumerate() {
        let special = matches!(byte, b',' | b'+' | b'"' | b'\\' | b'<' | b'>' | b';')
            || (byte == b'#' && index == 0)
            || (byte == b' ' && (index == 0 || index == last));
        match byte {
            _ if special => {
                text.push('\\');
                text.push(byte.into());
            }
            0x20..0x7f => text.push(byte.into()),
            _ => {
                let _ = write!(text, "\\{byte:02X}");
            }
        }
    }
    text
}

const SHORT_NAMES: [(&str, &str); 15] = [
    ("2.5.4.3", "CN"),
    ("2.5.4.4", "SN"),
    ("2.5.4.5", "serialNumber"),
    ("2.5.4.6", "C"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.9", "street"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.12", "title"),
    ("2.5.4.42", "GN"),
    ("2.5.4.46", "dnQualifier"),
    ("0.9.2342.19200300.100.1.1", "UID"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("1.2.840.113549.1.9.1", "emailAddress"),
];
