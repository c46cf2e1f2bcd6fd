//! `vk-flightctl-provider explain POD`: says of each device of a pod's node what
//! stands against it. It reads Kubernetes and Flight Control, writes nothing, and asks
//! the same function that the provider places by.

mod table;

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::Api;
use kube::api::ListParams;
use tokio::time::{Instant, timeout};
use vk_provider::{PodChange, PodKey, PodRequest, Revision};

use crate::client::Client;
use crate::device::DeviceView;
use crate::fleet::Rules;
use crate::mapping;
use crate::place::NoPlace;
use crate::world::World;

/// Deadline of one call; a person waits.
const DEADLINE: Duration = Duration::from_secs(15);
/// Pods in one answer of the API server.
const PAGE: u32 = 500;

/// What is asked, and with what.
pub struct Question {
    /// Kubernetes.
    pub kube: kube::Client,
    /// Flight Control.
    pub flightctl: Client,
    /// How devices are grouped.
    pub rules: Rules,
    /// Namespaces whose pods may get hold of their devices.
    pub privileged: BTreeSet<String>,
    /// The pod's namespace.
    pub namespace: String,
    /// The pod.
    pub pod: String,
}

impl std::fmt::Debug for Question {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Question")
            .field("namespace", &self.namespace)
            .field("pod", &self.pod)
            .finish_non_exhaustive()
    }
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// For people.
    pub text: String,
    /// Some device could have the pod now.
    pub fits: bool,
}

/// Answers. Reads only; may be dropped at any time.
///
/// # Errors
/// Kubernetes or Flight Control does not answer, or there is no such pod.
pub async fn explain(question: Question) -> Result<Answer> {
    let Question {
        kube,
        flightctl,
        rules,
        privileged,
        namespace,
        pod,
    } = question;
    let system = Api::<Namespace>::all(kube.clone());
    let system = called("read the namespace kube-system", system.get("kube-system")).await?;
    let cluster = system.metadata.uid.context("kube-system has no UID")?;
    let found = Api::<Pod>::namespaced(kube.clone(), &namespace);
    let found = called("read the pod", found.get_opt(&pod)).await?;
    let Some(found) = found else {
        bail!("there is no pod {pod} in namespace {namespace}; give its namespace with -n");
    };
    let asked = Instant::now();
    let devices = flightctl.list_devices(None).await?;
    let mut world = World::new(&cluster, rules);
    world.read(
        devices.iter().filter_map(DeviceView::of).collect(),
        asked,
        true,
    );
    for named in pods(kube).await?.into_iter().filter_map(request) {
        world.with_pod(&named.key.uid.clone(), |placed| placed.names(&named));
    }
    world.knows_its_pods();
    answer(&world, found, &privileged).with_context(|| format!("pod {namespace}/{pod}"))
}

fn answer(world: &World, pod: Pod, privileged: &BTreeSet<String>) -> Result<Answer> {
    let bound = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
    let nodes: Vec<String> = match &bound {
        Some(node) if world.grouping().nodes.contains_key(node) => vec![node.clone()],
        Some(node) => bail!(
            "its node {node} is none of this provider's ({}); run explain with the provider's configuration",
            names(world).join(", ")
        ),
        None => names(world),
    };
    let Some(mut request) = request(pod) else {
        bail!("it has no UID or no spec");
    };
    let mut text = table::head(&request, bound.as_deref());
    let refused = mapping::check(&request, privileged).err();
    if let Some(error) = &refused {
        text.push_str(&format!("Refused whatever the device: {error}\n"));
    }
    let here = world.pod(&request.key.uid).map(|p| p.device.clone());
    let mut fits = false;
    for node in nodes {
        request.node = node.as_str().into();
        let told = world.explain(&request, |weighed, chosen| {
            fits |= chosen.is_ok();
            text.push_str(&table::of(
                &node,
                &request,
                weighed,
                chosen,
                here.as_deref(),
            ));
        });
        match told {
            Ok(()) => {}
            Err(NoPlace::Unsupported { field, message }) => {
                text.push_str(&format!("\nNode {node}: {field}: {message}\n"));
            }
            Err(why) => text.push_str(&format!("\nNode {node}: {}\n", table::why(&why))),
        }
    }
    Ok(Answer {
        text,
        fits: fits && refused.is_none(),
    })
}

fn names(world: &World) -> Vec<String> {
    world.grouping().nodes.keys().cloned().collect()
}

async fn pods(kube: kube::Client) -> Result<Vec<Pod>> {
    let api = Api::<Pod>::all(kube);
    let mut params = ListParams::default().limit(PAGE);
    let mut all = Vec::new();
    loop {
        let page = called("list pods", api.list(&params)).await?;
        let more = page.metadata.continue_.filter(|token| !token.is_empty());
        all.extend(page.items);
        match more {
            Some(token) => params.continue_token = Some(token),
            None => return Ok(all),
        }
    }
}

async fn called<T>(what: &str, call: impl Future<Output = kube::Result<T>>) -> Result<T> {
    match timeout(DEADLINE, call).await {
        Ok(answer) => answer.with_context(|| format!("Kubernetes: cannot {what}")),
        Err(_) => bail!(
            "Kubernetes: cannot {what}: no answer in {} s",
            DEADLINE.as_secs()
        ),
    }
}

/// As the framework would hand it over.
fn request(pod: Pod) -> Option<PodRequest> {
    let (meta, spec) = (&pod.metadata, pod.spec.as_ref()?);
    Some(PodRequest {
        key: PodKey::new(
            meta.namespace.as_deref()?,
            meta.name.as_deref()?,
            meta.uid.as_deref()?,
        ),
        node: spec.node_name.as_deref().unwrap_or_default().into(),
        spec_revision: Revision::of(spec),
        pod: Arc::new(pod),
        change: PodChange::First,
        journal: None,
        inputs: Arc::default(),
    })
}
