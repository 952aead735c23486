//! What entities and attributes are for, in words: the files `descriptions/*.txt`.
//!
//! `[entity] text` begins the section of an entity, and `attribute: text` is of one of its
//! attributes; a line that begins with blanks goes on with the text before. `[one, other]` begins
//! what several entities have in common, `[*]` what all have that say nothing else.

use std::collections::HashMap;
use std::sync::OnceLock;

const SOURCES: [&str; 2] = [
    include_str!("descriptions/configured.txt"),
    include_str!("descriptions/operational.txt"),
];

/// What every entity has in common.
const EVERY: &str = "*";

/// What an entity is for.
pub(super) fn of_entity(entity: &'static str) -> &'static str {
    texts().get(&(entity, None)).map_or("", String::as_str)
}

/// What an attribute of an entity is for.
pub(super) fn of_attribute(entity: &'static str, attribute: &'static str) -> &'static str {
    let of = |entity| texts().get(&(entity, Some(attribute)));
    of(entity).or_else(|| of(EVERY)).map_or("", String::as_str)
}

/// What an attribute is for that every entity has.
pub(super) fn of_all(attribute: &'static str) -> &'static str {
    of_attribute(EVERY, attribute)
}

/// By entity and, where the text is of one, attribute.
type Texts = HashMap<(&'static str, Option<&'static str>), String>;

fn texts() -> &'static Texts {
    static TEXTS: OnceLock<Texts> = OnceLock::new();
    TEXTS.get_or_init(|| {
        let mut texts = Texts::new();
        SOURCES.iter().for_each(|source| read(source, &mut texts));
        texts
    })
}

fn read(source: &'static str, texts: &mut Texts) {
    let mut entities: Vec<&'static str> = Vec::new();
    let mut attribute = None;
    let lines = source.lines();
    for line in lines.filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let text = if line.starts_with(' ') {
            line.trim_start()
        } else if let Some(heading) = line.strip_prefix('[') {
            let (names, text) = heading.split_once(']').expect("a heading ends with ']'");
            entities = names.split(", ").collect();
            attribute = None;
            text.trim_start()
        } else {
            let (name, text) = line.split_once(": ").expect("an attribute ends with ': '");
            attribute = Some(name);
            text
        };
        for entity in entities.iter().filter(|_| !text.is_empty()) {
            let whole = texts.entry((*entity, attribute)).or_default();
            if !whole.is_empty() {
                whole.push(' ');
            }
            whole.push_str(text);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::management::schema::Schema;

    /// What there is a text of, each with the text.
    fn all() -> impl Iterator<Item = (&'static Schema, Option<&'static str>, &'static str)> {
        Schema::all().iter().flat_map(|schema| {
            let attributes = schema.attributes.iter();
            let attributes = attributes.map(move |one| (schema, Some(one.name), one.description));
            std::iter::once((schema, None, schema.description)).chain(attributes)
        })
    }

    #[test]
    fn everything_is_described_in_sentences() {
        for (schema, attribute, text) in all() {
            let of = format!("{} {attribute:?}: '{text}'", schema.name);
            assert!(text.chars().count() >= 15, "too short: {of}");
            assert!(text.ends_with('.'), "no full stop: {of}");
            assert!(!text.contains("  "), "two blanks: {of}");
            assert!(text.starts_with(char::is_uppercase), "no capital: {of}");
        }
    }

    #[test]
    fn nothing_else_is_described_and_nothing_twice() {
        let mut seen = HashSet::new();
        for source in SOURCES {
            let mut entities: Vec<&str> = Vec::new();
            let lines = source.lines();
            for line in lines.filter(|line| !line.starts_with(['#', ' '])) {
                if let Some((names, _)) = line.strip_prefix('[').and_then(|l| l.split_once(']')) {
                    entities = names.split(", ").collect();
                    continue;
                }
                let Some((attribute, _)) = line.split_once(": ") else {
                    continue;
                };
                for entity in &entities {
                    assert!(
                        seen.insert((*entity, attribute)),
                        "{entity}.{attribute} twice"
                    );
                    let schema = match *entity {
                        EVERY => &Schema::all()[0],
                        entity => Schema::find(entity).expect(entity),
                    };
                    let known = schema.position(attribute);
                    assert!(known.is_some(), "{entity} has no attribute {attribute}");
                }
            }
        }
        for (entity, _) in texts().keys() {
            assert!(
                *entity == EVERY || Schema::find(entity).is_some(),
                "{entity}"
            );
        }
    }

    /// A name in backticks is an attribute of the entity that the text is of, an entity, or, with
    /// ` of ` and an entity behind it, an attribute of that; and names stand in backticks.
    #[test]
    fn nothing_is_named_that_does_not_exist() {
        for (schema, attribute, text) in all() {
            let pieces: Vec<&str> = text.split('`').collect();
            assert!(pieces.len() % 2 == 1, "a backtick too many: '{text}'");
            for (index, piece) in pieces.iter().enumerate() {
                let of = format!("{} {attribute:?}: '{text}'", schema.name);
                if index % 2 == 0 {
                    let stray = piece.split_whitespace().find(|word| is_camel_case(word));
                    assert_eq!(stray, None, "a name without backticks in {of}");
                    continue;
                }
                let other = match pieces.get(index + 1) {
                    Some(&" of ") => Schema::find(pieces[index + 2]),
                    _ => None,
                };
                let known = match other {
                    Some(other) => other.position(piece).is_some(),
                    None => schema.position(piece).is_some() || Schema::find(piece).is_some(),
                };
                assert!(known, "'{piece}' does not exist, in {of}");
            }
        }
    }

    fn is_camel_case(word: &str) -> bool {
        let word = word.trim_matches(|c: char| !c.is_alphanumeric());
        word.starts_with(char::is_lowercase)
            && word.contains(char::is_uppercase)
            && word.chars().all(char::is_alphanumeric)
    }
}
