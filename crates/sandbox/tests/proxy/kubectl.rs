//! kubectl's own words, over loopback: `make test-real` says where it is.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use k8s_openapi::api::core::v1::Pod;
use serde_json::json;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;
use vk_sandbox::kubernetes::kubeconfig;
use vk_sandbox::{tls, transport};

use super::World;
use super::streams::EXTENDS;

struct Kubectl {
    program: PathBuf,
    folder: TempDir,
    /// kubectl speaks SPDY where it is told so.
    websockets: &'static str,
    _stop: tokio_util::sync::DropGuard,
}

impl Kubectl {
    /// For this world, which it opens on loopback.
    async fn new(tools: &Path, world: &World, websockets: &'static str) -> Self {
        let tls = tls::loopback().unwrap();
        let address = ([127, 0, 0, 1], 0).into();
        let listener = transport::loopback(address).await.unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let folder = tempfile::tempdir().unwrap();
        let text = kubeconfig::text(&url, &tls.ca_pem, "secret");
        std::fs::write(folder.path().join("kubeconfig"), text).unwrap();
        let stop = CancellationToken::new();
        let endpoint = world.cluster.endpoint();
        tokio::spawn(endpoint.listen(listener, Some(tls.acceptor), stop.clone()));
        Self {
            program: tools.join("kubectl"),
            folder,
            websockets,
            _stop: stop.drop_guard(),
        }
    }

    fn start(&self, args: &[&str]) -> Child {
        Command::new(&self.program)
            .args(args)
            .env("KUBECONFIG", self.folder.path().join("kubeconfig"))
            .env("HOME", self.folder.path())
            .env("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", self.websockets)
            .env("KUBECTL_PORT_FORWARD_WEBSOCKETS", self.websockets)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap()
    }

    /// Exit code, output and error output.
    async fn run(&self, args: &[&str], input: &str) -> (i32, String, String) {
        let mut child = self.start(args);
        let mut stdin = child.stdin.take().unwrap();
        // It may not want any.
        let _ = stdin.write_all(input.as_bytes()).await;
        drop(stdin);
        let ended = child.wait_with_output();
        let ended = tokio::time::timeout(std::time::Duration::from_secs(60), ended).await;
        let ended = ended.expect("kubectl ends within a minute").unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (
            ended.status.code().unwrap(),
            text(ended.stdout),
            text(ended.stderr),
        )
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_gets_along_with_it_in_every_protocol() {
    let Some(tools) = std::env::var_os("VK_TOOLS").map(PathBuf::from) else {
        println!("SKIPPED: kubectl over the sandbox (run make test-real, which sets VK_TOOLS)");
        return;
    };
    for (features, websockets, method) in [
        (&[][..], "true", "POST"),
        (&[EXTENDS], "true", "GET"),
        (&[], "false", "POST"),
    ] {
        let world = World::with(features).await;
        let running = json!({"status": {"phase": "Running"}});
        world
            .cluster
            .patch_status::<Pod>("default", "web", &running)
            .unwrap();
        let kubectl = Kubectl::new(&tools, &world, websockets).await;
        let said = format!("{features:?}, WebSocket {websockets}");
        sessions(&kubectl, &said).await;
        assert_eq!(world.node.last().method, method, "{said}");
        forwarded(&kubectl, &said).await;
        assert_eq!(world.node.last().method, method, "{said}");
    }
    let world = World::new().await;
    let kubectl = Kubectl::new(&tools, &world, "true").await;
    objects(&kubectl).await;
}

async fn sessions(kubectl: &Kubectl, said: &str) {
    let in_app = ["exec", "-i", "web", "-c", "app", "--", "7"];
    let (code, out, err) = kubectl.run(&in_app, "hello").await;
    assert_eq!((code, &*out), (7, "hello"), "{said}: {err}");
    assert!(err.starts_with("done"), "{said}: {err}");
    let (code, _, err) = kubectl
        .run(&["exec", "web", "-c", "silent", "--", "0"], "")
        .await;
    assert!(code != 0 && err.contains("no exec here"), "{said}: {err}");
    let (code, out, err) = kubectl
        .run(&["logs", "web", "-c", "app", "--tail=2"], "")
        .await;
    assert_eq!((code, &*out), (0, "one\ntwo\n"), "{said}: {err}");
    let (code, out, _) = kubectl
        .run(&["exec", "web", "-c", "app", "--", "0"], "")
        .await;
    assert_eq!((code, &*out), (0, ""), "{said}");
}

async fn forwarded(kubectl: &Kubectl, said: &str) {
    let mut child = kubectl.start(&["port-forward", "web", ":80"]);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = lines.next_line().await.unwrap().expect(said);
    let port = line
        .strip_prefix("Forwarding from 127.0.0.1:")
        .expect(&line);
    let port = port.split_once(' ').unwrap().0.parse().unwrap();
    for words in ["hello", "again"] {
        let mut local = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        local.write_all(words.as_bytes()).await.unwrap();
        local.shutdown().await.unwrap();
        let mut heard = String::new();
        local.read_to_string(&mut heard).await.unwrap();
        assert_eq!(heard, format!("80: {words}"), "{said}");
    }
    child.kill().await.unwrap();
}

/// What users do beside looking into pods.
async fn objects(kubectl: &Kubectl) {
    let manifest = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "new"},
        "spec": {"nodeName": "edge", "containers": [{"name": "app", "image": "x"}]}})
    .to_string();
    for (args, input, wanted) in [
        (&["apply", "-f", "-"][..], &*manifest, "pod/new created"),
        (&["apply", "-f", "-"], &manifest, "pod/new unchanged"),
        (&["get", "pods", "-o", "wide"], "", "edge"),
        (&["get", "nodes", "-o", "wide"], "", "127.0.0.1"),
        (&["describe", "pod", "new"], "", "Image:"),
        (&["describe", "node", "edge"], "", "Non-terminated Pods:"),
        (&["api-resources"], "", "pods"),
        (
            &["delete", "pod", "new", "--force", "--timeout=30s"],
            "",
            "force deleted",
        ),
        (
            &["get", "--raw", "/api/v1/nodes/edge/proxy/stats/summary"],
            "",
            "numbers",
        ),
    ] {
        let (code, out, err) = kubectl.run(args, input).await;
        assert_eq!(code, 0, "{args:?}: {err}");
        assert!(out.contains(wanted), "{args:?}: {out}");
    }
    for (args, input, words) in [
        (
            &["apply", "--server-side", "-f", "-"][..],
            &*manifest,
            "does not implement server-side apply",
        ),
        (
            &["apply", "-f", "-"],
            &manifest.replace("image", "imag"),
            "unknown field \"spec.containers[0].imag\"",
        ),
        (
            &["create", "deployment", "d", "--image=x"],
            "",
            "accepted media types include: application/json",
        ),
    ] {
        let (code, _, err) = kubectl.run(args, input).await;
        assert!(code != 0 && err.contains(words), "{args:?}: {err}");
    }
}
