//! The conformance kit over real processes. They outlive a backend that is dropped
//! as a process would be, because the world is not: this is about everything else.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;
use tempfile::TempDir;
use tokio::time::timeout;
use vk_provider::conformance::{CHECKS, Fixture, Halt, Record};
use vk_provider::{Backend, PodKey, Uid};

use super::processes::Processes;
use super::rig::{NODE, backend};

/// One round of the kit's patience ends when nothing has happened for so long.
const ROUND: Duration = Duration::from_millis(100);
/// Or when it has lasted so long.
const LONG_ROUND: Duration = Duration::from_secs(5);

/// Writes down its number and how many ran already; then waits for the end of its
/// input.
const COUNTED: &str = r#"
file=$RECORDS/$UID_OF_POD
for pid in $(cat "$file" 2>/dev/null); do [ -d "/proc/$pid" ] && echo "$pid" >>"$file.beside"; done
echo $$$$ >>"$file"
exec cat
"#;

/// The same, and heeds no TERM.
const STUBBORN: &str = "trap '' TERM\n";

struct World {
    backend: Processes,
    records: TempDir,
}

impl World {
    fn file(&self, uid: &Uid) -> PathBuf {
        self.records.path().join(uid.as_str())
    }

    fn container(&self, image: &str, script: &str) -> serde_json::Value {
        json!({
            "name": "main", "image": image, "command": ["sh", "-c", script],
            "stdin": true, "stdinOnce": true,
            "env": [
                {"name": "RECORDS", "value": self.records.path()},
                {"name": "UID_OF_POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}},
            ],
        })
    }

    fn with(&self, pod: &Pod, image: &str, script: &str) -> Pod {
        let mut pod = pod.clone();
        let container = serde_json::from_value(self.container(image, script)).unwrap();
        pod.spec.as_mut().unwrap().containers = vec![container];
        pod
    }
}

#[async_trait]
impl Fixture for World {
    async fn start(&self) -> Arc<dyn Backend> {
        Arc::new(self.backend.clone())
    }

    fn pod(&self, name: &str) -> Pod {
        let pod = json!({
            "metadata": {"namespace": "default", "name": name},
            "spec": {"nodeName": NODE, "containers": []},
        });
        self.with(&serde_json::from_value(pod).unwrap(), "first", COUNTED)
    }

    fn updated(&self, pod: &Pod) -> Pod {
        self.with(pod, "second", COUNTED)
    }

    fn stubborn(&self, pod: &Pod) -> Option<Pod> {
        Some(self.with(pod, "first", &(STUBBORN.to_owned() + COUNTED)))
    }

    async fn pass(&self) {
        let mut changes = self.backend.changes();
        let quiet = async { while timeout(ROUND, changes.next()).await.is_ok() {} };
        let _ = timeout(LONG_ROUND, quiet).await;
    }

    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn record(&self, uid: &Uid) -> Record {
        let read = |file: PathBuf| std::fs::read_to_string(file).unwrap_or_default();
        let started = read(self.file(uid));
        let pids: Vec<&str> = started.lines().collect();
        // Dead ones have no environment, also those that nobody has waited for.
        let alive = |pid: &&&str| {
            let environment = std::fs::read(format!("/proc/{pid}/environ"));
            let environment = environment.unwrap_or_default();
            let uid = uid.as_str().as_bytes();
            environment.windows(uid.len()).any(|part| part == uid)
        };
        let running = pids.iter().filter(alive).count() as u32;
        let beside = !read(self.file(uid).with_extension("beside")).is_empty();
        Record {
            starts: pids.len() as u32,
            running,
            most_at_once: running.max(u32::from(!pids.is_empty())) + u32::from(beside),
        }
    }

    async fn exit(&self, uid: &Uid) -> bool {
        self.backend
            .close_input(&PodKey::new("default", "it", uid.as_str()))
            .await;
        true
    }
}

#[tokio::test]
async fn processes_keep_every_rule_that_can_be_tried_on_them() {
    let Some(backend) = backend().await else {
        return;
    };
    let world = World {
        backend,
        records: TempDir::new().unwrap(),
    };
    let mut broken = Vec::new();
    // A container has no files of its own that an object could reach.
    let tried = CHECKS.iter().filter(|c| !c.name.starts_with("inputs::"));
    for check in tried {
        match (check.run)(&world).await {
            Ok(()) => {}
            // A machine has no outage, and is one place.
            Err(Halt::NotRun { lacks }) if lacks.starts_with("Trouble::") => {}
            Err(halt) => broken.push(format!("{}: {halt}", check.name)),
        }
    }
    world.backend.end().await;
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}
