//! Skeleton of the interface, until the engine is merged.
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::control::address::AddressKey;
use crate::control::table::Treatment;

#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) id: String,
    pub(crate) instance: i64,
    pub(crate) hello_interval: Duration,
    pub(crate) hello_max_age: Duration,
    pub(crate) ra_interval: Duration,
    pub(crate) ra_interval_flux: Duration,
    pub(crate) remote_ls_max_age: Duration,
    pub(crate) unreachable_holdoff: Duration,
    pub(crate) max_routers: usize,
}
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct NeighbourId(pub(crate) u32);
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct RouterIndex(pub(crate) u32);
#[derive(Debug)]
pub(crate) struct Mesh {}
#[derive(Clone, Debug)]
pub(crate) struct LocalAddress {
    pub(crate) treatment: Treatment,
    pub(crate) in_links: u32,
    pub(crate) mesh: Option<[u8; 15]>,
}
#[derive(Clone, Debug)]
pub(crate) struct RemoteAddress {
    pub(crate) treatment: Option<Treatment>,
}
#[derive(Clone, Debug)]
pub(crate) enum To {
    Neighbour(NeighbourId),
    AllRouters,
    Router(RouterIndex, Arc<str>),
}
#[derive(Debug)]
pub(crate) enum Output {
    Send {
        to: To,
        message: Bytes,
    },
    Routes(Arc<Routes>),
    RemoteAddress {
        router: RouterIndex,
        key: AddressKey,
        info: Option<RemoteAddress>,
    },
    Notice(Notice),
}
#[derive(Debug, Default)]
pub(crate) struct Routes {
    pub(crate) radius: u32,
}
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) id: Arc<str>,
    pub(crate) next_hop: Option<NextHop>,
    pub(crate) valid_origins: Vec<RouterIndex>,
}
#[derive(Clone, Copy, Debug)]
pub(crate) struct NextHop {
    pub(crate) neighbour: NeighbourId,
    pub(crate) cost: u32,
}
impl Routes {
    pub(crate) fn iter(&self) -> impl Iterator<Item = (RouterIndex, &Route)> {
        std::iter::empty()
    }
    pub(crate) fn direct(&self) -> impl Iterator<Item = (NeighbourId, RouterIndex)> {
        std::iter::empty()
    }
}
#[derive(Clone, Debug)]
pub(crate) struct Notice;
#[derive(Clone, Debug)]
pub(crate) struct RouterStatus;
impl Mesh {
    pub(crate) fn new(_: Settings, _: Instant) -> Self {
        Self {}
    }
    pub(crate) fn neighbour_up(&mut self, _: NeighbourId, _: u32, _: Instant) {}
    pub(crate) fn neighbour_down(&mut self, _: NeighbourId, _: Instant) {}
    pub(crate) fn receive(&mut self, _: NeighbourId, _: &[u8], _: Instant) {}
    pub(crate) fn malformed(&mut self, _: NeighbourId, _: &str) {}
    pub(crate) fn set_local_address(&mut self, _: AddressKey, _: LocalAddress) {}
    pub(crate) fn remove_local_address(&mut self, _: &AddressKey) {}
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        None
    }
    pub(crate) fn handle_timeout(&mut self, _: Instant) {}
    pub(crate) fn poll_output(&mut self) -> Option<Output> {
        None
    }
    pub(crate) fn routers(&self) -> impl Iterator<Item = RouterStatus> {
        std::iter::empty()
    }
}
