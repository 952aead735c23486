//! Messages that say which message they are, and can be checked byte by byte.

use std::sync::LazyLock;
use std::time::Duration;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};

use crate::codec::{Fields, Header, Message, Properties, Value};

use super::ledger::{LinkNo, MessageNo};

/// What a message says of itself, at the start of its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Label {
    pub(super) message: MessageNo,
    pub(super) sender: LinkNo,
    pub(super) sequence: u64,
}

/// A message as it is sent, and as it must arrive.
#[derive(Debug)]
pub(super) struct Content {
    /// What the sender sends.
    pub(super) sent: Bytes,
    /// What receivers get.
    pub(super) wire: Bytes,
    /// Where the bare message starts in `wire`, if what is before may change on the way.
    varies_until: Option<usize>,
}

/// The parts of a message beside its label, and how it is sent.
#[derive(Clone, Debug, Default)]
pub(super) struct Shape {
    /// Bytes of body after the label.
    pub(super) filler: usize,
    pub(super) to: Option<String>,
    pub(super) priority: Option<u8>,
    pub(super) ttl: Option<Duration>,
    /// Delivery annotations, which do not pass a router.
    pub(super) annotated: bool,
    pub(super) message_annotated: bool,
    /// It is sent settled.
    pub(super) settled: bool,
    /// How many pieces it is sent in; none is one.
    pub(super) pieces: usize,
}

impl Label {
    fn encode(self) -> [u8; 32] {
        let mut label = [0; 32];
        let words = [
            MAGIC,
            self.message.0 as u64,
            self.sender.0 as u64,
            self.sequence,
        ];
        for (room, word) in label.chunks_exact_mut(8).zip(words) {
            room.copy_from_slice(&word.to_be_bytes());
        }
        label
    }

    /// The label somewhere in the start of a message.
    pub(super) fn find(start: &[u8]) -> Option<Self> {
        let magic = MAGIC.to_be_bytes();
        let at = start.windows(8).position(|window| window == magic)?;
        let label = start.get(at..at + 32)?;
        let word = |n: usize| {
            let bytes = label[n * 8..][..8].try_into().expect("eight bytes");
            u64::from_be_bytes(bytes)
        };
        Some(Self {
            message: MessageNo(word(1) as usize),
            sender: LinkNo(word(2) as usize),
            sequence: word(3),
        })
    }
}

impl Content {
    pub(super) fn new(label: Label, shape: &Shape) -> Self {
        let start = label.message.0 * 7 % 1000;
        let mut body = label.encode().to_vec();
        body.extend(NOISE.iter().cycle().skip(start).take(shape.filler));
        let mut message = Message::of_data(body);
        if shape.priority.is_some() || shape.ttl.is_some() {
            let priority = shape.priority.unwrap_or(4);
            message.header = Some(Header {
                priority,
                ttl: shape.ttl,
                ..Header::default()
            });
        }
        if shape.to.is_some() {
            let properties = Properties {
                to: shape.to.clone(),
                ..Properties::default()
            };
            message.properties = Some(properties);
        }
        if shape.message_annotated {
            message.message_annotations = annotations("x-opt-kept");
        }
        let wire = message.encode();
        let varies_until = shape.ttl.map(|_| {
            let header = message.header.take();
            let bare = message.encode().len();
            message.header = header;
            wire.len() - bare
        });
        let sent = if shape.annotated {
            message.delivery_annotations = annotations("x-opt-dropped");
            message.encode()
        } else {
            wire.clone()
        };
        Self {
            sent,
            wire,
            varies_until,
        }
    }

    /// Whether `chunk` is what follows the first `received` bytes.
    pub(super) fn continues_with(&self, received: usize, chunk: &[u8]) -> bool {
        // A header that has aged may have another length; the end is compared when it is there.
        self.varies_until.is_some()
            || self
                .wire
                .get(received..)
                .is_some_and(|rest| rest.starts_with(chunk))
    }

    /// Whether that many bytes are all of it.
    pub(super) fn ends_at(&self, received: usize) -> bool {
        match self.varies_until {
            None => received == self.wire.len(),
            Some(header) => received + header >= self.wire.len() && received <= self.wire.len() + 8,
        }
    }
}

impl Shape {
    pub(super) fn random(rng: &mut StdRng) -> Self {
        let filler = match rng.random_range(0..20) {
            0 => rng.random_range(5_000..20_000),
            1..4 => rng.random_range(400..3_000),
            _ => rng.random_range(0..200),
        };
        Self {
            filler,
            to: None,
            priority: rng.random_bool(0.2).then(|| rng.random_range(0..10)),
            ttl: rng
                .random_bool(0.03)
                .then(|| Duration::from_millis(rng.random_range(1..200))),
            annotated: rng.random_bool(0.1),
            message_annotated: rng.random_bool(0.1),
            settled: rng.random_bool(0.25),
            pieces: match rng.random_range(0..10) {
                8.. => rng.random_range(2..6),
                _ => 1,
            },
        }
    }
}

fn annotations(key: &'static str) -> Fields {
    let mut fields = Fields::new();
    fields.insert(key, Value::from("a value"));
    fields
}

const MAGIC: u64 = 0xa5c3_0ff0_5ac3_96e1;

static NOISE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut noise = vec![0; 64 * 1024];
    StdRng::seed_from_u64(1).fill_bytes(&mut noise);
    noise
});
