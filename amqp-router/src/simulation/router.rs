//! One router: its control plane, its workers, and what is on its way between them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;

use super::lane::Lane;
use crate::control::address::Identity;
use crate::control::links::{Command, Control, Recipient};
use crate::control::network::Opened;
use crate::control::table::{Treatment, WorkerId};
use crate::forwarding::Settings;
use crate::forwarding::mailbox::Mail;
use crate::forwarding::replies::Replies;
use crate::mesh::{self, Mesh};
use crate::worker::{Authentication, ConnectionId, Worker, WorkerEvent};

#[derive(Debug)]
pub(super) struct Router {
    pub(super) control: Control,
    pub(super) hubs: Vec<Hub>,
    pub(super) place: Place,
    /// From workers to the control plane.
    events: Lane<(WorkerId, WorkerEvent)>,
    /// Something has been given to a worker since the last turn.
    touched: bool,
    due: Option<Duration>,
    /// Connections may have something to write that came of the last turn.
    pub(super) wrote: bool,
    /// Deliveries that have gone from worker to worker, until they are counted.
    pub(super) crossed: u64,
}

/// A worker and what is on its way to it.
#[derive(Debug)]
pub(super) struct Hub {
    pub(super) worker: Worker,
    pub(super) commands: Lane<ToWorker>,
    /// By the worker that it comes from.
    pub(super) mail: Vec<Lane<Mail>>,
}

#[derive(Debug)]
pub(super) enum ToWorker {
    Command(Box<Command>),
    Authenticated { connection: ConnectionId, id: u64 },
}

/// How a router is made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Build {
    pub(super) number: usize,
    pub(super) place: Place,
    pub(super) workers: usize,
    /// Between its tasks.
    pub(super) delay: Duration,
}

/// Where a router stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Alone,
    Interior { instance: i64 },
    Edge { started: i64 },
}

impl Router {
    pub(super) fn new(build: &Build, now: Instant) -> Self {
        let Build { number, place, .. } = *build;
        let is_edge = matches!(place, Place::Edge { .. });
        let identity = Arc::new(Identity {
            id: name(number),
            edge: is_edge,
            ..Identity::default()
        });
        // Its names for dynamic nodes are others when it has been started again.
        let mut seed = [number as u8; 32];
        let started = match place {
            Place::Alone => 0,
            Place::Interior { instance } => instance,
            Place::Edge { started } => started,
        };
        seed[..8].copy_from_slice(&started.to_le_bytes());
        let mut control = Control::new(Arc::clone(&identity), Treatment::Balanced, seed);
        match place {
            Place::Alone => {}
            Place::Interior { instance } => {
                control.join(Mesh::new(mesh_settings(number, instance), now));
            }
            Place::Edge { started } => control.become_edge(started),
        }
        let ids = Arc::default();
        let hub = |worker: usize| {
            let settings = Settings {
                worker: WorkerId(worker as u16),
                workers: build.workers as u16,
                identity: Arc::clone(&identity),
                default_treatment: Treatment::Balanced,
                replies: Replies::new([number as u8; 16]),
                patience: Default::default(),
            };
            Hub {
                worker: Worker::new(settings, Arc::clone(&ids), now),
                commands: Lane::new(build.delay),
                mail: (0..build.workers).map(|_| Lane::new(build.delay)).collect(),
            }
        };
        Self {
            control,
            hubs: (0..build.workers).map(hub).collect(),
            place,
            events: Lane::new(build.delay),
            touched: true,
            due: None,
            wrote: true,
            crossed: 0,
        }
    }

    pub(super) fn is_edge(&self) -> bool {
        matches!(self.place, Place::Edge { .. })
    }

    /// A worker that is to be given something.
    pub(super) fn worker(&mut self, number: usize) -> &mut Worker {
        self.touched = true;
        &mut self.hubs[number].worker
    }

    /// When something happens inside, if nothing comes from outside.
    pub(super) fn next_due(&self) -> Option<Duration> {
        self.due
    }

    /// Whether there is anything for it to do.
    pub(super) fn is_awake(&self, at: Duration) -> bool {
        self.touched || self.due.is_some_and(|due| due <= at)
    }

    /// Has nothing to do for the moment: finds out when it has again.
    pub(super) fn rest(&mut self, origin: Instant) {
        let since = |instant: Instant| instant.saturating_duration_since(origin);
        let mut due = self.control.poll_timeout().map(since);
        let mut note = |other: Option<Duration>| {
            if let Some(other) = other {
                due = Some(due.map_or(other, |due| due.min(other)));
            }
        };
        note(self.events.next_due());
        for hub in &self.hubs {
            note(hub.worker.poll_timeout().map(since));
            note(hub.commands.next_due());
            for lane in &hub.mail {
                note(lane.next_due());
            }
        }
        self.due = due;
    }

    /// Has everything happen in the workers that is due, and in the control plane by the clock.
    /// True if anything was.
    pub(super) fn turn(&mut self, at: Duration, now: Instant, rng: &mut StdRng) -> bool {
        let is_due = |due: Option<Instant>| due.is_some_and(|due| due <= now);
        let touched = std::mem::take(&mut self.touched);
        let mut moved = false;
        if is_due(self.control.poll_timeout()) {
            self.control.handle_timeout(now);
            let next = self.control.poll_timeout();
            assert!(!is_due(next), "the control plane's timer does not advance");
            moved = true;
        }
        for hub in &mut self.hubs {
            if is_due(hub.worker.poll_timeout()) {
                hub.worker.handle_timeout(now);
                let next = hub.worker.poll_timeout();
                assert!(!is_due(next), "a worker's timer does not advance");
                moved = true;
            }
            while let Some(message) = hub.commands.pop(at) {
                hub.take(message, now);
                moved = true;
            }
            for lane in &mut hub.mail {
                while let Some(mail) = lane.pop(at) {
                    hub.worker.mail(mail);
                    moved = true;
                }
            }
        }
        self.wrote = touched || moved;
        if self.wrote {
            for number in 0..self.hubs.len() {
                self.hubs[number].worker.end_turn(now);
                self.send_out(number, at, rng);
            }
        }
        moved
    }

    /// Takes from a worker what it has for others.
    fn send_out(&mut self, number: usize, at: Duration, rng: &mut StdRng) {
        // Sockets are looked at in every round anyway.
        let worker = &mut self.hubs[number].worker;
        while worker.poll_writable().is_some() || worker.poll_resumed().is_some() {}
        while let Some((to, mail)) = self.hubs[number].worker.poll_mail() {
            assert_ne!(to.index(), number, "a worker writes to itself");
            self.crossed += u64::from(matches!(mail, Mail::Start { .. }));
            self.hubs[to.index()].mail[number].push(mail, at, rng);
        }
        while let Some(event) = self.hubs[number].worker.poll_event() {
            self.events.push((WorkerId(number as u16), event), at, rng);
        }
    }

    /// What the control plane is to be told next.
    pub(super) fn poll_event(&mut self, at: Duration) -> Option<(WorkerId, WorkerEvent)> {
        self.events.pop(at)
    }

    /// Tells the control plane; gives back what is not for it.
    pub(super) fn hear(
        &mut self,
        worker: WorkerId,
        event: WorkerEvent,
        now: Instant,
    ) -> Option<WorkerEvent> {
        let control = &mut self.control;
        match event {
            WorkerEvent::Opened(status) => {
                let connector = (!status.peer.incoming).then(|| "trunk".to_owned());
                let opened = Opened {
                    connector,
                    ordinal: status.group.as_ref().map_or(0, |group| group.ordinal),
                    ..status.opened(worker)
                };
                control.opened(&opened, now);
            }
            WorkerEvent::Closed { id, .. } => control.closed(id, now),
            WorkerEvent::Attach(request) => {
                control.attach(&request, now);
            }
            WorkerEvent::Attached(link) => control.attached(&link, now),
            WorkerEvent::NotAttached { ticket, error } => {
                control.not_attached(ticket, error.as_ref(), now);
            }
            WorkerEvent::Detached { link, loss, .. } => control.detached(link, &loss, now),
            WorkerEvent::Heard { link, message } => control.heard(link, &message, now),
            WorkerEvent::Answered { link } => control.announced(link),
            WorkerEvent::Fenced { workers } => control.fenced(workers),
            // Only the log tells of it.
            WorkerEvent::SessionFailed { .. }
            | WorkerEvent::Malformed { .. }
            | WorkerEvent::LinkRefused { .. }
            | WorkerEvent::Trouble { .. } => {}
            other => return Some(other),
        }
        None
    }

    /// Answers a client that wants to be nobody in particular.
    pub(super) fn authenticate(
        &mut self,
        worker: WorkerId,
        answer: (ConnectionId, u64),
        at: Duration,
        rng: &mut StdRng,
    ) {
        let (connection, id) = answer;
        let answer = ToWorker::Authenticated { connection, id };
        self.hubs[worker.index()].commands.push(answer, at, rng);
    }

    /// Sends workers what the control plane has decided. True if that is anything.
    pub(super) fn issue(&mut self, at: Duration, rng: &mut StdRng) -> bool {
        let mut moved = false;
        while let Some((recipient, command)) = self.control.poll_command() {
            moved = true;
            for (number, hub) in self.hubs.iter_mut().enumerate() {
                let is_for_it = match recipient {
                    Recipient::Everyone => true,
                    Recipient::Worker(worker) => worker.index() == number,
                };
                if is_for_it {
                    let command = ToWorker::Command(Box::new(command.clone()));
                    hub.commands.push(command, at, rng);
                }
            }
        }
        moved
    }

    /// Deliveries on their way through.
    pub(super) fn in_flight(&self, now: Instant) -> usize {
        let hubs = self.hubs.iter();
        hubs.map(|hub| hub.worker.whole_status(now).in_flight).sum()
    }
}

impl Hub {
    fn take(&mut self, message: ToWorker, now: Instant) {
        match message {
            ToWorker::Command(command) => self.worker.command(*command, now),
            ToWorker::Authenticated { connection, id } => {
                let mechanism = "ANONYMOUS".to_owned();
                let accepted = Authentication::Accepted {
                    user: None,
                    mechanism,
                    proof: None,
                };
                self.worker.authenticated(connection, id, accepted, now);
            }
        }
    }
}

pub(super) fn name(router: usize) -> String {
    format!("R{router}")
}

fn mesh_settings(number: usize, instance: i64) -> mesh::Settings {
    mesh::Settings {
        id: name(number),
        instance,
        hello_interval: Duration::from_secs(1),
        hello_max_age: Duration::from_secs(3),
        ra_interval: Duration::from_secs(30),
        ra_interval_flux: Duration::from_secs(4),
        remote_ls_max_age: Duration::from_secs(60),
        unreachable_holdoff: Duration::from_secs(1),
        max_routers: 100,
    }
}
