//! A stream whose peer must read: who takes nothing for too long is cut off.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

/// A stream that fails once it could not be written to for [`STALL_TIME_OUT`].
#[derive(Debug)]
pub(crate) struct Unstalled<S> {
    stream: S,
    /// While writing waits.
    due: Option<Pin<Box<Sleep>>>,
}

impl<S> Unstalled<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self { stream, due: None }
    }

    /// Passes on what writing has come to, unless it has waited too long.
    fn watch<T>(
        &mut self,
        result: Poll<io::Result<T>>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if result.is_ready() {
            self.due = None;
            return result;
        }
        let due = self
            .due
            .get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + STALL_TIME_OUT)));
        match due.as_mut().poll(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(()) => Poll::Ready(Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the peer does not read",
            ))),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Unstalled<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Unstalled<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, octets);
        self.watch(written, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.watch(written, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.watch(flushed, cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.watch(shut, cx)
    }
}

/// How long a peer may take nothing while there is something for it.
const STALL_TIME_OUT: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[test]
    fn a_peer_that_does_not_read_is_cut_off_and_one_that_reads_slowly_is_not() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let (near, mut far) = tokio::io::duplex(10);
            let mut stream = Unstalled::new(near);
            let started = Instant::now();
            let reading = tokio::spawn(async move {
                let mut octets = [0; 10];
                for _ in 0..3 {
                    tokio::time::sleep(STALL_TIME_OUT - Duration::from_secs(1)).await;
                    far.read_exact(&mut octets).await.unwrap();
                }
                far
            });
            stream.write_all(&[0; 40]).await.unwrap();
            let _far = reading.await.unwrap();
            assert!(started.elapsed() > STALL_TIME_OUT * 2, "it was slow");
            let error = stream.write_all(&[0; 40]).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        });
    }
}
