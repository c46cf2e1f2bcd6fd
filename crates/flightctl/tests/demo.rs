//! `make demo KEEP=1`: what the README tells users to type, with their kubectl.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot prepare itself may panic"
)]

#[path = "../../../tests/real/harness/mod.rs"]
mod harness;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use harness::process::Process;

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
    demo.terminate();
    assert!(!Path::new(&kubeconfig).exists(), "nothing is left behind");
}
