//! HTTP/1.0 and 1.1 in passing (RFC 9112).

use std::collections::VecDeque;
use std::mem::MaybeUninit;
use std::time::Instant;

use httparse::{Error, Header, Status};

use super::exchange::{Exchanges, Request, forwarded_for, is_final};
use super::{Over, Speaker};

/// A connection of HTTP/1.
#[derive(Debug, Default)]
pub(super) struct Http1 {
    /// What the client sends, and the service.
    halves: [Half; 2],
    /// Requests that have not been answered, in their order.
    pending: VecDeque<Pending>,
}

#[derive(Debug)]
struct Pending {
    exchange: u32,
    method: Method,
    /// All of the request has passed.
    complete: bool,
    /// All of the answer has.
    answered: bool,
}

/// A method that decides what its answer looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Method {
    Head,
    Connect,
    Other,
}

#[derive(Debug, Default)]
struct Half {
    part: Part,
    /// What has come of a head that is not complete.
    head: Vec<u8>,
}

/// What comes next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Part {
    #[default]
    Head,
    /// So many octets of a body.
    Body(u64),
    /// Everything until the end of the connection.
    UntilEnd,
    ChunkSize {
        size: u64,
        digits: u8,
        /// There is no more of the size in this line.
        rest: bool,
    },
    Chunk(u64),
    ChunkEnd,
    /// Fields after the last chunk; whether this line has anything.
    Trailer {
        empty: bool,
    },
}

/// What a head says of the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Body {
    Length(u64),
    Chunked,
    UntilEnd,
    /// The head says nothing of it.
    Unsaid,
}

impl Http1 {
    /// Octets pass.
    ///
    /// # Errors
    /// This is not HTTP/1, or no longer, or too much to follow.
    pub(super) fn take(
        &mut self,
        from: Speaker,
        mut octets: &[u8],
        exchanges: &mut Exchanges,
        now: Instant,
    ) -> Result<(), Over> {
        while !octets.is_empty() {
            let part = self.halves[from as usize].part;
            let next = match part {
                Part::Head => {
                    if !self.take_head(from, &mut octets, exchanges, now)? {
                        return Ok(());
                    }
                    continue;
                }
                Part::Body(left) => self
                    .pass(from, &mut octets, left, exchanges)?
                    .map(Part::Body),
                Part::UntilEnd => {
                    self.pass(from, &mut octets, u64::MAX, exchanges)?;
                    Some(Part::UntilEnd)
                }
                Part::Chunk(left) => {
                    let left = self.pass(from, &mut octets, left, exchanges)?;
                    Some(left.map_or(Part::ChunkEnd, Part::Chunk))
                }
                Part::ChunkSize { .. } | Part::ChunkEnd | Part::Trailer { .. } => {
                    let octet = octets[0];
                    octets = &octets[1..];
                    part.after(octet)?
                }
            };
            match next {
                Some(part) => self.halves[from as usize].part = part,
                None => self.message_ends(from, exchanges, now)?,
            }
        }
        Ok(())
    }

    /// The client or the service sends nothing more.
    pub(super) fn ended(&mut self, from: Speaker, exchanges: &mut Exchanges, now: Instant) {
        if self.halves[from as usize].part == Part::UntilEnd {
            // Nothing follows that could be wrong.
            let _ = self.message_ends(from, exchanges, now);
        }
    }

    /// Octets of a body pass, of which `left` are to come. Gives how many are to come then, if any.
    fn pass(
        &self,
        from: Speaker,
        octets: &mut &[u8],
        left: u64,
        exchanges: &mut Exchanges,
    ) -> Result<Option<u64>, Over> {
        let here = left.min(octets.len() as u64);
        *octets = &octets[here as usize..];
        self.count(from, here, exchanges)?;
        Ok(Some(left - here).filter(|left| *left > 0))
    }

    /// Octets of a body pass.
    fn count(&self, from: Speaker, octets: u64, exchanges: &mut Exchanges) -> Result<(), Over> {
        let of = match from {
            Speaker::Client => self.pending.back(),
            Speaker::Service => self.pending.front(),
        };
        exchanges.passed(of.ok_or(Over)?.exchange, from, octets);
        Ok(())
    }

    /// Octets that follow, of a body and not its last.
    pub(super) fn unseen(&self, from: Speaker) -> u64 {
        match self.halves[from as usize].part {
            Part::Body(left) | Part::Chunk(left) => left.saturating_sub(1),
            Part::UntilEnd => u64::MAX,
            _ => 0,
        }
    }

    /// So many octets pass without being seen.
    ///
    /// # Errors
    /// There was something to see.
    pub(super) fn skip(
        &mut self,
        from: Speaker,
        octets: u64,
        exchanges: &mut Exchanges,
    ) -> Result<(), Over> {
        let part = &mut self.halves[from as usize].part;
        match part {
            Part::Body(left) | Part::Chunk(left) if *left > octets => *left -= octets,
            Part::UntilEnd => {}
            _ => return Err(Over),
        }
        self.count(from, octets, exchanges)
    }

    /// Reads a head, as far as it is there; false if it is not all.
    fn take_head(
        &mut self,
        from: Speaker,
        octets: &mut &[u8],
        exchanges: &mut Exchanges,
        now: Instant,
    ) -> Result<bool, Over> {
        let half = &mut self.halves[from as usize];
        if half.head.is_empty() {
            // Lines ahead of a request do not count (§2.2).
            let start = octets
                .iter()
                .position(|octet| !matches!(octet, b'\r' | b'\n'));
            *octets = &octets[start.unwrap_or(octets.len())..];
            let Some(length) = self.read_head(from, octets, exchanges, now)? else {
                self.halves[from as usize].keep(octets)?;
                return Ok(false);
            };
            *octets = &octets[length..];
            return Ok(true);
        }
        let before = half.head.len();
        half.keep(octets)?;
        // A head that comes in small pieces is read once.
        let Some(end) = end_of_head(&half.head, before.saturating_sub(3)) else {
            return Ok(false);
        };
        let mut head = std::mem::take(&mut half.head);
        head.truncate(end);
        *octets = &octets[end.checked_sub(before).ok_or(Over)?..];
        self.read_head(from, &head, exchanges, now)?.ok_or(Over)?;
        Ok(true)
    }

    fn read_head(
        &mut self,
        from: Speaker,
        octets: &[u8],
        exchanges: &mut Exchanges,
        now: Instant,
    ) -> Result<Option<usize>, Over> {
        if octets.is_empty() {
            return Ok(None);
        }
        match from {
            Speaker::Client => self.read_request(octets, exchanges, now),
            Speaker::Service => self.read_response(octets, exchanges, now),
        }
    }

    /// Reads the head of a request; gives its length if it is all there.
    fn read_request(
        &mut self,
        octets: &[u8],
        exchanges: &mut Exchanges,
        now: Instant,
    ) -> Result<Option<usize>, Over> {
        let mut fields = [const { MaybeUninit::uninit() }; FIELDS_MOST];
        let mut request = httparse::Request::new(&mut []);
        let Some(length) = complete(request.parse_with_uninit_headers(octets, &mut fields))? else {
            return Ok(None);
        };
        if self.pending.len() >= PENDING_MOST {
            return Err(Over);
        }
        let name = request.method.unwrap_or_default();
        let protocol = match request.version {
            Some(1) => "HTTP/1.1",
            _ => "HTTP/1.0",
        };
        let exchange = exchanges.begin(now, || Request {
            protocol,
            method: name.into(),
            stream: None,
            client: field(request.headers, "x-forwarded-for").and_then(forwarded_for),
        });
        let body = body(request.headers)?;
        self.pending.push_back(Pending {
            exchange,
            method: match name {
                "HEAD" => Method::Head,
                "CONNECT" => Method::Connect,
                _ => Method::Other,
            },
            complete: false,
            answered: false,
        });
        let body = match body {
            Body::Unsaid => Body::Length(0),
            // Nobody could tell where it ends (§6.3).
            Body::UntilEnd => return Err(Over),
            said => said,
        };
        self.start_body(Speaker::Client, body, exchanges, now)?;
        Ok(Some(length))
    }

    /// Reads the head of an answer; gives its length if it is all there.
    fn read_response(
        &mut self,
        octets: &[u8],
        exchanges: &mut Exchanges,
        now: Instant,
    ) -> Result<Option<usize>, Over> {
        let mut fields = [const { MaybeUninit::uninit() }; FIELDS_MOST];
        let mut response = httparse::Response::new(&mut []);
        let config = httparse::ParserConfig::default();
        let parsed = config.parse_response_with_uninit_headers(&mut response, octets, &mut fields);
        let Some(length) = complete(parsed)? else {
            return Ok(None);
        };
        // What nobody has asked for belongs to nothing.
        let pending = self.pending.front().filter(|pending| !pending.answered);
        let Pending {
            exchange, method, ..
        } = *pending.ok_or(Over)?;
        let status = response.code.unwrap_or_default();
        let reason = response.reason.unwrap_or_default();
        exchanges.answered(exchange, status, reason, now);
        if status == 101 || method == Method::Connect && status / 100 == 2 {
            // Something else follows.
            return Err(Over);
        }
        if !is_final(status) {
            return Ok(Some(length));
        }
        let body = match status {
            _ if method == Method::Head => Body::Length(0),
            204 | 205 | 304 => Body::Length(0),
            _ => match body(response.headers)? {
                Body::Unsaid => Body::UntilEnd,
                said => said,
            },
        };
        self.start_body(Speaker::Service, body, exchanges, now)?;
        Ok(Some(length))
    }

    fn start_body(
        &mut self,
        from: Speaker,
        body: Body,
        exchanges: &mut Exchanges,
        now: Instant,
    ) -> Result<(), Over> {
        self.halves[from as usize].part = match body {
            Body::Length(0) => return self.message_ends(from, exchanges, now),
            Body::Length(length) => Part::Body(length),
            Body::Chunked => Part::CHUNK_SIZE,
            Body::UntilEnd | Body::Unsaid => Part::UntilEnd,
        };
        Ok(())
    }

    /// All of a request or of an answer has passed.
    fn message_ends(
        &mut self,
        from: Speaker,
        exchanges: &mut Exchanges,
        now: Instant,
    ) -> Result<(), Over> {
        self.halves[from as usize].part = Part::Head;
        match from {
            Speaker::Client => self.pending.back_mut().ok_or(Over)?.complete = true,
            Speaker::Service => self.pending.front_mut().ok_or(Over)?.answered = true,
        }
        if let Some(first) = self.pending.front()
            && first.complete
            && first.answered
        {
            exchanges.end(first.exchange, now);
            self.pending.pop_front();
        }
        Ok(())
    }
}

impl Half {
    /// Keeps what has come of a head, until all of it is there.
    fn keep(&mut self, octets: &[u8]) -> Result<(), Over> {
        let room = HEAD_MOST - self.head.len();
        // More than that may have come, if it is of the body.
        self.head
            .extend_from_slice(&octets[..octets.len().min(room)]);
        let full = self.head.len() == HEAD_MOST && end_of_head(&self.head, 0).is_none();
        if full { Err(Over) } else { Ok(()) }
    }
}

impl Part {
    const CHUNK_SIZE: Self = Self::ChunkSize {
        size: 0,
        digits: 0,
        rest: false,
    };

    /// What comes after an octet of a chunk's frame (§7.1); `None`: the next message.
    fn after(self, octet: u8) -> Result<Option<Self>, Over> {
        Ok(Some(match (self, octet) {
            (Self::ChunkSize { digits: 0, .. }, b'\n') => return Err(Over),
            (Self::ChunkSize { size: 0, .. }, b'\n') => Self::Trailer { empty: true },
            (Self::ChunkSize { size, .. }, b'\n') => Self::Chunk(size),
            (Self::ChunkSize { rest: true, .. }, _) => self,
            (Self::ChunkSize { size, digits, .. }, b'\r' | b';' | b' ' | b'\t') => {
                Self::ChunkSize {
                    size,
                    digits,
                    rest: true,
                }
            }
            (Self::ChunkSize { size, digits, .. }, digit) => {
                let value = char::from(digit).to_digit(16).ok_or(Over)?;
                if digits == 15 {
                    return Err(Over);
                }
                Self::ChunkSize {
                    size: size << 4 | u64::from(value),
                    digits: digits + 1,
                    rest: false,
                }
            }
            (Self::ChunkEnd, b'\r') => self,
            (Self::ChunkEnd, b'\n') => Self::CHUNK_SIZE,
            (Self::Trailer { empty: true }, b'\n') => return Ok(None),
            (Self::Trailer { .. }, b'\n') => Self::Trailer { empty: true },
            (Self::Trailer { .. }, b'\r') => self,
            (Self::Trailer { .. }, _) => Self::Trailer { empty: false },
            _ => return Err(Over),
        }))
    }
}

/// The length of a head, if it is all there.
fn complete(parsed: Result<Status<usize>, Error>) -> Result<Option<usize>, Over> {
    match parsed {
        Ok(Status::Complete(length)) => Ok(Some(length)),
        Ok(Status::Partial) => Ok(None),
        Err(_) => Err(Over),
    }
}

/// Where a head ends whose first octets have been looked at.
fn end_of_head(octets: &[u8], from: usize) -> Option<usize> {
    let ends = (from..octets.len()).filter(|at| octets[*at] == b'\n');
    ends.filter_map(|at| match octets[at + 1..] {
        [b'\n', ..] => Some(at + 2),
        [b'\r', b'\n', ..] => Some(at + 3),
        _ => None,
    })
    .next()
}

fn field<'a>(fields: &[Header<'a>], name: &str) -> Option<&'a [u8]> {
    let mut named = fields
        .iter()
        .filter(|field| field.name.eq_ignore_ascii_case(name));
    named.next().map(|field| field.value)
}

/// What a head says of the body (§6.3).
fn body(fields: &[Header<'_>]) -> Result<Body, Over> {
    if let Some(codings) = field(fields, "transfer-encoding") {
        let last = codings.split(|octet| *octet == b',').next_back();
        let chunked = last
            .unwrap_or_default()
            .trim_ascii()
            .eq_ignore_ascii_case(b"chunked");
        return Ok(if chunked {
            Body::Chunked
        } else {
            Body::UntilEnd
        });
    }
    let Some(length) = field(fields, "content-length") else {
        return Ok(Body::Unsaid);
    };
    let digits = std::str::from_utf8(length.trim_ascii()).map_err(|_| Over)?;
    let plain = digits.bytes().all(|digit| digit.is_ascii_digit());
    let length = digits.parse().ok().filter(|_| plain).ok_or(Over)?;
    Ok(Body::Length(length))
}

/// Octets that a head may have.
const HEAD_MOST: usize = 32 * 1024;
/// Fields that a head may have.
const FIELDS_MOST: usize = 100;
/// Requests that may wait for their answers.
const PENDING_MOST: usize = 100;
