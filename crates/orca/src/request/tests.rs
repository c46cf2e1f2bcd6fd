#![allow(
    clippy::needless_pass_by_value,
    reason = "values of tests are written where they are used"
)]
use super::*;
use serde_json::json;

fn pod(annotations: serde_json::Value, limits: serde_json::Value) -> Pod {
    serde_json::from_value(json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "p", "annotations": annotations},
        "spec": {"containers": [{"name": "c", "resources": {"limits": limits}}]},
    }))
    .unwrap()
}

#[test]
fn resources_and_annotations_are_read() {
    let pod = pod(
        json!({"orca.research/instance-type": "g5.*, g6.xlarge", "orca.research/launch-type": "spot",
               "orca.research/spot-max-price": "1.50", "orca.research/gpu-model": "A10G, L4"}),
        json!({"cpu": "1500m", "memory": "4Gi", "nvidia.com/gpu": "2", "vpc.amazonaws.com/efa": 1}),
    );
    let request = Request::of(&pod).unwrap();
    assert_eq!(
        (request.gpus, request.efa, request.cpu),
        (2, 1, Amount::milli(1500))
    );
    assert_eq!(
        (request.types.len(), request.launch),
        (2, Some(Launch::Spot))
    );
    assert_eq!(request.max_spot, Some(Price::micro(1_500_000)));
    assert_eq!(request.gpu_models, ["A10G", "L4"]);
    assert!(request.notes.is_empty());
}

#[test]
fn what_cannot_be_used_is_refused_by_its_field() {
    for (annotations, limits, field) in [
        (
            json!({}),
            json!({"cpu": "two"}),
            "spec.containers[0].resources.limits[cpu]",
        ),
        (
            json!({}),
            json!({"cpu": "-1"}),
            "spec.containers[0].resources.limits[cpu]",
        ),
        (
            json!({}),
            json!({"amd.com/gpu": "1"}),
            "spec.containers[0].resources.limits[amd.com/gpu]",
        ),
        (
            json!({}),
            json!({"nvidia.com/gpu": "500m"}),
            "spec.containers[0].resources.limits[nvidia.com/gpu]",
        ),
        (
            json!({}),
            json!({"ephemeral-storage": "17Ti"}),
            "spec.containers",
        ),
        (
            json!({"orca.research/launch-type": "cheap"}),
            json!({}),
            "metadata.annotations[orca.research/launch-type]",
        ),
        (
            json!({"orca.research/max-spot-price": "-1"}),
            json!({}),
            "metadata.annotations[orca.research/max-spot-price]",
        ),
        (
            json!({"orca.research/instance-type": "G5"}),
            json!({}),
            "metadata.annotations[orca.research/instance-type]",
        ),
        (
            json!({"orca.research/allow-burstable": "yes"}),
            json!({}),
            "metadata.annotations[orca.research/allow-burstable]",
        ),
    ] {
        assert_eq!(
            Request::of(&pod(annotations, limits)).unwrap_err().field,
            field
        );
    }
}

#[test]
fn an_annotation_that_nobody_knows_is_told() {
    let request = Request::of(&pod(json!({"orca.research/instance-typ": "x"}), json!({}))).unwrap();
    assert!(request.notes[0].contains("did you mean orca.research/instance-type?"));
}
