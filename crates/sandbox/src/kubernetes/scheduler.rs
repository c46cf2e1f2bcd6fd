//! A small scheduler: node selectors, required node affinity, taints, and
//! resources; the least allocated node wins.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde_json::{Value, json};

use super::resource::{NODES, PODS};
use super::selector::Labels;
use super::store::Change;
use super::update::Part;
use super::{Cluster, object, quantity};

const NAME: &str = "default-scheduler";
/// Nodes that name no pod limit hold what a kubelet's default allows.
const DEFAULT_PODS: i128 = 110_000;

/// Amounts by resource name, in thousandths.
type Amounts = BTreeMap<String, i128>;

/// A node, as the scheduler sees it in one pass.
struct Node<'a> {
    object: &'a Value,
    allocatable: Amounts,
    used: Amounts,
}

/// The scheduler and what it last told about pods that fit nowhere, by UID.
#[derive(Debug, Default)]
pub(crate) struct Scheduler {
    told: HashMap<String, String>,
}

/// Whether a change can let a waiting pod in, or is about one.
pub(crate) fn concerns(change: &Change) -> bool {
    let bound = |pod: &Value| !object::text(pod, "/spec/nodeName").is_empty();
    match change.resource.plural {
        "pods" => {
            !bound(&change.new)
                || change.deleted
                || object::is_finished(&change.new)
                || change.old.as_ref().is_some_and(|old| !bound(old))
        }
        "nodes" => change.old.as_ref().is_none_or(|old| {
            let same = |at: &str| old.pointer(at) == change.new.pointer(at);
            change.deleted
                || !(same("/spec") && same("/metadata/labels") && same("/status/allocatable"))
        }),
        _ => false,
    }
}

impl Scheduler {
    /// Binds every waiting pod that fits somewhere, oldest first.
    pub(crate) fn pass(&mut self, cluster: &Cluster) {
        let (nodes, pods) = cluster.store().read(|state| {
            let all = |resource| {
                state
                    .list(resource, None)
                    .map(|(_, o)| o.clone())
                    .collect::<Vec<_>>()
            };
            (all(&NODES), all(&PODS))
        });
        let mut nodes: Vec<Node<'_>> = nodes
            .iter()
            .map(|node| Node {
                object: node,
                allocatable: amounts(&node["status"]["allocatable"]),
                used: Amounts::new(),
            })
            .collect();
        let is_bound = |pod: &Value| !object::text(pod, "/spec/nodeName").is_empty();
        for pod in pods
            .iter()
            .filter(|p| is_bound(p) && !object::is_finished(p))
        {
            let on = object::text(pod, "/spec/nodeName");
            if let Some(node) = nodes.iter_mut().find(|n| object::name(n.object) == on) {
                add(&mut node.used, &requests(&pod["spec"]));
            }
        }
        let mut waiting: Vec<_> = pods
            .iter()
            .filter(|pod| {
                !is_bound(pod)
                    && !object::is_deleting(pod)
                    && !object::is_finished(pod)
                    && pod["spec"]["schedulerName"] == NAME
                    && object::items(pod, "/spec/schedulingGates").is_empty()
            })
            .collect();
        waiting.sort_by_key(|pod| {
            let created = object::text(pod, "/metadata/creationTimestamp");
            (created, object::revision(pod))
        });
        let present: HashSet<&str> = waiting.iter().map(|pod| object::uid(pod)).collect();
        self.told.retain(|uid, _| present.contains(uid.as_str()));
        for pod in waiting {
            let wanted = requests(&pod["spec"]);
            match choose(pod, &wanted, &nodes) {
                Ok(index) => {
                    add(&mut nodes[index].used, &wanted);
                    self.bind(cluster, pod, object::name(nodes[index].object));
                }
                Err(message) => self.explain(cluster, pod, message),
            }
        }
    }

    fn bind(&mut self, cluster: &Cluster, pod: &Value, node: &str) {
        let (ns, name) = (object::namespace(pod), object::name(pod));
        let binding = json!({"metadata": {"uid": object::uid(pod)}, "target": {"kind": "Node", "name": node}});
        // Refused when the pod changed meanwhile; that change wakes us again.
        if cluster.bind(ns, name, &binding).is_ok() {
            self.told.remove(object::uid(pod));
            let text = format!("Successfully assigned {ns}/{name} to {node}");
            cluster.event(&PODS, pod, ("Normal", "Scheduled"), &text, NAME);
        }
    }

    fn explain(&mut self, cluster: &Cluster, pod: &Value, message: String) {
        let uid = object::uid(pod).to_owned();
        if self.told.get(&uid) == Some(&message) {
            return;
        }
        cluster.event(&PODS, pod, ("Warning", "FailedScheduling"), &message, NAME);
        let now = object::seconds(cluster.now());
        let at = (object::namespace(pod), object::name(pod));
        let write = cluster.revise(&PODS, at, Part::Status, |old| {
            let mut new = old.clone();
            let since = object::condition(old, "PodScheduled")
                .filter(|c| c["status"] == "False")
                .and_then(|c| c.get("lastTransitionTime"))
                .cloned();
            object::set_condition(
                &mut new,
                json!({"type": "PodScheduled", "status": "False", "reason": "Unschedulable",
                    "message": message, "lastTransitionTime": since.unwrap_or(json!(now))}),
            );
            Ok(new)
        });
        if write.is_ok() {
            self.told.insert(uid, message);
        }
    }
}

/// The index of the node that takes the pod, or why none does, in the words of
/// the real scheduler.
fn choose(pod: &Value, wanted: &Amounts, nodes: &[Node<'_>]) -> Result<usize, String> {
    if nodes.is_empty() {
        return Err("no nodes available to schedule pods".into());
    }
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    let mut best: Option<(i128, usize)> = None;
    for (index, node) in nodes.iter().enumerate() {
        let against = refusals(pod, wanted, node);
        if against.is_empty() {
            let load = load(node, wanted);
            if best.is_none_or(|(least, _)| load < least) {
                best = Some((load, index));
            }
        }
        for reason in against {
            *reasons.entry(reason).or_default() += 1;
        }
    }
    if let Some((_, index)) = best {
        return Ok(index);
    }
    let mut texts: Vec<String> = reasons
        .iter()
        .map(|(why, n)| format!("{n} {why}"))
        .collect();
    texts.sort();
    Err(format!(
        "0/{} nodes are available: {}. preemption: 0/{0} nodes are available: {0} Preemption is not helpful for scheduling.",
        nodes.len(),
        texts.join(", ")
    ))
}

/// Why this node cannot take the pod; the first failing filter speaks.
fn refusals(pod: &Value, wanted: &Amounts, node: &Node<'_>) -> Vec<String> {
    let one = |text: &str| vec![text.to_owned()];
    let tolerations = object::items(pod, "/spec/tolerations");
    let cordon = json!({"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"});
    if node.object["spec"]["unschedulable"] == true && !tolerated(&cordon, tolerations) {
        return one("node(s) were unschedulable");
    }
    let blocks = |taint: &&Value| {
        matches!(object::text(taint, "/effect"), "NoSchedule" | "NoExecute")
            && !tolerated(taint, tolerations)
    };
    if object::items(node.object, "/spec/taints")
        .iter()
        .any(|t| blocks(&t))
    {
        return one("node(s) had untolerated taint(s)");
    }
    if !selected(pod, node.object) {
        return one("node(s) didn't match Pod's node affinity/selector");
    }
    let mut short = Vec::new();
    for (name, amount) in wanted.iter().filter(|(_, amount)| **amount > 0) {
        let none = if name == "pods" { DEFAULT_PODS } else { 0 };
        let room = node.allocatable.get(name).copied().unwrap_or(none);
        if node.used.get(name).copied().unwrap_or_default() + amount > room {
            short.push(if name == "pods" {
                "Too many pods".into()
            } else {
                format!("Insufficient {name}")
            });
        }
    }
    short
}

/// Share of cpu and memory in use with the pod on it, in millionths, summed.
fn load(node: &Node<'_>, wanted: &Amounts) -> i128 {
    ["cpu", "memory", "pods"]
        .into_iter()
        .map(|name| {
            let get = |amounts: &Amounts| amounts.get(name).copied().unwrap_or_default();
            (get(&node.used) + get(wanted)) * 1_000_000 / get(&node.allocatable).max(1)
        })
        .sum()
}

pub(crate) fn tolerated(taint: &Value, tolerations: &[Value]) -> bool {
    tolerations.iter().any(|t| {
        let effect = object::text(t, "/effect");
        let key = object::text(t, "/key");
        let exists = object::text(t, "/operator") == "Exists";
        (effect.is_empty() || effect == object::text(taint, "/effect"))
            && (key.is_empty() && exists || key == object::text(taint, "/key"))
            && (exists || object::text(t, "/value") == object::text(taint, "/value"))
    })
}

/// Whether its node selector and its required affinity let the pod on the node.
pub(crate) fn selected(pod: &Value, node: &Value) -> bool {
    let labels = &node["metadata"]["labels"];
    let by_selector = Labels::from_object(&json!({"matchLabels": pod["spec"]["nodeSelector"]}));
    let required = "/spec/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution";
    let by_affinity = pod.pointer(required).is_none_or(|affinity| {
        let fields = json!({"metadata.name": object::name(node)});
        object::items(affinity, "/nodeSelectorTerms")
            .iter()
            .any(|term| {
                let (expressions, by_field) = (
                    object::items(term, "/matchExpressions"),
                    object::items(term, "/matchFields"),
                );
                !(expressions.is_empty() && by_field.is_empty())
                    && Labels::from_expressions(expressions).matches(labels)
                    && Labels::from_expressions(by_field).matches(&fields)
            })
    });
    by_selector.matches(labels) && by_affinity
}

fn amounts(map: &Value) -> Amounts {
    map.as_object()
        .into_iter()
        .flatten()
        .map(|(name, amount)| (name.clone(), quantity::of(amount)))
        .collect()
}

fn add(total: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        *total.entry(name.clone()).or_default() += amount;
    }
}

fn raise(total: &mut Amounts, floor: &Amounts) {
    for (name, amount) in floor {
        let slot = total.entry(name.clone()).or_default();
        *slot = (*slot).max(*amount);
    }
}

/// What the pod asks for: its containers together, or its largest init
/// container with the sidecars before it, and one of `pods`.
fn requests(spec: &Value) -> Amounts {
    let asked = |container: &Value| amounts(&container["resources"]["requests"]);
    let (mut total, mut sidecars, mut peak) = (Amounts::new(), Amounts::new(), Amounts::new());
    for container in object::items(spec, "/containers") {
        add(&mut total, &asked(container));
    }
    for init in object::items(spec, "/initContainers") {
        let mut at_once = sidecars.clone();
        add(&mut at_once, &asked(init));
        raise(&mut peak, &at_once);
        if init["restartPolicy"] == "Always" {
            add(&mut total, &asked(init));
            sidecars = at_once;
        }
    }
    raise(&mut total, &peak);
    add(&mut total, &amounts(&spec["overhead"]));
    total.insert("pods".into(), 1_000);
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, cpu: &str, extra: &Value) -> Value {
        let mut node = json!({"metadata": {"name": name, "labels": {"zone": name}}, "spec": {},
            "status": {"allocatable": {"cpu": cpu, "memory": "8Gi", "pods": "10"}}});
        json_patch::merge(&mut node, extra);
        node
    }

    fn pod(spec: &Value) -> Value {
        let mut pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [
            {"resources": {"requests": {"cpu": "1", "memory": "1Gi"}}}]}});
        json_patch::merge(&mut pod["spec"], spec);
        pod
    }

    fn place(pod: &Value, objects: &[Value]) -> Result<String, String> {
        let nodes: Vec<Node<'_>> = objects
            .iter()
            .map(|object| Node {
                object,
                allocatable: amounts(&object["status"]["allocatable"]),
                used: Amounts::new(),
            })
            .collect();
        choose(pod, &requests(&pod["spec"]), &nodes)
            .map(|at| object::name(nodes[at].object).to_owned())
    }

    #[test]
    fn the_least_allocated_node_that_fits_is_chosen() {
        let nodes = [node("a", "2", &json!({})), node("b", "8", &json!({}))];
        assert_eq!(place(&pod(&json!({})), &nodes).unwrap(), "b");
        assert_eq!(
            place(&pod(&json!({"nodeSelector": {"zone": "a"}})), &nodes).unwrap(),
            "a"
        );
    }

    #[test]
    fn refusals_are_counted_in_the_words_of_the_real_scheduler() {
        let taint =
            json!({"spec": {"taints": [{"key": "edge", "value": "x", "effect": "NoSchedule"}]}});
        let nodes = [
            node("a", "500m", &json!({})),
            node("b", "8", &taint),
            node("c", "8", &json!({"spec": {"unschedulable": true}})),
        ];
        let message = place(&pod(&json!({})), &nodes).unwrap_err();
        assert!(
            message.starts_with("0/3 nodes are available: 1 Insufficient cpu, 1 node(s) had untolerated taint(s), 1 node(s) were unschedulable."),
            "{message}"
        );
        let tolerant = pod(&json!({"tolerations": [{"key": "edge", "operator": "Exists"}]}));
        assert_eq!(place(&tolerant, &nodes).unwrap(), "b");
    }

    #[test]
    fn required_affinity_terms_are_alternatives() {
        let term = |values: Value| json!({"matchExpressions": [{"key": "zone", "operator": "In", "values": values}]});
        let affinity = |terms: Value| json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}});
        let nodes = [node("a", "2", &json!({})), node("b", "4", &json!({}))];
        let either = pod(&affinity(json!([term(json!(["x"])), term(json!(["a"]))])));
        assert_eq!(place(&either, &nodes).unwrap(), "a");
        let none = pod(&affinity(json!([term(json!(["x"]))])));
        assert!(
            place(&none, &nodes)
                .unwrap_err()
                .contains("2 node(s) didn't match Pod's node affinity/selector")
        );
    }
}
