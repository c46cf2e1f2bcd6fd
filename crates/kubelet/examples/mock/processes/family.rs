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

    /// Kills the processes with this mark, or one below it, and waits until none is
    /// alive, at most a second; blocks.
    pub(super) fn kill(&self) {
        for _ in 0..ROUNDS {
            let mut left = false;
            for (pid, known) in processes() {
                match known {
                    Known::Marked(mark) if self.holds(&mark) => {
                        left = true;
                        // It may have died since.
                        let _ = kill_process(pid, Signal::KILL);
                    }
                    Known::Changing => left = true,
                    Known::Marked(_) | Known::Unmarked => {}
                }
            }
            if !left {
                return;
            }
            std::thread::sleep(PAUSE);
        }
    }
}

/// Every living process with a mark.
pub(super) fn marked() -> impl Iterator<Item = (Pid, String)> {
    processes().filter_map(|(pid, known)| match known {
        Known::Marked(mark) => Some((pid, mark)),
        Known::Unmarked | Known::Changing => None,
    })
}

/// What is known of whose a process is.
#[derive(Debug, PartialEq, Eq)]
enum Known {
    Marked(String),
    /// Also: dead, or somebody else's.
    Unmarked,
    /// Becoming another program: its mark will show in a moment.
    Changing,
}

fn processes() -> impl Iterator<Item = (Pid, Known)> {
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    all.filter_map(|entry| {
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        // Of somebody else's process it cannot be read.
        let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
        let stat = || fs::read_to_string(format!("/proc/{pid}/stat")).ok();
        let known = match mark_in(&environment) {
            Some(mark) => Known::Marked(mark),
            None if environment.is_empty() && stat().is_some_and(|stat| changes(&stat)) => {
                Known::Changing
            }
            None => Known::Unmarked,
        };
        Some((Pid::from_raw(pid)?, known))
    })
}

/// Whether a process without an environment is between two programs: it has memory,
/// as no dead one and no thread of the kernel has, and its environment has no place
/// there yet (`vsize` and `env_end`, fields 23 and 51 of proc_pid_stat(5)).
fn changes(stat: &str) -> bool {
    let field = |number: usize| {
        let (_, from_third) = stat.rsplit_once(')')?;
        from_third.split_whitespace().nth(number - 3)
    };
    field(23).is_some_and(|size| size != "0") && field(51) == Some("0")
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

    #[test]
    fn who_becomes_another_program_is_neither_dead_nor_without_an_environment() {
        let stat = |size, end| {
            let before = "7 (a) b) S 1 7 7 0 -1 4194560 88 9 0 0 3 4 5 6 20 0 1 0 100";
            format!("{before} {size} 9{} 5 {end} 0\n", " 0".repeat(25))
        };
        assert!(changes(&stat(4096, 0)));
        assert!(!changes(&stat(0, 0)), "dead, or the kernel's");
        assert!(!changes(&stat(4096, 9000)), "it was started with none");
        let own = fs::read_to_string("/proc/self/stat").unwrap();
        assert!(!changes(&own));
    }
}
