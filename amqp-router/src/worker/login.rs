//! A connection's SASL, as it is told to the control plane and answered from there.

use std::time::Instant;

use bytes::Bytes;

use super::{ConnectionId, Worker, WorkerEvent};
use crate::codec::{SaslCode, Symbol};

/// What a peer says while one of the two authenticates.
#[derive(Debug)]
pub(crate) enum LoginStep {
    /// A client chooses.
    Init {
        mechanism: Symbol,
        response: Option<Bytes>,
    },
    /// A client answers our challenge.
    Response(Bytes),
    /// The server offers this mechanism, which is an exchange.
    Chosen(Symbol),
    /// The server's challenge in it.
    Challenge(Bytes),
    /// The server says that it has succeeded, and may prove itself.
    Success(Option<Bytes>),
}

/// How it goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Authentication {
    /// The client is to answer this.
    Challenge(String),
    Accepted {
        user: Option<String>,
        mechanism: String,
        /// What proves us to the client.
        proof: Option<String>,
    },
    Rejected,
    /// We, the client, begin an exchange.
    Begin {
        mechanism: Symbol,
        response: String,
    },
    /// We answer the server's challenge.
    Respond(String),
    /// The server has proved itself.
    Confirmed,
    /// It has not, or is not understood.
    GiveUp(&'static str),
}

impl Worker {
    /// Answers [`WorkerEvent::Authenticate`].
    pub(crate) fn authenticated(
        &mut self,
        connection: ConnectionId,
        id: u64,
        result: Authentication,
        now: Instant,
    ) {
        let Some(amqp) = self
            .connections
            .amqp(connection.0)
            .filter(|amqp| amqp.id == id)
        else {
            return;
        };
        match result {
            Authentication::Challenge(challenge) => amqp.endpoint.sasl_challenge(challenge.into()),
            Authentication::Accepted {
                user,
                mechanism,
                proof,
            } => {
                amqp.peer.authenticated = true;
                amqp.peer.user = user;
                amqp.peer.sasl = Some(mechanism);
                let proof = proof.map(Bytes::from);
                amqp.endpoint.sasl_outcome(SaslCode::Ok, proof);
            }
            Authentication::Rejected => amqp.endpoint.sasl_outcome(SaslCode::Auth, None),
            Authentication::Begin {
                mechanism,
                response,
            } => amqp.endpoint.sasl_begin(mechanism, response.into()),
            Authentication::Respond(response) => amqp.endpoint.sasl_respond(response.into()),
            Authentication::Confirmed => amqp.endpoint.sasl_confirm(),
            Authentication::GiveUp(reason) => amqp.endpoint.sasl_give_up(reason),
        }
        self.process(connection, now);
    }

    pub(super) fn authenticate(&mut self, connection: ConnectionId, step: LoginStep) {
        if let Some(amqp) = self.connections.amqp(connection.0) {
            let id = amqp.id;
            self.events.push_back(WorkerEvent::Authenticate {
                connection,
                id,
                step,
            });
        }
    }
}
