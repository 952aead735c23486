use proptest::prelude::*;

use super::*;
use crate::management::schema::{Attribute, Kind};

fn parse(text: &str) -> Result<Config, Vec<String>> {
    Config::parse("r.conf", text, || "abc".into())
        .map_err(|errors| errors.0.iter().map(ToString::to_string).collect())
}

#[test]
fn a_configuration_is_completed() {
    let config = parse("listener {\n port: 0\n}\n").expect("valid");
    assert_eq!(
        config.singleton("router").text("id"),
        Some("Standalone_abc")
    );
    assert_eq!(config.of("policy").count(), 1);
    let listener = config.of("listener").next().expect("configured");
    assert_eq!(listener.identity(), "listener/:0");
    assert_eq!(listener.name(), "listener/:0");
}

#[test]
fn the_built_in_configuration_listens_on_this_host_only() {
    let config = Config::standalone(|| "x".into());
    let listener = config.of("listener").next().expect("built in");
    assert_eq!(
        (listener.text("host"), listener.text("port")),
        (Some("127.0.0.1"), Some("amqp"))
    );
}

#[test]
fn mistakes_name_file_line_entity_and_attribute() {
    let cases = [
        (
            "listner {\n}\n",
            "r.conf:1: unknown entity type 'listner'; did you mean 'listener'?",
        ),
        (
            "listener {\n name: a\n port: amqpx\n}\n",
            "r.conf:1: listener 'a': the attribute 'port' is 'amqpx', but must be amqp, amqps or 0 to 65535",
        ),
        (
            "address {\n distribution: closest\n}\n",
            "r.conf:1: address: Either a 'prefix' or 'pattern' attribute must be provided",
        ),
        (
            "listener {\n name: a\n sslProfile: p\n}\nssl-profile {\n name: q\n}\n",
            "r.conf: listener 'a': sslProfile 'p' not found: see the attribute 'sslProfile'; did you mean 'q'?",
        ),
        (
            "listener {\n name: a\n role: inter-router\n}\n",
            "r.conf: listener 'a': role='standalone' not allowed to connect to or accept connections from other routers. The attribute 'role' is 'inter-router', which a router with mode 'standalone' cannot have",
        ),
        (
            "listener {\n name: a\n maxFrameSize: 100\n}\n",
            "r.conf:1: listener 'a': Configuration: Invalid maxFrameSize specified (100). Minimum value is 512 and maximum value is 2147483647",
        ),
        (
            "router {\n id: a b\n}\n",
            "r.conf:1: router: Router id attribute containing character ' ' in id 'a b' is disallowed: the attribute 'id' must not contain '|', '$', blanks or control characters",
        ),
    ];
    for (text, error) in cases {
        assert_eq!(parse(text).expect_err(text), [error]);
    }
}

#[test]
fn who_names_what_is_not_there_is_told_what_is() {
    let told = |names: &[&str]| {
        let mut text = "connector {\n name: c\n sslProfile: nope\n}\n".to_owned();
        for name in names {
            text += &format!("sslProfile {{\n name: {name}\n}}\n");
        }
        let [error] = &parse(&text).expect_err("it is not there")[..] else {
            panic!("one mistake");
        };
        let start = "r.conf: connector 'c': sslProfile 'nope' not found: see the attribute \
                     'sslProfile'; ";
        error.strip_prefix(start).expect(error).to_owned()
    };
    assert_eq!(told(&[]), "there is no sslProfile");
    assert_eq!(told(&["server"]), "there is only 'server'");
    assert_eq!(told(&["nop", "server"]), "did you mean 'nop'?");
    let three = ["client", "server", "other"];
    assert_eq!(told(&three), "there are 'client', 'server' and 'other'");
    let many = [
        "first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth",
    ];
    assert!(told(&many).ends_with(", 'eighth' and others"));
}

#[test]
fn a_file_may_have_a_byte_order_mark_and_must_be_utf_8() {
    let directory = tempfile::tempdir().expect("a directory");
    let read = |name: &str, text: &[u8]| {
        let file = directory.path().join(name);
        fs::write(&file, text).expect("it can be written");
        let config = Config::from_file(&file).map_err(|errors| errors.0[0].within_file());
        config.map(|config| config.router_id().to_owned())
    };
    let conf = "\u{feff}router {\n id: R\n}\n";
    assert_eq!(read("r.conf", conf.as_bytes()).as_deref(), Ok("R"));
    let json = "\u{feff}[[\"router\", {\"id\": \"J\"}]]";
    assert_eq!(read("r.json", json.as_bytes()).as_deref(), Ok("J"));
    let latin = b"router {\n # M\xc3\xbcnchen\n id: M\xfcnchen\n}\n";
    let error = read("latin.conf", latin).expect_err("it is not UTF-8");
    assert_eq!(error, "line 3: the octet 0xfc is not UTF-8");
}

#[test]
fn that_it_has_no_place_is_said_first() {
    let text =
        "router {\n mode: edge\n id: E\n}\nlistener {\n name: l\n port: 77777\n role: edge\n}\n";
    let errors = parse(text).expect_err("misplaced");
    let start = "r.conf:5: listener 'l': role='edge' only allowed with router mode='interior'";
    assert!(
        errors.len() == 1 && errors[0].starts_with(start),
        "{errors:?}"
    );
}

#[test]
fn names_are_unique_within_a_type() {
    let text = "listener {\n name: a\n}\nlistener {\n name: a\n}\n";
    let errors = parse(text).expect_err("twice");
    assert_eq!(
        errors,
        [
            "r.conf:4: listener 'a': duplicates unique attribute 'name' from existing 'listener/:amqp:a'"
        ]
    );
}

#[test]
fn every_rule_has_its_words() {
    let long_id = format!(" id: {}", "x".repeat(256));
    let cases = [
        (
            "router",
            " workerThreads: 0",
            "router: the attribute 'workerThreads' is 0, but must be 1 to 1024",
        ),
        (
            "router",
            " foo: 1",
            "router: Unknown attribute 'foo' for 'io.skupper.router.router'; router-daemon explain router names them all",
        ),
        (
            "address",
            " colour: red",
            "address: Unknown attribute 'colour' for 'io.skupper.router.router.config.address'; router-daemon explain address names them all",
        ),
        (
            "router",
            " mode: interor",
            "router: the attribute 'mode' is 'interor', but must be one of standalone, interior, edge",
        ),
        (
            "router",
            &*long_id,
            "router: the attribute 'id' has 256 octets, but must have at most 255",
        ),
        (
            "router",
            " dataConnectionCount: many",
            "router: the attribute 'dataConnectionCount' is 'many', but must be auto or 0 to 128",
        ),
        (
            "router",
            " helloIntervalSeconds: soon",
            "router: the attribute 'helloIntervalSeconds' is 'soon', but must be an integer",
        ),
        (
            "listener",
            " http: maybe",
            "listener: the attribute 'http' is 'maybe', but must be yes or no",
        ),
        (
            "listener",
            " port: 65536",
            "listener: the attribute 'port' is '65536', but must be amqp, amqps or 0 to 65535",
        ),
        (
            "listener",
            " host: not a host",
            "listener: the attribute 'host' is 'not a host', but must be a host name or an IP address: ' ' can be in neither",
        ),
        (
            "listener",
            " failoverUrls: foo, bar://",
            "listener: No network host in failover item: the attribute 'failoverUrls' is 'foo, bar://', but must be servers like amqps://host:port, separated by commas",
        ),
        (
            "listener",
            " openProperties: {\"product\": 1}",
            "listener: Reserved key 'product' not allowed in openProperties: the router sets it itself, and the attribute must be without it",
        ),
        (
            "listener",
            " openProperties: 5",
            "listener: Properties must be a map: the attribute 'openProperties' is 5, but must have names and values, like {\"key\": \"value\"}",
        ),
        (
            "listener",
            " openProperties: {\"stra\\u00dfe\": 1}",
            "listener: Property keys must be ASCII encoded: the attribute 'openProperties' has the key 'straße', but must have keys that are texts of ASCII characters",
        ),
        (
            "connector",
            " role: inter-router\n openProperties: {\"x-opt-qd.k\": 1}",
            "connector: Reserved key 'x-opt-qd.k' not allowed in openProperties: keys must not begin with 'x-opt-qd.', as the router's own do",
        ),
        (
            "connector",
            " name: c\n role: edge\n openProperties: {\"k\": 1}",
            "connector 'c': openProperties not allowed for role edge: the attribute 'openProperties' has the key 'k', but must be empty between routers, or role be normal or route-container",
        ),
        (
            "network",
            " networkId: a/b",
            "network: the attribute 'networkId' is 'a/b', but must be without '/', and not 0",
        ),
        (
            "network",
            " networkId: 0",
            "network: the attribute 'networkId' is '0', but must be without '/', and not 0",
        ),
        (
            "connector",
            " name: c\n cost: 0",
            "connector 'c': Configuration: Invalid cost (0) specified. Minimum value for cost is 1 and maximum value is 2147483647",
        ),
        (
            "connector",
            " proxyProfile: p",
            "connector 'connector/127.0.0.1:amqp': proxyProfile 'p' not found: see the attribute 'proxyProfile'",
        ),
        (
            "ssl-profile",
            " certFile: c",
            "sslProfile: Missing required attribute 'name'",
        ),
        (
            "sslProfile",
            " name: p\n ordinal: 1\n oldestValidOrdinal: 2",
            "sslProfile 'p': Configuration: ordinal must be >= oldestValidOrdinal (sslProfile 'p'): they are 1 and 2",
        ),
        (
            "sslProfile",
            " name: p\n ordinal: -1",
            "sslProfile 'p': Configuration: Negative ordinal field values are invalid (sslProfile 'p'): 'ordinal' is -1, 'oldestValidOrdinal' 0",
        ),
        (
            "address",
            " prefix: a\n pattern: b",
            "address: Cannot specify both a 'prefix' and a 'pattern' attribute",
        ),
        (
            "address",
            " prefix:",
            "address: Prefix must be a non-empty string type: the attribute 'prefix' is ''",
        ),
        (
            "address",
            " pattern: ./",
            "address: Pattern invalid - no tokens: the attribute 'pattern' is './'",
        ),
        (
            "address",
            " prefix: a\n priority: 10",
            "address: Priority value, if present, must be between 0 and QDR_MAX_PRIORITY, which is 9: the attribute 'priority' is 10",
        ),
        (
            "autoLink",
            " direction: out\n connection: c",
            "autoLink: address field is only optional if direction is incoming: set the attribute 'address'",
        ),
        (
            "autoLink",
            " direction: in\n containerId: a\n connection: b",
            "autoLink: Both connection and containerId cannot be specified. Specify only one",
        ),
        (
            "auto-link",
            " connection: c",
            "autoLink: direction field is mandatory",
        ),
        (
            "log",
            " module: ROUTERS",
            "log: the attribute 'module' is 'ROUTERS', but must be one of",
        ),
        (
            "listenerAddress",
            " address: a\n value: 1\n listener: t",
            "listenerAddress 'listenerAddress/t:a': Listener for new address does not exist t: see 'listener'",
        ),
        (
            "vhost",
            " maxConnections: 1",
            "vhost: Missing required attribute 'hostname'",
        ),
        (
            "listener",
            " maxSessionFrames: 1",
            "listener: Configuration: Invalid maxSessionFrames specified (1). Minimum value is 2 and maximum value is 2147483647",
        ),
        (
            "router",
            " id: a|b",
            "router: Router ID \"a|b\" containes at least one illegal character (\"|$\"): the attribute 'id'",
        ),
        (
            "router",
            " mode: edge\n}\nlistener {\n name: l\n role: inter-router",
            "listener 'l': role='inter-router' only allowed with router mode='interior'. The attribute 'role' is",
        ),
        (
            "router",
            " mode: edge\n}\nlistener {\n name: l\n role: edge",
            "listener 'l': role='edge' only allowed with router mode='interior'. The attribute 'role' is",
        ),
        (
            "listener",
            " name: l\n role: route-container\n openProperties: {\"qd.x\": 1}",
            "listener 'l': Reserved key 'qd.x' not allowed in openProperties",
        ),
        (
            "tcpConnector",
            " name: t\n port: 1",
            "tcpConnector 't': Configuration: Address must be set: the attribute 'address'",
        ),
        (
            "tcpListener",
            " name: t\n port: 1",
            "tcpListener 't': Configuration: Exactly one of the 'address' or 'multiAddressStrategy' field must be set",
        ),
        (
            "tcpListener",
            " name: t\n address: a",
            "tcpListener 't': Missing required attribute 'port'",
        ),
        (
            "connection",
            " host: a",
            "unknown entity type 'connection'; did you mean 'connector'?",
        ),
        (
            "queue",
            " name: q",
            "unknown entity type 'queue'; router-daemon explain names them all",
        ),
    ];
    for (kind, attributes, error) in cases {
        let text = format!("{kind} {{\n{attributes}\n}}\n");
        let errors = parse(&text).expect_err(&text);
        assert_eq!(errors.len(), 1, "{errors:?}");
        let (_, problem) = errors[0].split_once(": ").expect("a file");
        assert!(problem.starts_with(error), "{problem}");
    }
}

#[test]
fn a_mistake_tells_no_secret() {
    let text = "connector {\n saslPassword: {\n hush: 1\n }\n}\n";
    let errors = parse(text).expect_err("a map");
    assert_eq!(
        errors,
        ["r.conf:1: connector: the attribute 'saslPassword' is ******, but must be a text"]
    );
    let config = parse("connector {\n saslPassword: hush\n}\n").expect("valid");
    assert!(!format!("{config:?}").contains("hush"));
}

#[test]
fn two_of_the_same_are_refused() {
    let cases = [
        (
            "listener {\n port: 1\n}\n",
            "r.conf:4: listener: duplicates unique attribute 'identity' from existing 'listener/:1'",
        ),
        (
            "log {\n module: DEFAULT\n}\n",
            "r.conf:4: log: duplicates unique attribute 'identity' from existing 'log/DEFAULT'",
        ),
        (
            "router {\n id: A\n}\n",
            "r.conf:4: router: there can be only one",
        ),
        (
            "address {\n name: x\n prefix: a.b\n}\n",
            "r.conf:5: address 'x': Name conflicts with an existing entity",
        ),
    ];
    for (text, error) in cases {
        assert_eq!(parse(&text.repeat(2)).expect_err(text), [error]);
    }
}

/// skrouterd leaves it out and starts, so files may have it.
#[test]
fn of_two_addresses_for_the_same_the_first_holds() {
    for second in ["prefix: a", "pattern: a/#"] {
        let text = format!("address {{\n prefix: a\n priority: 3\n}}\naddress {{\n {second}\n}}\n");
        let config = parse(&text).expect("it starts");
        let addresses: Vec<_> = config.of("router.config.address").collect();
        assert_eq!(addresses.len(), 1);
        assert_eq!(addresses[0].integer("priority"), Some(3));
        assert_eq!(
            config.oddities(),
            [
                "r.conf:5: address: Already exists: address '0' has the same prefix or pattern, \
                 and holds: this one has no effect"
            ]
        );
    }
    let wrong = "address {\n prefix: a\n}\naddress {\n prefix: a\n priority: 11\n}\n";
    assert!(parse(wrong).is_err());
}

#[test]
fn identities_are_those_of_skrouterd() {
    let config = parse(
        "router {\n id: A\n}\nlistener {\n name: l\n host: h\n port: 1\n}\n\
         connector {\n port: 2\n}\nsslProfile {\n name: p\n}\naddress {\n prefix: a\n}\n\
         address {\n prefix: b\n}\nlog {\n module: DEFAULT\n}\nsite {\n location: x\n}\n",
    )
    .expect("valid");
    let identities: Vec<&str> = config.entities.iter().map(Entity::identity).collect();
    assert_eq!(
        identities,
        [
            "router/A",
            "listener/h:1:l",
            "connector/127.0.0.1:2",
            "sslProfile/p",
            "0",
            "1",
            "log/DEFAULT",
            "site/0",
            "network/0",
            "policy/0",
        ]
    );
    assert_eq!(
        config.of("connector").next().expect("one").name(),
        "connector/127.0.0.1:2"
    );
}

#[test]
fn a_number_is_not_given_twice() {
    let mut config = parse("address {\n prefix: a\n}\naddress {\n prefix: b\n}\n").expect("valid");
    let first = config
        .of("router.config.address")
        .next()
        .expect("two")
        .clone();
    config.remove(&first);
    assert_eq!(config.next_serial("router.config.address"), 2);
}

#[test]
fn a_router_without_an_id_is_named_for_its_mode() {
    for (mode, id) in [
        ("standalone", "Standalone_abc"),
        ("interior", "Interior_abc"),
        ("edge", "Edge_abc"),
    ] {
        let config = parse(&format!("router {{\n mode: {mode}\n}}\n")).expect("valid");
        let router = config.singleton("router");
        assert_eq!(
            (router.text("id"), router.identity()),
            (Some(id), &*format!("router/{id}"))
        );
    }
}

/// A value of an attribute's kind, in conf syntax and as it is then shown.
fn sample(schema: &Schema, attribute: &Attribute) -> (String, Value) {
    let word = |word: &str| (word.to_owned(), Value::from(word));
    match (schema.name, attribute.name, &attribute.kind) {
        (_, "id", _) => word("R9"),
        ("vhost", "aliases", _) => word("other text"),
        (_, "port", _) => word("5671"),
        (_, "host", _) => word("host.example"),
        (_, "sslProfile" | "proxyProfile" | "listener", _) => word("other"),
        (_, "saslMechanisms", _) => word("PLAIN"),
        (_, "dataConnectionCount", _) => word("7"),
        ("sslProfile", "oldestValidOrdinal", _) => ("0".into(), Value::Long(0)),
        (_, _, Kind::Text | Kind::Path) => word("some text"),
        (_, "maxFrameSize", _) => ("512".into(), Value::Long(512)),
        (_, _, Kind::Integer) => ("5".into(), Value::Long(5)),
        (_, _, Kind::Boolean) if attribute.default == Some("true") => {
            ("no".into(), Value::Bool(false))
        }
        // It needs a group that this one lacks.
        ("vhost", "allowUnknownUser", _) => ("no".into(), Value::Bool(false)),
        (_, _, Kind::Boolean) => ("yes".into(), Value::Bool(true)),
        (_, _, Kind::Choice(words)) => word(words[0]),
        ("vhost", "groups", _) => {
            let users = Value::Map(vec![("users".into(), "ann".into())]);
            let map = Value::Map(vec![("g".into(), users)]);
            ("{\n \"g\": {\"users\": \"ann\"}\n }".into(), map)
        }
        (_, _, Kind::Map) => {
            let map = Value::Map(vec![(
                "k".into(),
                Value::List(vec![Value::Long(1), "x#".into()]),
            )]);
            ("{\n \"k\": [1, \"x#\"]\n }".into(), map)
        }
        (_, _, Kind::List) => unreachable!("nothing that is configured is a list"),
    }
}

/// Attributes that exclude each other.
fn excluded(schema: &Schema, attribute: &Attribute) -> bool {
    matches!(
        (schema.name, attribute.name),
        ("router.config.address", "pattern") | ("router.config.autoLink", "connection")
    )
}

#[test]
fn every_attribute_goes_from_the_file_to_query() {
    for schema in Schema::all()
        .iter()
        .filter(|schema| schema.is_configurable())
    {
        let attributes: Vec<&Attribute> = schema
            .attributes
            .iter()
            .filter(|attribute| attribute.create && !excluded(schema, attribute))
            .collect();
        let mut text = format!("{} {{\n", schema.alias.unwrap_or(schema.name));
        for attribute in &attributes {
            text += &format!(" {}: {}\n", attribute.name, sample(schema, attribute).0);
        }
        text += "}\n";
        text += "sslProfile {\n name: other\n}\nproxyProfile {\n name: other\n}\n";
        text += "tcpListener {\n name: other\n port: 1\n multiAddressStrategy: weighted\n}\n";
        let config = parse(&text).unwrap_or_else(|errors| panic!("{text}{errors:?}"));
        let entity = config.of(schema.name).next().expect("configured");
        for attribute in attributes {
            let (_, value) = sample(schema, attribute);
            assert_eq!(
                entity.get(attribute.name),
                &value,
                "{}.{}",
                schema.name,
                attribute.name
            );
            let shown = match attribute.hidden {
                true => Value::Null,
                false => attribute.width.of(&value),
            };
            assert_eq!(entity.shown(attribute.name), shown);
        }
    }
}

#[test]
fn a_list_of_mechanisms_needs_one_that_is_known() {
    let of = |names: &str| {
        let text = format!("listener {{\n name: a\n port: 1\n saslMechanisms: {names}\n}}\n");
        parse(&text).map(drop)
    };
    assert_eq!(of("GSSAPI plain"), Ok(()));
    let errors = of("ANONYMUS").expect_err("none is known");
    assert!(errors[0].contains(
        "listener 'a': the attribute 'saslMechanisms' is 'ANONYMUS', but must name some of EXTERNAL, "
    ));
}

proptest! {
    #[test]
    fn any_configuration_is_survived(text in "((router|listener|address|vhost|log) \\{\n|(id|port|mode|prefix|groups|name|role|ssl-profile): |[a-z0-9{}\\[\\]\":,# ]{0,8}\n|\\}\n){0,40}") {
        let _ = Config::parse("r.conf", &text, || "x".into());
        let _ = Config::parse("r.json", &text, || "x".into());
    }
}

#[test]
fn a_listener_of_one_address_gets_no_other() {
    let text = "tcpListener {\n name: t\n port: 1\n address: a\n}\n\
                listenerAddress {\n name: l\n listener: t\n address: b\n value: 1\n}\n";
    let errors = Config::parse("r.conf", text, String::new).expect_err("a mistake");
    assert_eq!(
        errors.to_string(),
        "r.conf: listenerAddress 'l': Must not assign new address to non multi-address listener: \
         'multiAddressStrategy' of tcpListener 't' is 'none', but must be 'priority' or 'weighted'"
    );
}

#[test]
fn what_only_the_router_can_say_has_no_effect_in_a_file() {
    let text = "router {\n id: R\n mode: interior\n area: A\n}\n\
                connector {\n name: c\n role: inter-router\n connection-status: up\n}\n";
    let config = Config::parse("r.conf", text, String::new).expect("skrouterd takes it");
    let told = |what: &str| {
        format!("{what} is the router's to say: what the file says of it has no effect")
    };
    assert_eq!(
        config.oddities(),
        [
            told("router: the attribute 'area'"),
            told("connector 'c': the attribute 'connectionStatus'")
        ]
    );
    assert!(config.singleton("router").get("area").is_null());
}

#[test]
fn a_router_that_is_wrong_makes_nothing_else_wrong() {
    let text = "router {\n id: R\n mode: interiour\n}\nlistener {\n role: inter-router\n}\n";
    let errors = Config::parse("r.conf", text, String::new).expect_err("a mistake");
    assert_eq!(errors.0.len(), 1, "{errors}");
}
