//! Files of pods, where a backend wants what they are made from: beside the
//! remote, as on its machines, for every process.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use vk_provider::conformance::{Fixture, Record, Trouble};
use vk_provider::environment::Placement;
use vk_provider::volumes::Volume;
use vk_provider::{Backend, PodRequest, RenderError, Uid};

use crate::faulty::{Fault, Faulty};
use crate::fixture::World;

/// By path in the container.
pub type Files = BTreeMap<String, Vec<u8>>;

/// The files of every pod.
pub type Shelf = Arc<Mutex<HashMap<Uid, Files>>>;

/// What the only container of a pod reads.
pub fn files(pod: &PodRequest) -> Result<Files, RenderError> {
    let rendered = pod.render(&Placement::default(), &[])?;
    let mut files = Files::new();
    for mount in rendered.containers.iter().flat_map(|c| &c.mounts) {
        if let Some(Volume::Files(volume)) = rendered.payload.volumes.get(&mount.volume) {
            for (path, file) in &volume.files {
                let path = format!("{}/{path}", mount.mount_path);
                files.insert(path, file.content.bytes().to_vec());
            }
        }
    }
    Ok(files)
}

/// The example's world, with a shelf.
pub struct Shelved {
    world: World,
    shelf: Shelf,
}

impl Shelved {
    pub fn new(fault: Fault) -> Self {
        let shelf = Shelf::default();
        let shared = shelf.clone();
        let start = move |remote| -> Arc<dyn Backend> {
            Arc::new(Faulty::new(remote, fault).with_shelf(shared.clone()))
        };
        Self {
            world: World::with(Box::new(start)),
            shelf,
        }
    }
}

#[async_trait]
impl Fixture for Shelved {
    async fn start(&self) -> Arc<dyn Backend> {
        self.world.start().await
    }

    fn pod(&self, name: &str) -> Pod {
        self.world.pod(name)
    }

    fn updated(&self, pod: &Pod) -> Pod {
        self.world.updated(pod)
    }

    fn stubborn(&self, pod: &Pod) -> Option<Pod> {
        self.world.stubborn(pod)
    }

    async fn pass(&self) {
        self.world.pass().await;
    }

    fn now(&self) -> Timestamp {
        self.world.now()
    }

    fn record(&self, uid: &Uid) -> Record {
        self.world.record(uid)
    }

    fn reads(&self, uid: &Uid, path: &str) -> Option<Option<Vec<u8>>> {
        let shelf = self.shelf.lock().unwrap();
        Some(shelf.get(uid).and_then(|files| files.get(path).cloned()))
    }

    async fn exit(&self, uid: &Uid) -> bool {
        self.world.exit(uid).await
    }

    async fn trouble(&self, trouble: Trouble, on: bool) -> bool {
        self.world.trouble(trouble, on).await
    }
}
