//! Compares what was seen, and holds the differences to what is known of them.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::differences::DIFFERENCES;
use super::record::Seen;
use super::scene::Scene;

/// One scene as both have played it.
pub struct Played<'a> {
    /// What carried it.
    pub over: String,
    pub scene: &'a Scene,
    pub ours: Seen,
    pub theirs: Seen,
}

/// A line of the table: which difference, and which of its lines, the sometimes ones last.
type Known = (usize, usize);

impl Played<'_> {
    pub fn name(&self) -> String {
        format!("{}, {}", self.over, self.scene.name)
    }

    /// What differs: as known, or the line with ours and theirs.
    pub fn differences(&self) -> Vec<Result<Known, [&str; 3]>> {
        let lines: BTreeSet<_> = self.ours.keys().chain(self.theirs.keys()).collect();
        let differ = lines.into_iter().filter_map(|what| {
            let [ours, theirs] = [line(&self.ours, what), line(&self.theirs, what)];
            let differ = ours != theirs;
            differ.then(|| self.known([what, ours, theirs]).ok_or([what, ours, theirs]))
        });
        differ.collect()
    }

    fn known(&self, [what, ours, theirs]: [&str; 3]) -> Option<Known> {
        let name = self.name();
        let all = DIFFERENCES.iter().enumerate();
        let mut of_scene = all.filter(|(_, difference)| like(difference.scenes, &name));
        of_scene.find_map(|(place, difference)| {
            let mut lines = difference.lines.iter().chain(difference.sometimes);
            let line =
                lines.position(|(w, o, t)| like(w, what) && like(o, ours) && like(t, theirs));
            Some((place, line?))
        })
    }
}

/// Fails on what differs unknown, and on what is known to differ in this group (the
/// first word of `over`) and does not.
pub fn judge(group: &str, played: &[Played<'_>]) {
    let mut wrong = String::new();
    let mut used = BTreeSet::new();
    for scene in played {
        let name = scene.name();
        for (what, how) in scene.scene.sees {
            let seen = line(&scene.ours, what);
            if !like(how, seen) {
                writeln!(wrong, "{name}\n  {what}: {seen}\n  instead: {how}").unwrap();
            }
        }
        for difference in scene.differences() {
            match difference {
                Ok(known) => drop(used.insert(known)),
                Err([what, ours, theirs]) => {
                    writeln!(wrong, "{name}\n  {what}: {ours}\n  theirs: {theirs}").unwrap();
                }
            }
        }
    }
    for (place, difference) in DIFFERENCES.iter().enumerate() {
        if difference.scenes.split([' ', ',', '*']).next() != Some(group) {
            continue;
        }
        for (number, line) in difference.lines.iter().enumerate() {
            if !used.contains(&(place, number)) {
                let scenes = difference.scenes;
                writeln!(wrong, "{scenes}\n  no such difference any more: {line:?}").unwrap();
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

fn line<'a>(seen: &'a Seen, what: &str) -> &'a str {
    seen.get(what).map_or("nothing", String::as_str)
}

/// Whether a text is as a pattern, in which each `*` stands for anything.
fn like(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((begin, rest)) => text.strip_prefix(begin).is_some_and(|text| {
            (0..=text.len()).any(|cut| text.is_char_boundary(cut) && like(rest, &text[cut..]))
        }),
    }
}
