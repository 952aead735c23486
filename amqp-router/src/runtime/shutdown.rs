//! The signals that stop a router, and telling its parts to stop.

use std::io;

use tokio::sync::watch;

/// The signals of the process: SIGTERM, SIGINT and SIGQUIT ask for an orderly stop, SIGHUP to read
/// the configuration file again.
#[derive(Debug)]
pub struct Signals {
    #[cfg(unix)]
    stopping: [tokio::signal::unix::Signal; 3],
    #[cfg(unix)]
    hangup: tokio::signal::unix::Signal,
}

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// To stop; the name of the signal.
    Stop(&'static str),
    /// To read the configuration file again.
    Reload,
}

impl Signals {
    /// Takes over the signals; from here on they do nothing until [`Signals::next`] is awaited.
    ///
    /// # Errors
    ///
    /// The system does not allow it.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime whose I/O driver is enabled.
    #[cfg(unix)]
    pub fn install() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let stopping = [
            SignalKind::terminate(),
            SignalKind::interrupt(),
            SignalKind::quit(),
        ];
        let [terminate, interrupt, quit] = stopping.map(signal);
        Ok(Self {
            stopping: [terminate?, interrupt?, quit?],
            hangup: signal(SignalKind::hangup())?,
        })
    }

    #[cfg(not(unix))]
    pub fn install() -> io::Result<Self> {
        Ok(Self {})
    }

    /// Waits for the next signal. None is lost between two calls.
    #[cfg(unix)]
    pub async fn next(&mut self) -> Asked {
        let [terminate, interrupt, quit] = &mut self.stopping;
        tokio::select! {
            _ = terminate.recv() => Asked::Stop("SIGTERM"),
            _ = interrupt.recv() => Asked::Stop("SIGINT"),
            _ = quit.recv() => Asked::Stop("SIGQUIT"),
            _ = self.hangup.recv() => Asked::Reload,
        }
    }

    #[cfg(not(unix))]
    pub async fn next(&mut self) -> Asked {
        let _ = tokio::signal::ctrl_c().await;
        Asked::Stop("Ctrl-C")
    }
}

/// Tells every part of a router to stop; see [`Shutdown`].
#[derive(Debug)]
#[cfg_attr(not(test), expect(dead_code, reason = "dropping it is what tells"))]
pub(crate) struct Stop(watch::Sender<bool>);

/// What a part of a router holds to learn that it is to stop.
#[derive(Clone, Debug)]
pub(crate) struct Shutdown(watch::Receiver<bool>);

impl Stop {
    pub(crate) fn new() -> (Self, Shutdown) {
        let (sender, receiver) = watch::channel(false);
        (Self(sender), Shutdown(receiver))
    }

    /// Parts stop also when this is dropped.
    #[cfg(test)]
    pub(crate) fn stop(&self) {
        self.0.send_replace(true);
    }

    /// Returns when every part has dropped its [`Shutdown`].
    #[cfg(test)]
    pub(crate) async fn all_stopped(&self) {
        self.0.closed().await;
    }
}

impl Shutdown {
    /// Returns when it is time to stop, also to those who ask late.
    pub(crate) async fn requested(&mut self) {
        // An error means that the sender is gone: also a stop.
        let _ = self.0.wait_for(|stopping| *stopping).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_learns_of_the_stop_and_is_waited_for() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        runtime.block_on(async {
            let (stop, mut first) = Stop::new();
            let mut second = first.clone();
            let parts = tokio::spawn(async move {
                first.requested().await;
                second.requested().await;
            });
            stop.stop();
            stop.all_stopped().await;
            parts.await.unwrap();
        });
    }

    #[test]
    fn a_part_stops_when_nobody_can_tell_it_any_more() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let (stop, mut part) = Stop::new();
        drop(stop);
        runtime.block_on(part.requested());
    }
}
