//! The five SASL frames (AMQP 5.3.3).

use std::fmt;

use bytes::Bytes;

use super::Symbol;

/// The body of a SASL frame.
#[derive(Clone, Debug, PartialEq)]
pub enum SaslFrame {
    Mechanisms(SaslMechanisms),
    Init(SaslInit),
    Challenge(SaslChallenge),
    Response(SaslResponse),
    Outcome(SaslOutcome),
}

/// What the server offers, in its order of preference; never empty.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SaslMechanisms {
    pub mechanisms: Vec<Symbol>,
}

/// The client's choice.
#[derive(Clone, Default, PartialEq)]
pub struct SaslInit {
    pub mechanism: Symbol,
    pub initial_response: Option<Bytes>,
    pub hostname: Option<String>,
}

#[derive(Clone, Default, PartialEq)]
pub struct SaslChallenge {
    pub challenge: Bytes,
}

#[derive(Clone, Default, PartialEq)]
pub struct SaslResponse {
    pub response: Bytes,
}

#[derive(Clone, Debug, PartialEq)]
pub struct SaslOutcome {
    pub code: SaslCode,
    pub additional_data: Option<Bytes>,
}

/// How authentication ended (AMQP 5.3.3.6).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SaslCode {
    Ok,
    /// The credentials are wrong.
    Auth,
    /// A system error.
    Sys,
    /// A system error that will stay.
    SysPerm,
    /// A system error that may pass.
    SysTemp,
}

/// Debug output of what may hold a credential: its length alone.
struct Secret(usize);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{} bytes>", self.0)
    }
}

impl fmt::Debug for SaslInit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SaslInit")
            .field("mechanism", &self.mechanism)
            .field(
                "initial_response",
                &self.initial_response.as_ref().map(|r| Secret(r.len())),
            )
            .field("hostname", &self.hostname)
            .finish()
    }
}

impl fmt::Debug for SaslChallenge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SaslChallenge")
            .field(&Secret(self.challenge.len()))
            .finish()
    }
}

impl fmt::Debug for SaslResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SaslResponse")
            .field(&Secret(self.response.len()))
            .finish()
    }
}
