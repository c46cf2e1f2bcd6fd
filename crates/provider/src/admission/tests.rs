//! The kubelet's rules in the kubelet's words.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, Taint};
use serde_json::{Value, json};

use super::*;
use crate::key::PodKey;
use crate::node::NodeInfo;
use crate::request::{PodChange, Revision};

fn request(mut spec: Value, labels: &Value) -> PodRequest {
    if spec.get("containers").is_none() {
        spec["containers"] = json!([{"name": "a"}]);
    }
    let pod: Pod =
        serde_json::from_value(json!({"metadata": {"labels": labels}, "spec": spec})).unwrap();
    PodRequest {
        key: PodKey::new("ns", "p", "u"),
        node: "node-1".into(),
        spec_revision: Revision::of(pod.spec.as_ref().unwrap()),
        pod: Arc::new(pod),
        change: PodChange::First,
        journal: None,
        inputs: Default::default(),
    }
}

/// 8 processors, 16 GiB, two pods; one of each is used.
fn bound() -> NodeUse {
    let size = Resources::new()
        .with("cpu", Amount::units(8))
        .with("memory", Amount::units(16 << 30))
        .with("ephemeral-storage", Amount::units(1 << 30))
        .with("pods", Amount::units(2));
    NodeUse {
        node: NodeFacts {
            capacity: size.clone(),
            allocatable: size,
            labels: [
                ("zone".to_owned(), "a".to_owned()),
                ("cores".to_owned(), "8".to_owned()),
            ]
            .into(),
            taints: vec![Taint {
                key: "down".into(),
                value: Some("yes".into()),
                effect: "NoSchedule".into(),
                time_added: None,
            }],
            info: NodeInfo {
                architecture: "arm64".into(),
                ..NodeInfo::default()
            },
            ..NodeFacts::default()
        },
        requested: Resources::new()
            .with("cpu", Amount::units(1))
            .with("memory", Amount::units(1 << 30))
            .with("pods", Amount::units(1)),
        labels: None,
    }
}

fn said(spec: Value) -> Option<(String, String)> {
    answer(&request(spec, &json!({})), &bound())
}

fn answer(pod: &PodRequest, bound: &NodeUse) -> Option<(String, String)> {
    match node_fit(pod, bound) {
        Admission::Accept => None,
        Admission::Reject {
            reason,
            message,
            event: None,
        } => Some((reason, message)),
        other => panic!("{other:?}"),
    }
}

fn asks(requests: &Value) -> Value {
    json!({"containers": [{"name": "a", "resources": {"requests": requests}}]})
}

#[test]
fn resources_that_are_short_are_told_as_the_kubelet_tells_them() {
    let text = |resource: &str, numbers: &str| {
        Some((
            format!("OutOf{resource}"),
            format!("Node didn't have enough resource: {resource}, {numbers}"),
        ))
    };
    for (requests, expected) in [
        (
            json!({"cpu": "7", "memory": "15Gi", "ephemeral-storage": "1Gi"}),
            None,
        ),
        (
            json!({"cpu": "7001m"}),
            text("cpu", "requested: 7001, used: 1000, capacity: 8000"),
        ),
        (
            json!({"memory": "16Gi", "ephemeral-storage": "2Gi"}),
            text(
                "memory",
                "requested: 17179869184, used: 1073741824, capacity: 17179869184",
            ),
        ),
        (
            json!({"ephemeral-storage": "2Gi", "memory": "1Gi"}),
            text(
                "ephemeral-storage",
                "requested: 2147483648, used: 0, capacity: 1073741824",
            ),
        ),
        (
            json!({"example.com/gpu": "1"}),
            text("example.com/gpu", "requested: 1, used: 0, capacity: 0"),
        ),
    ] {
        assert_eq!(said(asks(&requests)), expected, "{requests}");
    }
    let mut full = bound();
    full.requested.set("pods", Amount::units(2));
    assert_eq!(
        answer(&request(asks(&json!({"cpu": "100"})), &json!({})), &full),
        text("pods", "requested: 1, used: 2, capacity: 2"),
        "too many pods comes first"
    );
}

#[test]
fn another_operating_system_is_refused() {
    let field = said(json!({"os": {"name": "windows"}})).unwrap();
    assert_eq!(field.0, "PodOSNotSupported");
    assert_eq!(
        field.1,
        "Failed to admit pod as the OS field doesn't match node OS"
    );
    assert_eq!(said(json!({"os": {"name": "linux"}})), None);
    let label = request(json!({}), &json!({"kubernetes.io/os": "windows"}));
    assert_eq!(
        answer(&label, &bound()),
        Some((
            "PodOSSelectorNodeLabelDoesNotMatch".into(),
            "Failed to admit pod as the `kubernetes.io/os` label doesn't match node label".into()
        ))
    );
    let mut windows = bound();
    windows.node.info.operating_system = "windows".into();
    assert_eq!(answer(&label, &windows), None);
}

fn requires(terms: &Value) -> Value {
    json!({"affinity": {"nodeAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}})
}

#[test]
fn a_pod_for_other_nodes_is_refused_by_selector_and_affinity() {
    let expression = |key: &str, operator: &str, values: &[&str]| json!([{"matchExpressions": [{"key": key, "operator": operator, "values": values}]}]);
    let name = |operator: &str, values: &[&str]| json!([{"matchFields": [{"key": "metadata.name", "operator": operator, "values": values}]}]);
    for (spec, fits) in [
        (
            json!({"nodeSelector": {"zone": "a", "kubernetes.io/arch": "arm64"}}),
            true,
        ),
        (
            json!({"nodeSelector": {"kubernetes.io/hostname": "node-1", "kubernetes.io/os": "linux"}}),
            true,
        ),
        (json!({"nodeSelector": {"zone": "b"}}), false),
        (json!({"nodeSelector": {"disk": "ssd"}}), false),
        (requires(&expression("zone", "In", &["b", "a"])), true),
        (requires(&expression("zone", "In", &["b"])), false),
        (requires(&expression("zone", "NotIn", &["a"])), false),
        (requires(&expression("disk", "NotIn", &["ssd"])), true),
        (requires(&expression("zone", "Exists", &[])), true),
        (requires(&expression("disk", "Exists", &[])), false),
        (requires(&expression("disk", "DoesNotExist", &[])), true),
        (requires(&expression("cores", "Gt", &["7"])), true),
        (requires(&expression("cores", "Gt", &["8"])), false),
        (requires(&expression("cores", "Lt", &["9"])), true),
        (requires(&expression("zone", "Lt", &["9"])), false),
        (requires(&expression("zone", "Like", &["a"])), false),
        (requires(&name("In", &["node-1"])), true),
        (requires(&name("In", &["node-2"])), false),
        (requires(&name("NotIn", &["node-2"])), true),
        // Alternatives, and one that says nothing.
        (requires(&json!([{}])), false),
        (
            requires(&json!([{}, {"matchExpressions": [{"key": "zone", "operator": "Exists"}]}])),
            true,
        ),
        (
            json!({"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution":
                [{"weight": 1, "preference": {"matchExpressions": [{"key": "x", "operator": "Exists"}]}}]}}}),
            true,
        ),
    ] {
        let expected = (!fits).then(|| {
            (
                "NodeAffinity".to_owned(),
                "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector"
                    .to_owned(),
            )
        });
        assert_eq!(said(spec.clone()), expected, "{spec}");
    }
}

#[test]
fn labels_of_others_count_where_the_node_was_read() {
    let pod = request(json!({"nodeSelector": {"disk": "ssd"}}), &json!({}));
    let mut read = bound();
    read.labels = Some([("disk".to_owned(), "ssd".to_owned())].into());
    assert_eq!(answer(&pod, &read), None);
}

#[test]
fn only_taints_that_end_pods_keep_one_away() {
    let with = |tolerations: Value, effect: &str| {
        let mut tainted = bound();
        tainted.node.taints[0].effect = effect.into();
        answer(
            &request(json!({"tolerations": tolerations}), &json!({})),
            &tainted,
        )
    };
    assert_eq!(with(json!([]), "NoSchedule"), None, "the scheduler's");
    for (toleration, tolerated) in [
        (json!({"operator": "Exists"}), true),
        (
            json!({"key": "down", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5}),
            true,
        ),
        (json!({"key": "down", "value": "yes"}), true),
        (
            json!({"key": "down", "operator": "Equal", "value": "no"}),
            false,
        ),
        (json!({"key": "up", "operator": "Exists"}), false),
        (
            json!({"key": "down", "operator": "Exists", "effect": "NoSchedule"}),
            false,
        ),
        (
            json!({"key": "down", "operator": "Gt", "value": "1"}),
            false,
        ),
    ] {
        let expected = (!tolerated).then(|| {
            (
                "TaintToleration".to_owned(),
                "Predicate TaintToleration failed: node(s) had taints that the pod didn't tolerate"
                    .to_owned(),
            )
        });
        assert_eq!(
            with(json!([toleration]), "NoExecute"),
            expected,
            "{toleration}"
        );
    }
}
