//! Which entities there are, and what attributes they have
//! (`reference/router/config-and-management.md` §2).

use std::sync::OnceLock;

use crate::codec::Value;

/// One type of entity.
#[derive(Debug)]
pub(crate) struct Schema {
    /// The name after `io.skupper.router.`.
    pub(crate) name: &'static str,
    /// What else it is called in configuration files.
    pub(crate) alias: Option<&'static str>,
    /// There is exactly one of it.
    pub(crate) singleton: bool,
    /// It shows the router at work; nobody configures it.
    pub(crate) operational: bool,
    pub(crate) operations: Vec<&'static str>,
    pub(crate) attributes: Vec<Attribute>,
}

/// One attribute of an entity.
#[derive(Debug)]
pub(crate) struct Attribute {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) default: Option<&'static str>,
    pub(crate) required: bool,
    /// Whether configuration and CREATE may set it.
    pub(crate) create: bool,
    pub(crate) update: bool,
    /// It is a secret, and never shown.
    pub(crate) hidden: bool,
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
/// The type of the agent itself, as clients call it.
const MANAGEMENT: &str = "org.amqp.management";

impl Schema {
    /// Every type of entity.
    pub(crate) fn all() -> &'static [Schema] {
        static ALL: OnceLock<Vec<Schema>> = OnceLock::new();
        ALL.get_or_init(|| ENTITIES.iter().map(Schema::read).collect())
    }

    /// The type with this name, short, full or an alias.
    pub(crate) fn find(name: &str) -> Option<&'static Schema> {
        let short = match name {
            MANAGEMENT => "management",
            name => name.strip_prefix(PREFIX).unwrap_or(name),
        };
        Self::all()
            .iter()
            .find(|schema| schema.name == short || schema.alias == Some(short))
    }

    pub(crate) fn full_name(&self) -> String {
        format!("{PREFIX}{}", self.name)
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

    /// Whether QUERY answers null for attributes that it does not have, as skrouterd's core does;
    /// for other types they are an error.
    pub(crate) fn is_lenient(&self) -> bool {
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
    pub(crate) fn bases(&self) -> [String; 2] {
        let nearest = if self.operational {
            "operationalEntity"
        } else {
            "configurationEntity"
        };
        [nearest, "entity"].map(|base| format!("{PREFIX}{base}"))
    }

    fn read(source: &(&'static str, &'static str, &'static str)) -> Self {
        let (name, properties, attributes) = *source;
        let mut schema = Self {
            name,
            alias: None,
            singleton: false,
            operational: false,
            operations: Vec::new(),
            attributes: Vec::new(),
        };
        for property in properties.split_whitespace() {
            match property {
                "singleton" => schema.singleton = true,
                "operational" => schema.operational = true,
                alias if alias.starts_with("alias=") => schema.alias = alias.get(6..),
                operation => schema.operations.push(operation),
            }
        }
        let common = "name:s identity:s~ type:s~";
        schema.attributes = common
            .split_whitespace()
            .chain(attributes.split_whitespace())
            .map(attribute)
            .collect();
        schema
    }
}

/// Reads `name:kind`, then `!` required, `^` updatable too, `~` read-only, `#` secret, then
/// `=default`.
fn attribute(source: &'static str) -> Attribute {
    let (head, default) = match source.split_once('=') {
        Some((head, default)) => (head, Some(default)),
        None => (source, None),
    };
    let flags_at = head.find(['!', '^', '~', '#']).unwrap_or(head.len());
    let (head, flags) = head.split_at(flags_at);
    let (name, kind) = head
        .split_once(':')
        .expect("the table below gives every kind");
    let kind = match kind {
        "s" => Kind::Text,
        "i" => Kind::Integer,
        "b" => Kind::Boolean,
        "path" => Kind::Path,
        "map" => Kind::Map,
        "list" => Kind::List,
        choice => Kind::Choice(choice.trim_matches(['{', '}']).split('|').collect()),
    };
    Attribute {
        name,
        kind,
        default,
        required: flags.contains('!'),
        create: !flags.contains('~'),
        update: flags.contains('^'),
        hidden: flags.contains('#'),
    }
}

impl Attribute {
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

macro_rules! roles {
    () => {
        "{normal|inter-router|route-container|edge|inter-edge|inter-network}=normal"
    };
}

macro_rules! deliveries {
    () => {
        "presettledDeliveries:i~ droppedPresettledDeliveries:i~ acceptedDeliveries:i~ \
         rejectedDeliveries:i~ releasedDeliveries:i~ modifiedDeliveries:i~ deliveriesIngress:i~ \
         deliveriesEgress:i~ deliveriesTransit:i~ deliveriesIngressRouteContainer:i~ \
         deliveriesEgressRouteContainer:i~ deliveriesIngressInterNetwork:i~ \
         deliveriesEgressInterNetwork:i~"
    };
}

/// Name; `singleton`, `operational`, alias and operations besides READ; attributes.
const ENTITIES: &[(&str, &str, &str)] = &[
    (
        "router",
        "singleton QUERY",
        "id:s vanId:s mode:{standalone|interior|edge}=standalone area:s~ version:s~ hostName:s~ \
         helloIntervalSeconds:i=1 helloMaxAgeSeconds:i=3 raIntervalSeconds:i=30 \
         raIntervalFluxSeconds:i=4 remoteLsMaxAgeSeconds:i=60 unreachableHoldoffSeconds:i=1 \
         workerThreads:i=4 debugDumpFile:path saslConfigDir:path saslConfigName:s=skrouterd \
         timestampsInUTC:b timestampFormat:s \
         defaultDistribution:{multicast|closest|balanced|unavailable}=balanced metadata:s \
         dataConnectionCount:s=auto dropTcpConnections:b=true",
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
        "host:s^ port:s^ username:s^ password:s^#",
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
        "address:s host:s= backlog:i=0 port:s multiAddressStrategy:{none|priority|weighted}=none \
         siteId:s connectionsOpened:i~ connectionsClosed:i~ bytesIn:i~ bytesOut:i~ sslProfile:s \
         authenticatePeer:b=false operStatus:{up|down}~ connectionMsg:s~ \
         observer:{none|auto|http1|http2}^=auto",
    ),
    (
        "tcpConnector",
        "QUERY CREATE DELETE",
        "address:s host:s=127.0.0.1 port:s siteId:s processId:s connectionsOpened:i~ \
         connectionsClosed:i~ bytesIn:i~ bytesOut:i~ sslProfile:s verifyHostname:b=true",
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
         connectionsProcessed:i~ connectionsDenied:i~ connectionsCurrent:i~ linksDenied:i~ \
         maxMessageSizeDenied:i~ totalDenials:i~",
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
            "id:s~ version:s~ addrCount:i~ linkCount:i~ nodeCount:i~ autoLinkCount:i~ \
             connectionCount:i~ ",
            deliveries!(),
            " residentMemoryUsage:i~ memoryUsage:i~ uptimeSeconds:i~ deliveriesStuck:i~ \
             deliveriesDelayed10Sec:i~ deliveriesDelayed1Sec:i~ connectionCounters:map~"
        ),
    ),
    (
        "router.link",
        "operational QUERY",
        "operStatus:{up|down|quiescing|idle}~ linkName:s~ linkType:s~ linkDir:{in|out}~ \
         owningAddr:s~ capacity:i~ undeliveredCount:i~ unsettledCount:i~ deliveryCount:i~ \
         connectionId:i~ presettledCount:i~ droppedPresettledCount:i~ acceptedCount:i~ \
         rejectedCount:i~ releasedCount:i~ modifiedCount:i~ deliveriesDelayed1Sec:i~ \
         deliveriesDelayed10Sec:i~ deliveriesStuck:i~ openMovedStreams:i~ creditAvailable:i~ \
         zeroCreditSeconds:i~ settleRate:i~ ingressHistogram:list~ priority:i~",
    ),
    (
        "router.address",
        "operational QUERY",
        "distribution:s~ inProcess:i~ subscriberCount:i~ remoteCount:i~ containerCount:i~ \
         deliveriesIngress:i~ deliveriesEgress:i~ deliveriesTransit:i~ deliveriesToContainer:i~ \
         deliveriesFromContainer:i~ deliveriesIngressRouteContainer:i~ \
         deliveriesEgressRouteContainer:i~ deliveriesIngressInterNetwork:i~ \
         deliveriesEgressInterNetwork:i~ key:s~ remoteHostRouters:list~ transitOutstanding:list~ \
         trackedDeliveries:i~ priority:i~ watch:b~",
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
        "adminStatus:{enabled|deleted}^ operStatus:{up|closing}~ protocol:s~ container:s~ \
         opened:b~ host:s~ localSocket:s~ dir:{in|out}~ role:s~ meshId:s~ isAuthenticated:b~ \
         isEncrypted:b~ enableProtocolTrace:b~ sasl:s~ user:s~ ssl:b~ sslProto:s~ sslCipher:s~ \
         sslSsf:i~ uptimeSeconds:i~ properties:map~ lastDlvSeconds:i~ tlsOrdinal:i~ \
         groupCorrelationId:s~ groupOrdinal:i~",
    ),
    (
        "logStats",
        "operational QUERY",
        "debugCount:i~ infoCount:i~ noticeCount:i~ warningCount:i~ errorCount:i~ criticalCount:i~",
    ),
    (
        "vhostUserGroupSettings",
        "",
        "users:s!~ remoteHosts:s!~ maxConnectionsPerUser:i~ maxConnectionsPerHost:i~ \
         maxMessageSize:i~ maxFrameSize:i~ maxSessionWindow:i~ maxSessions:i~ \
         maxSenders:i~=2147483647 maxReceivers:i~=2147483647 allowDynamicSource:b~=false \
         allowAnonymousSender:b~=false allowUserIdProxy:b~=false allowAdminStatusUpdate:b~=true \
         certificates:s~ neighbors:s~ sources:s~ targets:s~ sourcePattern:s~ targetPattern:s~",
    ),
    (
        "vhostStats",
        "operational QUERY",
        "hostname:s~ connectionsApproved:i~ connectionsDenied:i~ connectionsCurrent:i~ \
         perUserState:map~ perHostState:map~ sessionDenied:i~ senderDenied:i~ receiverDenied:i~ \
         maxMessageSizeDenied:i~",
    ),
    (
        "tcpConnection",
        "operational QUERY",
        "address:s~ host:s~ direction:{in|out}~ bytesIn:i~ bytesOut:i~ uptimeSeconds:i~ \
         lastInSeconds:i~ lastOutSeconds:i~",
    ),
    (
        "allocator",
        "operational QUERY",
        "typeName:s~ typeSize:i~ transferBatchSize:i~ localFreeListMax:i~ globalFreeListMax:i~ \
         totalAllocFromHeap:i~ totalFreeToHeap:i~ heldByThreads:i~ batchesRebalancedToThreads:i~ \
         batchesRebalancedToGlobal:i~",
    ),
    (
        "management",
        "operational singleton QUERY GET-TYPES GET-ATTRIBUTES GET-OPERATIONS GET-ANNOTATIONS \
         GET-MGMT-NODES GET-SCHEMA GET-JSON-SCHEMA GET-LOG RELOAD",
        "",
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
