//! The simulation sees: every broken guard is caught within the seeds of CI.
//!
//! [`crate::broken`] breaks guards from outside. Guards inside the framework
//! were broken by hand, one at a time, in the sources; this is what caught them
//! (seeds of `every_promise…`, or the crash points):
//!
//! TABLE

use crate::broken::{ALL, Guard};
use crate::seeds::{SEEDS, failing, first};

/// `GUARD=name` breaks that one alone.
#[test]
fn every_broken_guard_is_caught_within_the_seeds_of_ci() {
    let seeds = first(SEEDS);
    let mut blind = Vec::new();
    let only = std::env::var("GUARD").ok();
    for guard in ALL {
        if only
            .as_ref()
            .is_some_and(|name| *name != format!("{guard:?}"))
        {
            continue;
        }
        assert_ne!(guard, Guard::Sound);
        match failing(&seeds, guard, 1).first() {
            None => blind.push(guard),
            Some((seed, wrong)) => {
                let rule = wrong.lines().next().unwrap_or_default();
                println!("{guard:?}: seed {seed}: {rule}");
            }
        }
    }
    assert!(blind.is_empty(), "not caught: {blind:?}");
}
