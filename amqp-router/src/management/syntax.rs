//! The two ways to write a configuration file
//! (`reference/router/config-and-management.md` §1).

use std::collections::HashSet;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

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
    let Json(document) = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    let Value::List(entries) = document else {
        return Err("the document must be a list of [type, {attributes}] pairs".into());
    };
    entries
        .into_iter()
        .enumerate()
        .map(|(number, entry)| section(number + 1, entry))
        .collect()
}

fn section(number: usize, entry: Value) -> Result<Section, String> {
    let wrong = || format!("entry {number} is not a pair [\"type\", {{attributes}}]");
    let Value::List(pair) = entry else {
        return Err(wrong());
    };
    let mut pair = pair.into_iter();
    let (Some(Value::String(kind)), Some(Value::Map(attributes)), None) =
        (pair.next(), pair.next(), pair.next())
    else {
        return Err(wrong());
    };
    let attributes = attributes
        .into_iter()
        .filter_map(|(key, value)| Some((camel_case(key.as_str()?), value)));
    Ok(Section {
        kind: camel_case(&kind),
        attributes: attributes.collect(),
        line: None,
    })
}

/// A JSON value as an AMQP one: objects keep their order, and have no key twice.
struct Json(Value);

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(JsonVisitor).map(Self)
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Value, E> {
        Ok(Value::Bool(flag))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(Value::Long(number))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(i64::try_from(number).map_or(Value::Ulong(number), Value::Long))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
        Ok(Value::Double(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::from(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(Json(item)) = access.next_element()? {
            items.push(item);
        }
        Ok(Value::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut seen = HashSet::new();
        let mut entries = Vec::new();
        while let Some(key) = access.next_key::<String>()? {
            if !seen.insert(key.clone()) {
                return Err(A::Error::custom(format_args!("'{key}' is there twice")));
            }
            let Json(value) = access.next_value()?;
            entries.push((Value::from(key), value));
        }
        Ok(Value::Map(entries))
    }
}

/// Reads `type {`, lines of `attribute: value`, and `}`.
pub(crate) fn conf(text: &str) -> Result<Vec<Section>, String> {
    let mut lines = Lines { text, number: 0 };
    let mut sections = Vec::new();
    while let Some(line) = lines.next() {
        let line = without_comment(line, None).trim();
        if line.is_empty() {
            continue;
        }
        let number = lines.number;
        let Some(kind) = line
            .strip_suffix('{')
            .map(str::trim)
            .filter(|kind| is_name(kind))
        else {
            let found = found(line);
            return Err(format!("line {number}: expected 'type {{', found {found}"));
        };
        sections.push(Section {
            kind: camel_case(kind),
            attributes: attributes(&mut lines, MAX_DEPTH)?,
            line: Some(number),
        });
    }
    Ok(sections)
}

/// The lines that are still to be read.
struct Lines<'a> {
    text: &'a str,
    /// Of the line that was read last; the first is 1.
    number: usize,
}

impl<'a> Lines<'a> {
    fn next(&mut self) -> Option<&'a str> {
        if self.text.is_empty() {
            return None;
        }
        let (line, rest) = self.text.split_once('\n').unwrap_or((self.text, ""));
        self.text = rest;
        self.number += 1;
        Some(line)
    }

    /// The JSON value that starts in the line read last, with `start`, and ends where its brackets
    /// do.
    fn json(&mut self, key: &str, start: &str) -> Result<Value, String> {
        let first = self.number;
        let mut text = String::new();
        let mut depth = 0;
        let mut line = start;
        loop {
            let (json, opened) = json_line(line);
            text.push_str(json);
            text.push('\n');
            depth += opened;
            if depth <= 0 {
                break;
            }
            line = self.next().ok_or_else(|| {
                format!("line {first}: the JSON of the attribute '{key}' is never closed")
            })?;
        }
        match serde_json::from_str(&without_spare_commas(&text)) {
            Ok(Json(value)) => Ok(value),
            Err(error) => {
                let number = first + error.line().saturating_sub(1);
                let error = error.to_string();
                let what = error.split(" at line ").next().unwrap_or_default();
                Err(format!(
                    "line {number}: the attribute '{key}' must be JSON: {what}"
                ))
            }
        }
    }
}

/// A line of JSON without its comment, and how many brackets it opens more than it closes.
fn json_line(line: &str) -> (&str, i64) {
    let (mut depth, mut quoted, mut escaped) = (0, false, false);
    for (at, c) in line.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ if quoted => {}
            '#' => return (&line[..at], depth),
            '{' | '[' => depth += 1,
            '}' | ']' => depth -= 1,
            _ => {}
        }
    }
    (line, depth)
}

/// JSON without commas that nothing follows, which skrouterd overlooks: blanks in their place.
fn without_spare_commas(json: &str) -> String {
    let mut octets = json.as_bytes().to_vec();
    let (mut comma, mut quoted, mut escaped) = (None, false, false);
    for (at, c) in json.bytes().enumerate() {
        match c {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => {
                quoted = !quoted;
                comma = None;
            }
            _ if quoted => {}
            b',' => comma = Some(at),
            b'}' | b']' => {
                if let Some(comma) = comma.take() {
                    octets[comma] = b' ';
                }
            }
            _ if c.is_ascii_whitespace() => {}
            _ => comma = None,
        }
    }
    // A comma of ASCII has become a blank: it is UTF-8 still.
    String::from_utf8(octets).unwrap_or_default()
}

/// Reads up to the `}` that closes the map that was opened in the line read last.
fn attributes(lines: &mut Lines<'_>, depth: usize) -> Result<Vec<(String, Value)>, String> {
    let opened = lines.number;
    if depth == 0 {
        return Err(format!("line {opened}: maps are nested too deep"));
    }
    let mut attributes = Vec::new();
    while let Some(whole) = lines.next() {
        let number = lines.number;
        let key = whole.split(':').next().unwrap_or_default();
        let key = camel_case(key.trim());
        let line = without_comment(whole, Some(&key)).trim();
        if line.is_empty() {
            continue;
        }
        if line == "}" {
            return Ok(attributes);
        }
        let Some((_, value)) = line.split_once(':') else {
            let found = found(line);
            return Err(format!(
                "line {number}: expected 'attribute: value', found {found}"
            ));
        };
        let value = match (key.as_str(), value.trim()) {
            ("openProperties" | "groups", _) => {
                let (_, start) = whole.split_once(':').unwrap_or_default();
                lines.json(&key, start)?
            }
            (_, "{") => {
                let inner = self::attributes(lines, depth - 1)?;
                let inner = inner.into_iter().map(|(key, value)| (key.into(), value));
                Value::Map(inner.collect())
            }
            (_, text) => written(text, &key, number)?,
        };
        attributes.push((key, value));
    }
    Err(format!("line {opened}: '{{' is never closed"))
}

/// A value, which skrouterd reads as what stands between the marks of a JSON string.
fn written(text: &str, key: &str, number: usize) -> Result<Value, String> {
    if !text.contains(['\\', '"']) {
        return Ok(Value::from(text));
    }
    let read = serde_json::from_str::<String>(&format!("\"{text}\""));
    read.map(Value::from).map_err(|_| {
        format!(
            "line {number}: the value of '{key}' must have no quotation marks around it, and within \
             it \\\" for one and \\\\ for a backslash"
        )
    })
}

/// A line as a message may show it.
fn found(line: &str) -> String {
    if line.to_ascii_lowercase().contains("password") {
        return "a line about a password".into();
    }
    format!("'{line}'")
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

/// Maps in maps.
const MAX_DEPTH: usize = 32;

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
            [("port", &Value::Long(5672)), ("http", &Value::Bool(true))]
        );
    }

    #[test]
    fn values_are_read_as_the_inside_of_strings() {
        let read = |value: &str| {
            let sections = conf(&format!("router {{\n\n metadata: {value}\n}}\n"))?;
            Ok(pairs(&sections[0])[0].1.as_str().map(str::to_owned))
        };
        for (value, expected) in [
            (r"a b", "a b"),
            (r"C:\\x", r"C:\x"),
            (r#"say \"hi\""#, r#"say "hi""#),
            (r"\u00e4\t.", "\u{e4}\t."),
        ] {
            assert_eq!(read(value), Ok(Some(expected.to_owned())), "{value}");
        }
        for wrong in [r#""a""#, r"C:\x", r#"a"b"#, r"a\"] {
            let error: Result<_, String> = read(wrong);
            let expected = r#"line 3: the value of 'metadata' must have no quotation marks around it, and within it \" for one and \\ for a backslash"#;
            assert_eq!(error, Err(expected.to_owned()), "{wrong}");
        }
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

    #[test]
    fn a_hash_is_a_comment_except_where_it_means_something() {
        let text = "address {\n  pattern: a/#  \n  # pattern: b/#\n}\n\
                    vhost {\n hostname: #1\n}\n\
                    binding {\n binding-key: x.#\n queue: q # all\n}\n";
        let sections = conf(text).expect("valid");
        assert_eq!(pairs(&sections[0]), [("pattern", &Value::from("a/#"))]);
        assert_eq!(pairs(&sections[1]), [("hostname", &Value::from("#1"))]);
        assert_eq!(pairs(&sections[2])[0].1, &Value::from("x.#"));
        assert_eq!(pairs(&sections[2])[1].1, &Value::from("q"));
    }

    #[test]
    fn json_in_conf_may_have_comments_and_hashes() {
        let text = "vhost {\n  groups: {  # who\n    # everyone\n    \"$default\": {\n\
                    \"users\": \"*\", \"sources\": \"a/#, }\"  # all\n    }\n  }\n  \
                    open-properties: {\"k\": [1, {\"x#\": \"\\\"}\"}]}\n  aliases: b\n}\n";
        let sections = conf(text).expect("valid");
        let [(_, groups), (_, properties), (_, aliases)] = pairs(&sections[0])[..] else {
            panic!("{sections:?}");
        };
        let default = groups.get("$default").expect("a group");
        assert_eq!(default.get("sources"), Some(&Value::from("a/#, }")));
        let list = properties
            .get("k")
            .and_then(Value::as_list)
            .expect("a list");
        assert_eq!(list[1].get("x#"), Some(&Value::from("\"}")));
        assert_eq!(aliases, &Value::from("b"));
    }

    #[test]
    fn spare_commas_are_overlooked_as_skrouterd_does() {
        let text = "vhost {\n groups: {\n  \"a\": {\"users\": \"x, }\", },\n  \"b\": {},\n }\n \
                    openProperties: {\"k\": [1, 2,], \"e\": \"\\\",}\",}\n}\n";
        let sections = conf(text).expect("valid");
        let [(_, groups), (_, properties)] = pairs(&sections[0])[..] else {
            panic!("{sections:?}");
        };
        let users = groups.get("a").and_then(|group| group.get("users"));
        assert_eq!(users, Some(&Value::from("x, }")));
        assert_eq!(properties.get("e"), Some(&Value::from("\",}")));
        let list = properties.get("k").and_then(Value::as_list);
        assert_eq!(list.map(<[Value]>::len), Some(2));
        assert!(conf("vhost {\n groups: {\"a\": 1,,}\n}\n").is_err());
    }

    #[test]
    fn maps_nest_but_not_for_ever() {
        let text = "a {\n b: {\n c-d: 1\n e: {\n f: g\n }\n }\n}\n";
        let sections = conf(text).expect("valid");
        let (_, map) = pairs(&sections[0])[0];
        assert_eq!(map.get("cD"), Some(&Value::from("1")));
        assert_eq!(
            map.get("e").and_then(|e| e.get("f")),
            Some(&Value::from("g"))
        );
        let deep = format!("a {{\n{}", "b: {\n".repeat(100_000));
        assert_eq!(
            conf(&deep).expect_err("deep"),
            "line 33: maps are nested too deep"
        );
        let deep = format!("[[\"a\", {{\"b\": {}", "[".repeat(100_000));
        assert!(json(&deep).is_err());
    }

    #[test]
    fn every_mistake_of_syntax_has_its_words() {
        let cases = [
            ("listener\n", "line 1: expected 'type {', found 'listener'"),
            ("}\n", "line 1: expected 'type {', found '}'"),
            (
                "listener {\n port 5672\n}\n",
                "line 2: expected 'attribute: value', found 'port 5672'",
            ),
            (
                "sslProfile {\n password hush\n}\n",
                "line 2: expected 'attribute: value', found a line about a password",
            ),
            ("\nlistener {\n port: 1\n", "line 2: '{' is never closed"),
            (
                "listener {\n openProperties: {\n",
                "line 2: the JSON of the attribute 'openProperties' is never closed",
            ),
            (
                "listener {\n openProperties: {\n \"a\": 1,\n \"a\": 2\n }\n}\n",
                "line 4: the attribute 'openProperties' must be JSON: 'a' is there twice",
            ),
            (
                "listener {\n openProperties: x\n}\n",
                "line 2: the attribute 'openProperties' must be JSON: expected value",
            ),
        ];
        for (text, error) in cases {
            assert_eq!(conf(text).expect_err(text), error);
        }
        let cases = [
            (
                "{}",
                "the document must be a list of [type, {attributes}] pairs",
            ),
            (
                "[[\"router\"]]",
                "entry 1 is not a pair [\"type\", {attributes}]",
            ),
            (
                "[[\"router\", {}], 1]",
                "entry 2 is not a pair [\"type\", {attributes}]",
            ),
            (
                "[[\"router\", {\"id\": \"A\", \"id\": \"B\"}]]",
                "'id' is there twice at line 1 column 28",
            ),
        ];
        for (text, error) in cases {
            assert_eq!(json(text).expect_err(text), error);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in "(\\PC|[a-z{}:#\\[\\]\", \n]|router \\{\n|groups: \\{){0,120}") {
            let _ = conf(&text);
            let _ = json(&text);
        }
    }
}
