//! The sections with which a TCP connection starts on its way through the network
//! (`reference/router/tcp-adaptor.md` §1).

use bytes::{BufMut, Bytes, BytesMut};

use super::read::{Composite, Reader};
use super::view::{self, Progress, section};
use super::write::{put_map, put_string, put_uint};
use super::{DecodeError, Value};

/// What is written ahead of the octets of one direction of a TCP connection.
///
/// The octets follow the body section as they are, up to the end of the delivery; so what routers
/// send each other is no message of AMQP 3.2 after that section.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct StreamHead {
    /// The service's address, or the client's reply address on the way back.
    pub(crate) to: Option<String>,
    /// Where the other direction is to go.
    pub(crate) reply_to: Option<String>,
    /// Identifies the connection in telemetry.
    pub(crate) correlation_id: Option<String>,
    /// The application protocol that the client has agreed on in TLS.
    pub(crate) alpn: Option<String>,
    /// Whether the content-type says that this is a TCP connection.
    pub(crate) is_stream: bool,
}

impl StreamHead {
    /// The sections.
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(160);
        out.put_slice(&[0x00, 0x53, view::PROPERTIES as u8]);
        let text = |out: &mut BytesMut, text: &Option<String>| match text {
            Some(text) => put_string(out, text),
            None => out.put_u8(0x40),
        };
        super::write::put_list(&mut out, 7, |out| {
            out.put_slice(&[0x40, 0x40]); // message-id, user-id
            text(out, &self.to);
            out.put_u8(0x40); // subject
            text(out, &self.reply_to);
            text(out, &self.correlation_id);
            // A string where AMQP 3.2.4 has a symbol, as all routers write it.
            match self.is_stream {
                true => put_string(out, CONTENT_TYPE),
                false => out.put_u8(0x40),
            }
        });
        out.put_slice(&[0x00, 0x53, view::APPLICATION_PROPERTIES as u8]);
        put_map(&mut out, 1 + usize::from(self.alpn.is_some()), |out| {
            put_string(out, VERSION_KEY);
            put_uint(out, VERSION);
            if let Some(alpn) = &self.alpn {
                put_string(out, ALPN_KEY);
                put_string(out, alpn);
            }
        });
        out.put_slice(&[0x00, 0x53, view::VALUE as u8, 0x40]);
        out.freeze()
    }

    /// Reads the sections that a delivery starts with; says how long they are.
    pub(crate) fn decode(bytes: &[u8]) -> Progress<(Self, usize)> {
        match Self::read(bytes) {
            Ok(done) => Progress::Complete(done),
            Err(DecodeError::Truncated) => Progress::NeedMore,
            Err(_) => Progress::Malformed,
        }
    }

    fn read(bytes: &[u8]) -> Result<(Self, usize), DecodeError> {
        let mut head = Self::default();
        let mut reader = Reader::new(bytes);
        let mut last = 0;
        loop {
            let code = section(&mut reader)?;
            if !(view::HEADER..=view::VALUE).contains(&code) || code <= last {
                return Err(DecodeError::UnexpectedSection);
            }
            last = code;
            match code {
                view::PROPERTIES => view::whole(&mut reader, |reader| head.properties(reader))?,
                view::APPLICATION_PROPERTIES => {
                    view::whole(&mut reader, |reader| head.application_properties(reader))?;
                }
                view::DATA..=view::VALUE => {
                    reader.skip()?;
                    return Ok((head, reader.position()));
                }
                _ => reader.skip()?,
            }
        }
    }

    fn properties(&mut self, reader: &mut Reader<'_>) -> Result<(), DecodeError> {
        let mut fields = Composite::new(reader)?;
        fields.field(Reader::skip)?;
        fields.field(Reader::skip)?;
        self.to = fields.field(Reader::string)?.map(str::to_owned);
        fields.field(Reader::skip)?;
        self.reply_to = fields.field(Reader::string)?.map(str::to_owned);
        self.correlation_id = match fields.field(Value::decode)? {
            Some(Value::String(text)) => Some(text.to_string()),
            _ => None,
        };
        self.is_stream = match fields.field(Value::decode)? {
            Some(Value::String(text)) => &*text == CONTENT_TYPE,
            Some(Value::Symbol(symbol)) => symbol.as_str() == CONTENT_TYPE,
            _ => false,
        };
        Ok(())
    }

    fn application_properties(&mut self, reader: &mut Reader<'_>) -> Result<(), DecodeError> {
        let (mut pairs, count) = reader.map()?;
        for _ in 0..count {
            let key = Value::decode(&mut pairs)?;
            let value = Value::decode(&mut pairs)?;
            if let (Value::String(key), Value::String(value)) = (key, value)
                && &*key == ALPN_KEY
            {
                self.alpn = Some(value.to_string());
            }
        }
        pairs.end()
    }
}

const CONTENT_TYPE: &str = "application/octet-stream";
const VERSION_KEY: &str = "V";
const VERSION: u32 = 1;
const ALPN_KEY: &str = "alpn";

#[cfg(test)]
mod tests {
    use proptest::option::of;
    use proptest::prelude::*;

    use super::*;
    use crate::codec::{Message, MessageId, Properties, Symbol};

    fn client() -> StreamHead {
        StreamHead {
            to: Some("service".into()),
            reply_to: Some("amqp:/_topo/0/A/temp.1".into()),
            correlation_id: Some("abcde:7".into()),
            alpn: Some("h2".into()),
            is_stream: true,
        }
    }

    #[test]
    fn what_is_written_is_read() {
        for head in [
            client(),
            StreamHead {
                to: Some("x".into()),
                is_stream: true,
                ..StreamHead::default()
            },
            StreamHead::default(),
        ] {
            let mut bytes = head.encode().to_vec();
            let length = bytes.len();
            for end in 0..length {
                let start = StreamHead::decode(&bytes[..end]);
                assert_eq!(start, Progress::NeedMore, "at {end}");
            }
            bytes.extend_from_slice(b"\x00\x53\x75 whatever the client sends");
            assert_eq!(
                StreamHead::decode(&bytes),
                Progress::Complete((head, length))
            );
        }
    }

    proptest! {
        #[test]
        fn any_head_is_read_as_it_is_written(
            to in of(".{0,300}"),
            reply_to in of(".{0,80}"),
            correlation_id in of(".{0,80}"),
            alpn in of("[a-z0-9/.]{0,20}"),
            is_stream: bool,
        ) {
            let head = StreamHead { to, reply_to, correlation_id, alpn, is_stream };
            let bytes = head.encode();
            let expected = Progress::Complete((head, bytes.len()));
            prop_assert_eq!(StreamHead::decode(&bytes), expected);
        }
    }

    #[test]
    fn an_amqp_client_may_write_its_own() {
        let message = Message {
            header: Some(Default::default()),
            properties: Some(Properties {
                to: Some("service".into()),
                reply_to: Some("back".into()),
                content_type: Some(Symbol::from("application/octet-stream")),
                correlation_id: Some(MessageId::Ulong(7)),
                ..Properties::default()
            }),
            ..Message::of_value(Value::Null)
        };
        let bytes = message.encode();
        let Progress::Complete((head, length)) = StreamHead::decode(&bytes) else {
            panic!("a message");
        };
        assert!(head.is_stream && length == bytes.len());
        assert_eq!(head.reply_to.as_deref(), Some("back"));
        assert_eq!(head.correlation_id, None);
    }

    #[test]
    fn nonsense_is_malformed() {
        let swapped = [0x00, 0x53, 0x74, 0xc1, 0x01, 0x00, 0x00, 0x53, 0x73, 0x45];
        let inner = [0x00, 0x53, 0x73, 0xc0, 0x04, 0x03, 0x40, 0x40, 0xa1, 0x09];
        for bytes in [&b"GET / HTTP/1.1"[..], &swapped, &inner] {
            assert_eq!(StreamHead::decode(bytes), Progress::Malformed);
        }
    }
}
