//! What a host keeps of what was written and run on it: as much as a journal that has
//! a size, the newest of it.

use std::collections::VecDeque;

use super::podman::Printed;

/// Lines of all containers together. A pod that is looked at by hand writes some
/// hundreds; a demo that stays open for days must not grow with what its pods say.
const LINES: usize = 10_000;
/// Commands of consoles. No test looks at more than a few.
const COMMANDS: usize = 1_000;

/// What containers wrote, by the names that podman knows them by.
#[derive(Debug, Default)]
pub(super) struct Written {
    lines: VecDeque<(String, Printed)>,
    /// How many there have ever been.
    number: u64,
}

impl Written {
    pub(super) fn push(&mut self, container: String, line: Printed) {
        self.number += 1;
        let line = Printed {
            number: self.number,
            ..line
        };
        newest(&mut self.lines, (container, line), LINES);
    }

    /// Of one container, in order.
    pub(super) fn of(&self, container: &str) -> Vec<Printed> {
        let lines = self.lines.iter().filter(|(of, _)| of == container);
        lines.map(|(_, line)| line.clone()).collect()
    }
}

/// What was run in consoles.
#[derive(Debug, Default)]
pub(super) struct Commands(VecDeque<String>);

impl Commands {
    pub(super) fn push(&mut self, command: String) {
        newest(&mut self.0, command, COMMANDS);
    }

    pub(super) fn all(&self) -> Vec<String> {
        self.0.iter().cloned().collect()
    }
}

fn newest<T>(kept: &mut VecDeque<T>, one: T, limit: usize) {
    if kept.len() == limit {
        kept.pop_front();
    }
    kept.push_back(one);
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;

    fn line(text: String) -> Printed {
        Printed {
            at: Timestamp::UNIX_EPOCH,
            number: 0,
            run: 0,
            stderr: false,
            text,
        }
    }

    #[test]
    fn what_is_kept_is_the_newest_and_its_numbers_go_on() {
        let mut written = Written::default();
        for n in 0..LINES + 5 {
            let of = if n % 2 == 0 { "even" } else { "odd" };
            written.push(of.into(), line(n.to_string()));
        }
        let (even, odd) = (written.of("even"), written.of("odd"));
        assert_eq!(even.len() + odd.len(), LINES);
        assert_eq!((odd[0].text.as_str(), odd[0].number), ("5", 6));
        let last = even.last().unwrap();
        assert_eq!(last.text, (LINES + 4).to_string());
        let mut commands = Commands::default();
        (0..=COMMANDS).for_each(|n| commands.push(n.to_string()));
        let all = commands.all();
        assert_eq!((all.len(), all[0].as_str()), (COMMANDS, "1"));
    }
}
