//! `docs/configuration.md`: all of the schema as one page of Markdown.

use std::fmt::Write;

use super::{COMMON_NAMES, Group, default, kind, operations, setting, summary};
use crate::management::descriptions;
use crate::management::schema::{Attribute, Schema};

/// All of it as one page of Markdown.
pub fn markdown() -> String {
    let mut page = PREFACE.to_owned();
    page.push_str(
        "\nEvery entity has these, which its chapter repeats only where there is more to say:\n\n",
    );
    page.push_str("| attribute | what it is for |\n|---|---|\n");
    for name in COMMON_NAMES {
        let _ = writeln!(page, "| `{name}` | {} |", cell(descriptions::of_all(name)));
    }
    for group in Group::ALL {
        let _ = writeln!(page, "\n| {} | |\n|---|---|", group.title());
        for schema in group.entities() {
            let (name, says) = (schema.short_name(), cell(summary(schema.description)));
            let _ = writeln!(page, "| [{name}](#{}) | {says} |", anchor(name));
        }
    }
    for schema in Group::ALL.into_iter().flat_map(Group::entities) {
        page.push_str(&section(schema));
    }
    page
}

/// The chapter of an entity: what is its own.
fn section(schema: &Schema) -> String {
    let (name, description) = (schema.short_name(), schema.description);
    let mut text = format!(
        "\n## {name}\n\n{}\n\n{}\n",
        cell(description),
        operations(schema)
    );
    let attributes = schema.own_attributes_first();
    let mut own = attributes.filter(|one| !is_shared(one)).peekable();
    if own.peek().is_some() {
        text.push_str("\n| attribute | type | default | set | what it is for |\n");
        text.push_str("|---|---|---|---|---|\n");
    }
    for attribute in own {
        let mut set = setting(schema, attribute).to_owned();
        if attribute.required {
            set.push_str("; required");
        }
        if attribute.hidden {
            set.push_str("; secret");
        }
        let cells = [
            format!("`{}`", attribute.name),
            kind(&attribute.kind),
            default(attribute).unwrap_or_default().to_owned(),
            set,
            attribute.description.to_owned(),
        ];
        let cells = cells.map(|text| cell(&text));
        let _ = writeln!(text, "| {} |", cells.join(" | "));
    }
    text
}

/// Whether an attribute is one that all entities have, and no more than that.
fn is_shared(attribute: &Attribute) -> bool {
    COMMON_NAMES.contains(&attribute.name)
        && attribute.description == descriptions::of_all(attribute.name)
}

/// Text that neither ends a cell of a table nor becomes markup.
fn cell(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    let mut in_code = false;
    for c in text.chars() {
        in_code ^= c == '`';
        if c == '|' || !in_code && matches!(c, '*' | '_' | '<' | '$') {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

/// How GitHub names the place of a heading.
fn anchor(heading: &str) -> String {
    heading.to_lowercase().replace('.', "")
}

const PREFACE: &str = "\
# Entities and attributes

What a configuration file has, and what management shows and changes. `router-daemon explain` tells
the same on a terminal: `router-daemon explain listener`, `router-daemon explain listener.host`. It
is written by `router-daemon explain --markdown`.

In configuration files an entity is `name { attribute: value … }`, or `[\"name\", {…}]` in JSON. Its
name is that of the chapter or the full one, and `ssl-profile` is the same as `sslProfile`. What
`yes or no` is may be true, on, false and off, too. One of several words may be given by its number
among them, from 0 on, but not to CREATE of an address or auto link.

| set | means |
|---|---|
| set at the start | by the file that the router starts with; what a reload finds changed is reported, and waits for the next start |
| changeable by a reload | by the file, at the start and whenever it is read again (SIGHUP, `routerctl reload`) |
| set when created | by the file or by CREATE; a reload that finds it changed makes the entity anew |
| changeable at run time | the same, and by UPDATE and a reload while the entity stays |
| set in groups of vhost | as a part of the attribute `groups` |
| read-only | the router says it |
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_what_the_schema_says() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/configuration.md");
        let written = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            written == markdown(),
            "docs/configuration.md is not what the schema says; write it anew: \
             cargo run -p router-daemon -- explain --markdown > docs/configuration.md"
        );
    }

    #[test]
    fn cells_of_tables_stay_what_they_are() {
        assert_eq!(
            cell("a|b `c*d` '*' and '$x'"),
            "a\\|b `c*d` '\\*' and '\\$x'"
        );
    }
}
