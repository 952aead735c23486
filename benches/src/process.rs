//! What a process and our own threads have used, from `/proc`.

use std::fs;
use std::time::Duration;

use crate::error::Error;

/// Use of a process at one moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Usage {
    /// User and system time of all its threads, in steps of 10 ms.
    pub(crate) cpu: Duration,
    /// Resident memory in KiB.
    pub(crate) rss: u64,
}

impl Usage {
    /// All of them together; nothing if there is none.
    pub(crate) fn of_all(pids: &[u32]) -> Result<Option<Self>, Error> {
        let each: Vec<Self> = pids
            .iter()
            .copied()
            .map(Self::of)
            .collect::<Result<_, _>>()?;
        Ok(each.into_iter().reduce(|a, b| Usage {
            cpu: a.cpu + b.cpu,
            rss: a.rss + b.rss,
        }))
    }

    pub(crate) fn of(pid: u32) -> Result<Self, Error> {
        let read = |file: &str| {
            let path = format!("/proc/{pid}/{file}");
            fs::read_to_string(&path).map_err(|error| Error::Usage(format!("{path}: {error}")))
        };
        let unreadable = || Error::Usage(format!("/proc/{pid} reads like no process"));
        Ok(Usage {
            cpu: cpu(&read("stat")?).ok_or_else(unreadable)?,
            rss: rss(&read("status")?).ok_or_else(unreadable)?,
        })
    }
}

/// utime and stime, the 14th and 15th field. The second, the name, may hold spaces.
fn cpu(stat: &str) -> Option<Duration> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut times = fields.split_ascii_whitespace().skip(11);
    let user: u64 = times.next()?.parse().ok()?;
    let system: u64 = times.next()?.parse().ok()?;
    Some(Duration::from_millis(
        (user + system) * MILLISECONDS_PER_TICK,
    ))
}

fn rss(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// CPU time of our own threads whose name begins with `prefix`.
pub(crate) fn thread_cpu(prefix: &str) -> Duration {
    let Ok(tasks) = fs::read_dir("/proc/self/task") else {
        return Duration::ZERO;
    };
    let nanoseconds = tasks.flatten().filter_map(|task| {
        let name = fs::read_to_string(task.path().join("comm")).ok()?;
        let times = fs::read_to_string(task.path().join("schedstat")).ok()?;
        let on_cpu: u64 = times.split_ascii_whitespace().next()?.parse().ok()?;
        name.starts_with(prefix).then_some(on_cpu)
    });
    Duration::from_nanos(nanoseconds.sum())
}

/// Linux counts process times for user space in hundredths of a second on every platform.
const MILLISECONDS_PER_TICK: u64 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_behind_any_name() {
        let stat = "12 (a b) c) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20";
        assert_eq!(cpu(stat), Some(Duration::from_secs(3)));
        assert_eq!(cpu("12 no name"), None);
    }

    #[test]
    fn resident_memory_is_in_kib() {
        assert_eq!(rss("VmSize:\t  9 kB\nVmRSS:\t  1234 kB\n"), Some(1234));
    }

    #[test]
    fn this_process_has_memory() {
        let own = std::process::id();
        let (once, twice) = (Usage::of_all(&[own]), Usage::of_all(&[own, own]));
        let (once, twice) = (once.unwrap().unwrap().rss, twice.unwrap().unwrap().rss);
        assert!(0 < once && once < twice, "{once} KiB, twice {twice} KiB");
        assert!(Usage::of_all(&[]).unwrap().is_none());
        assert!(matches!(Usage::of(u32::MAX), Err(Error::Usage(_))));
    }
}
