//! What has to happen for a running router to become what a new configuration says: the difference
//! between two files, as steps in an order in which each can be taken.
//!
//! What was created and deleted through management in between is nobody's business here: only what
//! the files say differently counts.

use std::collections::{BTreeSet, HashMap, HashSet};

use crate::management::config::Config;
use crate::management::entities::special;
use crate::management::entity::Entity;
use crate::management::schema::Schema;

/// One thing to do.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// Have an entity at work be something else, without a break.
    Update(Entity),
    Stop(Entity),
    /// Put an entity to work; `instead_of` one that was stopped for it.
    Start {
        entity: Entity,
        instead_of: Option<Entity>,
    },
}

/// The way from one configuration to another.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) steps: Vec<Step>,
    pub(crate) added: Vec<Entity>,
    pub(crate) changed: Vec<Entity>,
    pub(crate) removed: Vec<Entity>,
    /// What only a new start changes, a sentence each.
    pub(crate) not_now: Vec<String>,
    /// The new configuration without that.
    reached: Config,
}

/// The way from what the file said, `old`, to what it says, `new`, while the router works with
/// `live`.
pub(crate) fn plan(old: &Config, new: &Config, live: &Config) -> Plan {
    let mut plan = Plan {
        steps: Vec::new(),
        added: Vec::new(),
        changed: Vec::new(),
        removed: Vec::new(),
        not_now: Vec::new(),
        reached: new.clone(),
    };
    let mut before: HashMap<_, &Entity> = old.entities.iter().map(|e| (key(e), e)).collect();
    for entity in new.entities.iter() {
        match before.remove(&key(entity)) {
            None if entity.schema().name == "site" => {
                plan.not_now.push(at_next_start(entity, &[]));
                plan.reached.remove(entity);
            }
            None => plan.add(entity),
            Some(was) => plan.compare(was, entity, new),
        }
    }
    let gone: BTreeSet<_> = before.into_keys().collect();
    for was in old.entities.iter().filter(|e| gone.contains(&key(e))) {
        if was.schema().name == "site" {
            plan.not_now.push(at_next_start(was, &[]));
            plan.reached.add(was.clone());
        } else {
            plan.steps.push(Step::Stop(was.clone()));
            plan.removed.push(was.clone());
        }
    }
    plan.carry_addresses_along(live);
    plan.steps.sort_by_key(Step::rank);
    plan
}

impl Plan {
    /// What the next configuration is to be compared with, if these entities have `failed` to
    /// become what they should be.
    pub(crate) fn reached(self, old: &Config, failed: &[Entity]) -> Config {
        let mut reached = self.reached;
        let failed: HashSet<_> = failed.iter().map(key).collect();
        let of = |config: &Config| -> Vec<Entity> {
            let entities = config.entities.iter();
            entities
                .filter(|e| failed.contains(&key(e)))
                .cloned()
                .collect()
        };
        for entity in of(&reached) {
            reached.remove(&entity);
        }
        for entity in of(old) {
            reached.add(entity);
        }
        reached
    }

    fn add(&mut self, entity: &Entity) {
        self.steps.push(match entity.schema().name {
            "log" => Step::Update(entity.clone()),
            _ => Step::Start {
                entity: entity.clone(),
                instead_of: None,
            },
        });
        self.added.push(entity.clone());
    }

    fn compare(&mut self, was: &Entity, is: &Entity, new: &Config) {
        let changed = changed(was, is, new.generated_id);
        if changed.is_empty() {
            return;
        }
        let schema = is.schema();
        if is_of_the_start(schema) {
            let (now, later): (Vec<&str>, _) = changed
                .into_iter()
                .partition(|attribute| changes_now(schema.name, attribute));
            let mut becomes = was.clone();
            for attribute in &now {
                becomes.set(attribute, is.get(attribute).clone());
            }
            self.reached.remove(is);
            self.reached.add(becomes.clone());
            if !later.is_empty() {
                self.not_now.push(at_next_start(is, &later));
            }
            if !now.is_empty() {
                self.steps.push(Step::Update(becomes.clone()));
                self.changed.push(becomes);
            }
            return;
        }
        let in_place = matches!(schema.name, "sslProfile" | "proxyProfile" | "vhost" | "log")
            || changed.iter().all(|name| {
                let position = schema.position(name);
                position.is_some_and(|position| schema.attributes[position].update)
            });
        if in_place {
            self.steps.push(Step::Update(is.clone()));
        } else {
            self.steps.push(Step::Stop(was.clone()));
            self.steps.push(Step::Start {
                entity: is.clone(),
                instead_of: Some(was.clone()),
            });
        }
        self.changed.push(is.clone());
    }

    /// A listener that has addresses of its own does not go without them: those that stay are
    /// stopped before it and start after it.
    fn carry_addresses_along(&mut self, live: &Config) {
        let stopped = |step: &Step| match step {
            Step::Stop(entity) => Some(key(entity)),
            _ => None,
        };
        let mut stopped: HashSet<_> = self.steps.iter().filter_map(stopped).collect();
        for listener in &self.changed {
            if listener.schema().name != "tcpListener" || !stopped.contains(&key(listener)) {
                continue;
            }
            for address in live.entities.referring("listener", listener.name()) {
                if stopped.insert(key(address)) {
                    self.steps.push(Step::Stop(address.clone()));
                    self.steps.push(Step::Start {
                        entity: address.clone(),
                        instead_of: None,
                    });
                }
            }
        }
    }
}

impl Step {
    /// Profiles come first and go last, as others refer to them; what holds ports and addresses
    /// lets go before others take them.
    fn rank(&self) -> u8 {
        let kind = |entity: &Entity| entity.schema().name;
        match self {
            // They may name profiles that are new, and take ports that others have had.
            Self::Update(entity) if matches!(kind(entity), "tcpListener" | "tcpConnector") => 5,
            Self::Update(_) => 0,
            Self::Start { entity, .. } => match kind(entity) {
                "sslProfile" | "proxyProfile" => 0,
                "router.config.address" | "router.config.autoLink" | "vhost" => 3,
                "connector" | "listener" => 4,
                "tcpListener" | "tcpConnector" => 5,
                _ => 6,
            },
            Self::Stop(entity) => match kind(entity) {
                "sslProfile" | "proxyProfile" => 7,
                "listenerAddress" => 1,
                _ => 2,
            },
        }
    }
}

/// What tells that two entities of two files are the same one.
pub(crate) fn key(entity: &Entity) -> (&'static str, String) {
    let schema = entity.schema();
    let name = match schema.name {
        _ if schema.singleton => String::new(),
        // Its name and identity are a number, unless it has a name.
        "site" => String::new(),
        "log" => entity.text("module").unwrap_or_default().to_owned(),
        "router.config.autoLink" if entity.name() == entity.identity() => {
            let of = |attribute| entity.text(attribute).unwrap_or_default();
            [
                "direction",
                "address",
                "externalAddress",
                "containerId",
                "connection",
            ]
            .map(of)
            .join(" ")
        }
        _ => special(entity).unwrap_or_else(|| entity.name().to_owned()),
    };
    (schema.name, name)
}

/// The attributes that two files give different values.
fn changed(was: &Entity, is: &Entity, generated_id: bool) -> Vec<&'static str> {
    // An entity without a name is called by its identity, which may be a number.
    let name = |entity: &Entity| {
        let name = entity.name();
        (name != entity.identity()).then(|| name.to_owned())
    };
    let differs = |attribute: &&str| match *attribute {
        "id" if generated_id => false,
        "name" => name(was) != name(is),
        attribute => was.get(attribute) != is.get(attribute),
    };
    let attributes = is.schema().attributes.iter();
    attributes
        .filter(|attribute| attribute.create)
        .map(|attribute| attribute.name)
        .filter(differs)
        .collect()
}

fn at_next_start(entity: &Entity, attributes: &[&str]) -> String {
    let what = match attributes {
        [] => "the change".to_owned(),
        [one] => format!("the change of the attribute '{one}'"),
        several => format!("the change of the attributes '{}'", several.join("', '")),
    };
    format!("{}: {what} takes effect at the next start", entity.label())
}

/// Whether an entity is there from the start, and changes only with a new one, but for what
/// [changes now](changes_now).
pub(crate) fn is_of_the_start(schema: &Schema) -> bool {
    schema.singleton || schema.name == "site"
}

/// Whether a reload changes an attribute of an entity that is there from the start.
pub(crate) fn changes_now(entity: &str, attribute: &str) -> bool {
    NOW.contains(&(entity, attribute))
}

/// What can change of entities that there is one of.
const NOW: &[(&str, &str)] = &[
    ("router", "dropTcpConnections"),
    ("router", "metadata"),
    ("network", "networkId"),
    ("policy", "maxConnections"),
    ("policy", "maxConnectionsPerHost"),
    ("policy", "maxMessageSize"),
    ("policy", "defaultVhost"),
    ("policy", "enableVhostPolicy"),
    ("policy", "enableVhostNamePatterns"),
    // The vhosts in it are part of the configuration.
    ("policy", "policyDir"),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        Config::parse("test.conf", text, || "abc".into()).expect("valid")
    }

    fn steps(plan: &Plan) -> Vec<String> {
        let step = |step: &Step| match step {
            Step::Update(entity) => format!("update {}", entity.label()),
            Step::Stop(entity) => format!("stop {}", entity.label()),
            Step::Start { entity, instead_of } => match instead_of {
                Some(_) => format!("restart {}", entity.label()),
                None => format!("start {}", entity.label()),
            },
        };
        plan.steps.iter().map(step).collect()
    }

    fn way(old: &str, new: &str) -> Plan {
        let (old, new) = (config(old), config(new));
        plan(&old, &new, &old)
    }

    const LISTENER: &str = "listener {\n name: l\n port: 1\n}\n";

    #[test]
    fn the_same_file_asks_for_nothing() {
        let text = "address {\n prefix: a\n}\naddress {\n prefix: b\n name: B\n}\n\
                    log {\n module: ROUTER\n enable: debug+\n}\n\
                    site {\n name: s\n}\nsslProfile {\n name: p\n certFile: f\n}\n";
        let plan = way(
            &format!("{LISTENER}{text}"),
            // In another order, and with comments.
            &format!("# now\n{text}{LISTENER}"),
        );
        assert_eq!(steps(&plan), Vec::<String>::new());
        assert!(plan.not_now.is_empty(), "{:?}", plan.not_now);
    }

    #[test]
    fn what_is_new_starts_what_is_gone_stops_what_differs_does_both() {
        let plan = way(
            "listener {\n name: a\n port: 1\n}\nlistener {\n name: b\n port: 2\n}\n",
            "listener {\n name: b\n port: 3\n}\nlistener {\n name: c\n port: 1\n}\n",
        );
        assert_eq!(
            steps(&plan),
            [
                "stop listener 'b'",
                "stop listener 'a'",
                "restart listener 'b'",
                "start listener 'c'"
            ]
        );
        let labels = |list: &[Entity]| list.iter().map(Entity::label).collect::<Vec<_>>();
        assert_eq!(labels(&plan.added), ["listener 'c'"]);
        assert_eq!(labels(&plan.changed), ["listener 'b'"]);
        assert_eq!(labels(&plan.removed), ["listener 'a'"]);
    }

    #[test]
    fn profiles_come_before_and_go_after_who_names_them() {
        let plan = way(
            "sslProfile {\n name: old\n}\nsslProfile {\n name: p\n certFile: 1\n}\n\
             listener {\n name: l\n port: 1\n sslProfile: old\n}\n",
            "listener {\n name: l\n port: 1\n sslProfile: new\n}\n\
             sslProfile {\n name: p\n certFile: 2\n}\nsslProfile {\n name: new\n}\n",
        );
        assert_eq!(
            steps(&plan),
            [
                "update sslProfile 'p'",
                "start sslProfile 'new'",
                "stop listener 'l'",
                "restart listener 'l'",
                "stop sslProfile 'old'"
            ]
        );
    }

    #[test]
    fn addresses_are_told_apart_by_what_they_match() {
        let plan = way(
            "address {\n prefix: a\n}\naddress {\n prefix: b\n distribution: closest\n}\n",
            "address {\n pattern: b/#\n distribution: multicast\n}\naddress {\n prefix: a\n}\n",
        );
        assert_eq!(steps(&plan), ["stop address '1'", "restart address '0'"]);
    }

    #[test]
    fn a_listener_takes_its_addresses_along() {
        let of = |backlog: &str| {
            format!(
                "tcpListener {{\n name: t\n port: 1\n backlog: {backlog}\n multiAddressStrategy: priority\n}}\n\
                 listenerAddress {{\n name: one\n listener: t\n address: x\n value: 1\n}}\n"
            )
        };
        let (old, new) = (config(&of("1")), config(&of("2")));
        let mut live = old.clone();
        let mut created = live.of("listenerAddress").next().expect("one").clone();
        live.remove(&created);
        for (attribute, value) in [("name", "two"), ("identity", "two")] {
            created.set(attribute, value);
        }
        live.add(created);
        assert_eq!(
            steps(&plan(&old, &new, &live)),
            [
                "stop listenerAddress 'two'",
                "stop tcpListener 't'",
                "restart tcpListener 't'",
                "start listenerAddress 'two'"
            ]
        );
    }

    #[test]
    fn tcp_services_change_without_a_break_once_their_profiles_are_there() {
        let of = |more: &str, attribute: &str| {
            format!("tcpListener {{\n name: t\n port: 1\n address: x\n {attribute}\n}}\n{more}")
        };
        let profile = "sslProfile {\n name: p\n}\n";
        let way = way(&of("", ""), &of(profile, "sslProfile: p"));
        let steps = steps(&way);
        assert_eq!(steps, ["start sslProfile 'p'", "update tcpListener 't'"]);
    }

    #[test]
    fn what_cannot_change_now_is_named_each_time() {
        let old = config("router {\n id: R\n workerThreads: 1\n}\n");
        let new = config(
            "router {\n id: R\n workerThreads: 2\n dropTcpConnections: no\n}\n\
             site {\n name: s\n}\n",
        );
        let first = plan(&old, &new, &old);
        let later = [
            "router: the change of the attribute 'workerThreads' takes effect at the next start",
            "site 's': the change takes effect at the next start",
        ];
        assert_eq!(first.not_now, later);
        assert_eq!(steps(&first), ["update router"]);
        let reached = first.reached(&old, &[]);
        assert!(!reached.singleton("router").flag("dropTcpConnections"));
        let again = plan(&reached, &new, &old);
        assert_eq!(again.not_now, later);
        assert_eq!(steps(&again), Vec::<String>::new());
    }

    #[test]
    fn policy_changes_without_a_break() {
        let schema = crate::management::Schema::find("policy").expect("known");
        let settable = schema
            .attributes
            .iter()
            .filter(|attribute| attribute.create);
        let of_all = ["name", "identity", "type"];
        for attribute in settable.filter(|attribute| !of_all.contains(&attribute.name)) {
            assert!(
                NOW.contains(&("policy", attribute.name)),
                "{}",
                attribute.name
            );
        }
        let plan = way(
            LISTENER,
            &format!("{LISTENER}policy {{\n maxConnections: 5\n}}\n"),
        );
        assert_eq!(steps(&plan), ["update policy"]);
        assert!(plan.not_now.is_empty());
    }

    #[test]
    fn what_failed_is_tried_again() {
        let old = config("listener {\n name: a\n port: 1\n}\nlistener {\n name: b\n port: 2\n}\n");
        let new = config("listener {\n name: b\n port: 3\n}\nlistener {\n name: c\n port: 4\n}\n");
        let all = plan(&old, &new, &old);
        let wanted = steps(&all);
        assert_eq!(wanted.len(), 4);
        let failed: Vec<Entity> = old
            .of("listener")
            .chain(new.of("listener"))
            .cloned()
            .collect();
        let reached = all.reached(&old, &failed);
        let mut again = steps(&plan(&reached, &new, &old));
        again.sort_unstable();
        let mut sorted = wanted;
        sorted.sort_unstable();
        assert_eq!(again, sorted);
    }

    #[test]
    fn an_id_that_nobody_chose_stays() {
        let random = |text: &str, id: &'static str| {
            Config::parse("test.conf", text, || id.into()).expect("valid")
        };
        let (old, new) = (random(LISTENER, "abc"), random(LISTENER, "xyz"));
        let plan = plan(&old, &new, &old);
        assert!(plan.steps.is_empty() && plan.not_now.is_empty(), "{plan:?}");
    }

    #[test]
    fn the_log_is_set_and_reset_without_a_break() {
        let log = "log {\n module: ROUTER\n enable: debug+\n}\n";
        let both = way(LISTENER, &format!("{LISTENER}{log}"));
        assert_eq!(steps(&both), ["update log 'log/ROUTER'"]);
        let gone = way(&format!("{LISTENER}{log}"), LISTENER);
        assert_eq!(steps(&gone), ["stop log 'log/ROUTER'"]);
    }
}
