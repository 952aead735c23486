use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use super::*;
use crate::codec::{
    DeliveryTag, Detach, End, Message, Properties, Source, Target, TargetNode, encode_frame,
};

/// What one end sends, and what was said of it.
struct Sending {
    way: Way,
    components: Components,
    said: Vec<String>,
    wanted: bool,
    /// Octets that come at a time.
    step: usize,
}

impl Sending {
    fn new(components: &str) -> Self {
        Self {
            way: Way::default(),
            components: Components::parse(components).unwrap(),
            said: Vec::new(),
            wanted: true,
            step: usize::MAX,
        }
    }

    fn octets(&mut self, octets: &[u8]) {
        for piece in octets.chunks(self.step) {
            let say = &mut |text: &str| self.said.push(text.to_owned());
            self.way.take(piece, self.components, self.wanted, say);
        }
    }

    fn frame(&mut self, channel: u16, performative: Performative, payload: &[u8]) {
        self.octets(&frame(channel, performative, payload));
    }

    fn attach(&mut self, channel: u16, handle: u32, name: &str) {
        let attach = Attach {
            name: name.into(),
            handle,
            role: Role::Sender,
            source: Some(Source {
                address: Some("s".into()),
                ..Source::default()
            }),
            target: Some(Target::Node(TargetNode {
                address: Some("t".into()),
                ..TargetNode::default()
            })),
            ..Attach::default()
        };
        self.frame(channel, Performative::Attach(Box::new(attach)), b"");
    }

    /// A frame of a delivery; `id` stands in its first only.
    fn transfer(&mut self, handle: u32, id: Option<u32>, more: bool, payload: &[u8]) {
        let transfer = transfer(handle, id, more);
        self.frame(0, Performative::Transfer(transfer), payload);
    }

    fn take(&mut self) -> Vec<String> {
        std::mem::take(&mut self.said)
    }
}

fn frame(channel: u16, performative: Performative, payload: &[u8]) -> Vec<u8> {
    let mut out = BytesMut::new();
    encode_frame(channel, payload.len(), &mut out, |out| {
        performative.encode(out)
    });
    out.extend_from_slice(payload);
    out.to_vec()
}

fn transfer(handle: u32, id: Option<u32>, more: bool) -> Transfer {
    Transfer {
        handle,
        delivery_id: id,
        delivery_tag: id.and_then(|id| DeliveryTag::new(&id.to_be_bytes()).ok()),
        more,
        ..Transfer::default()
    }
}

fn message(subject: &str, body: usize) -> Bytes {
    let properties = Properties {
        subject: Some(subject.into()),
        ..Properties::default()
    };
    Message {
        properties: Some(properties),
        ..Message::of_data(vec![0; body])
    }
    .encode()
}

fn line(subject: &str, link: &str) -> String {
    format!("Message{{subject=\"{subject}\"}} on link '{link}' (s -> t)")
}

#[test]
fn a_line_names_the_message_and_its_link() {
    for step in [1, 7, 100, usize::MAX] {
        let mut sending = Sending::new("all");
        sending.step = step;
        sending.octets(b"AMQP\x00\x01\x00\x00");
        sending.attach(0, 3, "l");
        sending.attach(1, 3, "other");
        sending.transfer(3, Some(0), false, &message("a", 10));
        sending.transfer(3, Some(1), false, &message("b", 40_000));
        let transfer = Performative::Transfer(transfer(3, Some(0), false));
        sending.frame(1, transfer, &message("c", 0));
        let lines = [line("a", "l"), line("b", "l"), line("c", "other")];
        assert_eq!(sending.take(), lines, "{step} octets at a time");
    }
}

#[test]
fn a_message_of_several_frames_is_told_of_once_when_enough_is_here() {
    let mut sending = Sending::new("all");
    sending.attach(0, 0, "l");
    sending.attach(0, 1, "m");
    let octets = message("a", 100);
    sending.transfer(0, Some(5), true, &octets[..3]);
    sending.transfer(1, Some(6), false, &message("b", 1));
    assert_eq!(sending.take(), [line("b", "m")]);
    sending.transfer(0, None, true, &octets[3..20]);
    assert_eq!(sending.take(), [line("a", "l")]);
    sending.transfer(0, None, true, &octets[20..50]);
    sending.transfer(0, Some(5), false, &octets[50..]);
    assert!(sending.take().is_empty());
    assert_eq!(sending.way.kept, 0);
    sending.transfer(0, Some(7), false, &message("c", 1));
    assert_eq!(sending.take(), [line("c", "l")]);
}

#[test]
fn what_was_given_up_is_told_of() {
    let mut sending = Sending::new("all");
    sending.attach(0, 0, "l");
    sending.transfer(0, Some(0), true, &message("a", 1)[..3]);
    let aborted = Transfer {
        aborted: true,
        ..transfer(0, None, false)
    };
    sending.frame(0, Performative::Transfer(aborted), b"");
    assert_eq!(sending.take(), ["aborted message on link 'l' (s -> t)"]);
    assert_eq!(sending.way.kept, 0);
}

#[test]
fn links_are_followed_while_nobody_wants_messages() {
    let mut sending = Sending::new("all");
    sending.wanted = false;
    sending.attach(0, 0, "l");
    sending.transfer(0, Some(0), false, &message("a", 30_000));
    sending.transfer(0, Some(1), true, &message("b", 1)[..3]);
    assert!(sending.take().is_empty());
    assert!(sending.way.frames.is_idle(), "nothing is kept");
    sending.wanted = true;
    sending.transfer(0, None, false, &message("b", 1)[3..]);
    sending.transfer(0, Some(2), false, &message("c", 1));
    assert_eq!(sending.take(), [line("c", "l")]);
}

#[test]
fn links_end_by_themselves_and_with_their_session() {
    let mut sending = Sending::new("all");
    for (channel, handle) in [(0, 0), (0, 1), (1, 0)] {
        sending.attach(channel, handle, "l");
    }
    sending.transfer(1, Some(0), true, b"\0");
    sending.transfer(0, Some(1), true, b"\0\x53");
    assert_eq!(sending.way.kept, 3);
    sending.attach(0, 0, "again");
    assert_eq!(sending.way.kept, 1);
    let detach = Detach {
        handle: 0,
        closed: true,
        error: None,
    };
    sending.frame(0, Performative::Detach(detach), b"");
    assert_eq!(sending.way.links.len(), 2);
    assert_eq!(sending.way.kept, 1);
    sending.frame(0, Performative::End(End { error: None }), b"");
    assert_eq!(sending.way.links.len(), 1);
    assert_eq!(sending.way.kept, 0);
}

#[test]
fn what_is_kept_has_its_bounds() {
    let mut sending = Sending::new("to");
    for handle in 0..50 {
        sending.attach(0, handle, "l");
    }
    let properties = Properties {
        subject: Some("x".repeat(1_000_000)),
        ..Properties::default()
    };
    let octets = Message {
        properties: Some(properties),
        ..Message::default()
    }
    .encode();
    for (piece, payload) in octets.chunks(10_000).take(20).enumerate() {
        for handle in 0..50 {
            let id = (piece == 0).then_some(handle);
            sending.transfer(handle, id, true, payload);
        }
        assert!(sending.way.kept <= MOST_KEPT + 10_000);
    }
    // Nothing of the properties is here entirely.
    let unknown = "Message{} on link 'l' (s -> t)";
    assert_eq!(sending.take(), vec![unknown; 50]);
    assert_eq!(sending.way.kept, 0);
}

#[test]
fn what_is_no_message_is_not_told_of() {
    let mut sending = Sending::new("all");
    sending.attach(0, 0, "l");
    sending.transfer(0, Some(0), true, b"nonsense");
    sending.transfer(0, None, true, &[0; 1000]);
    sending.transfer(0, None, false, b"nonsense");
    sending.transfer(9, Some(1), false, &message("a", 1));
    assert!(sending.take().is_empty());
    assert_eq!(sending.way.kept, 0);
}

proptest! {
    #[test]
    fn anything_is_survived(
        octets in proptest::collection::vec(any::<u8>(), 0..2000),
        step in 1..100_usize,
        wanted: bool,
    ) {
        let mut sending = Sending::new("all");
        sending.step = step;
        sending.wanted = wanted;
        sending.attach(0, 0, "l");
        sending.transfer(0, Some(0), true, &octets);
        sending.octets(&octets);
        prop_assert!(sending.way.kept <= MOST_KEPT);
    }
}
