//! What a connector says of itself.

use bytes::Bytes;

use super::Mechanism;
use crate::codec::Symbol;
use crate::endpoint::{ClientChoice, Opening};
use crate::runtime::secret::Secret;

/// What a connector may say in `sasl-init`, the best first. EXTERNAL needs an own certificate in
/// the sslProfile, PLAIN and SCRAM a name and a password.
pub(crate) fn client_choices(
    mechanisms: Option<&str>,
    has_certificate: bool,
    user: Option<(&str, &Secret)>,
) -> Vec<ClientChoice> {
    let choice = |mechanism: Mechanism| {
        let opening = match mechanism {
            Mechanism::External => has_certificate.then(|| Opening::Response(Bytes::new())),
            Mechanism::Scram(_) => user.is_some().then_some(Opening::Exchange),
            Mechanism::Plain => user.map(|(name, password)| {
                let message = format!("\0{name}\0{}", password.as_str());
                Opening::Response(message.into())
            }),
            Mechanism::Anonymous => Some(Opening::Response(Bytes::from_static(b"anonymous"))),
        };
        opening.map(|opening| ClientChoice {
            mechanism: Symbol::from(mechanism.as_str()),
            opening,
        })
    };
    let list = Mechanism::list(mechanisms);
    list.into_iter().filter_map(choice).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connector_prefers_its_certificate_to_its_password() {
        let password = crate::runtime::secret::resolve("pass:p", false).unwrap();
        let choices = |list, certificate, user: Option<(&str, &Secret)>| {
            let choices = client_choices(list, certificate, user).into_iter();
            choices
                .map(|choice| (choice.mechanism.to_string(), choice.opening))
                .collect::<Vec<_>>()
        };
        let said = |name: &str, text: &'static str| {
            let response = Bytes::from_static(text.as_bytes());
            (name.to_owned(), Opening::Response(response))
        };
        let exchanged = |name: &str| (name.to_owned(), Opening::Exchange);
        let all = choices(None, true, Some(("u", &password)));
        let expected = [
            said("EXTERNAL", ""),
            exchanged("SCRAM-SHA-512"),
            exchanged("SCRAM-SHA-256"),
            exchanged("SCRAM-SHA-1"),
            said("PLAIN", "\0u\0p"),
            said("ANONYMOUS", "anonymous"),
        ];
        assert_eq!(all, expected);
        assert_eq!(choices(None, false, None)[0].0, "ANONYMOUS");
        assert!(choices(Some("EXTERNAL"), false, None).is_empty());
        assert!(choices(Some("scram-sha-1"), true, None).is_empty());
    }
}
