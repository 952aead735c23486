//! What records say, by the numbers that routers and collectors share
//! (`reference/router/vanflow.md` §5, §9).

/// What a record is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u32)]
pub(crate) enum RecordType {
    Site = 0x00,
    Router = 0x01,
    /// A connector to another router.
    Link = 0x02,
    /// A TCP listener's way to one address.
    Listener = 0x04,
    /// A TCP service that an address leads to.
    Connector = 0x05,
    /// A line of the log.
    Log = 0x0e,
    /// A listener for other routers.
    RouterAccess = 0x0f,
    /// A TCP connection, from its client to its service.
    BiflowTport = 0x10,
    /// A request in it, and its answer.
    BiflowApp = 0x11,
}

/// Where records of a type are published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Channel {
    /// What there is, and what changes of it.
    Entities,
    Flows,
    Logs,
}

impl RecordType {
    pub(crate) fn code(self) -> u32 {
        self as u32
    }

    /// The name in the log.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Site => "SITE",
            Self::Router => "ROUTER",
            Self::Link => "LINK",
            Self::Listener => "LISTENER",
            Self::Connector => "CONNECTOR",
            Self::Log => "LOG",
            Self::RouterAccess => "ROUTER_ACCESS",
            Self::BiflowTport => "BIFLOW_TPORT",
            Self::BiflowApp => "BIFLOW_APP",
        }
    }

    /// Whether there may be only so many, as they are of what passes.
    pub(crate) fn is_discretionary(self) -> bool {
        self.channel() == Channel::Flows
    }

    pub(crate) fn channel(self) -> Channel {
        match self {
            Self::BiflowTport | Self::BiflowApp => Channel::Flows,
            Self::Log => Channel::Logs,
            _ => Channel::Entities,
        }
    }
}

/// How the values of an attribute are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Number,
    Text,
}

macro_rules! attributes {
    ($($code:literal $attribute:ident $kind:ident $name:literal,)*) => {
        /// One thing that a record can say.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub(crate) enum Attribute {
            $($attribute = $code,)*
        }

        impl Attribute {
            const ALL: &[Self] = &[$(Self::$attribute),*];

            pub(crate) fn kind(self) -> Kind {
                match self { $(Self::$attribute => Kind::$kind),* }
            }

            /// The name in the log.
            pub(crate) fn name(self) -> &'static str {
                match self { $(Self::$attribute => $name),* }
            }
        }
    };
}

attributes! {
    0 RecordType Number "recordType",
    1 Identity Text "identity",
    2 Parent Text "parent",
    3 StartTime Number "startTime",
    4 EndTime Number "endTime",
    5 Counterflow Text "counterflow",
    6 Peer Text "peer",
    7 Process Text "process",
    8 SiblingOrdinal Number "sibOrdinal",
    9 Location Text "location",
    10 Provider Text "provider",
    11 Platform Text "platform",
    12 Namespace Text "namespace",
    13 Mode Text "mode",
    14 SourceHost Text "sourceHost",
    15 DestHost Text "destHost",
    16 Protocol Text "protocol",
    17 SourcePort Text "sourcePort",
    18 DestPort Text "destPort",
    19 VanAddress Text "vanAddress",
    20 ImageName Text "imageName",
    21 ImageVersion Text "imageVersion",
    22 Hostname Text "hostname",
    23 Octets Number "octets",
    24 Latency Number "latency",
    25 TransitLatency Number "transitLatency",
    26 Backlog Number "backlog",
    27 Method Text "method",
    28 Result Text "result",
    29 Reason Text "reason",
    30 Name Text "name",
    31 Trace Text "trace",
    32 BuildVersion Text "buildVersion",
    33 LinkCost Number "linkCost",
    34 Direction Text "direction",
    35 OctetRate Number "octetRate",
    36 OctetsOut Number "octetsOut",
    37 OctetsUnacked Number "octetsUnacked",
    38 WindowClosures Number "windowClosures",
    39 WindowSize Number "windowSize",
    40 FlowCountL4 Number "flowCountL4",
    41 FlowCountL7 Number "flowCountL7",
    42 FlowRateL4 Number "flowRateL4",
    43 FlowRateL7 Number "flowRateL7",
    44 Duration Number "duration",
    45 Image Text "image",
    46 Group Text "group",
    47 StreamId Number "streamId",
    48 LogSeverity Number "logSeverity",
    49 LogText Text "logText",
    50 SourceFile Text "sourceFile",
    51 SourceLine Number "sourceLine",
    52 LinkCount Number "linkCount",
    53 OperStatus Text "operStatus",
    54 Role Text "role",
    55 UpTimeStamp Number "upTimeStamp",
    56 DownTimeStamp Number "downTimeStamp",
    57 DownCount Number "downCount",
    58 OctetsReverse Number "octetsReverse",
    59 OctetRateReverse Number "octetRateReverse",
    60 Connector Text "connector",
    61 ProcessLatency Number "processLatency",
    62 ProxyHost Text "proxyHost",
    63 ProxyPort Text "proxyPort",
    64 ErrorListenerSide Text "errorListenerSide",
    65 ErrorConnectorSide Text "errorConnectorSide",
    66 ActiveTlsOrdinal Number "activeTlsOrdinal",
    67 HttpProxy Text "httpProxy",
}

impl Attribute {
    /// How many there are.
    pub(crate) const COUNT: usize = Self::ALL.len();

    pub(crate) fn code(self) -> u32 {
        u32::from(self as u8)
    }

    /// Whether the router of a connection's service may say this of it: any number but its
    /// beginning and end, and of the texts those that only it knows.
    pub(crate) fn is_of_service(self) -> bool {
        match self.kind() {
            Kind::Number => !matches!(self, Self::StartTime | Self::EndTime),
            Kind::Text => matches!(
                self,
                Self::Trace
                    | Self::Connector
                    | Self::ProxyHost
                    | Self::ProxyPort
                    | Self::ErrorConnectorSide
            ),
        }
    }

    pub(crate) fn of_code(code: u32) -> Option<Self> {
        Self::ALL.get(usize::try_from(code).ok()?).copied()
    }

    /// Octets that its text may have.
    pub(crate) fn longest(self) -> usize {
        match self {
            Self::Trace => LONGEST_TRACE,
            _ => LONGEST_TEXT,
        }
    }
}

/// What an attribute says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Datum {
    /// A number, a count, or a time in microseconds: since 1970 or as a length.
    Number(u64),
    Text(Box<str>),
}

impl Datum {
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::Number(_) => Kind::Number,
            Self::Text(_) => Kind::Text,
        }
    }

    /// Without what goes beyond `longest` octets of text.
    pub(super) fn cut(self, longest: usize) -> Self {
        match self {
            Self::Text(text) if text.len() > longest => Self::Text(start(&text, longest).into()),
            other => other,
        }
    }
}

/// The start of a text, without half a character at its end.
pub(super) fn start(text: &str, longest: usize) -> &str {
    let mut end = longest.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

impl From<u64> for Datum {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

impl From<&str> for Datum {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

impl From<Box<str>> for Datum {
    fn from(text: Box<str>) -> Self {
        Self::Text(text)
    }
}

impl From<String> for Datum {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

const LONGEST_TEXT: usize = 300;
const LONGEST_TRACE: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_what_they_are_listed_as() {
        for code in 0..68 {
            assert_eq!(Attribute::of_code(code).unwrap().code(), code);
        }
        assert_eq!(Attribute::of_code(68), None);
        assert_eq!(Attribute::HttpProxy.code(), 67);
        assert_eq!(Attribute::FlowCountL4.code(), 40);
        assert_eq!(Attribute::LogSeverity.name(), "logSeverity");
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        let cut = |text: String| match Datum::from(text).cut(300) {
            Datum::Text(text) => text.len(),
            Datum::Number(_) => unreachable!("it is a text"),
        };
        assert_eq!(cut("x".repeat(300)), 300);
        assert_eq!(cut("x".repeat(9000)), 300);
        assert_eq!(cut(format!("x{}", "é".repeat(200))), 299);
    }
}
