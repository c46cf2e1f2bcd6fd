use super::*;
use crate::device::tests::device;
use vk_provider::quantity::Amount;

pub(crate) fn rules() -> Rules {
    let cpu_memory = |cpu: i64, mib: i64| {
        Resources::new()
            .with("cpu", Amount::milli(cpu))
            .with("memory", Amount::units(mib << 20))
    };
    Rules {
        node_name: "vk-flightctl-node".into(),
        fleet_label: "fleet".into(),
        fleets: Vec::new(),
        defaults: Sizes {
            assumed: cpu_memory(4000, 8192).with("pods", Amount::units(110)),
            reserve: cpu_memory(250, 512),
        },
        absence: AbsenceRule::default(),
        taints: Vec::new(),
        policy: Policy::default(),
    }
}

fn rule(name: &str, selector: &str) -> FleetRule {
    FleetRule {
        name: name.into(),
        selector: crate::select::parse(selector).unwrap(),
        sizes: rules().defaults,
        absence: AbsenceRule::default(),
        taints: None,
        policy: Policy::default(),
    }
}

#[test]
fn without_configuration_a_label_makes_the_nodes() {
    let devices = [
        device("a", &[("fleet", "one")]),
        device("b", &[("fleet", "one"), ("zone", "x")]),
        device("c", &[]),
    ];
    let grouping = group(&rules(), devices.iter(), &Ok(()));
    let names: Vec<&String> = grouping.nodes.keys().collect();
    assert_eq!(names, ["vk-flightctl-node", "vk-flightctl-one"]);
    let one = &grouping.nodes["vk-flightctl-one"];
    assert_eq!(one.capacity.get("cpu").show("cpu"), "8");
    assert_eq!(one.allocatable.get("cpu").show("cpu"), "7500m");
    assert_eq!(one.allocatable.get("memory").show("memory"), "15Gi");
    assert_eq!(one.labels[FLEET_LABEL], "one");
    assert!(!one.labels.contains_key("zone"), "not shared by all");
}

#[test]
fn the_own_node_exists_without_devices() {
    let grouping = group(&rules(), [].iter(), &Ok(()));
    let node = &grouping.nodes["vk-flightctl-node"];
    assert_eq!(node.allocatable.get("cpu"), Amount::ZERO);
    assert!(
        node.allocatable.iter().any(|(name, _)| name == "cpu"),
        "named, as zero"
    );
}

#[test]
fn a_device_that_two_fleets_select_is_used_by_neither() {
    let mut rules = rules();
    rules.fleets = vec![rule("one", "zone=x"), rule("two", "tier=y")];
    let devices = [device("a", &[("zone", "x"), ("tier", "y")])];
    let grouping = group(&rules, devices.iter(), &Ok(()));
    assert!(grouping.node_of.is_empty());
    assert!(
        grouping.problems[0].contains("fleets one and two"),
        "{:?}",
        grouping.problems
    );
}

#[test]
fn a_fleet_of_two_architectures_is_two_nodes() {
    let mut arm = device("b", &[("fleet", "one")]);
    arm.architecture = Some("arm64".into());
    let devices = [device("a", &[("fleet", "one")]), arm];
    let grouping = group(&rules(), devices.iter(), &Ok(()));
    assert_eq!(&*grouping.node_of["a"], "vk-flightctl-one");
    assert_eq!(&*grouping.node_of["b"], "vk-flightctl-one-arm64");
}

#[test]
fn owned_devices_give_nothing_and_say_why() {
    let mut owned = device("a", &[("fleet", "one")]);
    owned.owner = Some("Fleet/factory".into());
    let grouping = group(&rules(), [owned].iter(), &Ok(()));
    let node = &grouping.nodes["vk-flightctl-one"];
    assert_eq!(node.allocatable.get("cpu"), Amount::ZERO);
    let condition = node
        .conditions
        .iter()
        .find(|c| c.kind == "FleetManaged")
        .unwrap();
    assert_eq!(condition.status, Some(true));
}

#[test]
fn an_outage_has_its_own_condition_and_taint() {
    let grouping = group(&rules(), [].iter(), &Err("connection refused".into()));
    let node = &grouping.nodes["vk-flightctl-node"];
    assert_eq!(node.taints[0].key, "flightctl.io/unreachable");
    assert!(
        node.conditions
            .iter()
            .any(|c| c.kind == "FlightControlReachable" && c.status == Some(false))
    );
}

#[test]
fn reported_sizes_and_labels_win_over_the_assumed_one() {
    let mut reporting = device("a", &[("flightctl.io/capacity-memory", "2Gi")]);
    reporting.cpu_cores = Some(2);
    let grouping = group(&rules(), [reporting].iter(), &Ok(()));
    let node = &grouping.nodes["vk-flightctl-node"];
    assert_eq!(node.capacity.get("cpu").show("cpu"), "2");
    assert_eq!(node.capacity.get("memory").show("memory"), "2Gi");
    assert!(
        node.conditions
            .iter()
            .any(|c| c.kind == "CapacityAssumed" && c.status == Some(false))
    );
}

#[test]
fn a_label_that_makes_the_own_node_is_told() {
    let devices = [device("a", &[("fleet", "node")])];
    let grouping = group(&rules(), devices.iter(), &Ok(()));
    assert!(grouping.problems[0].contains("fleet=node"));
    assert!(grouping.node_of.is_empty());
}

#[test]
fn a_label_that_makes_no_node_name_is_told() {
    let devices = [device("a", &[("fleet", "Not_A_Name")])];
    let grouping = group(&rules(), devices.iter(), &Ok(()));
    assert!(grouping.problems[0].contains("Not_A_Name"));
}

fn arch(name: &str, fleet: &str, arch: Option<&str>) -> DeviceView {
    let mut device = device(name, &[("fleet", fleet)]);
    device.architecture = arch.map(str::to_owned);
    device
}

#[test]
fn a_device_that_has_not_reported_yet_moves_no_other_and_takes_nothing() {
    let devices = [arch("pi", "edge", Some("arm64")), arch("new", "edge", None)];
    let grouping = group(&rules(), devices.iter(), &Ok(()));
    assert_eq!(&*grouping.node_of["pi"], "vk-flightctl-edge");
    assert_eq!(&*grouping.node_of["new"], "vk-flightctl-edge");
    let node = &grouping.nodes["vk-flightctl-edge"];
    assert_eq!(node.info.architecture, "arm64");
    assert_eq!(node.allocatable.get("cpu").show("cpu"), "3750m");
}

#[test]
fn a_name_belongs_to_the_fleet_of_that_name() {
    let devices = [
        arch("a", "edge", Some("amd64")),
        arch("b", "edge", Some("arm64")),
        arch("c", "edge-arm64", Some("amd64")),
    ];
    let grouping = group(&rules(), devices.iter(), &Ok(()));
    assert_eq!(&*grouping.node_of["a"], "vk-flightctl-edge");
    assert_eq!(&*grouping.node_of["c"], "vk-flightctl-edge-arm64");
    assert!(!grouping.node_of.contains_key("b"));
    assert!(
        grouping.problems[0].contains("edge-arm64"),
        "{:?}",
        grouping.problems
    );
    assert_eq!(
        grouping.nodes["vk-flightctl-edge-arm64"].info.architecture,
        "amd64"
    );
}

#[test]
fn no_node_name_is_longer_than_it_may_be() {
    let long = "l".repeat(49);
    let devices = [
        arch("a", &long, Some("amd64")),
        arch("b", &long, Some("arm64")),
    ];
    let grouping = group(&rules(), devices.iter(), &Ok(()));
    assert!(grouping.nodes.keys().all(|n| n.len() <= NODE_NAME_MAX));
    assert!(grouping.node_of.contains_key("a") && !grouping.node_of.contains_key("b"));
    assert!(
        grouping.problems[0].contains("longer"),
        "{:?}",
        grouping.problems
    );
}

#[test]
fn a_size_below_nothing_is_no_size() {
    let mut odd = device("a", &[("flightctl.io/capacity-memory", "-2Gi")]);
    odd.cpu_cores = Some(2);
    let grouping = group(&rules(), [odd].iter(), &Ok(()));
    let node = &grouping.nodes["vk-flightctl-node"];
    assert_eq!(node.capacity.get("memory").show("memory"), "8Gi");
}

#[test]
fn devices_that_take_no_pods_count_in_capacity_alone() {
    for (summary, lifecycle) in [
        ("Unknown", "Enrolled"),
        ("PoweredOff", "Enrolled"),
        ("Online", "Decommissioning"),
        ("Online", "Decommissioned"),
        ("ConflictPaused", "Enrolled"),
    ] {
        let mut closed = device("b", &[]);
        closed.summary = summary.into();
        closed.lifecycle = lifecycle.into();
        let grouping = group(&rules(), [device("a", &[]), closed].iter(), &Ok(()));
        let node = &grouping.nodes["vk-flightctl-node"];
        assert_eq!(node.capacity.get("cpu").show("cpu"), "8");
        assert_eq!(
            node.allocatable.get("cpu").show("cpu"),
            "3750m",
            "{summary} {lifecycle}"
        );
    }
}

#[test]
fn only_labels_that_all_devices_share_and_that_are_theirs_are_the_nodes() {
    let common = [
        ("site", "paris"),
        ("alias", "x"),
        ("kubernetes.io/hostname", "x"),
        ("node.k8s.io/x", "x"),
        ("vk.flightctl.io/x", "x"),
        ("odd", "not a label value"),
    ];
    let mut devices = [device("a", &common), device("b", &common)];
    for (device, zone) in devices.iter_mut().zip(["1", "2"]) {
        device.labels.insert("zone".into(), zone.into());
    }
    let grouping = group(&rules(), devices.iter(), &Ok(()));
    let labels = &grouping.nodes["vk-flightctl-node"].labels;
    let keys: Vec<&String> = labels.keys().collect();
    assert_eq!(keys, ["site"]);
}

fn per_device() -> Rules {
    let policy = Policy {
        nodes: Nodes::PerDevice,
        ..Policy::default()
    };
    Rules { policy, ..rules() }
}

#[test]
fn each_device_may_be_a_node_of_its_own_with_its_names_as_labels() {
    let long = "a".repeat(52);
    let mut arm = arch(&long, "edge", Some("arm64"));
    arm.alias = Some("left".into());
    let devices = [arch("a", "edge", Some("amd64")), arm, device("c", &[])];
    let grouping = group(&per_device(), devices.iter(), &Ok(()));
    let short = format!("vk-{long}");
    let names: Vec<&str> = grouping.nodes.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            &*short,
            "vk-flightctl-a",
            "vk-flightctl-c",
            "vk-flightctl-node"
        ]
    );
    let node = &grouping.nodes[&short];
    assert_eq!(node.labels["flightctl.io/device"], long);
    assert_eq!(node.labels["flightctl.io/device-alias"], "left");
    assert_eq!(node.labels[FLEET_LABEL], "edge");
    assert_eq!(node.info.architecture, "arm64");
    assert_eq!(node.allocatable.get("cpu").show("cpu"), "3750m");
    assert_eq!(&*grouping.node_of[&long], short);
}

#[test]
fn a_node_that_is_one_device_says_how_that_is() {
    let status = |device: DeviceView| {
        let grouping = group(&per_device(), [device].iter(), &Ok(()));
        let node = grouping.nodes["vk-flightctl-a"].clone();
        let taints: Vec<String> = node.taints.iter().map(|t| t.key.clone()).collect();
        let conditions = node.conditions.iter();
        let conditions =
            conditions.filter(|c| ["DeviceConnected", "MemoryPressure"].contains(&&*c.kind));
        let conditions: Vec<Option<bool>> = conditions.map(|c| c.status).collect();
        (taints, conditions)
    };
    let well = device("a", &[]);
    assert_eq!(status(well.clone()), (vec![], vec![Some(true)]));
    let mut away = well.clone();
    away.summary = "Unknown".into();
    let tainted = vec!["flightctl.io/unavailable".to_owned()];
    assert_eq!(status(away), (tainted.clone(), vec![Some(false)]));
    let mut full = well;
    full.critical.memory = true;
    assert_eq!(status(full), (tainted, vec![Some(true), Some(true)]));
}

#[test]
fn labels_give_a_device_resources_that_nobody_reports() {
    let labels = [
        ("flightctl.io/capacity-ephemeral-storage", "64Gi"),
        ("flightctl.io/capacity-pods", "20"),
        ("flightctl.io/capacity-example.com_camera", "2"),
        ("flightctl.io/capacity-example.com_odd", "500m"),
        ("flightctl.io/capacity-nothing", "3"),
    ];
    let grouping = group(
        &rules(),
        [device("a", &labels), device("b", &labels)].iter(),
        &Ok(()),
    );
    let node = &grouping.nodes["vk-flightctl-node"];
    for (name, sum) in [
        ("ephemeral-storage", "128Gi"),
        ("pods", "40"),
        ("example.com/camera", "4"),
        ("example.com/odd", "0"),
        ("nothing", "0"),
    ] {
        assert_eq!(node.capacity.get(name).show(name), sum, "{name}");
        assert_eq!(node.allocatable.get(name).show(name), sum, "{name}");
    }
    assert!(!node.labels.keys().any(|key| key.contains("capacity")));
}

#[test]
fn a_node_adds_up_to_its_devices() {
    let mut devices: Vec<DeviceView> = (0..5).map(|n| device(&format!("d{n}"), &[])).collect();
    for (n, device) in devices.iter_mut().enumerate() {
        device.cpu_cores = Some(i64::try_from(n).unwrap() + 1);
    }
    devices[4].summary = "Unknown".into();
    let grouping = group(&rules(), devices.iter(), &Ok(()));
    let node = &grouping.nodes["vk-flightctl-node"];
    let sum = |names: &[&str]| {
        names.iter().fold(Amount::ZERO, |sum, name| {
            sum + grouping.allocatable[*name].get("cpu")
        })
    };
    assert_eq!(node.capacity.get("cpu"), Amount::units(15));
    assert_eq!(node.allocatable.get("cpu"), sum(&["d0", "d1", "d2", "d3"]));
}

#[test]
fn what_devices_are_in_is_a_condition_of_their_node_that_names_them() {
    let condition = |change: &dyn Fn(&mut DeviceView), kind: &str| {
        let mut one = device("a", &[]);
        change(&mut one);
        let grouping = group(&rules(), [one, device("b", &[])].iter(), &Ok(()));
        let node = &grouping.nodes["vk-flightctl-node"];
        let found = node.conditions.iter().find(|c| c.kind == kind);
        let found = found.unwrap_or_else(|| panic!("no condition {kind}"));
        (found.status, found.message.clone())
    };
    let summary = |text: &'static str| move |d: &mut DeviceView| d.summary = text.into();
    type Change = Box<dyn Fn(&mut DeviceView)>;
    let cases: [(&str, Change, &str); 7] = [
        ("DevicesAway", Box::new(summary("Unknown")), "a offline"),
        ("DevicesAway", Box::new(summary("Rebooting")), "a rebooting"),
        (
            "DevicesPaused",
            Box::new(summary("AwaitingReconnect")),
            "a paused (AwaitingReconnect)",
        ),
        (
            "DevicesDecommissioned",
            Box::new(|d| d.lifecycle = "Decommissioning".into()),
            "a decommissioned",
        ),
        (
            "DevicesAlerting",
            Box::new(|d| d.critical.cpu = true),
            "a critical alert of cpu",
        ),
        (
            "DevicesUpdatingOS",
            Box::new(|d| d.os_update = Some("os:2".into())),
            "to os:2",
        ),
        (
            "DevicesWithUpdateWindow",
            Box::new(|d| {
                d.window = Some(crate::device::UpdateWindow {
                    at: "0 2 * * *".into(),
                    zone: "Local".into(),
                    grace: "1h".into(),
                });
            }),
            "0 2 * * *",
        ),
    ];
    for (kind, change, words) in cases {
        let (status, message) = condition(&*change, kind);
        assert_eq!(status, Some(true), "{kind}");
        assert!(
            message.starts_with("1 of 2 devices: a ") && message.contains(words),
            "{message}"
        );
        let (status, message) = condition(&|_| {}, kind);
        assert_eq!(
            (status, &*message),
            (Some(false), "none of 2 devices"),
            "{kind}"
        );
    }
}
