//! PROFILE: how busy the router's threads have been between its start and its stop.

use std::fmt::Write;
use std::time::{Duration, Instant};

use crate::runtime::service::Service;

/// What the threads had worked when somebody started to look.
#[derive(Debug)]
pub(crate) struct Profile {
    started: Instant,
    threads: Vec<(String, Duration)>,
}

impl Profile {
    pub(super) fn start(service: &Service) -> Self {
        Self {
            started: Instant::now(),
            threads: worked(service),
        }
    }

    /// A line for each thread: how long it has worked since the start, and in which share of the
    /// time.
    pub(super) fn report(&self, service: &Service) -> String {
        table(self.started.elapsed(), &self.threads, &worked(service))
    }
}

fn table(period: Duration, before: &[(String, Duration)], now: &[(String, Duration)]) -> String {
    let seconds = period.as_secs_f64();
    let mut text = format!("{:<12} {:>12} {:>7}\n", "thread", "busy s", "busy %");
    for ((name, now), (_, before)) in now.iter().zip(before) {
        let busy = now.saturating_sub(*before).as_secs_f64();
        let share = (100.0 * busy / seconds.max(f64::MIN_POSITIVE)).min(100.0);
        let _ = writeln!(text, "{name:<12} {busy:>12.6} {share:>7.2}");
    }
    let _ = writeln!(text, "{:<12} {seconds:>12.6}", "in all");
    text
}

/// What the threads have worked so far; workers say so once a second.
fn worked(service: &Service) -> Vec<(String, Duration)> {
    let workers = service.workers.iter().enumerate();
    let workers =
        workers.map(|(number, worker)| (format!("worker {number}"), worker.load.worked()));
    let control = own_time().map(|time| ("control".to_owned(), time));
    workers.chain(control).collect()
}

/// What the calling thread has had of a processor, where the system tells.
fn own_time() -> Option<Duration> {
    let figures = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    let nanoseconds = figures.split_whitespace().next()?.parse().ok()?;
    Some(Duration::from_nanos(nanoseconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_thread_has_its_share() {
        let at = |worker: u64, control: u64| {
            [("worker 0", worker), ("control", control)]
                .map(|(name, milliseconds)| (name.to_owned(), Duration::from_millis(milliseconds)))
        };
        let text = table(Duration::from_secs(2), &at(500, 7), &at(1000, 7));
        let lines = text
            .lines()
            .map(|line| line.split("  ").filter(|word| !word.is_empty()));
        let lines: Vec<Vec<&str>> = lines.map(|words| words.map(str::trim).collect()).collect();
        assert_eq!(lines[1], ["worker 0", "0.500000", "25.00"], "{text}");
        assert_eq!(lines[2], ["control", "0.000000", "0.00"], "{text}");
        assert_eq!(lines[3], ["in all", "2.000000"], "{text}");
    }
}
