use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::*;
use crate::codec::{Attach, Role, Source, Symbol, Target, TargetNode, Value};
use crate::control::address::prompt_address;
use crate::control::role::Role as ConnectionRole;

#[test]
fn who_from_where_is_let_into_which_group() {
    let mut policies = policies(vec![vhost(
        "shop",
        &[
            (
                "clerks",
                &[("users", "ann, bob"), ("remoteHosts", "10.0.0.0-10.0.0.9")],
            ),
            (
                "sites",
                &[("certificates", "DNS:*, CN=east*"), ("remoteHosts", "*")],
            ),
            ("routers", &[("neighbors", "R2"), ("remoteHosts", "*")]),
        ],
        &[],
    )]);
    let certified = ["CN=east,O=Us".to_owned()];
    let stranger = ["CN=west".to_owned(), "email:a@b".to_owned()];
    for (user, host, vhost, certificate, neighbor, expected) in [
        ("ann", "10.0.0.1", "shop", &[][..], None, Ok(())),
        ("ann", "10.0.1.1", "shop", &[], None, Err("network host")),
        (
            "eve",
            "10.0.0.1",
            "shop",
            &[],
            None,
            Err("unknown users are denied"),
        ),
        (
            "ann",
            "10.0.0.1",
            "elsewhere",
            &[],
            None,
            Err("No policy defined"),
        ),
        ("eve", "1.2.3.4", "shop", &certified, None, Ok(())),
        (
            "eve",
            "1.2.3.4",
            "shop",
            &stranger,
            None,
            Err("unknown users"),
        ),
        ("eve", "1.2.3.4", "shop", &[], Some("R2"), Ok(())),
        (
            "eve",
            "1.2.3.4",
            "shop",
            &[],
            Some("R3"),
            Err("unknown users"),
        ),
    ] {
        let opened = policies.open(&Opening {
            certificate,
            neighbor,
            ..opening(1, user, host, vhost)
        });
        match (opened, expected) {
            (Ok(_), Ok(())) => policies.closed(1),
            (Err(denial), Err(text)) => assert!(denial.0.contains(text), "{user}: {denial:?}"),
            (opened, expected) => panic!("{user} {host} {vhost}: {opened:?}, not {expected:?}"),
        }
    }
    let stats = policies.stats().next().unwrap();
    assert_eq!((stats.approved, stats.denied, stats.current), (3, 4, 0));
}

#[test]
fn connections_are_limited_in_all_and_by_user_and_host() {
    let everyone = &[("users", "*"), ("remoteHosts", "*")][..];
    for (limit, second, third, reason) in [
        (
            "maxConnections",
            ("b", "1.1.1.2"),
            ("c", "1.1.1.3"),
            "application connection limit",
        ),
        (
            "maxConnectionsPerUser",
            ("a", "1.1.1.2"),
            ("a", "1.1.1.3"),
            "per user limit",
        ),
        (
            "maxConnectionsPerHost",
            ("b", "1.1.1.1"),
            ("c", "1.1.1.1"),
            "per host limit",
        ),
    ] {
        let limits = [(limit, Value::Long(2))];
        let mut policies = policies(vec![vhost("v", &[("all", everyone)], &limits)]);
        policies.open(&opening(1, "a", "1.1.1.1", "v")).unwrap();
        policies.open(&opening(2, second.0, second.1, "v")).unwrap();
        let denied = policies.open(&opening(3, third.0, third.1, "v"));
        assert!(denied.unwrap_err().0.contains(reason), "{limit}");
        policies.closed(1);
        policies.open(&opening(3, third.0, third.1, "v")).unwrap();
    }
}

#[test]
fn a_groups_own_limit_beats_its_vhosts() {
    let group: &[_] = &[
        ("users", "*"),
        ("remoteHosts", "*"),
        ("maxConnectionsPerUser", "1"),
    ];
    let mut policies = policies(vec![vhost("v", &[("all", group)], &[])]);
    policies.open(&opening(1, "a", "1.1.1.1", "v")).unwrap();
    assert!(policies.open(&opening(2, "a", "1.1.1.1", "v")).is_err());
}

#[test]
fn links_may_be_what_the_group_says() {
    let group: &[_] = &[
        ("users", "bob"),
        ("remoteHosts", "*"),
        ("sources", "news, tmp-${user}*"),
        ("targetPattern", "orders/#, ${user}/in"),
        ("maxSenders", "2"),
        ("maxReceivers", "1"),
        ("allowAnonymousSender", "true"),
    ];
    let mut policies = policies(vec![vhost("v", &[("g", group)], &[])]);
    let grant = policies.open(&opening(1, "bob", "::1", "v")).unwrap();
    let (no, limit) = ("amqp:unauthorized-access", "amqp:resource-limit-exceeded");
    for (attach, senders, receivers, expected) in [
        (receiver(Some("news")), 0, 0, None),
        (receiver(Some("tmp-bob-1")), 0, 0, None),
        (receiver(Some("tmp-ann-1")), 0, 0, Some(no)),
        (receiver(Some("")), 0, 0, Some(no)),
        (receiver(None), 0, 0, Some(no)),
        (receiver(Some("news")), 0, 1, Some(limit)),
        (sender(Some("orders/1")), 1, 0, None),
        (sender(Some("bob/in")), 0, 0, None),
        (sender(Some("ann/in")), 0, 0, Some(no)),
        (sender(Some("orders/1")), 2, 0, Some(limit)),
        (sender(None), 0, 0, None),
    ] {
        let denied = grant
            .attach(&attach, ConnectionRole::Normal, senders, receivers)
            .err();
        let condition = denied.map(|denial| denial.error().condition.to_string());
        assert_eq!(condition.as_deref(), expected, "{attach:?}");
    }
    assert_eq!(grant.counts.receivers.load(Ordering::Relaxed), 4);
    assert_eq!(grant.counts.senders.load(Ordering::Relaxed), 2);
    assert!(grant.may_send_to("orders/2") && !grant.may_send_to("secrets"));
    assert!(grant.checks_user_id());
}

/// Who may use all that begins in some way must not get anywhere by a URL that begins so.
#[test]
fn a_url_is_allowed_by_how_it_is_written_and_by_what_it_means() {
    let group: &[_] = &[
        ("sources", "queue*, ws://host/queue"),
        ("targetPattern", "queue/#"),
    ];
    let grant = granted(group);
    for (address, receives, sends) in [
        ("queue/1", true, true),
        ("queue/x:/secret", false, false),
        ("queue/x://host/secret", false, false),
        ("queue/x:/queue/1", true, true),
        ("ws://host/queue", true, false),
        ("ws://host/secret", false, false),
    ] {
        assert_eq!(grant.may_receive_from(address), receives, "{address}");
        assert_eq!(grant.may_send_to(address), sends, "{address}");
        assert_eq!(grant.may_pass_to(address), sends, "{address}");
    }
}

#[test]
fn a_router_has_its_own_links_and_the_limits_of_its_group() {
    let group: &[_] = &[
        ("users", "*"),
        ("remoteHosts", "*"),
        ("targets", "b"),
        ("maxReceivers", "1"),
    ];
    let mut policies = policies(vec![vhost("v", &[("all", group)], &[])]);
    let neighbor = Opening {
        neighbor: Some("R2"),
        ..opening(1, "anonymous", "::1", "v")
    };
    let grant = policies.open(&neighbor).unwrap();
    let mut control = receiver(None);
    let source = control.source.as_mut().unwrap();
    source.capabilities = vec![Symbol::from_static("qd.router")];
    let router = ConnectionRole::InterRouter;
    grant.attach(&control, router, 0, 0).unwrap();
    grant.attach(&sender(None), router, 0, 0).unwrap();
    assert!(grant.attach(&control, router, 0, 1).is_err());
    assert!(grant.attach(&sender(Some("c")), router, 0, 0).is_err());
    assert!(
        grant
            .attach(&control, ConnectionRole::Normal, 0, 0)
            .is_err()
    );
    let answer = "amqp:/_topo/0/A/temp.1";
    assert!(grant.may_pass_to("b") && grant.may_pass_to(answer));
    assert!(!grant.may_pass_to("c") && !grant.may_send_to(answer));
    let prompt = |address| grant.may_pass_to(&prompt_address("0/A", address));
    assert!(prompt("b") && !prompt("c"));
}

#[test]
fn nothing_is_allowed_that_no_group_allows() {
    let group: &[_] = &[("users", "*"), ("remoteHosts", "*")];
    let mut policies = policies(vec![vhost("v", &[("all", group)], &[])]);
    let grant = policies.open(&opening(1, "a", "::1", "v")).unwrap();
    let mut dynamic = receiver(None);
    dynamic.source.as_mut().unwrap().dynamic = true;
    for attach in [
        sender(None),
        sender(Some("x")),
        receiver(Some("x")),
        dynamic,
    ] {
        assert!(
            grant.attach(&attach, ConnectionRole::Normal, 0, 0).is_err(),
            "{attach:?}"
        );
    }
}

#[test]
fn a_peer_reaches_a_vhost_by_name_alias_pattern_or_default() {
    let everyone = &[("users", "*"), ("remoteHosts", "*")][..];
    let aliases = [("aliases", Value::from("www.shop, old.shop"))];
    let vhosts = || {
        vec![
            vhost("shop", &[("all", everyone)], &aliases),
            vhost("*.example", &[("all", everyone)], &[]),
            vhost("$default", &[("all", everyone)], &[]),
        ]
    };
    let mut exact = policies(vhosts());
    exact.open(&opening(1, "a", "::1", "old.shop")).unwrap();
    exact.open(&opening(2, "a", "::1", "a.example")).unwrap();
    assert_eq!(
        current(&exact),
        [("$default", 1), ("*.example", 0), ("shop", 1)]
    );
    let mut patterns = Policies::new(PolicySettings {
        enable_vhost_name_patterns: true,
        ..settings()
    });
    for vhost in vhosts() {
        patterns.set(vhost).unwrap();
    }
    patterns.open(&opening(1, "a", "::1", "a.example")).unwrap();
    assert_eq!(
        current(&patterns),
        [("$default", 0), ("*.example", 1), ("shop", 0)]
    );
}

#[test]
fn an_update_concerns_the_next_connection_and_a_revocation_every_one() {
    let everyone = &[("users", "*"), ("remoteHosts", "*")][..];
    let mut policies = policies(vec![vhost("v", &[("all", everyone)], &[])]);
    let peer = opening(1, "ann", "::1", "v");
    policies.open(&peer).unwrap();
    let nobody = &[("users", "bob"), ("remoteHosts", "*")][..];
    policies.set(vhost("v", &[("all", nobody)], &[])).unwrap();
    assert_eq!(policies.revoked(&peer), None);
    assert!(policies.open(&opening(2, "ann", "::1", "v")).is_err());

    let revoked = [("revoked", Value::from("ann, router:R9"))];
    policies
        .set(vhost("v", &[("all", everyone)], &revoked))
        .unwrap();
    assert_eq!(policies.revoked(&peer).as_deref(), Some("ann"));
    assert!(policies.open(&opening(2, "ann", "::1", "v")).is_err());
    let neighbor = Opening {
        neighbor: Some("R9"),
        ..opening(3, "zoe", "::1", "v")
    };
    assert!(
        policies
            .open(&neighbor)
            .unwrap_err()
            .0
            .contains("'router:R9' is revoked")
    );
    policies.open(&opening(4, "zoe", "::1", "v")).unwrap();
    // A router that needs no vhost is under one nevertheless, a client is not.
    assert_eq!(policies.revoked(&neighbor).as_deref(), Some("router:R9"));
    assert_eq!(policies.revoked(&opening(5, "ann", "::1", "v")), None);

    policies.remove("v");
    assert_eq!(policies.revoked(&neighbor), None);
    assert!(policies.open(&opening(5, "zoe", "::1", "v")).is_err());
}

#[test]
fn sockets_are_limited_for_the_whole_router() {
    let mut policies = Policies::new(PolicySettings {
        max_connections: 1,
        ..settings()
    });
    assert!(policies.socket_opened());
    assert!(!policies.socket_opened());
    policies.socket_closed();
    assert!(policies.socket_opened());
    let counts = policies.counts();
    assert_eq!(
        (counts.processed, counts.denied, counts.total_denials),
        (3, 1, 1)
    );
}

#[test]
fn settings_that_no_group_has_are_named_and_count_for_nothing() {
    let groups: &Groups<'_> = &[
        ("g", &[("users", "a"), ("sorces", "x")]),
        ("h", &[("users", "b"), ("sources", "x")]),
    ];
    let vhost = vhost("v", groups, &[]);
    let unknown: Vec<_> = vhost.unknown_settings().collect();
    assert_eq!(unknown, [("g", "sorces")]);
}

#[test]
fn wrong_rules_are_refused_by_group_and_attribute() {
    for (settings, text) in [
        (
            &[("sources", "x"), ("sourcePattern", "y")][..],
            "exclude each other",
        ),
        (
            &[("remoteHosts", "9.9.9.9-1.1.1.1")],
            "'remoteHosts': '9.9.9.9-1.1.1.1'",
        ),
        (&[("maxSenders", "-1")], "'maxSenders': must be a number"),
        (&[("maxConnectionsPerUser", "70000")], "more than 65535"),
        (
            &[("allowDynamicSource", "maybe")],
            "'allowDynamicSource': must be true or false",
        ),
        (&[("targets", "${user}${user}")], "more than once"),
    ] {
        let error = read("v", &[("g", settings)], &[]).unwrap_err();
        assert!(error.contains(text), "{error}");
    }
    let twice = [("a", &[("users", "x")][..]), ("b", &[("users", "x")])];
    assert!(
        read("v", &twice, &[])
            .unwrap_err()
            .contains("is in the group 'a' already")
    );
    let unknown = [("allowUnknownUser", Value::Bool(true))];
    assert!(
        read("v", &[], &unknown)
            .unwrap_err()
            .contains("has no '$default'")
    );
    let mut policies = policies(vec![vhost("v", &[], &[("aliases", Value::from("w"))])]);
    assert!(policies.set(vhost("w", &[], &[])).is_err());
}

/// What a group with these settings grants a router, `S`.
pub(crate) fn granted(settings: &[(&str, &str)]) -> Arc<Grant> {
    let everyone = [("users", "*"), ("remoteHosts", "*")];
    let group = [&everyone, settings].concat();
    let mut policies = policies(vec![vhost("v", &[("all", &group)], &[])]);
    let opening = Opening {
        neighbor: Some("S"),
        ..opening(1, "anonymous", "::1", "v")
    };
    policies.open(&opening).unwrap()
}

type Groups<'a> = [(&'a str, &'a [(&'a str, &'a str)])];

#[test]
fn names_that_mean_the_same_are_refused() {
    let refusal = |patterns: bool, name: &str, aliases: &str| {
        let mut policies = Policies::new(PolicySettings {
            enable_vhost_name_patterns: patterns,
            ..settings()
        });
        let first = vhost("#.0.0", &[], &[("aliases", "shop".into())]);
        policies.set(first).unwrap();
        let second = vhost(name, &[], &[("aliases", aliases.into())]);
        policies.set(second).err().unwrap_or_default()
    };
    for (name, aliases) in [
        ("#.#.0.0", ""),
        ("a", "#/0/0"),
        ("a", "#.*, *.#"),
        ("a.b", "a/b"),
    ] {
        assert_eq!(refusal(false, name, aliases), "", "they are only names");
        let refused = refusal(true, name, aliases);
        assert!(
            refused.contains("pattern conflicts with"),
            "{name}: {refused}"
        );
    }
    for patterns in [false, true] {
        for (name, aliases) in [("shop", ""), ("a", "shop"), ("a", "#.0.0")] {
            let refused = refusal(patterns, name, aliases);
            assert!(refused.contains("of vhost '#.0.0'") || refused.contains("vhost '#.0.0' has"));
        }
        assert_eq!(refusal(patterns, "#.0.1", "shops"), "");
    }
}

#[test]
fn a_vhost_may_be_filed_again() {
    let mut policies = Policies::new(PolicySettings {
        enable_vhost_name_patterns: true,
        ..settings()
    });
    for _ in 0..2 {
        policies
            .set(vhost("#.0.0", &[], &[("aliases", "shop".into())]))
            .unwrap();
    }
}

fn vhost(hostname: &str, groups: &Groups<'_>, attributes: &[(&str, Value)]) -> Vhost {
    read(hostname, groups, attributes).unwrap()
}

fn read(
    hostname: &str,
    groups: &Groups<'_>,
    attributes: &[(&str, Value)],
) -> Result<Vhost, String> {
    let map = |pairs: &[(&str, &str)]| {
        let pair = |(key, value): &(&str, &str)| (Value::from(*key), Value::from(*value));
        Value::Map(pairs.iter().map(pair).collect())
    };
    let groups = groups
        .iter()
        .map(|(name, of)| (Value::from(*name), map(of)));
    let mut all: HashMap<&str, Value> = attributes.iter().cloned().collect();
    all.insert("hostname", hostname.into());
    all.insert("groups", Value::Map(groups.collect()));
    Vhost::read(|name| all.get(name).unwrap_or(&Value::Null))
}

fn policies(vhosts: Vec<Vhost>) -> Policies {
    let mut policies = Policies::new(settings());
    for vhost in vhosts {
        policies.set(vhost).unwrap();
    }
    policies
}

fn settings() -> PolicySettings {
    PolicySettings {
        max_connections: 100,
        max_message_size: None,
        enable_vhost_name_patterns: false,
        default_vhost: "$default".into(),
    }
}

fn opening<'a>(connection: u64, user: &'a str, host: &str, vhost: &'a str) -> Opening<'a> {
    Opening {
        connection,
        user,
        host: host.parse().unwrap(),
        vhost,
        certificate: &[],
        neighbor: None,
    }
}

fn current(policies: &Policies) -> Vec<(&'static str, usize)> {
    let names = ["$default", "*.example", "shop"];
    let stats: Vec<_> = policies.stats().collect();
    let of = |name| stats.iter().find(|stats| stats.hostname == name).unwrap();
    names.map(|name| (name, of(name).current)).to_vec()
}

fn sender(target: Option<&str>) -> Attach {
    let node = TargetNode {
        address: target.map(str::to_owned),
        ..TargetNode::default()
    };
    Attach {
        role: Role::Sender,
        target: Some(Target::Node(node)),
        ..Attach::default()
    }
}

fn receiver(source: Option<&str>) -> Attach {
    Attach {
        role: Role::Receiver,
        source: Some(Source {
            address: source.map(str::to_owned),
            ..Source::default()
        }),
        ..Attach::default()
    }
}
