//! What runs on a device in a session of its console: `sudo`, a shell of a few
//! statements, and a podman over the simulated containers.
//!
//! The shell knows `printf`, `exec`, `exit`, `if … fi` around two questions about
//! containers, and one that reads a script from its input, in lines of base64 that
//! end with a dot. Whatever else it is told ends it with 127.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use jiff::Timestamp;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};

use super::console::{self, command};
use super::process::Process;
use super::simulated::Simulated;
use super::terminal::Terminal;
use crate::flightctl::console::ConsoleStreams;

/// Podman's own code: there is no such container.
const NO_CONTAINER: i32 = 125;
/// The container exists and does not run.
const NOT_RUNNING: i32 = 255;
/// Not found.
pub(super) const NO_COMMAND: i32 = 127;

/// One thing that a container wrote.
#[derive(Clone, Debug)]
pub(crate) struct Printed {
    pub(crate) at: Timestamp,
    /// Counts the lines of the host.
    pub(crate) number: u64,
    /// The run of the container, counted from 0.
    pub(crate) run: usize,
    pub(crate) stderr: bool,
    /// Without its line end.
    pub(crate) text: String,
}

/// A session's command, as root, with its ends.
struct Session<'a, R, W> {
    host: &'a Simulated,
    stdin: BufReader<R>,
    sizes: R,
    stdout: &'a mut W,
    stderr: &'a mut W,
    /// The container that the script asked about last.
    asked: String,
}

/// Runs a session to its end.
pub(crate) async fn attend(host: &Simulated, metadata: &Value, streams: ConsoleStreams) {
    let ConsoleStreams {
        stdin,
        mut stdout,
        mut stderr,
        mut status,
        sizes,
        gone,
        end,
    } = streams;
    let session = run(host, metadata, stdin, sizes, &mut stdout, &mut stderr);
    let code = tokio::select! {
        biased;
        () = gone.cancelled() => return,
        code = session => code,
    };
    // Without sudo the agent starts nothing, and says nothing.
    let Some(code) = code else { return };
    let said = console::status(code).to_string();
    let _ = status.write_all(said.as_bytes()).await;
    drop(end);
}

/// Runs a session's command; its code, or `None` where there is no sudo.
async fn run<R, W>(
    host: &Simulated,
    metadata: &Value,
    stdin: R,
    sizes: R,
    stdout: &mut W,
    stderr: &mut W,
) -> Option<i32>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    if !host.has_sudo() {
        return None;
    }
    let mut session = Session {
        host,
        stdin: BufReader::new(stdin),
        sizes,
        stdout,
        stderr,
        asked: String::new(),
    };
    // A write that fails is the client's going, which ends the session anyway.
    Some(session.sudo(&command(metadata)).await.unwrap_or(1))
}

/// The same with an input that is at its end, and nobody who reads.
pub(crate) fn unattended(host: &Simulated, metadata: &Value) {
    let words = command(metadata);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    if boot(without_sudo(&words)).is_none() && host.has_sudo() {
        host.note_command(&words.join(" "));
    }
}

fn without_sudo<'a>(words: &'a [&'a str]) -> &'a [&'a str] {
    match words {
        [sudo, "-n", rest @ ..] | [sudo, rest @ ..] if sudo.ends_with("sudo") => rest,
        words => words,
    }
}

/// The script that a shell is started with, where it is one that reads another.
fn boot(words: &[&str]) -> Option<String> {
    let ["/bin/sh", "-c", script] = words else {
        return None;
    };
    let encoded = script
        .strip_prefix("eval \"`echo ")?
        .strip_suffix(" | base64 -d`\"")?;
    String::from_utf8(BASE64.decode(encoded).ok()?).ok()
}

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin> Session<'_, R, W> {
    async fn sudo(&mut self, words: &[String]) -> std::io::Result<i32> {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let words = without_sudo(&words);
        let Some(boot) = boot(words) else {
            return self.command(words).await;
        };
        for line in boot.lines() {
            if let Some(text) = line.strip_prefix("printf ") {
                self.print(text).await?;
            }
        }
        let mut encoded = String::new();
        loop {
            let mut line = String::new();
            self.stdin.read_line(&mut line).await?;
            match line.strip_suffix('\n') {
                None => return Ok(0),
                Some(".") => break,
                Some(part) => encoded.push_str(part),
            }
        }
        let script = BASE64.decode(encoded).ok();
        match script.and_then(|script| String::from_utf8(script).ok()) {
            Some(script) => self.script(&script).await,
            None => Ok(NO_COMMAND),
        }
    }

    async fn script(&mut self, script: &str) -> std::io::Result<i32> {
        // What it does in the background ends with the session here.
        let script = match (script.find("(trap '' HUP\n"), script.find("&\n")) {
            (Some(from), Some(to)) if from < to => [&script[..from], &script[to + 2..]].concat(),
            _ => script.to_owned(),
        };
        let mut skipping = false;
        for line in script.lines().map(str::trim) {
            if line == "fi" {
                skipping = false;
            } else if skipping || line.is_empty() {
            } else if let Some(question) = line.strip_prefix("if ") {
                match self.holds(question.trim_end_matches("; then")) {
                    Some(holds) => skipping = !holds,
                    None => return Ok(NO_COMMAND),
                }
            } else if let Some(text) = line.strip_prefix("printf ") {
                self.print(text).await?;
            } else if let Some(code) = line.strip_prefix("exit ") {
                return Ok(code.parse().unwrap_or(NO_COMMAND));
            } else if let Some(command) = line.strip_prefix("exec ") {
                let words = words(command);
                let words: Vec<&str> = words.iter().map(String::as_str).collect();
                return self.command(&words).await;
            } else if !["u=", "i=", "export ", "stty "]
                .iter()
                .any(|known| line.starts_with(known))
            {
                return Ok(NO_COMMAND);
            }
        }
        Ok(0)
    }

    /// `None` for a question that is not known.
    fn holds(&mut self, question: &str) -> Option<bool> {
        if let Some(name) = question.strip_prefix("podman container exists ") {
            self.asked = words(name).into_iter().next()?;
            return Some(self.host.is_running(&self.asked));
        }
        // What a container that is not there any more has left in the journal.
        if question == r#"[ -n "$i" ]"# {
            return Some(!self.host.printed(&self.asked).is_empty());
        }
        let name =
            question.strip_prefix(r#"[ "$(podman container inspect -f '{{.State.Running}}' "#)?;
        let name = name.strip_suffix(r#" 2>/dev/null)" != true ]"#)?;
        Some(!self.host.is_running(words(name).first()?))
    }

    async fn print(&mut self, quoted: &str) -> std::io::Result<()> {
        let (quoted, stderr) = match quoted.strip_suffix(" >&2") {
            Some(quoted) => (quoted, true),
            None => (quoted, false),
        };
        let text = words(quoted)
            .concat()
            .replace("\\006", "\x06")
            .replace("\\n", "\n");
        if stderr {
            self.stderr.write_all(text.as_bytes()).await
        } else {
            self.stdout.write_all(text.as_bytes()).await
        }
    }

    async fn command(&mut self, words: &[&str]) -> std::io::Result<i32> {
        self.host.note_command(&words.join(" "));
        match words {
            ["echo", rest @ ..] => {
                let line = format!("{}\n", rest.join(" "));
                self.stdout.write_all(line.as_bytes()).await?;
                Ok(0)
            }
            ["podman", "logs", rest @ ..] => self.logs(rest).await,
            ["journalctl", rest @ ..] => self.journal(rest).await,
            ["podman", "exec", rest @ ..] => self.exec(rest).await,
            [other, ..] => {
                let text = format!("sudo: {other}: command not found\n");
                self.stderr.write_all(text.as_bytes()).await?;
                Ok(1)
            }
            [] => Ok(0),
        }
    }

    async fn logs(&mut self, words: &[&str]) -> std::io::Result<i32> {
        let Some((name, options)) = words.split_last() else {
            return Ok(NO_CONTAINER);
        };
        let Some(run) = self.host.run_of(name) else {
            return self.no_container(name).await;
        };
        let value = |key: &str| {
            let at = options.iter().position(|option| *option == key)?;
            options.get(at + 1).copied()
        };
        let since: Option<Timestamp> = value("--since").and_then(|text| text.parse().ok());
        let tail: Option<usize> = value("--tail").and_then(|text| text.parse().ok());
        let all = self.host.printed(name);
        let of_run: Vec<&Printed> = all.iter().filter(|line| line.run == run).collect();
        let last = tail.map_or(0, |tail| of_run.len().saturating_sub(tail));
        for line in of_run[last..]
            .iter()
            .filter(|l| since.is_none_or(|since| l.at >= since))
        {
            self.log_line(line).await?;
        }
        if !options.contains(&"--follow") {
            return Ok(0);
        }
        let newest = |all: &[Printed]| all.last().map_or(0, |line| line.number);
        let mut shown = newest(&all);
        loop {
            let changed = self.host.logged();
            let all = self.host.printed(name);
            let new = |line: &&Printed| line.number > shown && line.run == run;
            for line in all.iter().filter(new) {
                self.log_line(line).await?;
            }
            shown = newest(&all).max(shown);
            if self.host.run_of(name) != Some(run) {
                return Ok(0);
            }
            changed.await;
        }
    }

    async fn log_line(&mut self, line: &Printed) -> std::io::Result<()> {
        let text = format!("{:.9} {}\n", line.at, line.text);
        if line.stderr {
            self.stderr.write_all(text.as_bytes()).await
        } else {
            self.stdout.write_all(text.as_bytes()).await
        }
    }

    /// The last run of the container that was asked about.
    async fn journal(&mut self, words: &[&str]) -> std::io::Result<i32> {
        let value = |key: &str| {
            let at = words.iter().position(|option| *option == key)?;
            words.get(at + 1).copied()
        };
        let tail: Option<usize> = value("-n").and_then(|text| text.parse().ok());
        let all = self.host.printed(&self.asked);
        let run = all.last().map(|line| line.run);
        let of_run: Vec<&Printed> = all.iter().filter(|line| Some(line.run) == run).collect();
        let last = tail.map_or(0, |tail| of_run.len().saturating_sub(tail));
        for line in &of_run[last..] {
            let entry = serde_json::json!({
                "MESSAGE": line.text,
                "PRIORITY": if line.stderr { "3" } else { "6" },
                "__REALTIME_TIMESTAMP": line.at.as_microsecond().to_string(),
            });
            self.stdout
                .write_all(format!("{entry}\n").as_bytes())
                .await?;
        }
        Ok(0)
    }

    async fn exec(&mut self, words: &[&str]) -> std::io::Result<i32> {
        let flags = words
            .iter()
            .take_while(|word| word.starts_with('-'))
            .count();
        let (flags, rest) = words.split_at(flags);
        let Some((name, command)) = rest.split_first() else {
            return Ok(NO_CONTAINER);
        };
        if !self.host.is_running(name) {
            if self.host.printed(name).is_empty() {
                return self.no_container(name).await;
            }
            let text = "Error: can only create exec sessions on running containers: container state improper\n";
            self.stderr.write_all(text.as_bytes()).await?;
            return Ok(NOT_RUNNING);
        }
        let mut process = Process {
            host: self.host,
            container: name,
            stdin: flags.contains(&"-i").then_some(&mut self.stdin),
            stdout: self.stdout,
            stderr: self.stderr,
            terminal: flags
                .contains(&"-t")
                .then(|| Terminal::new(&mut self.sizes)),
        };
        process.run(command).await
    }

    async fn no_container(&mut self, name: &str) -> std::io::Result<i32> {
        let text =
            format!("Error: no container with name or ID \"{name}\" found: no such container\n");
        self.stderr.write_all(text.as_bytes()).await?;
        Ok(NO_CONTAINER)
    }
}

/// The words of a command, with their quotes taken off.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some(_), c) => word.get_or_insert_default().push(c),
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, '\\') => word.get_or_insert_default().extend(chars.next()),
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (None, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::words;

    #[test]
    fn words_are_split_as_a_shell_does() {
        assert_eq!(words(r"a 'b c'  'd'\''e' ''"), ["a", "b c", "d'e", ""]);
        assert_eq!(words(r#"CONTAINER_ID_FULL="$i""#), ["CONTAINER_ID_FULL=$i"]);
    }
}
