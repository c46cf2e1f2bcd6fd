//! A device: Debian with systemd and Podman (`tests/real/device-root.sh`), booted
//! by systemd-nspawn.
//!
//! It has process and mount namespaces of its own, so that all of it is gone with
//! the one process that was started here, mounts and containers too; and a network
//! of its own, so that what Podman does to networks stays in it. The root it
//! boots from is shared and stays as it is: what is written lies in a layer above
//! it, in a temporary folder, and survives a reboot.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::harness::process::Process;

/// systemd is up in 3 s on two idle cores, and stops in 10 with containers.
const PATIENCE: Duration = Duration::from_secs(90);

/// Where [`Machine::shared`] is in the machine. Not in the root: not everything
/// that is bound can be in a layer above another file system.
pub const SHARED: &str = "/run/host/shared";

/// The root is put together in a mount namespace that ends with its last process.
const BOOT: &str = r#"
mount -t overlay overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" "$2/root" || exit
shift
folder=$1
shift
export SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 SYSTEMD_NSPAWN_API_VFS_WRITABLE=1
exec systemd-nspawn -q -D "$folder/root" --register=no --keep-unit --private-network \
  --bind="$folder/shared:/run/host/shared" --bind="$folder/containers:/var/lib/containers" "$@" \
  --capability=all --system-call-filter='@keyring bpf @mount @privileged' \
  --boot --console=pipe
"#;

/// The running machine.
pub struct Machine {
    process: Option<Process>,
    /// The id of that process; 0 without one.
    outermost: Arc<AtomicU32>,
    root: PathBuf,
    arguments: Vec<String>,
    boots: u32,
    folder: TempDir,
}

/// What a command in it said.
pub struct Said {
    pub success: bool,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

impl Machine {
    /// Why there can be none here, if so: it takes privileges that not even every
    /// root has.
    pub fn impossible(root: &Path) -> Option<String> {
        if Command::new("systemd-nspawn")
            .arg("--version")
            .output()
            .is_err()
        {
            return Some("systemd-nspawn is missing: apt-get install systemd-container".into());
        }
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let attempt = r#"mkdir "$2/upper" "$2/work" "$2/root" &&
            mount -t overlay overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" "$2/root" &&
            exec systemd-nspawn -q -D "$2/root" --register=no --keep-unit --private-network \
              --capability=all --pipe /bin/true"#;
        let output = namespaces()
            .args(["sh", "-c", attempt, "sh"])
            .args([root, folder.path()])
            .output()
            .expect("util-linux is installed");
        (!output.status.success()).then(|| String::from_utf8_lossy(&output.stderr).trim().into())
    }

    /// Boots one from `root`, with these files on top of it (path, text, mode) and
    /// these further arguments of systemd-nspawn. Returns when systemd is up.
    pub fn boot(root: &Path, files: &[(&str, &str, u32)], arguments: Vec<String>) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        // Its users have to get through.
        let open = fs::Permissions::from_mode(0o755);
        fs::set_permissions(folder.path(), open).expect("it is ours");
        for part in ["upper", "work", "root", "shared", "containers"] {
            fs::create_dir(folder.path().join(part)).expect("written");
        }
        // As Podman makes it.
        let closed = fs::Permissions::from_mode(0o700);
        fs::set_permissions(folder.path().join("containers"), closed).expect("it is ours");
        for (path, text, mode) in files {
            let path = folder
                .path()
                .join("upper")
                .join(path.trim_start_matches('/'));
            let parent = path.parent().expect("a file is in a folder");
            fs::create_dir_all(parent).expect("written");
            fs::write(&path, text).expect("written");
            fs::set_permissions(&path, fs::Permissions::from_mode(*mode)).expect("it is ours");
        }
        let mut machine = Self {
            process: None,
            outermost: Arc::default(),
            root: root.into(),
            arguments,
            boots: 0,
            folder,
        };
        machine.start();
        machine
    }

    /// A folder that it has at [`SHARED`].
    pub fn shared(&self) -> PathBuf {
        self.folder.path().join("shared")
    }

    /// Shuts it down in order and boots it again, as a reboot does.
    pub fn reboot(&mut self) {
        // It ends while it answers.
        let _ = self.run(&["systemctl", "poweroff"]);
        self.boot_again();
    }

    /// Boots it again when somebody has shut it down, or is about to.
    pub fn boot_again(&mut self) {
        let mut process = self.process.take().expect("it runs");
        let begun = Instant::now();
        while process.ended().is_none() {
            assert!(
                begun.elapsed() < PATIENCE,
                "it never stopped\n{}",
                process.log()
            );
            std::thread::sleep(Duration::from_millis(100));
        }
        self.outermost.store(0, Ordering::Relaxed);
        self.start();
    }

    /// Runs a command in it, as root.
    pub fn run(&self, command: &[&str]) -> Said {
        self.feed(command, &[])
    }

    /// The same with an input.
    pub fn feed(&self, command: &[&str], input: &[u8]) -> Said {
        let mut child = self
            .enter()
            .args(command)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("util-linux is installed");
        let mut stdin = child.stdin.take().expect("it was asked for");
        // A command may end without reading; its status tells.
        let _ = stdin.write_all(input);
        drop(stdin);
        let output = child.wait_with_output().expect("a child can be waited for");
        Said {
            success: output.status.success(),
            stdout: output.stdout,
            stderr: String::from_utf8_lossy(&output.stderr).into(),
        }
    }

    /// The same, which has to succeed; answers what it printed.
    pub fn bytes(&self, command: &[&str]) -> Vec<u8> {
        let said = self.run(command);
        assert!(said.success, "{command:?}: {}", said.stderr);
        said.stdout
    }

    /// The same as text, without the newline at its end.
    pub fn ok(&self, command: &[&str]) -> String {
        let text = String::from_utf8(self.bytes(command)).expect("it is text");
        text.trim_end_matches('\n').into()
    }

    fn start(&mut self) {
        let folder = self.folder.path();
        let mut command = namespaces();
        command
            .args(["sh", "-c", BOOT, "sh"])
            .args([&self.root, folder])
            .args(&self.arguments);
        self.boots += 1;
        let name = format!("boot-{}", self.boots);
        let process = Process::start(folder, &name, &mut command);
        self.outermost.store(process.id(), Ordering::Relaxed);
        self.process = Some(process);
        let begun = Instant::now();
        // Services may take longer: whoever needs one waits for it.
        let basic = ["systemctl", "is-active", "--quiet", "basic.target"];
        while entrance(self.outermost()).is_none() || !self.run(&basic).success {
            let process = self.process.as_mut().expect("just started");
            process.assert_alive();
            assert!(
                begun.elapsed() < PATIENCE,
                "it never was up\n{}",
                process.log()
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn outermost(&self) -> u32 {
        self.outermost.load(Ordering::Relaxed)
    }

    /// For others: the words before a command that run it in the machine, whichever
    /// boot of it there is; `None` while there is none.
    pub fn entrance(&self) -> impl Fn() -> Option<Vec<String>> + Send + Sync + use<> {
        let outermost = Arc::clone(&self.outermost);
        move || entrance(outermost.load(Ordering::Relaxed))
    }

    fn enter(&self) -> Command {
        let words = entrance(self.outermost()).expect("it runs");
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        command
    }
}

/// Into the namespaces of the first process of a machine, as root, with nothing of
/// our environment.
fn entrance(outermost: u32) -> Option<Vec<String>> {
    let init = child(&child(&outermost.to_string())?)?;
    let name = fs::read_to_string(format!("/proc/{init}/comm")).ok()?;
    let words = [
        "nsenter",
        "-t",
        &init,
        "-m",
        "-u",
        "-i",
        "-n",
        "-p",
        "-C",
        "env",
        "-i",
        "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
        "LC_ALL=C.UTF-8",
    ];
    (name.trim() == "systemd").then(|| words.map(str::to_owned).into())
}

impl Drop for Machine {
    fn drop(&mut self) {
        let Some(process) = self.process.take() else {
            return;
        };
        self.outermost.store(0, Ordering::Relaxed);
        let inner = child(&process.id().to_string());
        // Its child is told by the kernel, and is the first of a process namespace:
        // all others end with it.
        drop(process);
        let begun = Instant::now();
        let lives = |id: &String| {
            let stat = fs::read_to_string(format!("/proc/{id}/stat"));
            stat.is_ok_and(|stat| !stat.contains(") Z "))
        };
        while inner.as_ref().is_some_and(lives) && begun.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn namespaces() -> Command {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]);
    command
}

/// The first child of a process.
fn child(id: &str) -> Option<String> {
    let all = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).ok()?;
    all.split_whitespace().next().map(str::to_owned)
}
