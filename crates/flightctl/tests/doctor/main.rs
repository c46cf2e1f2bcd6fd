//! `doctor` on a sandbox in which one thing after the other is wrong: each is told
//! with its remedy, and nothing is changed.

#![allow(
    unreachable_pub,
    missing_debug_implementations,
    clippy::unwrap_used,
    reason = "modules of one test"
)]

mod clinic;

use std::process::Command;

use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use vk_sandbox::clock::Clock;
use vk_sandbox::faults::{Effect, Rule};
use vk_sandbox::flightctl::{Organization, Role};

use clinic::{Clinic, create, reported, until};

#[tokio::test(flavor = "multi_thread")]
async fn all_is_well_and_nothing_was_changed() {
    let clinic = Clinic::new().await;
    reported(&clinic, "device-1").await;
    reported(&clinic, "device-2").await;
    // What a user may write; the service and the device go on writing the rest.
    let written = |name: &str| {
        let mut device = clinic.flightctl.device_value(name).unwrap();
        let metadata = device["metadata"].take();
        let parts = [
            &metadata["generation"],
            &metadata["labels"],
            &device["spec"],
        ];
        parts.map(ToString::to_string)
    };
    let (one, two) = (written("device-1"), written("device-2"));
    let said = clinic.doctor().await;
    assert_eq!(said.code, 0, "{:#?}", said.lines);
    for name in [
        "owned by Fleets",
        "reachable",
        "clocks",
        "token",
        "organization",
        "API version",
        "reading devices",
        "reading events",
        "writing devices",
        "fleets",
        "sizes",
        "Kubernetes",
        "nodes and pods",
        "leases",
        "what pods refer to",
    ] {
        said.line("ok", name);
    }
    assert!(
        said.line("ok", "fleets")
            .contains("vk-flightctl-paris has 2")
    );
    assert_eq!(said.lines.last().unwrap(), "problems: 0, warnings: 0");
    assert_eq!((one, two), (written("device-1"), written("device-2")));
    assert!(clinic.flightctl.device_value("no_device").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_that_owns_devices_is_told_first() {
    let clinic = Clinic::new().await;
    clinic.device(3, |spec| {
        spec.labels = [("site".to_owned(), "x".to_owned())].into()
    });
    let labels = [("fleet".to_owned(), "paris".to_owned())].into();
    clinic
        .flightctl
        .create_fleet("factory", &labels, &json!({}))
        .unwrap();
    for device in ["device-1", "device-2"] {
        until(&clinic, device, "/metadata/owner", "Fleet/factory").await;
    }
    let said = clinic.doctor().await;
    said.warning(
        "owned by Fleets",
        &["2 of 3", "device-1 (Fleet/factory)", "selector"],
    );
    assert!(
        said.lines[0].contains("owned by Fleets"),
        "{:#?}",
        said.lines
    );
    clinic.flightctl.delete_device("device-3");
    clinic
        .doctor()
        .await
        .problem("owned by Fleets", &["2 of 2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_not_there_or_another_is_told() {
    let mut clinic = Clinic::new().await;
    std::fs::copy(clinic.path("kubernetes.crt"), clinic.path("flightctl.crt")).unwrap();
    clinic
        .doctor()
        .await
        .problem("reachable", &["certificate", "caFile"]);
    clinic.url = "https://127.0.0.1:1".into();
    let said = clinic.doctor().await;
    said.problem("reachable", &["https://127.0.0.1:1", "flightctl.url"]);
    // The rest is looked at all the same, as far as it does not depend on that.
    said.line("ok", "nodes and pods");
    assert!(!said.lines.iter().any(|l| l.contains("writing devices")));
    clinic.url = format!("{}/somewhere", clinic.kubernetes);
    clinic.doctor().await.problem("reachable", &[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_not_taken_is_told() {
    let mut clinic = Clinic::new().await;
    clinic.token = "another-token".into();
    clinic
        .doctor()
        .await
        .problem("token", &["refuses the token", "tokenFile"]);
    clinic.token = " ".into();
    clinic.doctor().await.problem("token", &["no token in it"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_may_not_write_is_told_the_role() {
    let mut clinic = Clinic::new().await;
    clinic.flightctl.accept_token_as("viewer", Role::Viewer);
    clinic.token = "viewer".into();
    clinic.config = "console: {enabled: true}\n".into();
    let said = clinic.doctor().await;
    said.line("ok", "reading devices");
    said.problem("writing devices", &["flightctl-operator"]);
    said.problem("consoles", &["devices/console", "flightctl-operator"]);
    clinic.flightctl.accept_token_as("operator", Role::Operator);
    clinic.token = "operator".into();
    let said = clinic.doctor().await;
    said.line("ok", "writing devices");
    said.line("ok", "consoles");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_organization_that_is_not_named_or_not_the_users_is_told() {
    let one = |digit: char, name: &str| Organization {
        id: format!("00000000-0000-0000-0000-00000000000{digit}"),
        display_name: name.into(),
        external_id: name.into(),
    };
    let both = vec![one('1', "Paris"), one('2', "Rome")];
    let mut clinic = Clinic::with(Clock::live(), both).await;
    clinic.doctor().await.problem(
        "organization",
        &["several", "000000000002 (Rome)", "flightctl.organization"],
    );
    clinic.section = format!("  organization: {}\n", one('3', "x").id);
    clinic
        .doctor()
        .await
        .problem("organization", &["none of this user's", "(Paris)"]);
    clinic.section = format!("  organization: {}\n", one('1', "x").id);
    clinic.doctor().await.line("ok", "organization");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_of_another_version_is_told() {
    let clinic = Clinic::new().await;
    let gone = Rule::always("/devices?limit=1", Effect::Status(406)).times(1);
    clinic.flightctl.faults().add(gone);
    clinic
        .doctor()
        .await
        .problem("API version", &["v1beta1", "release"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn clocks_that_are_apart_are_told() {
    let behind = Timestamp::now() - SignedDuration::from_secs(90);
    let clinic = Clinic::with(Clock::stepped(behind), Vec::new()).await;
    clinic
        .doctor()
        .await
        .warning("clocks", &["ahead of Flight Control's", "NTP"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn devices_that_no_fleet_selects_or_that_do_not_say_their_size_are_told() {
    let mut clinic = Clinic::with(Clock::live(), Vec::new()).await;
    clinic
        .doctor()
        .await
        .warning("fleets", &["no device", "enrol"]);
    clinic.device(1, |spec| {
        spec.labels.clear();
        spec.memory_kb = None;
    });
    reported(&clinic, "device-1").await;
    let said = clinic.doctor().await;
    said.warning("fleets", &["no device has the label fleet"]);
    said.warning("sizes", &["1 of 1", "device-1", "memoryTotalKb"]);
    clinic.config = "fleets: [{name: rome, selector: city=rome}]\n".into();
    clinic
        .doctor()
        .await
        .warning("fleets", &["the fleet rome selects no device"]);
    clinic.device(2, |spec| {
        spec.labels = [
            ("city".to_owned(), "rome".to_owned()),
            ("a".to_owned(), "b".to_owned()),
        ]
        .into()
    });
    clinic.config =
        "fleets: [{name: rome, selector: city=rome}, {name: b, selector: a=b}]\n".into();
    clinic
        .doctor()
        .await
        .problem("fleets", &["rome and b", "disjoint"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn rights_that_kubernetes_does_not_give_are_told_one_by_one() {
    let mut clinic = Clinic::new().await;
    for (verb, resource, namespace, name) in [
        ("patch", "nodes/status", None, "nodes and pods"),
        ("delete", "pods", None, "nodes and pods"),
        ("create", "events", None, "nodes and pods"),
        ("update", "leases", Some("kube-node-lease"), "leases"),
    ] {
        clinic.cluster.forbid(verb, resource, namespace);
        let right = format!("{verb} {resource}");
        clinic
            .doctor()
            .await
            .problem(name, &[&right, "config/rbac.yaml"]);
        clinic.cluster.allow(verb, resource, namespace);
    }
    clinic.cluster.forbid("create", "pods/eviction", None);
    clinic.cluster.forbid("create", "tokenreviews", None);
    clinic
        .cluster
        .forbid("create", "serviceaccounts/token", Some("shop"));
    assert_eq!(
        clinic.doctor().await.code,
        0,
        "what is not used is not needed"
    );
    clinic.config = "onShutdown: drain\nkubeletApi: {address: 127.0.0.1}\n\
                     workloads: {apiServer: 'https://api.example.com', serviceAccountTokens: [shop]}\n"
        .into();
    let said = clinic.doctor().await;
    said.problem("evictions (onShutdown: drain)", &["create pods/eviction"]);
    said.problem(
        "kubelet API",
        &["create tokenreviews.authentication.k8s.io"],
    );
    said.problem(
        "what pods refer to",
        &["create serviceaccounts/token in shop", "config/inputs"],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_whose_pods_are_on_the_nodes_and_whose_objects_are_not_readable_is_told() {
    let clinic = Clinic::new().await;
    clinic.cluster.forbid("watch", "secrets", Some("shop"));
    clinic.doctor().await.line("ok", "what pods refer to");
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"nodeName": "vk-flightctl-paris", "containers": [{"name": "c", "image": "registry.example/a:1"}]},
    });
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}});
    create(&clinic, "/api/v1/namespaces", &namespace).await;
    create(&clinic, "/api/v1/namespaces/shop/pods", &pod).await;
    clinic.doctor().await.warning(
        "what pods refer to",
        &["watch secrets in shop", "config/inputs"],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kubernetes_that_is_not_there_or_does_not_say_is_told() {
    let mut clinic = Clinic::new().await;
    let silent = Rule::always("selfsubjectaccessreviews", Effect::Status(503));
    clinic.cluster.faults().add(silent);
    clinic
        .doctor()
        .await
        .warning("leases", &["does not say", "auth can-i"]);
    clinic.kubernetes = "https://127.0.0.1:1".into();
    clinic
        .doctor()
        .await
        .problem("Kubernetes", &["--kubeconfig"]);
    let (program, config) = (
        env!("CARGO_BIN_EXE_vk-flightctl-provider"),
        clinic.path("config.yaml"),
    );
    let mut command = Command::new(program);
    command
        .args(["doctor", "--kubeconfig", "/nowhere/kubeconfig", "--config"])
        .arg(config);
    let said = tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap();
    let said = String::from_utf8(said.stdout).unwrap();
    assert!(
        said.contains("problem  Kubernetes: ") && said.contains("/nowhere/kubeconfig"),
        "{said}"
    );
}
