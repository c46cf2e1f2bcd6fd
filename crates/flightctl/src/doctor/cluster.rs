//! Kubernetes: whether it answers, and whether it allows what is needed.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};
use tokio::time::timeout;
use virtual_kubelet::ApiSettings;
use virtual_kubelet::cause::chain;

use super::check::Check;
use crate::rights::{self, Right};

/// Deadline of one question.
const ASK_DEADLINE: Duration = Duration::from_secs(10);
/// Questions at once: few enough for any API server.
const AT_ONCE: usize = 8;
/// Nodes whose pods are looked at for their namespaces, and pods of each: enough to
/// find a namespace that was forgotten, in a few requests.
const NODES: usize = 50;
const PODS: u32 = 500;

/// What is needed of Kubernetes beyond the nodes and their pods.
#[derive(Clone, Debug, Default)]
pub struct Needs {
    /// The kubelet API of the nodes.
    pub kubelet_api: Option<ApiSettings>,
    /// Pods are evicted at the end.
    pub drain: bool,
    /// Namespaces whose pods may have tokens.
    pub tokens: BTreeSet<String>,
}

/// Asks Kubernetes; `nodes` are those that there will be.
pub(super) async fn examine(
    kube: &Result<Client, String>,
    needs: &Needs,
    nodes: &[String],
) -> Vec<Check> {
    const NAME: &str = "Kubernetes";
    let kube = match kube {
        Ok(kube) => kube,
        Err(why) => {
            let remedy = "give --kubeconfig a file that works with kubectl";
            return vec![Check::problem(NAME, why, remedy)];
        }
    };
    let remedy = "its address and certificate authority are those of --kubeconfig, or of the cluster's ServiceAccount";
    let version = match timeout(ASK_DEADLINE, kube.apiserver_version()).await {
        Ok(Ok(version)) => version.git_version,
        Ok(Err(error)) => return vec![Check::problem(NAME, chain(&error), remedy)],
        Err(_) => {
            let said = format!("no answer within {} s", ASK_DEADLINE.as_secs());
            return vec![Check::problem(NAME, said, remedy)];
        }
    };
    let mut checks = vec![Check::ok(NAME, version)];
    let apply = "kubectl apply -f config/rbac.yaml, and run as its ServiceAccount";
    for (name, needed) in [
        ("nodes and pods", rights::NODES_AND_PODS.to_vec()),
        ("leases", rights::LEASES.to_vec()),
    ] {
        checks.push(allowed(kube, name, &needed, Check::problem, apply).await);
    }
    if let Some(api) = &needs.kubelet_api {
        let needed = rights::needed(api);
        let remedy = "kubectl apply -f config/rbac.yaml, or set kubeletApi.enabled to false";
        checks.push(allowed(kube, "kubelet API", &needed, Check::problem, remedy).await);
    }
    if needs.drain {
        let needed = [rights::EVICTION];
        checks.push(
            allowed(
                kube,
                "evictions (onShutdown: drain)",
                &needed,
                Check::problem,
                apply,
            )
            .await,
        );
    }
    checks.extend(inputs(kube, needs, nodes).await);
    checks
}

/// What pods refer to, namespace by namespace.
async fn inputs(kube: &Client, needs: &Needs, nodes: &[String]) -> Vec<Check> {
    const NAME: &str = "what pods refer to";
    let mut namespaces = needs.tokens.clone();
    let of_nodes = stream::iter(nodes.iter().take(NODES)).map(|node| namespaces_on(kube, node));
    let mut of_nodes = of_nodes.buffered(AT_ONCE);
    while let Some(found) = of_nodes.next().await {
        namespaces.extend(found);
    }
    let mut checks = Vec::new();
    for namespace in &namespaces {
        let mut needed = rights::inputs(namespace);
        let mut judge: Judge = Check::warning;
        if needs.tokens.contains(namespace) {
            needed.push(rights::tokens(namespace));
            judge = Check::problem;
        }
        let remedy = format!(
            "pods of {namespace} that refer to ConfigMaps, Secrets or tokens wait: list the namespace in config/inputs and kubectl apply -k config/inputs"
        );
        checks.push(allowed(kube, NAME, &needed, judge, &remedy).await);
    }
    if checks.is_empty() {
        checks.push(Check::ok(
            NAME,
            "no pod on the nodes yet; a namespace whose pods refer to ConfigMaps or Secrets needs config/inputs",
        ));
    }
    checks
}

/// Where the pods of a node are from. A right to list them that is missing is told
/// elsewhere.
async fn namespaces_on(kube: &Client, node: &str) -> BTreeSet<String> {
    let pods: Api<Pod> = Api::all(kube.clone());
    let params = ListParams::default()
        .fields(&format!("spec.nodeName={node}"))
        .limit(PODS);
    match timeout(ASK_DEADLINE, pods.list(&params)).await {
        Ok(Ok(list)) => list.iter().filter_map(ResourceExt::namespace).collect(),
        _ => BTreeSet::new(),
    }
}

/// How a missing right is judged.
type Judge = fn(&'static str, String, String) -> Check;

/// Asks for each of these rights.
async fn allowed(
    kube: &Client,
    name: &'static str,
    needed: &[Right],
    judge: Judge,
    remedy: &str,
) -> Check {
    let answers = stream::iter(needed).map(|right| rights::allowed(kube, right));
    let answers: Vec<Option<bool>> = answers.buffered(AT_ONCE).collect().await;
    verdict(name, needed, &answers, judge, remedy)
}

fn verdict(
    name: &'static str,
    needed: &[Right],
    answers: &[Option<bool>],
    judge: Judge,
    remedy: &str,
) -> Check {
    let those = |wanted: Option<bool>| {
        let all = needed.iter().zip(answers);
        let those = all.filter(|(_, answer)| **answer == wanted);
        those
            .map(|(right, _)| right.to_string())
            .collect::<Vec<_>>()
    };
    let (missing, unknown) = (those(Some(false)), those(None));
    if !missing.is_empty() {
        let said = format!("Kubernetes forbids {}", missing.join(", "));
        return judge(name, said, remedy.to_owned());
    }
    if !unknown.is_empty() {
        let said = format!(
            "Kubernetes does not say whether it allows {}",
            unknown.join(", ")
        );
        let remedy = "everybody may ask (SelfSubjectAccessReview); see what is in the way: kubectl auth can-i --list";
        return Check::warning(name, said, remedy);
    }
    Check::ok(name, format!("all {} rights", needed.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Outcome;

    #[test]
    fn what_is_missing_goes_before_what_is_not_known() {
        let needed = rights::inputs("shop");
        let judged = |first, second| {
            let mut answers = vec![Some(true); needed.len()];
            (answers[0], answers[1]) = (first, second);
            verdict("x", &needed, &answers, Check::problem, "do")
        };
        assert_eq!(judged(Some(true), Some(true)).outcome, Outcome::Ok);
        let unknown = judged(Some(true), None);
        assert_eq!(unknown.outcome, Outcome::Warning);
        let missing = judged(Some(false), None);
        assert_eq!(missing.outcome, Outcome::Problem);
        assert_eq!(missing.said, "Kubernetes forbids get configmaps in shop");
    }
}
