//! The world around the example, as the conformance kit wants it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use vk_provider::conformance::{Fixture, Record, Trouble};
use vk_provider::{Backend, Uid};

use crate::backend::{Memory, NODE};
use crate::remote::{Remote, STUBBORN};

/// One round of the kit's patience.
const ROUND: Duration = Duration::from_secs(5);

/// Makes the backend of a process that starts now.
pub type Start = Box<dyn Fn(Remote) -> Arc<dyn Backend> + Send + Sync>;

/// A remote, and backends over it.
pub struct World {
    remote: Remote,
    start: Start,
}

impl World {
    /// With the backend of the example.
    pub fn new() -> Self {
        Self::with(Box::new(|remote| Arc::new(Memory(remote))))
    }

    /// With another one over the same kind of remote.
    pub fn with(start: Start) -> Self {
        Self {
            remote: Remote::new(),
            start,
        }
    }
}

#[async_trait]
impl Fixture for World {
    async fn start(&self) -> Arc<dyn Backend> {
        (self.start)(self.remote.clone())
    }

    fn pod(&self, name: &str) -> Pod {
        Pod {
            metadata: ObjectMeta {
                namespace: Some("default".into()),
                name: Some(name.into()),
                ..ObjectMeta::default()
            },
            spec: Some(PodSpec {
                node_name: Some(NODE.into()),
                containers: vec![Container {
                    name: "main".into(),
                    image: Some("first".into()),
                    ..Container::default()
                }],
                ..PodSpec::default()
            }),
            status: None,
        }
    }

    fn updated(&self, pod: &Pod) -> Pod {
        with_image(pod, "second")
    }

    fn stubborn(&self, pod: &Pod) -> Option<Pod> {
        Some(with_image(pod, STUBBORN))
    }

    async fn pass(&self) {
        self.remote.pass(ROUND);
        tokio::time::sleep(ROUND).await;
    }

    fn now(&self) -> Timestamp {
        self.remote.now()
    }

    fn record(&self, uid: &Uid) -> Record {
        self.remote.record(uid.as_str())
    }

    async fn exit(&self, uid: &Uid) -> bool {
        self.remote.exit(uid.as_str());
        true
    }

    async fn trouble(&self, trouble: Trouble, on: bool) -> bool {
        self.remote.trouble(trouble, on);
        true
    }
}

fn with_image(pod: &Pod, image: &str) -> Pod {
    let mut pod = pod.clone();
    for container in pod.spec.iter_mut().flat_map(|spec| &mut spec.containers) {
        container.image = Some(image.into());
    }
    pod
}
