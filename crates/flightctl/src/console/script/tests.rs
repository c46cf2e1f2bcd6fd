//! The scripts, run by this machine's own shell, with a podman that tells what it
//! was told.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output, Stdio};

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

/// Says its arguments in a row, each in brackets. `here` and `gone` are containers.
const PODMAN: &str = r#"#!/bin/sh
case "$1 $2" in
"container exists") [ "$3" != gone ] && [ "$3" != never ]; exit ;;
"container inspect") [ "$5" = here ] && echo true; exit 0 ;;
esac
[ "$3" != slow ] || { printf slowly; exec sleep 1000; }
printf podman; for a in "$@"; do printf '[%s]' "$a"; done
[ "$2" != -i ] || cat
exit 7
"#;

/// Knows one container, by the name `gone`.
const JOURNALCTL: &str = r#"#!/bin/sh
case "$*" in
*CONTAINER_NAME=gone) echo '{"CONTAINER_ID_FULL":"ab12","MESSAGE":"x"}' ;;
*CONTAINER_ID_FULL=ab12) printf journalctl; for a in "$@"; do printf '[%s]' "$a"; done ;;
esac
"#;

fn tools() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in [("podman", PODMAN), ("journalctl", JOURNALCTL)] {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    }
    folder
}

fn path(tools: &TempDir) -> String {
    let path = std::env::var("PATH").unwrap();
    format!("{}:{path}", tools.path().display())
}

/// What a session of the console prints: the shell as the metadata names it, and
/// its input.
fn run(input: &[u8]) -> Output {
    let folder = tools();
    let metadata = metadata(false);
    let args = metadata["command"]["args"].as_array().unwrap();
    // Without sudo's own `-n`.
    let mut words = args[1..].iter().map(|arg| arg.as_str().unwrap());
    let mut child = Command::new(words.next().unwrap())
        .args(words)
        .env("PATH", path(&folder))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // One that ends early reads no further.
    let _ = stdin.write_all(input);
    drop(stdin);
    child.wait_with_output().unwrap()
}

fn printed(input: &[u8]) -> (String, Option<i32>) {
    let output = run(input);
    let text = String::from_utf8(output.stdout).unwrap();
    (text.replace('\x06', "|"), output.status.code())
}

fn ran(script: &str) -> (String, Option<i32>) {
    let (text, code) = printed(&sent(script));
    (text.strip_prefix("|vk-ready|").unwrap().to_owned(), code)
}

#[test]
fn a_shell_that_nobody_tells_anything_does_nothing() {
    let ready = ("|vk-ready|".to_owned(), Some(0));
    assert_eq!(printed(b""), ready);
    // The session broke within a command.
    let whole = sent("echo done");
    assert_eq!(printed(&whole[..whole.len() - 2]), ready);
    assert_eq!(printed(&whole).0, "|vk-ready|done\n");
}

#[test]
fn a_log_is_podmans_and_of_a_container_that_has_ended_the_journals() {
    let all = |name| ran(&logs(name, Asked::default()));
    assert_eq!(
        all("here"),
        (
            "|vk-go|podman[logs][--timestamps][here]".to_owned(),
            Some(7)
        )
    );
    assert_eq!(
        all("gone").0,
        "|vk-gone|journalctl[-q][-a][-o][json][--output-fields=MESSAGE,PRIORITY,CONTAINER_PARTIAL_MESSAGE][CONTAINER_ID_FULL=ab12]"
    );
    assert_eq!(all("never"), ("|vk-none|".to_owned(), Some(0)));
    let asked = Asked {
        follow: true,
        since: Some("2026-01-02T03:04:05.678Z".parse().unwrap()),
        tail: Some(3),
    };
    assert_eq!(
        ran(&logs("here", asked)).0,
        "|vk-go|podman[logs][--timestamps][--tail][3][--since][2026-01-02T03:04:05.678Z][--follow][here]"
    );
    assert_eq!(
        ran(&logs("gone", asked)).0,
        "|vk-gone|journalctl[-q][-a][-o][json][--output-fields=MESSAGE,PRIORITY,CONTAINER_PARTIAL_MESSAGE][--since][@1767323045][CONTAINER_ID_FULL=ab12]"
    );
}

#[test]
fn a_command_has_its_input_and_its_code_and_its_container_runs() {
    let command = ["cat".to_owned()];
    let script = exec("here", &command, true, false).unwrap();
    let input = [sent(&script), b"more\nand .\n".to_vec()].concat();
    let (text, code) = printed(&input);
    assert_eq!(
        text,
        "|vk-ready||vk-go|podman[exec][-i][here][cat]more\nand .\n"
    );
    assert_eq!(code, Some(7));
    let none = exec("gone", &command, true, false).unwrap();
    assert_eq!(ran(&none), ("|vk-none|".to_owned(), Some(0)));
}

#[test]
fn what_was_started_ends_when_the_session_is_gone() {
    let folder = tools();
    // The agent's sudo, the one that it starts, and the shell: as on a device.
    let metadata = metadata(false);
    let boot = metadata["command"]["args"][3].as_str().unwrap();
    let mut agents = Command::new("/bin/sh")
        .args(["-c", "/bin/sh -c '/bin/sh -c \"$BOOT\"; :'; :"])
        .env("BOOT", boot)
        .env("PATH", path(&folder))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = agents.stdin.take().unwrap();
    stdin
        .write_all(&sent(&logs("slow", Asked::default())))
        .unwrap();
    let mut stdout = agents.stdout.take().unwrap();
    let mut said = Vec::new();
    while !said.ends_with(b"slowly") {
        let mut byte = [0];
        stdout.read_exact(&mut byte).unwrap();
        said.extend(byte);
    }
    // It is not waited for, as the agent does not, and its input stays open.
    agents.kill().unwrap();
    // The end of the output is the end of the last process that could write it.
    stdout.read_to_end(&mut said).unwrap();
    agents.wait().unwrap();
    drop(stdin);
}

#[test]
fn a_command_that_no_process_can_have_is_refused() {
    let of = |word: String| exec("here", &[word], false, false);
    assert_eq!(of("a\0b".into()), Err(BadCommand::Nul));
    assert_eq!(of("x".repeat(COMMAND_LIMIT)), Err(BadCommand::TooLong));
    let long = "x".repeat(COMMAND_LIMIT - 2);
    let (text, _) = ran(&of(long.clone()).unwrap());
    assert_eq!(text, format!("|vk-go|podman[exec][here][{long}]"));
}

#[test]
fn what_flight_control_is_told_survives_a_login_shell_and_a_url() {
    for tty in [false, true] {
        let text = metadata(tty).to_string();
        assert!(!text.contains('$') && !text.contains("\\n"), "{text}");
        assert!(text.len() < 900, "{}", text.len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn every_word_reaches_podman_as_it_is(words in proptest::collection::vec("[^\0]{0,20}", 1..4)) {
        let (text, _) = ran(&exec("here", &words, false, false).unwrap());
        let shown: String = words.iter().map(|word| format!("[{word}]")).collect();
        prop_assert_eq!(text, format!("|vk-go|podman[exec][here]{shown}").replace('\x06', "|"));
    }
}
