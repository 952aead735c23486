//! The entities of a configuration, in the order in which they came, and found by what is unique
//! about them or by whom they refer to without a look at the others.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::control::pattern;
use crate::management::entity::Entity;

/// A set of entities of all types.
#[derive(Clone, Debug, Default)]
pub(crate) struct Entities {
    rows: BTreeMap<u64, Entity>,
    next: u64,
    /// By type: which there are, and the number for the next one.
    kinds: HashMap<&'static str, Kind>,
    by_key: HashMap<Key, u64>,
    /// By what an attribute says of an entity that it names.
    by_reference: HashMap<(&'static str, String), BTreeSet<u64>>,
}

#[derive(Clone, Debug, Default)]
struct Kind {
    rows: BTreeSet<u64>,
    serial: usize,
}

/// What one entity of a type has alone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    kind: &'static str,
    what: Unique,
    value: String,
}

/// What must be unique among the entities of a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Unique {
    Name,
    Identity,
    /// Beyond these: the scope of an address, the host name of a vhost.
    Special,
}

impl Entities {
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Entity> {
        self.rows.values()
    }

    /// The entities of one type.
    pub(crate) fn of<'a>(&'a self, kind: &str) -> impl Iterator<Item = &'a Entity> + use<'a> {
        let kind = self.kinds.get(kind);
        kind.into_iter()
            .flat_map(|kind| kind.rows.iter())
            .map(|row| &self.rows[row])
    }

    pub(crate) fn find(&self, kind: &'static str, what: Unique, value: &str) -> Option<&Entity> {
        let value = value.to_owned();
        let row = self.by_key.get(&Key { kind, what, value })?;
        self.rows.get(row)
    }

    /// The entities whose attribute `attribute` names `name`.
    pub(crate) fn referring<'a>(
        &'a self,
        attribute: &'static str,
        name: &str,
    ) -> impl Iterator<Item = &'a Entity> + use<'a> {
        let rows = self.by_reference.get(&(attribute, name.to_owned()));
        rows.into_iter().flatten().map(|row| &self.rows[row])
    }

    /// The number for the next entity of a type whose entities are numbered; none is given twice.
    pub(crate) fn serial(&self, kind: &str) -> usize {
        self.kinds.get(kind).map_or(0, |kind| kind.serial)
    }

    /// Adds an entity that has its identity.
    pub(crate) fn add(&mut self, entity: Entity) {
        let row = self.next;
        self.next += 1;
        self.index(row, &entity);
        let kind = self.kinds.entry(entity.schema().name).or_default();
        kind.rows.insert(row);
        kind.serial += 1;
        self.rows.insert(row, entity);
    }

    /// Puts an entity in the place of the one with its identity, if there is one.
    pub(crate) fn replace(&mut self, entity: Entity) {
        let Some(row) = self.row(&entity) else { return };
        let old = self.rows.remove(&row).expect("it has just been found");
        self.unindex(row, &old);
        self.index(row, &entity);
        self.rows.insert(row, entity);
    }

    /// Removes the entity with the identity of this one.
    pub(crate) fn remove(&mut self, entity: &Entity) {
        let Some(row) = self.row(entity) else { return };
        let old = self.rows.remove(&row).expect("it has just been found");
        self.unindex(row, &old);
        if let Some(kind) = self.kinds.get_mut(old.schema().name) {
            kind.rows.remove(&row);
        }
    }

    fn row(&self, entity: &Entity) -> Option<u64> {
        let key = Key {
            kind: entity.schema().name,
            what: Unique::Identity,
            value: entity.identity().to_owned(),
        };
        self.by_key.get(&key).copied()
    }

    fn index(&mut self, row: u64, entity: &Entity) {
        for key in keys(entity) {
            self.by_key.entry(key).or_insert(row);
        }
        for reference in references(entity) {
            self.by_reference.entry(reference).or_default().insert(row);
        }
    }

    fn unindex(&mut self, row: u64, entity: &Entity) {
        for key in keys(entity) {
            if self.by_key.get(&key) == Some(&row) {
                self.by_key.remove(&key);
            }
        }
        for reference in references(entity) {
            if let Some(rows) = self.by_reference.get_mut(&reference) {
                rows.remove(&row);
                if rows.is_empty() {
                    self.by_reference.remove(&reference);
                }
            }
        }
    }
}

/// What an entity has that no other of its type may have, as it is compared.
pub(crate) fn special(entity: &Entity) -> Option<String> {
    match entity.schema().name {
        "vhost" => entity.text("hostname").map(str::to_owned),
        "router.config.address" => {
            let pattern = match entity.word("prefix") {
                Some(prefix) => format!("{}/#", prefix.trim_end_matches(['.', '/'])),
                None => entity.word("pattern")?.to_owned(),
            };
            Some(pattern::normal(&pattern))
        }
        _ => None,
    }
}

fn keys(entity: &Entity) -> impl Iterator<Item = Key> {
    let kind = entity.schema().name;
    let of = |what, value: &str| Key {
        kind,
        what,
        value: value.to_owned(),
    };
    let special = special(entity).map(|value| of(Unique::Special, &value));
    let name = of(Unique::Name, entity.name());
    let identity = of(Unique::Identity, entity.identity());
    [name, identity].into_iter().chain(special)
}

fn references(entity: &Entity) -> impl Iterator<Item = (&'static str, String)> {
    ["sslProfile", "proxyProfile", "listener"]
        .into_iter()
        .filter_map(|attribute| Some((attribute, entity.word(attribute)?.to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Value;
    use crate::management::schema::Schema;

    fn listener(name: &str, profile: &str) -> Entity {
        let attributes = [("name", name), ("port", name), ("sslProfile", profile)];
        let attributes = attributes.map(|(key, value)| (key.to_owned(), Value::from(value)));
        let schema = Schema::find("tcpListener").expect("known");
        let address = ("address".to_owned(), Value::from("a"));
        let mut entity = Entity::create(schema, attributes.into_iter().chain([address]));
        let entity = entity.as_mut().expect("valid");
        entity.identify(0);
        entity.clone()
    }

    #[test]
    fn each_is_found_until_it_is_removed() {
        let mut entities = Entities::default();
        for name in ["1", "2", "3"] {
            entities.add(listener(name, "p"));
        }
        let find = |entities: &Entities, name: &str| {
            let found = entities.find("tcpListener", Unique::Name, name);
            found.map(|entity| entity.identity().to_owned())
        };
        assert_eq!(find(&entities, "2").as_deref(), Some("tcpListener/:2:2"));
        entities.remove(&listener("2", "other"));
        assert_eq!(find(&entities, "2"), None);
        let left: Vec<&str> = entities.of("tcpListener").map(Entity::name).collect();
        assert_eq!(left, ["1", "3"]);
        assert_eq!(entities.iter().count(), 2);
        assert_eq!(entities.serial("tcpListener"), 3);
        assert_eq!(entities.serial("tcpConnector"), 0);
    }

    #[test]
    fn who_refers_to_whom_follows_changes() {
        let mut entities = Entities::default();
        entities.add(listener("1", "p"));
        entities.add(listener("2", "p"));
        let users = |entities: &Entities, profile: &str| -> Vec<String> {
            let users = entities.referring("sslProfile", profile);
            users.map(|entity| entity.name().to_owned()).collect()
        };
        assert_eq!(users(&entities, "p"), ["1", "2"]);
        entities.replace(listener("1", "q"));
        assert_eq!(users(&entities, "p"), ["2"]);
        assert_eq!(users(&entities, "q"), ["1"]);
        entities.remove(&listener("1", "q"));
        assert_eq!(users(&entities, "q"), Vec::<String>::new());
        assert_eq!(users(&entities, "r"), Vec::<String>::new());
    }

    #[test]
    fn a_prefix_and_its_pattern_are_the_same_scope() {
        let schema = Schema::find("address").expect("known");
        let of = |key: &str, value: &str| {
            let attributes = [(key.to_owned(), Value::from(value))];
            special(&Entity::create(schema, attributes).expect("valid"))
        };
        assert_eq!(of("prefix", "a.b."), of("pattern", "a/b/#"));
        assert_ne!(of("prefix", "a.b"), of("pattern", "a/b"));
    }
}
