//! Protocol headers and the SASL layer (AMQP 2.2, 5.3), of either side.

use bytes::Bytes;

use super::config::{ClientChoice, ClientSasl, Opening, SaslPolicy};
use super::connection::{Connection, State, Step};
use super::error::{Beginning, ConnectionError, Fault};
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
    /// A client that has said all waits for the outcome, or for a challenge, to which it says
    /// `again` what that choice of its says, once.
    OutcomeDue { again: Option<u8> },
    /// A client's owner is to begin an exchange.
    Beginning,
    /// A client waits for the next challenge of an exchange, of which it takes so many, or the
    /// outcome.
    ChallengeDue { left: u8 },
    /// A client's owner answers a challenge.
    Responding { left: u8 },
    /// A client's owner judges whether the server has proved itself.
    Confirming,
}

impl Sasl {
    /// What follows depends on a decision of the owner.
    pub(super) fn is_for_owner(self) -> bool {
        matches!(
            self,
            Self::Deciding | Self::Beginning | Self::Responding { .. } | Self::Confirming
        )
    }
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

    /// Begins the exchange of a mechanism that the server offers.
    pub(crate) fn sasl_begin(&mut self, mechanism: Symbol, response: Bytes) {
        if matches!(self.state, State::Sasl(Sasl::Beginning))
            && let Ok(ClientSasl { hostname, .. }) = self.credentials()
        {
            self.write_init(mechanism, response, hostname);
            self.state = State::Sasl(Sasl::ChallengeDue {
                left: MAX_CHALLENGES,
            });
        }
    }

    /// Answers the server's challenge.
    pub(crate) fn sasl_respond(&mut self, response: Bytes) {
        if let State::Sasl(Sasl::Responding { left }) = self.state {
            self.write_sasl(&SaslFrame::Response(SaslResponse { response }));
            self.state = State::Sasl(Sasl::ChallengeDue { left });
        }
    }

    /// The server has proved itself: the connection goes on.
    pub(crate) fn sasl_confirm(&mut self) {
        if matches!(self.state, State::Sasl(Sasl::Confirming)) {
            self.start_client(HeaderDue::FromServer);
            self.state = State::Header(HeaderDue::FromServer);
        }
    }

    /// The server is not to be trusted, or not understood: the connection is over.
    pub(crate) fn sasl_give_up(&mut self, reason: &'static str) {
        if let State::Sasl(sasl) = self.state
            && sasl.is_for_owner()
        {
            self.drop_peer(ConnectionError::Sasl(reason));
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
                let beginning = Beginning::of(bytes);
                self.refuse_header(beginning);
                return Ok(Step::Again);
            }
            return Ok(Step::Starved);
        };
        let (header, beginning) = (ProtocolHeader::decode(octets), Beginning::of(octets));
        self.input().skip(ProtocolHeader::LEN);
        match header {
            Ok(header) => self.on_header(due, header, beginning),
            Err(_) => self.refuse_header(beginning),
        }
        Ok(Step::Again)
    }

    fn on_header(&mut self, due: HeaderDue, header: ProtocolHeader, beginning: Beginning) {
        let (plain, sasl) = match (&self.config.sasl, due) {
            (
                SaslPolicy::Server {
                    required,
                    mechanisms,
                },
                HeaderDue::First,
            ) => (!required, !mechanisms.is_empty()),
            (SaslPolicy::Unencrypted, _) => (false, false),
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
            self.refuse_header(beginning);
        }
    }

    fn offer_mechanisms(&mut self) {
        self.write_header(ProtocolHeader::SASL);
        let mechanisms = self.mechanisms().to_vec();
        self.write_sasl(&SaslFrame::Mechanisms(SaslMechanisms { mechanisms }));
        self.state = State::Sasl(Sasl::InitDue);
    }

    /// Answers a header that does not suit us with one that would, and goes (AMQP 2.2).
    fn refuse_header(&mut self, beginning: Beginning) {
        match (&self.config.sasl, &self.state) {
            (
                SaslPolicy::Server { required: true, .. } | SaslPolicy::Unencrypted,
                State::Header(HeaderDue::First),
            ) => self.write_header(ProtocolHeader::SASL),
            (_, State::Header(HeaderDue::First | HeaderDue::Second)) => {
                self.write_header(ProtocolHeader::AMQP);
            }
            _ => {}
        }
        self.drop_peer(match self.config.sasl {
            SaslPolicy::Unencrypted if beginning.is_amqp() => ConnectionError::Unencrypted,
            _ => ConnectionError::ProtocolHeader(beginning),
        });
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
            (
                Sasl::OutcomeDue {
                    again: Some(choice),
                },
                SaslFrame::Challenge(_),
            ) => self.say_again(choice),
            (Sasl::OutcomeDue { .. }, SaslFrame::Outcome(outcome)) => self.on_outcome(outcome.code),
            (Sasl::ChallengeDue { left: left @ 1.. }, SaslFrame::Challenge(challenge)) => {
                self.state = State::Sasl(Sasl::Responding { left: left - 1 });
                Ok(Some(Event::SaslChallenge(challenge.challenge)))
            }
            (Sasl::ChallengeDue { .. }, SaslFrame::Outcome(outcome)) => {
                if outcome.code != SaslCode::Ok {
                    return Err(ConnectionError::Authentication(outcome.code));
                }
                self.state = State::Sasl(Sasl::Confirming);
                Ok(Some(Event::SaslSuccess(outcome.additional_data)))
            }
            _ => Err(ConnectionError::Sasl("a frame out of turn")),
        }
    }

    fn on_init(&mut self, init: SaslInit) -> Option<Event> {
        self.state = State::Sasl(Sasl::Deciding);
        if !self.mechanisms().contains(&init.mechanism) {
            self.write_sasl(&SaslFrame::Outcome(SaslOutcome {
                code: SaslCode::Auth,
                additional_data: None,
            }));
            let shown = init.mechanism.as_str().chars().take(MAX_SHOWN);
            self.drop_peer(ConnectionError::Mechanism(shown.collect()));
            return None;
        }
        Some(Event::SaslInit {
            mechanism: init.mechanism,
            response: init.initial_response,
        })
    }

    fn on_mechanisms(&mut self, offer: &SaslMechanisms) -> Result<Option<Event>, ConnectionError> {
        let ClientSasl { choices, hostname } = self.credentials()?;
        let offered = |choice: &ClientChoice| offer.mechanisms.contains(&choice.mechanism);
        let index = choices.iter().position(offered).ok_or_else(|| {
            let shown = |names: Vec<&str>| names.join(" ").chars().take(MAX_SHOWN).collect();
            ConnectionError::NoMechanism {
                offered: shown(offer.mechanisms.iter().map(Symbol::as_str).collect()),
                ours: shown(choices.iter().map(|own| own.mechanism.as_str()).collect()),
            }
        })?;
        let ClientChoice { mechanism, opening } = choices[index].clone();
        match opening {
            Opening::Response(response) => {
                self.write_init(mechanism, response, hostname);
                let again = u8::try_from(index).ok();
                self.state = State::Sasl(Sasl::OutcomeDue { again });
                Ok(None)
            }
            Opening::Exchange => {
                self.state = State::Sasl(Sasl::Beginning);
                Ok(Some(Event::SaslChosen(mechanism)))
            }
        }
    }

    fn write_init(&mut self, mechanism: Symbol, response: Bytes, hostname: Option<String>) {
        self.chosen_mechanism = Some(mechanism.clone());
        self.write_sasl(&SaslFrame::Init(SaslInit {
            mechanism,
            initial_response: Some(response),
            hostname,
        }));
    }

    /// A server that did not take the initial response gets it once more (RFC 4422, 3).
    fn say_again(&mut self, choice: u8) -> Result<Option<Event>, ConnectionError> {
        let choices = self.credentials()?.choices;
        if let Some(Opening::Response(response)) = choices
            .into_iter()
            .nth(choice.into())
            .map(|choice| choice.opening)
        {
            self.write_sasl(&SaslFrame::Response(SaslResponse { response }));
        }
        self.state = State::Sasl(Sasl::OutcomeDue { again: None });
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
            SaslPolicy::Unencrypted | SaslPolicy::Client(_) => &[],
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

/// Challenges that a server may send in an exchange: SCRAM has one, and those who do not send its
/// last message with the outcome have two.
const MAX_CHALLENGES: u8 = 2;
/// Bytes in a SASL frame (AMQP 5.3.1).
const SASL_MAX_FRAME_SIZE: u32 = 512;
/// Characters of the name of a mechanism that is not offered that are shown.
const MAX_SHOWN: usize = 64;
