//! What skupper-router's tools ask of a router, in the order in which they ask, and whether the
//! answers have what their reports show (`reference/router/config-and-management.md` §6).

#![allow(clippy::disallowed_methods)] // tests wait for what takes time

use std::collections::BTreeMap;

use interop_tests::{
    Job, Peer, Request, Router, RouterBuilder, available, eventually, fields, rows,
};
use serde_json::{Map, Value, json};

/// One report of skstat: its queries, with the columns that it asks for, or none for all, and the
/// columns that it shows.
struct Report {
    option: &'static str,
    queries: &'static [Query],
}

struct Query {
    entity: &'static str,
    asked: &'static str,
    /// `name:kind`: `s` a text, `n` a number, `b` true or false, `m` a map, `l` a list; with `?`
    /// nothing will do.
    shown: &'static str,
}

const REPORTS: &[Report] = &[
    Report {
        option: "-g",
        queries: &[ROUTER, METRICS, NETWORK, ROUTER_ID],
    },
    Report {
        option: "-c",
        queries: &[CONNECTIONS, ROUTER_ID],
    },
    Report {
        option: "-e",
        queries: &[CONNECTIONS, ROUTER_ID],
    },
    Report {
        option: "-l",
        queries: &[LINKS, ROUTER_ID],
    },
    Report {
        option: "-n",
        queries: &[NODES, ROUTER_ID],
    },
    Report {
        option: "-a",
        queries: &[ADDRESSES, ROUTER_ID],
    },
    Report {
        option: "--autolinks",
        queries: &[AUTO_LINKS, ROUTER_ID],
    },
    Report {
        option: "-m",
        queries: &[POOLS, ROUTER_ID, METRICS],
    },
    Report {
        option: "-p",
        queries: &[POLICY, ROUTER_ID],
    },
    Report {
        option: "--vhosts",
        queries: &[VHOSTS],
    },
    Report {
        option: "--vhoststats",
        queries: &[VHOST_STATS],
    },
];

const ROUTER_ID: Query = Query {
    entity: "routerMetrics",
    asked: "",
    shown: "id:s",
};

const ROUTER: Query = Query {
    entity: "router",
    asked: "",
    shown: "mode:s hostName:s helloIntervalSeconds:n helloMaxAgeSeconds:n raIntervalSeconds:n \
            raIntervalFluxSeconds:n remoteLsMaxAgeSeconds:n debugDumpFile:s? saslConfigDir:s? \
            saslConfigName:s timestampsInUTC:b? timestampFormat:s? defaultDistribution:s \
            metadata:s? dataConnectionCount:s workerThreads:n area:s",
};

const METRICS: Query = Query {
    entity: "routerMetrics",
    asked: "",
    shown: "version:s id:s uptimeSeconds:n memoryUsage:n residentMemoryUsage:n autoLinkCount:n \
            linkCount:n nodeCount:n addrCount:n connectionCount:n presettledDeliveries:n \
            droppedPresettledDeliveries:n acceptedDeliveries:n rejectedDeliveries:n \
            releasedDeliveries:n modifiedDeliveries:n deliveriesDelayed1Sec:n \
            deliveriesDelayed10Sec:n deliveriesStuck:n deliveriesIngress:n deliveriesEgress:n \
            deliveriesTransit:n deliveriesIngressRouteContainer:n deliveriesEgressRouteContainer:n \
            deliveriesIngressInterNetwork:n deliveriesEgressInterNetwork:n connectionCounters:m",
};

const NETWORK: Query = Query {
    entity: "network",
    asked: "",
    shown: "networkId:s? tenantId:s?",
};

const CONNECTIONS: Query = Query {
    entity: "connection",
    asked: "",
    shown: "identity:s host:s container:s? role:s protocol:s dir:s isEncrypted:b sslProto:s? \
            sslCipher:s? isAuthenticated:b sasl:s? user:s? meshId:s? lastDlvSeconds:n? \
            uptimeSeconds:n active:b? properties:m",
};

const LINKS: Query = Query {
    entity: "router.link",
    asked: "linkType linkDir connectionId identity owningAddr capacity undeliveredCount \
            unsettledCount deliveryCount presettledCount droppedPresettledCount acceptedCount \
            rejectedCount releasedCount modifiedCount deliveriesDelayed1Sec deliveriesDelayed10Sec \
            deliveriesStuck creditAvailable zeroCreditSeconds adminStatus operStatus linkName \
            priority settleRate",
    shown: "linkType:s linkDir:s connectionId:s identity:s owningAddr:s? capacity:n priority:n \
            undeliveredCount:n unsettledCount:n deliveryCount:n presettledCount:n \
            droppedPresettledCount:n acceptedCount:n rejectedCount:n releasedCount:n \
            modifiedCount:n deliveriesDelayed1Sec:n deliveriesDelayed10Sec:n settleRate:n \
            deliveriesStuck:n creditAvailable:n zeroCreditSeconds:n adminStatus:s? operStatus:s \
            linkName:s",
};

const NODES: Query = Query {
    entity: "router.node",
    asked: "",
    shown: "id:s nextHop:s? routerLink:s? lastTopoChange:n protocolVersion:n cost:n? linkState:l \
            validOrigins:l",
};

const ADDRESSES: Query = Query {
    entity: "router.address",
    asked: "distribution inProcess subscriberCount remoteCount deliveriesIngress deliveriesEgress \
            deliveriesTransit deliveriesToContainer deliveriesFromContainer name priority watch",
    shown: "name:s distribution:s priority:n inProcess:n subscriberCount:n remoteCount:n \
            deliveriesIngress:n deliveriesEgress:n deliveriesTransit:n deliveriesToContainer:n \
            deliveriesFromContainer:n watch:b",
};

const AUTO_LINKS: Query = Query {
    entity: "router.config.autoLink",
    asked: "address direction externalAddress linkRef operStatus lastError",
    shown: "address:s? direction:s externalAddress:s? linkRef:s? operStatus:s lastError:s?",
};

const POOLS: Query = Query {
    entity: "allocator",
    asked: "identity typeSize transferBatchSize localFreeListMax totalAllocFromHeap \
            totalFreeToHeap heldByThreads batchesRebalancedToThreads batchesRebalancedToGlobal",
    shown: "identity:s typeSize:n transferBatchSize:n localFreeListMax:n totalAllocFromHeap:n \
            totalFreeToHeap:n heldByThreads:n batchesRebalancedToThreads:n \
            batchesRebalancedToGlobal:n",
};

const POLICY: Query = Query {
    entity: "policy",
    asked: "",
    shown: "maxConnections:n maxMessageSize:n enableVhostPolicy:b enableVhostNamePatterns:b \
            policyDir:s defaultVhost:s connectionsProcessed:n connectionsDenied:n \
            connectionsCurrent:n linksDenied:n maxMessageSizeDenied:n totalDenials:n",
};

const VHOSTS: Query = Query {
    entity: "vhost",
    asked: "",
    shown: "hostname:s maxConnections:n maxMessageSize:n? maxConnectionsPerUser:n \
            maxConnectionsPerHost:n allowUnknownUser:b groups:m",
};

const VHOST_STATS: Query = Query {
    entity: "vhostStats",
    asked: "",
    shown: "hostname:s connectionsApproved:n connectionsDenied:n connectionsCurrent:n \
            sessionDenied:n senderDenied:n receiverDenied:n maxMessageSizeDenied:n perUserState:m",
};

#[test]
fn every_report_of_skstat_has_what_it_shows() {
    let Some(network) = Network::start() else {
        return;
    };
    for (from, agent, id) in network.agents() {
        for report in REPORTS {
            let requests = report.queries.iter().map(Query::request).collect();
            let answers = ask(from, agent, requests);
            for (query, answer) in report.queries.iter().zip(&answers) {
                let what = format!("{} of {id} by {agent}: {}", report.option, query.entity);
                let rows = table(answer, &what);
                assert_eq!(rows.is_empty(), query.is_empty_at(id), "{what}");
                for row in &rows {
                    query.check(row, &what);
                }
                if query.entity == "routerMetrics" {
                    assert_eq!(rows[0]["id"], id, "{what}");
                }
            }
        }
    }
}

#[test]
fn a_report_of_all_routers_goes_from_one_to_the_next() {
    let Some(network) = Network::start() else {
        return;
    };
    let nodes = || {
        let answers = ask(
            &network.a,
            "$management",
            vec![node_request("GET-MGMT-NODES", &[])],
        );
        let nodes = answers[0]["body"].as_array().cloned().unwrap_or_default();
        let nodes = nodes
            .iter()
            .map(|node| node.as_str().expect("a text").to_owned());
        nodes.collect::<Vec<_>>()
    };
    eventually("both interior routers are known", || nodes().len() == 2);
    let mut ids = Vec::new();
    for node in nodes() {
        // What comes after the scheme is the address that the tool sends to.
        let agent = node.strip_prefix("amqp:/").expect("a scheme");
        let answers = ask(&network.a, agent, vec![ROUTER_ID.request()]);
        ids.push(table(&answers[0], agent)[0]["id"].clone());
    }
    assert_eq!(ids, ["A", "B"]);
}

#[test]
fn user_groups_and_the_log_are_shown() {
    let Some(network) = Network::start() else {
        return;
    };
    let requests = vec![
        VHOSTS.request(),
        node_request("GET-SCHEMA", &[]),
        node_request("GET-LOG", &[("limit", json!(["int", 5]))]),
    ];
    let answers = ask(&network.a, "$management", requests);
    let rows = table(&answers[0], "vhosts");
    let groups = rows[0]["groups"].as_object().expect("a map");
    assert_eq!(groups["$default"]["users"], "*");
    let types = &answers[1]["body"]["entityTypes"];
    let settings = &types["vhostUserGroupSettings"]["attributes"];
    let listener = &types["listener"];
    for described in [listener, &listener["attributes"]["host"]] {
        let text = described["description"].as_str().expect("a description");
        assert!(text.ends_with('.'), "{text}");
    }
    assert_eq!(settings["maxSenders"]["default"], 2_147_483_647);
    let lines = answers[2]["body"].as_array().expect("a list");
    assert_eq!(lines.len(), 5);
    for line in lines {
        let [module, level, text, _, _, time] = &line.as_array().expect("a list")[..] else {
            panic!("{line}");
        };
        assert!(module.is_string() && level.is_string() && text.is_string() && time.is_i64());
    }
}

#[test]
fn both_ends_of_a_connection_between_routers_show_the_same() {
    let Some(network) = Network::start() else {
        return;
    };
    for router in [&network.a, &network.b] {
        let links = rows(router, "router.link");
        let between = links
            .iter()
            .filter(|link| link["linkType"] == "inter-router");
        let mut seen: Vec<_> = between
            .map(|link| (link["linkDir"].to_string(), link["priority"].as_i64()))
            .collect();
        seen.sort();
        let all = ["\"in\"", "\"out\""].into_iter().flat_map(|direction| {
            (0..10).map(move |priority| (direction.to_owned(), Some(priority)))
        });
        assert_eq!(seen, all.collect::<Vec<_>>());
        let mut control = links
            .iter()
            .filter(|link| link["linkType"] == "router-control");
        assert!(control.all(|link| link["priority"] == 9));
        let connections = rows(router, "connection");
        let mut between = connections
            .iter()
            .filter(|row| row["role"] == "inter-router");
        assert!(between.all(|row| row["sasl"] == "ANONYMOUS" && row["isAuthenticated"] == true));
    }
}

#[test]
fn who_is_connected_under_a_vhost_is_shown_by_where_from() {
    let Some(network) = Network::start() else {
        return;
    };
    let queries = vec![VHOST_STATS.request(), CONNECTIONS.request()];
    let answers = ask(&network.a, "$management", queries);
    let stats = table(&answers[0], "vhostStats");
    let connections = table(&answers[1], "connection");
    let asker = connections.iter().find(|row| row["role"] == "normal");
    let host = &asker.expect("who asks")["host"];
    for (state, key) in [("perUserState", "anonymous"), ("perHostState", "127.0.0.1")] {
        let state = &stats[0][state][key];
        assert_eq!(state, &json!([host]), "{stats:?}");
    }
}

#[test]
fn skmanage_makes_changes_and_shows_them() {
    let Some(network) = Network::start() else {
        return;
    };
    let kind = "io.skupper.router.sslProfile";
    let attributes = [("name", "of the tool"), ("type", kind)];
    let subject = |operation: &str| {
        let mut properties = fields([("operation", json!(["string", operation]))]);
        for (name, value) in attributes {
            properties.insert(name.to_owned(), json!(["string", value]));
        }
        properties
    };
    // The tool has the name and the type in both.
    let body = |more: &[(&str, Value)]| {
        let own = attributes.map(|(name, value)| json!([["string", name], ["string", value]]));
        let more = more
            .iter()
            .map(|(name, value)| json!([["string", name], value]));
        json!(["map", own.into_iter().chain(more).collect::<Vec<_>>()])
    };
    let ordinal = |number: i32| body(&[("ordinal", json!(["int", number]))]);
    let requests = vec![
        request(subject("CREATE"), ordinal(3)),
        request(subject("READ"), json!(["map", []])),
        request(subject("UPDATE"), ordinal(4)),
        request(subject("DELETE"), json!(["map", []])),
        request(subject("READ"), json!(["map", []])),
    ];
    let answers = ask(&network.a, "$management", requests);
    let codes = [201, 200, 200, 204, 404];
    assert_eq!(answers.iter().map(status).collect::<Vec<_>>(), codes);
    assert_eq!(answers[0]["body"]["identity"], "sslProfile/of the tool");
    let ordinals = answers[..3].iter().map(|answer| &answer["body"]["ordinal"]);
    assert_eq!(ordinals.collect::<Vec<_>>(), [3, 3, 4]);

    let about =
        |operation: &str| node_request(operation, &[("entityType", json!(["string", kind]))]);
    let requests = ["GET-TYPES", "GET-ATTRIBUTES", "GET-OPERATIONS"].map(about);
    let answers = ask(&network.a, "$management", requests.to_vec());
    let said = |answer: &Value| answer["body"][kind].as_array().cloned().expect("a list");
    let prefixed = |name: &str| json!(format!("io.skupper.router.{name}"));
    let bases = ["configurationEntity", "entity"].map(prefixed);
    assert_eq!(said(&answers[0]), bases);
    assert!(said(&answers[1]).contains(&json!("ordinal")));
    assert_eq!(said(&answers[2]), ["CREATE", "UPDATE", "DELETE", "READ"]);
}

/// E – A – B, with something of everything at A and E.
struct Network {
    a: Router,
    b: Router,
    e: Router,
}

impl Network {
    fn start() -> Option<Self> {
        if !Router::is_ours_to_configure() || !available(&[Peer::Proton]) {
            return None;
        }
        let a = interior("A", None).start();
        let b = interior("B", Some(a.port("inter-router"))).start();
        let e = equipped("E", "edge").entity("connector", towards(a.port("edge"), "edge"));
        let network = Self { e: e.start(), b, a };
        eventually("the network is there", || {
            let is_up = |row: &BTreeMap<String, Value>| row["connectionStatus"] == "SUCCESS";
            rows(&network.e, "connector").iter().any(is_up)
                && rows(&network.a, "router.node").len() == 2
        });
        Some(network)
    }

    /// Which router to ask for whom: the connected one, and others, as `-r` and `-d` do.
    fn agents(&self) -> [(&Router, &'static str, &'static str); 5] {
        [
            (&self.a, "$management", "A"),
            (&self.a, "_topo/0/A/$management", "A"),
            (&self.e, "_topo/0/A/$management", "A"),
            (&self.e, "$management", "E"),
            (&self.a, "_edge/E/$management", "E"),
        ]
    }
}

fn interior(id: &str, neighbour: Option<u16>) -> RouterBuilder {
    let mut router = equipped(id, "interior");
    for role in ["inter-router", "edge"] {
        router = router.listener(role, json!({"role": role, "saslMechanisms": "ANONYMOUS"}));
    }
    match neighbour {
        Some(port) => router.entity("connector", towards(port, "inter-router")),
        None => router,
    }
}

fn equipped(id: &str, mode: &str) -> RouterBuilder {
    let group = json!({
        "users": "*",
        "remoteHosts": "*",
        "allowDynamicSource": true,
        "allowAnonymousSender": true,
        "sources": "*",
        "targets": "*",
    });
    RouterBuilder::plain()
        .router(json!({"mode": mode, "id": id}))
        .entity("policy", json!({"enableVhostPolicy": true}))
        .entity(
            "vhost",
            json!({"hostname": "$default", "allowUnknownUser": true, "groups": {"$default": group}}),
        )
        .entity(
            "autoLink",
            json!({"name": "a", "address": "a", "direction": "in", "containerId": "c"}),
        )
}

fn towards(port: u16, role: &str) -> Value {
    let (name, port) = (format!("to {port}"), port.to_string());
    json!({"name": name, "host": "127.0.0.1", "port": port, "role": role})
}

impl Query {
    fn request(&self) -> Request {
        let names = self.asked.split_whitespace();
        let names: Vec<Value> = names.map(|name| json!(["string", name])).collect();
        let kind = format!("io.skupper.router.{}", self.entity);
        let properties = [
            ("entityType", json!(["string", kind])),
            ("offset", json!(["int", 0])),
            ("count", json!(["int", 500])),
        ];
        let mut request = node_request("QUERY", &properties);
        request.body = json!(["map", [[["string", "attributeNames"], ["list", names]]]]);
        request
    }

    /// An edge router is in no network of its own.
    fn is_empty_at(&self, router: &str) -> bool {
        self.entity == "router.node" && router == "E"
    }

    fn check(&self, row: &BTreeMap<String, Value>, what: &str) {
        for column in self.shown.split_whitespace() {
            let (name, kind) = column.split_once(':').expect("a kind");
            let value = row
                .get(name)
                .unwrap_or_else(|| panic!("{what} has no column {name}"));
            let fits = match kind.trim_end_matches('?') {
                "s" => value.is_string(),
                "n" => value.is_i64(),
                "b" => value.is_boolean(),
                "m" => value.is_object(),
                "l" => value.is_array(),
                other => panic!("{other} is no kind"),
            };
            let absent = kind.ends_with('?') && value.is_null();
            assert!(fits || absent, "{what}: {name} is {value}");
        }
    }
}

/// A request to the agent itself, as the tools' library words it.
fn node_request(operation: &str, more: &[(&str, Value)]) -> Request {
    let mut properties = fields([
        ("operation", json!(["string", operation])),
        ("name", json!(["string", "self"])),
        ("type", json!(["string", "org.amqp.management"])),
    ]);
    for (name, value) in more {
        properties.insert((*name).to_owned(), value.clone());
    }
    request(properties, json!(["map", []]))
}

fn request(application_properties: Map<String, Value>, body: Value) -> Request {
    Request {
        body,
        application_properties,
        ..Request::text("", "")
    }
}

/// Asks all of it on one connection, one after the other; the answers, in order.
fn ask(router: &Router, agent: &str, mut requests: Vec<Request>) -> Vec<Value> {
    for (number, request) in requests.iter_mut().enumerate() {
        request.correlation_id = number.to_string();
    }
    let count = requests.len();
    let job = Job::request(agent, requests).plain_body();
    let answered = Peer::Proton.start(router, job).finish();
    let mut answers: Vec<Value> = answered.named("message").into_iter().cloned().collect();
    answers.sort_by_key(|answer| {
        let id = answer["correlation_id"].as_str().expect("an id");
        id.parse::<usize>().expect("a number")
    });
    assert_eq!(answers.len(), count, "{answered}");
    answers
}

fn table(answer: &Value, what: &str) -> Vec<BTreeMap<String, Value>> {
    assert_eq!(status(answer), 200, "{what}: {answer}");
    let names = answer["body"]["attributeNames"].as_array().expect("names");
    let rows = answer["body"]["results"].as_array().expect("rows");
    let row = |row: &Value| {
        let names = names.iter().map(|name| name.as_str().expect("a name"));
        let values = row.as_array().expect("a row").iter().cloned();
        names.map(str::to_owned).zip(values).collect()
    };
    rows.iter().map(row).collect()
}

fn status(answer: &Value) -> i64 {
    let properties = &answer["application_properties"];
    properties["statusCode"].as_i64().expect("a status code")
}
