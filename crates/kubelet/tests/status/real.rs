//! The same stories, told to a real API server.

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use virtual_kubelet::status::patch;

use crate::harness;
use crate::harness::control_plane::ControlPlane;
use crate::stories::{any_story, look};

/// Enough that each rule of the API server's validation is met several times;
/// a few seconds.
const STORIES: usize = 150;

#[tokio::test(flavor = "multi_thread")]
async fn a_real_api_server_takes_every_status_and_keeps_it_whole() {
    let Some(tools) = harness::tools() else {
        return;
    };
    let plane = tokio::task::spawn_blocking(move || ControlPlane::start(&tools))
        .await
        .unwrap();
    let file = Kubeconfig::read_from(plane.kubeconfig()).unwrap();
    let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
        .await
        .unwrap();
    let pods: Api<Pod> = Api::namespaced(Client::try_from(config).unwrap(), "default");
    let mut runner = TestRunner::deterministic();
    let mut written = 0;
    for number in 0..STORIES {
        let (pod, looks) = any_story().new_tree(&mut runner).unwrap().current();
        let name = format!("story-{number}");
        let mut pod = create(&pods, pod, &name).await;
        let uid = pod.metadata.uid.clone().unwrap();
        for (second, seen) in looks.iter().enumerate() {
            let second = i64::try_from(second).unwrap() + 100;
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
    assert!(
        written > STORIES,
        "stories have something to tell: {written}"
    );
    println!("{written} statuses of {STORIES} pods taken and kept");
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
