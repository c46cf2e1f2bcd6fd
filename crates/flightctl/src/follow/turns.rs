//! Whose turn it is, where only so many devices are asked for in one round:
//! nobody is starved, and one that fails is left alone for a while.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use tokio::time::Instant;

use crate::client::ClientError;

/// First wait after a device's request failed, doubled up to [`BACK_OFF_MAX`].
const BACK_OFF: Duration = Duration::from_secs(2);
/// Longest wait for one device.
const BACK_OFF_MAX: Duration = Duration::from_secs(120);

/// The order of devices over rounds.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// The last one that was asked.
    last: String,
    /// Those whose request failed: not before, and the wait that was.
    failing: HashMap<String, (Instant, Duration)>,
}

impl Turns {
    /// At most `count` of these, going on behind those of the last round.
    pub(super) fn take(&mut self, names: BTreeSet<String>, count: usize) -> Vec<String> {
        self.failing.retain(|name, _| names.contains(name));
        let now = Instant::now();
        let (before, behind): (Vec<String>, Vec<String>) = names
            .into_iter()
            .filter(|name| self.failing.get(name).is_none_or(|(at, _)| *at <= now))
            .partition(|name| *name <= self.last);
        let taken: Vec<String> = behind.into_iter().chain(before).take(count).collect();
        if let Some(last) = taken.last() {
            self.last.clone_from(last);
        }
        taken
    }

    /// How a device's request ended; the error if it is not the device's own
    /// and ends the round.
    pub(super) fn answered(
        &mut self,
        name: &str,
        error: Option<&ClientError>,
    ) -> Option<ClientError> {
        match error {
            None | Some(ClientError::NotFound { .. }) => {
                self.failing.remove(name);
                None
            }
            Some(error) if error.concerns_all() => Some(error.clone()),
            Some(_) => {
                let wait = self
                    .failing
                    .get(name)
                    .map_or(BACK_OFF, |(_, wait)| (*wait * 2).min(BACK_OFF_MAX));
                self.failing
                    .insert(name.to_owned(), (Instant::now() + wait, wait));
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &[&str]) -> BTreeSet<String> {
        list.iter().map(|n| (*n).to_owned()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn everybody_gets_a_turn() {
        let mut turns = Turns::default();
        let all = ["a", "b", "c", "d", "e"];
        assert_eq!(turns.take(names(&all), 2), ["a", "b"]);
        assert_eq!(turns.take(names(&all), 2), ["c", "d"]);
        assert_eq!(turns.take(names(&all), 2), ["e", "a"]);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_fails_waits_and_an_outage_ends_the_round() {
        let mut turns = Turns::default();
        let failed = ClientError::Server {
            object: "a".into(),
            status: 500,
            message: String::new(),
        };
        assert!(turns.answered("a", Some(&failed)).is_none());
        assert_eq!(turns.take(names(&["a", "b"]), 2), ["b"]);
        tokio::time::advance(BACK_OFF).await;
        assert_eq!(turns.take(names(&["a", "b"]), 2), ["a", "b"]);
        let outage = ClientError::Timeout { seconds: 15 };
        assert!(turns.answered("a", Some(&outage)).is_some());
    }
}
