//! `make demo KEEP=1`: what the README tells users to type, with their kubectl.

#![allow(
    clippy::unwrap_used,
    unreachable_pub,
    dead_code,
    missing_debug_implementations,
    reason = "modules of one test, which may panic where it cannot prepare itself"
)]

#[path = "../../../tests/real/harness/mod.rs"]
mod harness;
#[path = "../../../tests/real/screen.rs"]
mod screen;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use harness::process::Process;
use screen::Screen;
use sha2::{Digest, Sha256};

/// The story takes half a minute.
const PATIENCE: Duration = Duration::from_secs(180);

/// Cargo puts examples beside the folder of tests.
fn program() -> PathBuf {
    let this = std::env::current_exe().unwrap();
    let profile = this.parent().and_then(Path::parent).unwrap();
    let demo = profile.join("examples/demo");
    let built = "no demo: cargo build -p vk-flightctl --example demo";
    assert!(demo.exists(), "{built}");
    demo
}

/// The lines of the README behind `make demo KEEP=1`, to the end of their block.
fn commands(root: &Path) -> Vec<String> {
    let readme = std::fs::read_to_string(root.join("README.md")).unwrap();
    let (_, behind) = readme.split_once("\nmake demo KEEP=1").unwrap();
    let (block, _) = behind.split_once("```").unwrap();
    let lines = block.lines().map(str::trim);
    lines
        .filter(|line| line.contains("kubectl "))
        .map(str::to_owned)
        .collect()
}

/// The kubeconfig that the demo prints, once the story is told.
fn invited(demo: &mut Process) -> String {
    let begun = Instant::now();
    loop {
        let log = demo.log();
        if let Some((_, behind)) = log.split_once("export KUBECONFIG=")
            && let Some((path, _)) = behind.split_once('\n')
        {
            return path.to_owned();
        }
        demo.assert_alive();
        assert!(begun.elapsed() < PATIENCE, "{log}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn what_the_readme_says_of_the_demo_works_until_it_is_ended() {
    let Some(tools) = harness::tools() else {
        return;
    };
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let commands = commands(&root);
    assert!(commands.len() > 5, "{commands:?}");
    let folder = tempfile::tempdir().unwrap();
    let mut demo = Process::start(folder.path(), "demo", Command::new(program()).arg("--keep"));
    let kubeconfig = invited(&mut demo);
    let path = std::env::var("PATH").unwrap_or_default();
    let mut said = String::new();
    for command in &commands {
        let ran = Command::new("sh")
            .args(["-c", command])
            .current_dir(&root)
            .env("KUBECONFIG", &kubeconfig)
            .env("HOME", folder.path())
            .env("PATH", format!("{}:{path}", tools.display()))
            .output()
            .unwrap();
        let text = [ran.stdout, ran.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        println!("{command}\n{text}");
        assert!(ran.status.success(), "{command}: {text}");
        said += &text;
    }
    for answer in ["request ", "web\n", "its code: 42", "hello\n"] {
        assert!(said.contains(answer), "{answer:?} is not in\n{said}");
    }
    let kubectl = |args: &[&str]| {
        let mut kubectl = Command::new(tools.join("kubectl"));
        kubectl.args(args).env("KUBECONFIG", &kubeconfig);
        kubectl.env("HOME", folder.path());
        kubectl
    };
    bytes_go_both_ways(&kubectl);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(a_shell_has_a_terminal(&kubectl));
    demo.terminate();
    assert!(!Path::new(&kubeconfig).exists(), "nothing is left behind");
}

/// Of the pods that the story leaves.
const POD: &str = "deployment/hello-edge";

/// A MiB of every value, in no order that a text would have.
fn bytes_go_both_ways(kubectl: &impl Fn(&[&str]) -> Command) {
    let sent: Vec<u8> = (0..1_u32 << 20)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    let mut ran = kubectl(&["exec", "-i", POD, "--", "cat"]);
    let ran = ran.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut ran = ran.unwrap();
    let (mut stdin, input) = (ran.stdin.take().unwrap(), sent.clone());
    let typing = std::thread::spawn(move || stdin.write_all(&input));
    let ended = ran.wait_with_output().unwrap();
    typing.join().unwrap().unwrap();
    assert!(ended.status.success(), "{:?}", ended.status);
    let sum = |bytes: &[u8]| (bytes.len(), Sha256::digest(bytes));
    assert_eq!(sum(&ended.stdout), sum(&sent));
}

/// A shell by hand: a prompt, what is typed is shown, the window has a size and gets
/// another one, and the shell's code is kubectl's.
async fn a_shell_has_a_terminal(kubectl: &impl Fn(&[&str]) -> Command) {
    let mut screen = Screen::of(&kubectl(&["exec", "-it", POD, "--", "sh"]));
    screen.shows("/ # ").await;
    screen.types("stty size\r").await;
    screen.shows("stty size\r\n30 90\r\n").await;
    screen.resize(40, 120);
    // It goes its own way to the device: the shell is asked until it knows.
    loop {
        screen.types("stty size\r").await;
        screen.shows("stty size\r\n").await;
        if screen.until("\r\n").await == "40 120" {
            break;
        }
    }
    screen.types("echo typed\r").await;
    screen.shows("echo typed\r\ntyped\r\n").await;
    screen.types("exit 3\r").await;
    let (code, seen) = screen.ends().await;
    assert_eq!(code, Some(3), "{seen}");
}
