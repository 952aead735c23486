//! What a run found out.

use std::fmt;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::options::{Mode, Options};

/// The result of one run; `--json` prints it as it is.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// What was measured.
    pub mode: Mode,
    /// Octets of body per message.
    pub size: usize,
    /// Sent settled.
    pub settled: bool,
    /// Sending connections, and as many receiving ones; in idle mode, receiving ones alone.
    pub connections: usize,
    /// Links per connection.
    pub links: usize,
    /// Credit per receiving link.
    pub credit: u32,
    /// Seconds measured.
    pub seconds: f64,
    /// Messages received per second while measuring.
    pub messages_per_second: f64,
    /// Message bodies received while measuring, in MB (10^6 octets) per second.
    pub megabytes_per_second: f64,
    /// Counted over the whole run, warm-up included.
    pub messages: Messages,
    /// Round trips, in latency mode.
    pub latency: Option<Percentiles>,
    /// The router's use, when its process is known.
    pub router: Option<RouterUse>,
    /// The generator's own use; near 1 second per second it is what limits the rate.
    pub generator: GeneratorUse,
}

/// Message counts.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Messages {
    /// Sent.
    pub sent: u64,
    /// Received whole.
    pub received: u64,
    /// Sent settled and not received.
    pub lost: u64,
    /// Aborted on the way.
    pub aborted: u64,
    /// Outcome accepted.
    pub accepted: u64,
}

/// Round trips in microseconds.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Percentiles {
    /// Round trips measured.
    pub count: u64,
    /// Half were at most this.
    pub p50: f64,
    /// Nine in ten were at most this.
    pub p90: f64,
    /// 99 in 100 were at most this.
    pub p99: f64,
    /// The longest.
    pub max: f64,
}

/// What the router's process used while measuring.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct RouterUse {
    /// CPU microseconds per message received.
    pub cpu_us_per_message: Option<f64>,
    /// CPU seconds per GB (10^9 octets) of bodies received.
    pub cpu_s_per_gb: Option<f64>,
    /// CPU seconds per second.
    pub cores: f64,
    /// Resident KiB before we connected.
    pub rss_before: u64,
    /// Resident KiB at the end.
    pub rss_after: u64,
    /// KiB of growth per connection.
    pub rss_per_connection: f64,
}

/// CPU seconds per second of our threads while measuring.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct GeneratorUse {
    /// Sending threads; in latency mode, the one that does both.
    pub senders: f64,
    /// Receiving threads.
    pub receivers: f64,
}

impl Report {
    /// Everything about the options, nothing measured yet.
    pub(crate) fn new(options: &Options) -> Self {
        Report {
            mode: options.mode,
            size: options.size,
            settled: options.settled,
            connections: options.connections,
            links: options.links,
            credit: options.credit,
            seconds: 0.0,
            messages_per_second: 0.0,
            megabytes_per_second: 0.0,
            messages: Messages::default(),
            latency: None,
            router: None,
            generator: GeneratorUse::default(),
        }
    }
}

impl Percentiles {
    /// Of a histogram in nanoseconds.
    pub(crate) fn of(histogram: &Histogram<u64>) -> Self {
        let microseconds = |nanoseconds: u64| nanoseconds as f64 / 1000.0;
        Percentiles {
            count: histogram.len(),
            p50: microseconds(histogram.value_at_quantile(0.5)),
            p90: microseconds(histogram.value_at_quantile(0.9)),
            p99: microseconds(histogram.value_at_quantile(0.99)),
            max: microseconds(histogram.max()),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Messages {
            sent,
            received,
            lost,
            aborted,
            accepted,
        } = self.messages;
        if self.mode != Mode::Idle {
            let settled = if self.settled { "settled" } else { "unsettled" };
            let (size, rate, megabytes) = (
                self.size,
                self.messages_per_second,
                self.megabytes_per_second,
            );
            writeln!(
                f,
                "{size} B {settled}: {rate:.0} messages/s, {megabytes:.1} MB/s"
            )?;
            writeln!(
                f,
                "sent {sent}, received {received}, accepted {accepted}, lost {lost}, aborted {aborted}"
            )?;
        }
        if let Some(Percentiles {
            count,
            p50,
            p90,
            p99,
            max,
        }) = self.latency
        {
            writeln!(
                f,
                "round trip us: p50 {p50:.1}, p90 {p90:.1}, p99 {p99:.1}, max {max:.1} ({count})"
            )?;
        }
        if let Some(router) = self.router {
            write!(f, "router: {:.2} cores", router.cores)?;
            if let (Some(message), Some(gb)) = (router.cpu_us_per_message, router.cpu_s_per_gb) {
                write!(f, ", {message:.3} us/message, {gb:.2} s/GB")?;
            }
            let RouterUse {
                rss_before,
                rss_after,
                rss_per_connection,
                ..
            } = router;
            writeln!(
                f,
                ", RSS {rss_before} -> {rss_after} KiB, {rss_per_connection:.1} KiB/connection"
            )?;
        }
        let GeneratorUse { senders, receivers } = self.generator;
        write!(
            f,
            "generator: {senders:.2} cores sending, {receivers:.2} receiving, {:.1} s",
            self.seconds
        )
    }
}
