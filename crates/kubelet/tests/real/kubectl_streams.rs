//! `kubectl exec`, `attach`, `cp` and `port-forward`, over WebSockets and over SPDY.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::timeout;
use vk_provider::LogSource;

use crate::harness::control_plane::ControlPlane;
use crate::kubectl::NAMESPACE;
use crate::suite::memory::processes::blob;
use crate::suite::world::{World, eventually, uid};

/// For one kubectl; the control plane may be busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// How kubectl is told which protocols to speak.
const SPDY: [(&str, &str); 2] = [
    ("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", "false"),
    ("KUBECTL_PORT_FORWARD_WEBSOCKETS", "false"),
];

/// A kubectl of one kind.
struct Kubectl<'a> {
    plane: &'a Arc<ControlPlane>,
    environment: &'a [(&'a str, &'a str)],
}

/// What one printed, and its exit code.
#[derive(Debug)]
struct Printed {
    code: Option<i32>,
    stdout: Vec<u8>,
    stderr: String,
}

impl Kubectl<'_> {
    /// With the namespace and the flags before what may be a command.
    fn command(&self, args: &[&str]) -> Command {
        let args = [&["-n", NAMESPACE], args].concat();
        let mut command: Command = self.plane.kubectl_command(&args).into();
        command.envs(self.environment.iter().copied());
        self.piped(command)
    }

    fn piped(&self, mut command: Command) -> Command {
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// Its end, after this input.
    async fn run(&self, args: &[&str], input: &[u8]) -> Printed {
        ended(self.command(args), input).await
    }

    /// `kubectl exec web`.
    async fn exec(&self, flags: &[&str], command: &[&str], input: &[u8]) -> Printed {
        let args = [&["exec", "web"], flags, &["--"], command].concat();
        self.run(&args, input).await
    }
}

async fn ended(mut command: Command, input: &[u8]) -> Printed {
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let writing = async {
        // It may end without reading.
        let _ = stdin.write_all(input).await;
        drop(stdin);
    };
    let ending = async { tokio::join!(child.wait_with_output(), writing).0 };
    let output = timeout(PATIENCE, ending).await;
    let output = output
        .unwrap_or_else(|_| panic!("never ends: {command:?}"))
        .unwrap();
    Printed {
        code: output.status.code(),
        stdout: output.stdout,
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

async fn alive(world: &World, number: usize) {
    let reached = async || (world.remote.alive() == number).then_some(());
    eventually(&format!("{number} are there"), reached).await;
}

pub async fn all(plane: &Arc<ControlPlane>, world: &World, uid: &str) {
    for environment in [&[] as &[_], &SPDY] {
        let kubectl = Kubectl { plane, environment };
        execs(&kubectl).await;
        terminal(&kubectl).await;
        copies(&kubectl, world).await;
        forwards(&kubectl, world, uid).await;
        alive(world, 0).await;
        Box::pin(attaches(&kubectl, world)).await;
    }
}

async fn execs(kubectl: &Kubectl<'_>) {
    let both = kubectl.exec(&[], &["both", "42"], b"").await;
    assert_eq!(both.code, Some(42), "{both:?}");
    assert_eq!(both.stdout, b"out\0\xff\n");
    let words = "err\r\ncommand terminated with exit code 42\n";
    assert!(both.stderr.ends_with(words), "{both:?}");
    let fine = kubectl.exec(&[], &["exit", "0"], b"").await;
    assert_eq!((fine.code, &*fine.stdout), (Some(0), b"" as _), "{fine:?}");
    let input = blob();
    let cat = kubectl.exec(&["-i"], &["cat"], &input).await;
    assert_eq!(cat.code, Some(0), "{}", cat.stderr);
    assert!(cat.stdout == input, "{} bytes came back", cat.stdout.len());
    for (command, words) in [
        (
            "unknown",
            "the process ended, and the remote cannot tell how",
        ),
        ("lost", "the device is away"),
    ] {
        let failed = kubectl.exec(&[], &[command], b"").await;
        assert_eq!(failed.code, Some(1), "{failed:?}");
        assert!(failed.stderr.contains(words), "{failed:?}");
    }
    let nowhere = kubectl
        .run(&["exec", "web", "-c", "other", "--", "cat"], b"")
        .await;
    assert_eq!(nowhere.code, Some(1), "{nowhere:?}");
}

/// `script` gives kubectl a terminal of its own.
async fn terminal(kubectl: &Kubectl<'_>) {
    if Command::new("script")
        .arg("--version")
        .output()
        .await
        .is_err()
    {
        println!("SKIPPED: kubectl exec -it (script of util-linux gives it a terminal)");
        return;
    }
    let command = kubectl.command(&["exec", "-it", "web", "--", "sizes", "1"]);
    let command = command.as_std();
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<&str> = words.map(|word| word.to_str().unwrap()).collect();
    let mut script = Command::new("script");
    let line = format!("stty cols 90 rows 30; {}", words.join(" "));
    script
        .args(["--quiet", "--return", "--command", &line, "/dev/null"])
        .envs(kubectl.environment.iter().copied());
    let printed = ended(kubectl.piped(script), b"").await;
    let text = String::from_utf8_lossy(&printed.stdout);
    assert!(
        printed.code == Some(0) && text.contains("90x30"),
        "{printed:?}"
    );
}

async fn copies(kubectl: &Kubectl<'_>, world: &World) {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let bytes = blob();
    std::fs::write(path("up"), &bytes).unwrap();
    let up = kubectl
        .run(&["cp", &path("up"), "web:/data/blob"], b"")
        .await;
    assert_eq!(up.code, Some(0), "{up:?}");
    let sent = world.remote.typed();
    assert!(
        sent.windows(bytes.len()).any(|part| part == bytes),
        "{} bytes",
        sent.len()
    );
    let down = kubectl
        .run(&["cp", "web:/data/blob", &path("down")], b"")
        .await;
    assert_eq!(down.code, Some(0), "{down:?}");
    assert!(std::fs::read(path("down")).unwrap() == bytes);
}

async fn attaches(kubectl: &Kubectl<'_>, world: &World) {
    let mut pod = world.pod("console", "Always");
    pod.spec.as_mut().unwrap().containers[0].stdin = Some(true);
    let pod = world.create(&pod).await;
    let uid = uid(&pod);
    world.running("console").await;
    let before = world.remote.typed().len();
    let mut child = kubectl
        .command(&["attach", "-i", "console"])
        .spawn()
        .unwrap();
    alive(world, 1).await;
    child
        .stdin
        .as_mut()
        .unwrap()
        .write_all(b"typed\n")
        .await
        .unwrap();
    let typed = async || {
        world.remote.typed()[before..]
            .ends_with(b"typed\n")
            .then_some(())
    };
    eventually("it is typed", typed).await;
    let written = b"written\n";
    world.remote.write(&uid, "app", LogSource::Stdout, written);
    let mut shown = [0; 8];
    let stdout = child.stdout.as_mut().unwrap();
    let reading = timeout(PATIENCE, stdout.read_exact(&mut shown)).await;
    reading.expect("shown").unwrap();
    assert_eq!(&shown, written);
    child.kill().await.unwrap();
    alive(world, 0).await;
    assert!(world.remote.runs(&uid), "the container runs on");
    world.delete("console", Some(0)).await;
    world.gone("console", &uid).await;
}

/// A kubectl that forwards these ports of the pod; where it listens, in order.
async fn forwarding(kubectl: &Kubectl<'_>, ports: &[u16]) -> (Child, Vec<u16>) {
    let ports: Vec<String> = ports.iter().map(|port| format!(":{port}")).collect();
    let ports: Vec<&str> = ports.iter().map(String::as_str).collect();
    let args = [&["port-forward", "web", "--address=127.0.0.1"], &*ports].concat();
    let mut child = kubectl.command(&args).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut local = Vec::new();
    while local.len() < ports.len() {
        let line = timeout(PATIENCE, lines.next_line()).await;
        let line = line.expect("forwards").unwrap().expect("stays");
        let place = line.strip_prefix("Forwarding from 127.0.0.1:").unwrap();
        local.push(place.split_once(' ').unwrap().0.parse().unwrap());
    }
    // It writes a line for every connection.
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    (child, local)
}

async fn forwards(kubectl: &Kubectl<'_>, world: &World, uid: &str) {
    let (mut child, local) = forwarding(kubectl, &[80, 81, 82]).await;
    let bytes = blob();
    let mut open = Vec::new();
    for number in 0..50 {
        let mut connection = TcpStream::connect(("127.0.0.1", local[0])).await.unwrap();
        connection
            .write_all(&bytes[number..5000 + number])
            .await
            .unwrap();
        open.push(connection);
    }
    alive(world, 50).await;
    for (number, mut connection) in open.into_iter().enumerate() {
        connection.shutdown().await.unwrap();
        let mut back = Vec::new();
        let reading = timeout(PATIENCE, connection.read_to_end(&mut back)).await;
        reading.expect("comes back").unwrap();
        assert!(back == bytes[number..5000 + number], "{number}");
    }
    for (port, wanted) in [(local[1], "100000"), (local[2], "bye")] {
        let mut connection = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        if wanted != "bye" {
            connection.write_all(&bytes).await.unwrap();
            connection.shutdown().await.unwrap();
        }
        let mut back = String::new();
        let reading = timeout(PATIENCE, connection.read_to_string(&mut back)).await;
        reading.expect("comes back").unwrap();
        assert_eq!(back, wanted);
    }
    assert!(child.try_wait().unwrap().is_none(), "it still forwards");
    let open = TcpStream::connect(("127.0.0.1", local[0])).await.unwrap();
    alive(world, 1).await;
    child.kill().await.unwrap();
    alive(world, 0).await;
    drop(open);
    // kubectl itself ends when one fails.
    let (child, local) = forwarding(kubectl, &[7777]).await;
    let _open = TcpStream::connect(("127.0.0.1", local[0])).await.unwrap();
    let output = timeout(PATIENCE, child.wait_with_output()).await;
    let output = output.expect("ends").unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    let pod = format!("web_{NAMESPACE}, uid {uid}");
    let words = format!("error forwarding port 7777 to pod {pod}: connection refused");
    assert!(text.contains(&words), "{text}");
}

/// Whoever is in a session when the node's process ends learns that it failed.
pub async fn stops(plane: &Arc<ControlPlane>, world: &mut World) {
    world.create(&world.pod("last", "Always")).await;
    world.running("last").await;
    let kubectl = Kubectl {
        plane,
        environment: &[],
    };
    let last = kubectl.command(&["exec", "last", "--", "wait"]);
    let cut = tokio::spawn(ended(last, b""));
    alive(world, 1).await;
    world.stop().await;
    let cut = cut.await.unwrap();
    assert_eq!(cut.code, Some(1), "{cut:?}");
    assert!(cut.stderr.contains("is stopping"), "{cut:?}");
}
