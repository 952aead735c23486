//! A configuration from environment variables, as containers of skupper-router have it.
//!
//! Skupper gives its router's container no arguments: `QDROUTERD_CONF` names the configuration (or
//! is it), `QDROUTERD_CONF_TYPE` its syntax, and variables such as `${HOSTNAME}` in it stand for
//! their values.

use std::fs;
use std::net::ToSocketAddrs;
use std::path::Path;

use amqp_router::Config;

use crate::serve::fault;

/// Where the configuration is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FromEnvironment {
    /// Files and directories, or the text itself.
    places: String,
    is_json: bool,
}

/// The value of a variable, if it is set.
type Variables<'a> = &'a dyn Fn(&str) -> Option<String>;

impl FromEnvironment {
    /// What the variables say, if anything.
    pub(crate) fn find(variables: Variables<'_>) -> Option<Self> {
        let places = variables(CONFIGURATION).filter(|places| !places.trim().is_empty())?;
        let is_json = variables(SYNTAX).is_some_and(|syntax| syntax.eq_ignore_ascii_case("json"));
        Some(Self { places, is_json })
    }

    /// Reads it, perhaps again.
    ///
    /// # Errors
    /// A place that cannot be read, or every mistake in what is there.
    pub(crate) fn load(&self, variables: Variables<'_>) -> Result<Config, String> {
        let text = expand(&self.text()?, &|name| value(name, variables));
        let name = match self.is_json || self.places.trim_end().ends_with(".json") {
            true => "QDROUTERD_CONF.json",
            false => CONFIGURATION,
        };
        Config::from_text(name, &text).map_err(|errors| fault(CONFIGURATION, &errors))
    }

    fn text(&self) -> Result<String, String> {
        let inline = self.places.find('{').zip(self.places.rfind('}'));
        if inline.is_some_and(|(begin, end)| begin < end) {
            return Ok(self.places.clone());
        }
        let places = self.places.split([':', ',']).map(str::trim);
        let texts = places.filter(|place| !place.is_empty()).map(read);
        texts
            .collect::<Result<Vec<_>, _>>()
            .map(|texts| texts.concat())
    }
}

/// The text of a file, or of all `.conf` files of a directory in the order of their names.
fn read(place: &str) -> Result<String, String> {
    let failed = |error: std::io::Error| {
        format!("Exception: {CONFIGURATION} names '{place}', which cannot be read: {error}")
    };
    let path = Path::new(place);
    if !path.is_dir() {
        return Config::text_of(path).map_err(failed);
    }
    let entries = fs::read_dir(path).map_err(failed)?;
    let mut files = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(failed)?;
    files.retain(|file| {
        file.extension()
            .is_some_and(|extension| extension == "conf")
    });
    files.sort();
    let texts = files.iter().map(|file| Config::text_of(file));
    texts.collect::<Result<_, _>>().map_err(failed)
}

/// Puts values in the place of `$NAME` and `${NAME}`, except in comments; what is not set stays.
fn expand(text: &str, value: Variables<'_>) -> String {
    let mut expanded = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let mut rest = line;
        while let Some(at) = rest.find('$').filter(|_| !line.starts_with('#')) {
            let (before, from) = rest.split_at(at);
            expanded.push_str(before);
            let (whole, name) = reference(from);
            match value(name).filter(|_| !name.is_empty()) {
                Some(value) => expanded.push_str(&value),
                None => expanded.push_str(whole),
            }
            rest = &from[whole.len()..];
        }
        expanded.push_str(rest);
    }
    expanded
}

/// The reference that a text begins with, and the name in it.
fn reference(text: &str) -> (&str, &str) {
    let after = &text[1..];
    if let Some(inner) = after.strip_prefix('{')
        && let Some(end) = inner.find('}')
    {
        return (&text[..end + 3], &inner[..end]);
    }
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let end = after.find(|c| !is_name(c)).unwrap_or(after.len());
    (&text[..=end], &after[..end])
}

/// A variable, or what the container's script would make of others.
fn value(name: &str, variables: Variables<'_>) -> Option<String> {
    let host = || variables("HOSTNAME");
    variables(name).or_else(|| match name {
        "POD_ID" => host()?.rsplit('-').next().map(str::to_owned),
        "HOSTNAME_IP_ADDRESS" => {
            let mut addresses = (host()?, 0).to_socket_addrs().ok()?;
            addresses.next().map(|address| address.ip().to_string())
        }
        _ => None,
    })
}

/// What the process was given.
pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

const CONFIGURATION: &str = "QDROUTERD_CONF";
const SYNTAX: &str = "QDROUTERD_CONF_TYPE";

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(name: &str) -> Option<String> {
        let value = match name {
            "HOSTNAME" => "router-7f9c-x2",
            "A" => "1",
            "B_2" => "two",
            _ => return None,
        };
        Some(value.to_owned())
    }

    #[test]
    fn variables_are_expanded_where_they_are_set() {
        for (text, expected) in [
            ("id: west-${HOSTNAME}", "id: west-router-7f9c-x2"),
            ("$A$B_2-$A.x ${POD_ID}", "1two-1.x x2"),
            ("$UNKNOWN ${UNKNOWN} $ $", "$UNKNOWN ${UNKNOWN} $ $"),
            ("${A", "${A"),
            ("${} $-", "${} $-"),
            ("# $A\n$A\n", "# $A\n1\n"),
            ("ä$Aö", "ä1ö"),
        ] {
            assert_eq!(expand(text, &|name| value(name, &variables)), expected);
        }
    }

    fn load(places: &str, syntax: &str) -> Result<String, String> {
        let all = |name: &str| match name {
            "QDROUTERD_CONF" => Some(places.to_owned()),
            "QDROUTERD_CONF_TYPE" => Some(syntax.to_owned()),
            name => variables(name),
        };
        let found = FromEnvironment::find(&all).expect("it is set");
        found.load(&all).map(|config| config.router_id().to_owned())
    }

    #[test]
    fn the_text_itself_may_be_the_value() {
        let conf = "router {\n id: R-${POD_ID}\n}\n";
        assert_eq!(load(conf, "").as_deref(), Ok("R-x2"));
        let json = r#"[["router", {"id": "J-${HOSTNAME}"}]]"#;
        assert_eq!(load(json, "json").as_deref(), Ok("J-router-7f9c-x2"));
    }

    #[test]
    fn files_and_directories_are_read_one_after_the_other() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name).display().to_string();
        fs::create_dir(at("parts")).unwrap();
        fs::write(at("router.conf"), "router {\n id: R\n}\n").unwrap();
        fs::write(at("parts/b.conf"), "\u{feff}address {\n prefix: b\n}\n").unwrap();
        fs::write(at("parts/notes.txt"), "no configuration").unwrap();
        let both = format!("{}:{}", at("router.conf"), at("parts"));
        assert_eq!(load(&both, "conf").as_deref(), Ok("R"));
        let json = at("skrouterd.json");
        fs::write(&json, r#"[["router", {"id": "S"}]]"#).unwrap();
        assert_eq!(load(&json, "json").as_deref(), Ok("S"));
        fs::write(at("parts/c.conf"), "address {\n colour: red\n}\n").unwrap();
        let wrong = load(&both, "conf").unwrap_err();
        assert!(
            wrong.contains("QDROUTERD_CONF") && wrong.contains("'colour'"),
            "{wrong}"
        );
        let missing = load(&at("nowhere"), "conf").unwrap_err();
        assert!(missing.contains("nowhere"), "{missing}");
    }

    #[test]
    fn nothing_is_found_where_nothing_is_said() {
        for value in [None, Some(String::new()), Some(" ".to_owned())] {
            let found = FromEnvironment::find(&|_| value.clone());
            assert_eq!(found, None);
        }
    }
}
