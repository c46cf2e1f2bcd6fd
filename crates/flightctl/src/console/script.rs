//! What a device is told to run. Pure.
//!
//! Flight Control is given a command that never changes: a shell that says it is
//! there ([`READY`]) and reads what it shall do from its input. So no command is
//! stored in the device's annotations, written to logs or cut by the limit of a
//! URL; and a device that comes when nobody waits any more reads the end of its
//! input and does nothing.
//!
//! With a terminal the agent runs the command through a login shell, and sudo
//! escapes it for that, all but `$` and wrongly for line breaks: there is neither in
//! it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use jiff::Timestamp;
use serde_json::{Value, json};

/// The shell on the device waits for what it shall do.
pub(super) const READY: &[u8] = b"\x06vk-ready\x06";
/// The container is there: all that follows is the command's, on standard error too,
/// where sudo may have complained before.
pub(super) const GO: &[u8] = b"\x06vk-go\x06";
/// It has ended, and what follows is its log as the journal kept it.
pub(super) const GONE: &[u8] = b"\x06vk-gone\x06";
/// It is not there: nothing was run.
pub(super) const NONE: &[u8] = b"\x06vk-none\x06";

/// A terminal takes lines of 4095 bytes; base64 of a script is cut into these.
const LINE: usize = 1000;
/// Longest command: what it takes in base64, and the container's engine, stay
/// below the 128 KiB that Linux takes as one argument.
const COMMAND_LIMIT: usize = 64 * 1024;

/// Reads lines up to `.`, and runs what they are the base64 of. At the end of input
/// before that it ends, and after a minute: an agent that has restarted starts again
/// what is still noted, with an input in which nothing comes.
const BOOT: &str = r#"[ -t 0 ] && stty -echo
printf '\006vk-ready\006'
(i=0; while [ -d /proc/$$ ]; do sleep 1; [ $((i=i+1)) -lt 60 ] || kill $$; done) </dev/null >/dev/null 2>&1 &
w=$!
c=
while IFS= read -r l && [ "$l" != . ]; do c=$c$l; done
kill $w
[ "$l" = . ] || exit 0
eval "$(printf %s "$c" | base64 -d)""#;

/// Ends what the shell becomes once the session is gone: the agent kills its own
/// `sudo`, which stays as a zombie, and nothing below it; the next one, which is
/// the shell's parent, then has another parent. What podman has started in a
/// container is the child of a conmon with podman's own environment; it is told to
/// hang up, and killed a second later. Looks every two seconds, and ends itself.
const WATCH: &str = r#"u=$(grep ^PPid: /proc/$PPID/status)
export CONTAINERS_VK_SESSION=$$
(trap '' HUP
while [ -d /proc/$$ ] && grep -qx "$u" /proc/$PPID/status; do sleep 2; done
for s in HUP KILL; do
for p in $(grep -lzx CONTAINERS_VK_SESSION=$$ /proc/[0-9]*/environ | cut -d/ -f3); do
grep -qx conmon /proc/$p/comm && kill -$s $(cat /proc/$p/task/$p/children)
done
grep -qzx CONTAINERS_VK_SESSION=$$ /proc/$$/environ && kill $$
sleep 1
done) </dev/null >/dev/null 2>&1 &
"#;

/// The metadata of a session.
pub(super) fn metadata(tty: bool) -> Value {
    let boot = format!("eval \"`echo {} | base64 -d`\"", BASE64.encode(BOOT));
    json!({
        "term": "xterm",
        "command": {"command": "/usr/bin/sudo", "args": ["-n", "/bin/sh", "-c", boot]},
        "tty": tty,
    })
}

/// A script as the shell reads it.
pub(super) fn sent(script: &str) -> Vec<u8> {
    let encoded = BASE64.encode(script);
    let mut lines = Vec::with_capacity(encoded.len() + encoded.len() / LINE + 4);
    for line in encoded.as_bytes().chunks(LINE) {
        lines.extend_from_slice(line);
        lines.push(b'\n');
    }
    lines.extend_from_slice(b".\n");
    lines
}

/// What is asked of a log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) follow: bool,
    pub(super) since: Option<Timestamp>,
    pub(super) tail: Option<u64>,
}

/// Prints the log of a container with times: of one that is there from podman, and
/// of the last one of its name that was there from the journal, where podman's log
/// driver is `journald` (quadlet removes a container at its end).
pub(super) fn logs(container: &str, asked: Asked) -> String {
    let name = quoted(container);
    let mut podman = String::from("podman logs --timestamps");
    // Not the last entries only: a line may be several.
    let mut journal = String::from(
        "journalctl -q -a -o json --output-fields=MESSAGE,PRIORITY,CONTAINER_PARTIAL_MESSAGE",
    );
    if let Some(tail) = asked.tail {
        podman.push_str(&format!(" --tail {tail}"));
    }
    // What was written before the epoch is all.
    if let Some(since) = asked.since.filter(|at| at.as_second() > 0) {
        podman.push_str(&format!(" --since {since}"));
        journal.push_str(&format!(" --since @{}", since.as_second()));
    }
    if asked.follow {
        podman.push_str(" --follow");
    }
    format!(
        r#"{WATCH}if podman container exists {name}; then
{go}
exec {podman} {name}
fi
i=$(journalctl -q -o json -n 1 CONTAINER_NAME={name} 2>/dev/null | sed -n 's/.*"CONTAINER_ID_FULL" *: *"\([0-9a-f]*\)".*/\1/p')
if [ -n "$i" ]; then
{gone}
exec {journal} CONTAINER_ID_FULL="$i"
fi
{none}
"#,
        go = both(GO),
        gone = both(GONE),
        none = print(NONE),
    )
}

/// A command cannot be run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadCommand {
    /// No argument of a process holds one.
    #[error("a NUL byte is in it")]
    Nul,
    /// Over [`COMMAND_LIMIT`].
    #[error("it takes more than {} KiB; pass what is long through standard input", COMMAND_LIMIT / 1024)]
    TooLong,
}

/// Runs a command in a container that runs.
pub(super) fn exec(
    container: &str,
    command: &[String],
    stdin: bool,
    tty: bool,
) -> Result<String, BadCommand> {
    if command.iter().any(|word| word.contains('\0')) {
        return Err(BadCommand::Nul);
    }
    let name = quoted(container);
    let words: Vec<String> = command.iter().map(|word| quoted(word)).collect();
    let words = words.join(" ");
    if words.len() > COMMAND_LIMIT {
        return Err(BadCommand::TooLong);
    }
    let flags = match (stdin, tty) {
        (true, true) => "-i -t ",
        (true, false) => "-i ",
        (false, true) => "-t ",
        (false, false) => "",
    };
    // A terminal has one stream.
    let go = if tty {
        format!("stty echo\n{}", print(GO))
    } else {
        both(GO)
    };
    Ok(format!(
        r#"{WATCH}if [ "$(podman container inspect -f '{{{{.State.Running}}}}' {name} 2>/dev/null)" != true ]; then
{none}
exit 0
fi
{go}
exec podman exec {flags}{name} {words}
"#,
        none = print(NONE),
    ))
}

/// The same on both streams.
fn both(mark: &[u8]) -> String {
    format!("{mark}\n{mark} >&2", mark = print(mark))
}

/// The shell's `printf` of a mark.
fn print(mark: &[u8]) -> String {
    let text = String::from_utf8_lossy(mark).replace('\x06', "\\006");
    format!("printf '{text}'")
}

/// One word, whatever is in it.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests;
