//! The same stories, told to a real API server.

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use serde_json::json;
use virtual_kubelet::status::{PodVerdict, patch};

use crate::builders::{facts, pod, running};
use crate::harness;
use crate::harness::control_plane::{ControlPlane, Flags};
use crate::stories::{Look, Meanwhile, any_story, look};

/// Enough that each rule of the API server's validation is met several times;
/// a few seconds.
const STORIES: usize = 150;

#[tokio::test(flavor = "multi_thread")]
async fn a_real_api_server_takes_every_status_and_keeps_it_whole() {
    let Some(plane) = harness::control_plane(Flags::default()).await else {
        return;
    };
    let file = Kubeconfig::read_from(plane.kubeconfig()).unwrap();
    let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
        .await
        .unwrap();
    let pods: Api<Pod> = Api::namespaced(Client::try_from(config).unwrap(), "default");
    // A resize is refused where the node does not exist or has no room.
    plane.ok(&["create", "-f", &node(&plane)]);
    let mut runner = TestRunner::deterministic();
    let (mut written, mut met) = (0, Vec::new());
    for number in 0..STORIES {
        let (pod, looks) = any_story().new_tree(&mut runner).unwrap().current();
        let name = format!("story-{number}");
        let mut pod = create(&pods, pod, &name).await;
        let uid = pod.metadata.uid.clone().unwrap();
        for (second, seen) in looks.iter().enumerate() {
            let second = i64::try_from(second).unwrap() + 100;
            let happened = happen(&pods, pod, seen.meanwhile).await;
            met.extend(happened.1.then_some(seen.meanwhile));
            pod = happened.0;
            let want = look(&pod, seen, second);
            let have = pod.status.clone().unwrap_or_default();
            let Some(body) = patch(&have, &want, &uid) else {
                continue;
            };
            let answer = pods
                .patch_status(&name, &PatchParams::default(), &Patch::Strategic(&body))
                .await;
            pod = answer.unwrap_or_else(|error| {
                panic!("{name}, look {second}: {error}\nhave {have:#?}\nbody {body:#}")
            });
            let (shown, again) = (
                pod.status.clone().unwrap_or_default(),
                look(&pod, seen, second),
            );
            let rest = patch(&shown, &again, &uid);
            assert_eq!(rest, None, "{name}, look {second}: kept only {shown:#?}");
            written += 1;
        }
    }
    resized(&pods).await;
    assert!(
        written > STORIES,
        "stories have something to tell: {written}"
    );
    for must in [
        Meanwhile::Gate(true),
        Meanwhile::Disrupted(true),
        Meanwhile::Resized(2),
        Meanwhile::Debugged,
    ] {
        let times = met.iter().filter(|m| **m == must).count();
        assert!(times > 5, "{must:?} happened {times} times");
    }
    println!("{written} statuses of {STORIES} pods taken and kept");
}

/// What others do, as the API server lets them: the pod then, and whether it did.
async fn happen(pods: &Api<Pod>, pod: Pod, meanwhile: Meanwhile) -> (Pod, bool) {
    let Some((subresource, body)) = meanwhile.patch(&pod) else {
        return (pod, false);
    };
    let name = pod.metadata.name.as_deref().unwrap();
    let (params, body) = (PatchParams::default(), Patch::Strategic(&body));
    match pods
        .patch_subresource(subresource, name, &params, &body)
        .await
    {
        Ok(after) => (after, true),
        // Of a pod that has ended, for instance.
        Err(kube::Error::Api(_)) => (pod, false),
        Err(error) => panic!("{name}: {error}"),
    }
}

fn node(plane: &ControlPlane) -> String {
    let path = plane.folder().join("node.json");
    let size = json!({"cpu": "8", "memory": "8Gi", "pods": "1000"});
    let node = json!({
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": "elsewhere"},
        "status": {"capacity": size, "allocatable": size},
    });
    std::fs::write(&path, node.to_string()).unwrap();
    path.display().to_string()
}

async fn create(pods: &Api<Pod>, mut pod: Pod, name: &str) -> Pod {
    pod.metadata.name = Some(name.into());
    pod.metadata.uid = None;
    pod.metadata.generation = None;
    let spec = pod.spec.as_mut().unwrap();
    // Bound, so that nobody else writes to it.
    spec.node_name = Some("elsewhere".into());
    spec.automount_service_account_token = Some(false);
    pods.create(&PostParams::default(), &pod).await.unwrap()
}

/// A resize reaches the spec; the status that answers it is taken and kept.
async fn resized(pods: &Api<Pod>) {
    let sized = |cpu: &str| json!({"name": "a", "resources": {"requests": {"cpu": cpu}}});
    let mut made = pod("Always", vec![], &["a"]);
    let containers = &mut made.spec.as_mut().unwrap().containers;
    containers[0].resources = serde_json::from_value(sized("1")["resources"].clone()).unwrap();
    let seen = Look {
        meanwhile: Meanwhile::Nothing,
        facts: Some(facts(&made, &[], &[("a", running())])),
        verdict: PodVerdict::None,
        waits: false,
    };
    let made = create(pods, made, "resized").await;
    let uid = made.metadata.uid.clone().unwrap();
    let write = async |pod: Pod| {
        let have = pod.status.clone().unwrap_or_default();
        let body = patch(&have, &look(&pod, &seen, 100), &uid).unwrap();
        let (params, body) = (PatchParams::default(), Patch::Strategic(&body));
        pods.patch_status("resized", &params, &body).await.unwrap()
    };
    write(made).await;
    for (cpu, infeasible) in [("2", true), ("1", false)] {
        let spec = json!({"spec": {"containers": [sized(cpu)]}});
        let (params, body) = (PatchParams::default(), Patch::Strategic(&spec));
        let asked = pods.patch_subresource("resize", "resized", &params, &body);
        let shown = write(asked.await.unwrap()).await.status.unwrap();
        let mut conditions = shown.conditions.iter().flatten();
        assert_eq!(
            conditions.any(|c| c.type_ == "PodResizePending" && c.status == "True"),
            infeasible,
            "{shown:#?}"
        );
    }
}
