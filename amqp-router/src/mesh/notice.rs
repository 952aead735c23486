//! What the protocol has to tell an operator.

use std::fmt;

use super::NeighbourId;

/// What an operator may want to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Notice {
    NeighbourFound {
        id: String,
        cost: u32,
    },
    NeighbourLost {
        id: String,
    },
    Restarted {
        id: String,
    },
    DuplicateId {
        id: String,
    },
    AnotherId {
        neighbour: NeighbourId,
        id: String,
    },
    /// Somebody by way of this neighbour speaks in this router's name.
    Impostor {
        neighbour: NeighbourId,
    },
    TooManyRouters {
        id: String,
    },
    TooManyAddresses {
        id: String,
    },
    TooManyPeers {
        id: String,
    },
    Malformed {
        neighbour: NeighbourId,
        what: &'static str,
    },
    NewerVersion {
        id: String,
        version: i64,
    },
}

impl Notice {
    /// Whether something is wrong.
    pub(crate) fn is_trouble(&self) -> bool {
        !matches!(
            self,
            Self::NeighbourFound { .. } | Self::NeighbourLost { .. } | Self::Restarted { .. }
        )
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NeighbourFound { id, cost } => {
                write!(f, "Router {id} is a neighbour, at cost {cost}")
            }
            Self::NeighbourLost { id } => write!(f, "Link to Neighbor Router Lost - {id}"),
            Self::Restarted { id } => write!(f, "Detected Restart of Router Node {id}"),
            Self::DuplicateId { id } => {
                write!(f, "Detected Neighbor Router with a Duplicate ID - {id}")
            }
            Self::AnotherId { neighbour, id } => write!(
                f,
                "Neighbour {} is not believed that it is {id}: it has said that it is another",
                neighbour.0
            ),
            Self::Impostor { neighbour } => write!(
                f,
                "Neighbour {} passes on what this router has not said: another router may have its \
                 id, or one lies",
                neighbour.0
            ),
            Self::TooManyRouters { id } => {
                write!(
                    f,
                    "Router {id} is ignored: the network has too many routers"
                )
            }
            Self::TooManyAddresses { id } => {
                write!(f, "Addresses of router {id} are ignored: it has too many")
            }
            Self::TooManyPeers { id } => write!(
                f,
                "The link state of router {id} is ignored: the network has too many connections"
            ),
            Self::Malformed { neighbour, what } => write!(
                f,
                "A control message from neighbour {} is dropped: bad {what}",
                neighbour.0
            ),
            Self::NewerVersion { id, version } => write!(
                f,
                "Messages of router {id} are ignored: protocol version {version} is not known"
            ),
        }
    }
}
