//! The two ways to write a configuration file
//! (`reference/router/config-and-management.md` §1).

use serde_json::Value as Json;

use crate::codec::Value;
use crate::management::entity::camel_case;

/// One entity as it stands in a file.
#[derive(Debug, PartialEq)]
pub(crate) struct Section {
    pub(crate) kind: String,
    pub(crate) attributes: Vec<(String, Value)>,
    /// The line that it starts on, where the syntax has lines.
    pub(crate) line: Option<usize>,
}

/// Reads a list of `[type, {attribute: value}]`; lines that start with `#` are left out.
pub(crate) fn json(text: &str) -> Result<Vec<Section>, String> {
    let lines = text.lines().map(|line| {
        if line.trim_start().starts_with('#') {
            ""
        } else {
            line
        }
    });
    let text = lines.collect::<Vec<_>>().join("\n");
    let document: Json = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    let Json::Array(entries) = document else {
        return Err("the document must be a list of [type, {attributes}] pairs".into());
    };
    entries
        .into_iter()
        .enumerate()
        .map(|(number, entry)| section(number + 1, entry))
        .collect()
}

fn section(number: usize, entry: Json) -> Result<Section, String> {
    let wrong = || format!("entry {number} is not a pair [\"type\", {{attributes}}]");
    let Json::Array(pair) = entry else {
        return Err(wrong());
    };
    let mut pair = pair.into_iter();
    match (pair.next(), pair.next(), pair.next()) {
        (Some(Json::String(kind)), Some(Json::Object(attributes)), None) => Ok(Section {
            kind: camel_case(&kind),
            attributes: attributes
                .into_iter()
                .map(|(key, value)| (camel_case(&key), from_json(value)))
                .collect(),
            line: None,
        }),
        _ => Err(wrong()),
    }
}

fn from_json(value: Json) -> Value {
    match value {
        Json::Null => Value::Null,
        Json::Bool(flag) => Value::Bool(flag),
        Json::Number(number) => match number.as_i64() {
            Some(integer) => Value::Long(integer),
            None => Value::Double(number.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(text) => Value::from(text),
        Json::Array(items) => Value::List(items.into_iter().map(from_json).collect()),
        Json::Object(pairs) => Value::Map(
            pairs
                .into_iter()
                .map(|(key, value)| (Value::from(key), from_json(value)))
                .collect(),
        ),
    }
}

/// Reads `type {`, lines of `attribute: value`, and `}`.
pub(crate) fn conf(text: &str) -> Result<Vec<Section>, String> {
    let mut lines = text
        .lines()
        .enumerate()
        .map(|(number, line)| (number + 1, line))
        .peekable();
    let mut sections = Vec::new();
    while let Some((number, line)) = lines.next() {
        let line = without_comment(line, None).trim();
        if line.is_empty() {
            continue;
        }
        let Some(kind) = line
            .strip_suffix('{')
            .map(str::trim)
            .filter(|kind| is_name(kind))
        else {
            return Err(format!("line {number}: expected 'type {{', found '{line}'"));
        };
        let attributes = attributes(&mut lines, number)?;
        sections.push(Section {
            kind: camel_case(kind),
            attributes,
            line: Some(number),
        });
    }
    Ok(sections)
}

type Attributes = Vec<(String, Value)>;

fn attributes<'a>(
    lines: &mut std::iter::Peekable<impl Iterator<Item = (usize, &'a str)>>,
    opened: usize,
) -> Result<Attributes, String> {
    let mut attributes = Vec::new();
    while let Some((number, line)) = lines.next() {
        let key = line.split(':').next().map(|key| camel_case(key.trim()));
        let line = without_comment(line, key.as_deref()).trim();
        if line.is_empty() {
            continue;
        }
        if line == "}" {
            return Ok(attributes);
        }
        let (Some((_, value)), Some(key)) = (line.split_once(':'), key) else {
            return Err(format!(
                "line {number}: expected 'attribute: value', found '{line}'"
            ));
        };
        let value = value.trim();
        let value = match (key.as_str(), value) {
            ("openProperties" | "groups", start) => raw_json(lines, number, start)?,
            (_, "{") => {
                let inner = self::attributes(lines, number)?;
                Value::Map(
                    inner
                        .into_iter()
                        .map(|(k, v)| (Value::from(k), v))
                        .collect(),
                )
            }
            (_, text) => Value::from(text),
        };
        attributes.push((key, value));
    }
    Err(format!("line {opened}: '{{' is never closed"))
}

/// JSON that starts on this line and ends where its braces do.
fn raw_json<'a>(
    lines: &mut std::iter::Peekable<impl Iterator<Item = (usize, &'a str)>>,
    number: usize,
    start: &str,
) -> Result<Value, String> {
    let mut text = start.to_owned();
    loop {
        match serde_json::from_str(&text) {
            Ok(value) => return Ok(from_json(value)),
            Err(error) if error.is_eof() => match lines.next() {
                Some((_, line)) => {
                    text.push('\n');
                    text.push_str(line);
                }
                None => return Err(format!("line {number}: the JSON is never closed")),
            },
            Err(error) => return Err(format!("line {number}: {error}")),
        }
    }
}

/// A line up to its comment; some attributes may have `#` in their values.
fn without_comment<'a>(line: &'a str, key: Option<&str>) -> &'a str {
    let literal = matches!(key, Some("pattern" | "bindingKey" | "hostname"));
    if literal && !line.trim_start().starts_with('#') {
        return line;
    }
    line.split('#').next().unwrap_or_default()
}

fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pairs(section: &Section) -> Vec<(&str, &Value)> {
        section
            .attributes
            .iter()
            .map(|(key, value)| (key.as_str(), value))
            .collect()
    }

    #[test]
    fn conf_syntax_is_read_with_its_comments_and_maps() {
        let text = "# a router\nrouter {\n  mode: standalone  # the default\n  id: R1\n}\n\
                    address {\n  pattern: a/#\n  distribution: multicast\n}\n\
                    ssl-profile {\n  name: p\n  cert-file: /c.pem\n}\n\
                    listener {\n  openProperties: {\n    \"a\": 1\n  }\n}\n";
        let sections = conf(text).expect("valid");
        let kinds: Vec<&str> = sections
            .iter()
            .map(|section| section.kind.as_str())
            .collect();
        assert_eq!(kinds, ["router", "address", "sslProfile", "listener"]);
        assert_eq!(pairs(&sections[0])[0], ("mode", &Value::from("standalone")));
        assert_eq!(pairs(&sections[1])[0], ("pattern", &Value::from("a/#")));
        assert_eq!(pairs(&sections[2])[1], ("certFile", &Value::from("/c.pem")));
        let properties = Value::Map(vec![("a".into(), Value::Long(1))]);
        assert_eq!(pairs(&sections[3])[0], ("openProperties", &properties));
    }

    #[test]
    fn json_syntax_is_read_without_its_comment_lines() {
        let text = "[\n# comment\n[\"listener\", {\"port\": 5672, \"http\": true}]\n]";
        let sections = json(text).expect("valid");
        assert_eq!(
            pairs(&sections[0]),
            [("http", &Value::Bool(true)), ("port", &Value::Long(5672))]
        );
    }

    #[test]
    fn mistakes_are_found_by_their_line() {
        assert!(
            conf("router\n")
                .expect_err("no brace")
                .starts_with("line 1:")
        );
        assert!(
            conf("router {\n id R\n}\n")
                .expect_err("no colon")
                .starts_with("line 2:")
        );
        assert!(
            conf("a {\n}\nrouter {\n id: R\n")
                .expect_err("open")
                .starts_with("line 3:")
        );
        assert!(json("{}").is_err());
        assert!(
            json("[[\"router\"]]")
                .expect_err("half a pair")
                .contains("entry 1")
        );
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in "[a-z{}:#\\[\\]\", \n]{0,120}") {
            let _ = conf(&text);
            let _ = json(&text);
        }
    }
}
