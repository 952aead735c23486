//! Both windows of the one session of a connection (AMQP 2.5.6).

use crate::error::Error;
use crate::wire::decode::{Begin, Flow};
use crate::wire::encode::SessionFlow;

/// Transfer-ids and windows. Ours start at 0.
#[derive(Debug)]
pub(crate) struct Session {
    next_outgoing_id: u32,
    remote_incoming_window: u32,
    next_incoming_id: u32,
    incoming_window: u32,
    window: u32,
}

impl Session {
    /// A session that announced `window` frames, and the peer's begin.
    pub(crate) fn new(window: u32, remote: Begin) -> Self {
        Session {
            next_outgoing_id: 0,
            remote_incoming_window: remote.incoming_window,
            next_incoming_id: remote.next_outgoing_id,
            incoming_window: window,
            window,
        }
    }

    /// Transfer frames the peer takes now.
    pub(crate) fn sendable(&self) -> u32 {
        self.remote_incoming_window
    }

    /// `frames` transfer frames were sent; no more than [`Session::sendable`].
    pub(crate) fn sent(&mut self, frames: u32) {
        self.next_outgoing_id = self.next_outgoing_id.wrapping_add(frames);
        self.remote_incoming_window -= frames;
    }

    /// A transfer frame came.
    pub(crate) fn received(&mut self) -> Result<(), Error> {
        self.incoming_window = self
            .incoming_window
            .checked_sub(1)
            .ok_or(Error::Protocol("a transfer beyond our session window"))?;
        self.next_incoming_id = self.next_incoming_id.wrapping_add(1);
        Ok(())
    }

    /// Half of what we announced is used up, so it is time for a flow.
    pub(crate) fn wants_flow(&self) -> bool {
        self.incoming_window <= self.window / 2
    }

    /// What a flow says of the session. Saying it re-opens our window.
    pub(crate) fn flow(&mut self) -> SessionFlow {
        self.incoming_window = self.window;
        SessionFlow {
            next_incoming_id: self.next_incoming_id,
            incoming_window: self.window,
            next_outgoing_id: self.next_outgoing_id,
        }
    }

    /// The peer's flow: its window counts from the frame it expects next, so what is under way is
    /// taken off; serial arithmetic, never below 0.
    pub(crate) fn on_flow(&mut self, flow: &Flow) {
        let under_way = self
            .next_outgoing_id
            .wrapping_sub(flow.next_incoming_id.unwrap_or(0));
        self.remote_incoming_window = flow.incoming_window.saturating_sub(under_way);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(window: u32, remote: u32) -> Session {
        Session::new(
            window,
            Begin {
                next_outgoing_id: 7,
                incoming_window: remote,
            },
        )
    }

    fn flow(next_incoming_id: Option<u32>, incoming_window: u32) -> Flow {
        Flow {
            next_incoming_id,
            incoming_window,
            link: None,
            echo: false,
        }
    }

    #[test]
    fn frames_under_way_count_against_the_peers_window() {
        let mut session = session(10, 512);
        session.sent(500);
        session.on_flow(&flow(Some(400), 512));
        assert_eq!(session.sendable(), 412);
        session.on_flow(&flow(Some(400), 50));
        assert_eq!(session.sendable(), 0);
        session.on_flow(&flow(None, 600));
        assert_eq!(session.sendable(), 100);
    }

    #[test]
    fn our_window_is_reopened_at_half_and_enforced() {
        let mut session = session(4, 0);
        session.received().unwrap();
        assert!(!session.wants_flow());
        session.received().unwrap();
        assert!(session.wants_flow());
        assert_eq!(session.flow().next_incoming_id, 9);
        for _ in 0..4 {
            session.received().unwrap();
        }
        assert!(matches!(session.received(), Err(Error::Protocol(_))));
    }
}
