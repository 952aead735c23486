//! A client's sending link.

use std::collections::VecDeque;

use bytes::Bytes;
use rand::Rng;

use crate::codec::DeliveryTag;
use crate::endpoint::{Connection, Departure, LinkId};

use super::client::Scope;
use super::ledger::{AddressNo, LinkNo, MessageNo, Phase};
use super::message::{Content, Shape};

#[derive(Debug)]
pub(super) struct Sender {
    /// None is an anonymous sender.
    pub(super) address: Option<AddressNo>,
    sending: Option<Sending>,
    /// Deliveries that await an outcome, with their numbers in the session.
    unsettled: Vec<(MessageNo, u32)>,
    /// It has been asked to give back its credit.
    draining: bool,
}

/// A delivery that has started and not ended.
#[derive(Debug)]
struct Sending {
    message: MessageNo,
    /// What the session's window has not let through of the current piece.
    piece: Bytes,
    rest: VecDeque<Bytes>,
}

impl Sender {
    pub(super) fn new(address: Option<AddressNo>) -> Self {
        Self {
            address,
            sending: None,
            unsettled: Vec::new(),
            draining: false,
        }
    }

    pub(super) fn is_sending(&self) -> bool {
        self.sending.is_some()
    }

    pub(super) fn unsettled(&self) -> usize {
        self.unsettled.len()
    }

    /// The link is gone; so is what it had not sent.
    pub(super) fn leave(&mut self) {
        self.sending = None;
        self.unsettled.clear();
    }

    /// Starts a message and sends its first piece, if credit and window allow.
    pub(super) fn start(
        &mut self,
        scope: &mut Scope<'_>,
        link: (LinkNo, LinkId),
        endpoint: &mut Connection,
        to: AddressNo,
        shape: &Shape,
    ) -> Option<MessageNo> {
        let (number, id) = link;
        let sendable = endpoint.sendable(id);
        if sendable.credit == 0 || sendable.window == 0 || self.sending.is_some() {
            return None;
        }
        let settled = shape.settled;
        let starts = |label| Content::new(label, shape);
        let message = scope.ledger.starts(number, to, shape, starts);
        let mut rest = cut(
            scope,
            &scope.ledger.messages[message.0].content.sent.clone(),
            shape.pieces,
        );
        let mut piece = rest.pop_front().unwrap_or_default();
        let departure = Departure {
            token: message.0 as u32,
            tag: DeliveryTag::from(message.0 as u64),
            format: 0,
            settled,
            state: None,
            prefix: &[],
        };
        let more = !rest.is_empty();
        let delivery = endpoint
            .start_delivery(id, departure, &mut piece, more)
            .expect("there is credit");
        if !settled {
            self.unsettled.push((message, delivery));
        }
        scope.ledger.tally.streamed += u64::from(more);
        self.sending = Some(Sending {
            message,
            piece,
            rest,
        });
        self.end_if_done(scope);
        Some(message)
    }

    /// Sends the next piece of the message that is being sent, as far as the window allows.
    pub(super) fn proceed(&mut self, scope: &mut Scope<'_>, id: LinkId, endpoint: &mut Connection) {
        let Some(sending) = &mut self.sending else {
            return;
        };
        if endpoint.sendable(id).window == 0 {
            return;
        }
        if sending.piece.is_empty() {
            sending.piece = sending.rest.pop_front().unwrap_or_default();
        }
        endpoint.continue_delivery(id, &mut sending.piece, !sending.rest.is_empty());
        self.end_if_done(scope);
    }

    /// Gives up the message that is being sent.
    pub(super) fn abort(&mut self, scope: &mut Scope<'_>, id: LinkId, endpoint: &mut Connection) {
        let Some(sending) = self.sending.take() else {
            return;
        };
        endpoint.abort_delivery(id);
        scope.ledger.ends(sending.message, Phase::Aborted);
        self.updated(sending.message);
    }

    /// Settles a delivery without waiting for its outcome.
    pub(super) fn forsake(
        &mut self,
        scope: &mut Scope<'_>,
        session: crate::endpoint::SessionId,
        endpoint: &mut Connection,
    ) {
        if self.unsettled.is_empty() || self.sending.is_some() {
            return;
        }
        let at = scope.rng.random_range(0..self.unsettled.len());
        let (message, delivery) = self.unsettled.swap_remove(at);
        endpoint.update_sent(session, delivery, None, true);
        scope.ledger.forsakes(message);
    }

    /// Something terminal was said of a delivery.
    pub(super) fn updated(&mut self, message: MessageNo) {
        self.unsettled.retain(|(other, _)| *other != message);
    }

    /// Credit has changed, or is asked back.
    pub(super) fn flow(&mut self, scope: &mut Scope<'_>, endpoint: &mut Connection, id: LinkId) {
        self.draining = endpoint.sendable(id).drain;
        if scope.rng.random_bool(0.7) {
            self.give_back_credit(endpoint, id);
        }
    }

    /// Gives back its credit if it has been asked to.
    pub(super) fn give_back_credit(&mut self, endpoint: &mut Connection, id: LinkId) {
        if std::mem::take(&mut self.draining) {
            endpoint.drained(id);
        }
    }

    fn end_if_done(&mut self, scope: &mut Scope<'_>) {
        let done = |sending: &Sending| sending.piece.is_empty() && sending.rest.is_empty();
        if let Some(sending) = self.sending.take_if(|sending| done(sending)) {
            scope.ledger.ends(sending.message, Phase::Complete);
        }
    }
}

/// Cuts a message into so many pieces, one at least.
fn cut(scope: &mut Scope<'_>, message: &Bytes, pieces: usize) -> VecDeque<Bytes> {
    let mut cuts: Vec<usize> = (1..pieces)
        .map(|_| scope.rng.random_range(1..message.len()))
        .collect();
    cuts.sort_unstable();
    cuts.dedup();
    cuts.push(message.len());
    let mut start = 0;
    let piece = |end: usize| {
        let piece = message.slice(start..end);
        start = end;
        piece
    };
    cuts.into_iter().map(piece).collect()
}
