//! The Dockerfile on a real engine: Docker's, started here on a socket, a network and a
//! data folder of its own, so that no other engine of the machine is touched.

use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::harness::process::Process;
use crate::{file, run};

/// For an engine to start on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
const IMAGE: &str = "vk-flightctl-provider:latest";
/// Where the test's name server listens: loopback, and nobody else's.
const NAMES: &str = "127.0.0.77";

struct Engine {
    daemon: Process,
    folder: tempfile::TempDir,
}

impl Engine {
    fn start() -> Option<Self> {
        let said = Command::new("id").arg("-u").output().ok()?.stdout;
        if said != b"0\n" {
            println!("SKIPPED: the image on a real engine (a Docker daemon needs root)");
            return None;
        }
        if Command::new("dockerd").arg("--version").output().is_err() {
            println!("SKIPPED: the image on a real engine (no dockerd: Debian's docker.io)");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).display().to_string();
        let mut command = Command::new("dockerd");
        command
            .args(["--host", &format!("unix://{}", at("socket"))])
            .args(["--data-root", &at("data"), "--exec-root", &at("exec")])
            .args(["--pidfile", &at("pid"), "--config-file", &at("daemon.json")])
            // Works on any file system; no network of the machine is changed.
            .args(["--storage-driver", "vfs", "--bridge", "none"])
            .args([
                "--iptables=false",
                "--ip6tables=false",
                "--ip-forward=false",
            ]);
        std::fs::write(folder.path().join("daemon.json"), "{}").unwrap();
        let daemon = Process::start(folder.path(), "dockerd", &mut command);
        let mut engine = Self { daemon, folder };
        let begun = Instant::now();
        while !engine
            .docker(&["version"])
            .output()
            .unwrap()
            .status
            .success()
        {
            engine.daemon.assert_alive();
            let late = begun.elapsed() > PATIENCE;
            assert!(!late, "no engine:\n{}", engine.daemon.log());
            std::thread::sleep(Duration::from_millis(100));
        }
        Some(engine)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn docker(&self, args: &[&str]) -> Command {
        let mut command = Command::new("docker");
        command
            .args(args)
            .env(
                "DOCKER_HOST",
                format!("unix://{}", self.path("socket").display()),
            )
            .env("DOCKER_CONFIG", self.path("client"))
            // What every engine has; the Dockerfile needs no more.
            .env("DOCKER_BUILDKIT", "0");
        command
    }

    /// `docker run` as the Deployment confines the container.
    fn contained(&self, options: &[&str], args: &[&str]) -> Command {
        let confined = [
            "run",
            "--rm",
            "--read-only",
            "--cap-drop=ALL",
            "--security-opt=no-new-privileges",
        ];
        self.docker(&[&confined, options, &[IMAGE], args].concat())
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // It ends its containers and its containerd, and unmounts all but this.
        self.daemon.end("-TERM");
        let network = self.path("exec/netns/default");
        if network.exists() {
            let _ = Command::new("umount").arg(network).status();
        }
    }
}

/// The context as `make image` sends it, with the program that was built for it.
fn context(folder: &Path, bin: &Path) {
    for name in ["Dockerfile", ".dockerignore"] {
        std::fs::write(folder.join(name), file(name)).unwrap();
    }
    // Never sent.
    std::fs::write(folder.join("secret"), "secret").unwrap();
    std::fs::create_dir(folder.join("bin")).unwrap();
    let program = "vk-flightctl-provider";
    std::fs::copy(bin.join(program), folder.join("bin").join(program)).unwrap();
}

/// Says of the first name that it is asked for that there is none, and tells it.
fn name_server() -> std::thread::JoinHandle<String> {
    let socket = UdpSocket::bind((NAMES, 53)).expect("root may bind port 53 of loopback");
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    std::thread::spawn(move || {
        let mut name = String::new();
        // Its two kinds of addresses are asked for at once.
        for _ in 0..2 {
            let mut packet = [0; 512];
            let (length, asker) = socket.recv_from(&mut packet).expect("a name is asked for");
            // The question as it came, with the bits of an answer: no such name.
            packet[2..4].copy_from_slice(&[0x81, 0x83]);
            let _ = socket.send_to(&packet[..length], asker);
            let letters = packet[12..length].iter().take_while(|byte| **byte != 0);
            let letter = |byte: &u8| {
                if byte.is_ascii_graphic() {
                    char::from(*byte)
                } else {
                    '.'
                }
            };
            name = letters.map(letter).collect();
        }
        name
    })
}

#[test]
fn the_image_starts_confined_and_asks_for_names_and_trusts_mozilla() {
    let Some(bin) = std::env::var_os("VK_BIN") else {
        println!("SKIPPED: the image on a real engine (run make test-real, which sets VK_BIN)");
        return;
    };
    let Some(engine) = Engine::start() else {
        return;
    };
    let sent = engine.path("context");
    std::fs::create_dir(&sent).unwrap();
    context(&sent, Path::new(&bin));
    run(engine.docker(&["build", "--tag", IMAGE]).arg(&sent));

    let said = run(&mut engine.contained(&["--network=none"], &["--version"]));
    let version = format!("vk-flightctl-provider {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(said, version);
    let inspected = run(&mut engine.docker(&["inspect", "--format={{.Config.User}}", IMAGE]));
    assert_eq!(inspected, "65532:65532\n");
    run(&mut engine.docker(&["create", "--name=files", "--network=none", IMAGE]));
    let archive = engine.path("files.tar");
    run(engine
        .docker(&["export", "files", "--output"])
        .arg(&archive));
    let list = run(Command::new("tar")
        .arg("--list")
        .arg("--file")
        .arg(&archive));
    let files: Vec<&str> = list
        .lines()
        .filter(|name| name.contains("bin/") && !name.ends_with('/'))
        .collect();
    assert_eq!(files, ["usr/local/bin/vk-flightctl-provider"], "{list}");
    assert!(!list.contains("secret"), "{list}");

    let config = engine.path("config");
    std::fs::create_dir(&config).unwrap();
    std::fs::write(config.join("config.yaml"), file("config/quickstart.yaml")).unwrap();
    let kubeconfig = "{apiVersion: v1, kind: Config, current-context: t, \
        clusters: [{name: t, cluster: {server: 'http://kubernetes.vk.test:9'}}], \
        contexts: [{name: t, context: {cluster: t, user: t}}], \
        users: [{name: t, user: {token: t}}]}";
    std::fs::write(config.join("kubeconfig"), kubeconfig).unwrap();
    // Of user 65532 in the container, whom the folder of a test is closed to.
    run(Command::new("chmod").args(["-R", "a+rX"]).arg(&config));
    let mount = format!("--volume={}:/etc/vk-flightctl:ro", config.display());
    let options = [
        mount.as_str(),
        "--env=FLIGHTCTL_API_URL=https://flightctl.vk.test:9",
        "--env=FLIGHTCTL_AUTH_TOKEN=token",
        "--env=KUBECONFIG=/etc/vk-flightctl/kubeconfig",
    ];
    let args = [
        "--config=/etc/vk-flightctl/config.yaml",
        "--validate-config",
    ];
    let said = run(&mut engine.contained(&[&options[..], &["--network=none"]].concat(), &args));
    assert_eq!(said, "configuration is valid\n");

    // It has certificate authorities, or it would end, and asks DNS.
    let asked = name_server();
    let dns = format!("--dns={NAMES}");
    let network = ["--name=provider", "--network=host", dns.as_str()];
    let options = [&options[..], &network].concat();
    let listen = engine.path("config/config.yaml");
    let text = file("config/quickstart.yaml") + "listen: 127.0.0.1:0\n";
    std::fs::write(listen, text).unwrap();
    let mut command = engine.contained(&options, &args[..1]);
    let mut provider = Process::start(engine.folder.path(), "provider", &mut command);
    let name = asked
        .join()
        .unwrap_or_else(|_| panic!("{}", provider.log()));
    assert_eq!(name, ".kubernetes.vk.test", "{}", provider.log());
    let begun = Instant::now();
    while !provider.log().contains("Kubernetes does not answer") {
        provider.assert_alive();
        assert!(begun.elapsed() < PATIENCE, "{}", provider.log());
        std::thread::sleep(Duration::from_millis(50));
    }
    // As a kubelet ends it.
    run(&mut engine.docker(&["stop", "-t", "10", "provider"]));
    assert!(provider.log().contains("stopping"), "{}", provider.log());
}
