//! Which entities there are, and what attributes they have
//! (`reference/router/config-and-management.md` §2).

use std::sync::OnceLock;

use crate::codec::Value;
use crate::management::descriptions;

/// One type of entity.
#[derive(Debug)]
pub(crate) struct Schema {
    /// The name after `io.skupper.router.`.
    pub(crate) name: &'static str,
    /// What else it is called in configuration files.
    pub(crate) alias: Option<&'static str>,
    /// What it is for, in sentences.
    pub(crate) description: &'static str,
    /// There is exactly one of it.
    pub(crate) singleton: bool,
    /// It shows the router at work; nobody configures it.
    pub(crate) operational: bool,
    pub(crate) operations: Vec<&'static str>,
    pub(crate) attributes: Vec<Attribute>,
    /// The attributes in the order in which QUERY lists them.
    pub(crate) columns: Vec<&'static str>,
}

/// One attribute of an entity.
#[derive(Debug)]
pub(crate) struct Attribute {
    pub(crate) name: &'static str,
    /// What it is for, in sentences.
    pub(crate) description: &'static str,
    pub(crate) kind: Kind,
    pub(crate) default: Option<&'static str>,
    pub(crate) required: bool,
    /// Whether configuration and CREATE may set it.
    pub(crate) create: bool,
    pub(crate) update: bool,
    /// It is a secret, and shown only where it names the place of one.
    pub(crate) hidden: bool,
    /// It is worth drawing over time.
    pub(crate) graph: bool,
    /// As what an integer goes to clients.
    pub(crate) width: Width,
}

/// The AMQP types of integers that skrouterd uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Width {
    /// `int`, or `long` if it does not fit.
    #[default]
    Int,
    Long,
    Uint,
    Ulong,
}

impl Width {
    /// The integer in this type; other values as they are.
    pub(crate) fn of(self, value: &Value) -> Value {
        let Value::Long(number) = *value else {
            return value.clone();
        };
        let narrow = match self {
            Self::Int => i32::try_from(number).ok().map(Value::Int),
            Self::Long => None,
            Self::Uint => u32::try_from(number).ok().map(Value::Uint),
            Self::Ulong => u64::try_from(number).ok().map(Value::Ulong),
        };
        narrow.unwrap_or(Value::Long(number))
    }
}

/// What values an attribute takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Path,
    Integer,
    Boolean,
    Choice(Vec<&'static str>),
    Map,
    List,
}

/// What every type's name starts with.
pub(crate) const PREFIX: &str = "io.skupper.router.";
/// What the type of the agent itself refines, and what clients call it by.
pub(crate) const MANAGEMENT: &str = "org.amqp.management";

impl Schema {
    /// Every type of entity.
    pub(crate) fn all() -> &'static [Schema] {
        static ALL: OnceLock<Vec<Schema>> = OnceLock::new();
        ALL.get_or_init(|| ENTITIES.iter().map(Schema::read).collect())
    }

    /// The type with this name, short, full or an alias.
    pub(crate) fn find(name: &str) -> Option<&'static Schema> {
        let short = name.strip_prefix(PREFIX).unwrap_or(name);
        Self::all()
            .iter()
            .find(|schema| schema.name == short || schema.alias == Some(short))
    }

    pub(crate) fn full_name(&self) -> String {
        format!("{PREFIX}{}", self.name)
    }

    /// How clients and configuration files call it.
    pub(crate) fn short_name(&self) -> &'static str {
        self.alias.unwrap_or(self.name)
    }

    /// Whether every entity of whatever type has this attribute, and a value for it.
    pub(crate) fn is_common(attribute: &str) -> bool {
        COMMON.iter().any(|common| {
            let (name, _) = common.split_once(':').unwrap_or((common, ""));
            name == attribute
        })
    }

    /// The attributes, those of all types last.
    pub(crate) fn own_attributes_first(&self) -> impl Iterator<Item = &Attribute> {
        let (common, own) = self.attributes.split_at(COMMON.len());
        own.iter().chain(common)
    }

    /// The names of the attributes, in the same order.
    pub(crate) fn attribute_names(&self) -> impl Iterator<Item = &'static str> {
        self.own_attributes_first().map(|attribute| attribute.name)
    }

    /// Where an attribute stands.
    pub(crate) fn position(&self, attribute: &str) -> Option<usize> {
        self.attributes.iter().position(|a| a.name == attribute)
    }

    pub(crate) fn allows(&self, operation: &str) -> bool {
        operation == "READ" || self.operations.contains(&operation)
    }

    /// Whether a configuration file may have it.
    pub(crate) fn is_configurable(&self) -> bool {
        self.operations.contains(&"CREATE")
            || matches!(self.name, "router" | "network" | "site" | "log" | "policy")
    }

    /// Operations besides QUERY, as clients are told of them.
    pub(crate) fn listed_operations(&self) -> impl Iterator<Item = &'static str> {
        // It is the agent that is queried.
        let queried = matches!(self.name, MANAGEMENT | "management");
        let own = self.operations.iter().copied();
        let own = own.filter(move |name| queried || *name != "QUERY");
        let readable = self.name != "entity" && !self.operations.contains(&"READ");
        own.chain(readable.then_some("READ"))
    }

    /// Operations that nobody may do, where others are only not there.
    pub(crate) fn forbids(&self, operation: &str) -> bool {
        let shown_only = (self.name, operation) == ("routerMetrics", "READ");
        self.is_core() && self.operational && (shown_only || !self.allows(operation))
    }

    /// Whether it is one of those that skrouterd's core answers for, not its agent: QUERY knows no
    /// attribute that is unknown but has null for it, READ has null for what is not set, and who
    /// names no type does not mean it.
    pub(crate) fn is_core(&self) -> bool {
        matches!(
            self.name,
            "router.config.address"
                | "router.config.autoLink"
                | "router.address"
                | "router.link"
                | "routerMetrics"
                | "connection"
        )
    }

    /// The types that it refines, the nearest first.
    pub(crate) fn bases(&self) -> impl Iterator<Item = &'static Schema> {
        let base = |schema: &Schema| schema.base().and_then(Self::find);
        std::iter::successors(base(self), move |schema| base(schema))
    }

    fn base(&self) -> Option<&'static str> {
        match self.name {
            "entity" => None,
            "configurationEntity" | "operationalEntity" | "dummy" => Some("entity"),
            "management" => Some(MANAGEMENT),
            _ if self.operational => Some("operationalEntity"),
            _ => Some("configurationEntity"),
        }
    }

    /// Whether it is this type, or refines it.
    pub(crate) fn is_a(&self, other: &Schema) -> bool {
        self.name == other.name || self.bases().any(|base| base.name == other.name)
    }

    fn read(source: &(&'static str, &'static str, &'static str)) -> Self {
        let (name, properties, attributes) = *source;
        let mut schema = Self {
            name,
            alias: None,
            description: descriptions::of_entity(name),
            singleton: false,
            operational: false,
            operations: Vec::new(),
            attributes: Vec::new(),
            columns: Vec::new(),
        };
        for property in properties.split_whitespace() {
            match property {
                "singleton" => schema.singleton = true,
                "operational" => schema.operational = true,
                alias if alias.starts_with("alias=") => schema.alias = alias.get(6..),
                operation => schema.operations.push(operation),
            }
        }
        schema.attributes = COMMON
            .into_iter()
            .chain(attributes.split_whitespace())
            .map(|source| attribute(name, source))
            .collect();
        schema.columns = match COLUMNS.iter().find(|(of, _)| *of == name) {
            Some((_, columns)) => columns.split_whitespace().collect(),
            None => schema.attribute_names().collect(),
        };
        schema
    }
}

/// Reads an attribute of `entity`: `name:kind`, where `l`, `ui` and `ul` are integers that go as `long`, `uint` and `ulong`,
/// then `!` required, `^` updatable too, `~` read-only, `*` worth drawing over time, `#` secret, then `=default`.
fn attribute(entity: &'static str, source: &'static str) -> Attribute {
    let (head, default) = match source.split_once('=') {
        Some((head, default)) => (head, Some(default)),
        None => (source, None),
    };
    let flags_at = head.find(['!', '^', '~', '*', '#']).unwrap_or(head.len());
    let (head, flags) = head.split_at(flags_at);
    let (name, kind) = head
        .split_once(':')
        .expect("the table below gives every kind");
    let width = match kind {
        "l" => Width::Long,
        "ui" => Width::Uint,
        "ul" => Width::Ulong,
        _ => Width::Int,
    };
    let kind = match kind {
        "s" => Kind::Text,
        "i" | "l" | "ui" | "ul" => Kind::Integer,
        "b" => Kind::Boolean,
        "path" => Kind::Path,
        "map" => Kind::Map,
        "list" => Kind::List,
        choice => Kind::Choice(choice.trim_matches(['{', '}']).split('|').collect()),
    };
    Attribute {
        name,
        description: descriptions::of_attribute(entity, name),
        kind,
        default,
        required: flags.contains('!'),
        create: !flags.contains('~'),
        update: flags.contains('^'),
        hidden: flags.contains('#'),
        graph: flags.contains('*'),
        width,
    }
}

impl Attribute {
    /// Whether anybody may see this value of it. Where a password is to be had is no secret, and
    /// who compares what there is with what is wanted has to see it.
    pub(crate) fn may_show(&self, value: &Value) -> bool {
        let is_place = |text: &str| text.starts_with("env:") || text.starts_with("file:");
        !self.hidden || value.as_str().is_some_and(is_place)
    }

    /// The value it has if nobody sets it.
    pub(crate) fn default_value(&self) -> Value {
        let Some(default) = self.default else {
            return Value::Null;
        };
        match self.kind {
            Kind::Integer => Value::Long(default.parse().expect("the table's default is a number")),
            Kind::Boolean => Value::Bool(default == "true"),
            _ => Value::from(default),
        }
    }
}

/// The attributes that every type has, before its own.
const COMMON: [&str; 3] = ["name:s", "identity:s~", "type:s~"];

macro_rules! roles {
    () => {
        "{normal|inter-router|route-container|edge|inter-edge|inter-network}=normal"
    };
}

macro_rules! deliveries {
    () => {
        "presettledDeliveries:ul~* droppedPresettledDeliveries:ul~* acceptedDeliveries:ul~* \
         rejectedDeliveries:ul~* releasedDeliveries:ul~* modifiedDeliveries:ul~* deliveriesIngress:ul~* \
         deliveriesEgress:ul~* deliveriesTransit:ul~* deliveriesIngressRouteContainer:ul~* \
         deliveriesEgressRouteContainer:ul~* deliveriesIngressInterNetwork:ul~* \
         deliveriesEgressInterNetwork:ul~*"
    };
}

/// Name; `singleton`, `operational`, alias and operations besides READ; attributes.
const ENTITIES: &[(&str, &str, &str)] = &[
    ("entity", "operational", ""),
    ("configurationEntity", "", ""),
    ("operationalEntity", "operational", ""),
    (
        MANAGEMENT,
        "operational QUERY GET-TYPES GET-ANNOTATIONS GET-OPERATIONS GET-ATTRIBUTES \
         GET-MGMT-NODES",
        "",
    ),
    (
        "router",
        "singleton QUERY",
        "id:s vanId:s mode:{standalone|interior|edge}=standalone area:s~ version:s~ hostName:s~ \
         helloIntervalSeconds:i=1 helloMaxAgeSeconds:i=3 raIntervalSeconds:i=30 \
         raIntervalFluxSeconds:i=4 remoteLsMaxAgeSeconds:i=60 unreachableHoldoffSeconds:i=1 \
         workerThreads:i=4 debugDumpFile:path saslConfigDir:path saslConfigName:s=skrouterd \
         timestampsInUTC:b timestampFormat:s \
         defaultDistribution:{multicast|closest|balanced|unavailable}=balanced metadata:s \
         dataConnectionCount:s=auto dropTcpConnections:b=true maxMemoryMegabytes:i=0",
    ),
    (
        "network",
        "singleton QUERY UPDATE",
        "networkId:s^ tenantId:s",
    ),
    (
        "site",
        "QUERY",
        "location:s provider:s version:s platform:s namespace:s",
    ),
    (
        "listener",
        "QUERY CREATE DELETE",
        concat!(
            "host:s= port:s=amqp socketAddressFamily:{IPv4|IPv6} role:",
            roles!(),
            " cost:i=1 sslProfile:s saslMechanisms:s authenticatePeer:b=false \
             requireEncryption:b=false requireSsl:b=false maxFrameSize:i=16384 \
             maxSessions:i=32768 maxSessionFrames:i idleTimeoutSeconds:i=16 \
             initialHandshakeTimeoutSeconds:i=0 stripAnnotations:{in|out|both|no}=both \
             linkCapacity:i failoverUrls:s healthz:b=true metrics:b=true websockets:b=true \
             http:b=false httpRootDir:path messageLoggingComponents:s=none policyVhost:s \
             openProperties:map"
        ),
    ),
    (
        "connector",
        "QUERY CREATE DELETE",
        concat!(
            "host:s=127.0.0.1 port:s=amqp socketAddressFamily:{IPv4|IPv6} role:",
            roles!(),
            " cost:i=1 sslProfile:s proxyProfile:s saslMechanisms:s allowRedirect:b=true \
             maxFrameSize:i=16384 maxSessions:i=32768 maxSessionFrames:i idleTimeoutSeconds:i=16 \
             stripAnnotations:{in|out|both|no}=both linkCapacity:i verifyHostname:b=true \
             saslUsername:s saslPassword:s# messageLoggingComponents:s=none failoverUrls:s~ \
             connectionStatus:s~ connectionMsg:s~ policyVhost:s openProperties:map"
        ),
    ),
    (
        "sslProfile",
        "QUERY CREATE UPDATE DELETE",
        "ciphers:s^ protocols:s^ caCertFile:path^ certFile:path^ privateKeyFile:path^ \
         password:s^# uidFormat:s uidNameMappingFile:s ordinal:i^ oldestValidOrdinal:i^",
    ),
    (
        "proxyProfile",
        "QUERY CREATE UPDATE DELETE",
        "host:s^ port:s^ username:s^ password:s^# protocol:{http|socks5}^=http",
    ),
    (
        "router.config.address",
        "alias=address QUERY CREATE DELETE",
        "prefix:s pattern:s distribution:{multicast|closest|balanced|unavailable}=balanced \
         priority:i",
    ),
    (
        "router.config.autoLink",
        "alias=autoLink QUERY CREATE DELETE",
        "address:s direction:{in|out}! containerId:s connection:s externalAddress:s linkRef:s~ \
         operStatus:{inactive|attaching|failed|active|quiescing|idle}~ lastError:s~",
    ),
    (
        "tcpListener",
        "QUERY CREATE UPDATE DELETE",
        "address:s^ host:s^= backlog:i=0 port:s^ multiAddressStrategy:{none|priority|weighted}=none \
         siteId:s connectionsOpened:i~* connectionsClosed:i~* bytesIn:i~* bytesOut:i~* sslProfile:s^ \
         authenticatePeer:b^=false operStatus:{up|down}~ connectionMsg:s~ \
         observer:{none|auto|http1|http2}^=auto maxConnections:i^=0",
    ),
    (
        "tcpConnector",
        "QUERY CREATE UPDATE DELETE",
        "address:s^ host:s^=127.0.0.1 port:s^ siteId:s processId:s^ connectionsOpened:i~* \
         connectionsClosed:i~* bytesIn:i~* bytesOut:i~* sslProfile:s^ verifyHostname:b^=true \
         operStatus:{up|down}~ connectionMsg:s~",
    ),
    (
        "listenerAddress",
        "QUERY CREATE DELETE",
        "address:s! value:i! listener:s! connectionsOpened:i~",
    ),
    (
        "log",
        "QUERY UPDATE",
        "module:{ROUTER|ROUTER_CORE|ROUTER_HELLO|ROUTER_LS|ROUTER_MA|MESSAGE|SERVER|AGENT|\
         CONTAINER|ERROR|POLICY|HTTP|CONN_MGR|PYTHON|PROTOCOL|TCP_ADAPTOR|HTTP_ADAPTOR|FLOW_LOG|\
         ADDRESS_WATCH|HTTP1_OBSERVER|HTTP2_OBSERVER|HTTP2_DECODER|DEFAULT}! enable:s^ \
         includeTimestamp:b^ includeSource:b^ outputFile:s^",
    ),
    (
        "policy",
        "singleton QUERY",
        "maxConnections:i=65535 maxMessageSize:i=0 enableVhostPolicy:b=false \
         enableVhostNamePatterns:b=false policyDir:path= defaultVhost:s=$default \
         connectionsProcessed:i~* connectionsDenied:i~* connectionsCurrent:i~* linksDenied:i~* \
         maxMessageSizeDenied:i~* totalDenials:i~* maxConnectionsPerHost:i=0",
    ),
    (
        "vhost",
        "QUERY CREATE UPDATE DELETE",
        "hostname:s! aliases:s^ maxConnections:i^=65535 maxMessageSize:i~ \
         maxConnectionsPerUser:i^=65535 maxConnectionsPerHost:i^=65535 \
         allowUnknownUser:b^=false groups:map^ revoked:s^",
    ),
    (
        "routerMetrics",
        "operational singleton QUERY",
        concat!(
            "id:s~ version:s~ addrCount:ul~* linkCount:ul~* nodeCount:ul~* autoLinkCount:ul~* \
             connectionCount:ul~* ",
            deliveries!(),
            " residentMemoryUsage:ul~* memoryUsage:ul~* uptimeSeconds:ui~* deliveriesStuck:ul~* linksBlocked:ui~* \
             deliveriesDelayed10Sec:ul~* deliveriesDelayed1Sec:ul~* connectionCounters:map~"
        ),
    ),
    (
        "router.link",
        "operational QUERY",
        "operStatus:{up|down|quiescing|idle}~ linkName:s~ linkType:{endpoint|router-control|inter-router|inter-edge}~ linkDir:{in|out}~ \
         owningAddr:s~ capacity:ui~ undeliveredCount:ul~* unsettledCount:ul~* deliveryCount:ul~* \
         connectionId:s~ presettledCount:ul~* droppedPresettledCount:ul~* acceptedCount:ul~* \
         rejectedCount:ul~* releasedCount:ul~* modifiedCount:ul~* deliveriesDelayed1Sec:ul~* \
         deliveriesDelayed10Sec:ul~* deliveriesStuck:ul~* openMovedStreams:ul~* creditAvailable:ui~* \
         zeroCreditSeconds:ui~ settleRate:ui~* ingressHistogram:list~ priority:ui~",
    ),
    (
        "router.address",
        "operational QUERY",
        "distribution:{flood|multicast|closest|balanced|linkBalanced|unavailable}~ inProcess:ui~ subscriberCount:ui~* remoteCount:ui~* containerCount:ui~* \
         deliveriesIngress:ul~* deliveriesEgress:ul~* deliveriesTransit:ul~* deliveriesToContainer:ul~* \
         deliveriesFromContainer:ul~* deliveriesIngressRouteContainer:ul~* \
         deliveriesEgressRouteContainer:ul~* deliveriesIngressInterNetwork:ul~* \
         deliveriesEgressInterNetwork:ul~* key:s~ remoteHostRouters:list~ transitOutstanding:list~ \
         trackedDeliveries:l~ priority:i~ watch:b~",
    ),
    (
        "router.node",
        "operational QUERY",
        "id:s~ protocolVersion:i~ instance:i~ linkState:list~ nextHop:s~ validOrigins:list~ \
         address:s~ routerLink:s~ cost:i~ lastTopoChange:i~ index:i~",
    ),
    (
        "connection",
        "operational QUERY UPDATE",
        "adminStatus:{enabled|deleted}^=enabled operStatus:{up|closing}~ protocol:s~ container:s~ \
         opened:b~ host:s~ localSocket:s~ dir:{in|out}~ role:s~ meshId:s~ isAuthenticated:b~ \
         isEncrypted:b~ enableProtocolTrace:b^=false sasl:s~ user:s~ ssl:b~ sslProto:s~ sslCipher:s~ \
         sslSsf:l~ uptimeSeconds:ui~* properties:map~ lastDlvSeconds:ui~* tlsOrdinal:ul~ \
         groupCorrelationId:s~ groupOrdinal:ul~ active:b~",
    ),
    (
        "logStats",
        "operational QUERY",
        "debugCount:i~* infoCount:i~* noticeCount:i~* warningCount:i~* errorCount:i~* criticalCount:i~*",
    ),
    (
        "vhostUserGroupSettings",
        "",
        "users:s!~ remoteHosts:s!~ maxConnectionsPerUser:i~ maxConnectionsPerHost:i~ \
         maxMessageSize:i~ maxFrameSize:i~ maxSessionWindow:i~ maxSessions:i~ \
         maxSenders:i~=2147483647 maxReceivers:i~=2147483647 allowDynamicSource:b~=false \
         allowAnonymousSender:b~=false allowUserIdProxy:b~=false allowAdminStatusUpdate:b~=true \
         certificates:s~ neighbors:s~ allowTransit:b~=false sources:s~ targets:s~ sourcePattern:s~ targetPattern:s~",
    ),
    (
        "vhostStats",
        "operational QUERY",
        "hostname:s~ connectionsApproved:i~* connectionsDenied:i~* connectionsCurrent:i~* \
         perUserState:map~ perHostState:map~ sessionDenied:i~* senderDenied:i~* receiverDenied:i~* \
         maxMessageSizeDenied:i~*",
    ),
    (
        "tcpConnection",
        "operational QUERY",
        "address:s~ host:s~ direction:{in|out}~ bytesIn:i~* bytesOut:i~* uptimeSeconds:i~* \
         lastInSeconds:i~* lastOutSeconds:i~*",
    ),
    (
        "allocator",
        "operational QUERY",
        "typeName:s~ typeSize:i~ transferBatchSize:i~ localFreeListMax:i~* globalFreeListMax:i~* \
         totalAllocFromHeap:i~* totalFreeToHeap:i~* heldByThreads:i~* batchesRebalancedToThreads:i~* \
         batchesRebalancedToGlobal:i~*",
    ),
    (
        "management",
        "operational singleton GET-SCHEMA GET-JSON-SCHEMA GET-LOG PROFILE RELOAD QUERY GET-TYPES \
         GET-ANNOTATIONS GET-OPERATIONS GET-ATTRIBUTES GET-MGMT-NODES",
        "",
    ),
    // Does nothing: for those who try out the protocol.
    (
        "dummy",
        "QUERY CREATE READ UPDATE DELETE CALLME",
        "arg1:s^ arg2:s^ num1:i^ num2:i^",
    ),
];

/// The columns of the types that skrouterd's core answers for, in its order. Names that are no
/// attributes have no value.
const COLUMNS: &[(&str, &str)] = &[
    (
        "router.config.address",
        "name identity type prefix distribution pattern priority",
    ),
    (
        "router.config.autoLink",
        "name identity type address direction connection containerId externalAddress linkRef \
         operStatus lastError",
    ),
    (
        "routerMetrics",
        "identity type id addrCount linkCount nodeCount autoLinkCount connectionCount \
         presettledDeliveries droppedPresettledDeliveries acceptedDeliveries rejectedDeliveries \
         releasedDeliveries modifiedDeliveries deliveriesDelayed1Sec deliveriesDelayed10Sec \
         deliveriesStuck deliveriesIngress deliveriesEgress deliveriesTransit \
         deliveriesIngressRouteContainer deliveriesEgressRouteContainer \
         deliveriesIngressInterNetwork deliveriesEgressInterNetwork \
         deliveriesRedirectedToFallback linksBlocked uptimeSeconds memoryUsage \
         residentMemoryUsage connectionCounters version name",
    ),
    (
        "router.link",
        "name identity type linkName linkType linkDir owningAddr capacity undeliveredCount \
         unsettledCount deliveryCount connectionId operStatus presettledCount \
         droppedPresettledCount acceptedCount rejectedCount releasedCount modifiedCount \
         deliveriesDelayed1Sec deliveriesDelayed10Sec deliveriesStuck openMovedStreams \
         ingressHistogram priority settleRate creditAvailable zeroCreditSeconds",
    ),
    (
        "router.address",
        "name identity type key distribution inProcess subscriberCount remoteCount \
         remoteHostRouters deliveriesIngress deliveriesEgress deliveriesTransit \
         deliveriesToContainer deliveriesFromContainer deliveriesEgressRouteContainer \
         deliveriesIngressRouteContainer deliveriesEgressInterNetwork \
         deliveriesIngressInterNetwork transitOutstanding trackedDeliveries priority \
         deliveriesRedirectedToFallback watch",
    ),
    (
        "connection",
        "name identity host localSocket role protocol dir container sasl isAuthenticated user \
         isEncrypted sslProto sslCipher properties sslSsf type ssl opened active adminStatus \
         operStatus uptimeSeconds lastDlvSeconds enableProtocolTrace meshId tlsOrdinal \
         groupCorrelationId groupOrdinal",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_reads_and_defaults_fit_their_kinds() {
        for schema in Schema::all() {
            for attribute in &schema.attributes {
                let value = attribute.default_value();
                if let (Kind::Choice(words), Some(word)) = (&attribute.kind, value.as_str()) {
                    assert!(words.contains(&word), "{}.{}", schema.name, attribute.name);
                }
            }
        }
    }

    #[test]
    fn every_attribute_has_its_column() {
        for schema in Schema::all() {
            for attribute in &schema.attributes {
                let columns = schema.columns.iter();
                let its = columns.filter(|column| **column == attribute.name);
                // skrouterd has it in its schema and does not know it.
                let known = (schema.name, attribute.name) != ("router.address", "containerCount");
                let expected = usize::from(known);
                assert_eq!(its.count(), expected, "{}.{}", schema.name, attribute.name);
            }
        }
    }

    #[test]
    fn groups_of_vhosts_have_the_settings_that_they_are_said_to_have() {
        let schema = Schema::find("vhostUserGroupSettings").expect("known");
        let base = ["name", "identity", "type"];
        let names = schema.attributes.iter().map(|attribute| attribute.name);
        let mut said: Vec<_> = names.filter(|name| !base.contains(name)).collect();
        said.sort_unstable();
        let mut known = crate::policy::GROUP_SETTINGS.to_vec();
        known.sort_unstable();
        assert_eq!(said, known);
    }

    #[test]
    fn integers_go_as_skrouterd_has_them() {
        let of = |schema: &str, name: &str, value: i64| {
            let schema = Schema::find(schema).expect("known");
            let position = schema.position(name).expect("known");
            schema.attributes[position].width.of(&Value::Long(value))
        };
        assert_eq!(of("listener", "cost", 7), Value::Int(7));
        let long = i64::from(i32::MAX) + 1;
        assert_eq!(of("policy", "maxMessageSize", long), Value::Long(long));
        assert_eq!(of("router.link", "capacity", 7), Value::Uint(7));
        assert_eq!(of("router.address", "priority", -1), Value::Int(-1));
        assert_eq!(of("routerMetrics", "addrCount", 7), Value::Ulong(7));
        assert_eq!(Width::Ulong.of(&Value::Long(-1)), Value::Long(-1));
        assert_eq!(Width::Int.of(&Value::Null), Value::Null);
    }

    #[test]
    fn a_type_is_found_by_all_its_names() {
        for name in [
            "address",
            "router.config.address",
            "io.skupper.router.router.config.address",
        ] {
            let schema = Schema::find(name).expect(name);
            assert_eq!(schema.name, "router.config.address");
        }
        assert!(Schema::find("nonsense").is_none());
    }

    #[test]
    fn flags_are_read_from_the_table() {
        let schema = Schema::find("sslProfile").expect("known");
        let password = &schema.attributes[schema.position("password").expect("known")];
        assert!(password.hidden && password.update && password.create);
        let listener = Schema::find("listener").expect("known");
        let role = &listener.attributes[listener.position("role").expect("known")];
        assert!(matches!(&role.kind, Kind::Choice(words) if words.len() == 6));
        assert_eq!(role.default_value(), Value::from("normal"));
    }
}
