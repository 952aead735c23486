//! Protocol headers and the SASL layer (AMQP 2.2, 5.3), of either side.

use bytes::Bytes;

use super::config::{ClientSasl, SaslPolicy};
use super::connection::{Connection, State, Step};
use super::error::{ConnectionError, Fault};
use super::event::Event;
use crate::codec::{
    FrameKind, ProtocolHeader, ProtocolId, Reader, SaslChallenge, SaslCode, SaslFrame, SaslInit,
    SaslMechanisms, SaslOutcome, SaslResponse, Symbol,
};

/// Which protocol header the peer owes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum HeaderDue {
    /// A client's first: SASL or AMQP.
    First,
    /// A client's second, when it has authenticated.
    Second,
    /// A server's answer to our SASL header.
    FromSaslServer,
    /// A server's answer to our AMQP header.
    FromServer,
}

/// Where SASL stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Sasl {
    /// A server waits for the client's choice.
    InitDue,
    /// A server's owner decides.
    Deciding,
    /// A server waits for the client's answer to a challenge.
    ResponseDue,
    /// A client waits for the server's mechanisms.
    MechanismsDue,
    /// A client waits for a challenge, which it answers `once`, or the outcome.
    OutcomeDue { once: bool },
}

impl Connection {
    /// Asks the client that is authenticating for more.
    pub(crate) fn sasl_challenge(&mut self, challenge: Bytes) {
        if matches!(self.state, State::Sasl(Sasl::Deciding)) {
            self.write_sasl(&SaslFrame::Challenge(SaslChallenge { challenge }));
            self.state = State::Sasl(Sasl::ResponseDue);
        }
    }

    /// Tells the client that is authenticating how that ended. Without success the connection is
    /// over.
    pub(crate) fn sasl_outcome(&mut self, code: SaslCode, additional_data: Option<Bytes>) {
        if !matches!(self.state, State::Sasl(Sasl::Deciding)) {
            return;
        }
        self.write_sasl(&SaslFrame::Outcome(SaslOutcome {
            code,
            additional_data,
        }));
        if code == SaslCode::Ok {
            self.state = State::Header(HeaderDue::Second);
        } else {
            self.drop_peer(ConnectionError::Authentication(code));
        }
    }

    /// What a client sends before it has heard anything.
    pub(super) fn start_client(&mut self, due: HeaderDue) {
        if due == HeaderDue::FromSaslServer {
            self.write_header(ProtocolHeader::SASL);
        } else {
            self.write_header(ProtocolHeader::AMQP);
            self.write_open();
        }
    }

    pub(super) fn next_header(&mut self, due: HeaderDue) -> Result<Step, Fault> {
        let bytes = self.input().peek_some(ProtocolHeader::LEN);
        let Ok(octets) = <&[u8; ProtocolHeader::LEN]>::try_from(bytes) else {
            let garbage = bytes
                .iter()
                .zip(b"AMQP")
                .any(|(byte, expected)| byte != expected);
            if garbage {
                self.refuse_header();
                return Ok(Step::Again);
            }
            return Ok(Step::Starved);
        };
        let header = ProtocolHeader::decode(octets).ok();
        self.input().skip(ProtocolHeader::LEN);
        let Some(header) = header else {
            self.refuse_header();
            return Ok(Step::Again);
        };
        self.on_header(due, header);
        Ok(Step::Again)
    }

    fn on_header(&mut self, due: HeaderDue, header: ProtocolHeader) {
        let (plain, sasl) = match (&self.config.sasl, due) {
            (
                SaslPolicy::Server {
                    required,
                    mechanisms,
                },
                HeaderDue::First,
            ) => (!required, !mechanisms.is_empty()),
            (_, HeaderDue::FromSaslServer) => (false, true),
            _ => (true, false),
        };
        let from_client = matches!(due, HeaderDue::First | HeaderDue::Second);
        if header == ProtocolHeader::AMQP && plain {
            if from_client {
                self.write_header(ProtocolHeader::AMQP);
            }
            self.state = State::OpenDue;
        } else if header == ProtocolHeader::SASL && sasl {
            if from_client {
                self.offer_mechanisms();
            } else {
                self.state = State::Sasl(Sasl::MechanismsDue);
            }
        } else {
            self.refuse_header();
        }
    }

    fn offer_mechanisms(&mut self) {
        self.write_header(ProtocolHeader::SASL);
        let mechanisms = self.mechanisms().to_vec();
        self.write_sasl(&SaslFrame::Mechanisms(SaslMechanisms { mechanisms }));
        self.state = State::Sasl(Sasl::InitDue);
    }

    /// Answers a header that does not suit us with one that would, and goes (AMQP 2.2).
    fn refuse_header(&mut self) {
        match (&self.config.sasl, &self.state) {
            (SaslPolicy::Server { required: true, .. }, State::Header(HeaderDue::First)) => {
                self.write_header(ProtocolHeader::SASL);
            }
            (_, State::Header(HeaderDue::First | HeaderDue::Second)) => {
                self.write_header(ProtocolHeader::AMQP);
            }
            _ => {}
        }
        self.drop_peer(ConnectionError::ProtocolHeader);
    }

    pub(super) fn next_sasl_frame(&mut self) -> Result<Step, Fault> {
        let State::Sasl(sasl) = self.state else {
            return Ok(Step::Again);
        };
        let header = match self.peek_frame(FrameKind::Sasl, SASL_MAX_FRAME_SIZE) {
            Ok(Some(header)) => header,
            Ok(None) => return Ok(Step::Starved),
            Err(ConnectionError::UnexpectedSasl) => {
                return Err(ConnectionError::Sasl("not a SASL frame").into());
            }
            Err(error) => return Err(error.into()),
        };
        let (size, start) = (header.size as usize, header.body_start());
        let body = &self.input().peek(size).unwrap_or_default()[start..];
        let frame = SaslFrame::decode(&mut Reader::new(body))?;
        self.input().skip(size);
        let event = self.on_sasl_frame(sasl, frame)?;
        Ok(event.map_or(Step::Again, Step::Event))
    }

    fn on_sasl_frame(
        &mut self,
        sasl: Sasl,
        frame: SaslFrame,
    ) -> Result<Option<Event>, ConnectionError> {
        match (sasl, frame) {
            (Sasl::InitDue, SaslFrame::Init(init)) => Ok(self.on_init(init)),
            (Sasl::ResponseDue, SaslFrame::Response(answer)) => {
                self.state = State::Sasl(Sasl::Deciding);
                Ok(Some(Event::SaslResponse(answer.response)))
            }
            (Sasl::MechanismsDue, SaslFrame::Mechanisms(offer)) => self.on_mechanisms(&offer),
            (Sasl::OutcomeDue { once: true }, SaslFrame::Challenge(_)) => self.on_challenge(),
            (Sasl::OutcomeDue { .. }, SaslFrame::Outcome(outcome)) => self.on_outcome(outcome.code),
            _ => Err(ConnectionError::Sasl("a frame out of turn")),
        }
    }

    fn on_init(&mut self, init: SaslInit) -> Option<Event> {
        self.state = State::Sasl(Sasl::Deciding);
        if !self.mechanisms().contains(&init.mechanism) {
            self.sasl_outcome(SaslCode::Auth, None);
            return None;
        }
        Some(Event::SaslInit {
            mechanism: init.mechanism,
            response: init.initial_response,
            hostname: init.hostname,
        })
    }

    fn on_mechanisms(&mut self, offer: &SaslMechanisms) -> Result<Option<Event>, ConnectionError> {
        let ClientSasl {
            mechanism,
            initial_response,
            hostname,
        } = self.credentials()?;
        if !offer.mechanisms.contains(&mechanism) {
            return Err(ConnectionError::Sasl("our mechanism is not offered"));
        }
        self.write_sasl(&SaslFrame::Init(SaslInit {
            mechanism,
            initial_response: Some(initial_response),
            hostname,
        }));
        self.state = State::Sasl(Sasl::OutcomeDue { once: true });
        Ok(None)
    }

    /// A server that did not take the initial response gets it once more (RFC 4422, 3).
    fn on_challenge(&mut self) -> Result<Option<Event>, ConnectionError> {
        let response = self.credentials()?.initial_response;
        self.write_sasl(&SaslFrame::Response(SaslResponse { response }));
        self.state = State::Sasl(Sasl::OutcomeDue { once: false });
        Ok(None)
    }

    fn on_outcome(&mut self, code: SaslCode) -> Result<Option<Event>, ConnectionError> {
        if code != SaslCode::Ok {
            return Err(ConnectionError::Authentication(code));
        }
        self.start_client(HeaderDue::FromServer);
        self.state = State::Header(HeaderDue::FromServer);
        Ok(None)
    }

    fn mechanisms(&self) -> &[Symbol] {
        match &self.config.sasl {
            SaslPolicy::Server { mechanisms, .. } => mechanisms,
            SaslPolicy::Client(_) => &[],
        }
    }

    fn credentials(&self) -> Result<ClientSasl, ConnectionError> {
        match &self.config.sasl {
            SaslPolicy::Client(Some(credentials)) => Ok(credentials.clone()),
            _ => Err(ConnectionError::Sasl("we have no credentials")),
        }
    }

    fn write_header(&mut self, header: ProtocolHeader) {
        debug_assert!(matches!(header.id, ProtocolId::Amqp | ProtocolId::Sasl));
        self.out.tail().extend_from_slice(&header.encode());
    }

    fn write_sasl(&mut self, frame: &SaslFrame) {
        frame.encode_frame(self.out.tail());
    }
}

/// Bytes in a SASL frame (AMQP 5.3.1).
const SASL_MAX_FRAME_SIZE: u32 = 512;
