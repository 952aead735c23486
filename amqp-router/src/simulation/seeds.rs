//! Which seeds are played, and what is said when one of them breaks a law.

use std::any::Any;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use super::actions::play;
use super::ledger::Tally;

#[test]
fn a_thousand_seeds_break_no_law() {
    let tally = play_seeds("a_thousand_seeds", 1000, play);
    if let Some(tally) = tally {
        check_tally(&tally);
    }
}

/// Has a test play the seed that `SIM_SEED` names, the range that `SIM_SEEDS` does, or the first
/// so many; tells what has happened in as many or more.
pub(super) fn play_seeds(test: &str, count: u64, play: fn(u64, bool) -> Tally) -> Option<Tally> {
    if let Ok(seed) = std::env::var("SIM_SEED") {
        play(seed.parse().expect("SIM_SEED is a number"), true);
        return None;
    }
    let seeds = seeds(count);
    let tally = play_all(test, seeds.clone(), play);
    println!("{tally:?}");
    (seeds.end - seeds.start >= count).then_some(tally)
}

fn seeds(count: u64) -> Range<u64> {
    let Ok(range) = std::env::var("SIM_SEEDS") else {
        return 0..count;
    };
    let parse = |text: &str| text.parse().expect("SIM_SEEDS is like 0..1000");
    let (start, end) = range.split_once("..").expect("SIM_SEEDS is like 0..1000");
    parse(start)..parse(end)
}

fn play_all(test: &str, seeds: Range<u64>, play: fn(u64, bool) -> Tally) -> Tally {
    let next = AtomicU64::new(seeds.start);
    let total = Mutex::new(Tally::default());
    let failed: Mutex<Vec<(u64, String)>> = Mutex::default();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    let failures = failed.lock().map_or(0, |failed| failed.len());
                    if seed >= seeds.end || failures >= FAILURES {
                        return;
                    }
                    match catch_unwind(AssertUnwindSafe(|| play(seed, false))) {
                        Ok(tally) => total.lock().expect("nobody panics with it").add(&tally),
                        Err(panic) => {
                            let mut failed = failed.lock().expect("nobody panics with it");
                            failed.push((seed, text_of(panic.as_ref())));
                        }
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().expect("nobody panics with it");
    for (seed, text) in &failed {
        eprintln!("seed {seed} breaks a law: {text}");
    }
    if let Some((seed, text)) = failed.first() {
        panic!(
            "seed {seed} breaks a law: {text}\nreplay it with \
             SIM_SEED={seed} cargo test -p amqp-router {test} -- --nocapture"
        );
    }
    total.into_inner().expect("nobody panics with it")
}

fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
    text.unwrap_or_default()
}

/// Everything has happened often enough to have been tried.
fn check_tally(tally: &Tally) {
    let enough = [
        tally.streamed,
        tally.aborted,
        tally.multicast_copies,
        tally.presettled_copies,
        tally.resent,
        tally.cut_short,
        tally.accepted,
        tally.rejected,
        tally.released,
        tally.modified,
        tally.lost,
        tally.crossed,
        tally.drained,
        tally.refused,
        tally.disconnects,
    ];
    assert!(
        enough.iter().all(|&count| count >= 100),
        "too little happens: {tally:?}"
    );
    assert!(
        tally.messages >= 10_000 && tally.copies >= 5_000,
        "too little happens: {tally:?}"
    );
}

/// Broken laws after which no more are looked for.
const FAILURES: usize = 20;
