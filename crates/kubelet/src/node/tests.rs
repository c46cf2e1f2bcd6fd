//! The Node object and what is written to change it.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, NodeAddress, NodeCondition, NodeStatus, Taint};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde_json::{Value, json};
use vk_provider::NodeFacts;
use vk_provider::node::{ConditionFact, NodeInfo};
use vk_provider::quantity::{Amount, Resources};

use super::NodeSettings;
use super::object::{OWNED, Wanted};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn settings() -> NodeSettings {
    NodeSettings {
        name: "vk-1".into(),
        ..NodeSettings::new("mock", "vk-mock")
    }
}

fn facts() -> NodeFacts {
    let size = Resources::new()
        .with("cpu", Amount::units(8))
        .with("memory", Amount::units(16 << 30));
    NodeFacts {
        capacity: size.clone(),
        allocatable: size,
        labels: [("fleet".to_owned(), "a".to_owned())].into(),
        info: NodeInfo {
            architecture: "arm64".into(),
            ..Default::default()
        },
        ..Default::default()
    }
}

fn want(facts: &NodeFacts) -> Wanted {
    Wanted::new(&settings(), "v1.36.3+k3s1", facts)
}

/// As the API server would show the Node after registration.
fn registered(facts: &NodeFacts) -> Node {
    let mut node = want(facts).object(at(100));
    node.metadata.uid = Some("u".into());
    node.metadata.resource_version = Some("7".into());
    node
}

fn outage(status: Option<bool>) -> ConditionFact {
    ConditionFact {
        kind: "RemoteReachable".into(),
        status,
        reason: "Timeout".into(),
        message: "no answer".into(),
    }
}

fn taint(key: &str, value: &str) -> Taint {
    Taint {
        key: key.into(),
        value: Some(value.into()),
        effect: "NoSchedule".into(),
        time_added: None,
    }
}

fn status(node: &mut Node) -> &mut NodeStatus {
    node.status.as_mut().unwrap()
}

fn condition<'a>(node: &'a Node, kind: &str) -> &'a NodeCondition {
    let conditions = node.status.as_ref().unwrap().conditions.as_ref().unwrap();
    conditions.iter().find(|c| c.type_ == kind).unwrap()
}

#[test]
fn a_registered_node_is_what_selectors_and_people_look_for() {
    let node = registered(&facts());
    let labels = node.metadata.labels.as_ref().unwrap();
    for (name, value) in [
        ("type", "virtual-kubelet"),
        ("kubernetes.io/hostname", "vk-1"),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", "arm64"),
        ("kubernetes.io/role", "agent"),
        ("node-role.kubernetes.io/agent", ""),
        (
            "node.kubernetes.io/exclude-from-external-load-balancers",
            "true",
        ),
        ("fleet", "a"),
    ] {
        assert_eq!(labels.get(name).map(String::as_str), Some(value), "{name}");
    }
    let taints = node.spec.as_ref().unwrap().taints.as_ref().unwrap();
    assert_eq!(*taints, [taint("virtual-kubelet.io/provider", "mock")]);
    for (kind, wanted) in [
        ("Ready", "True"),
        ("MemoryPressure", "False"),
        ("DiskPressure", "False"),
        ("PIDPressure", "False"),
        ("NetworkUnavailable", "False"),
    ] {
        assert_eq!(condition(&node, kind).status, wanted, "{kind}");
    }
    let status = node.status.as_ref().unwrap();
    assert_eq!(status.capacity.as_ref().unwrap()["memory"].0, "16Gi");
    assert_eq!(
        status.node_info.as_ref().unwrap().kubelet_version,
        "v1.36.3-vk-mock"
    );
    assert_eq!(status.addresses.as_ref().unwrap()[0].address, "vk-1");
    assert_eq!(status.daemon_endpoints, None);
}

#[test]
fn a_whole_version_stands_as_it_is() {
    let settings = NodeSettings {
        version_suffix: "v1.0.0-orca".into(),
        ..settings()
    };
    let node = Wanted::new(&settings, "v1.36.3", &facts()).object(at(1));
    assert_eq!(
        node.status.unwrap().node_info.unwrap().kubelet_version,
        "v1.0.0-orca"
    );
}

#[test]
fn the_address_of_the_process_comes_first_and_no_name_before_it() {
    let settings = NodeSettings {
        listen_port: Some(10250),
        address: Some([192, 0, 2, 9].into()),
        ..settings()
    };
    let address = |kind: &str, address: &str| NodeAddress {
        type_: kind.into(),
        address: address.into(),
    };
    let mut facts = facts();
    facts.addresses = vec![
        address("Hostname", "device"),
        address("InternalDNS", "device.example.com"),
        address("InternalIP", "192.0.2.1"),
        address("InternalIP", "192.0.2.9"),
        address("ExternalIP", "198.51.100.1"),
    ];
    let wanted = [
        address("InternalIP", "192.0.2.9"),
        address("InternalIP", "192.0.2.1"),
        address("ExternalIP", "198.51.100.1"),
    ];
    assert_eq!(settings.addresses(&facts), wanted);
}

#[test]
fn with_a_port_the_api_server_is_given_the_address_that_answers() {
    let settings = NodeSettings {
        listen_port: Some(10250),
        ..settings()
    };
    let mut facts = facts();
    facts.addresses = vec![NodeAddress {
        type_: "InternalIP".into(),
        address: "192.0.2.1".into(),
    }];
    let status = Wanted::new(&settings, "v1.36.0", &facts)
        .object(at(1))
        .status
        .unwrap();
    assert_eq!(status.addresses, Some(facts.addresses));
    assert_eq!(
        status
            .daemon_endpoints
            .unwrap()
            .kubelet_endpoint
            .unwrap()
            .port,
        10250
    );
}

#[test]
fn a_name_longer_than_a_label_is_cut_to_a_valid_one() {
    let settings = NodeSettings {
        name: format!("{}.example.org", "n".repeat(62)),
        ..settings()
    };
    let node = Wanted::new(&settings, "v1", &facts()).object(at(1));
    assert_eq!(
        node.metadata.labels.unwrap()["kubernetes.io/hostname"],
        "n".repeat(62)
    );
}

#[test]
fn nothing_is_written_to_a_node_that_is_right() {
    let node = registered(&facts());
    assert_eq!(want(&facts()).metadata_patch(&node), None);
    assert_eq!(want(&facts()).status_patch(&node, false, at(200)), None);
}

#[test]
fn quantities_that_are_equal_but_written_otherwise_are_not_written_again() {
    let mut node = registered(&facts());
    status(&mut node)
        .capacity
        .as_mut()
        .unwrap()
        .insert("cpu".into(), Quantity("8000m".into()));
    assert_eq!(want(&facts()).status_patch(&node, false, at(200)), None);
}

#[test]
fn what_others_wrote_is_kept_and_what_we_no_longer_want_goes() {
    let mut before = facts();
    before.taints = vec![taint("old", "1")];
    before.annotations = [("note".to_owned(), "x".to_owned())].into();
    let mut node = registered(&before);
    node.metadata
        .labels
        .as_mut()
        .unwrap()
        .insert("theirs".into(), "1".into());
    let theirs = taint("node.kubernetes.io/not-ready", "");
    node.spec
        .as_mut()
        .unwrap()
        .taints
        .as_mut()
        .unwrap()
        .push(theirs.clone());
    assert_eq!(want(&before).metadata_patch(&node), None);

    let mut after = facts();
    after.labels = [("fleet".to_owned(), "b".to_owned())].into();
    let body = want(&after).metadata_patch(&node).unwrap();
    assert_eq!(body["metadata"]["labels"], json!({"fleet": "b"}));
    assert_eq!(body["metadata"]["annotations"]["note"], Value::Null);
    assert_eq!(body["metadata"]["uid"], "u");
    assert_eq!(body["metadata"]["resourceVersion"], "7");
    assert_eq!(
        body["spec"]["taints"],
        json!([theirs, taint("virtual-kubelet.io/provider", "mock")])
    );
}

#[test]
fn labels_change_without_a_version_so_that_others_writes_do_not_hold_them_up() {
    let mut after = facts();
    after.labels.clear();
    let body = want(&after).metadata_patch(&registered(&facts())).unwrap();
    assert_eq!(body["metadata"]["labels"], json!({"fleet": null}));
    assert_eq!(body["metadata"].get("resourceVersion"), None);
    assert_eq!(body.get("spec"), None);
}

#[test]
fn a_cordon_is_never_touched() {
    let mut node = registered(&facts());
    node.spec.as_mut().unwrap().unschedulable = Some(true);
    assert_eq!(want(&facts()).metadata_patch(&node), None);
    let mut after = facts();
    after.taints = vec![taint("new", "1")];
    let body = want(&after).metadata_patch(&node).unwrap();
    assert_eq!(
        body["spec"].as_object().unwrap().keys().collect::<Vec<_>>(),
        ["taints"]
    );
}

#[test]
fn a_node_registered_by_someone_else_is_taken_over_without_losing_anything() {
    let mut node = registered(&facts());
    node.metadata.annotations = None;
    node.metadata.labels = Some([("theirs".to_owned(), "1".to_owned())].into());
    let body = want(&facts()).metadata_patch(&node).unwrap();
    assert_eq!(body["metadata"]["labels"]["type"], "virtual-kubelet");
    assert_eq!(body["metadata"]["labels"].get("theirs"), None);
    assert!(body["metadata"]["annotations"][OWNED].is_string());
}

#[test]
fn a_condition_moves_in_time_only_with_its_status_and_beats_with_every_write() {
    let mut facts = facts();
    facts.conditions = vec![outage(Some(false))];
    let body = want(&facts)
        .status_patch(&registered(&self::facts()), false, at(200))
        .unwrap();
    let conditions = body["status"]["conditions"].as_array().unwrap();
    let of = |kind: &str| conditions.iter().find(|c| c["type"] == kind).unwrap();
    assert_eq!(of("Ready")["lastTransitionTime"], "1970-01-01T00:01:40Z");
    assert_eq!(of("Ready")["lastHeartbeatTime"], "1970-01-01T00:03:20Z");
    assert_eq!(
        of("RemoteReachable")["lastTransitionTime"],
        "1970-01-01T00:03:20Z"
    );
    assert_eq!(body["status"].as_object().unwrap().len(), 1);

    let refresh = want(&self::facts())
        .status_patch(&registered(&self::facts()), true, at(400))
        .unwrap();
    assert_eq!(
        refresh["status"]["conditions"][0]["lastHeartbeatTime"],
        "1970-01-01T00:06:40Z"
    );
}

#[test]
fn not_ready_written_by_the_node_controller_is_repaired() {
    let mut node = registered(&facts());
    let conditions = status(&mut node).conditions.as_mut().unwrap();
    conditions[0].status = "Unknown".into();
    conditions[0].reason = Some("NodeStatusUnknown".into());
    let body = want(&facts()).status_patch(&node, false, at(200)).unwrap();
    assert_eq!(body["status"]["conditions"][0]["status"], "True");
    assert_eq!(
        body["status"]["conditions"][0]["lastTransitionTime"],
        "1970-01-01T00:03:20Z"
    );
}

#[test]
fn a_condition_that_a_backend_no_longer_has_goes_and_those_of_others_stay() {
    let mut before = facts();
    before.conditions = vec![outage(Some(true))];
    let mut node = registered(&before);
    let theirs = NodeCondition {
        type_: "Theirs".into(),
        status: "True".into(),
        ..Default::default()
    };
    status(&mut node).conditions.as_mut().unwrap().push(theirs);

    let after = want(&facts());
    // Still recorded as ours while it is there, so that a stop in between loses nothing.
    assert_eq!(after.metadata_patch(&node), None);
    let body = after.status_patch(&node, false, at(200)).unwrap();
    let list = body["status"]["conditions"].as_array().unwrap();
    assert!(list.contains(&json!({"$patch": "delete", "type": "RemoteReachable"})));
    assert!(!list.iter().any(|c| c["type"] == "Theirs"));

    status(&mut node)
        .conditions
        .as_mut()
        .unwrap()
        .retain(|c| c.type_ != "RemoteReachable");
    let body = after.metadata_patch(&node).unwrap();
    let record = body["metadata"]["annotations"][OWNED].as_str().unwrap();
    assert!(!record.contains("RemoteReachable"), "{record}");
}

#[test]
fn resources_that_others_advertise_stay_and_ours_go() {
    let mut before = facts();
    before.capacity.set("nvidia.com/gpu", Amount::units(1));
    let mut node = registered(&before);
    let capacity = status(&mut node).capacity.as_mut().unwrap();
    capacity.insert("example.org/theirs".into(), Quantity("3".into()));
    let body = want(&facts()).status_patch(&node, false, at(200)).unwrap();
    assert_eq!(body["status"]["capacity"], json!({"nvidia.com/gpu": null}));
}

#[test]
fn a_backends_word_on_ready_goes_before_the_default() {
    let mut facts = facts();
    facts.conditions = vec![ConditionFact {
        kind: "Ready".into(),
        ..outage(Some(false))
    }];
    let node = registered(&facts);
    assert_eq!(condition(&node, "Ready").status, "False");
    let all = node.status.unwrap().conditions.unwrap();
    assert_eq!(all.iter().filter(|c| c.type_ == "Ready").count(), 1);
}

#[test]
fn an_outage_is_told_when_it_begins_and_when_it_ends() {
    let mut out = facts();
    out.conditions = vec![outage(Some(false))];
    let mut well = facts();
    well.conditions = vec![outage(Some(true))];
    let turned = |want: &Wanted, node: &Node| want.turned(node).len();
    assert_eq!(
        turned(&want(&well), &registered(&facts())),
        0,
        "well from the start is no news"
    );
    assert_eq!(turned(&want(&out), &registered(&facts())), 1);
    assert_eq!(turned(&want(&out), &registered(&well)), 1);
    assert_eq!(turned(&want(&well), &registered(&out)), 1);
    assert_eq!(turned(&want(&out), &registered(&out)), 0);
}

#[test]
fn addresses_are_replaced_whole() {
    let mut after = facts();
    after.addresses = vec![NodeAddress {
        type_: "InternalIP".into(),
        address: "192.0.2.1".into(),
    }];
    let body = want(&after)
        .status_patch(&registered(&facts()), false, at(200))
        .unwrap();
    assert_eq!(
        body["status"]["addresses"],
        json!([
            {"$patch": "replace"},
            {"type": "InternalIP", "address": "192.0.2.1"},
            {"type": "Hostname", "address": "vk-1"},
        ])
    );
}
