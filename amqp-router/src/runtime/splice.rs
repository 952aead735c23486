//! Octets from socket to socket by way of the kernel alone.
//!
//! `splice` moves what a socket has received into a pipe, and from there to another socket, by
//! reference: nothing is copied, and nothing comes into this process. A pipe is borrowed for as long
//! as something is in it; so a few serve all connections of a worker.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::task::{Context, Poll, ready};

use nix::fcntl::{FcntlArg, OFlag, SpliceFFlags, fcntl};
use nix::sys::resource::{Resource, getrlimit};
use nix::unistd::pipe2;
use tokio::io::Interest;
use tokio::net::TcpStream;

/// Empty pipes.
#[derive(Debug)]
pub(super) struct Pipes {
    free: Vec<Pipe>,
    /// Those that exist, wherever they are.
    count: usize,
    most: usize,
}

impl Default for Pipes {
    /// Sockets come first where there are few file descriptors.
    fn default() -> Self {
        let files = getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(soft, _)| soft);
        let share = usize::try_from(files / PIPES_PART).unwrap_or(PIPES_MAX);
        Self {
            free: Vec::new(),
            count: 0,
            most: share.min(PIPES_MAX),
        }
    }
}

#[derive(Debug)]
pub(super) struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
    octets: usize,
}

impl Pipes {
    /// An empty pipe, unless too many are in use or the system has none.
    pub(super) fn take(&mut self) -> Option<Pipe> {
        if let Some(pipe) = self.free.pop() {
            return Some(pipe);
        }
        if self.count == self.most {
            return None;
        }
        let pipe = Pipe::new().ok()?;
        self.count += 1;
        Some(pipe)
    }

    /// Takes a pipe back. One in which something is left is of no more use.
    pub(super) fn put_back(&mut self, pipe: Pipe) {
        if pipe.is_empty() && self.free.len() < FREE_MAX {
            self.free.push(pipe);
        } else {
            self.count -= 1;
        }
    }
}

impl Pipe {
    fn new() -> io::Result<Self> {
        let (read, write) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        // Where the system has a limit, the usual size will do.
        let _ = fcntl(&write, FcntlArg::F_SETPIPE_SZ(PIPE_OCTETS));
        Ok(Self {
            read,
            write,
            octets: 0,
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.octets == 0
    }

    /// Moves what the socket has received into the pipe, which must be empty, `most` octets of it;
    /// `Ok(0)` is the end of the stream.
    pub(super) fn poll_fill(
        &mut self,
        from: &TcpStream,
        most: usize,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(from.poll_read_ready(cx))?;
            let moved = from.try_io(Interest::READABLE, || {
                splice(from, &self.write, most.min(MOVE_MAX))
            });
            match moved {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
                Ok(octets) => {
                    self.octets += octets;
                    return Poll::Ready(Ok(octets));
                }
            }
        }
    }

    /// Moves what is in the pipe to the socket, as far as it takes it at once.
    pub(super) fn poll_empty(
        &mut self,
        to: &TcpStream,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(to.poll_write_ready(cx))?;
            let moved = to.try_io(Interest::WRITABLE, || splice(&self.read, to, self.octets));
            match moved {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
                Ok(octets) => {
                    self.octets -= octets;
                    return Poll::Ready(Ok(octets));
                }
            }
        }
    }
}

fn splice(from: impl AsFd, to: impl AsFd, octets: usize) -> io::Result<usize> {
    let flags = SpliceFFlags::SPLICE_F_MOVE | SpliceFFlags::SPLICE_F_NONBLOCK;
    Ok(nix::fcntl::splice(from, None, to, None, octets, flags)?)
}

/// Pipes of one worker. What is in one waits for a socket to take it.
const PIPES_MAX: usize = 64;
/// One of how many files a worker's pipes may be, at two each.
const PIPES_PART: u64 = 64;
/// Of them, those that are kept for the next time.
const FREE_MAX: usize = 4;
/// What a pipe holds, if the system lets it, in pages of a socket that are full.
const PIPE_OCTETS: i32 = 256 * 1024;
/// Octets that are moved at once: a pipe may hold more than its size where pages are large.
const MOVE_MAX: usize = 512 * 1024;

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap());
        let (near, far) = tokio::join!(near, listener.accept());
        (near.unwrap(), far.unwrap().0)
    }

    /// Fills a pipe from a socket and empties it into another until the first has ended.
    async fn relay(pipes: &mut Pipes, from: &TcpStream, to: &TcpStream) -> usize {
        let mut total = 0;
        loop {
            let mut pipe = pipes.take().unwrap();
            let filled = poll_fn(|cx| pipe.poll_fill(from, 100_000, cx)).await;
            let filled = filled.unwrap();
            assert!(filled <= 100_000);
            while !pipe.is_empty() {
                total += poll_fn(|cx| pipe.poll_empty(to, cx)).await.unwrap();
            }
            pipes.put_back(pipe);
            if filled == 0 {
                return total;
            }
        }
    }

    #[tokio::test]
    async fn octets_go_from_socket_to_socket() {
        let ((mut client, from), (to, mut service)) = (pair().await, pair().await);
        let octets: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
        let mut got = Vec::new();
        let mut pipes = Pipes::default();
        let write = async {
            client.write_all(&octets).await.unwrap();
            client.shutdown().await.unwrap();
        };
        let move_all = async {
            let moved = relay(&mut pipes, &from, &to).await;
            drop(to);
            moved
        };
        let ((), moved, read) = tokio::join!(write, move_all, service.read_to_end(&mut got));
        read.unwrap();
        assert_eq!(moved, octets.len());
        assert!(got == octets, "they are the same");
        assert_eq!(pipes.count, 1, "one pipe does for one at a time");
    }

    #[tokio::test]
    async fn a_socket_that_takes_no_more_leaves_the_rest_in_the_pipe() {
        let ((mut client, from), (to, mut service)) = (pair().await, pair().await);
        // As much as the sockets take, and some.
        while let Ok(1..) = to.try_write(&[1; 65_536]) {}
        client.write_all(&[2; 50_000]).await.unwrap();
        let mut pipes = Pipes::default();
        let mut pipe = pipes.take().unwrap();
        let filled = poll_fn(|cx| pipe.poll_fill(&from, 100_000, cx)).await;
        let filled = filled.unwrap();
        let emptied = poll_fn(|cx| Poll::Ready(pipe.poll_empty(&to, cx))).await;
        assert!(emptied.is_pending(), "{emptied:?}");
        assert!(!pipe.is_empty());
        let mut rest: Vec<u8> = Vec::new();
        let read = async {
            let mut buffer = vec![0; 65_536];
            while rest.len() < filled {
                let length = service.read(&mut buffer).await.unwrap();
                rest.extend(buffer[..length].iter().filter(|octet| **octet == 2));
            }
        };
        let empty = async {
            while !pipe.is_empty() {
                poll_fn(|cx| pipe.poll_empty(&to, cx)).await.unwrap();
            }
        };
        tokio::join!(read, empty);
        assert_eq!(rest.len(), filled);
    }

    #[tokio::test]
    async fn pipes_are_few_and_none_is_used_again_with_something_in_it() {
        let (mut client, from) = pair().await;
        let mut pipes = Pipes::default();
        let mut taken: Vec<_> = std::iter::from_fn(|| pipes.take()).collect();
        assert!((1..=PIPES_MAX).contains(&taken.len()));
        client.write_all(b"hello").await.unwrap();
        let filled = poll_fn(|cx| taken[0].poll_fill(&from, 100, cx)).await;
        assert_eq!(filled.unwrap(), 5);
        for pipe in taken {
            pipes.put_back(pipe);
        }
        assert!(pipes.free.iter().all(Pipe::is_empty));
        assert_eq!(pipes.count, pipes.free.len());
        assert!(pipes.count <= FREE_MAX);
    }
}
