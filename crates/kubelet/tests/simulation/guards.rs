//! The simulation sees: every broken guard is caught within the seeds of CI, and
//! for what it breaks. Which breaks which rule of the design, and what gives it
//! away, is a table of `docs/faults.md`; this test reads it.
//!
//! [`crate::broken`] breaks guards from outside. Guards inside the framework
//! were broken by hand, one at a time, in the sources; this is what caught them
//! (seeds of `every_promise…` as they were drawn before clock jumps and the
//! watch faults came in):
//!
//! | file | guard | mutation | caught by |
//! |---|---|---|---|
//! | `publish.rs` | only the UID's conflict means *gone* | every 409 does | seed 2: stopped, and Kubernetes wants it |
//! | `plan.rs` | nothing starts before the remote was listed | `listed` is not asked | seed 9: Failed while it runs |
//! | `act.rs` | a panic gives the pod back to the queue | it does not | seed 41: still being deleted |
//! | `plan.rs` | what may run once and was lost is Failed | it is ensured | seed 42: started again |
//! | `table.rs` | a listing older than what was heard denies nothing | it does | seed 66: Failed while it runs |
//! | `plan.rs` | no image starts an ended pod again | it does | seed 97: started again |
//! | `observe.rs` | a listing older than the process is not complete | it is | seed 130: Failed while it runs |
//! | `plan.rs` and `act.rs` | an ended orphan is released only when confirmed and asked for | it is released at once | seed 1: released, and Kubernetes has it |
//!
//! Not caught here, because something else holds or heals at once: an answer
//! that comes after the delete (`table.rs`, `gone`: the next status write heals
//! it); either half of the last row alone, and an orphan that one listing
//! confirms (Kubernetes is asked before anything of an orphan goes); a delete
//! before the stop (`plan.rs`: the status is not terminal before it); older
//! facts (`table.rs`, `seq`: the next listing heals them). Unit tests cover the
//! first three and the last.

use std::collections::BTreeSet;

use crate::broken::{ALL, Guard};
use crate::seeds::{SEEDS, failing, first, verdict};

/// The heading above the table.
const HEADING: &str = "## The rules, each broken";
/// Rules of the design that are about behaviour. The tenth names the file of
/// facts, and the rows about faults are its tests.
const RULES: std::ops::RangeInclusive<u8> = 1..=9;

/// Of a verdict: some name all that the process knows.
const SHOWN: usize = 120;

/// One row: a rule, what breaks it, and words that the court then says.
struct Row {
    rule: u8,
    guard: String,
    says: String,
}

fn table() -> Vec<Row> {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/faults.md");
    let page = std::fs::read_to_string(page).unwrap();
    let (_, after) = page.split_once(HEADING).expect("the table has its heading");
    let lines = after.lines().skip(1).take_while(|l| !l.starts_with('#'));
    let rows = lines.filter_map(|line| {
        let cells: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
        let (rule, _) = cells.first()?.split_once('.')?;
        let quoted = |cell: &str| Some(cell.split('`').nth(1)?.to_owned());
        Some(Row {
            rule: rule.parse().ok()?,
            guard: quoted(cells.get(1)?)?,
            says: quoted(cells.last()?)?,
        })
    });
    rows.collect()
}

#[test]
fn the_page_names_a_broken_guard_for_every_rule_and_every_guard_once() {
    let rows = table();
    let rules: BTreeSet<u8> = rows.iter().map(|row| row.rule).collect();
    assert!(RULES.eq(rules.iter().copied()), "{rules:?}");
    let mut named: Vec<_> = rows.into_iter().map(|row| row.guard).collect();
    let mut there: Vec<_> = ALL.iter().map(|guard| format!("{guard:?}")).collect();
    named.sort();
    there.sort();
    assert_eq!(named, there);
}

/// `GUARD=name` breaks that one alone.
#[test]
fn every_broken_guard_is_caught_within_the_seeds_of_ci() {
    let seeds = first(SEEDS);
    let mut blind = Vec::new();
    let only = std::env::var("GUARD").ok();
    for row in table() {
        let Row { guard, says, .. } = row;
        if only.as_ref().is_some_and(|name| *name != guard) {
            continue;
        }
        let broken = ALL.into_iter().find(|one| format!("{one:?}") == guard);
        let broken = broken.unwrap_or(Guard::Sound);
        assert_ne!(broken, Guard::Sound, "{guard}");
        match failing(&seeds, broken, 1, &says).first() {
            None => blind.push((guard, says)),
            Some((seed, wrong)) => {
                let said = verdict(wrong).find(|line| line.contains(&says));
                let said: String = said.unwrap_or_default().chars().take(SHOWN).collect();
                println!("{guard}: seed {seed}: {said}");
            }
        }
    }
    assert!(blind.is_empty(), "not caught: {blind:?}");
}
