//! What a pod shows while something it refers to cannot be read. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, Volume};
use vk_provider::RenderError;
use vk_provider::environment::{References, references};
use vk_provider::volumes::FailedMount;

use super::source::{Kind, Source};

/// Everything that stands in the way of one pod.
#[derive(Debug, Default)]
pub(super) struct Problems {
    /// Objects that cannot be read, and why.
    pub(super) objects: BTreeMap<Source, String>,
    /// Why there is no token.
    pub(super) token: Option<String>,
}

impl Problems {
    /// The error of a pod that needs one of them, as the kubelet tells it: of
    /// volumes first. `None` where it needs none: nothing mounts the volume.
    pub(super) fn error(&self, pod: &Pod) -> Option<RenderError> {
        let spec = pod.spec.as_ref()?;
        let volumes = spec.volumes.iter().flatten();
        let failed: Vec<_> = volumes
            .filter(|volume| is_mounted(spec, volume))
            .filter_map(|volume| {
                Some(FailedMount {
                    volume: volume.name.clone(),
                    why: self.of_volume(volume)?,
                })
            })
            .collect();
        if !failed.is_empty() {
            return Some(RenderError::Volumes(failed));
        }
        let inits = spec.init_containers.iter().flatten();
        inits.chain(&spec.containers).find_map(|container| {
            Some(RenderError::Container {
                name: container.name.clone(),
                why: self.of_container(container)?,
            })
        })
    }

    fn of_volume(&self, volume: &Volume) -> Option<String> {
        let alone = PodSpec {
            volumes: Some(vec![volume.clone()]),
            ..PodSpec::default()
        };
        let refers = of_spec(alone);
        let token = self.token.as_ref().filter(|_| !refers.tokens.is_empty());
        token.cloned().or_else(|| self.among(&refers))
    }

    fn of_container(&self, container: &Container) -> Option<String> {
        let alone = PodSpec {
            containers: vec![Container {
                env: container.env.clone(),
                env_from: container.env_from.clone(),
                ..Container::default()
            }],
            ..PodSpec::default()
        };
        let services = self.objects.iter();
        let mut services = services.filter(|(source, _)| source.kind == Kind::Service);
        self.among(&of_spec(alone))
            // Every container is linked to them.
            .or_else(|| services.next().map(|(_, why)| why.clone()))
    }

    fn among(&self, refers: &References) -> Option<String> {
        let is_named = |source: &Source| {
            let named = match source.kind {
                Kind::ConfigMap => &refers.config_maps,
                Kind::Secret => &refers.secrets,
                Kind::Service => return false,
            };
            source
                .name
                .as_deref()
                .is_some_and(|n| named.contains_key(n))
        };
        let mut all = self.objects.iter();
        all.find(|(source, _)| is_named(source))
            .map(|(_, why)| why.clone())
    }
}

fn of_spec(spec: PodSpec) -> References {
    let pod = Pod {
        spec: Some(spec),
        ..Pod::default()
    };
    references(&pod, true)
}

fn is_mounted(spec: &PodSpec, volume: &Volume) -> bool {
    let inits = spec.init_containers.iter().flatten();
    let mut mounts = inits
        .chain(&spec.containers)
        .flat_map(|c| c.volume_mounts.iter().flatten());
    mounts.any(|mount| mount.name == volume.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod() -> Pod {
        serde_json::from_value(json!({
            "metadata": {"namespace": "shop"},
            "spec": {
                "volumes": [
                    {"name": "files", "secret": {"secretName": "keys"}},
                    {"name": "idle", "configMap": {"name": "nobody"}},
                    {"name": "token", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}},
                ],
                "containers": [
                    {"name": "first", "volumeMounts": [
                        {"name": "files", "mountPath": "/f"}, {"name": "token", "mountPath": "/t"}]},
                    {"name": "second", "env": [
                        {"name": "A", "valueFrom": {"secretKeyRef": {"name": "env", "key": "a"}}}]},
                ],
            },
        }))
        .unwrap()
    }

    fn problem(kind: Kind, name: &str) -> Problems {
        let source = Source::new(kind, "shop", Some(name));
        Problems {
            objects: [(source, "forbidden".to_owned())].into(),
            token: None,
        }
    }

    #[test]
    fn a_volume_is_named_and_else_the_container_that_reads_it() {
        let shown = problem(Kind::Secret, "keys").error(&pod()).unwrap();
        let words = r#"MountVolume.SetUp failed for volume "files" : forbidden"#;
        assert_eq!(shown.to_string(), words);
        let shown = problem(Kind::Secret, "env").error(&pod());
        let Some(RenderError::Container { name, why }) = shown else {
            panic!("{shown:?}");
        };
        assert_eq!((&*name, &*why), ("second", "forbidden"));
        let no_token = Problems {
            token: Some("failed to fetch token: no".into()),
            ..Problems::default()
        };
        let shown = no_token.error(&pod()).unwrap().to_string();
        assert!(
            shown.contains(r#"volume "token" : failed to fetch"#),
            "{shown}"
        );
        let shown = problem(Kind::Service, "kubernetes").error(&pod());
        assert!(matches!(shown, Some(RenderError::Container { name, .. }) if name == "first"));
    }

    #[test]
    fn what_no_container_needs_is_in_nobodys_way() {
        assert_eq!(problem(Kind::ConfigMap, "nobody").error(&pod()), None);
        assert_eq!(Problems::default().error(&pod()), None);
    }
}
