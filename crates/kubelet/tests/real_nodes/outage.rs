//! Ten minutes without the backend, in a tenth of the time.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use virtual_kubelet::events::Recorder;
use virtual_kubelet::metrics::Metrics;
use virtual_kubelet::node::NodeSettings;
use virtual_kubelet::{Host, InputSettings, Settings};
use vk_provider::{
    Backend, BackendError, Capabilities, Change, Clock, Listing, NodeSet, PodCx, PodKey, PodRequest,
};

use crate::harness::control_plane::ControlPlane;
use crate::mock;
use crate::suite::memory::Remote;
use crate::suite::world::{eventually, phase};

/// 600 s are nearly twice the 350 s after which an ordinary cluster evicts the
/// pods of a silent node; so are these of the 25 s here.
const AWAY: Duration = Duration::from_secs(45);
/// As long as the witness may take: watches of an API server were seen to stop for
/// half a minute.
const LONGEST: Duration = Duration::from_secs(150);
const NODE: &str = "outage";
/// A node that nobody serves, to show that the cluster does evict.
const WITNESS: &str = "outage-witness";

/// The remote, which may not be reached.
#[derive(Clone, Debug)]
struct Reached(Remote, watch::Sender<bool>);

impl Reached {
    fn call(&self) -> Result<(), BackendError> {
        if *self.1.borrow() {
            return Ok(());
        }
        Err(BackendError::Unavailable {
            message: "no answer".into(),
            retry: None,
        })
    }
}

#[async_trait]
impl Backend for Reached {
    fn capabilities(&self) -> &Capabilities {
        self.0.capabilities()
    }

    fn nodes(&self) -> BoxStream<'static, NodeSet> {
        self.0.nodes()
    }

    async fn ensure(&self, pod: &PodRequest, cx: &PodCx) -> Result<(), BackendError> {
        self.call()?;
        self.0.ensure(pod, cx).await
    }

    async fn stop(&self, pod: &PodKey, grace: Duration) -> Result<(), BackendError> {
        self.call()?;
        self.0.stop(pod, grace).await
    }

    async fn release(&self, pod: &PodKey) -> Result<(), BackendError> {
        self.call()?;
        self.0.release(pod).await
    }

    async fn list(&self) -> Result<Listing, BackendError> {
        self.call()?;
        self.0.list().await
    }

    fn changes(&self) -> BoxStream<'static, Change> {
        let up = self.1.subscribe();
        let heard = move |_: &Change| futures::future::ready(*up.borrow());
        self.0.changes().filter(heard).boxed()
    }
}

fn pod(name: &str, node: &str) -> Pod {
    let impatient = |key: &str| {
        json!({"key": format!("node.kubernetes.io/{key}"), "operator": "Exists",
            "effect": "NoExecute", "tolerationSeconds": 5})
    };
    serde_json::from_value(json!({"metadata": {"name": name}, "spec": {
        "nodeName": node,
        "automountServiceAccountToken": false,
        "tolerations": [impatient("not-ready"), impatient("unreachable")],
        "containers": [{"name": "app", "image": "app:1"}]}}))
    .unwrap()
}

fn ready(node: &Node) -> Option<(String, String)> {
    let conditions = node.status.as_ref()?.conditions.as_ref()?;
    let ready = conditions.iter().find(|c| c.type_ == "Ready")?;
    let since = ready.last_transition_time.as_ref()?.0.to_string();
    Some((ready.status.clone(), since))
}

async fn start_witness(nodes: &Api<Node>, pods: &Api<Pod>) {
    let node: Node = serde_json::from_value(json!({"metadata": {"name": WITNESS}})).unwrap();
    nodes.create(&PostParams::default(), &node).await.unwrap();
    let now = jiff::Timestamp::now().to_string();
    let condition = json!({"type": "Ready", "status": "True", "reason": "Witness",
        "lastHeartbeatTime": now, "lastTransitionTime": now});
    let status = Patch::Merge(json!({"status": {"conditions": [condition]}}));
    let params = PatchParams::default();
    nodes.patch_status(WITNESS, &params, &status).await.unwrap();
    let pod = pod("witness", WITNESS);
    pods.create(&PostParams::default(), &pod).await.unwrap();
}

pub async fn costs_no_pod(plane: Arc<ControlPlane>) {
    let client = mock::client(&plane).await;
    mock::make_namespace(&plane, "outage").await;
    let pods: Api<Pod> = Api::namespaced(client.clone(), "outage");
    let nodes: Api<Node> = Api::all(client.clone());
    let clock = Clock::live();
    let remote = Remote::new(clock.clone(), &[NODE]);
    let up = watch::Sender::new(true);
    let metrics = Metrics::default();
    let mut node = NodeSettings::new("memory", "vk-memory");
    node.taints.clear();
    node.instance = NODE.into();
    let settings = Settings {
        client: client.clone(),
        lease_client: mock::client(&plane).await,
        node,
        inputs: InputSettings::default(),
        api: None,
        events: Recorder::start(client.clone(), "vk-memory", &metrics, clock.clone()),
        metrics,
        clock,
    };
    let host = Host::new(settings, Arc::new(Reached(remote.clone(), up.clone())));
    let stop = CancellationToken::new();
    let running = tokio::spawn(host.run(stop.clone()));

    let params = PostParams::default();
    for name in ["kept", "doomed"] {
        pods.create(&params, &pod(name, NODE)).await.unwrap();
        eventually("it runs", || runs(&pods, name)).await;
    }
    start_witness(&nodes, &pods).await;
    // Statuses come to rest.
    sleep(Duration::from_secs(2)).await;
    let before = pods.get("kept").await.unwrap();
    let ready_before = ready(&nodes.get(NODE).await.unwrap()).unwrap();
    assert_eq!(ready_before.0, "True");

    up.send_replace(false);
    // As backends do: nothing new is to come here.
    remote.taint_nodes("memory/unreachable");
    pods.create(&params, &pod("late", NODE)).await.unwrap();
    pods.delete("doomed", &Default::default()).await.unwrap();
    let begun = tokio::time::Instant::now();
    // Until this control plane has shown its patience: on a busy machine later.
    while begun.elapsed() < AWAY || !evicted(&pods).await {
        assert!(begun.elapsed() < LONGEST, "this control plane evicts");
        let node = nodes.get(NODE).await.unwrap();
        assert_eq!(ready(&node).unwrap(), ready_before, "Ready stays as it was");
        let kept = pods.get("kept").await.unwrap();
        assert_eq!(
            kept.metadata.resource_version, before.metadata.resource_version,
            "nobody touches the pod: {kept:#?}"
        );
        let doomed = pods.get("doomed").await.unwrap();
        assert_eq!(phase(&doomed), "Running", "nobody says it has ended");
        sleep(Duration::from_secs(1)).await;
    }
    let taints = nodes.get(NODE).await.unwrap().spec.unwrap().taints;
    let keys: Vec<String> = taints.into_iter().flatten().map(|t| t.key).collect();
    assert_eq!(keys, ["memory/unreachable"]);

    up.send_replace(true);
    eventually("what waited runs", || runs(&pods, "late")).await;
    eventually("what was deleted goes", || async {
        pods.get_opt("doomed")
            .await
            .unwrap()
            .is_none()
            .then_some(())
    })
    .await;
    let after = pods.get("kept").await.unwrap();
    assert_eq!(
        after.metadata.resource_version,
        before.metadata.resource_version
    );
    let value: Value = serde_json::to_value(&after).unwrap();
    assert!(remote.runs(value["metadata"]["uid"].as_str().unwrap()));
    stop.cancel();
    running.await.unwrap();
}

/// Whether the pod of a node that nobody keeps was taken away.
async fn evicted(pods: &Api<Pod>) -> bool {
    let witness = pods.get_opt("witness").await.unwrap();
    witness.is_none_or(|w| w.metadata.deletion_timestamp.is_some())
}

async fn runs(pods: &Api<Pod>, name: &str) -> Option<()> {
    let pod = pods.get_opt(name).await.ok()??;
    (phase(&pod) == "Running").then_some(())
}
