//! What was, told from what is: an agent that restarts lists no application
//! first, and reads Podman's events since the device's start once more then, from
//! the first one on. What it shows of a pod meanwhile are states that were, and
//! none of them may become a restart or an end. Synchronous and without I/O.

use std::time::Duration;

use tokio::time::Instant;

use crate::device::AppStatus;
use crate::facts::counts;

/// A replay is over by then: up to 15 s were seen.
const REPLAY: Duration = Duration::from_secs(30);

/// What a device has shown of a pod's application since it was written.
#[derive(Clone, Debug, Default)]
pub(crate) struct Heard {
    /// Of this start of the machine; events of others are not replayed.
    boot: Option<String>,
    /// A container of it has run, or may have.
    ran: bool,
    /// The status shown last.
    last: Option<AppStatus>,
    /// The last sign of a replay: whatever is shown from then on is no news.
    replay: Option<Instant>,
    /// The present status may be an echo, and nothing else says so: it is news
    /// if it stands.
    doubt: Option<Instant>,
    /// It had ended before.
    pub(crate) ended: bool,
}

impl Heard {
    /// Of an application that was written before this process began.
    pub(crate) fn of_another_process() -> Self {
        Self {
            ran: true,
            ..Self::default()
        }
    }

    /// The device, in this start of it, shows this; nothing if it does not list the
    /// application.
    pub(crate) fn hear(&mut self, boot: Option<&str>, shown: Option<&AppStatus>) {
        if self.boot.as_deref() != boot {
            if self.boot.is_some() {
                *self = Self::default();
            }
            self.boot = boot.map(str::to_owned);
        }
        let now = Instant::now();
        let Some(shown) = shown else {
            // Agents list what they run from the moment they have started it.
            self.replay = self.ran.then_some(now);
            return;
        };
        if self.last.as_ref() == Some(shown) {
            return;
        }
        let created = |status: &AppStatus| counts(&status.ready).unwrap_or_default().1;
        let last = self.last.replace(shown.clone());
        // Neither count of one agent ever falls.
        let fell = last
            .as_ref()
            .is_some_and(|last| created(shown) < created(last) || shown.restarts < last.restarts);
        if self.ran && (fell || created(shown) == 0) {
            self.replay = Some(now);
        }
        let starts = matches!(shown.status.as_str(), "Preparing" | "Starting");
        let again = last
            .as_ref()
            .is_none_or(|last| created(shown) <= created(last) && shown.restarts <= last.restarts);
        self.doubt = (self.ran && starts && again).then_some(now);
        self.ran |= matches!(shown.status.as_str(), "Running" | "Completed" | "Error");
    }

    /// Whether what is shown now may be what was.
    pub(crate) fn may_be_echo(&self) -> bool {
        let fresh = |since: Instant| since.elapsed() < REPLAY;
        self.replay.is_some_and(fresh) || self.doubt.is_some_and(fresh)
    }

    /// Whether what is shown has become news by standing since it was last asked.
    pub(crate) fn has_become_news(&mut self) -> bool {
        let over = (self.replay.is_some() || self.doubt.is_some()) && !self.may_be_echo();
        if over {
            self.replay = None;
            self.doubt = None;
        }
        over
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::advance;

    fn status(text: &str) -> AppStatus {
        let mut words = text.split(' ');
        let mut next = || words.next().unwrap().to_owned();
        AppStatus {
            status: next(),
            ready: next(),
            restarts: next().parse().unwrap(),
        }
    }

    /// What of these, 1 s apart, may be an echo: `!` for each, `.` for news; `-` is
    /// an application that is not listed.
    async fn echoes(mut heard: Heard, shown: &[&str]) -> String {
        let mut told = String::new();
        for shown in shown {
            let listed = (*shown != "-").then(|| status(shown));
            heard.hear(Some("boot"), listed.as_ref());
            told.push(if heard.may_be_echo() { '!' } else { '.' });
            advance(Duration::from_secs(1)).await;
        }
        told
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_restarted_agent_shows_is_an_echo_and_what_happens_is_none() {
        for (what, shown, expected) in [
            (
                "a first start",
                &[
                    "Unknown 0/0 0",
                    "Preparing 0/1 0",
                    "Starting 1/2 0",
                    "Starting 2/3 0",
                    "Running 3/3 0",
                ][..],
                ".....",
            ),
            (
                "a crash loop",
                &[
                    "Running 1/1 0",
                    "Error 0/1 0",
                    "Preparing 0/1 1",
                    "Running 1/1 1",
                    "Completed 0/1 1",
                    "Preparing 0/1 2",
                ],
                "......",
            ),
            (
                "not listed",
                &["Running 3/3 0", "-", "Running 3/3 0", "Running 2/3 0"],
                ".!!!",
            ),
            (
                "never ran",
                &["Preparing 0/1 0", "-", "Preparing 0/1 0"],
                "...",
            ),
            (
                "fewer containers",
                &[
                    "Running 3/3 0",
                    "Running 1/1 0",
                    "Starting 1/2 0",
                    "Running 2/3 0",
                ],
                ".!!!",
            ),
            ("fewer restarts", &["Running 1/1 9", "Error 0/1 2"], ".!"),
            ("nothing created", &["Running 1/1 0", "Unknown 0/0 0"], ".!"),
            (
                "a start without a restart",
                &[
                    "Running 1/1 0",
                    "Preparing 0/1 0",
                    "Running 1/1 0",
                    "Error 0/1 0",
                ],
                ".!..",
            ),
        ] {
            assert_eq!(echoes(Heard::default(), shown).await, expected, "{what}");
        }
        let found = ["Preparing 0/2 0", "Running 1/2 0"];
        let told = echoes(Heard::of_another_process(), &found).await;
        assert_eq!(told, "!.", "it may have run before this process");
    }

    #[tokio::test(start_paused = true)]
    async fn what_stands_longer_than_a_replay_is_news() {
        let mut heard = Heard::default();
        heard.hear(Some("boot"), Some(&status("Running 1/1 0")));
        heard.hear(Some("boot"), Some(&status("Preparing 0/1 0")));
        assert!(!heard.has_become_news());
        advance(REPLAY).await;
        assert!(!heard.may_be_echo());
        assert!(heard.has_become_news());
        assert!(!heard.has_become_news(), "said once");
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_boot_nothing_is_an_echo() {
        let mut heard = Heard::default();
        heard.hear(Some("boot"), Some(&status("Running 1/1 3")));
        heard.hear(Some("another"), None);
        heard.hear(Some("another"), Some(&status("Preparing 0/1 0")));
        assert!(!heard.may_be_echo());
    }
}
