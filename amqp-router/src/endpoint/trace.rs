//! What goes over a connection, as lines for a person to read.
//!
//! ```text
//! 0 <- @attach(18) [name="l", handle=0x0, role=true, source=@source(40) [address="a"]]
//! 0 -> @transfer(20) [handle=0x0, delivery-id=0x0] (75) \x00SpE\x00SsE…
//! ```
//!
//! The form is that of Qpid Proton, so that whoever can read one router's trace can read the
//! other's: `->` is sent, `<-` received; the number is the channel. Secrets of SASL are left out.

use std::fmt::Write;

use crate::codec::{Reader, Symbol, Value};

/// Both directions of one connection.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    received: Splitter,
    sent: Splitter,
}

/// Cuts what comes in pieces of any size into frames.
#[derive(Debug, Default)]
pub(crate) struct Splitter {
    /// Octets to pass over before there is a frame.
    skip: usize,
    /// The beginning of a frame.
    held: Vec<u8>,
}

impl Trace {
    /// For a connection that has come some way: `waiting` has been received, the last of it being
    /// half a frame perhaps, and `unsent` octets are still to be written, all of frames that are
    /// not shown.
    pub(crate) fn midway(waiting: &[u8], unsent: usize) -> Self {
        let mut trace = Self::default();
        trace.received(waiting, &mut |_| ());
        trace.sent.skip = unsent;
        trace
    }

    /// Octets have been read: says each frame that is whole with them.
    pub(crate) fn received(&mut self, octets: &[u8], say: &mut dyn FnMut(&str)) {
        let each = &mut |frame: &[u8]| say(&line(frame, "<-"));
        self.received.take(octets, shown_of, each);
    }

    /// Octets have been written.
    pub(crate) fn sent(&mut self, octets: &[u8], say: &mut dyn FnMut(&str)) {
        let each = &mut |frame: &[u8]| say(&line(frame, "->"));
        self.sent.take(octets, shown_of, each);
    }
}

impl Splitter {
    /// Nothing is kept, nor waited for.
    #[cfg(test)]
    pub(crate) fn is_idle(&self) -> bool {
        self.skip == 0 && self.held.is_empty()
    }

    /// Says each frame, or its first octets. `wanted` tells from those that are here, of which there
    /// are [`HEAD`] at least, how many there are to be.
    pub(crate) fn take(
        &mut self,
        mut octets: &[u8],
        wanted: impl Fn(&[u8]) -> usize,
        each: &mut dyn FnMut(&[u8]),
    ) {
        while !octets.is_empty() {
            if self.skip > 0 {
                let skipped = self.skip.min(octets.len());
                self.skip -= skipped;
                octets = &octets[skipped..];
                continue;
            }
            let missing = match self.held.len() {
                held if held < HEAD => HEAD - held,
                held => wanted(&self.held).saturating_sub(held),
            };
            let taken = missing.min(octets.len());
            self.held.extend_from_slice(&octets[..taken]);
            octets = &octets[taken..];
            if self.held.len() >= HEAD && self.held.len() >= wanted(&self.held) {
                each(&self.held);
                self.skip = size_of(&self.held).saturating_sub(self.held.len());
                self.held.clear();
            }
        }
    }
}

/// Octets of a frame, or of a protocol header, as its first ones say.
pub(crate) fn size_of(head: &[u8]) -> usize {
    if head.starts_with(b"AMQP") {
        return HEAD;
    }
    let size = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
    (size as usize).max(HEAD)
}

/// Octets that are looked at: those of large messages are not kept.
pub(crate) fn shown_of(head: &[u8]) -> usize {
    size_of(head).min(MOST)
}

fn line(frame: &[u8], way: &str) -> String {
    if let Some(version) = frame.strip_prefix(b"AMQP") {
        return match version.first() {
            Some(0) => format!("  {way} AMQP"),
            Some(2) => format!("  {way} TLS"),
            Some(3) => format!("  {way} SASL"),
            _ => format!("  {way} {}", binary(frame, MOST)),
        };
    }
    let channel = u16::from_be_bytes([frame[6], frame[7]]);
    let mut line = format!("{channel} {way} ");
    let body = usize::from(frame[4]) * 4;
    let body = frame.get(body..).unwrap_or_default();
    if body.is_empty() {
        line.push_str("(EMPTY FRAME)");
        return line;
    }
    let mut reader = Reader::new(body);
    match Value::decode(&mut reader) {
        Ok(performative) => show(&mut line, &performative),
        // Not ours to judge: the connection will be closed for it, or the frame is a large one.
        Err(error) => {
            let _ = write!(line, "({error})");
            // It may have secrets.
            if frame[5] == SASL {
                return line;
            }
            reader = Reader::new(body);
        }
    }
    let payload = reader.rest();
    if !payload.is_empty() {
        let whole = size_of(frame) - (frame.len() - payload.len());
        let _ = write!(line, " ({whole}) {}", binary(payload, SHOWN));
        if whole > SHOWN {
            line.push_str("...");
        }
    }
    line
}

fn show(line: &mut String, value: &Value) {
    let _ = match value {
        Value::Null => write!(line, "null"),
        Value::Bool(flag) => write!(line, "{flag}"),
        Value::Ubyte(n) => write!(line, "{n:#x}"),
        Value::Ushort(n) => write!(line, "{n:#x}"),
        Value::Uint(n) => write!(line, "{n:#x}"),
        Value::Ulong(n) => write!(line, "{n:#x}"),
        Value::Byte(n) => write!(line, "{n}"),
        Value::Short(n) => write!(line, "{n}"),
        Value::Int(n) => write!(line, "{n}"),
        Value::Long(n) => write!(line, "{n}"),
        Value::Float(n) => write!(line, "{n}"),
        Value::Double(n) => write!(line, "{n}"),
        Value::Decimal32(octets) => write!(line, "D32({})", binary(octets, 4)),
        Value::Decimal64(octets) => write!(line, "D64({})", binary(octets, 8)),
        Value::Decimal128(octets) => write!(line, "D128({})", binary(octets, 16)),
        Value::Char(c) => write!(line, "{c:?}"),
        Value::Timestamp(at) => write!(line, "{at}"),
        Value::Uuid(octets) => write!(line, "UUID({})", binary(octets, 16)),
        Value::Binary(octets) => write!(line, "b\"{}\"", binary(octets, SHOWN)),
        Value::String(text) => write!(line, "{text:?}"),
        Value::Symbol(symbol) => write!(line, "{}", word(symbol)),
        Value::List(values) => {
            between(line, '[', values.iter(), ']');
            Ok(())
        }
        Value::Array(values) => {
            let items = values.as_slice();
            let _ = write!(line, "@<{}>", items.first().map_or("", type_name));
            between(line, '[', items.iter(), ']');
            Ok(())
        }
        Value::Map(pairs) => {
            line.push('{');
            for (number, (key, value)) in pairs.iter().enumerate() {
                line.push_str(if number == 0 { "" } else { ", " });
                show(line, key);
                line.push('=');
                show(line, value);
            }
            line.push('}');
            Ok(())
        }
        Value::Described(described) => {
            show_described(line, &described.descriptor, &described.value);
            Ok(())
        }
    };
}

/// A composite type by its name and those of its fields, as far as they are known.
fn show_described(line: &mut String, descriptor: &Value, value: &Value) {
    let code = match descriptor {
        Value::Symbol(symbol) => crate::codec::descriptor_of(symbol.as_str()),
        descriptor => descriptor.as_u64().unwrap_or_default(),
    };
    let known = TYPES.iter().find(|(known, ..)| *known == code);
    match known {
        Some((_, name, _)) => {
            let _ = write!(line, "@{name}({code}) ");
        }
        None => {
            line.push('@');
            show(line, descriptor);
            line.push(' ');
        }
    }
    let (Some((_, _, fields)), Value::List(values)) = (known, value) else {
        return show(line, value);
    };
    let mut names = fields.split(' ').filter(|name| !name.is_empty());
    line.push('[');
    let mut first = true;
    for value in values {
        let name = names.next();
        if value.is_null() {
            continue;
        }
        line.push_str(if std::mem::take(&mut first) { "" } else { ", " });
        if let Some(name) = name {
            let _ = write!(line, "{name}=");
        }
        match name.is_some_and(|name| SECRETS.contains(&name)) {
            true => line.push_str("******"),
            false => show(line, value),
        }
    }
    line.push(']');
}

fn between<'a>(
    line: &mut String,
    open: char,
    values: impl Iterator<Item = &'a Value>,
    close: char,
) {
    line.push(open);
    for (number, value) in values.enumerate() {
        line.push_str(if number == 0 { "" } else { ", " });
        show(line, value);
    }
    line.push(close);
}

/// As AMQP 1.6 calls it.
fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Ubyte(_) => "ubyte",
        Value::Ushort(_) => "ushort",
        Value::Uint(_) => "uint",
        Value::Ulong(_) => "ulong",
        Value::Byte(_) => "byte",
        Value::Short(_) => "short",
        Value::Int(_) => "int",
        Value::Long(_) => "long",
        Value::Float(_) => "float",
        Value::Double(_) => "double",
        Value::Decimal32(_) => "decimal32",
        Value::Decimal64(_) => "decimal64",
        Value::Decimal128(_) => "decimal128",
        Value::Char(_) => "char",
        Value::Timestamp(_) => "timestamp",
        Value::Uuid(_) => "uuid",
        Value::Binary(_) => "binary",
        Value::String(_) => "string",
        Value::Symbol(_) => "symbol",
        Value::List(_) => "list",
        Value::Map(_) => "map",
        Value::Array(_) => "array",
        Value::Described(_) => "described",
    }
}

fn word(symbol: &Symbol) -> String {
    let text = symbol.as_str();
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    match text.chars().all(plain) {
        true => format!(":{text}"),
        false => format!(":{text:?}"),
    }
}

/// Octets as text, the others as `\x00`.
fn binary(octets: &[u8], most: usize) -> String {
    let mut text = String::new();
    for octet in octets.iter().take(most) {
        match octet {
            b'\\' => text.push_str("\\\\"),
            b' '..=b'~' => text.push(char::from(*octet)),
            octet => {
                let _ = write!(text, "\\x{octet:02x}");
            }
        }
    }
    text
}

/// Descriptor, name and fields (AMQP 2.7, 3.4, 3.5, 5.3).
const TYPES: &[(u64, &str, &str)] = &[
    (
        0x10,
        "open",
        "container-id hostname max-frame-size channel-max idle-time-out outgoing-locales \
         incoming-locales offered-capabilities desired-capabilities properties",
    ),
    (
        0x11,
        "begin",
        "remote-channel next-outgoing-id incoming-window outgoing-window handle-max \
         offered-capabilities desired-capabilities properties",
    ),
    (
        0x12,
        "attach",
        "name handle role snd-settle-mode rcv-settle-mode source target unsettled \
         incomplete-unsettled initial-delivery-count max-message-size offered-capabilities \
         desired-capabilities properties",
    ),
    (
        0x13,
        "flow",
        "next-incoming-id incoming-window next-outgoing-id outgoing-window handle delivery-count \
         link-credit available drain echo properties",
    ),
    (
        0x14,
        "transfer",
        "handle delivery-id delivery-tag message-format settled more rcv-settle-mode state resume \
         aborted batchable",
    ),
    (
        0x15,
        "disposition",
        "role first last settled state batchable",
    ),
    (0x16, "detach", "handle closed error"),
    (0x17, "end", "error"),
    (0x18, "close", "error"),
    (0x1d, "error", "condition description info"),
    (0x23, "received", "section-number section-offset"),
    (0x24, "accepted", ""),
    (0x25, "rejected", "error"),
    (0x26, "released", ""),
    (
        0x27,
        "modified",
        "delivery-failed undeliverable-here message-annotations",
    ),
    (
        0x28,
        "source",
        "address durable expiry-policy timeout dynamic dynamic-node-properties distribution-mode \
         filter default-outcome outcomes capabilities",
    ),
    (
        0x29,
        "target",
        "address durable expiry-policy timeout dynamic dynamic-node-properties capabilities",
    ),
    (0x30, "coordinator", "capabilities"),
    (0x40, "sasl-mechanisms", "sasl-server-mechanisms"),
    (0x41, "sasl-init", "mechanism initial-response hostname"),
    (0x42, "sasl-challenge", "challenge"),
    (0x43, "sasl-response", "response"),
    (0x44, "sasl-outcome", "code additional-data"),
];

/// Fields whose values nobody is to read in a log.
const SECRETS: &[&str] = &[
    "initial-response",
    "challenge",
    "response",
    "additional-data",
];
/// The type of frame that SASL uses (AMQP 5.3.1).
const SASL: u8 = 1;
/// Octets of a frame's header, and of a protocol header.
pub(crate) const HEAD: usize = 8;
/// Octets of a frame that are kept to be looked at.
const MOST: usize = 16 * 1024;
/// Octets of a message, or of any binary, that are shown.
const SHOWN: usize = 256;

#[cfg(test)]
mod tests {
    use bytes::{Bytes, BytesMut};
    use proptest::prelude::*;

    use super::*;
    use crate::codec::{
        Attach, DeliveryTag, Fields, Open, Performative, Role, SaslFrame, SaslInit, Source,
        Transfer, encode_frame,
    };

    fn said(trace: &mut Trace, octets: &[u8], step: usize) -> Vec<String> {
        let mut lines = Vec::new();
        for piece in octets.chunks(step) {
            trace.received(piece, &mut |line| lines.push(line.to_owned()));
        }
        lines
    }

    fn frame(channel: u16, performative: Performative, payload: &[u8]) -> Vec<u8> {
        let mut out = BytesMut::new();
        encode_frame(channel, payload.len(), &mut out, |out| {
            performative.encode(out)
        });
        out.extend_from_slice(payload);
        out.to_vec()
    }

    fn story() -> (Vec<u8>, Vec<&'static str>) {
        let mut octets = b"AMQP\x00\x01\x00\x00".to_vec();
        let mut properties = Fields::new();
        properties.insert("qd.conn-id", Value::Int(1));
        octets.extend(frame(
            0,
            Performative::Open(Box::new(Open {
                container_id: "C".into(),
                properties,
                ..Open::default()
            })),
            b"",
        ));
        octets.extend(frame(
            3,
            Performative::Attach(Box::new(Attach {
                name: "l".into(),
                role: Role::Receiver,
                source: Some(Source {
                    address: Some("a".into()),
                    ..Source::default()
                }),
                ..Attach::default()
            })),
            b"",
        ));
        let transfer = Transfer {
            delivery_id: Some(0),
            delivery_tag: DeliveryTag::new(b"\x00t").ok(),
            ..Transfer::default()
        };
        octets.extend(frame(
            3,
            Performative::Transfer(transfer),
            b"\x00Spayload\\",
        ));
        // An empty frame.
        octets.extend([0, 0, 0, 8, 2, 0, 0, 0]);
        let lines = vec![
            "  <- AMQP",
            "0 <- @open(16) [container-id=\"C\", properties={:\"qd.conn-id\"=1}]",
            "3 <- @attach(18) [name=\"l\", handle=0x0, role=true, source=@source(40) [address=\"a\"]]",
            "3 <- @transfer(20) [handle=0x0, delivery-id=0x0, delivery-tag=b\"\\x00t\"] (10) \\x00Spayload\\\\",
            "0 <- (EMPTY FRAME)",
        ];
        (octets, lines)
    }

    #[test]
    fn frames_are_lines_however_they_come() {
        let (octets, lines) = story();
        for step in [1, 3, 8, 50, 10_000] {
            assert_eq!(said(&mut Trace::default(), &octets, step), lines);
        }
    }

    #[test]
    fn a_trace_may_begin_between_frames_and_within() {
        let (octets, lines) = story();
        let mut trace = Trace::midway(&octets[..11], 0);
        assert_eq!(said(&mut trace, &octets[11..], 7), lines[1..]);

        let mut trace = Trace::midway(b"", 20);
        let mut sent = Vec::new();
        let all = [&[7; 20], &octets[..]].concat();
        for piece in all.chunks(9) {
            trace.sent(piece, &mut |line| sent.push(line.replace("->", "<-")));
        }
        assert_eq!(sent, lines);
    }

    #[test]
    fn secrets_are_left_out() {
        let init = SaslFrame::Init(SaslInit {
            mechanism: "PLAIN".into(),
            initial_response: Some(Bytes::from_static(b"\0user\0hush")),
            hostname: None,
        });
        let mut out = BytesMut::new();
        init.encode_frame(&mut out);
        let lines = said(&mut Trace::default(), &out, 5);
        let line = "0 <- @sasl-init(65) [mechanism=:PLAIN, initial-response=******]";
        assert_eq!(lines, [line]);
    }

    #[test]
    fn large_messages_are_not_kept() {
        let transfer = Performative::Transfer(Transfer::default());
        let mut octets = frame(0, transfer, &vec![b'x'; 100_000]);
        octets.extend([0, 0, 0, 8, 2, 0, 0, 0]);
        let mut trace = Trace::default();
        let lines = said(&mut trace, &octets, 1000);
        assert_eq!(lines.len(), 2);
        assert!(lines[0].contains(" (100000) xxx") && lines[0].ends_with("x..."));
        assert!(lines[0].len() < 400);
        assert!(trace.received.held.capacity() <= 2 * MOST);
    }

    proptest! {
        #[test]
        fn anything_is_survived(octets in proptest::collection::vec(any::<u8>(), 0..2000), step in 1..100_usize) {
            let mut trace = Trace::default();
            said(&mut trace, &octets, step);
            prop_assert!(trace.received.held.len() <= MOST);
        }
    }
}
