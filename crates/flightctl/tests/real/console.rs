//! `kubectl logs`, `exec` and `cp` through the console of a device, simulated or
//! real.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use super::World;
use super::harness::process::Process;

/// For the provider's configuration.
pub const ENABLED: &str = "console: {enabled: true}\n";
/// The pod, and its container.
pub const TALKER: &str = "talker";
/// An agent begins polls 5 s apart, and slow machines start sudo and podman in
/// seconds.
const SOON: Duration = Duration::from_secs(30);

/// What a command printed, and its code.
struct Ran {
    code: i32,
    out: String,
    err: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self {
            code: output.status.code().unwrap_or(-1),
            out: text(&output.stdout),
            err: text(&output.stderr),
        }
    }
}

fn talker(image: &str) -> String {
    format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: {TALKER}, namespace: default}}
spec:
  nodeName: vk-flightctl-node
  terminationGracePeriodSeconds: 1
  containers:
  - name: {TALKER}
    image: {image}
    command: [sh, -c, 'echo begun; sleep 0.2; echo oops >&2; while sleep 1; do echo tick; done']
"
    )
}

impl World {
    /// With an image that its device has, one of no fleet.
    pub fn talker_is_ready(&self, image: &str) {
        self.apply(&talker(image));
        let pod = format!("pod/{TALKER}");
        self.plane
            .ok(&["wait", "--for=condition=Ready", &pod, "--timeout=60s"]);
    }

    /// Everything that the console gives, of a pod that is Ready.
    pub fn the_console_answers(&self) {
        self.logs_are_there();
        self.processes_have_streams_and_codes();
        self.files_are_copied_both_ways();
        self.a_followed_log_gives_way();
        self.what_the_console_cannot_do_is_refused_in_words();
    }

    pub fn logs_are_there(&self) {
        let log = self.ran(&["logs", TALKER], "");
        assert!(
            log.out.starts_with("begun\noops\n"),
            "{}{}",
            log.out,
            log.err
        );
        assert_eq!(log.code, 0, "{}", log.err);
        let last = self
            .ran(&["logs", TALKER, "--tail=1", "--timestamps"], "")
            .out;
        let (at, text) = last.split_once(' ').unwrap();
        assert!(at.ends_with('Z') && text == "tick\n", "{last}");
    }

    pub fn processes_have_streams_and_codes(&self) {
        let script = "echo out; echo err >&2; exit 42";
        let ran = self.ran(&["exec", TALKER, "--", "sh", "-c", script], "");
        let (said, why) = ran.err.split_once('\n').unwrap();
        assert_eq!(
            (ran.code, ran.out.as_str(), said),
            (42, "out\n", "err"),
            "{}",
            ran.err
        );
        assert!(why.contains("exit code 42"), "{why}");
        let ran = self.ran(&["exec", "-i", TALKER, "--", "cat"], "in\nand out");
        assert_eq!(
            (ran.code, ran.out.as_str()),
            (0, "in\nand out"),
            "{}",
            ran.err
        );
    }

    fn files_are_copied_both_ways(&self) {
        let folder = self.plane.folder();
        let (from, back) = (folder.join("from"), folder.join("back"));
        let text = "a small file\n".repeat(100);
        std::fs::write(&from, &text).unwrap();
        let there = format!("{TALKER}:/etc/copied");
        let (from, to) = (from.display().to_string(), back.display().to_string());
        let ran = self.ran(&["cp", &from, &there], "");
        assert_eq!(ran.code, 0, "{}", ran.err);
        let ran = self.ran(&["exec", TALKER, "--", "cat", "/etc/copied"], "");
        assert_eq!((ran.code, &ran.out), (0, &text), "{}", ran.err);
        let ran = self.ran(&["cp", &there, &to], "");
        assert_eq!(ran.code, 0, "{}", ran.err);
        assert_eq!(std::fs::read_to_string(back).unwrap(), text);
    }

    fn a_followed_log_gives_way(&self) {
        let args = ["logs", "-f", TALKER, "--tail=1"];
        let mut command = self.plane.kubectl_command(&args);
        let mut follower = Process::start(self.plane.folder(), "follower", &mut command);
        let begun = Instant::now();
        while follower.log().matches("tick").count() < 2 {
            assert!(begun.elapsed() < SOON, "{}", follower.log());
            std::thread::sleep(Duration::from_millis(50));
        }
        let ran = self.ran(&["exec", TALKER, "--", "true"], "");
        assert_eq!(ran.code, 0, "{}", ran.err);
        while follower.ended().is_none() {
            assert!(begun.elapsed() < SOON * 2, "{}", follower.log());
            std::thread::sleep(Duration::from_millis(50));
        }
        let log = follower.log();
        assert!(log.contains("needed for something else"), "{log}");
    }

    fn what_the_console_cannot_do_is_refused_in_words(&self) {
        for (args, what) in [
            (&["attach", TALKER] as &[&str], "has no attach"),
            (&["port-forward", TALKER, ":80"], "has no port-forward"),
        ] {
            let ran = self.ran(args, "");
            assert!(ran.code == 1 && ran.err.contains(what), "{}", ran.err);
        }
    }

    /// The device has just gone, and Flight Control does not know it yet.
    pub fn a_device_that_is_away_runs_nothing_and_is_left_alone(&self) {
        let ran = self.ran(&["exec", TALKER, "--", "true"], "");
        let late = "did not come to its console within 20 s";
        assert!(ran.code == 1 && ran.err.contains(late), "{}", ran.err);
    }

    fn ran(&self, args: &[&str], input: &str) -> Ran {
        let mut command: Command = self.plane.kubectl_command(args);
        let begun = Instant::now();
        let child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = child.unwrap();
        // It may end without reading.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        let ran = Ran::from(child.wait_with_output().unwrap());
        let took = begun.elapsed().as_secs_f64();
        println!("kubectl {}: {} ({took:.1} s)", args.join(" "), ran.code);
        ran
    }
}
