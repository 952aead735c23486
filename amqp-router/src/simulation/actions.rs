//! What happens by chance.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::codec::{DeliveryState, Role};
use crate::control::table::Treatment;
use crate::endpoint::Config;

use super::client::{Client, Habit, LinkWish, Scope};
use super::ledger::{AddressNo, Tally};
use super::message::Shape;
use super::receiver::random_outcome;
use super::wire::Manner;
use super::world::{ADDRESSES, Climate, World, client_config};

/// Plays one seed from the first connection to the last; panics when a law is broken.
pub(super) fn play(seed: u64, tracing: bool) -> Tally {
    let mut rng = StdRng::seed_from_u64(seed);
    let climate = Climate::random(&mut rng);
    let mut world = World::new(&climate, rng);
    world.ledger.tracing = tracing;
    world.ledger.say(|| format!("{climate:?}"));
    for _ in 0..STEPS {
        world.act();
        let time = match world.rng.random_range(0..40) {
            0 => world.rng.random_range(500..2500),
            1..15 => 0,
            _ => world.rng.random_range(0..10),
        };
        world.pass(Duration::from_millis(time));
    }
    world.come_to_rest();
    world.leave();
    world.check_empty();
    world.ledger.tally
}

impl World {
    /// A client does something, or something happens to it.
    pub(super) fn act(&mut self) {
        let living: Vec<usize> = (0..self.lines.len())
            .filter(|&line| {
                self.lines[line]
                    .client
                    .as_ref()
                    .is_some_and(Client::is_open)
            })
            .collect();
        let coming = self
            .lines
            .iter()
            .filter(|line| line.client.is_some())
            .count();
        if coming < 2 || (coming < MAX_CLIENTS && self.rng.random_bool(0.08)) {
            let router = self.rng.random_range(0..self.routers.len());
            self.connect_somehow(router);
            return;
        }
        if living.is_empty() {
            return;
        }
        let line = living[self.rng.random_range(0..living.len())];
        match self.rng.random_range(0..200) {
            0 => self.disconnect(line),
            1 => self.with(line, |client, scope| client.close(scope)),
            2..5 => {
                let until = self.at + Duration::from_millis(self.rng.random_range(1..3000));
                self.lines[line].down.stall(until);
            }
            5..7 => {
                let until = self.at + Duration::from_millis(self.rng.random_range(1..1000));
                self.lines[line].up.stall(until);
            }
            _ => self.with(line, act_as_client),
        }
    }

    pub(super) fn connect_somehow(&mut self, router: usize) {
        let workers = self.routers[router].hubs.len();
        let rng = &mut self.rng;
        let hub = rng.random_range(0..workers);
        let like = Config {
            max_frame_size: [512, 1000, 16_384][rng.random_range(0..3)],
            incoming_window: [1, 2, 8, 100][rng.random_range(0..4)],
            initial_id: u32::MAX
                .wrapping_add(rng.random_range(0..20))
                .wrapping_sub(10),
            ..(*self.settings.endpoint).clone()
        };
        let manners = [Manner::random(rng), Manner::random(rng)];
        let config = client_config(like, rng.random());
        let sessions = rng.random_range(1..=2);
        let lazy = rng.random_bool(0.3);
        let habit = match self.settings.endpoint.incoming_window {
            ROOMY.. => Habit::Any,
            _ if rng.random() => Habit::OneSender,
            _ => Habit::SingleFrames,
        };
        let line = self.connect(router, hub, config, manners, sessions);
        self.with(line, |client, _| {
            client.lazy = lazy;
            client.habit = habit;
        });
    }

    /// Everybody gets what is due, and says what is due.
    pub(super) fn come_to_rest(&mut self) {
        self.ledger.say(|| "everybody comes to rest".to_owned());
        for line in &mut self.lines {
            line.up.resume();
            line.down.resume();
        }
        for _ in 0..ROUNDS_TO_REST {
            let mut busy = false;
            for line in 0..self.lines.len() {
                if self.lines[line].client.is_some() {
                    busy |= self.with(line, finish);
                }
            }
            self.pass(Duration::from_millis(200));
            if !busy && self.in_flight() == 0 {
                break;
            }
        }
        self.pass(Duration::from_secs(3));
        self.ledger.settle_accounts();
        self.check_rest();
    }

    /// Everybody leaves.
    pub(super) fn leave(&mut self) {
        self.ledger.say(|| "everybody leaves".to_owned());
        for line in 0..self.lines.len() {
            if self.lines[line].client.is_none() {
                continue;
            }
            match self.rng.random_range(0..4) {
                0 => self.disconnect(line),
                1 => self.with(line, detach_all),
                _ => {}
            }
        }
        self.pass(Duration::from_millis(100));
        for line in 0..self.lines.len() {
            if self.lines[line].client.is_some() {
                self.with(line, |client, scope| client.close(scope));
            }
        }
        self.pass(Duration::from_secs(2));
    }
}

/// A client does something with its links.
fn act_as_client(client: &mut Client, scope: &mut Scope<'_>) {
    let senders = client.attached_links(Role::Sender);
    let receivers = client.attached_links(Role::Receiver);
    if senders.len() + receivers.len() < 2 {
        return attach(client, scope);
    }
    match scope.rng.random_range(0..100) {
        0..5 => attach(client, scope),
        5 => end_session(client, scope),
        6..8 => {
            if let Some(token) = pick(scope.rng, &[senders, receivers].concat()) {
                let closed = scope.rng.random();
                client.detach(scope, token, closed);
            }
        }
        8..12 => client.release(),
        12..55 => {
            if let Some(token) = pick(scope.rng, &senders) {
                act_as_sender(client, scope, token);
            }
        }
        _ => {
            if let Some(token) = pick(scope.rng, &receivers) {
                act_as_receiver(client, scope, token);
            }
        }
    }
}

fn attach(client: &mut Client, scope: &mut Scope<'_>) {
    if client.links.len() > MAX_LINKS {
        return;
    }
    let session = client.sessions[scope.rng.random_range(0..client.sessions.len())];
    let address = AddressNo(scope.rng.random_range(0..ADDRESSES.len()));
    let anonymous = scope.rng.random_bool(0.2);
    let mut wish = match scope.rng.random_bool(0.5) {
        true if anonymous => LinkWish::sender(None),
        true => LinkWish::sender(Some(address)),
        false => LinkWish::receiver(address),
    };
    if client.habit == Habit::OneSender && client.has_sender(session) {
        wish = LinkWish::receiver(address);
    }
    let treatment = scope.ledger.addresses[address.0].treatment;
    wish.to_be_refused = wish.address.is_some() && treatment == Treatment::Unavailable;
    // Between routers, anybody may be answered by an address of its own.
    if scope.ledger.turmoil.is_some() && wish.role == Role::Receiver && scope.rng.random_bool(0.2) {
        wish = LinkWish::dynamic_receiver();
    }
    let wish = wish.varied(scope.rng);
    let number = client.attach(scope, session, &wish);
    // A receiver need not wait for the router's answer to grant credit.
    if wish.role == Role::Receiver && !wish.to_be_refused && scope.rng.random_bool(0.7) {
        let token = client.token(number).expect("it has just been made");
        let credit = scope.rng.random_range(1..20);
        let (id, receiver, endpoint) = client.receiving(token);
        receiver.grant(endpoint, id, credit);
    }
}

fn end_session(client: &mut Client, scope: &mut Scope<'_>) {
    if scope.rng.random_bool(0.3) {
        let session = client.sessions[scope.rng.random_range(0..client.sessions.len())];
        client.end(scope, session);
        client.begin();
    }
}

pub(super) fn act_as_sender(client: &mut Client, scope: &mut Scope<'_>, token: usize) {
    let (session, habit) = (client.links[token].session, client.habit);
    let (number, id, sender, endpoint) = client.sending(token);
    sender.give_back_credit(endpoint, id);
    if sender.is_sending() {
        match scope.rng.random_range(0..10) {
            0 => sender.abort(scope, id, endpoint),
            1..3 => {}
            _ => sender.proceed(scope, id, endpoint),
        }
        return;
    }
    if scope.rng.random_bool(0.02) {
        return sender.forsake(scope, session, endpoint);
    }
    for _ in 0..scope.rng.random_range(1..5) {
        let to = match sender.address {
            Some(address) => address,
            None => AddressNo(scope.rng.random_range(0..scope.ledger.addresses.len())),
        };
        let mut shape = Shape::random(scope.rng);
        if sender.address.is_none() {
            shape.to = Some(scope.ledger.addresses[to.0].name.clone());
        }
        if habit == Habit::SingleFrames {
            shape.pieces = 1;
            shape.filler %= 200;
        }
        sender.start(scope, (number, id), endpoint, to, &shape);
    }
}

pub(super) fn act_as_receiver(client: &mut Client, scope: &mut Scope<'_>, token: usize) {
    let (id, receiver, endpoint) = client.receiving(token);
    match scope.rng.random_range(0..20) {
        0 => receiver.drain(endpoint, id),
        1 => endpoint.set_credit(id, 0),
        2..8 => {
            let credit = scope.rng.random_range(1..30);
            receiver.grant(endpoint, id, credit);
        }
        _ => {
            for _ in 0..scope.rng.random_range(1..6) {
                if receiver.unsettled() > 0 {
                    let at = scope.rng.random_range(0..receiver.unsettled());
                    let (state, settled) = (random_outcome(scope.rng), scope.rng.random_bool(0.8));
                    receiver.settle(scope, endpoint, at, state, settled);
                }
            }
        }
    }
}

/// Does all that is left to do; true if that was anything.
fn finish(client: &mut Client, scope: &mut Scope<'_>) -> bool {
    let mut busy = !client.is_open();
    client.lazy = false;
    client.release();
    for token in client.attached_links(Role::Sender) {
        let (_, id, sender, endpoint) = client.sending(token);
        sender.give_back_credit(endpoint, id);
        for _ in 0..10 {
            sender.proceed(scope, id, endpoint);
        }
        busy |= sender.is_sending() || sender.unsettled() > 0;
    }
    for token in client.attached_links(Role::Receiver) {
        let (id, receiver, endpoint) = client.receiving(token);
        while receiver.unsettled() > 0 {
            receiver.settle(scope, endpoint, 0, DeliveryState::Accepted, true);
            busy = true;
        }
        if endpoint.credit(id) < 1000 {
            receiver.grant(endpoint, id, 1000);
        }
    }
    busy
}

fn detach_all(client: &mut Client, scope: &mut Scope<'_>) {
    for role in [Role::Sender, Role::Receiver] {
        for token in client.attached_links(role) {
            client.detach(scope, token, true);
        }
    }
}

pub(super) fn pick(rng: &mut StdRng, tokens: &[usize]) -> Option<usize> {
    (!tokens.is_empty()).then(|| tokens[rng.random_range(0..tokens.len())])
}

/// A window that no session fills.
const ROOMY: u32 = 2048;
const STEPS: usize = 150;
const MAX_CLIENTS: usize = 6;
const MAX_LINKS: usize = 12;
const ROUNDS_TO_REST: usize = 200;
