//! What `$management` shows of a router with much to show, page by page.

use std::collections::BTreeSet;
use std::time::Duration;

use amqp_router::{Body, Config, Message, Properties, Receiver, Router, Sender, Value};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// A client of the agent.
struct Asker {
    requests: Sender,
    answers: Receiver,
}

/// A row of a query: the values of its columns.
type Row = Vec<Value>;

impl Asker {
    async fn at(router: &Router) -> Self {
        Self {
            requests: router.sender("$management").await.expect("attached"),
            answers: router.dynamic_receiver(10).await.expect("attached"),
        }
    }

    async fn ask(&mut self, properties: Vec<(&str, Value)>, columns: &[&str]) -> (i64, Value) {
        let columns = columns.iter().map(|name| Value::from(*name)).collect();
        let body = Value::Map(vec![("attributeNames".into(), Value::List(columns))]);
        let message = self.answer(properties, body).await;
        let status = message.application_property("statusCode");
        let status = status.and_then(Value::as_i64).expect("always there");
        match message.body {
            Body::Value(value) => (status, value),
            other => panic!("{other:?}"),
        }
    }

    async fn answer(&mut self, properties: Vec<(&str, Value)>, body: Value) -> Message {
        let mut request = Message::of_value(body);
        request.properties = Some(Properties {
            reply_to: Some(self.answers.address().into()),
            ..Properties::default()
        });
        let properties = properties.into_iter();
        request.application_properties = properties
            .map(|(key, value)| (key.to_owned(), value))
            .collect();
        self.requests.send(&request).await.expect("sent");
        let answer = timeout(LIMIT, self.answers.recv()).await.expect("in time");
        let answer = answer.expect("a delivery");
        let message = answer.message().expect("a message");
        answer.accept();
        message
    }

    /// Creates an entity: what it is then, or why it is not.
    async fn create(
        &mut self,
        kind: &str,
        attributes: Vec<(&str, Value)>,
    ) -> Result<Value, String> {
        let properties = vec![
            ("operation", "CREATE".into()),
            ("type", format!("io.skupper.router.{kind}").into()),
        ];
        let attributes = attributes.into_iter();
        let attributes = attributes.map(|(key, value)| (key.into(), value)).collect();
        let message = self.answer(properties, Value::Map(attributes)).await;
        match (message.application_property("statusCode"), &message.body) {
            (Some(Value::Int(201)), Body::Value(value)) => Ok(value.clone()),
            (Some(Value::Int(400)), _) => {
                let why = message.application_property("statusDescription");
                Err(why.and_then(Value::as_str).expect("a reason").to_owned())
            }
            other => panic!("{other:?}"),
        }
    }

    async fn rows(&mut self, kind: &str, columns: &[&str], page: Option<(u32, u32)>) -> Vec<Row> {
        let mut properties = vec![
            ("operation", "QUERY".into()),
            ("entityType", format!("io.skupper.router.{kind}").into()),
        ];
        if let Some((offset, count)) = page {
            properties.extend([("offset", offset.into()), ("count", count.into())]);
        }
        let (status, body) = self.ask(properties, columns).await;
        assert_eq!(status, 200, "{body:?}");
        let rows = body.get("results").and_then(Value::as_list);
        let rows = rows.expect("rows").iter();
        rows.map(|row| row.as_list().expect("a row").to_vec())
            .collect()
    }

    /// All rows, by as many pages as it takes.
    async fn pages(&mut self, kind: &str, columns: &[&str]) -> Vec<Row> {
        const PAGE: u32 = 7;
        let mut all: Vec<Row> = Vec::new();
        loop {
            let offset = u32::try_from(all.len()).expect("few");
            let rows = self.rows(kind, columns, Some((offset, PAGE))).await;
            let is_last = rows.len() < PAGE as usize;
            all.extend(rows);
            if is_last {
                return all;
            }
        }
    }

    async fn read(&mut self, kind: &str, by: &str, value: &Value) -> (i64, Value) {
        let properties = vec![
            ("operation", "READ".into()),
            ("type", format!("io.skupper.router.{kind}").into()),
            (by, value.clone()),
        ];
        self.ask(properties, &[]).await
    }
}

#[tokio::test]
async fn open_properties_that_cannot_be_are_refused_with_the_same_words_everywhere() {
    let router =
        Router::start(Config::from_text("r.conf", INTERIOR).expect("right")).expect("it starts");
    let mut asker = Asker::at(&router).await;
    let with = |key: &str| Value::Map(vec![(key.into(), 1u32.into())]);
    for (role, properties, in_file, why) in [
        (
            "normal",
            Value::from("x"),
            Some("\"x\""),
            "Properties must be a map: the attribute 'openProperties' is 'x', but must have names and values, like {\"key\": \"value\"}",
        ),
        (
            "normal",
            with("stra\u{df}e"),
            Some("{\"stra\u{df}e\": 1}"),
            "Property keys must be ASCII encoded: the attribute 'openProperties' has the key 'stra\u{df}e', but must have keys that are texts of ASCII characters",
        ),
        (
            "normal",
            Value::Map(vec![(7u32.into(), 1u32.into())]),
            None,
            "Property keys must be ASCII encoded: the attribute 'openProperties' has the key 7, but must have keys that are texts of ASCII characters",
        ),
        (
            "normal",
            with("version"),
            Some("{\"version\": 1}"),
            "Reserved key 'version' not allowed in openProperties: the router sets it itself, and the attribute must be without it",
        ),
        (
            "route-container",
            with("qd.x"),
            Some("{\"qd.x\": 1}"),
            "Reserved key 'qd.x' not allowed in openProperties: keys must not begin with 'qd.', as the router's own do",
        ),
        (
            "inter-router",
            with("k"),
            Some("{\"k\": 1}"),
            "openProperties not allowed for role inter-router: the attribute 'openProperties' has the key 'k', but must be empty between routers, or role be normal or route-container",
        ),
    ] {
        for kind in ["listener", "connector"] {
            let attributes = vec![
                ("name", "n".into()),
                ("host", "127.0.0.1".into()),
                ("port", "0".into()),
                ("role", role.into()),
                ("openProperties", properties.clone()),
            ];
            let refused = asker.create(kind, attributes).await.expect_err(why);
            assert_eq!(refused, format!("{why} ({kind} 'n')"));
            let Some(in_file) = in_file else { continue };
            let text = format!(
                "{INTERIOR}{kind} {{\n name: n\n host: 127.0.0.1\n port: 5\n \
                 role: {role}\n openProperties: {in_file}\n}}\n"
            );
            let refused = Config::from_text("r.conf", &text)
                .expect_err(why)
                .to_string();
            assert!(refused.contains(&format!("{kind} 'n': {why}")), "{refused}");
        }
    }
    router.stop().await;
}

#[tokio::test]
async fn a_number_stands_for_a_word_where_skrouterd_has_it_so() {
    let router = Router::start(Config::new("embedded")).expect("it starts");
    let mut asker = Asker::at(&router).await;
    for (name, strip, expected) in [
        ("first", Value::from(1u32), "out"),
        ("second", Value::from("3"), "no"),
    ] {
        let listener = vec![
            ("name", name.into()),
            ("host", "127.0.0.1".into()),
            ("port", "0".into()),
            ("stripAnnotations", strip),
        ];
        let made = asker.create("listener", listener).await.expect("made");
        let strip = made.get("stripAnnotations").and_then(Value::as_str);
        assert_eq!(strip, Some(expected));
    }
    // The core of a skrouterd takes no numbers; for a distribution it then takes balanced.
    for distribution in [Value::from(1u32), Value::from("1")] {
        let shown = match &distribution {
            Value::String(_) => "'1'",
            _ => "1",
        };
        let address = vec![
            ("name", "a".into()),
            ("prefix", "a".into()),
            ("distribution", distribution),
        ];
        let refused = asker.create("router.config.address", address).await;
        let why = format!(
            "the attribute 'distribution' is {shown}, but must be one of multicast, closest, \
             balanced, unavailable (address 'a')"
        );
        assert_eq!(refused, Err(why));
    }
    router.stop().await;
    let text = "router {\n id: R\n}\naddress {\n prefix: a\n distribution: 1\n}\n";
    let router = Router::start(Config::from_text("r.conf", text).expect("it is right"));
    let router = router.expect("it starts");
    let mut asker = Asker::at(&router).await;
    let rows = asker
        .rows("router.config.address", &["distribution"], None)
        .await;
    assert_eq!(rows, [["closest".into()]]);
    router.stop().await;
}

#[tokio::test]
async fn pages_of_addresses_make_up_the_whole_with_their_counts() {
    let router = Router::start(Config::new("embedded")).expect("it starts");
    let mut asker = Asker::at(&router).await;
    let mut receivers: Vec<Receiver> = Vec::new();
    for number in 0..30u32 {
        let address = format!("a{number}");
        let mut receiver = router.receiver(&address, 10).await.expect("attached");
        let mut sender = router.sender(&address).await.expect("attached");
        for _ in 0..number % 3 {
            let message = Message::of_value(number);
            sender.send_settled(&message).await.expect("sent");
            let delivery = timeout(LIMIT, receiver.recv()).await.expect("in time");
            delivery.expect("a delivery").accept();
        }
        receivers.push(receiver);
    }
    let columns = ["key", "deliveriesFromContainer", "deliveriesToContainer"];
    let pages = asker.pages("router.address", &columns).await;
    let keys: BTreeSet<&str> = pages.iter().filter_map(|row| row[0].as_str()).collect();
    assert_eq!(keys.len(), pages.len(), "each is there once");
    for number in 0..30 {
        let key = format!("Ma{number}");
        let row = pages.iter().find(|row| row[0].as_str() == Some(&key));
        let row = row.expect("it has a row");
        let counts: Vec<_> = row[1..].iter().map(Value::as_i64).collect();
        assert_eq!(counts, [Some(number % 3); 2], "{key}");
        let (status, read) = asker.read("router.address", "name", &row[0]).await;
        assert_eq!(status, 200);
        let count = read.get("deliveriesToContainer").and_then(Value::as_i64);
        assert_eq!(count, Some(number % 3), "{key}");
    }
    let whole = asker.rows("router.address", &["key"], None).await;
    let order = |rows: &[Row]| rows.iter().map(|row| row[0].clone()).collect::<Vec<_>>();
    assert_eq!(order(&pages), order(&whole));
    let (status, _) = asker.read("router.address", "name", &"Mnone".into()).await;
    assert_eq!(status, 404);
    router.stop().await;
}

#[tokio::test]
async fn pages_of_connections_go_on_from_amqp_to_tcp() {
    let service = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = service.local_addr().expect("an address").port();
    let here = free_port();
    let text = format!(
        "router {{\n id: R\n}}\nlistener {{\n name: amqp\n host: 127.0.0.1\n port: 0\n}}\n\
         tcpConnector {{\n name: there\n address: service\n host: 127.0.0.1\n port: {port}\n}}\n\
         tcpListener {{\n name: here\n address: service\n host: 127.0.0.1\n port: {here}\n}}\n"
    );
    let config = Config::from_text("router.conf", &text).expect("valid");
    let router = Router::start(config).expect("it starts");
    let amqp = router.listening()[0].1[0];
    let mut sockets = Vec::new();
    for _ in 0..10 {
        sockets.push(TcpStream::connect(amqp).await.expect("taken"));
    }
    for _ in 0..12 {
        sockets.push(connect(here).await);
        sockets.push(service.accept().await.expect("a connection").0);
    }
    let mut asker = Asker::at(&router).await;
    let columns = ["identity", "protocol", "host", "name"];
    // The router takes connections in its own time.
    let whole = loop {
        let whole = asker.rows("connection", &columns, None).await;
        if whole.len() == 10 + 2 * 12 {
            break whole;
        }
        tokio::task::yield_now().await;
    };
    let pages = asker.pages("connection", &columns).await;
    assert_eq!(pages, whole);
    let protocols: Vec<_> = pages.iter().filter_map(|row| row[1].as_str()).collect();
    let expected = [["amqp"; 10].as_slice(), &["tcp"; 24]].concat();
    assert_eq!(protocols, expected);
    for row in [&pages[3], &pages[20]] {
        for (by, value) in [("identity", &row[0]), ("name", &row[3])] {
            let (status, read) = asker.read("connection", by, value).await;
            assert_eq!(status, 200, "{read:?}");
            assert_eq!(read.get("host"), Some(&row[2]), "by {by}");
            assert_eq!(read.get("identity"), Some(&row[0]), "by {by}");
        }
    }
    let (status, _) = asker.read("connection", "identity", &"999999".into()).await;
    assert_eq!(status, 404);
    router.stop().await;
}

/// Connects as soon as somebody listens.
async fn connect(port: u16) -> TcpStream {
    let connecting = async {
        loop {
            match TcpStream::connect(("127.0.0.1", port)).await {
                Ok(stream) => return stream,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    };
    timeout(LIMIT, connecting).await.expect("in time")
}

fn free_port() -> u16 {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    socket.local_addr().expect("an address").port()
}

const INTERIOR: &str = "router {\n id: R\n mode: interior\n}\n";
const LIMIT: Duration = Duration::from_secs(30);
