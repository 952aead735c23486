//! How we authenticate: the mechanisms that the options allow, and the one that the router offers.

use std::io;
use std::pin::Pin;
use std::str::FromStr;
use std::task::{Context, Poll};

use fe2o3_amqp::sasl_profile::{SaslProfile, SaslScramSha1, SaslScramSha256, SaslScramSha512};
use fe2o3_amqp::types::sasl::SaslMechanisms;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};

/// A mechanism of SASL, the one that we prefer first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Mechanism {
    External,
    ScramSha512,
    ScramSha256,
    ScramSha1,
    Plain,
    Anonymous,
}

/// Who we are to the router.
#[derive(Clone)]
pub(crate) struct User {
    pub(crate) name: String,
    pub(crate) password: String,
}

impl Mechanism {
    const ALL: [Self; 6] = [
        Self::External,
        Self::ScramSha512,
        Self::ScramSha256,
        Self::ScramSha1,
        Self::Plain,
        Self::Anonymous,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::External => "EXTERNAL",
            Self::ScramSha512 => "SCRAM-SHA-512",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha1 => "SCRAM-SHA-1",
            Self::Plain => "PLAIN",
            Self::Anonymous => "ANONYMOUS",
        }
    }

    /// What can be tried, in the order of our preference. Without a list of the operator's, who has
    /// a user or a certificate wants to be known.
    pub(crate) fn candidates(listed: &[Self], user: bool, certificate: bool) -> Vec<Self> {
        let possible = |mechanism: &Self| match mechanism {
            Self::External => certificate,
            Self::Anonymous => true,
            _ => user,
        };
        let wanted = |mechanism: &Self| match mechanism {
            _ if !listed.is_empty() => listed.contains(mechanism),
            Self::External => !user,
            Self::Anonymous => !user && !certificate,
            _ => true,
        };
        let all = Self::ALL.into_iter();
        all.filter(|one| possible(one) && wanted(one)).collect()
    }

    pub(crate) fn profile(self, user: Option<&User>) -> SaslProfile {
        let (username, password) = user
            .map(|user| (user.name.clone(), user.password.clone()))
            .unwrap_or_default();
        match self {
            Self::External => SaslProfile::External,
            Self::ScramSha512 => SaslScramSha512::new(username, password).into(),
            Self::ScramSha256 => SaslScramSha256::new(username, password).into(),
            Self::ScramSha1 => SaslScramSha1::new(username, password).into(),
            Self::Plain => SaslProfile::Plain { username, password },
            Self::Anonymous => SaslProfile::Anonymous,
        }
    }
}

impl FromStr for Mechanism {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let same = |one: &Self| one.name().eq_ignore_ascii_case(text);
        Self::ALL.into_iter().find(same).ok_or_else(|| {
            let known = Self::ALL.map(Self::name).join(", ");
            format!("'{text}' is not a mechanism: use {known}")
        })
    }
}

/// A stream on which we have greeted the router already, to learn what it offers. Who uses it sees
/// nothing of that: it greets, and is greeted, as if it were the first.
#[derive(Debug)]
pub(crate) struct Greeted<S> {
    stream: S,
    /// What has been read, from where it has not been given out.
    ahead: Vec<u8>,
    given: usize,
    /// How much of the user's own greeting is still to be dropped.
    greeting: usize,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Greeted<S> {
    /// Greets the router, and gives the names of the mechanisms it offers: none where it does not
    /// answer as a router that authenticates does, which the user of the stream will find out.
    ///
    /// # Errors
    /// The stream breaks.
    pub(crate) async fn new(mut stream: S) -> io::Result<(Self, Option<Vec<String>>)> {
        stream.write_all(HEADER).await?;
        stream.flush().await?;
        let mut ahead = vec![0; HEADER.len()];
        stream.read_exact(&mut ahead).await?;
        let offered = match ahead == HEADER {
            true => offered(&mut stream, &mut ahead).await?,
            false => None,
        };
        let greeted = Self {
            stream,
            ahead,
            given: 0,
            greeting: HEADER.len(),
        };
        Ok((greeted, offered))
    }
}

/// Reads the frame with the mechanisms, and keeps it with what came before.
async fn offered<S: AsyncRead + Unpin>(
    stream: &mut S,
    ahead: &mut Vec<u8>,
) -> io::Result<Option<Vec<String>>> {
    let mut size = [0; 4];
    stream.read_exact(&mut size).await?;
    ahead.extend(size);
    let size = u32::from_be_bytes(size) as usize;
    if !(FRAME_HEADER..=LARGEST_FRAME).contains(&size) {
        return Ok(None);
    }
    let start = ahead.len();
    ahead.resize(start + size - 4, 0);
    stream.read_exact(&mut ahead[start..]).await?;
    let body = ahead.get(start + FRAME_HEADER - 4..).unwrap_or_default();
    let mechanisms: Result<SaslMechanisms, _> = serde_amqp::from_slice(body);
    Ok(mechanisms.ok().map(|mechanisms| {
        let names = mechanisms.sasl_server_mechanisms.0.into_iter();
        names.map(|name| name.0).collect()
    }))
}

impl<S: AsyncRead + Unpin> AsyncRead for Greeted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let rest = &self.ahead[self.given..];
        if rest.is_empty() {
            return Pin::new(&mut self.stream).poll_read(context, buffer);
        }
        let count = rest.len().min(buffer.remaining());
        buffer.put_slice(&rest[..count]);
        self.given += count;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Greeted<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.greeting == 0 {
            return Pin::new(&mut self.stream).poll_write(context, octets);
        }
        let count = self.greeting.min(octets.len());
        self.greeting -= count;
        Poll::Ready(Ok(count))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// The protocol header of SASL (AMQP 5.3.1).
const HEADER: &[u8; 8] = b"AMQP\x03\x01\x00\x00";
const FRAME_HEADER: usize = 8;
/// Of SASL frames (AMQP 5.3.1).
const LARGEST_FRAME: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidates_are_what_the_options_give() {
        use Mechanism::{Anonymous, External, Plain, ScramSha1, ScramSha256, ScramSha512};
        let user = [ScramSha512, ScramSha256, ScramSha1, Plain];
        assert_eq!(Mechanism::candidates(&[], true, false), user);
        assert_eq!(Mechanism::candidates(&[], true, true), user);
        assert_eq!(Mechanism::candidates(&[], false, true), [External]);
        assert_eq!(Mechanism::candidates(&[], false, false), [Anonymous]);
        let listed = [Plain, External, ScramSha1];
        assert_eq!(
            Mechanism::candidates(&listed, true, true),
            [External, ScramSha1, Plain]
        );
        assert_eq!(Mechanism::candidates(&listed, false, false), []);
    }

    #[test]
    fn mechanisms_are_known_by_their_names() {
        for mechanism in Mechanism::ALL {
            assert_eq!(mechanism.name().to_lowercase().parse(), Ok(mechanism));
        }
        assert!("GSSAPI".parse::<Mechanism>().is_err());
    }

    #[tokio::test]
    async fn whoever_uses_a_greeted_stream_greets_as_the_first() {
        let (ours, mut theirs) = tokio::io::duplex(256);
        // A list of one symbol (AMQP 5.3.3.1), and what comes after it.
        let frame = b"\0\0\0\x16\x02\x01\0\0\0\x53\x40\xc0\x08\x01\xa3\x05PLAIN";
        theirs.write_all(HEADER).await.expect("room");
        theirs.write_all(frame).await.expect("room");
        theirs.write_all(b"more").await.expect("room");
        let (mut greeted, offered) = Greeted::new(ours).await.expect("they answer");
        assert_eq!(offered, Some(vec!["PLAIN".to_owned()]));
        greeted.write_all(HEADER).await.expect("it is dropped");
        greeted.write_all(b"init").await.expect("room");
        let mut seen = [0; 12];
        theirs.read_exact(&mut seen).await.expect("our octets");
        assert_eq!(seen, *b"AMQP\x03\x01\x00\x00init");
        let mut seen = vec![0; HEADER.len() + frame.len() + 4];
        greeted.read_exact(&mut seen).await.expect("their octets");
        assert_eq!(seen, [&HEADER[..], frame, b"more"].concat());
    }

    #[tokio::test]
    async fn what_is_no_sasl_is_passed_on() {
        let (ours, mut theirs) = tokio::io::duplex(256);
        theirs.write_all(b"HTTP/1.1 400 Bad").await.expect("room");
        let (mut greeted, offered) = Greeted::new(ours).await.expect("they answer");
        assert_eq!(offered, None);
        let mut seen = [0; 16];
        greeted.read_exact(&mut seen).await.expect("their octets");
        assert_eq!(seen, *b"HTTP/1.1 400 Bad");
    }
}
