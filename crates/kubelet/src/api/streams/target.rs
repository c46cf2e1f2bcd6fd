//! What is asked for: whether it is there and runs, in the kubelet's words and codes
//! where not (pkg/kubelet/server/server.go, pkg/kubelet/kubelet_pods.go).

use std::sync::Arc;

use http::StatusCode;
use k8s_openapi::api::core::v1::Pod;
use vk_provider::{ContainerState, PodFacts, PodKey};

use super::super::answer;
use super::super::node::NodeApi;
use super::super::route::InPod;
use super::{Refused, refuse};

/// A container that may be asked for.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) pod: PodKey,
    pub(super) terminal: Terminal,
}

/// What a container was started with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Terminal {
    pub(super) stdin: bool,
    pub(super) tty: bool,
}

pub(super) fn exec(api: &NodeApi, place: InPod<'_>) -> Result<Target, Refused> {
    let has = api.shared.backend.exec().is_some();
    container(api, place, has, "exec", || exec_words(place))
}

pub(super) fn attach(api: &NodeApi, place: InPod<'_>) -> Result<Target, Refused> {
    let has = api.shared.backend.attach().is_some();
    container(api, place, has, "attach", || {
        let InPod { namespace, pod, .. } = place;
        format!(
            "container {} not found in pod {pod}_{namespace}",
            place.container
        )
    })
}

pub(super) fn port_forward(api: &NodeApi, place: InPod<'_>) -> Result<PodKey, Refused> {
    let (pod, key) = pod(api, place)?;
    if place.uid.is_some_and(|uid| uid != key.uid.as_str()) {
        return Err(refuse(StatusCode::NOT_FOUND, "pod not found"));
    }
    if api.shared.backend.port_forward().is_none() {
        return Err(lacking(api, "port-forward"));
    }
    let facts = api.shared.table.facts(&key.uid);
    if facts.is_some_and(|facts| !might_run(&facts, None)) {
        let InPod { namespace, .. } = place;
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        let words = format!("pod not found (\"{name}_{namespace}\")");
        return Err(refuse(StatusCode::INTERNAL_SERVER_ERROR, words));
    }
    Ok(key)
}

fn exec_words(place: InPod<'_>) -> String {
    format!("container not found ({:?})", place.container)
}

fn container(
    api: &NodeApi,
    place: InPod<'_>,
    has: bool,
    what: &str,
    words: impl FnOnce() -> String,
) -> Result<Target, Refused> {
    let (pod, key) = pod(api, place)?;
    if !has {
        return Err(lacking(api, what));
    }
    let is_this = place.uid.is_none_or(|uid| uid == key.uid.as_str());
    let terminal = terminal(&pod, place.container).filter(|_| is_this);
    let facts = api.shared.table.facts(&key.uid);
    let might = facts.is_none_or(|facts| might_run(&facts, Some(place.container)));
    match terminal.filter(|_| might) {
        Some(terminal) => Ok(Target { pod: key, terminal }),
        None => Err(refuse(StatusCode::INTERNAL_SERVER_ERROR, words())),
    }
}

fn pod(api: &NodeApi, place: InPod<'_>) -> Result<(Arc<Pod>, PodKey), Refused> {
    let found = api.pod(place);
    let found = found.and_then(|pod| PodKey::of(&pod).map(|key| (pod, key)));
    found.ok_or_else(|| refuse(StatusCode::NOT_FOUND, "pod does not exist"))
}

fn lacking(api: &NodeApi, what: &str) -> Refused {
    let what = format!("{what} (kubectl {what})");
    Box::new(answer::not_implemented(&*api.shared.backend, &what))
}

/// What the spec gives a container; `None` where it has none of this name.
fn terminal(pod: &Pod, container: &str) -> Option<Terminal> {
    let spec = pod.spec.as_ref()?;
    let of = |stdin: Option<bool>, tty: Option<bool>| Terminal {
        stdin: stdin == Some(true),
        tty: tty == Some(true),
    };
    let init = spec.init_containers.iter().flatten();
    let mut containers = spec.containers.iter().chain(init);
    let mut ephemeral = spec.ephemeral_containers.iter().flatten();
    let found = containers.find(|c| c.name == container);
    found.map(|c| of(c.stdin, c.tty)).or_else(|| {
        let found = ephemeral.find(|c| c.name == container)?;
        Some(of(found.stdin, found.tty))
    })
}

/// Whether a container, or any, runs as far as the remote tells. What it cannot tell
/// it is asked.
fn might_run(facts: &PodFacts, container: Option<&str>) -> bool {
    let all = facts.containers.iter().chain(&facts.init);
    let mut asked = all
        .filter(|fact| container.is_none_or(|name| fact.name == name))
        .map(|fact| {
            matches!(
                fact.state,
                ContainerState::Running { .. } | ContainerState::Unknown
            )
        })
        .peekable();
    !facts.ended && (asked.peek().is_none() || asked.any(|runs| runs))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use vk_provider::{ContainerFact, Terminated, Uid};

    #[test]
    fn a_terminal_is_what_the_spec_gives_each_kind_of_container() {
        let pod: Pod = serde_json::from_value(json!({"spec": {
            "containers": [{"name": "app", "stdin": true, "tty": true}],
            "initContainers": [{"name": "first", "stdin": true}],
            "ephemeralContainers": [{"name": "debug", "tty": true}],
        }}))
        .unwrap();
        let of = |name| terminal(&pod, name).map(|found| (found.stdin, found.tty));
        assert_eq!(of("app"), Some((true, true)));
        assert_eq!(of("first"), Some((true, false)));
        assert_eq!(of("debug"), Some((false, true)));
        assert_eq!(of("other"), None);
    }

    #[test]
    fn only_what_is_known_not_to_run_is_refused() {
        let key = PodKey {
            namespace: "default".into(),
            name: "web".into(),
            uid: Uid::new("u"),
        };
        let of = |state: ContainerState| {
            let mut facts = PodFacts::new(key.clone(), "node".into(), 1);
            facts.containers = vec![ContainerFact::new("app", state)];
            facts
        };
        let runs = of(ContainerState::Running { started_at: None });
        let ended = of(ContainerState::Terminated(Terminated::default()));
        let waits = of(ContainerState::Waiting {
            reason: "ContainerCreating".into(),
            message: String::new(),
        });
        let lost = of(ContainerState::Unknown);
        let mut over = runs.clone();
        over.ended = true;
        for (facts, wanted) in [
            (runs, true),
            (ended, false),
            (waits, false),
            (lost, true),
            (over, false),
        ] {
            assert_eq!(might_run(&facts, Some("app")), wanted, "{facts:?}");
            assert_eq!(might_run(&facts, None), wanted, "{facts:?}");
            assert_eq!(
                might_run(&facts, Some("debug")),
                !facts.ended,
                "not told of"
            );
        }
    }
}
