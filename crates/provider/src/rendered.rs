//! A pod with everything it is given, for one place. Pure.

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};

use crate::environment::{CommandLine, Environment, EnvironmentError, Placement, environment};
use crate::error::BackendError;
use crate::inputs::Inputs;
use crate::request::Revision;
use crate::volumes::{
    FailedMount, Given, Mount, Volume, VolumesError, lay_out, left_out, mounts, payload_revision,
};

/// A pod as its containers are started.
#[derive(Clone, Debug, PartialEq)]
pub struct RenderedPod {
    /// Init containers, in order.
    pub init: Vec<RenderedContainer>,
    /// Regular containers, in order.
    pub containers: Vec<RenderedContainer>,
    /// What may change while they run.
    pub payload: RenderedPayload,
}

/// What of a pod may change while its containers run.
#[derive(Clone, Debug, PartialEq)]
pub struct RenderedPayload {
    /// The volumes that they mount, by name.
    pub volumes: BTreeMap<String, Volume>,
    /// Fingerprint of what running containers see of them
    /// ([`crate::volumes::payload_revision`]).
    pub revision: Revision,
}

/// A container as it is started.
#[derive(Clone, Debug, PartialEq)]
pub struct RenderedContainer {
    /// Its name.
    pub name: String,
    /// Its variables.
    pub environment: Environment,
    /// Its words.
    pub command: CommandLine,
    /// Where it has its volumes.
    pub mounts: Vec<Mount>,
}

/// Why a pod cannot be started as things are. Names things and never says what
/// they hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RenderError {
    /// Its volumes cannot be laid out now.
    Volumes(Vec<FailedMount>),
    /// One of its containers cannot be made now.
    Container {
        /// Which.
        name: String,
        /// Message of the waiting reason `CreateContainerConfigError`.
        why: String,
    },
    /// Never here: the backend has to refuse the field.
    Refused(crate::podspec::Refusal),
}

/// Longest message about one pod, in characters: a status and an event hold
/// 1,024 and more, and a person reads less.
const LONGEST: usize = 900;

impl RenderError {
    /// Waiting reason of a container that cannot be made (kubelet).
    pub const CONTAINER_REASON: &str = EnvironmentError::REASON;
    /// Reason of the event about volumes (kubelet).
    pub const VOLUMES_REASON: &str = "FailedMount";
}

impl std::error::Error for RenderError {}

impl fmt::Display for RenderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::Volumes(failed) => {
                let each: Vec<_> = failed.iter().map(FailedMount::to_string).collect();
                each.join("; ")
            }
            Self::Container { why, .. } => why.clone(),
            Self::Refused(refusal) => format!("{}: {}", refusal.path, refusal.message),
        };
        match text.char_indices().nth(LONGEST) {
            Some((end, _)) => write!(f, "{}…", &text[..end]),
            None => f.write_str(&text),
        }
    }
}

impl From<RenderError> for BackendError {
    fn from(error: RenderError) -> Self {
        match error {
            RenderError::Refused(refusal) => refusal.into(),
            other => Self::Inputs(other),
        }
    }
}

/// See [`crate::PodRequest::render`].
pub(crate) fn render(
    pod: &Pod,
    inputs: &Inputs,
    placement: &Placement,
    declared: &[&str],
) -> Result<RenderedPod, RenderError> {
    let payload = payload(pod, inputs, placement, declared)?;
    let spec = pod.spec.as_ref();
    let each = |list: &[Container]| {
        let one = |container: &Container| {
            let made = start(pod, container, inputs, placement);
            made.map_err(|why| RenderError::Container {
                name: container.name.clone(),
                why,
            })
        };
        list.iter().map(one).collect::<Result<Vec<_>, _>>()
    };
    let init = spec.and_then(|s| s.init_containers.as_deref());
    Ok(RenderedPod {
        init: each(init.unwrap_or_default())?,
        containers: each(spec.map(|s| &*s.containers).unwrap_or_default())?,
        payload,
    })
}

/// See [`crate::PodRequest::render_payload`].
pub(crate) fn payload(
    pod: &Pod,
    inputs: &Inputs,
    placement: &Placement,
    declared: &[&str],
) -> Result<RenderedPayload, RenderError> {
    if let Some(unread) = &inputs.unread {
        return Err(unread.clone());
    }
    let given = Given {
        inputs,
        allocatable: &placement.allocatable,
        declared,
    };
    let volumes = lay_out(pod, given).map_err(|error| match error {
        VolumesError::Failed(failed) => RenderError::Volumes(failed),
        VolumesError::Refused(refusals) => match refusals.into_result() {
            Err(refusal) => RenderError::Refused(refusal),
            // It is an error because there is one.
            Ok(()) => RenderError::Volumes(Vec::new()),
        },
    })?;
    Ok(RenderedPayload {
        revision: payload_revision(pod, &volumes),
        volumes,
    })
}

/// One container, or why it cannot be made.
fn start(
    pod: &Pod,
    container: &Container,
    inputs: &Inputs,
    placement: &Placement,
) -> Result<RenderedContainer, String> {
    let words = |error: EnvironmentError| error.to_string();
    let environment = environment(pod, container, inputs, placement).map_err(words)?;
    let command = environment.command_line(container).map_err(words)?;
    let expand = |text: &str| environment.sub_path(text).map_err(words);
    let mounts = match &pod.spec {
        Some(spec) => mounts(spec, &container.name, expand).map_err(|e| e.to_string())?,
        None => Vec::new(),
    };
    let wanted = |mount: &Mount| !pod.spec.as_ref().is_some_and(|s| without(s, mount, inputs));
    Ok(RenderedContainer {
        name: container.name.clone(),
        environment,
        command,
        mounts: mounts.into_iter().filter(wanted).collect(),
    })
}

/// Whether a mount is of a volume that the pod does without.
fn without(spec: &PodSpec, mount: &Mount, inputs: &Inputs) -> bool {
    let mut volumes = spec.volumes.iter().flatten();
    volumes.any(|volume| volume.name == mount.volume && left_out(volume, inputs))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::sync::Arc;

    fn pod() -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "shop", "uid": "u-1"},
            "spec": {
                "volumes": [
                    {"name": "conf", "configMap": {"name": "cm"}},
                    {"name": "kube-api-access-x7k2p", "projected": {"sources": [
                        {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
                        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
                        {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]}},
                    ]}},
                ],
                "initContainers": [{"name": "init", "command": ["echo", "$(WHO)"],
                    "env": [{"name": "WHO", "value": "me"}]}],
                "containers": [{
                    "name": "app", "args": ["--dir=$(DIR)"],
                    "env": [{"name": "DIR", "valueFrom": {"configMapKeyRef": {"name": "cm", "key": "dir"}}}],
                    "volumeMounts": [
                        {"name": "conf", "mountPath": "/conf", "subPathExpr": "$(DIR)"},
                        {"name": "kube-api-access-x7k2p", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount", "readOnly": true},
                    ],
                }],
            },
        }))
        .unwrap()
    }

    fn inputs() -> Inputs {
        let map = serde_json::from_value(json!({"data": {"dir": "deep"}})).unwrap();
        Inputs {
            config_maps: [("cm".into(), Arc::new(map))].into(),
            ..Inputs::default()
        }
    }

    fn rendered(inputs: &Inputs) -> Result<RenderedPod, RenderError> {
        render(&pod(), inputs, &Placement::default(), &[])
    }

    #[test]
    fn a_pod_is_rendered_whole_and_without_a_token_that_is_withheld() {
        let all = rendered(&inputs()).unwrap();
        assert_eq!(*all.init[0].command.command, ["echo", "me"]);
        let app = &all.containers[0];
        assert_eq!(app.environment.get("DIR"), Some("deep"));
        assert_eq!(*app.command.args, ["--dir=deep"]);
        let mounts: Vec<_> = app.mounts.iter().map(|m| m.mount_path.as_str()).collect();
        assert_eq!(mounts, ["/conf"]);
        assert_eq!(app.mounts[0].sub_path.as_deref(), Some("deep"));
        assert_eq!(all.payload.volumes.keys().collect::<Vec<_>>(), ["conf"]);
    }

    #[test]
    fn what_is_missing_is_told_in_the_kubelets_words_volumes_first() {
        let none = BackendError::from(rendered(&Inputs::default()).unwrap_err());
        let words = r#"MountVolume.SetUp failed for volume "conf" : configmap "cm" not found"#;
        assert_eq!(none.to_string(), words);
        let mut half = inputs();
        Arc::make_mut(half.config_maps.get_mut("cm").unwrap()).data = None;
        let error = rendered(&half).unwrap_err();
        let RenderError::Container { name, why } = &error else {
            panic!("{error:?}");
        };
        assert_eq!(name, "app");
        assert_eq!(why, "couldn't find key dir in ConfigMap shop/cm");
    }

    #[test]
    fn the_payload_of_a_pod_that_runs_needs_no_environment() {
        let mut half = inputs();
        Arc::make_mut(half.config_maps.get_mut("cm").unwrap()).data = None;
        let payload = payload(&pod(), &half, &Placement::default(), &[]).unwrap();
        assert_eq!(payload.volumes.keys().collect::<Vec<_>>(), ["conf"]);
        assert!(rendered(&half).is_err(), "a start does need it");
        let whole = rendered(&inputs()).unwrap();
        // What is mounted by a sub-path does not change.
        assert_eq!(whole.payload.revision, payload.revision);
    }

    #[test]
    fn nothing_is_rendered_from_what_could_not_be_read() {
        let mut unread = inputs();
        unread.unread = Some(RenderError::Container {
            name: "app".into(),
            why: "no answer".into(),
        });
        assert_eq!(rendered(&unread).unwrap_err(), unread.unread.unwrap());
    }

    #[test]
    fn a_token_that_a_user_asks_for_and_that_is_withheld_is_refused_by_path() {
        let mut pod = pod();
        let volumes = pod.spec.as_mut().unwrap().volumes.as_mut().unwrap();
        volumes[1].name = "mine".into();
        let mounts = pod.spec.as_mut().unwrap().containers[0]
            .volume_mounts
            .as_mut();
        mounts.unwrap()[1].name = "mine".into();
        let error = render(&pod, &inputs(), &Placement::default(), &[]).unwrap_err();
        let BackendError::Unsupported { field, message } = error.into() else {
            panic!("not refused");
        };
        assert_eq!(
            field,
            "spec.volumes[1].projected.sources[0].serviceAccountToken"
        );
        assert!(message.contains("\"shop\""), "{message}");
    }
}
