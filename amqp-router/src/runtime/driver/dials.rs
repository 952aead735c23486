//! Connecting to TCP services, beside the worker's own work.
//!
//! What is being connected is part of the worker's task: many connections are begun in one turn, and
//! taken over in another, at the price of no tasks, messages and looks at the sockets of their own.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use super::Driver;
use crate::control::table::ConnectorId;
use crate::runtime::stream::Stream;
use crate::runtime::tcp::DELETED;
use crate::worker::ConnectionId;
use crate::worker::tcp::{Dial, Dialled, NotDialled};

/// Connections that are being made.
#[derive(Default)]
pub(super) struct Dials {
    attempts: FuturesUnordered<Pin<Box<dyn Future<Output = Made> + Send>>>,
}

impl fmt::Debug for Dials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dials")
            .field("attempts", &self.attempts.len())
            .finish()
    }
}

/// How connecting to a service went.
struct Made {
    connection: ConnectionId,
    id: u64,
    connector: ConnectorId,
    result: Result<(Stream, Dialled), String>,
}

impl Driver {
    /// Begins to connect to a service; [`poll_dials`](Self::poll_dials) goes on.
    pub(super) fn dial(&mut self, dial: Dial) {
        let Dial {
            connection,
            id,
            connector,
            alpn,
            patience,
        } = dial;
        let way = self.connectors.get(&connector).map(Arc::clone);
        self.dials.attempts.push(Box::pin(async move {
            let result = match way {
                Some(way) => way.dial(alpn, patience).await,
                None => Err(DELETED.to_owned()),
            };
            Made {
                connection,
                id,
                connector,
                result,
            }
        }));
    }

    /// Goes on with the connections that are being made. True if one is, or could not be.
    pub(super) fn poll_dials(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        let mut any = false;
        while let Poll::Ready(Some(made)) = self.dials.attempts.poll_next_unpin(cx) {
            any = true;
            self.made(made, now);
        }
        any
    }

    fn made(&mut self, made: Made, now: Instant) {
        let Made {
            connection,
            id,
            connector,
            mut result,
        } = made;
        if !self.connectors.contains_key(&connector) {
            // Nobody is to be connected to what has been deleted meanwhile.
            result = Err(DELETED.to_owned());
        }
        match result {
            Ok((stream, dialled)) => {
                if self.worker.dialled(connection, id, Ok(dialled), now) {
                    self.add_tcp_socket(connection, stream);
                }
            }
            Err(reason) => {
                let way = self.connectors.get(&connector);
                let record = way.and_then(|way| way.service.record);
                let failed = NotDialled { reason, record };
                self.worker.dialled(connection, id, Err(failed), now);
            }
        }
    }
}
