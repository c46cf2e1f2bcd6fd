//! Which of the newest changes a device refuses, where it does not say: found by
//! halves. Pure.
//!
//! A version that fails has changed something; half of what it changed is taken out.
//! What then fails is halved again; what then works is without blame, and of the half
//! that was taken out last half comes back. So each version halves what is left, and
//! nobody is blamed who has not failed alone.

use vk_provider::Uid;

/// A search under way, or none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Search {
    /// What was taken out, in the order it was.
    out: Vec<Vec<Uid>>,
    /// The culprit has been found since: of the others nothing is known.
    found: bool,
}

/// What a version that failed means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// It changed nothing of ours.
    Nobody,
    /// It changed this alone.
    Culprit(Uid),
    /// These are taken out for now.
    Out(Vec<Uid>),
}

impl Search {
    /// A version failed that changes these, oldest first.
    pub fn failed(&mut self, changed: &[Uid]) -> Step {
        match changed {
            [] => Step::Nobody,
            [culprit] => {
                self.found = true;
                Step::Culprit(culprit.clone())
            }
            _ => {
                let (_, newest) = changed.split_at(changed.len().div_ceil(2));
                self.out.push(newest.to_vec());
                self.found = false;
                Step::Out(newest.to_vec())
            }
        }
    }

    /// The device has applied a version: who comes back.
    pub fn applied(&mut self) -> Vec<Uid> {
        if self.found {
            return self.end();
        }
        let Some(mut group) = self.out.pop() else {
            return Vec::new();
        };
        // What stayed works: one of these does not.
        let rest = group.split_off(group.len().div_ceil(2));
        if !rest.is_empty() {
            self.out.push(rest);
        }
        group
    }

    /// It is over: all come back.
    pub fn end(&mut self) -> Vec<Uid> {
        std::mem::take(self).out.concat()
    }

    /// These alone are still there.
    pub fn keep(&mut self, there: impl Fn(&Uid) -> bool) {
        for group in &mut self.out {
            group.retain(&there);
        }
        self.out.retain(|group| !group.is_empty());
    }

    /// Whether anything is taken out.
    pub fn is_over(&self) -> bool {
        self.out.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// Versions that it takes a device that refuses `bad` to run all others of `n`,
    /// and who was blamed in the end.
    fn versions(n: usize, bad: &[usize]) -> (usize, Vec<usize>) {
        let name = |at: usize| Uid::new(format!("{at:03}").as_str());
        let bad: BTreeSet<Uid> = bad.iter().copied().map(name).collect();
        let mut search = Search::default();
        let (mut running, mut blamed) = (BTreeSet::new(), BTreeSet::new());
        let mut spec: BTreeSet<Uid> = (0..n).map(name).collect();
        for version in 1.. {
            let changed: Vec<Uid> = spec.difference(&running).cloned().collect();
            if changed.iter().any(|uid| bad.contains(uid)) {
                match search.failed(&changed) {
                    Step::Nobody => panic!("something was changed"),
                    Step::Culprit(uid) => {
                        spec.remove(&uid);
                        blamed.insert(uid);
                    }
                    Step::Out(out) => spec.retain(|uid| !out.contains(uid)),
                }
                continue;
            }
            running.clone_from(&spec);
            spec.extend(search.applied());
            if spec == running {
                let blamed = blamed.iter().map(|uid| uid.as_str().parse().unwrap());
                assert_eq!(running.len() + bad.len(), n);
                return (version, blamed.collect());
            }
        }
        unreachable!()
    }

    #[test]
    fn a_search_blames_the_culprit_alone_in_steps_that_halve() {
        for n in 1..=64_usize {
            let halves = n.next_power_of_two().trailing_zeros() as usize;
            for bad in 0..n {
                let (versions, blamed) = versions(n, &[bad]);
                assert_eq!(blamed, [bad], "of {n}");
                // A failure for each half, the culprit alone, and all others.
                assert!(versions <= 2 * halves + 3, "{versions} for {bad} of {n}");
            }
        }
        assert!(versions(20, &[0]).0 <= 8 && versions(20, &[19]).0 <= 8);
    }

    #[test]
    fn two_culprits_are_found_one_after_the_other() {
        for n in 2..=20 {
            for (one, two) in (0..n).flat_map(|one| (one + 1..n).map(move |two| (one, two))) {
                let (versions, blamed) = versions(n, &[one, two]);
                assert_eq!(blamed, [one, two], "of {n}");
                assert!(versions <= 20, "{versions} for {one} and {two} of {n}");
            }
        }
    }

    #[test]
    fn who_leaves_while_it_is_searched_for_is_not_waited_for() {
        let uids: Vec<Uid> = ["a", "b", "c", "d"].map(Uid::new).to_vec();
        let mut search = Search::default();
        assert_eq!(search.failed(&uids), Step::Out(uids[2..].to_vec()));
        search.keep(|uid| uid.as_str() != "c");
        assert_eq!(search.applied(), [Uid::new("d")]);
        assert!(search.is_over());
        assert_eq!(search.failed(&[]), Step::Nobody);
    }
}
