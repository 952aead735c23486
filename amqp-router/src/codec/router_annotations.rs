//! The section that routers put in front of messages between them
//! (`reference/router/inter-router-protocol.md` §3).

use bytes::{BufMut, BytesMut};

use super::read::Reader;
use super::write::{put_string, put_uint};
use super::{DecodeError, Progress};

/// Router annotations, as they stand in a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RouterAnnotations<'a> {
    /// Bits that tell what the message asks of routers; unknown ones are passed on.
    pub(crate) flags: u32,
    /// Where the message is going, whatever its properties say.
    pub(crate) to: Option<&'a str>,
    /// The router where it entered the network, as `0/<id>`; an edge router says nothing.
    pub(crate) ingress: Option<&'a str>,
    /// The routers that it has passed, oldest first.
    pub(crate) trace: Trace<'a>,
    /// The edge mesh where it entered the network.
    pub(crate) mesh: Option<&'a str>,
}

/// The routers that a message has passed, still encoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Trace<'a> {
    hops: &'a [u8],
    len: u32,
}

impl<'a> Trace<'a> {
    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let (mut hops, len) = reader.list()?;
        let encoded = hops.rest();
        if len > MAX_HOPS {
            return Err(DecodeError::CountBeyondSize);
        }
        for _ in 0..len {
            hops.string()?;
        }
        hops.end()?;
        Ok(Self {
            hops: encoded,
            len: len as u32,
        })
    }

    pub(crate) fn len(&self) -> u32 {
        self.len
    }

    /// Each of them as `0/<id>`.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let mut reader = Reader::new(self.hops);
        (0..self.len).map_while(move |_| reader.string().ok())
    }
}

impl<'a> RouterAnnotations<'a> {
    /// The message's body keeps coming for as long as its sender likes: forward what there is.
    pub(crate) const STREAMING: u32 = 0x01;
    /// Who gets it back from a destination is to try another one.
    pub(crate) const RESEND_RELEASED: u32 = 0x02;
    /// Routers must not stop reading it because much of it waits: its ends take care of that.
    pub(crate) const DISABLE_Q2: u32 = 0x04;
    /// A TCP stream whose octets do not wait for an answer: it may only go to who takes such. Ours
    /// alone, and far from what skrouterd may come to use.
    pub(crate) const PROMPT: u32 = 0x8000_0000;

    /// How long the section is that a message, or the start of one, begins with; 0 without one. It
    /// is malformed if it is no list.
    pub(crate) fn measure(message: &[u8]) -> Progress<usize> {
        if !message.starts_with(&DESCRIPTOR) {
            return match DESCRIPTOR.starts_with(message) {
                true => Progress::NeedMore,
                false => Progress::Complete(0),
            };
        }
        if message
            .get(DESCRIPTOR.len())
            .is_some_and(|code| !LISTS.contains(code))
        {
            return Progress::Malformed;
        }
        let mut reader = Reader::new(message);
        match reader.skip() {
            Ok(()) => Progress::Complete(reader.position()),
            Err(DecodeError::Truncated) => Progress::NeedMore,
            Err(_) => Progress::Malformed,
        }
    }

    /// Reads a section, descriptor included.
    pub(crate) fn decode(section: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(section);
        reader.descriptor()?;
        let (mut fields, count) = reader.list()?;
        if count < 4 {
            return Err(DecodeError::WrongType("list of at least four"));
        }
        let flags = fields.uint()?;
        let to = text_or_null(&mut fields)?;
        let ingress = text_or_null(&mut fields)?;
        let trace = Trace::decode(&mut fields)?;
        let mesh = match count {
            4 => None,
            _ => Some(fields.string()?),
        };
        Ok(Self {
            flags,
            to,
            ingress,
            trace,
            mesh,
        })
    }

    /// Writes the section, byte for byte as skupper-router does, with one more router in its trace
    /// if there is one to add.
    pub(crate) fn encode(&self, hop: Option<&str>, out: &mut BytesMut) {
        out.put_slice(&DESCRIPTOR);
        put_list32(out, if self.mesh.is_some() { 5 } else { 4 }, |out| {
            put_uint(out, self.flags);
            for text in [self.to, self.ingress] {
                match text {
                    Some(text) => put_string(out, text),
                    None => out.put_u8(0x40),
                }
            }
            match self.trace.len + u32::from(hop.is_some()) {
                0 => out.put_u8(0x45),
                hops => put_list32(out, hops, |out| {
                    out.put_slice(self.trace.hops);
                    hop.into_iter().for_each(|hop| put_string(out, hop));
                }),
            }
            if let Some(mesh) = self.mesh {
                put_string(out, mesh);
            }
        });
    }
}

fn text_or_null<'a>(fields: &mut Reader<'a>) -> Result<Option<&'a str>, DecodeError> {
    if fields.null() {
        return Ok(None);
    }
    fields.string().map(Some)
}

fn put_list32(out: &mut BytesMut, count: u32, elements: impl FnOnce(&mut BytesMut)) {
    out.put_u8(0xd0);
    let at = out.len();
    out.put_u32(0);
    out.put_u32(count);
    elements(out);
    let size = (out.len() - at - 4) as u32;
    out[at..at + 4].copy_from_slice(&size.to_be_bytes());
}

/// `SKPR--RA`, in the only encoding that peers recognise.
const DESCRIPTOR: [u8; 10] = [0x00, 0x80, b'S', b'K', b'P', b'R', b'-', b'-', b'R', b'A'];

/// Constructors of lists.
const LISTS: [u8; 3] = [0x45, 0xc0, 0xd0];

/// Routers that a message can have passed: more than any network is wide.
const MAX_HOPS: usize = 1024;

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::option::of;
    use proptest::prelude::*;

    use super::*;

    fn encoded(annotations: &RouterAnnotations<'_>, hop: Option<&str>) -> BytesMut {
        let mut out = BytesMut::new();
        annotations.encode(hop, &mut out);
        out
    }

    fn entering() -> RouterAnnotations<'static> {
        RouterAnnotations {
            flags: RouterAnnotations::STREAMING,
            to: Some("a"),
            ingress: Some("0/R1"),
            ..RouterAnnotations::default()
        }
    }

    #[test]
    fn the_section_is_laid_out_as_skupper_router_does_it() {
        let first = encoded(&entering(), Some("0/R1"));
        let second = encoded(&RouterAnnotations::decode(&first).unwrap(), Some("0/R2"));
        let mut expected = b"\x00\x80SKPR--RA\xd0\x00\x00\x00\x24\x00\x00\x00\x04".to_vec();
        expected.extend_from_slice(b"\x52\x01\xa1\x01a\xa1\x040/R1");
        expected.extend_from_slice(b"\xd0\x00\x00\x00\x10\x00\x00\x00\x02\xa1\x040/R1\xa1\x040/R2");
        assert_eq!(second, expected);
        let trace = RouterAnnotations::decode(&second).unwrap().trace;
        assert_eq!(trace.iter().collect::<Vec<_>>(), ["0/R1", "0/R2"]);
    }

    #[test]
    fn what_is_written_is_read() {
        let full = RouterAnnotations {
            mesh: Some("abcdefghijklmno"),
            ..entering()
        };
        for annotations in [entering(), full, RouterAnnotations::default()] {
            let section = encoded(&annotations, None);
            assert_eq!(RouterAnnotations::decode(&section), Ok(annotations));
        }
    }

    proptest! {
        #[test]
        fn any_annotations_are_read_as_they_are_written(
            flags: u32,
            to in of(".{0,300}"),
            ingress in of("0/[A-Za-z]{1,20}"),
            hops in vec("0/[A-Za-z.]{1,300}", 0..20),
            mesh in of("[a-z]{15}"),
        ) {
            let entering = RouterAnnotations {
                flags,
                to: to.as_deref(),
                ingress: ingress.as_deref(),
                mesh: mesh.as_deref(),
                ..RouterAnnotations::default()
            };
            let mut section = encoded(&entering, None);
            for hop in &hops {
                let passed = RouterAnnotations::decode(&section).unwrap();
                section = encoded(&passed, Some(hop));
            }
            let read = RouterAnnotations::decode(&section).unwrap();
            prop_assert_eq!(read.trace.iter().collect::<Vec<_>>(), hops);
            let without = RouterAnnotations { trace: Trace::default(), ..read };
            prop_assert_eq!(without, entering);
            let length = RouterAnnotations::measure(&section);
            prop_assert_eq!(length, Progress::Complete(section.len()));
        }
    }

    #[test]
    fn a_section_is_measured_as_soon_as_it_is_whole() {
        let mut message = encoded(&entering(), Some("0/R1")).to_vec();
        let length = message.len();
        message.extend_from_slice(b"\x00\x53\x77\x41");
        for end in 0..message.len() {
            let expected = match end {
                _ if end < length => Progress::NeedMore,
                _ => Progress::Complete(length),
            };
            assert_eq!(RouterAnnotations::measure(&message[..end]), expected);
        }
        message[DESCRIPTOR.len()] = 0xd1;
        for end in DESCRIPTOR.len() + 1..message.len() {
            let map = RouterAnnotations::measure(&message[..end]);
            assert_eq!(map, Progress::Malformed, "no list");
        }
        let none = RouterAnnotations::measure(&message[length..]);
        assert_eq!(none, Progress::Complete(0));
    }

    #[test]
    fn short_lists_and_further_fields_are_understood() {
        let section = b"\x00\x80SKPR--RA\xc0\x09\x06\x43\x40\x40\x45\xa1\x01m\x41";
        let annotations = RouterAnnotations::decode(section).unwrap();
        assert_eq!(annotations.mesh, Some("m"));
    }

    #[test]
    fn wrong_types_are_errors() {
        for fields in [
            &b"\xc0\x04\x03\x43\x40\x40"[..],            // too few
            b"\xc0\x06\x04\x43\xa3\x01a\x40\x45",        // a symbol
            b"\xc0\x05\x04\x43\x40\x40\x40",             // a null trace
            b"\xc0\x06\x05\x43\x40\x40\x45\x40",         // a null mesh
            b"\xc0\x08\x04\x43\x40\x40\xc0\x02\x01\x43", // a number in the trace
        ] {
            let mut section = b"\x00\x80SKPR--RA".to_vec();
            section.extend_from_slice(fields);
            assert!(
                RouterAnnotations::decode(&section).is_err(),
                "{fields:02x?}"
            );
        }
    }
}
