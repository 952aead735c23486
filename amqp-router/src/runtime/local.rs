//! Links of programs in this process.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use thiserror::Error;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;

use crate::adaptors::local::{LocalEvent, LocalLinkId};
use crate::codec::{
    Attach, DecodeError, DeliveryState, Error as AmqpError, Message, Role, Source, TargetNode,
};
use crate::control::links::Termini;
use crate::control::table::DEFAULT_LINK_CAPACITY;
use crate::policy::Grant;
use crate::runtime::driver::{LocalRequest, ToWorker};
use crate::worker::ConnectionId;

/// Why a link of this process cannot do what it was asked.
#[derive(Clone, Debug, Error, PartialEq)]
#[non_exhaustive]
pub enum LinkError {
    /// The router refuses the link: the address is unavailable, say.
    #[error("the router refused the link: {0}")]
    Refused(AmqpError),
    /// The router has ended the link; it gives a reason if it was not just asked to.
    #[error("the link has ended{}", because(.0.as_ref()))]
    Detached(Option<AmqpError>),
    /// The router has stopped.
    #[error("the router has stopped")]
    Stopped,
}

fn because(error: Option<&AmqpError>) -> String {
    error.map_or_else(String::new, |error| format!(": {error}"))
}

/// One link's connection to its worker.
#[derive(Debug)]
struct Program {
    worker: UnboundedSender<ToWorker>,
    connection: ConnectionId,
    events: UnboundedReceiver<LocalEvent>,
    link: LocalLinkId,
}

impl Program {
    /// Attaches one link and waits for the router's answer.
    async fn attach(
        worker: UnboundedSender<ToWorker>,
        attach: Attach,
    ) -> Result<(Self, Termini), LinkError> {
        let (events_sender, mut events) = unbounded_channel();
        let (reply, connection) = oneshot::channel();
        let add = ToWorker::AddLocal {
            events: events_sender,
            reply,
        };
        worker.send(add).map_err(|_| LinkError::Stopped)?;
        let connection = connection.await.map_err(|_| LinkError::Stopped)?;
        let (reply, link) = oneshot::channel();
        let request = LocalRequest::Attach {
            attach: Box::new(attach),
            capacity: DEFAULT_LINK_CAPACITY,
            reply,
        };
        let request = ToWorker::Local {
            connection,
            request,
        };
        worker.send(request).map_err(|_| LinkError::Stopped)?;
        let link = link.await.map_err(|_| LinkError::Stopped)?;
        let termini = loop {
            match events.recv().await.ok_or(LinkError::Stopped)? {
                LocalEvent::Attached { termini, .. } => break *termini,
                LocalEvent::Refused { error, .. } => return Err(LinkError::Refused(error)),
                _ => {}
            }
        };
        Ok((
            Self {
                worker,
                connection,
                events,
                link,
            },
            termini,
        ))
    }

    fn request(&self, request: LocalRequest) -> Result<(), LinkError> {
        let message = ToWorker::Local {
            connection: self.connection,
            request,
        };
        self.worker.send(message).map_err(|_| LinkError::Stopped)
    }

    async fn event(&mut self) -> Result<LocalEvent, LinkError> {
        match self.events.recv().await {
            Some(LocalEvent::Detached { error, .. }) => Err(LinkError::Detached(error)),
            Some(event) => Ok(event),
            None => Err(LinkError::Stopped),
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // A router that has stopped has let go of the link already.
        let _ = self.request(LocalRequest::Leave);
    }
}

/// Sends messages to an address, or to whatever address each message names.
///
/// The same rules hold as for a remote sender: a delivery is started only with credit, which the
/// router grants while the address has a receiver, and its outcome is the receiver's own.
#[derive(Debug)]
pub struct Sender {
    program: Program,
    credit: u32,
    /// Deliveries whose outcomes the call waits for that is being carried out. For those of calls
    /// that were given up nobody does.
    awaited: HashSet<u32>,
    outcomes: HashMap<u32, Option<DeliveryState>>,
}

impl Sender {
    pub(crate) async fn attach(
        worker: UnboundedSender<ToWorker>,
        address: Option<&str>,
    ) -> Result<Self, LinkError> {
        let target = TargetNode {
            address: address.map(str::to_owned),
            ..TargetNode::default()
        };
        let attach = Attach {
            name: format!("in-process sender to {}", address.unwrap_or("any address")),
            role: Role::Sender,
            source: Some(Source::default()),
            target: Some(target.into()),
            ..Attach::default()
        };
        let (program, _) = Program::attach(worker, attach).await?;
        Ok(Self {
            program,
            credit: 0,
            awaited: HashSet::new(),
            outcomes: HashMap::new(),
        })
    }

    /// Sends a message and waits for its outcome: the state that the receiver settled it with, or
    /// `Released` or `Modified` if it never got that far. `None` is a settlement without a state.
    ///
    /// # Errors
    /// The link or the router has ended. The message may or may not have been received.
    pub async fn send(&mut self, message: &Message) -> Result<Option<DeliveryState>, LinkError> {
        self.await_nothing();
        let delivery = self.start(message.encode(), false).await?;
        self.awaited.insert(delivery);
        self.outcome(delivery).await
    }

    /// Sends messages, as many at a time as there is credit for, and waits for all their outcomes,
    /// which are returned in the order of the messages.
    ///
    /// # Errors
    /// As for [`send`](Self::send).
    pub async fn send_all<'a>(
        &mut self,
        messages: impl IntoIterator<Item = &'a Message>,
    ) -> Result<Vec<Option<DeliveryState>>, LinkError> {
        self.await_nothing();
        let mut deliveries = Vec::new();
        for message in messages {
            let delivery = self.start(message.encode(), false).await?;
            self.awaited.insert(delivery);
            deliveries.push(delivery);
        }
        let mut outcomes = Vec::with_capacity(deliveries.len());
        for delivery in deliveries {
            outcomes.push(self.outcome(delivery).await?);
        }
        Ok(outcomes)
    }

    /// Sends a message without asking what becomes of it.
    ///
    /// # Errors
    /// The link or the router has ended.
    pub async fn send_settled(&mut self, message: &Message) -> Result<(), LinkError> {
        self.start(message.encode(), true).await.map(drop)
    }

    /// The same for a message as it goes to the wire.
    pub(crate) async fn send_encoded(&mut self, message: Bytes) -> Result<(), LinkError> {
        self.start(message, true).await.map(drop)
    }

    async fn start(&mut self, payload: Bytes, settled: bool) -> Result<u32, LinkError> {
        loop {
            while self.credit == 0 {
                self.pump().await?;
            }
            self.credit -= 1;
            let (reply, delivery) = oneshot::channel();
            let link = self.program.link;
            let copy = payload.clone();
            self.program.request(LocalRequest::Send {
                link,
                payload: copy,
                settled,
                reply,
            })?;
            // Without a number the credit was taken back meanwhile, and it is tried again.
            if let Some(delivery) = delivery.await.map_err(|_| LinkError::Stopped)? {
                return Ok(delivery);
            }
        }
    }

    /// What earlier calls waited for was given up with them.
    fn await_nothing(&mut self) {
        self.awaited.clear();
        self.outcomes.clear();
    }

    async fn outcome(&mut self, delivery: u32) -> Result<Option<DeliveryState>, LinkError> {
        loop {
            if let Some(outcome) = self.outcomes.remove(&delivery) {
                return Ok(outcome);
            }
            self.pump().await?;
        }
    }

    async fn pump(&mut self) -> Result<(), LinkError> {
        match self.program.event().await? {
            LocalEvent::Credit { credit, .. } => self.credit = credit,
            LocalEvent::Outcome {
                delivery,
                state,
                settled,
                ..
            } => {
                let terminal = state.as_ref().is_some_and(DeliveryState::is_terminal);
                if (settled || terminal) && self.awaited.remove(&delivery) {
                    self.outcomes.insert(delivery, state);
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// Receives messages from an address.
///
/// It grants credit for as many deliveries as it was opened with, and for one more whenever one is
/// settled or, having come settled, is taken.
#[derive(Debug)]
pub struct Receiver {
    program: Program,
    address: String,
    ready: VecDeque<Ready>,
    partial: BytesMut,
    /// Whom the message that is arriving is of: see [`Delivery::barred`].
    barred: Option<Arc<Grant>>,
    /// Octets that a message may have.
    limit: usize,
    /// A delivery of more, of which further frames may come.
    refused: Option<u32>,
}

/// A message that is complete.
#[derive(Debug)]
struct Ready {
    delivery: u32,
    settled: bool,
    payload: Bytes,
    barred: Option<Arc<Grant>>,
}

/// A message that a [`Receiver`] got.
///
/// It is to be accepted, rejected, released or modified; dropping it releases it.
#[derive(Debug)]
pub struct Delivery {
    payload: Bytes,
    settlement: Option<Settlement>,
    /// What policy has granted its sender, if that is not to close connections by management.
    pub(crate) barred: Option<Arc<Grant>>,
}

#[derive(Debug)]
struct Settlement {
    worker: UnboundedSender<ToWorker>,
    connection: ConnectionId,
    link: LocalLinkId,
    delivery: u32,
}

impl Receiver {
    pub(crate) async fn attach(
        worker: UnboundedSender<ToWorker>,
        address: Option<&str>,
        credit: u32,
    ) -> Result<Self, LinkError> {
        let source = Source {
            address: address.map(str::to_owned),
            dynamic: address.is_none(),
            ..Source::default()
        };
        let attach = Attach {
            name: format!(
                "in-process receiver from {}",
                address.unwrap_or("a dynamic address")
            ),
            role: Role::Receiver,
            source: Some(source),
            target: Some(TargetNode::default().into()),
            ..Attach::default()
        };
        let (program, termini) = Program::attach(worker, attach).await?;
        let address = termini
            .source
            .and_then(|source| source.address)
            .unwrap_or_default();
        let link = program.link;
        program.request(LocalRequest::Credit {
            link,
            credit,
            drain: false,
        })?;
        Ok(Self {
            program,
            address,
            ready: VecDeque::new(),
            partial: BytesMut::new(),
            barred: None,
            limit: usize::MAX,
            refused: None,
        })
    }

    /// Rejects messages of more than so many octets; it holds no more of one meanwhile.
    pub(crate) fn limited_to(mut self, octets: usize) -> Self {
        self.limit = octets;
        self
    }

    /// The address it receives from; the router has chosen it if it is dynamic.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The next message.
    ///
    /// If it is given up before it is ready, the next call returns the message.
    ///
    /// # Errors
    /// The link or the router has ended.
    pub async fn recv(&mut self) -> Result<Delivery, LinkError> {
        loop {
            if let Some(ready) = self.ready.pop_front() {
                return Ok(self.hand_over(ready));
            }
            match self.program.event().await? {
                LocalEvent::Transfer {
                    delivery,
                    settled,
                    payload,
                    more,
                    barred,
                    ..
                } => {
                    if self.refuses(delivery, payload.len()) {
                        continue;
                    }
                    if barred.is_some() {
                        self.barred = barred;
                    }
                    let whole = self.partial.is_empty() && !more;
                    if !whole {
                        self.partial.extend_from_slice(&payload);
                    }
                    if !more {
                        let payload = match whole {
                            true => payload,
                            false => std::mem::take(&mut self.partial).freeze(),
                        };
                        self.ready.push_back(Ready {
                            delivery,
                            settled,
                            payload,
                            barred: self.barred.take(),
                        });
                    }
                }
                LocalEvent::Aborted { delivery, .. } if self.refused == Some(delivery) => {}
                LocalEvent::Aborted { .. } => {
                    self.partial.clear();
                    self.barred = None;
                    self.grant_one();
                }
                _ => {}
            }
        }
    }

    /// Whether a frame is of a message that is too long, which is rejected when that is found out.
    fn refuses(&mut self, delivery: u32, octets: usize) -> bool {
        if self.refused == Some(delivery) {
            return true;
        }
        if self.partial.len() + octets <= self.limit {
            return false;
        }
        self.partial = BytesMut::new();
        self.barred = None;
        self.refused = Some(delivery);
        let text = format!("a message here has at most {} octets", self.limit);
        let error = AmqpError::new("amqp:link:message-size-exceeded", text);
        let request = LocalRequest::Settle {
            link: self.program.link,
            delivery,
            state: DeliveryState::rejected(error),
        };
        // If the router has stopped, the next `recv` says so.
        let _ = self.program.request(request);
        self.grant_one();
        true
    }

    fn hand_over(&self, ready: Ready) -> Delivery {
        let Ready {
            delivery,
            settled,
            payload,
            barred,
        } = ready;
        if settled {
            self.grant_one();
            return Delivery {
                payload,
                settlement: None,
                barred,
            };
        }
        let settlement = Settlement {
            worker: self.program.worker.clone(),
            connection: self.program.connection,
            link: self.program.link,
            delivery,
        };
        Delivery {
            payload,
            settlement: Some(settlement),
            barred,
        }
    }

    fn grant_one(&self) {
        let request = LocalRequest::Credit {
            link: self.program.link,
            credit: 1,
            drain: false,
        };
        // If the router has stopped, the next `recv` says so.
        let _ = self.program.request(request);
    }
}

impl Delivery {
    /// The message's octets, as the sender encoded them.
    pub fn payload(&self) -> &Bytes {
        &self.payload
    }

    /// The message.
    ///
    /// # Errors
    /// Its octets are not an AMQP message (AMQP 3.2).
    pub fn message(&self) -> Result<Message, DecodeError> {
        Message::decode(&self.payload)
    }

    /// Takes responsibility for the message.
    pub fn accept(mut self) {
        self.settle(DeliveryState::Accepted);
    }

    /// Declares the message invalid.
    pub fn reject(mut self, error: AmqpError) {
        self.settle(DeliveryState::rejected(error));
    }

    /// Gives the message back as if it had never been received.
    pub fn release(mut self) {
        self.settle(DeliveryState::Released);
    }

    /// Gives the message back, changed: see AMQP 3.4.5.
    pub fn modify(mut self, delivery_failed: bool, undeliverable_here: bool) {
        self.settle(DeliveryState::modified(delivery_failed, undeliverable_here));
    }

    fn settle(&mut self, state: DeliveryState) {
        let Some(Settlement {
            worker,
            connection,
            link,
            delivery,
        }) = self.settlement.take()
        else {
            return;
        };
        for request in [
            LocalRequest::Settle {
                link,
                delivery,
                state,
            },
            LocalRequest::Credit {
                link,
                credit: 1,
                drain: false,
            },
        ] {
            // A router that has stopped has nobody to tell.
            let _ = worker.send(ToWorker::Local {
                connection,
                request,
            });
        }
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        self.settle(DeliveryState::Released);
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::Poll;

    use super::*;
    use crate::{Config, Router};

    #[tokio::test]
    async fn a_sender_keeps_no_outcomes_of_what_was_given_up() {
        let router = Router::start(Config::new("embedded")).expect("it starts");
        let mut receiver = router.receiver("a", 10).await.expect("attached");
        let mut sender = router.sender("a").await.expect("attached");
        let message = Message::of_value(1u32);
        for _ in 0..50 {
            let delivery = {
                let mut sending = pin!(sender.send(&message));
                let mut receiving = pin!(receiver.recv());
                std::future::poll_fn(|context| {
                    assert!(sending.as_mut().poll(context).is_pending());
                    match receiving.as_mut().poll(context) {
                        Poll::Ready(delivery) => Poll::Ready(delivery.expect("a delivery")),
                        Poll::Pending => Poll::Pending,
                    }
                })
                .await
            };
            delivery.accept();
        }
        let messages = [message.clone(), message];
        let (outcomes, ()) = tokio::join!(sender.send_all(&messages), async {
            for _ in 0..messages.len() {
                receiver.recv().await.expect("a delivery").accept();
            }
        });
        let accepted = vec![Some(DeliveryState::Accepted); 2];
        assert_eq!(outcomes, Ok(accepted));
        assert!(sender.outcomes.is_empty(), "{:?}", sender.outcomes);
        assert!(sender.awaited.is_empty(), "{:?}", sender.awaited);
        router.stop().await;
    }
}
