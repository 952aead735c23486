//! A server connection with an owner that agrees to everything, to be fed anything at all.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;

use super::{AttachReply, Config, Connection, Departure, Event, Limits};
use crate::codec::{DeliveryState, DeliveryTag, Role, SaslCode};

/// Feeds `bytes` to a connection, in one piece and in pieces: it must not panic, must not write
/// much more than it reads, and must end with the input.
///
/// A first byte that is odd skips the handshake up to the first begin.
pub(crate) fn connection(bytes: &[u8], now: Instant) {
    let (&first, bytes) = bytes.split_first().unwrap_or((&0, &[]));
    let mut input = Vec::new();
    if first & 1 == 1 {
        input.extend_from_slice(PREFACE);
    }
    input.extend_from_slice(bytes);
    for piece in [input.len().max(1), usize::from(first / 2) + 1] {
        let written = feed(&input, piece, now).len();
        assert!(
            written <= 4096 + 64 * input.len(),
            "output is bounded by input"
        );
    }
}

/// Everything the connection wrote while it was fed.
fn feed(input: &[u8], piece: usize, now: Instant) -> Vec<u8> {
    let config = Config {
        limits: Limits {
            max_links: 64,
            max_unsettled: 64,
            ..Limits::default()
        },
        incoming_window: 16,
        ..Config::default()
    };
    let mut connection = Connection::server(Arc::new(config), now);
    for piece in input.chunks(piece) {
        connection.handle_input(BytesMut::from(piece), now);
        while let Some(event) = connection.poll_event(now) {
            agree(&mut connection, event);
        }
        connection.flush(now);
    }
    connection.handle_timeout(now + Duration::from_secs(60));
    connection.handle_eof();
    while connection.poll_event(now).is_some() {}
    assert!(connection.is_finished());
    let out = connection.out();
    let mut written = Vec::new();
    while !out.is_empty() {
        let mut iovecs = [std::io::IoSlice::new(&[]); 1];
        out.iovecs(&mut iovecs);
        let count = iovecs[0].len();
        written.extend_from_slice(&iovecs[0]);
        out.advance(count);
    }
    written
}

fn agree(connection: &mut Connection, event: Event) {
    match event {
        Event::SaslInit { .. } | Event::SaslResponse(_) => {
            connection.sasl_outcome(SaslCode::Ok, None);
        }
        Event::Opened => connection.open(),
        Event::Attach { link, attach, .. } => {
            let reply = AttachReply {
                source: attach.source,
                target: attach.target,
                max_message_size: Some(1 << 20),
                ..AttachReply::default()
            };
            connection.accept_attach(link, reply);
            connection.set_credit(link, 10);
        }
        Event::Transfer(transfer) => {
            connection.set_delivery_token(transfer.delivery, 1);
            let octets = transfer.payload.len() as u32;
            connection.release_window(transfer.delivery.session, 1, octets);
            if !transfer.more {
                let settled = transfer.delivery.id % 3 != 0;
                connection.update(transfer.delivery, Some(&DeliveryState::Accepted), settled);
                connection.set_credit(transfer.link, 10);
            }
        }
        Event::Flow { link, .. } => {
            let sendable = connection.sendable(link);
            let (tag, body) = (DeliveryTag::from(1), &b"message"[..]);
            for n in 0..sendable.credit.min(sendable.window).min(2) {
                let settled = n == 0;
                let departure = Departure {
                    token: n,
                    tag,
                    format: 0,
                    settled,
                    state: None,
                    prefix: &[],
                };
                let sent = connection.start_delivery(link, departure, &mut body.into(), false);
                assert!(sent.is_ok(), "there is credit and window");
            }
            connection.drained(link);
        }
        Event::Updated {
            role: Role::Receiver,
            session,
            id,
            settled: false,
            ..
        } => {
            connection.update_sent(session, id, None, true);
        }
        _ => {}
    }
}

/// Header, open and begin.
const PREFACE: &[u8] = b"AMQP\x00\x01\x00\x00\
    \x00\x00\x00\x11\x02\x00\x00\x00\x00\x53\x10\xc0\x04\x01\xa1\x01\x66\
    \x00\x00\x00\x13\x02\x00\x00\x00\x00\x53\x11\xc0\x06\x04\x40\x43\x52\x64\x43";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::disallowed_methods)]
    fn the_preface_begins_a_session() {
        let now = Instant::now();
        let written = feed(PREFACE, 1000, now);
        let begin = [0x00, 0x53, 0x11];
        assert!(written.windows(3).any(|window| window == begin));
    }
}
