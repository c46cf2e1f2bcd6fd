//! kubectl, as one way to the node has it, with pipes or on a terminal.

use std::process::Stdio;
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};

use super::Cluster;
use crate::rig::{NODE, escaped, in_time};
use crate::screen::Screen;

/// How clients come to the node, and the pods to which they go.
#[derive(Clone, Copy)]
pub struct Way {
    pub namespace: &'static str,
    pub environment: &'static [(&'static str, &'static str)],
    /// What a session begins with: a WebSocket with GET, SPDY with POST.
    pub verb: &'static str,
}

#[derive(Clone)]
pub struct Kubectl {
    pub cluster: Arc<Cluster>,
    pub way: Way,
}

/// What one printed, and its exit code.
#[derive(Debug)]
pub struct Printed {
    pub code: Option<i32>,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

impl Printed {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
}

/// A container that runs this script, with these fields beside.
pub fn container(name: &str, script: &str, fields: Value) -> Value {
    let mut container = json!({"name": name, "image": "none",
        "command": ["sh", "-c", escaped(script)]});
    if let (Some(all), Value::Object(fields)) = (container.as_object_mut(), fields) {
        all.extend(fields);
    }
    container
}

impl Kubectl {
    pub async fn new(cluster: &Arc<Cluster>, way: Way) -> Self {
        let kubectl = Self {
            cluster: cluster.clone(),
            way,
        };
        let args = ["create", "namespace", way.namespace];
        let made = kubectl.run(&args, b"").await;
        assert_eq!(made.code, Some(0), "{made:?}");
        kubectl
    }

    /// Until the certificate is shown there: the first command gets through, this way.
    pub async fn reaches_the_node(&self) {
        self.starts(
            "first",
            "Always",
            json!([container("app", "exec sleep 100000", json!({}))]),
        )
        .await;
        self.until("an exec gets through", async || {
            let printed = self
                .run(&["exec", "first", "-v=6", "--", "true"], b"")
                .await;
            let begun = format!("verb=\"{}\"", self.way.verb);
            let upgraded = |line: &str| line.contains("/exec?") && line.contains("status=\"101 ");
            let mut lines = printed.stderr.lines();
            let begun = lines.any(|line| upgraded(line) && line.contains(&begun));
            // A certificate that comes between kubectl's two tries lets the other one
            // through.
            (printed.code == Some(0) && begun).then_some(())
        })
        .await;
    }

    /// In the way's namespace, with its protocols.
    fn std_command(&self, args: &[&str]) -> std::process::Command {
        let args = [&["-n", self.way.namespace], args].concat();
        let mut command = self.cluster.plane.kubectl_command(&args);
        command.envs(self.way.environment.iter().copied());
        command
    }

    /// With pipes; it ends with its handle.
    pub fn start(&self, args: &[&str]) -> Child {
        let mut command: Command = self.std_command(args).into();
        let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let piped = piped.stderr(Stdio::piped()).kill_on_drop(true);
        piped.spawn().unwrap()
    }

    /// Its end, after this input.
    pub async fn run(&self, args: &[&str], input: &[u8]) -> Printed {
        ended(self.start(args), input).await
    }

    /// `kubectl exec`, in the container `app`.
    pub async fn exec(&self, pod: &str, flags: &[&str], command: &[&str], input: &[u8]) -> Printed {
        let args = [&["exec", pod, "-c", "app"], flags, &["--"], command].concat();
        self.run(&args, input).await
    }

    pub fn on_a_terminal(&self, args: &[&str]) -> Screen {
        Screen::of(&self.std_command(args))
    }

    /// Creates a pod and waits until it runs.
    pub async fn starts(&self, name: &str, restart: &str, containers: Value) {
        self.creates(name, restart, containers).await;
        self.waits(name, "jsonpath={.status.phase}=Running").await;
    }

    pub async fn creates(&self, name: &str, restart: &str, containers: Value) {
        let manifest = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
            "spec": {"nodeName": NODE, "restartPolicy": restart,
                "terminationGracePeriodSeconds": 1, "containers": containers},
        });
        let manifest = manifest.to_string();
        // A new namespace is without an account for its pods for a moment.
        self.until("the pod is created", async || {
            let applied = self.run(&["create", "-f", "-"], manifest.as_bytes()).await;
            (applied.code == Some(0)).then_some(())
        })
        .await;
    }

    /// `kubectl wait --for`.
    pub async fn waits(&self, pod: &str, what: &str) {
        let what = format!("--for={what}");
        let args = ["wait", "pod", pod, &what, "--timeout=60s"];
        let waited = self.run(&args, b"").await;
        assert_eq!(waited.code, Some(0), "{waited:?}");
    }

    /// What comes by and by and nothing tells of.
    pub async fn until<T>(&self, what: &str, look: impl AsyncFn() -> Option<T>) -> T {
        let looking = async {
            loop {
                if let Some(found) = look().await {
                    return found;
                }
                tokio::time::sleep(std::time::Duration::from_millis(200)).await;
            }
        };
        let patience = std::time::Duration::from_secs(60);
        let found = tokio::time::timeout(patience, looking).await;
        found.unwrap_or_else(|_| panic!("never: {what}"))
    }

    /// How many sessions of one kind the API server passed on as they are, and how many
    /// it translated.
    pub async fn routed(&self, what: &str) -> (u64, u64) {
        let text = self.run(&["get", "--raw", "/metrics"], b"").await.text();
        let of = |kind: &str| {
            let name = format!(
                "apiserver_websocket_streaming_requests_total{{proxy_type=\"{kind}\",subresource=\"{what}\"}} "
            );
            let value = text.lines().find_map(|line| line.strip_prefix(&name));
            value.map_or(0, |value| value.parse().unwrap())
        };
        (of("proxied_to_kubelet"), of("translated_at_apiserver"))
    }
}

/// What one printed until its end, after this input.
pub async fn ended(mut child: Child, input: &[u8]) -> Printed {
    let stdin = child.stdin.take();
    let writing = async {
        if let Some(mut stdin) = stdin {
            // It may end without reading.
            let _ = stdin.write_all(input).await;
        }
    };
    let ending = async { tokio::join!(child.wait_with_output(), writing).0 };
    let output = in_time(ending).await.unwrap();
    Printed {
        code: output.status.code(),
        stdout: output.stdout,
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

pub type Lines = tokio::io::Lines<BufReader<ChildStdout>>;

/// What it prints, line by line.
pub fn lines(child: &mut Child) -> Lines {
    BufReader::new(child.stdout.take().unwrap()).lines()
}

pub async fn next(lines: &mut Lines) -> String {
    let line = in_time(lines.next_line()).await.unwrap();
    line.expect("it prints no more")
}

/// Waits until it prints this.
pub async fn prints(from: &mut ChildStderr, wanted: &str) {
    let mut seen = Vec::new();
    while !String::from_utf8_lossy(&seen).contains(wanted) {
        seen.push(in_time(from.read_u8()).await.unwrap());
    }
}
