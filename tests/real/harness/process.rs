//! A process that ends with its handle or with the test, its output in a file.

use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The kernel's clock ticks in a second, as `/proc` counts on Linux everywhere.
const TICKS: u32 = 100;

/// Ends a process when the one that started both is gone, killed for instance:
/// then nobody drops the handle. It waits for the end of its input, which only
/// we hold open. (`PR_SET_PDEATHSIG` would not do: it follows the thread that
/// started the process, and a test's threads come and go.)
#[derive(Debug)]
pub struct Watchdog(Child);

/// Politely, so that `PostgreSQL` gives its shared memory back, then by force.
const WATCH: &str = r#"read -r _; kill -INT "$0"
for _ in 1 2 3 4 5 6 7 8 9 10; do kill -0 "$0" || exit 0; sleep 0.5; done
kill -KILL "$0""#;

impl Watchdog {
    /// Watches over the process with this id.
    pub fn over(id: u32) -> Self {
        let watchdog = Command::new("sh")
            .args(["-c", WATCH, &id.to_string()])
            // Not reached by what ends the test's own group.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a shell can be started");
        Self(watchdog)
    }

    /// To be called before the process is waited for: later its id may be
    /// another's.
    pub fn call_off(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.call_off();
    }
}

/// A started process.
pub struct Process {
    name: String,
    child: Child,
    watchdog: Watchdog,
    log: PathBuf,
}

impl Process {
    /// Starts `command`; output goes to `<name>.log` in `folder`.
    pub fn start(folder: &Path, name: &str, command: &mut Command) -> Self {
        let log = folder.join(format!("{name}.log"));
        let file = File::create(&log).expect("a log file can be made");
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("a file handle can be doubled"))
            .stderr(file)
            .spawn()
            .unwrap_or_else(|e| panic!("{name} cannot be started: {e}"));
        Self {
            name: name.into(),
            watchdog: Watchdog::over(child.id()),
            child,
            log,
        }
    }

    /// Its id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it printed so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Processor time used so far, without that of processes it started.
    pub fn cpu(&self) -> Duration {
        let stat = self.proc("stat");
        // The name, in brackets, may hold anything.
        let (_, fields) = stat.rsplit_once(')').expect("/proc/PID/stat has a name");
        let field = |n: usize| -> u32 {
            let field = fields.split_whitespace().nth(n);
            field.and_then(|f| f.parse().ok()).expect("a number")
        };
        Duration::from_secs(1) * (field(11) + field(12)) / TICKS
    }

    /// Memory in use now, and the most so far, in MB.
    pub fn memory(&self) -> (f64, f64) {
        let status = self.proc("status");
        (megabytes(&status, "VmRSS:"), megabytes(&status, "VmHWM:"))
    }

    /// The part of it that is pages of files now, its program most of all, in MB.
    pub fn files(&self) -> f64 {
        megabytes(&self.proc("status"), "RssFile:")
    }

    /// From here on the most memory is counted anew.
    pub fn forget_peak(&self) {
        // "5" is the kernel's word for it: proc(5), clear_refs.
        std::fs::write(format!("/proc/{}/clear_refs", self.id()), "5").expect("it runs");
    }

    /// A file of its own under `/proc`.
    pub fn proc(&self, file: &str) -> String {
        std::fs::read_to_string(format!("/proc/{}/{file}", self.id()))
            .expect("it runs, and this is Linux")
    }

    /// Panics, with its last words, if it has ended.
    pub fn assert_alive(&mut self) {
        if let Ok(Some(status)) = self.child.try_wait() {
            panic!("{} ended ({status}):\n{}", self.name, tail(&self.log()));
        }
    }

    /// SIGTERM; answers how long it took to end.
    pub fn terminate(&mut self) -> Duration {
        self.watchdog.call_off();
        let begun = Instant::now();
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-TERM", &pid]).status();
        assert!(sent.is_ok_and(|s| s.success()), "SIGTERM to {}", self.name);
        let status = self.child.wait().expect("a child can be waited for");
        assert!(
            status.success(),
            "{} ended {status}:\n{}",
            self.name,
            tail(&self.log())
        );
        begun.elapsed()
    }

    /// Sends a signal (`-STOP`).
    pub fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args([signal, &pid]).status();
        assert!(sent.is_ok_and(|s| s.success()), "{signal} to {}", self.name);
    }

    /// Whether it has ended, and well.
    pub fn ended(&mut self) -> Option<bool> {
        let status = self.child.try_wait().expect("a child can be waited for");
        status.map(|status| status.success())
    }

    /// Sends a signal (`-INT`) and waits for the end, however it comes.
    pub fn end(&mut self, signal: &str) {
        self.watchdog.call_off();
        // Once it was waited for, its id may be another's.
        if let Ok(None) = self.child.try_wait() {
            let pid = self.child.id().to_string();
            let _ = Command::new("kill").args([signal, &pid]).status();
            let _ = self.child.wait();
        }
    }
}

fn megabytes(status: &str, name: &str) -> f64 {
    let line = status.lines().find(|l| l.starts_with(name));
    let number = line.and_then(|l| l.split_whitespace().nth(1));
    let kilobytes: f64 = number.and_then(|n| n.parse().ok()).expect("a number");
    kilobytes / 1000.0
}

impl Drop for Process {
    fn drop(&mut self) {
        self.watchdog.call_off();
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}

/// A free loopback port. Taken again at once by whoever asked.
pub fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
    listener
        .local_addr()
        .expect("a bound socket has an address")
        .port()
}
