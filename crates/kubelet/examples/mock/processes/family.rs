//! Who belongs to whom: every process that is started carries a mark in its
//! environment, and so do all that it starts. Groups and sessions are left at
//! will; the mark stays, unless a program wipes its environment.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

/// The variable that holds the mark.
pub(super) const VARIABLE: &str = "VK_MOCK_PROCESS";

/// How often processes that were killed are looked for again: what forks while it
/// is looked for is found the next time, and dying takes moments.
const ROUNDS: u32 = 200;
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(5);

/// A mark; those below it belong to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mark(Arc<str>);

impl Mark {
    /// Of everything that one program starts.
    pub(super) fn new(name: &str) -> Self {
        Self(name.into())
    }

    /// Of something that belongs to this.
    pub(super) fn below(&self, part: impl std::fmt::Display) -> Self {
        Self(format!("{}/{part}", self.0).into())
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    pub(super) fn holds(&self, other: &str) -> bool {
        let rest = other.strip_prefix(&*self.0);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// The processes with this mark, or one below it, that are alive.
    pub(super) fn members(&self) -> Vec<Pid> {
        let marked = marked().into_iter();
        marked
            .filter_map(|(pid, mark)| self.holds(&mark).then_some(pid))
            .collect()
    }

    /// Kills them all and waits until they are dead, at most a second; blocks.
    pub(super) fn kill(&self) {
        for _ in 0..ROUNDS {
            let members = self.members();
            if members.is_empty() {
                return;
            }
            for pid in members {
                // It may have died since.
                let _ = kill_process(pid, Signal::KILL);
            }
            std::thread::sleep(PAUSE);
        }
    }
}

/// Every living process with a mark.
pub(super) fn marked() -> Vec<(Pid, String)> {
    let Ok(all) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    all.flatten()
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            Some((Pid::from_raw(pid)?, mark_in(&environment(pid)?)?))
        })
        .collect()
}

/// Of somebody else's process it cannot be read; of a dead one it is empty.
fn environment(pid: i32) -> Option<Vec<u8>> {
    fs::read(format!("/proc/{pid}/environ")).ok()
}

fn mark_in(environment: &[u8]) -> Option<String> {
    environment.split(|byte| *byte == 0).find_map(|entry| {
        let value = entry
            .strip_prefix(VARIABLE.as_bytes())?
            .strip_prefix(b"=")?;
        String::from_utf8(value.to_vec()).ok()
    })
}

/// Kills a family when it is dropped.
pub(super) struct Guard(Option<Mark>);

impl Guard {
    pub(super) fn of(mark: Mark) -> Self {
        Self(Some(mark))
    }

    /// It may live on.
    pub(super) fn release(mut self) {
        self.0 = None;
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(mark) = self.0.take() {
            // Whoever drops futures cannot wait. Without a thread they live as long
            // as their container.
            let _ = std::thread::Builder::new().spawn(move || mark.kill());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_holds_itself_and_what_is_below_it() {
        let mark = Mark::new("a").below("b");
        assert!(mark.holds("a/b") && mark.holds("a/b/c"));
        assert!(!mark.holds("a/bc") && !mark.holds("a"));
        let found = mark_in(b"HOME=/\0VK_MOCK_PROCESS=a/b/1\0X=");
        assert_eq!(found.as_deref(), Some("a/b/1"));
        assert_eq!(mark_in(b"XVK_MOCK_PROCESS=a"), None);
    }
}
