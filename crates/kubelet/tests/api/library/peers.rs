//! The two who are compared.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use futures::{FutureExt, StreamExt, stream};
use rustls::ClientConfig;
use serde_json::json;
use tempfile::TempDir;
use tokio::net::TcpStream;
use vk_provider::Clock;

use super::court::Played;
use super::record::Seen;
use super::scene::Scene;
use crate::harness::process::{Process, free_port};
use crate::processes::Processes;
use crate::served::Served;
use crate::suite::world::eventually;
use crate::wire::{Authority, Line, connect};

/// Scenes on a stage at once.
const AT_ONCE: usize = 16;
/// Theirs may lose what it told: it closes its socket with the client's bytes unread
/// in it, and the reset behind that takes along what the client has not read. What is
/// always so stays so.
const TRIES: usize = 4;

/// Where a client is let in.
pub struct Server {
    address: SocketAddr,
    config: ClientConfig,
}

impl Server {
    pub async fn line(&self) -> Line {
        connect(self.address, self.config.clone()).await.unwrap()
    }
}

pub struct Both {
    ours: Server,
    theirs: Server,
    served: Served,
    processes: Processes,
    /// Of our pod.
    pub uid: String,
    _peer: Peer,
    _folder: TempDir,
}

/// Theirs, whose log is shown when a test fails.
struct Peer(Process);

impl Drop for Peer {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("the kubelet's log:\n{}", self.0.log());
        }
    }
}

impl Both {
    /// `None` where theirs was not built, with a line that says so.
    pub async fn start() -> Option<Self> {
        let Some(built) = std::env::var_os("VK_CRI_STREAMING") else {
            println!(
                "SKIPPED: a kubelet's streams (run make test-real, which sets VK_CRI_STREAMING)"
            );
            return None;
        };
        let clock = Clock::live();
        let processes = Processes::start("api", 1, Ipv4Addr::LOCALHOST.into(), clock.clone());
        let processes = processes.await.unwrap();
        let served = Served::start(Arc::new(processes.clone()), clock, |_| {}).await;
        let command = ["sleep", "1000000"];
        let app = json!({"name": "app", "image": "none", "command": command});
        let uid = served.runs_pod("web", json!([app])).await;
        let client = served.clients.client("jane");
        let ours = Server {
            address: served.address,
            config: served.servers.config(Some(&client)),
        };
        let folder = tempfile::tempdir().unwrap();
        let (address, authority, peer) = kubelet(folder.path(), &PathBuf::from(built), &served);
        let theirs = Server {
            address,
            config: authority.config(Some(&client)),
        };
        let listens = async || TcpStream::connect(address).await.ok();
        eventually("the kubelet listens", listens).await;
        Some(Self {
            ours,
            theirs,
            served,
            processes,
            uid,
            _peer: Peer(peer),
            _folder: folder,
        })
    }

    /// The same to both, several scenes at once; each is over what stands before it.
    pub async fn play_all<'a>(
        &self,
        transport: &str,
        scenes: &'a [(&'a str, Scene)],
        play: impl AsyncFn(&Server, &str, &Scene) -> Seen,
    ) -> Vec<Played<'a>> {
        let scenes = stream::iter(scenes).map(async |(protocol, scene)| {
            let mut played = Played {
                over: format!("{transport} {protocol}").trim_end().into(),
                scene,
                ours: Seen::new(),
                theirs: Seen::new(),
            };
            let ours = async { played.ours = play(&self.ours, protocol, scene).await };
            let theirs = async { played.theirs = heard(play(&self.theirs, protocol, scene)).await };
            futures::future::join(ours, theirs).await;
            for _ in 1..TRIES {
                if played.differences().iter().all(Result::is_ok) {
                    break;
                }
                played.theirs = heard(play(&self.theirs, protocol, scene)).await;
            }
            played
        });
        scenes.buffered(AT_ONCE).collect().await
    }

    pub async fn end(self) {
        self.served.end().await;
        self.processes.end().await;
    }
}

/// Theirs, with a certificate of an authority of its own and the clients of ours.
fn kubelet(folder: &Path, built: &Path, served: &Served) -> (SocketAddr, Authority, Process) {
    let authority = Authority::new();
    let server = authority.server("127.0.0.1");
    let write = |name: &str, text: &str| {
        let path = folder.join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let programs = folder.join("programs");
    fs::create_dir(&programs).unwrap();
    let mut busybox = Command::new("busybox");
    let installed = busybox.args(["--install", "-s"]).arg(&programs).status();
    assert!(installed.expect("busybox is there").success());
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
    let mut command = Command::new(built.join("kubelet"));
    command
        .args(["-listen", &address.to_string()])
        .arg("-cert")
        .arg(write("server.crt", &server.certificate.pem()))
        .arg("-key")
        .arg(write("server.key", &server.key.serialize_pem()))
        .arg("-client-ca")
        .arg(write("clients.crt", &served.clients.pem))
        .arg("-programs")
        .arg(programs);
    (
        address,
        authority,
        Process::start(folder, "kubelet", &mut command),
    )
}

/// Nothing where not even an answer came: see [`TRIES`].
async fn heard(play: impl Future<Output = Seen>) -> Seen {
    let played = AssertUnwindSafe(play).catch_unwind().await;
    played.unwrap_or_default()
}
