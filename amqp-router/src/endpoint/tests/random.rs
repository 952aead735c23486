//! Laws that hold whatever happens.

use std::collections::BTreeMap;
use std::time::Instant;

use bytes::{BufMut, Bytes, BytesMut};
use proptest::prelude::*;

use super::pair::{Attached, Pair, client_config, departure, server_config};
use crate::codec::{
    Attach, Begin, DeliveryState, DeliveryTag, Detach, Disposition, End, Flow, LinkFlow,
    Performative, ReceiverSettleMode, Role, Source, Transfer,
};
use crate::endpoint::fuzzing;
use crate::endpoint::{Config, Event};

fn number() -> impl Strategy<Value = u32> {
    prop_oneof![6 => 0u32..4, 1 => any::<u32>(), 1 => Just(u32::MAX), 1 => Just(1 << 31)]
}

fn role() -> impl Strategy<Value = Role> {
    any::<bool>().prop_map(Role::from)
}

fn state() -> impl Strategy<Value = Option<DeliveryState>> {
    prop_oneof![
        Just(None),
        Just(Some(DeliveryState::Accepted)),
        Just(Some(DeliveryState::Released)),
        Just(Some(DeliveryState::modified(true, false))),
    ]
}

/// Frames that are well formed and otherwise arbitrary; few numbers, so that they meet.
fn performative() -> impl Strategy<Value = (Performative, usize)> {
    let begin = (prop::option::weighted(0.1, 0u16..4), number()).prop_map(|(remote, id)| {
        Performative::Begin(Box::new(Begin {
            remote_channel: remote,
            next_outgoing_id: id,
            incoming_window: id,
            outgoing_window: 100,
            ..Begin::default()
        }))
    });
    let attach = (
        number(),
        role(),
        "[ab]",
        prop::option::weighted(0.9, number()),
    );
    let attach = attach.prop_map(|(handle, role, name, initial_delivery_count)| {
        Performative::Attach(Box::new(Attach {
            name,
            handle,
            role,
            source: Some(Source::default()),
            initial_delivery_count,
            ..Attach::default()
        }))
    });
    let link = (
        number(),
        prop::option::of(number()),
        prop::option::of(number()),
        any::<bool>(),
    );
    let link = link.prop_map(|(handle, delivery_count, link_credit, drain)| LinkFlow {
        handle,
        delivery_count,
        link_credit,
        available: None,
        drain,
    });
    let flow = (
        prop::option::of(number()),
        number(),
        number(),
        prop::option::of(link),
        any::<bool>(),
    );
    let flow = flow.prop_map(
        |(next_incoming_id, incoming_window, next_outgoing_id, link, echo)| {
            Performative::Flow(Flow {
                next_incoming_id,
                incoming_window,
                next_outgoing_id,
                outgoing_window: 10,
                link,
                echo,
                ..Flow::default()
            })
        },
    );
    let transfer = (
        number(),
        prop::option::weighted(0.8, number()),
        prop::option::weighted(0.8, number()),
        any::<[bool; 3]>(),
        prop::option::weighted(0.1, Just(ReceiverSettleMode::Second)),
    );
    let transfer = transfer.prop_map(
        |(handle, delivery_id, tag, [settled, more, aborted], mode)| {
            Performative::Transfer(Transfer {
                handle,
                delivery_id,
                delivery_tag: tag.map(|tag| DeliveryTag::from(u64::from(tag))),
                message_format: Some(0),
                settled: Some(settled),
                more,
                aborted,
                rcv_settle_mode: mode,
                ..Transfer::default()
            })
        },
    );
    let disposition = (role(), number(), number(), any::<bool>(), state());
    let disposition = disposition.prop_map(|(role, first, last, settled, state)| {
        let batchable = false;
        Performative::Disposition(Disposition {
            role,
            first,
            last,
            settled,
            state,
            batchable,
        })
    });
    let detach = (number(), any::<bool>()).prop_map(|(handle, closed)| {
        Performative::Detach(Detach {
            handle,
            closed,
            error: None,
        })
    });
    let end = Just(Performative::End(End::default()));
    let any = prop_oneof![
        2 => begin, 6 => attach, 6 => flow, 12 => transfer, 4 => disposition, 3 => detach, 1 => end
    ];
    (any, 0usize..30)
}

fn encode(frames: Vec<(u16, (Performative, usize))>, cut: u8) -> Vec<u8> {
    let mut bytes = BytesMut::new();
    bytes.put_u8(cut | 1); // with the preface, which begins channel 0
    for (channel, (performative, payload)) in frames {
        match performative {
            Performative::Transfer(transfer) => {
                transfer.encode_frame_head(channel, payload, &mut bytes);
                bytes.put_bytes(b'p', payload);
            }
            other => other.encode_frame(channel, &mut bytes),
        }
    }
    bytes.to_vec()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        fuzzing::connection(&bytes, Instant::now());
    }

    #[test]
    fn any_frames_are_survived(
        cut in any::<u8>(),
        frames in prop::collection::vec((0u16..2, performative()), 1..40),
    ) {
        fuzzing::connection(&encode(frames, cut), Instant::now());
    }

    #[test]
    fn frames_with_a_flipped_bit_are_survived(
        cut in any::<u8>(),
        frames in prop::collection::vec((Just(0u16), performative()), 1..20),
        at in any::<prop::sample::Index>(),
        bit in 0u8..8,
    ) {
        let mut bytes = encode(frames, cut);
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        fuzzing::connection(&bytes, Instant::now());
    }

    /// However two connections use each other, neither ever breaks a rule, messages arrive whole
    /// and in order, and every outcome reaches the sender once.
    #[test]
    fn two_connections_keep_the_law(
        initial_id in number(),
        window in 1u32..6,
        operations in prop::collection::vec(operation(), 1..120),
    ) {
        let config = |config| Config {
            initial_id,
            incoming_window: window,
            max_frame_size: 512,
            ..config
        };
        let mut pair = Pair::opened_with(config(client_config()), config(server_config()));
        let session = pair.begin();
        let links = ["a", "b"].map(|name| Flight::new(pair.attach(session, Role::Sender, name)));
        let mut world = World { pair, links, sent: BTreeMap::new(), next_token: 0 };
        for operation in operations {
            world.apply(operation);
        }
        world.finish();
    }
}

#[derive(Clone, Debug)]
enum Operation {
    Drive,
    Grant(usize, u32),
    Drain(usize),
    Send {
        link: usize,
        length: usize,
        settled: bool,
        more: bool,
    },
    Go {
        link: usize,
        length: usize,
        more: bool,
    },
    Abort(usize),
    Outcome(prop::sample::Index, DeliveryState),
}

fn operation() -> impl Strategy<Value = Operation> {
    let link = 0usize..2;
    let outcome = state().prop_map(|state| state.unwrap_or(DeliveryState::Rejected(None)));
    prop_oneof![
        4 => Just(Operation::Drive),
        4 => (link.clone(), 0u32..8).prop_map(|(link, credit)| Operation::Grant(link, credit)),
        1 => link.clone().prop_map(Operation::Drain),
        6 => (link.clone(), 0usize..2000, any::<bool>(), any::<bool>())
            .prop_map(|(link, length, settled, more)| Operation::Send { link, length, settled, more }),
        4 => (link.clone(), 0usize..2000, any::<bool>())
            .prop_map(|(link, length, more)| Operation::Go { link, length, more }),
        1 => link.prop_map(Operation::Abort),
        4 => (any::<prop::sample::Index>(), outcome)
            .prop_map(|(which, state)| Operation::Outcome(which, state)),
    ]
}

struct World {
    pair: Pair,
    links: [Flight; 2],
    /// By token: the outcome that was given, once it was.
    sent: BTreeMap<u32, Option<DeliveryState>>,
    next_token: u32,
}

/// What is under way on a link.
struct Flight {
    link: Attached,
    /// What could not leave yet of the delivery in progress, and whether more follows.
    rest: Option<(Bytes, bool)>,
    token: Option<u32>,
    /// Bytes of completed and of aborted deliveries, as sent and as received.
    sent: Vec<usize>,
    received: Vec<usize>,
    sending: usize,
    receiving: usize,
}

impl Flight {
    fn new(link: Attached) -> Self {
        Self {
            link,
            rest: None,
            token: None,
            sent: Vec::new(),
            received: Vec::new(),
            sending: 0,
            receiving: 0,
        }
    }

    /// Notes the end of the delivery in progress if all of it has left.
    fn settle_progress(&mut self) {
        if let Some((rest, false)) = &self.rest
            && rest.is_empty()
        {
            self.rest = None;
            self.sent.push(std::mem::take(&mut self.sending));
        }
    }
}

impl World {
    fn apply(&mut self, operation: Operation) {
        match operation {
            Operation::Drive => self.drive(),
            Operation::Grant(link, credit) => {
                self.pair
                    .server
                    .connection
                    .set_credit(self.links[link].link.server, credit);
            }
            Operation::Drain(link) => {
                self.pair
                    .server
                    .connection
                    .drain(self.links[link].link.server);
            }
            Operation::Send {
                link,
                length,
                settled,
                more,
            } => {
                self.send(link, length, settled, more);
            }
            Operation::Go { link, length, more } => self.go(link, length, more),
            Operation::Abort(link) => self.abort(link),
            Operation::Outcome(which, state) => self.outcome(which, &state),
        }
    }

    fn send(&mut self, at: usize, length: usize, settled: bool, more: bool) {
        let flight = &mut self.links[at];
        let client = &mut self.pair.client.connection;
        let sendable = client.sendable(flight.link.client);
        let able = sendable.credit > 0 && sendable.window > 0;
        if client.is_sending(flight.link.client) {
            return;
        }
        let mut payload = Bytes::from(vec![at as u8; length]);
        let token = self.next_token;
        let link = flight.link.client;
        let sent = client.start_delivery(link, departure(token, settled), &mut payload, more);
        assert_eq!(sent.is_ok(), able, "sendable tells the truth");
        if sent.is_err() {
            return;
        }
        self.next_token += 1;
        flight.sending = length;
        flight.rest = Some((payload, more));
        flight.token = (!settled).then_some(token);
        if !settled {
            self.sent.insert(token, None);
        }
        flight.settle_progress();
    }

    fn go(&mut self, at: usize, length: usize, more: bool) {
        let flight = &mut self.links[at];
        let Some((rest, ongoing)) = &mut flight.rest else {
            return;
        };
        if *ongoing && rest.is_empty() {
            *rest = Bytes::from(vec![at as u8; length]);
            flight.sending += length;
            *ongoing = more;
        }
        let more = *ongoing;
        self.pair
            .client
            .connection
            .continue_delivery(flight.link.client, rest, more);
        flight.settle_progress();
    }

    fn abort(&mut self, at: usize) {
        let flight = &mut self.links[at];
        if flight.rest.take().is_some() {
            self.pair
                .client
                .connection
                .abort_delivery(flight.link.client);
            flight.sending = 0;
            if let Some(token) = flight.token {
                self.sent.remove(&token);
            }
        }
    }

    fn outcome(&mut self, which: prop::sample::Index, state: &DeliveryState) {
        let deliveries = self.pair.server.deliveries();
        if !deliveries.is_empty() {
            let delivery = deliveries[which.index(deliveries.len())];
            self.pair
                .server
                .connection
                .update(delivery, Some(state), true);
        }
    }

    fn drive(&mut self) {
        self.pair.drive();
        for end in [&self.pair.client, &self.pair.server] {
            let over = |event: &Event| {
                matches!(
                    event,
                    Event::Closed { .. } | Event::Ended { .. } | Event::Detached { .. }
                )
            };
            assert!(
                !end.events.iter().any(over),
                "nobody breaks a rule: {:?}",
                end.events
            );
        }
        for flight in &mut self.links {
            let client = &mut self.pair.client.connection;
            if client.sendable(flight.link.client).drain {
                client.drained(flight.link.client);
            }
        }
        self.note_updates();
    }

    fn note_updates(&mut self) {
        for event in self.pair.client.events.drain(..) {
            if let Event::Updated {
                token,
                state,
                settled: true,
                ..
            } = event
            {
                let outcome = self.sent.get_mut(&token).expect("it was unsettled");
                assert!(
                    outcome.is_none() && state.is_some(),
                    "an outcome comes once"
                );
                *outcome = state;
            }
        }
    }

    /// Sends and settles all that is left.
    fn finish(mut self) {
        for _ in 0..2000 {
            self.drive();
            for at in [0, 1] {
                if let Some((_, more)) = &mut self.links[at].rest {
                    *more = false;
                }
                self.go(at, 0, false);
            }
            for delivery in self.pair.server.deliveries() {
                let accepted = Some(&DeliveryState::Accepted);
                self.pair.server.connection.update(delivery, accepted, true);
            }
        }
        assert!(
            self.links.iter().all(|flight| flight.rest.is_none()),
            "all has left"
        );
        assert!(self.sent.values().all(Option::is_some), "all is settled");
        for transfer in self.pair.server.transfers() {
            let at = usize::from(transfer.link == self.links[1].link.server);
            let flight = &mut self.links[at];
            assert!(transfer.payload.iter().all(|byte| usize::from(*byte) == at));
            flight.receiving += transfer.payload.len();
            if transfer.aborted {
                flight.receiving = 0;
            } else if !transfer.more {
                flight.received.push(std::mem::take(&mut flight.receiving));
            }
        }
        for flight in &self.links {
            assert_eq!(flight.sent, flight.received, "whole and in order");
        }
    }
}
