//! Where the system cannot move octets from socket to socket by itself.

use std::convert::Infallible;
use std::io;
use std::task::{Context, Poll};

use tokio::net::TcpStream;

#[derive(Debug, Default)]
pub(super) struct Pipes;

#[derive(Debug)]
pub(super) struct Pipe(Infallible);

impl Pipes {
    pub(super) fn take(&mut self) -> Option<Pipe> {
        None
    }

    pub(super) fn put_back(&mut self, pipe: Pipe) {
        match pipe.0 {}
    }
}

impl Pipe {
    pub(super) fn is_empty(&self) -> bool {
        match self.0 {}
    }

    pub(super) fn poll_fill(
        &mut self,
        _: &TcpStream,
        _: usize,
        _: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        match self.0 {}
    }

    pub(super) fn poll_empty(
        &mut self,
        _: &TcpStream,
        _: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        match self.0 {}
    }
}
