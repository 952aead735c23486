//! Passwords as a configuration gives them.

use std::fmt;
use std::fs;

use zeroize::Zeroizing;

/// Resolves the `password` of an sslProfile or proxyProfile, or a connector's `saslPassword`:
/// `env:NAME`, `file:PATH` (the first line, at most 200 bytes), `pass:TEXT`, where
/// `literal_allowed` also `literal:TEXT`, or the text itself.
///
/// # Errors
///
/// The variable or the file that is named cannot be read.
pub(crate) fn resolve(text: &str, literal_allowed: bool) -> Result<Secret, SecretError> {
    let clear = |text: &str| Secret(Zeroizing::new(text.to_owned()));
    match text.split_once(':') {
        Some(("env", name)) => match std::env::var(name) {
            Ok(value) => Ok(Secret(Zeroizing::new(value))),
            Err(error) => Err(SecretError(format!(
                "environment variable '{name}': {error}"
            ))),
        },
        Some(("file", path)) => first_line(path).map(Secret),
        Some(("pass", text)) => Ok(clear(text)),
        Some(("literal", text)) if literal_allowed => Ok(clear(text)),
        _ => Ok(clear(text)),
    }
}

/// Whether a password stands in the configuration for everyone to read, which deserves a warning.
pub(crate) fn is_bare(text: &str, literal_allowed: bool) -> bool {
    let prefixes = ["env:", "file:", "pass:"];
    let literal = literal_allowed && text.starts_with("literal:");
    !literal && !prefixes.iter().any(|prefix| text.starts_with(prefix))
}

/// A password in clear: never printed, wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(Zeroizing<String>);

impl Secret {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("******")
    }
}

/// Why a password could not be had.
#[derive(Debug, thiserror::Error)]
#[error("password: {0}")]
pub(crate) struct SecretError(String);

fn first_line(path: &str) -> Result<Zeroizing<String>, SecretError> {
    let fault = |reason: &str| SecretError(format!("file '{path}': {reason}"));
    let content = fs::read_to_string(path).map_err(|error| fault(&error.to_string()))?;
    let content = Zeroizing::new(content);
    let line = content.lines().next().unwrap_or_default();
    match line.len() {
        0 => Err(fault("the first line is empty")),
        1..=MAX_LEN => Ok(Zeroizing::new(line.to_owned())),
        _ => Err(fault("the first line is longer than 200 bytes")),
    }
}

const MAX_LEN: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_say_where_the_password_is() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "from file\nsecond line\n").unwrap();
        let secret = |text: &str| resolve(text, true).unwrap().as_str().to_owned();
        assert_eq!(
            secret(&format!("file:{}", file.path().display())),
            "from file"
        );
        assert_eq!(secret("pass:a:b"), "a:b");
        assert_eq!(secret("literal:env:x"), "env:x");
        assert_eq!(secret("plain"), "plain");
        assert_eq!(secret("other:plain"), "other:plain");
        assert_eq!(secret("env:PATH"), std::env::var("PATH").unwrap());
        assert_eq!(resolve("literal:x", false).unwrap().as_str(), "literal:x");
        assert!(is_bare("plain", true) && !is_bare("pass:x", true));
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let text = |password| resolve(password, true).unwrap_err().to_string();
        assert!(text("file:/absent").contains("file '/absent'"));
        assert!(text("env:AMQP_ROUTER_UNSET").contains("'AMQP_ROUTER_UNSET'"));
    }

    #[test]
    fn a_secret_does_not_print() {
        assert_eq!(format!("{:?}", resolve("pass:x", false).unwrap()), "******");
    }
}
