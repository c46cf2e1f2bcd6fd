//! A backend, pods for it, and events to wait for.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::retry_on_intr;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde_json::{Value, json};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use vk_provider::{
    Backend, BackendError, Change, Clock, Inputs, Journal, LogItem, LogQuery, Logs, PodChange,
    PodCx, PodEvents, PodFacts, PodKey, PodRequest, Revision, Terminated,
};

use super::processes::Processes;

pub const NODE: &str = "mock-0";
/// Nothing here takes long; a test that waits for ever tells nothing.
const PATIENCE: Duration = Duration::from_secs(60);

static NEXT: AtomicU64 = AtomicU64::new(1);

pub async fn in_time<T>(what: impl Future<Output = T>) -> T {
    timeout(PATIENCE, what).await.expect("it never happens")
}

/// `None` where it cannot be, with a line that says so.
pub async fn backend() -> Option<Processes> {
    let started = Processes::start("mock", 1, Ipv4Addr::LOCALHOST.into(), Clock::live());
    match started.await {
        Ok(started) => Some(started),
        Err(error) if std::env::var_os("VK_TOOLS").is_none() => {
            println!("SKIPPED: processes: {error}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// A pod with this container, `main` if it has no name, and this command.
pub fn pod(command: &[&str], container: Value) -> PodRequest {
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let mut main = json!({"name": "main", "image": "none", "command": command});
    let Value::Object(fields) = container else {
        panic!("{container} is no object");
    };
    for (field, value) in fields {
        main[field] = value;
    }
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"namespace": "default", "name": format!("pod-{number}"),
            "uid": format!("00000000-0000-4000-8000-{number:012x}")},
        "spec": {"nodeName": NODE, "containers": [main]},
    }))
    .unwrap();
    request(pod)
}

pub fn request(pod: Pod) -> PodRequest {
    let spec = pod.spec.as_ref().unwrap();
    PodRequest {
        key: PodKey::of(&pod).unwrap(),
        node: NODE.into(),
        spec_revision: Revision::of(spec),
        pod: Arc::new(pod),
        change: PodChange::First,
        journal: None,
        inputs: Arc::new(Inputs::default()),
    }
}

/// A shell's script as a command.
pub fn script(text: &str) -> PodRequest {
    pod(&["sh", "-c", &escaped(text)], json!({}))
}

/// In commands of containers, `$$` is `$`.
pub fn escaped(text: &str) -> String {
    text.replace("$$", "$$$$")
}

pub fn context() -> PodCx {
    PodCx {
        events: Arc::new(Nobody),
        journal: Arc::new(Nobody),
        cancel: CancellationToken::new(),
    }
}

struct Nobody;

impl PodEvents for Nobody {
    fn normal(&self, _: &str, _: &str) {}
    fn warning(&self, _: &str, _: &str) {}
}

#[async_trait]
impl Journal for Nobody {
    async fn persist(&self, _: &str) -> Result<(), BackendError> {
        Ok(())
    }
}

impl Processes {
    /// The pod is started.
    pub async fn starts(&self, pod: &PodRequest) -> PodKey {
        self.ensure(pod, &context()).await.unwrap();
        pod.key.clone()
    }

    /// The pod's facts as soon as they say this; those of now count too.
    pub async fn until(&self, pod: &PodKey, is: impl Fn(&PodFacts) -> bool) -> PodFacts {
        let mut changes = self.changes();
        let listing = self.list().await.unwrap();
        if let Some(facts) = listing.pods.into_iter().find(|f| f.key == *pod && is(f)) {
            return facts;
        }
        let told = async {
            while let Some(change) = changes.next().await {
                match change {
                    Change::Facts(facts) if facts.key == *pod && is(&facts) => return *facts,
                    _ => {}
                }
            }
            panic!("the stream of changes ends")
        };
        in_time(told).await
    }

    /// How the pod's only container ended, when it has.
    pub async fn end_of(&self, pod: &PodKey) -> Terminated {
        let facts = self.until(pod, |facts| facts.ended).await;
        end(&facts)
    }

    /// The whole log, when it is complete.
    pub async fn whole_log(&self, pod: &PodKey) -> String {
        let log = self.open(&query(pod, true, false)).await.unwrap();
        let chunks = in_time(log.items.collect::<Vec<_>>()).await;
        chunks
            .into_iter()
            .map(|item| text(&item.unwrap()))
            .collect()
    }

    /// What the container wrote up to the end of its first line, without that.
    pub async fn first_line(&self, pod: &PodKey) -> String {
        self.log_until(pod, "\n")
            .await
            .lines()
            .next()
            .unwrap()
            .to_owned()
    }

    /// What the container wrote, as soon as it has this in it.
    pub async fn log_until(&self, pod: &PodKey, wanted: &str) -> String {
        let mut log = self.open(&query(pod, true, false)).await.unwrap();
        let mut all = String::new();
        while !all.contains(wanted) {
            let item = in_time(log.items.next()).await;
            all += &text(&item.expect("it never writes that").unwrap());
        }
        all
    }
}

pub fn query(pod: &PodKey, follow: bool, previous: bool) -> LogQuery {
    LogQuery {
        pod: pod.clone(),
        labels: Default::default(),
        container: "main".into(),
        previous,
        follow,
        since: None,
        tail: None,
    }
}

pub fn end(facts: &PodFacts) -> Terminated {
    let vk_provider::ContainerState::Terminated(end) = &facts.containers[0].state else {
        panic!("{facts:?}");
    };
    end.clone()
}

pub fn text(item: &LogItem) -> String {
    match item {
        LogItem::Written(chunk) => String::from_utf8(chunk.bytes.to_vec()).unwrap(),
        LogItem::Present => String::new(),
    }
}

/// Somebody's death.
pub struct Death(std::os::fd::OwnedFd);

impl Death {
    /// Of a process that is alive now.
    pub fn of(pid: &str) -> Self {
        let pid = Pid::from_raw(pid.trim().parse().unwrap()).unwrap();
        Self(pidfd_open(pid, PidfdFlags::empty()).unwrap())
    }

    pub async fn comes(self) {
        let patience = Timespec::try_from(PATIENCE).unwrap();
        // Signals of other children interrupt it.
        let wait = move || {
            retry_on_intr(|| poll(&mut [PollFd::new(&self.0, PollFlags::IN)], Some(&patience)))
        };
        let told = tokio::task::spawn_blocking(wait).await.unwrap();
        assert_eq!(told, Ok(1), "it lives on");
    }
}
