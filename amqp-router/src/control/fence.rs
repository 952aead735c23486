//! What waits until every worker knows the table as it is now.
//!
//! A worker may still give a delivery to a link that the table no longer names: it has not heard
//! yet, or what it has given to another worker is on its way there. Before a link may be taken for
//! idle, a *fence* goes up: each worker, by the time that it knows the table, tells all others that
//! nothing more comes of an older one, in the same line as the deliveries. One fence serves all who
//! ask for it before it goes up.

use crate::control::links::{Command, Control, Recipient};

/// Commands that wait.
#[derive(Debug, Default)]
pub(super) struct Fence {
    /// How many workers have answered for the fence that is up.
    answered: Option<u16>,
    behind: Vec<(Recipient, Command)>,
    /// For the next one.
    waiting: Vec<(Recipient, Command)>,
}

impl Control {
    /// Gives a command when nothing that workers have done by an older table is on its way.
    pub(super) fn when_all_know(&mut self, recipient: Recipient, command: Command) {
        self.fence.waiting.push((recipient, command));
        self.raise_fence();
    }

    fn raise_fence(&mut self) {
        let fence = &mut self.fence;
        if fence.answered.is_none() && !fence.waiting.is_empty() {
            fence.answered = Some(0);
            fence.behind = std::mem::take(&mut fence.waiting);
            self.commands
                .push_back((Recipient::Everyone, Command::Fence));
        }
    }

    /// One of so many workers has heard from all others.
    pub(crate) fn fenced(&mut self, workers: u16) {
        let Some(answered) = &mut self.fence.answered else {
            return;
        };
        *answered += 1;
        if *answered >= workers {
            self.fence.answered = None;
            let behind = std::mem::take(&mut self.fence.behind);
            self.commands.extend(behind);
            self.raise_fence();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::control::address::Identity;
    use crate::control::table::{Direction, LinkRef, Slot, Treatment, WorkerId};

    fn finish(index: u32) -> (Recipient, Command) {
        let link = LinkRef {
            worker: WorkerId(1),
            direction: Direction::Outgoing,
            slot: Slot { index, serial: 0 },
        };
        (Recipient::Worker(link.worker), Command::Finish { link })
    }

    /// The links to be finished, and 0 for a fence.
    fn commands(control: &mut Control) -> Vec<u32> {
        let commands = std::iter::from_fn(|| control.poll_command());
        let number = |(_, command)| match command {
            Command::Finish { link } => link.slot.index,
            Command::Fence => 0,
            other => panic!("{other:?}"),
        };
        commands.map(number).collect()
    }

    #[test]
    fn a_fence_is_passed_when_all_workers_have_answered() {
        let identity = Identity {
            id: "R".into(),
            ..Identity::default()
        };
        let mut control = Control::new(Arc::new(identity), Treatment::Balanced, [0; 32]);
        let ask = |control: &mut Control, number| {
            let (recipient, command) = finish(number);
            control.when_all_know(recipient, command);
        };
        ask(&mut control, 1);
        assert_eq!(commands(&mut control), [0]);
        // What is asked for meanwhile may have followed a newer table.
        ask(&mut control, 2);
        ask(&mut control, 3);
        control.fenced(2);
        assert!(commands(&mut control).is_empty());
        control.fenced(2);
        assert_eq!(commands(&mut control), [1, 0]);
        control.fenced(2);
        control.fenced(2);
        assert_eq!(commands(&mut control), [2, 3]);
        control.fenced(2);
        assert!(commands(&mut control).is_empty());
    }
}
