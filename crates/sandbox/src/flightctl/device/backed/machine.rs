//! The way into a machine.

use std::fmt;
use std::io;
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::time::timeout;

/// Longest that a command of the agent takes: as long as Flight Control's agent gives a
/// look at units, and more than a grace period of systemd's own making.
const DEADLINE: Duration = Duration::from_mins(2);

/// How a command gets into a machine: the words that go before it.
type Entrance = dyn Fn() -> Option<Vec<String>> + Send + Sync;

/// A machine with systemd and Podman that somebody else runs; clones are the same one.
#[derive(Clone)]
pub struct Machine(Arc<Entrance>);

impl fmt::Debug for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Machine")
    }
}

/// Why a machine did not do what it was told.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    /// Nobody can get in.
    #[error("the machine is off")]
    Off,
    /// No process, or no words with it.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It ran on behind its deadline.
    #[error("{0} took longer than {DEADLINE:?}")]
    Late(String),
    /// Its end and its last words.
    #[error("{0} ended with {1}: {2}")]
    Failed(String, String, String),
}

impl Machine {
    /// `entrance` gives the words before a command that run it in the machine as root,
    /// with the machine's own environment (`nsenter --target 42 … env -i …`); `None`
    /// while the machine is off or has begun its last steps. It is asked before every
    /// command and must not block.
    pub fn new(entrance: impl Fn() -> Option<Vec<String>> + Send + Sync + 'static) -> Self {
        Self(Arc::new(entrance))
    }

    /// Whether one can get in.
    pub(super) fn is_on(&self) -> bool {
        (self.0)().is_some()
    }

    /// A command in it, with no input. What was started here ends with its handle, not
    /// what the machine made of it.
    pub(super) fn command(&self, words: &[&str]) -> Result<Command, Trouble> {
        let before = (self.0)().ok_or(Trouble::Off)?;
        let mut all = before
            .iter()
            .map(String::as_str)
            .chain(words.iter().copied());
        let mut command = Command::new(all.next().ok_or(Trouble::Off)?);
        command
            .args(all)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        Ok(command)
    }

    /// Runs a command to its end, however it is.
    pub(super) async fn output(&self, words: &[&str], input: &[u8]) -> Result<Output, Trouble> {
        let mut child = self.command(words)?.stdin(Stdio::piped()).spawn()?;
        let stdin = child.stdin.take();
        let feed = async {
            if let Some(mut stdin) = stdin {
                // A command may end without reading; its status tells.
                let _ = stdin.write_all(input).await;
            }
        };
        let both = async { tokio::join!(child.wait_with_output(), feed).0 };
        let output = timeout(DEADLINE, both).await;
        Ok(output.map_err(|_| Trouble::Late(words.join(" ")))??)
    }

    /// The same, which has to succeed; what it printed.
    pub(super) async fn run(&self, words: &[&str]) -> Result<String, Trouble> {
        self.feed(words, &[]).await
    }

    /// The same with an input.
    pub(super) async fn feed(&self, words: &[&str], input: &[u8]) -> Result<String, Trouble> {
        let output = self.output(words, input).await?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(Trouble::Failed(
                words.join(" "),
                output.status.to_string(),
                said,
            ));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn here() -> Machine {
        Machine::new(|| Some(vec!["env".into(), "-i".into(), "IN=machine".into()]))
    }

    #[tokio::test]
    async fn a_command_has_its_input_and_what_the_machine_gives_it() {
        let said = here()
            .feed(&["/bin/sh", "-c", "cat; echo $IN"], b"in ")
            .await;
        assert_eq!(said.unwrap(), "in machine\n");
    }

    #[tokio::test]
    async fn a_failure_is_told_with_its_words_and_a_machine_that_is_off_is_said_so() {
        let why = here().run(&["/bin/sh", "-c", "echo no >&2; exit 3"]).await;
        let why = why.unwrap_err().to_string();
        assert!(why.ends_with("ended with exit status: 3: no"), "{why}");
        let off = Machine::new(|| None).run(&["true"]).await;
        assert!(matches!(off, Err(Trouble::Off)));
    }
}
