//! The command line of `router-bench`.

use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use clap::{Parser, ValueEnum};

use crate::error::Error;
use crate::wire::MIN_MAX_FRAME_SIZE;
use crate::wire::template::Stamp;

/// Sends messages through an AMQP 1.0 router to itself, and says what that took.
#[derive(Debug, Clone, Parser)]
#[command(name = "router-bench", version, args_override_self = true)]
pub struct Options {
    /// The router, as `host:port` or `amqp://host:port`.
    #[arg(long, default_value = "127.0.0.1:5672")]
    pub url: String,
    /// The router that receivers attach to, if it is another one of the same network.
    #[arg(long)]
    pub receivers_url: Option<String>,
    /// What to measure.
    #[arg(long, value_enum, default_value_t = Mode::Throughput)]
    pub mode: Mode,
    /// Addresses are this, a slash and a number.
    #[arg(long, default_value = "bench")]
    pub address: String,
    /// Octets of body per message, at least 16.
    #[arg(long, default_value_t = 100)]
    pub size: usize,
    /// Send settled: no outcomes, and losses are counted.
    #[arg(long, conflicts_with = "unsettled")]
    pub settled: bool,
    /// Send unsettled, which is the default: every outcome is checked.
    #[arg(long)]
    pub unsettled: bool,
    /// Credit per receiving link.
    #[arg(long, default_value_t = 1000)]
    pub credit: u32,
    /// Messages per sending link, instead of a duration.
    #[arg(long, conflicts_with = "duration")]
    pub count: Option<u64>,
    /// Seconds to measure; in idle mode, to hold the connections.
    #[arg(long, default_value_t = 5.0, value_parser = seconds)]
    pub duration: f64,
    /// Seconds to send before measuring; not with --count.
    #[arg(long, default_value_t = 1.0, value_parser = seconds)]
    pub warmup: f64,
    /// Connections that send, and as many that receive.
    #[arg(long, default_value_t = 1)]
    pub connections: usize,
    /// Links per connection.
    #[arg(long, default_value_t = 1)]
    pub links: usize,
    /// Addresses, shared by the links in turn; one per link by default.
    #[arg(long)]
    pub addresses: Option<usize>,
    /// Threads that send, and as many that receive.
    #[arg(long, default_value_t = 1)]
    pub threads: usize,
    /// Largest frame we take, in octets.
    #[arg(long, default_value_t = 131_072)]
    pub frame_size: u32,
    /// Transfer frames we take per session before saying more.
    #[arg(long, default_value_t = 8192)]
    pub window: u32,
    /// Messages per write at most.
    #[arg(long, default_value_t = 256)]
    pub batch: usize,
    /// Begin with the bare AMQP header instead of SASL ANONYMOUS.
    #[arg(long)]
    pub no_sasl: bool,
    /// Check content and order of every message received.
    #[arg(long)]
    pub verify: bool,
    /// Process whose CPU time and memory are the router's; several are added up.
    #[arg(long, value_delimiter = ',')]
    pub pid: Vec<u32>,
    /// Seconds without any progress that mean failure.
    #[arg(long, default_value_t = 10.0, value_parser = seconds)]
    pub stall: f64,
    /// Seconds the whole run may take; by default warm-up and duration and a minute, or ten minutes
    /// with --count.
    #[arg(long, value_parser = seconds)]
    pub timeout: Option<f64>,
    /// Print the report as JSON.
    #[arg(long)]
    pub json: bool,
}

/// What a run measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Messages per second from senders through the router to receivers.
    Throughput,
    /// Round trip of one unsettled message at a time.
    Latency,
    /// The router's memory for connections with one receiving link each.
    Idle,
    /// The generator's own sender to its own receiver, without a router.
    Direct,
}

impl Options {
    /// Checks what clap cannot.
    pub(crate) fn validate(&self) -> Result<(), Error> {
        let one_or_more = [
            ("--connections", self.connections),
            ("--links", self.links),
            ("--threads", self.threads),
            ("--batch", self.batch),
            ("--addresses", self.addresses.unwrap_or(1)),
            ("--credit", self.credit as usize),
            ("--window", self.window as usize),
            ("--count", self.count.unwrap_or(1).min(1) as usize),
        ];
        for (name, value) in one_or_more {
            check(value > 0, format_args!("{name} must be at least 1"))?;
        }
        let credit = self.credit <= i32::MAX as u32;
        check(credit, "--credit must be at most 2147483647")?;
        let frame_size = (MIN_MAX_FRAME_SIZE..=MAX_FRAME_SIZE).contains(&self.frame_size);
        check(frame_size, "--frame-size must be from 512 to 16777216")?;
        let size = (Stamp::LEN..=MAX_SIZE).contains(&self.size);
        check(size, "--size must be from 16 octets to 1 GiB")?;
        check(self.links <= MAX_LINKS, "--links must be at most 65536")?;
        let single = self.links == 1 && self.connections == 1 && !self.settled;
        check(
            self.mode != Mode::Latency || single,
            "latency is measured with one unsettled message on one link",
        )
    }

    /// Where the router listens that senders attach to.
    pub(crate) fn target(&self) -> Result<SocketAddr, Error> {
        resolve(&self.url)
    }

    /// Where the router listens that receivers attach to.
    pub(crate) fn receivers_target(&self) -> Result<SocketAddr, Error> {
        resolve(self.receivers_url.as_ref().unwrap_or(&self.url))
    }

    /// The addresses of one connection's links.
    pub(crate) fn link_addresses(&self, connection: usize) -> Vec<String> {
        let addresses = self.addresses.unwrap_or(self.connections * self.links);
        let first = connection * self.links;
        (first..first + self.links)
            .map(|link| format!("{}/{}", self.address, link % addresses))
            .collect()
    }

    /// One receiving link per address, so no message may be missing from it.
    pub(crate) fn links_are_paired(&self) -> bool {
        self.addresses
            .is_none_or(|addresses| addresses >= self.connections * self.links)
    }

    /// Messages per write: fewer when they are large, so that a batch stays in the cache.
    pub(crate) fn batch(&self) -> usize {
        self.batch.min(BATCH_OCTETS / self.size).max(1)
    }

    pub(crate) fn stall(&self) -> Duration {
        Duration::from_secs_f64(self.stall)
    }

    pub(crate) fn time_out(&self) -> Duration {
        let default = match self.count {
            Some(_) => 600.0,
            None => self.warmup + self.duration + 60.0,
        };
        Duration::from_secs_f64(self.timeout.unwrap_or(default))
    }
}

fn resolve(url: &str) -> Result<SocketAddr, Error> {
    let address = url
        .strip_prefix("amqp://")
        .unwrap_or(url)
        .trim_end_matches('/');
    let mut found = address
        .to_socket_addrs()
        .map_err(|error| Error::Usage(format!("{address}: {error}")))?;
    found
        .next()
        .ok_or_else(|| Error::Usage(format!("{address}: no such host")))
}

fn check(holds: bool, message: impl std::fmt::Display) -> Result<(), Error> {
    if holds {
        Ok(())
    } else {
        Err(Error::Usage(message.to_string()))
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if (0.0..=86_400.0).contains(&value) => Ok(value),
        Ok(_) => Err("from 0 to 86400 seconds".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

const BATCH_OCTETS: usize = 256 * 1024;
const MAX_FRAME_SIZE: u32 = 16 * 1024 * 1024;
const MAX_SIZE: usize = 1 << 30;
const MAX_LINKS: usize = 65_536;

#[cfg(test)]
mod tests {
    use super::*;

    fn options(arguments: &[&str]) -> Options {
        Options::try_parse_from([&["router-bench"], arguments].concat()).unwrap()
    }

    #[test]
    fn each_link_has_its_own_address_unless_told_otherwise() {
        let paired = options(&["--connections", "2", "--links", "2", "--address", "a"]);
        assert_eq!(paired.link_addresses(1), ["a/2", "a/3"]);
        assert!(paired.links_are_paired());
        let shared = options(&["--links", "3", "--addresses", "2", "--address", "a"]);
        assert_eq!(shared.link_addresses(0), ["a/0", "a/1", "a/0"]);
        assert!(!shared.links_are_paired());
    }

    #[test]
    fn large_messages_are_written_one_by_one() {
        assert_eq!(options(&[]).batch(), 256);
        assert_eq!(options(&["--size", "65536"]).batch(), 4);
        assert_eq!(options(&["--size", "10000000"]).batch(), 1);
    }

    #[test]
    fn nonsense_is_refused() {
        for arguments in [
            ["--size", "15"],
            ["--links", "0"],
            ["--count", "0"],
            ["--frame-size", "511"],
            ["--credit", "2147483648"],
        ] {
            assert!(options(&arguments).validate().is_err(), "{arguments:?}");
        }
        assert!(
            options(&["--mode", "latency", "--links", "2"])
                .validate()
                .is_err()
        );
        assert!(
            options(&["--mode", "latency", "--settled"])
                .validate()
                .is_err()
        );
    }

    #[test]
    fn urls_may_have_a_scheme() {
        let target = options(&["--url", "amqp://127.0.0.1:7000/"])
            .target()
            .unwrap();
        assert_eq!(target, "127.0.0.1:7000".parse().unwrap());
    }
}
