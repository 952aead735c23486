//! Requests to the management agents of routers, and their answers.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use fe2o3_amqp::link::SendError;
use fe2o3_amqp::link::receiver::CreditMode;
use fe2o3_amqp::types::messaging::{
    AmqpValue, ApplicationProperties, Body, Message, MessageId, Outcome as DeliveryOutcome,
    Properties, Source, Target,
};
use fe2o3_amqp::types::primitives::{OrderedMap, SimpleValue};
use fe2o3_amqp::{Delivery, Receiver, Sender};
use serde_amqp::Value;
use serde_json::Value as Json;
use tokio::time::timeout;

use crate::connection::{Connected, ConnectionOptions, Credentials};
use crate::ended::{Ended, describe, lost};
use crate::failure::{Failure, Outcome};
use crate::schema::Schema;
use crate::value::{Row, map, text, to_json};

/// A connection to one router, through which the agents of all are asked.
pub(crate) struct Client {
    connected: Connected,
    replies: Receiver,
    reply_to: String,
    /// By agent: our link to the router's own, and one for all others.
    senders: HashMap<bool, Sender>,
    timeout: Duration,
    requests: u64,
    /// Whether there is anybody who answers.
    is_answered: bool,
}

/// Whose `$management` is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Agent {
    /// That of the router that we are connected to.
    Connected,
    Router(String),
    Edge(String),
}

/// What a query found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rows {
    /// The columns, in the router's order.
    pub(crate) names: Vec<String>,
    pub(crate) rows: Vec<Row>,
}

/// An entity by its name or its identity, whichever it turns out to be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subject<'a> {
    pub(crate) kind: &'a str,
    pub(crate) name: &'a str,
}

impl Client {
    pub(crate) async fn connect(
        options: &ConnectionOptions,
        credentials: Credentials,
    ) -> Outcome<Self> {
        let mut connected = options.connect(credentials).await?;
        match replies(&mut connected, options.timeout).await {
            Ok((replies, reply_to)) => Ok(Self {
                connected,
                replies,
                reply_to,
                senders: HashMap::new(),
                timeout: options.timeout,
                requests: 0,
                is_answered: false,
            }),
            Err(failure) => Err(connected.close_after(failure).await),
        }
    }

    /// Closes the connection, and gives back what a command came to.
    pub(crate) async fn close(self, outcome: Outcome) -> Outcome {
        self.connected.close(outcome).await
    }

    /// All entities of a type, in pages. No `names` asks for all attributes.
    pub(crate) async fn query(
        &mut self,
        agent: &Agent,
        kind: &str,
        names: &[String],
    ) -> Outcome<Rows> {
        let columns = names.iter().map(|name| Json::from(name.as_str())).collect();
        let body = Row::from_iter([("attributeNames".to_owned(), columns)]);
        let (mut found, mut last_page) = (Rows::default(), Vec::new());
        loop {
            let offset = i32::try_from(found.rows.len()).unwrap_or(i32::MAX);
            let properties = [
                ("entityType", SimpleValue::String(full_name(kind))),
                ("offset", SimpleValue::Int(offset)),
                ("count", SimpleValue::Int(PAGE)),
            ];
            let answer = self.request(agent, "QUERY", &properties, &body).await?;
            let page = rows(&answer)?;
            found.names = page.names;
            // A router that knows no pages gives all rows each time.
            if page.rows == last_page {
                return Ok(found);
            }
            found.rows.extend(page.rows.iter().cloned());
            if page.rows.len() != PAGE as usize {
                return Ok(found);
            }
            last_page = page.rows;
        }
    }

    /// The attributes of one entity.
    pub(crate) async fn read(&mut self, agent: &Agent, subject: Subject<'_>) -> Outcome<Row> {
        self.on_subject(agent, "READ", subject, &Row::new()).await
    }

    pub(crate) async fn create(
        &mut self,
        agent: &Agent,
        subject: Subject<'_>,
        attributes: &Row,
    ) -> Outcome<Row> {
        let properties = [
            ("type", SimpleValue::String(full_name(subject.kind))),
            ("name", SimpleValue::String(subject.name.to_owned())),
        ];
        let created = self.request(agent, "CREATE", &properties, attributes);
        match created.await {
            Err(Failure::Refused(text)) => {
                Err(Failure::Refused(text + hint_at_configuration(subject.kind)))
            }
            answer => answer.map(entity),
        }
    }

    pub(crate) async fn update(
        &mut self,
        agent: &Agent,
        subject: Subject<'_>,
        attributes: &Row,
    ) -> Outcome<Row> {
        self.on_subject(agent, "UPDATE", subject, attributes).await
    }

    pub(crate) async fn delete(&mut self, agent: &Agent, subject: Subject<'_>) -> Outcome<()> {
        self.on_subject(agent, "DELETE", subject, &Row::new())
            .await
            .map(drop)
    }

    /// What types of entities the router has, and their attributes.
    pub(crate) async fn schema(&mut self, agent: &Agent) -> Outcome<Schema> {
        let properties = [("name", SimpleValue::String("self".into()))];
        let answer = self
            .request(agent, "GET-SCHEMA", &properties, &Row::new())
            .await?;
        Schema::read(&answer)
            .ok_or_else(|| Failure::Refused("the router's schema cannot be read".into()))
    }

    /// Any answer, as fast as the agent can.
    pub(crate) async fn ping(&mut self, agent: &Agent) -> Outcome<()> {
        let properties = [
            ("name", SimpleValue::String("self".into())),
            (
                "type",
                SimpleValue::String("io.skupper.router.management".into()),
            ),
        ];
        self.request(agent, "READ", &properties, &Row::new())
            .await
            .map(drop)
    }

    /// The latest entries of the router's log, as GET-LOG gives them.
    pub(crate) async fn log(&mut self, agent: &Agent, limit: u32) -> Outcome<Json> {
        let properties = [
            ("name", SimpleValue::String("self".into())),
            ("type", SimpleValue::String("org.amqp.management".into())),
            (
                "limit",
                SimpleValue::Int(limit.try_into().unwrap_or(i32::MAX)),
            ),
        ];
        self.request(agent, "GET-LOG", &properties, &Row::new())
            .await
    }

    /// Has the router read its configuration file again; returns what became of it.
    pub(crate) async fn reload(&mut self, agent: &Agent) -> Outcome<Json> {
        let properties = [
            ("name", SimpleValue::String("self".into())),
            ("type", SimpleValue::String("org.amqp.management".into())),
        ];
        self.request(agent, "RELOAD", &properties, &Row::new())
            .await
    }

    /// Asks by name first; what has no such name may have such an identity. A connection goes by
    /// its number, which is no name.
    async fn on_subject(
        &mut self,
        agent: &Agent,
        operation: &str,
        subject: Subject<'_>,
        body: &Row,
    ) -> Outcome<Row> {
        let kind = full_name(subject.kind);
        let name = match short_name(&kind) {
            "log" => format!("log/{}", module_of(subject.name)),
            _ => subject.name.to_owned(),
        };
        let properties = |key| {
            [
                ("type", SimpleValue::String(kind.clone())),
                (key, SimpleValue::String(name.clone())),
            ]
        };
        let is_number = name.bytes().all(|digit| digit.is_ascii_digit());
        let (first, second) = match short_name(&kind) {
            "connection" if is_number => ("identity", "name"),
            _ => ("name", "identity"),
        };
        let mut answer = self
            .exchange(agent, operation, &properties(first), body)
            .await?;
        if answer.is_of_nothing() {
            answer = self
                .exchange(agent, operation, &properties(second), body)
                .await?;
        }
        if answer.is_of_nothing() {
            return Err(Failure::Refused(subject.missing()));
        }
        let changes = operation != "READ";
        match answer.body() {
            Err(Failure::Refused(text)) if changes => {
                Err(Failure::Refused(text + hint_at_configuration(subject.kind)))
            }
            body => body.map(entity),
        }
    }

    async fn request(
        &mut self,
        agent: &Agent,
        operation: &str,
        properties: &[(&str, SimpleValue)],
        body: &Row,
    ) -> Outcome<Json> {
        let answer = self.exchange(agent, operation, properties, body).await?;
        answer.body()
    }

    async fn exchange(
        &mut self,
        agent: &Agent,
        operation: &str,
        properties: &[(&str, SimpleValue)],
        body: &Row,
    ) -> Outcome<Answer> {
        let limit = self.timeout;
        let exchange = self.exchange_in_time(agent, operation, properties, body);
        if let Ok(answer) = timeout(limit, exchange).await {
            self.is_answered |= answer.is_ok();
            return answer;
        }
        let limit = limit.as_secs_f64();
        let text = format!("{agent} does not answer {operation} within {limit} s");
        Err(Failure::TimedOut(match agent {
            Agent::Connected if !self.is_answered => {
                format!("{text}; {IS_IT_A_ROUTER} (--timeout waits longer)")
            }
            _ => format!("{text}; --timeout waits longer"),
        }))
    }

    async fn exchange_in_time(
        &mut self,
        agent: &Agent,
        operation: &str,
        properties: &[(&str, SimpleValue)],
        body: &Row,
    ) -> Outcome<Answer> {
        self.requests += 1;
        let number = self.requests;
        let operation = ("operation", SimpleValue::String(operation.to_owned()));
        let properties = std::iter::once(&operation).chain(properties);
        let properties = properties.map(|(key, value)| ((*key).to_owned(), value.clone()));
        let message = Message {
            properties: Some(Properties {
                to: Some(agent.address()),
                reply_to: Some(self.reply_to.clone()),
                correlation_id: Some(correlation(number)),
                ..Properties::default()
            }),
            application_properties: Some(ApplicationProperties(OrderedMap::from_iter(properties))),
            header: None,
            delivery_annotations: None,
            message_annotations: None,
            body: Body::Value(AmqpValue(map(body))),
            footer: None,
        };
        let sender = self.sender(agent).await?;
        let unasked = |error: SendError| unasked(agent, error.into());
        let mut outcome = sender.send_batchable(message).await.map_err(unasked)?;
        let mut settled = false;
        loop {
            tokio::select! {
                outcome = &mut outcome, if !settled => {
                    settled = true;
                    delivered(agent, outcome.map_err(unasked)?)?;
                }
                reply = self.replies.recv() => {
                    let reply: Delivery<Body<Value>> = reply.map_err(lost)?;
                    // Credit grows with what is accepted, settled or not.
                    let _ = self.replies.accept(&reply).await;
                    if let Some(answer) = Answer::to(number, &reply) {
                        return Ok(answer);
                    }
                }
            }
        }
    }

    /// The link to the router's own agent has its address, which strict policies want. Others
    /// are reached through a link without one, which tells at once what cannot be reached.
    async fn sender(&mut self, agent: &Agent) -> Outcome<&mut Sender> {
        let own = *agent == Agent::Connected;
        if !self.senders.contains_key(&own) {
            let target = Target {
                address: own.then(|| agent.address()),
                ..Target::default()
            };
            let name = if own { "routerctl" } else { "routerctl-remote" };
            let builder = Sender::builder().name(name).target(target);
            let attached = builder.attach(&mut self.connected.session).await;
            let sender = attached.map_err(|error| unasked(agent, error.into()))?;
            self.senders.insert(own, sender);
        }
        Ok(self.senders.get_mut(&own).expect("it was inserted above"))
    }
}

impl Subject<'_> {
    /// That there is no such entity, and where to look.
    fn missing(&self) -> String {
        let Self { kind, name } = self;
        let full = full_name(kind);
        let hint = match short_name(&full) {
            CONFIGURED_ADDRESS => IN_USE.to_owned(),
            ADDRESS_IN_USE => format!(
                "; addresses in use go by their keys, such as 'M{name}', which 'routerctl query \
                 router.address -a key' lists{}",
                hint_at_configuration(kind)
            ),
            _ => format!("; 'routerctl query {kind}' lists what there is"),
        };
        format!("there is no {kind} with the name or identity '{name}'{hint}")
    }
}

impl Agent {
    fn address(&self) -> String {
        match self {
            Self::Connected => "$management".into(),
            Self::Router(id) => format!("_topo/0/{id}/$management"),
            Self::Edge(id) => format!("_edge/{id}/$management"),
        }
    }
}

impl fmt::Display for Agent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connected => write!(f, "the router"),
            Self::Router(id) => write!(f, "router {id}"),
            Self::Edge(id) => write!(f, "edge router {id}"),
        }
    }
}

/// What an agent said.
struct Answer {
    code: i64,
    description: String,
    body: Json,
}

impl Answer {
    /// The answer to request `number`, if it is that.
    fn to(number: u64, reply: &Delivery<Body<Value>>) -> Option<Self> {
        let message = reply.message();
        let properties = message.properties.as_ref()?;
        if properties.correlation_id != Some(correlation(number)) {
            return None;
        }
        let fields = message.application_properties.as_ref();
        let field = |key: &str| {
            let value = fields.and_then(|fields| fields.0.get(key));
            value.map_or(Json::Null, |value| to_json(&Value::from(value.clone())))
        };
        let body = match &message.body {
            Body::Value(AmqpValue(value)) => to_json(value),
            _ => Json::Null,
        };
        Some(Self {
            code: field("statusCode").as_i64().unwrap_or_default(),
            description: text(&field("statusDescription")),
            body,
        })
    }

    /// Whether no entity was meant, or one of another type that has the name.
    fn is_of_nothing(&self) -> bool {
        let is_another = || self.description.contains("does not extend requested type");
        self.code == 404 || self.code == 400 && is_another()
    }

    fn body(self) -> Outcome<Json> {
        match self.code {
            200..300 => Ok(self.body),
            code => Err(Failure::Refused(format!("{} ({code})", self.description))),
        }
    }
}

/// A text, since skrouterd gives some numbers back as a type that no correlation-id has.
fn correlation(number: u64) -> MessageId {
    MessageId::String(number.to_string())
}

/// The type's full name; the short ones are those of skmanage, and the entities' own.
pub(crate) fn full_name(kind: &str) -> String {
    let kind = match kind {
        "link" | "node" => &format!("router.{kind}"),
        "address" | "autoLink" => &format!("router.config.{kind}"),
        "org.amqp.management" => return kind.into(),
        kind => kind.strip_prefix(PREFIX).unwrap_or(kind),
    };
    format!("{PREFIX}{kind}")
}

/// The name without what all have in common.
pub(crate) fn short_name(kind: &str) -> &str {
    kind.strip_prefix(PREFIX).unwrap_or(kind)
}

/// What to say to who finds no entity of a type, if there is another that may be meant.
pub(crate) fn hint_at_use(kind: &str) -> &'static str {
    match short_name(&full_name(kind)) {
        CONFIGURED_ADDRESS => IN_USE,
        _ => "",
    }
}

/// What to say to who wants to change what only shows how the router works.
fn hint_at_configuration(kind: &str) -> &'static str {
    match short_name(&full_name(kind)) {
        ADDRESS_IN_USE => "; what can be configured is 'address' (router.config.address)",
        _ => "",
    }
}

/// The module that is meant, however it is written: in small letters, or as `query log` names it.
pub(crate) fn module_of(name: &str) -> String {
    let name = name.to_ascii_uppercase();
    name.strip_prefix("LOG/").unwrap_or(&name).to_owned()
}

/// Whether an attribute is a password, which nobody is shown.
pub(crate) fn is_secret(name: &str) -> bool {
    name.to_ascii_lowercase().ends_with("password")
}

fn rows(answer: &Json) -> Outcome<Rows> {
    let list = |key: &str| answer.get(key).and_then(Json::as_array);
    let (Some(names), Some(results)) = (list("attributeNames"), list("results")) else {
        let text = "the router's answer has no 'attributeNames' and 'results'";
        return Err(Failure::Refused(text.into()));
    };
    let names: Vec<String> = names.iter().map(text).collect();
    let row = |result: &Json| {
        let values = result.as_array().cloned().unwrap_or_default();
        let mut row: Row = names.iter().cloned().zip(values).collect();
        hide(&mut row);
        row
    };
    let rows = results.iter().map(row).collect();
    Ok(Rows { names, rows })
}

fn entity(answer: Json) -> Row {
    match answer {
        Json::Object(mut row) => {
            hide(&mut row);
            row
        }
        _ => Row::new(),
    }
}

fn hide(row: &mut Row) {
    for (name, value) in row {
        if is_secret(name) && !value.is_null() {
            *value = "(hidden)".into();
        }
    }
}

/// What became of a request, if its agent did not get it.
fn delivered(agent: &Agent, outcome: DeliveryOutcome) -> Outcome {
    match outcome {
        DeliveryOutcome::Accepted(_) => Ok(()),
        DeliveryOutcome::Rejected(rejected) => {
            let why = rejected.error.as_ref().map(describe).unwrap_or_default();
            Err(Failure::Refused(format!(
                "{agent} rejected the request: {why}"
            )))
        }
        _ => Err(Failure::Refused(match agent {
            Agent::Connected => format!("nobody takes requests to $management; {IS_IT_A_ROUTER}"),
            Agent::Router(_) => {
                format!("{agent} cannot be reached; 'routerctl nodes' lists the routers that can")
            }
            Agent::Edge(_) => format!(
                "{agent} cannot be reached; is it connected to the router that we connect to? \
                 'routerctl connections' lists those that are, with the role edge"
            ),
        })),
    }
}

/// Attaches the link by which answers come, and says to which address they go.
async fn replies(connected: &mut Connected, limit: Duration) -> Outcome<(Receiver, String)> {
    const REFUSED: &str = "the router gives no address for its answers";
    let source = Source {
        dynamic: true,
        ..Source::default()
    };
    let builder = Receiver::builder()
        .name("routerctl-replies")
        .source(source)
        .credit_mode(CreditMode::Auto(CREDIT));
    let attached = within(limit, builder.attach(&mut connected.session)).await?;
    let replies = attached.map_err(|error| {
        let ended = Ended::from(error);
        let denied = "may this user have dynamic addresses (allowDynamicSource in its vhost)?";
        let hint = hint(&ended, &Agent::Connected, denied);
        ended.refusal(REFUSED, hint)
    })?;
    let address = replies.source().as_ref();
    let address = address.and_then(|source| source.address.clone());
    match address {
        Some(address) => Ok((replies, address)),
        None => Err(Failure::Refused(format!("{REFUSED}; {IS_IT_A_ROUTER}"))),
    }
}

/// Why requests to an agent do not even leave.
fn unasked(agent: &Agent, ended: Ended) -> Failure {
    let (refused, denied) = match agent {
        Agent::Connected => (
            "the router takes no requests to $management".to_owned(),
            "may this user send there (targets in its vhost)?",
        ),
        Agent::Router(_) | Agent::Edge(_) => (
            format!("the router takes no requests to {agent}"),
            "may this user send without an address (allowAnonymousSender in its vhost)?",
        ),
    };
    let hint = hint(&ended, agent, denied);
    ended.refusal(&refused, hint)
}

/// What to look at when a link for requests is refused.
fn hint<'a>(ended: &Ended, agent: &Agent, denied: &'a str) -> Option<&'a str> {
    match ended.refused_with().as_deref() {
        Some("amqp:unauthorized-access") => Some(denied),
        _ => (*agent == Agent::Connected).then_some(IS_IT_A_ROUTER),
    }
}

/// What the future says, unless it takes too long.
pub(crate) async fn within<T>(limit: Duration, future: impl Future<Output = T>) -> Outcome<T> {
    timeout(limit, future).await.map_err(|_| {
        let limit = limit.as_secs_f64();
        Failure::TimedOut(format!("the router does not answer within {limit} s"))
    })
}

const IS_IT_A_ROUTER: &str = "is it a router, which has $management?";
const CONFIGURED_ADDRESS: &str = "router.config.address";
const ADDRESS_IN_USE: &str = "router.address";
const IN_USE: &str = "; 'address' is what is configured (router.config.address), and \
                      'routerctl addresses' shows those in use (router.address)";
/// Rows that one answer may have.
const PAGE: i32 = 500;
/// Answers that may come before we have looked at the first.
const CREDIT: u32 = 10;
const PREFIX: &str = "io.skupper.router.";

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn short_names_become_full_ones() {
        for (short, full) in [
            ("link", "io.skupper.router.router.link"),
            ("router.link", "io.skupper.router.router.link"),
            ("address", "io.skupper.router.router.config.address"),
            ("listener", "io.skupper.router.listener"),
            ("io.skupper.router.listener", "io.skupper.router.listener"),
            ("org.amqp.management", "org.amqp.management"),
        ] {
            assert_eq!(full_name(short), full);
        }
    }

    #[test]
    fn rows_get_their_columns_and_lose_their_secrets() {
        let answer = json!({
            "attributeNames": ["name", "saslPassword", "cost"],
            "results": [["a", "secret", 1], ["b", null, 2]],
        });
        let rows = rows(&answer).unwrap();
        assert_eq!(rows.names, ["name", "saslPassword", "cost"]);
        let hidden = json!({"name": "a", "saslPassword": "(hidden)", "cost": 1});
        assert_eq!(Json::Object(rows.rows[0].clone()), hidden);
        assert_eq!(rows.rows[1]["saslPassword"], Json::Null);
    }

    #[test]
    fn an_answer_without_rows_is_no_answer() {
        for answer in [json!(null), json!({"results": []}), json!([1])] {
            assert!(
                matches!(rows(&answer), Err(Failure::Refused(_))),
                "{answer}"
            );
        }
    }
}
