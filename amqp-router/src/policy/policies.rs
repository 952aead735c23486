//! All vhosts of a router, and the connections that they have let in.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::grant::{DenialCounts, Grant};
use super::vhost::Vhost;
use crate::control::pattern::{self, PatternTree};

/// The `policy` entity.
#[derive(Clone, Debug)]
pub(crate) struct PolicySettings {
    pub(crate) max_connections: usize,
    /// Bytes; `None` is any.
    pub(crate) max_message_size: Option<u64>,
    pub(crate) enable_vhost_name_patterns: bool,
    /// The vhost of peers that name none that there is; empty: such peers are turned away.
    pub(crate) default_vhost: String,
}

/// Who opens a connection.
#[derive(Clone, Debug)]
pub(crate) struct Opening<'a> {
    /// The number that management shows.
    pub(crate) connection: u64,
    pub(crate) user: &'a str,
    pub(crate) host: IpAddr,
    /// The listener's `policyVhost`, or what the peer's open says.
    pub(crate) vhost: &'a str,
    /// The subject and alternative names of its certificate.
    pub(crate) certificate: &'a [String],
    /// The id of a peer that is a router.
    pub(crate) neighbor: Option<&'a str>,
}

/// Why a connection may not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Denial(pub(crate) String);

/// The statistics of the `policy` entity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PolicyCounts {
    pub(crate) processed: u64,
    pub(crate) denied: u64,
    pub(crate) current: u64,
    pub(crate) links_denied: u64,
    pub(crate) message_sizes_denied: u64,
    pub(crate) message_targets_denied: u64,
    pub(crate) message_users_denied: u64,
    pub(crate) announcements_denied: u64,
    pub(crate) total_denials: u64,
    /// Of those denied, connections that were one too many.
    pub(crate) over_limit: u64,
    /// Connections that were turned away by the rules of a vhost, or for lack of a vhost.
    pub(crate) opens_denied: u64,
}

/// One `vhostStats` entity.
#[derive(Clone, Debug)]
pub(crate) struct VhostStats {
    pub(crate) hostname: String,
    pub(crate) approved: u64,
    pub(crate) denied: u64,
    pub(crate) current: usize,
    pub(crate) per_user: BTreeMap<String, Vec<u64>>,
    pub(crate) per_host: BTreeMap<String, Vec<u64>>,
    pub(crate) counts: Arc<DenialCounts>,
}

/// Every rule, and who is connected under which.
#[derive(Debug)]
pub(crate) struct Policies {
    settings: PolicySettings,
    vhosts: BTreeMap<String, State>,
    /// Names and aliases as patterns, if they are.
    patterns: PatternTree<String>,
    admitted: HashMap<u64, Admitted>,
    counts: PolicyCounts,
}

#[derive(Debug)]
struct State {
    /// `None` once its entity is deleted: its statistics remain.
    rules: Option<Vhost>,
    approved: u64,
    denied: u64,
    counts: Arc<DenialCounts>,
}

#[derive(Debug)]
struct Admitted {
    vhost: String,
    user: String,
    host: IpAddr,
}

impl Policies {
    pub(crate) fn new(settings: PolicySettings) -> Self {
        Self {
            settings,
            vhosts: BTreeMap::new(),
            patterns: PatternTree::default(),
            admitted: HashMap::new(),
            counts: PolicyCounts::default(),
        }
    }

    /// Goes by other settings from now on.
    pub(crate) fn follow(&mut self, settings: PolicySettings) {
        self.settings = settings;
        self.file_patterns();
    }

    /// Bytes that a message may have, where no vhost says otherwise; `None` is any.
    pub(crate) fn largest_message(&self) -> Option<u64> {
        self.settings.max_message_size
    }

    /// The rules of all vhosts.
    pub(crate) fn rules(&self) -> impl Iterator<Item = &Vhost> {
        self.vhosts
            .values()
            .filter_map(|state| state.rules.as_ref())
    }

    /// A socket was accepted. False: there are too many, and it is to be closed.
    pub(crate) fn socket_opened(&mut self) -> bool {
        self.counts.processed += 1;
        if self.counts.current >= self.settings.max_connections as u64 {
            self.counts.denied += 1;
            self.counts.over_limit += 1;
            self.counts.total_denials += 1;
            return false;
        }
        self.counts.current += 1;
        true
    }

    /// A socket that [`socket_opened`](Self::socket_opened) let in is closed.
    pub(crate) fn socket_closed(&mut self) {
        self.counts.current = self.counts.current.saturating_sub(1);
    }

    /// Files the rules of a vhost, in place of those that it had.
    ///
    /// # Errors
    /// Its hostname or an alias is another vhost's, or a pattern that one of its own or another's
    /// is already.
    pub(crate) fn set(&mut self, vhost: Vhost) -> Result<(), String> {
        let mut taken: HashMap<String, (&str, &str)> = HashMap::new();
        for rules in self
            .rules()
            .filter(|other| other.hostname != vhost.hostname)
        {
            for name in rules.names() {
                taken.insert(self.compared(name), (name, &rules.hostname));
            }
        }
        for (number, name) in vhost.names().enumerate() {
            let of = (name, &*vhost.hostname);
            if let Some(other) = taken.insert(self.compared(name), of) {
                let attribute = if number == 0 { "hostname" } else { "aliases" };
                return Err(conflict(attribute, name, other));
            }
        }
        let state = self
            .vhosts
            .entry(vhost.hostname.clone())
            .or_insert_with(|| State {
                rules: None,
                approved: 0,
                denied: 0,
                counts: Arc::default(),
            });
        state.rules = Some(vhost);
        self.file_patterns();
        Ok(())
    }

    /// Takes the rules of a vhost away. Connections that it has let in stay.
    pub(crate) fn remove(&mut self, hostname: &str) {
        if let Some(state) = self.vhosts.get_mut(hostname) {
            state.rules = None;
        }
        self.file_patterns();
    }

    /// Decides on a connection whose peer has opened.
    ///
    /// # Errors
    /// It may not be; the reason is for the log.
    pub(crate) fn open(&mut self, peer: &Opening<'_>) -> Result<Arc<Grant>, Denial> {
        let Some(name) = self.resolve(peer.vhost) else {
            self.counts.opens_denied += 1;
            self.counts.total_denials += 1;
            return Err(Denial("No policy defined for vhost".into()));
        };
        let decision = self.decide(&name, peer);
        let state = self.vhosts.get_mut(&name).expect("resolve has found it");
        match decision {
            Ok(grant) => {
                state.approved += 1;
                let admitted = Admitted {
                    vhost: name,
                    user: peer.user.to_owned(),
                    host: peer.host,
                };
                self.admitted.insert(peer.connection, admitted);
                Ok(Arc::new(grant))
            }
            Err(denial) => {
                state.denied += 1;
                self.counts.denied += 1;
                self.counts.opens_denied += 1;
                self.counts.total_denials += 1;
                Err(denial)
            }
        }
    }

    /// What an outgoing connection may do whose connector names `vhost`.
    ///
    /// # Errors
    /// There is no such vhost, or it has no settings for connectors.
    pub(crate) fn connector(&self, vhost: &str) -> Result<Arc<Grant>, Denial> {
        let state = self.resolve(vhost).and_then(|name| self.vhosts.get(&name));
        let rules = state.and_then(|state| Some((state, state.rules.as_ref()?)));
        let group = rules.and_then(|(state, rules)| Some((state, rules.connector_group()?)));
        let Some((state, group)) = group else {
            let text = format!("vhost '{vhost}' has no group '$connector'");
            return Err(Denial(text));
        };
        Ok(Arc::new(Grant {
            user: String::new(),
            remote_host: String::new(),
            vhost: vhost.to_owned(),
            neighbor: None,
            group: Arc::clone(group),
            max_message_size: self.max_message_size(group.max_message_size),
            counts: Arc::clone(&state.counts),
        }))
    }

    /// The name by which a connection has lost its right to be, in the vhost that has let it in. A
    /// router that none has let in, since routers need none, is under the one that it names, or the
    /// default one.
    pub(crate) fn revoked(&self, peer: &Opening<'_>) -> Option<String> {
        let admitted = self.admitted.get(&peer.connection);
        let vhost = match admitted {
            Some(admitted) => admitted.vhost.clone(),
            None => peer.neighbor.and_then(|_| self.resolve(peer.vhost))?,
        };
        let rules = self.vhosts.get(&vhost)?.rules.as_ref()?;
        rules.revokes(peer).map(str::to_owned)
    }

    /// A router that no vhost had to let in was turned away.
    pub(crate) fn count_turned_away(&mut self) {
        self.counts.denied += 1;
        self.counts.opens_denied += 1;
        self.counts.total_denials += 1;
    }

    /// A connection is over.
    pub(crate) fn closed(&mut self, connection: u64) {
        self.admitted.remove(&connection);
    }

    /// A link was denied.
    pub(crate) fn count_link_denied(&mut self) {
        self.counts.links_denied += 1;
        self.counts.total_denials += 1;
    }

    pub(crate) fn counts(&self) -> PolicyCounts {
        let sum = |count: fn(&DenialCounts) -> &AtomicU64| -> u64 {
            let counts = self.vhosts.values().map(|state| count(&state.counts));
            counts.map(|count| count.load(Ordering::Relaxed)).sum()
        };
        let sizes = sum(|counts| &counts.message_sizes);
        PolicyCounts {
            message_sizes_denied: sizes,
            message_targets_denied: sum(|counts| &counts.message_targets),
            message_users_denied: sum(|counts| &counts.message_users),
            announcements_denied: sum(|counts| &counts.announcements),
            total_denials: self.counts.total_denials + sizes,
            ..self.counts
        }
    }

    pub(crate) fn stats(&self) -> impl Iterator<Item = VhostStats> {
        self.vhosts.iter().map(|(hostname, state)| {
            let mut stats = VhostStats {
                hostname: hostname.clone(),
                approved: state.approved,
                denied: state.denied,
                current: 0,
                per_user: BTreeMap::new(),
                per_host: BTreeMap::new(),
                counts: Arc::clone(&state.counts),
            };
            for (connection, admitted) in &self.admitted {
                if admitted.vhost == *hostname {
                    stats.current += 1;
                    let (user, host) = (admitted.user.clone(), admitted.host.to_string());
                    stats.per_user.entry(user).or_default().push(*connection);
                    stats.per_host.entry(host).or_default().push(*connection);
                }
            }
            stats
        })
    }

    fn decide(&self, name: &str, peer: &Opening<'_>) -> Result<Grant, Denial> {
        let state = &self.vhosts[name];
        let deny = |text: &str| Err(Denial(text.to_owned()));
        let Some(rules) = &state.rules else {
            return deny("No policy defined for vhost");
        };
        if let Some(revoked) = rules.revokes(peer) {
            return Err(Denial(format!("'{revoked}' is revoked")));
        }
        let Some((_, group)) = rules.group(peer) else {
            return deny("User is not in a user group and unknown users are denied");
        };
        if !group
            .remote_hosts
            .iter()
            .any(|hosts| hosts.contain(peer.host))
        {
            return deny("User is not allowed to connect from this network host");
        }
        let count = |is: &dyn Fn(&Admitted) -> bool| {
            let admitted = self.admitted.values();
            admitted
                .filter(|other| other.vhost == name && is(other))
                .count()
        };
        if count(&|_| true) >= rules.max_connections {
            return deny("Connection denied by application connection limit");
        }
        let per_user = group.max_connections_per_user;
        if count(&|other| other.user == peer.user)
            >= per_user.unwrap_or(rules.max_connections_per_user)
        {
            return deny("Connection denied by application per user limit");
        }
        let per_host = group.max_connections_per_host;
        if count(&|other| other.host == peer.host)
            >= per_host.unwrap_or(rules.max_connections_per_host)
        {
            return deny("Connection denied by application per host limit");
        }
        Ok(Grant {
            user: peer.user.to_owned(),
            remote_host: peer.host.to_string(),
            vhost: peer.vhost.to_owned(),
            neighbor: peer.neighbor.map(str::to_owned),
            group: Arc::clone(group),
            max_message_size: self.max_message_size(group.max_message_size),
            counts: Arc::clone(&state.counts),
        })
    }

    /// A group's limit counts before the router's; 0 is none.
    fn max_message_size(&self, of_group: Option<u64>) -> Option<u64> {
        match of_group {
            Some(size) => (size > 0).then_some(size),
            None => self.settings.max_message_size,
        }
    }

    /// The vhost whose rules count for a peer that asks for `wanted`.
    pub(crate) fn resolve(&self, wanted: &str) -> Option<String> {
        let default = &self.settings.default_vhost;
        self.find(wanted)
            .or_else(|| self.has_rules(default).then(|| default.clone()))
    }

    /// The vhost that `wanted` means by its own name, an alias or a pattern.
    pub(crate) fn find(&self, wanted: &str) -> Option<String> {
        if self.settings.enable_vhost_name_patterns
            && let Some(name) = self.patterns.get(wanted)
        {
            return Some(name.clone());
        }
        if self.has_rules(wanted) {
            return Some(wanted.to_owned());
        }
        let alias = self.vhosts.iter().find(|(_, state)| {
            let rules = state.rules.as_ref();
            rules.is_some_and(|rules| rules.aliases.iter().any(|alias| alias == wanted))
        });
        alias.map(|(name, _)| name.clone())
    }

    fn has_rules(&self, name: &str) -> bool {
        let state = self.vhosts.get(name);
        state.is_some_and(|state| state.rules.is_some())
    }

    fn file_patterns(&mut self) {
        self.patterns = PatternTree::default();
        for (name, state) in &self.vhosts {
            for pattern in state.rules.iter().flat_map(Vhost::names) {
                self.patterns.insert(pattern, name.clone());
            }
        }
    }

    /// A hostname or an alias as it must be unique.
    fn compared(&self, name: &str) -> String {
        match self.settings.enable_vhost_name_patterns {
            true => pattern::normal(name),
            false => name.to_owned(),
        }
    }
}

/// That a vhost cannot have a name because of another: which, and whose it is.
fn conflict(attribute: &str, name: &str, (other, vhost): (&str, &str)) -> String {
    match name == other {
        true => format!(
            "the attributes 'hostname' and 'aliases' must not name what vhost '{vhost}' has: \
             '{name}' in '{attribute}'"
        ),
        false => format!(
            "the attribute '{attribute}' has '{name}', whose pattern conflicts with '{other}' of \
             vhost '{vhost}', which matches the same; give it another, or leave one out"
        ),
    }
}
