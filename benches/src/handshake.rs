//! From a fresh TCP connection to a mapped session, with blocking I/O: nothing is measured yet.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::clock;
use crate::error::Error;
use crate::wire::decode::{self, Begin, Frame, Open};
use crate::wire::encode;
use crate::wire::{AMQP_HEADER, MIN_MAX_FRAME_SIZE, SASL_HEADER};

/// How we present ourselves.
#[derive(Debug, Clone)]
pub struct Handshake {
    /// Our container-id.
    pub container_id: String,
    /// Begin with a SASL layer, mechanism ANONYMOUS. A server takes what the client begins with.
    pub sasl: bool,
    /// The largest frame we take, in octets; at least 512.
    pub max_frame_size: u32,
    /// Transfer frames we take before we say more.
    pub incoming_window: u32,
    /// The time all of it may take.
    pub time_out: Duration,
}

/// A connection with one session, ready for links.
#[derive(Debug)]
pub struct Established {
    pub(crate) stream: TcpStream,
    /// Bytes read beyond the peer's begin.
    pub(crate) surplus: Vec<u8>,
    pub(crate) remote_open: Open,
    pub(crate) remote_begin: Begin,
    pub(crate) max_frame_size: u32,
    pub(crate) incoming_window: u32,
}

impl Handshake {
    /// Connects as a client.
    pub fn connect(&self, address: SocketAddr) -> Result<Established, Error> {
        let stream = TcpStream::connect_timeout(&address, self.time_out)?;
        let mut dialogue = Dialogue::new(stream, self)?;
        if self.sasl {
            dialogue.sasl_client(&address.ip().to_string())?;
        }
        dialogue.say(&AMQP_HEADER)?;
        dialogue.expect_header(AMQP_HEADER)?;
        dialogue.say_with(|out| {
            self.open(out);
            self.begin(out, None);
        })?;
        let remote_open = dialogue.open()?;
        let (_, remote_begin) = dialogue.begin()?;
        Ok(self.established(dialogue, remote_open, remote_begin))
    }

    /// Serves a client that has just connected.
    pub fn accept(&self, stream: TcpStream) -> Result<Established, Error> {
        let mut dialogue = Dialogue::new(stream, self)?;
        if dialogue.header()? == SASL_HEADER {
            dialogue.sasl_server()?;
            dialogue.expect_header(AMQP_HEADER)?;
        }
        dialogue.say(&AMQP_HEADER)?;
        let remote_open = dialogue.open()?;
        dialogue.say_with(|out| self.open(out))?;
        let (channel, remote_begin) = dialogue.begin()?;
        dialogue.say_with(|out| self.begin(out, Some(channel)))?;
        Ok(self.established(dialogue, remote_open, remote_begin))
    }

    fn open(&self, out: &mut Vec<u8>) {
        encode::open(
            out,
            &encode::Open {
                container_id: &self.container_id,
                hostname: None,
                max_frame_size: self.max_frame_size,
            },
        );
    }

    fn begin(&self, out: &mut Vec<u8>, remote_channel: Option<u16>) {
        encode::begin(
            out,
            encode::Begin {
                remote_channel,
                incoming_window: self.incoming_window,
            },
        );
    }

    fn established(
        &self,
        dialogue: Dialogue,
        remote_open: Open,
        remote_begin: Begin,
    ) -> Established {
        Established {
            stream: dialogue.stream,
            surplus: dialogue.input,
            remote_open,
            remote_begin,
            max_frame_size: self.max_frame_size,
            incoming_window: self.incoming_window,
        }
    }
}

/// Blocking reads and writes up to a deadline.
struct Dialogue {
    stream: TcpStream,
    input: Vec<u8>,
    deadline: Instant,
    max_frame_size: usize,
}

impl Dialogue {
    fn new(stream: TcpStream, handshake: &Handshake) -> Result<Self, Error> {
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(handshake.time_out))?;
        Ok(Dialogue {
            stream,
            input: Vec::new(),
            deadline: clock::now() + handshake.time_out,
            max_frame_size: handshake.max_frame_size as usize,
        })
    }

    fn sasl_client(&mut self, hostname: &str) -> Result<(), Error> {
        self.say(&SASL_HEADER)?;
        self.expect_header(SASL_HEADER)?;
        match self
            .frame(|frame| Ok(matches!(frame, Frame::SaslMechanisms(true))))?
            .1
        {
            true => self.say_with(|out| encode::sasl_init(out, hostname))?,
            false => return Err(Error::Unsupported("a peer that does not offer ANONYMOUS")),
        }
        let (_, code) = self.frame(|frame| match frame {
            Frame::SaslOutcome(code) => Ok(code),
            _ => Err(Error::Protocol("sasl-outcome was due")),
        })?;
        if code == 0 {
            Ok(())
        } else {
            Err(Error::Sasl(code))
        }
    }

    fn sasl_server(&mut self) -> Result<(), Error> {
        self.say(&SASL_HEADER)?;
        self.say_with(encode::sasl_mechanisms)?;
        self.frame(|frame| match frame {
            Frame::SaslInit => Ok(()),
            _ => Err(Error::Protocol("sasl-init was due")),
        })?;
        self.say_with(encode::sasl_outcome)
    }

    fn open(&mut self) -> Result<Open, Error> {
        let (_, open) = self.frame(|frame| match frame {
            Frame::Open(open) => Ok(open),
            Frame::Close(error) => Err(Error::Ended {
                performative: "close",
                error,
            }),
            _ => Err(Error::Protocol("open was due")),
        })?;
        if open.max_frame_size < MIN_MAX_FRAME_SIZE {
            return Err(Error::Protocol("a max-frame-size below 512"));
        }
        Ok(open)
    }

    fn begin(&mut self) -> Result<(u16, Begin), Error> {
        self.frame(|frame| match frame {
            Frame::Begin(begin) => Ok(begin),
            Frame::Close(error) => Err(Error::Ended {
                performative: "close",
                error,
            }),
            _ => Err(Error::Protocol("begin was due")),
        })
    }

    fn say(&mut self, bytes: &[u8]) -> Result<(), Error> {
        Ok(self.stream.write_all(bytes)?)
    }

    fn say_with(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Result<(), Error> {
        let mut out = Vec::new();
        write(&mut out);
        self.say(&out)
    }

    fn expect_header(&mut self, expected: [u8; 8]) -> Result<(), Error> {
        match self.header()? == expected {
            true => Ok(()),
            false => Err(Error::Protocol("another protocol header than ours")),
        }
    }

    fn header(&mut self) -> Result<[u8; 8], Error> {
        self.await_bytes(8)?;
        let header = *self.input.first_chunk().expect("eight bytes were awaited");
        self.input.drain(..8);
        Ok(header)
    }

    /// The next frame that is no heartbeat, by what `read` makes of it.
    fn frame<T>(
        &mut self,
        read: impl Fn(Frame<'_>) -> Result<T, Error>,
    ) -> Result<(u16, T), Error> {
        loop {
            self.await_bytes(4)?;
            let size = decode::frame_size(&self.input, self.max_frame_size)?
                .expect("four bytes were awaited");
            self.await_bytes(size)?;
            let (channel, frame) = decode::frame(&self.input[..size])?;
            let heartbeat = frame == Frame::Empty;
            let result = if heartbeat { None } else { Some(read(frame)?) };
            self.input.drain(..size);
            if let Some(result) = result {
                return Ok((channel, result));
            }
        }
    }

    fn await_bytes(&mut self, count: usize) -> Result<(), Error> {
        let mut chunk = [0; 4096];
        while self.input.len() < count {
            let left = self.deadline.saturating_duration_since(clock::now());
            if left.is_zero() {
                return Err(std::io::Error::from(ErrorKind::TimedOut).into());
            }
            self.stream.set_read_timeout(Some(left))?;
            match self.stream.read(&mut chunk)? {
                0 => return Err(std::io::Error::from(ErrorKind::UnexpectedEof).into()),
                n => self.input.extend_from_slice(&chunk[..n]),
            }
        }
        Ok(())
    }
}
