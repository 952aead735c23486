//! A client's receiving link.

use bytes::BytesMut;
use rand::Rng;
use rand::rngs::StdRng;

use crate::codec::{DeliveryState, Error, SenderSettleMode, condition};
use crate::endpoint::{Connection, DeliveryRef, LinkId, TransferEvent};

use super::client::Scope;
use super::ledger::{CopyNo, LinkNo};

#[derive(Debug, Default)]
pub(super) struct Receiver {
    /// What the router has said of how it settles; nothing, before it has answered.
    pub(super) answered: Option<SenderSettleMode>,
    arriving: Option<Arriving>,
    unsettled: Vec<Unsettled>,
    /// It has asked for its credit back.
    pub(super) draining: bool,
}

/// A delivery that has started to arrive.
#[derive(Debug)]
struct Arriving {
    delivery: DeliveryRef,
    settled: bool,
    /// Which message it is; unknown until its label is here.
    copy: Option<CopyNo>,
    unknown: BytesMut,
}

#[derive(Debug)]
struct Unsettled {
    delivery: DeliveryRef,
    copy: CopyNo,
    /// What has been said of it without settling it.
    said: Option<DeliveryState>,
}

impl Receiver {
    pub(super) fn unsettled(&self) -> usize {
        self.unsettled.len()
    }

    /// Takes a frame.
    pub(super) fn take(
        &mut self,
        scope: &mut Scope<'_>,
        number: LinkNo,
        endpoint: &mut Connection,
        transfer: TransferEvent,
    ) {
        if transfer.first.is_some() {
            assert!(
                self.arriving.is_none(),
                "{number:?} got a delivery within another"
            );
            self.arriving = Some(Arriving {
                delivery: transfer.delivery,
                settled: transfer.settled,
                copy: None,
                unknown: BytesMut::new(),
            });
        }
        let arriving = self
            .arriving
            .as_mut()
            .expect("the endpoint tells firsts first");
        assert_eq!(
            arriving.delivery, transfer.delivery,
            "{number:?} got two deliveries at once"
        );
        arriving.settled |= transfer.settled;
        if transfer.aborted {
            let copy = arriving.copy;
            self.arriving = None;
            if let Some(copy) = copy {
                self.settled(copy);
                scope.ledger.cut_short(copy);
            }
            return;
        }
        if let Some(copy) = arriving.copy {
            scope.ledger.receives(copy, &transfer.payload);
        } else {
            arriving.unknown.extend_from_slice(&transfer.payload);
            self.identify(scope, number, endpoint);
        }
        if !transfer.more
            && let Some(arriving) = self.arriving.take()
        {
            self.check_mode(number, arriving.settled);
            let copy = arriving.copy.expect("every message has a label");
            scope.ledger.completes(copy);
        }
    }

    /// What has been answered to the attach is kept (AMQP 2.8.2).
    fn check_mode(&self, number: LinkNo, settled: bool) {
        let kept = match self
            .answered
            .expect("links are attached before they are used")
        {
            SenderSettleMode::Settled => settled,
            SenderSettleMode::Unsettled => !settled,
            SenderSettleMode::Mixed => true,
        };
        assert!(kept, "{number:?} was answered {:?}", self.answered);
    }

    /// Finds out which message is arriving, if enough of it is here.
    fn identify(&mut self, scope: &mut Scope<'_>, number: LinkNo, endpoint: &mut Connection) {
        let Some(arriving) = &mut self.arriving else {
            return;
        };
        let copy = scope
            .ledger
            .arrives(number, &arriving.unknown, arriving.settled);
        if let Some(copy) = copy {
            arriving.copy = Some(copy);
            scope.ledger.receives(copy, &arriving.unknown);
            if !arriving.settled {
                let delivery = arriving.delivery;
                endpoint.set_delivery_token(delivery, copy.token());
                self.unsettled.push(Unsettled {
                    delivery,
                    copy,
                    said: None,
                });
            }
        }
    }

    /// Says what is to become of one of the unsettled deliveries, which may be arriving still.
    pub(super) fn settle(
        &mut self,
        scope: &mut Scope<'_>,
        endpoint: &mut Connection,
        at: usize,
        state: DeliveryState,
        settled: bool,
    ) {
        let unsettled = &mut self.unsettled[at];
        let (delivery, copy) = (unsettled.delivery, unsettled.copy);
        // Whoever has said something must stand by it.
        let state = unsettled.said.clone().unwrap_or(state);
        endpoint.update(delivery, Some(&state), settled);
        if unsettled.said.is_none() {
            scope.ledger.says(copy, state.clone(), settled);
        }
        unsettled.said = Some(state);
        if settled {
            self.unsettled.remove(at);
        }
    }

    /// A delivery is settled, whoever did it.
    pub(super) fn settled(&mut self, copy: CopyNo) {
        self.unsettled.retain(|unsettled| unsettled.copy != copy);
    }

    /// Lets so many more deliveries come.
    pub(super) fn grant(&mut self, endpoint: &mut Connection, id: LinkId, credit: u32) {
        self.draining &= endpoint.credit(id) > 0;
        if !self.draining {
            endpoint.set_credit(id, endpoint.credit(id).saturating_add(credit));
        }
    }

    /// Asks for the rest of the credit back.
    pub(super) fn drain(&mut self, endpoint: &mut Connection, id: LinkId) {
        if endpoint.credit(id) > 0 {
            endpoint.drain(id);
            self.draining = true;
        }
    }

    /// Credit has been given back.
    pub(super) fn flow(&mut self, scope: &mut Scope<'_>, credit: u32) {
        if self.draining && credit == 0 {
            self.draining = false;
            scope.ledger.tally.drained += 1;
        }
    }
}

/// What a receiver may say.
pub(super) fn random_outcome(rng: &mut StdRng) -> DeliveryState {
    match rng.random_range(0..20) {
        0 => DeliveryState::Rejected(None),
        1 | 2 => {
            DeliveryState::rejected(Error::new(condition::PRECONDITION_FAILED, "not like this"))
        }
        3..6 => DeliveryState::Released,
        6..8 => DeliveryState::modified(rng.random(), rng.random()),
        _ => DeliveryState::Accepted,
    }
}
