//! Node selectors, required node affinity and tolerations, as Kubernetes reads
//! them (`component-helpers/scheduling/corev1`, `api/core/v1/toleration.go`).

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    NodeSelectorRequirement, NodeSelectorTerm, PodSpec, Taint, Toleration,
};

type Labels = BTreeMap<String, String>;

/// Whether a pod is particular about its node at all.
pub(super) fn asks(spec: &PodSpec) -> bool {
    spec.node_selector.is_some() || spec.affinity.is_some()
}

/// Whether a node's labels and name are what the pod's `nodeSelector` and its
/// required node affinity ask for.
pub(super) fn matches(spec: &PodSpec, labels: &Labels, node: &str) -> bool {
    let selected = spec
        .node_selector
        .iter()
        .flatten()
        .all(|(key, value)| labels.get(key) == Some(value));
    let required = spec
        .affinity
        .as_ref()
        .and_then(|a| a.node_affinity.as_ref())
        .and_then(|a| {
            a.required_during_scheduling_ignored_during_execution
                .as_ref()
        });
    selected
        && required.is_none_or(|selector| {
            // Terms are alternatives; an empty one matches nothing.
            selector
                .node_selector_terms
                .iter()
                .any(|term| term_matches(term, labels, node))
        })
}

fn term_matches(term: &NodeSelectorTerm, labels: &Labels, node: &str) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    if expressions.is_empty() && fields.is_empty() {
        return false;
    }
    expressions
        .iter()
        .all(|wanted| holds(wanted, labels.get(&wanted.key).map(String::as_str)))
        && fields.iter().all(|wanted| field_holds(wanted, node))
}

fn holds(wanted: &NodeSelectorRequirement, label: Option<&str>) -> bool {
    let values = wanted.values.as_deref().unwrap_or_default();
    let among = |label: &str| values.iter().any(|value| value == label);
    match &*wanted.operator {
        "In" => label.is_some_and(among),
        "NotIn" => !label.is_some_and(among),
        "Exists" => label.is_some(),
        "DoesNotExist" => label.is_none(),
        "Gt" => compared(label, values).is_some_and(|(label, value)| label > value),
        "Lt" => compared(label, values).is_some_and(|(label, value)| label < value),
        _ => false,
    }
}

fn compared(label: Option<&str>, values: &[String]) -> Option<(i64, i64)> {
    let [value] = values else { return None };
    Some((label?.parse().ok()?, value.parse().ok()?))
}

/// Only a node's name can be asked for, by one value.
fn field_holds(wanted: &NodeSelectorRequirement, node: &str) -> bool {
    let (true, Some([value])) = (wanted.key == "metadata.name", wanted.values.as_deref()) else {
        return false;
    };
    match &*wanted.operator {
        "In" => value == node,
        "NotIn" => value != node,
        _ => false,
    }
}

/// The first taint that ends pods and that this one does not tolerate. The
/// kubelet looks at no other effect: those are the scheduler's.
pub(super) fn untolerated<'a>(spec: &PodSpec, taints: &'a [Taint]) -> Option<&'a Taint> {
    taints.iter().find(|taint| {
        taint.effect == "NoExecute"
            && !spec
                .tolerations
                .iter()
                .flatten()
                .any(|toleration| tolerates(toleration, taint))
    })
}

fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let set = |text: &Option<String>| text.clone().filter(|t| !t.is_empty());
    if set(&toleration.effect).is_some_and(|effect| effect != taint.effect)
        || set(&toleration.key).is_some_and(|key| key != taint.key)
    {
        return false;
    }
    let value = toleration.value.as_deref().unwrap_or_default();
    let tainted = taint.value.as_deref().unwrap_or_default();
    match toleration.operator.as_deref() {
        None | Some("" | "Equal") => value == tainted,
        Some("Exists") => true,
        // `Lt` and `Gt` are behind a feature gate that is off.
        Some(_) => false,
    }
}
