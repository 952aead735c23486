//! Peers that do not read: what waits for them is given up, and the connection with it.
//!
//! A receiver may take its time by credit; a peer that does not even empty its socket, while it
//! goes on sending so as not to fall silent, only holds memory.

use std::time::Instant;

use super::{ConnectionId, Worker};

impl Worker {
    /// Cuts off AMQP peers that have not read for too long.
    pub(super) fn cut_off_slow_readers(&mut self, now: Instant) {
        let slow = self.connections.slow_readers(now);
        for number in slow {
            self.cut_off(number, now);
        }
    }

    /// Whether a connection is an AMQP peer's.
    pub(crate) fn is_amqp(&mut self, connection: ConnectionId) -> bool {
        self.connections.amqp(connection.0).is_some()
    }

    /// Whether so much waits for an AMQP peer that it is to take some of it before anything that it
    /// sends is looked at.
    pub(crate) fn is_full(&mut self, connection: ConnectionId) -> bool {
        let amqp = self.connections.amqp(connection.0);
        amqp.is_some_and(|amqp| amqp.endpoint.backlog() >= FULL)
    }

    pub(super) fn cut_off(&mut self, number: u32, now: Instant) {
        if let Some(amqp) = self.connections.amqp(number) {
            amqp.is_cut_off = true;
            amqp.endpoint.give_up_on_reader();
            self.cut_off += 1;
            self.process(ConnectionId(number), now);
        }
    }
}

/// Octets that wait for a peer which is not read any more: more than messages ever make it
/// (links wait for room long before), so these are answers to what it goes on asking.
const FULL: usize = 4 * 1024 * 1024;

#[cfg(test)]
#[allow(clippy::disallowed_methods)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::adaptors::amqp::{Annotated, ConnectionSettings, PeerInfo};
    use crate::adaptors::components::Components;
    use crate::adaptors::reading::LEAST_WAITING;
    use crate::control::address::Identity;
    use crate::control::role::Role;
    use crate::control::table::{Treatment, WorkerId};
    use crate::endpoint::{Config, Connection, ConnectionError};
    use crate::forwarding::Settings;
    use crate::forwarding::replies::Replies;
    use crate::worker::{Shortage, WorkerEvent};

    #[test]
    fn a_connection_that_is_over_goes_even_if_its_last_words_are_not_read() {
        let start = Instant::now();
        let (mut worker, id) = worker(start);
        // No protocol of ours: it is told which is, and does not read it.
        worker.input(id, b"GET / HTTP/1.1\r\n"[..].into(), start);
        assert!(worker.is_finished(id) && !worker.is_reset(id));
        let waiting = |worker: &mut Worker| worker.output(id).map_or(0, |out| out.len());
        assert!(waiting(&mut worker) > 0);
        for second in 1..10 {
            worker.handle_timeout(start + Duration::from_secs(second));
            assert!(!worker.is_reset(id), "{second}");
        }
        worker.handle_timeout(start + Duration::from_secs(12));
        assert!(worker.is_reset(id));
        assert_eq!(waiting(&mut worker), 0);
        assert_eq!(worker.figures(start).totals.cut_off, 1);
    }

    #[test]
    fn when_memory_is_short_only_those_go_that_much_waits_for() {
        let start = Instant::now();
        let (mut worker, id) = worker(start);
        worker.shed(shortage(start), start);
        assert!(!worker.is_reset(id), "nothing waits for it");
        // Heartbeats of ours, which nobody reads: enough of anything will do.
        let out = worker.output(id).expect("it is here");
        out.push_payload(vec![0; LEAST_WAITING].into());
        worker.shed(shortage(start), start);
        assert!(worker.is_reset(id) && worker.is_finished(id));
        let expected = ConnectionError::SlowReader(LEAST_WAITING).to_string();
        assert_eq!(reasons(&mut worker), [expected]);
    }

    /// An alert of TLS comes with what is read once the handshake seems to be done.
    #[test]
    fn who_is_refused_by_tls_hears_why() {
        let start = Instant::now();
        let (mut worker, id) = worker(start);
        let alert = std::io::Error::new(std::io::ErrorKind::InvalidData, "certificate required");
        worker.socket_failed(id, &alert, start);
        let reason = "the connection broke: certificate required";
        assert_eq!(reasons(&mut worker), [reason]);
        let id = connect(&mut worker, start);
        worker.socket_failed(id, &std::io::ErrorKind::ConnectionReset.into(), start);
        assert_eq!(reasons(&mut worker), ["the peer went away"]);
    }

    /// Why connections are over.
    fn reasons(worker: &mut Worker) -> Vec<String> {
        std::iter::from_fn(|| worker.poll_event())
            .filter_map(|event| match event {
                WorkerEvent::Closed { reason, .. } => reason,
                _ => None,
            })
            .collect()
    }

    #[test]
    fn who_hears_late_of_a_shortage_cuts_off_nobody_twice_for_it() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let (mut worker, one) = worker(start);
        let two = connect(&mut worker, start);
        for (id, octets) in [(one, 2 * LEAST_WAITING), (two, LEAST_WAITING)] {
            let out = worker.output(id).expect("it is here");
            out.push_payload(vec![0; octets].into());
        }
        worker.shed(shortage(after(1)), after(3));
        worker.shed(shortage(after(2)), after(3));
        assert!(worker.is_reset(one) && !worker.is_reset(two));
        worker.shed(shortage(after(4)), after(4));
        assert!(worker.is_reset(two));
    }

    fn shortage(noticed: Instant) -> Shortage {
        Shortage {
            octets: 1,
            least: 0,
            noticed,
        }
    }

    /// A worker with a connection that has said nothing yet.
    fn worker(now: Instant) -> (Worker, ConnectionId) {
        let settings = Settings {
            worker: WorkerId(0),
            workers: 1,
            identity: Arc::new(Identity {
                id: "R".into(),
                edge: false,
                ..Identity::default()
            }),
            default_treatment: Treatment::Balanced,
            replies: Replies::new([7; 16]),
            patience: Default::default(),
        };
        let mut worker = Worker::new(settings, Arc::default(), now);
        let id = connect(&mut worker, now);
        (worker, id)
    }

    fn connect(worker: &mut Worker, now: Instant) -> ConnectionId {
        let endpoint = Arc::new(Config {
            handshake_time_out: Duration::from_secs(3600),
            ..Config::default()
        });
        let settings = ConnectionSettings {
            name: "listener".into(),
            role: Role::Normal,
            cost: 1,
            link_capacity: 250,
            governed: false,
            policy_vhost: None,
            annotated: Annotated::default(),
            messages: Components::default(),
            group: None,
            max_message_size: None,
            endpoint: Arc::clone(&endpoint),
        };
        let connection = Connection::server(endpoint, now);
        worker.add_connection(1, connection, settings.into(), PeerInfo::default())
    }
}
