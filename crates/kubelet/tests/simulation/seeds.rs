//! Seeds, on all cores.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::broken::Guard;
use crate::random;

/// What CI runs, by `SEEDS` in `.ci/run`: about a minute in a debug build on two
/// cores. Every broken guard is caught within them.
pub const SEEDS: u64 = 200;
/// Without `SEEDS`: some seconds.
const FEW: u64 = 20;

/// Seeds of this run.
fn count() -> u64 {
    number("SEEDS").unwrap_or(FEW)
}

/// Every so many deaths of the process are tried in this run: all in CI. No
/// multiple of three, so that each of its moments comes.
pub fn stride() -> usize {
    if count() < SEEDS { 7 } else { 1 }
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name}={text} is not a number")),
    )
}

/// Runs one future on a runtime of its own, with paused time.
pub fn alone<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap()
        .block_on(future)
}

/// The first `most` seeds that find something wrong, with what they found: only
/// where it says this.
pub fn failing(seeds: &[u64], guard: Guard, most: usize, says: &str) -> Vec<(u64, String)> {
    let next = AtomicU64::new(0);
    let found = Mutex::new(Vec::new());
    let work = || {
        loop {
            let at = usize::try_from(next.fetch_add(1, Ordering::Relaxed)).unwrap();
            let enough = found.lock().unwrap().len() >= most;
            let Some(seed) = seeds.get(at).filter(|_| !enough) else {
                return;
            };
            if let Some(wrong) = alone(random::run(*seed, guard))
                && verdict(&wrong).any(|line| line.contains(says))
            {
                found.lock().unwrap().push((*seed, wrong));
            }
        }
    };
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(work);
        }
    });
    let mut found = found.into_inner().unwrap();
    found.sort();
    found
}

/// The broken rules, without what led to them.
pub fn verdict(wrong: &str) -> impl Iterator<Item = &str> {
    wrong.lines().take_while(|line| !line.starts_with("  "))
}

pub fn first(count: u64) -> Vec<u64> {
    (1..=count).collect()
}

#[test]
fn every_promise_holds_at_each_step_and_in_the_end() {
    let seeds = match number("SEED") {
        Some(seed) => vec![seed; usize::try_from(number("TIMES").unwrap_or(1)).unwrap()],
        None => first(count()),
    };
    let failing = failing(
        &seeds,
        Guard::Sound,
        usize::try_from(number("FAILURES").unwrap_or(3)).unwrap(),
        "",
    );
    for (seed, wrong) in &failing {
        println!(
            "seed {seed}, to run it alone: SEED={seed} cargo test -p virtual-kubelet --test simulation every_promise\n{wrong}\n"
        );
    }
    let which: Vec<u64> = failing.iter().map(|(seed, _)| *seed).collect();
    assert!(which.is_empty(), "broken promises with seeds {which:?}");
}
