//! What the pods of the in-memory remote are given.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use vk_provider::environment::{Environment, Placement};
use vk_provider::volumes::{Mount, Volume};
use vk_provider::{BackendError, InputNeeds, PodCx, PodRequest, PullCredentials, RenderedPod};

/// Everything.
pub const NEEDS: InputNeeds = InputNeeds {
    objects: true,
    services: true,
};

/// What the containers of one pod have.
#[derive(Clone, Debug)]
pub struct Given {
    /// How often they were started.
    pub starts: u32,
    /// How often their files were changed while they ran.
    pub refreshes: u32,
    /// By container and name.
    pub environment: BTreeMap<String, BTreeMap<String, String>>,
    /// By container.
    pub command_lines: BTreeMap<String, Vec<String>>,
    /// By container and path.
    pub files: BTreeMap<String, BTreeMap<String, String>>,
    /// The same in full: order, modes, owners.
    pub rendered: RenderedPod,
    /// What its images are pulled with.
    pub pull: PullCredentials,
}

impl Given {
    /// The containers start.
    pub fn start(
        pod: &PodRequest,
        cx: &PodCx,
        before: Option<&Self>,
    ) -> Result<Self, BackendError> {
        let rendered = pod.render(&place(), &[])?;
        let mut given = Self {
            starts: before.map_or(0, |before| before.starts) + 1,
            refreshes: 0,
            environment: BTreeMap::new(),
            command_lines: BTreeMap::new(),
            files: BTreeMap::new(),
            pull: pod.pull_credentials(),
            rendered,
        };
        let rendered = given.rendered.clone();
        for container in rendered.init.into_iter().chain(rendered.containers) {
            for sentence in container.environment.skipped() {
                cx.events.warning(Environment::SKIPPED_REASON, sentence);
            }
            let name = container.name;
            let variables = container.environment.variables();
            let variables = variables.iter().map(|v| (v.name.clone(), v.value.clone()));
            given.environment.insert(name.clone(), variables.collect());
            let command = container.command;
            let words = [&**command.command, &**command.args].concat();
            given.command_lines.insert(name, words);
        }
        given.lay_out(|_| true);
        Ok(given)
    }

    /// They run on, and their files follow.
    pub fn refresh(&mut self, pod: &PodRequest) -> Result<(), BackendError> {
        let payload = pod.render_payload(&place(), &[])?;
        if payload.revision != self.rendered.payload.revision {
            self.rendered.payload = payload;
            self.refreshes += 1;
            self.lay_out(|mount| mount.sub_path.is_none());
        }
        Ok(())
    }

    fn lay_out(&mut self, changes: impl Fn(&Mount) -> bool) {
        let RenderedPod {
            init,
            containers,
            payload,
        } = &self.rendered;
        for container in init.iter().chain(containers) {
            let files = self.files.entry(container.name.clone()).or_default();
            for mount in container.mounts.iter().filter(|mount| changes(mount)) {
                let Some(Volume::Files(volume)) = payload.volumes.get(&mount.volume) else {
                    continue;
                };
                let at = |path: &str| match &mount.sub_path {
                    None => Some(format!("{}/{path}", mount.mount_path)),
                    Some(sub) if sub == path => Some(mount.mount_path.clone()),
                    Some(_) => None,
                };
                let there: BTreeSet<_> = volume.files.keys().filter_map(|p| at(p)).collect();
                let below = format!("{}/", mount.mount_path);
                files.retain(|path, _| !path.starts_with(&below) || there.contains(path));
                for (path, file) in &volume.files {
                    if let Some(path) = at(path) {
                        let text = String::from_utf8_lossy(file.content.bytes());
                        files.insert(path, text.into_owned());
                    }
                }
            }
        }
    }
}

pub fn place() -> Placement {
    Placement {
        allocatable: super::size(),
        pod_ips: vec![IpAddr::from([10, 0, 0, 1])],
        host_ips: vec![IpAddr::from([192, 0, 2, 1])],
    }
}
