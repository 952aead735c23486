//! What becomes of clients whose streams nobody has taken, and of connections one of whose
//! directions has failed.

use std::cmp::Reverse;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::adaptors::connections::Peer;
use crate::codec::DeliveryState;
use crate::worker::Worker;

impl Worker {
    /// Does what the outcome of what a socket sends asks for. True if that gave forwarding
    /// something to do.
    pub(super) fn follow_outcome(&mut self, number: u32, now: Instant) -> bool {
        let Some(tcp) = self.connections.tcp(number) else {
            return false;
        };
        let outcome = match &tcp.source.outcome {
            Some(Some(outcome)) if !tcp.is_over() => outcome,
            _ => return false,
        };
        if matches!(outcome, DeliveryState::Accepted) {
            return false;
        }
        let rejected = matches!(outcome, DeliveryState::Rejected(_));
        let released = matches!(outcome, DeliveryState::Released);
        let unanswered = tcp.is_unanswered();
        // A service may have got what the client has sent, and no other must get it then.
        let spent = rejected || !released && tcp.has_ventured();
        if unanswered && matches!(outcome, DeliveryState::Modified(_)) {
            let doubt = tcp.source.doubt(now);
            let believe_at = *tcp.source.believe_at.get_or_insert_with(|| {
                self.timers.push(Reverse((now + doubt, number)));
                now + doubt
            });
            if now < believe_at {
                return false;
            }
        }
        tcp.source.outcome = None;
        tcp.source.believe_at = None;
        if let (true, false, Some(link)) = (unanswered, spent, tcp.incoming)
            && self.forwarder.attempts(link.index) >= tcp.source.attempts as usize
            && tcp.opened.is_none_or(|opened| now < opened + TRY_FOR)
        {
            self.forwarder.last_attempt_failed(link.index, now);
            self.continue_stream(number, Bytes::new(), false, true, now);
            self.start_stream(number, now);
            return true;
        }
        let soon = tcp.opened.is_none_or(|opened| now < opened + ROUNDS_FOR);
        if unanswered && !spent && tcp.source.rounds < ROUNDS && soon {
            let again_at = *tcp.source.again_at.get_or_insert(now + PAUSE);
            self.timers.push(Reverse((again_at, number)));
            return false;
        }
        if let Some(service) = tcp.service.as_ref().filter(|_| unanswered) {
            service.counts.failed.fetch_add(1, Ordering::Relaxed);
        }
        if unanswered {
            tcp.end(true);
            self.flow_failed(number, "delivery-failed (destination unreachable)", now);
            return false;
        }
        // The other direction may have more to say, and be on its way still.
        tcp.source.ended = true;
        tcp.linger_until = Some(now + LINGER);
        self.continue_stream(number, Bytes::new(), false, true, now);
        true
    }

    /// Believes an outcome that an answer might have been behind, or tries everything anew for a
    /// client whose stream nobody has taken a moment ago, if that is due.
    pub(in crate::worker) fn look_again(&mut self, number: u32, now: Instant) {
        let Some(tcp) = self.connections.tcp(number) else {
            return;
        };
        if tcp.source.believe_at.is_some_and(|at| at <= now) {
            self.connections.touch(number);
            return;
        }
        let due = tcp.source.again_at.is_some_and(|at| at <= now);
        if !due || !tcp.is_unanswered() || tcp.is_over() {
            return;
        }
        tcp.source.again_at = None;
        tcp.source.rounds += 1;
        tcp.source.attempts = 0;
        if let Some(link) = tcp.incoming {
            self.forwarder.forget_attempts(link.index);
        }
        self.continue_stream(number, Bytes::new(), false, true, now);
        self.start_stream(number, now);
    }

    /// Ends connections one of whose directions has failed, and whose other one has not ended
    /// since; and those of clients that have waited for an answer for too long.
    pub(in crate::worker) fn end_lingering(&mut self, now: Instant) {
        let lingering = self.connections.iter().filter(|(_, peer)| match peer {
            Peer::Tcp(tcp) => {
                let deadline = match tcp.is_unanswered() {
                    true => tcp.opened.map(|opened| opened + ANSWER_TIME_OUT),
                    false => None,
                };
                let due = [tcp.linger_until, deadline].into_iter().flatten().min();
                due.is_some_and(|due| due <= now)
            }
            _ => false,
        });
        for number in lingering.map(|(number, _)| number).collect::<Vec<_>>() {
            self.end_tcp(number, true);
        }
    }
}

/// How often everything is tried anew for a stream that nobody has taken. (Routers on the way learn
/// from each attempt who fails, but not from one alone.)
const ROUNDS: u8 = 2;

/// How long after it has connected a client's stream is tried again.
const TRY_FOR: Duration = Duration::from_secs(20);
/// How long after a client has connected everything may be tried anew: who has failed more slowly
/// than this has not failed for want of knowledge, and would as slowly again.
const ROUNDS_FOR: Duration = Duration::from_secs(5);
/// How long after everything has failed it is tried once more.
const PAUSE: Duration = Duration::from_millis(300);
/// How long a client waits for the service's answer.
const ANSWER_TIME_OUT: Duration = Duration::from_secs(60);
/// How long one direction may go on when the other has failed.
const LINGER: Duration = Duration::from_secs(10);
