//! The five SASL frames (AMQP 5.3.3).

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};

use super::read::{Composite, Reader};
use super::write::{ListWriter, put_binary, put_string, put_symbol};
use super::{DecodeError, Symbol};

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

impl SaslFrame {
    /// Reads the body of a SASL frame, which holds exactly one of the five.
    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let code = reader.descriptor()?;
        let mut fields = Composite::new(reader)?;
        let frame = match code {
            0x40 => {
                let mechanisms = fields.required("sasl-server-mechanisms", Reader::symbols)?;
                if mechanisms.is_empty() {
                    return Err(DecodeError::MissingField("sasl-server-mechanisms"));
                }
                Self::Mechanisms(SaslMechanisms { mechanisms })
            }
            0x41 => Self::Init(SaslInit {
                mechanism: fields.required("mechanism", Reader::symbol)?.into(),
                initial_response: fields.field(Reader::binary)?.map(Bytes::copy_from_slice),
                hostname: fields.field(Reader::string)?.map(str::to_owned),
            }),
            0x42 => {
                let challenge = fields.required("challenge", Reader::binary)?;
                Self::Challenge(SaslChallenge {
                    challenge: Bytes::copy_from_slice(challenge),
                })
            }
            0x43 => {
                let response = fields.required("response", Reader::binary)?;
                Self::Response(SaslResponse {
                    response: Bytes::copy_from_slice(response),
                })
            }
            0x44 => Self::Outcome(SaslOutcome {
                code: match fields.required("code", Reader::ubyte)? {
                    0 => SaslCode::Ok,
                    1 => SaslCode::Auth,
                    2 => SaslCode::Sys,
                    3 => SaslCode::SysPerm,
                    4 => SaslCode::SysTemp,
                    _ => return Err(DecodeError::InvalidField("code")),
                },
                additional_data: fields.field(Reader::binary)?.map(Bytes::copy_from_slice),
            }),
            _ => return Err(DecodeError::UnknownPerformative),
        };
        fields.finish()?;
        reader.end()?;
        Ok(frame)
    }

    pub(crate) fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Mechanisms(frame) => {
                ListWriter::new(out, 0x40)
                    .symbols(&frame.mechanisms)
                    .finish();
            }
            Self::Init(frame) => ListWriter::new(out, 0x41)
                .put(|out| put_symbol(out, frame.mechanism.as_str()))
                .opt(frame.initial_response.as_deref(), put_binary)
                .opt(frame.hostname.as_deref(), put_string)
                .finish(),
            Self::Challenge(frame) => {
                ListWriter::new(out, 0x42)
                    .put(|out| put_binary(out, &frame.challenge))
                    .finish();
            }
            Self::Response(frame) => {
                ListWriter::new(out, 0x43)
                    .put(|out| put_binary(out, &frame.response))
                    .finish();
            }
            Self::Outcome(frame) => ListWriter::new(out, 0x44)
                .put(|out| out.put_slice(&[0x50, frame.code as u8]))
                .opt(frame.additional_data.as_deref(), put_binary)
                .finish(),
        }
    }

    /// Writes a whole SASL frame.
    pub(crate) fn encode_frame(&self, out: &mut BytesMut) {
        let start = out.len();
        out.put_slice(&[0, 0, 0, 0, 2, 1, 0, 0]);
        self.encode(out);
        let size = (out.len() - start) as u32;
        out[start..start + 4].copy_from_slice(&size.to_be_bytes());
    }
}
