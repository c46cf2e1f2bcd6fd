//! `fieldRef` and `resourceFieldRef`: what the pod and its place tell.

use super::*;
use crate::quantity::Amount;

fn field(path: &str) -> Value {
    one("X", &json!({"fieldRef": {"fieldPath": path}}))
}

fn value(case: &Case) -> Result<String, String> {
    let got = case.run().map_err(|error| error.to_string())?;
    Ok(got.get("X").unwrap().to_owned())
}

fn place(pod: &[&str], host: &[&str]) -> Placement {
    let ips = |texts: &[&str]| texts.iter().map(|ip| ip.parse().unwrap()).collect();
    Placement {
        pod_ips: ips(pod),
        host_ips: ips(host),
        ..Default::default()
    }
}

#[test]
fn every_field_of_the_pod_has_its_value() {
    for (path, wanted) in [
        ("metadata.name", "dapi-test-pod-name"),
        ("metadata.namespace", "downward-api"),
        ("metadata.uid", "u-1"),
        ("metadata.labels['app']", "web"),
        ("metadata.labels['example.com/a[b]']", "brackets"),
        ("metadata.labels['none']", ""),
        ("metadata.annotations['example.com/Note']", "hello"),
        ("spec.nodeName", "node-name"),
        ("spec.host", "node-name"),
        ("spec.serviceAccountName", "special"),
        ("status.podIP", "1.2.3.4"),
        ("status.podIPs", "1.2.3.4,fd00::6"),
        ("status.hostIP", "127.0.0.1"),
        ("status.hostIPs", "127.0.0.1,::1"),
    ] {
        let mut case = case("downward-api", false, field(path));
        case.placement = place(&["1.2.3.4", "fd00::6"], &["127.0.0.1", "::1"]);
        assert_eq!(value(&case).as_deref(), Ok(wanted), "{path}");
    }
}

#[test]
fn one_address_of_each_family_comes_in_the_order_of_the_host() {
    for (pod, host, wanted) in [
        (&["fd00::6", "1.2.3.4"][..], "127.0.0.1", "1.2.3.4,fd00::6"),
        (
            &["1.2.3.4", "192.168.1.1", "fd00::6"],
            "127.0.0.1",
            "1.2.3.4,fd00::6",
        ),
        (&["1.2.3.4", "fd00::6"], "::1", "fd00::6,1.2.3.4"),
        (&["::ffff:1.2.3.4"], "127.0.0.1", "1.2.3.4"),
        (&["fd00::6"], "127.0.0.1", "fd00::6"),
    ] {
        let mut case = case("n", false, field("status.podIPs"));
        case.placement = place(pod, &[host]);
        assert_eq!(value(&case).as_deref(), Ok(wanted), "{pod:?} on {host}");
    }
}

#[test]
fn a_pod_on_the_hosts_network_has_the_hosts_addresses() {
    let mut case = case("n", false, field("status.podIPs"));
    case.placement = place(&[], &["10.0.0.1", "fd00::1"]);
    assert_eq!(value(&case), Err("status.podIPs is not known yet".into()));
    case.pod.spec.as_mut().unwrap().host_network = Some(true);
    assert_eq!(value(&case).as_deref(), Ok("10.0.0.1,fd00::1"));
}

#[test]
fn a_field_of_a_place_not_known_yet_is_an_error_and_never_empty() {
    for path in [
        "status.podIP",
        "status.podIPs",
        "status.hostIP",
        "status.hostIPs",
    ] {
        let case = case("n", false, field(path));
        assert_eq!(value(&case), Err(format!("{path} is not known yet")));
    }
}

#[test]
fn fields_that_have_no_value_are_named() {
    for path in [
        "status.phase",
        "spec.restartPolicy",
        "metadata.labels",
        "metadata.name['a']",
        "['a']",
        "nonsense",
    ] {
        let case = case("n", false, field(path));
        assert_eq!(value(&case), Err(format!("unsupported fieldPath: {path}")));
    }
    let source = json!({"fieldRef": {"apiVersion": "v2", "fieldPath": "metadata.name"}});
    let case = case("n", false, one("X", &source));
    assert_eq!(value(&case), Err("unsupported pod version: v2".into()));
}

fn asked(resource: &str, divisor: &str, resources: Value) -> Case {
    let mut container = one(
        "X",
        &json!({"resourceFieldRef": {"resource": resource, "divisor": divisor}}),
    );
    container["resources"] = resources;
    let mut case = case("n", false, container);
    case.placement.allocatable = Resources::new()
        .with("cpu", Amount::milli(1900))
        .with("memory", Amount::units(1000))
        .with("ephemeral-storage", Amount::units(7))
        .with("hugepages-2Mi", Amount::units(1 << 21));
    case
}

#[test]
fn resources_are_numbers_of_the_divisor_rounded_up() {
    for (resource, divisor, limit, request, wanted) in [
        ("limits.cpu", "0", "9", "0", "9"),
        ("requests.cpu", "0", "9", "0", "0"),
        ("requests.cpu", "0", "9", "8", "8"),
        ("requests.cpu", "1", "9", "100m", "1"),
        ("requests.cpu", "100m", "9", "1200m", "12"),
        ("requests.cpu", "1m", "9", "1500m", "1500"),
        ("requests.memory", "0", "1Gi", "100Mi", "104857600"),
        ("requests.memory", "1Mi", "1Gi", "100Mi", "100"),
        ("limits.memory", "0", "100Mi", "10Mi", "104857600"),
        ("limits.memory", "1G", "1Gi", "10Mi", "2"),
        ("limits.ephemeral-storage", "1Ki", "1Mi", "0", "1024"),
        ("requests.hugepages-2Mi", "1Mi", "4Mi", "4Mi", "4"),
        ("limits.hugepages-2Mi", "1Mi", "4Mi", "4Mi", "4"),
    ] {
        let name = resource.split_once('.').unwrap().1;
        let set = json!({"limits": {name: limit}, "requests": {name: request}});
        let case = asked(resource, divisor, set);
        assert_eq!(
            value(&case).as_deref(),
            Ok(wanted),
            "{resource} by {divisor}"
        );
    }
}

#[test]
fn a_limit_not_set_is_the_pods_and_then_the_nodes() {
    let value_of = |resource, limits: Value| {
        let mut case = asked(resource, "1m", json!({"limits": {"cpu": "0"}}));
        case.pod.spec.as_mut().unwrap().resources = Some(read(json!({"limits": limits})));
        value(&case).unwrap()
    };
    assert_eq!(value_of("limits.cpu", json!({})), "1900");
    assert_eq!(value_of("limits.cpu", json!({"cpu": "1"})), "1000");
    assert_eq!(value_of("limits.cpu", json!({"cpu": "0"})), "1900");
    assert_eq!(value_of("limits.memory", json!({"cpu": "1"})), "1000");
    assert_eq!(value_of("limits.ephemeral-storage", json!({})), "7");
    // Pods as a whole have no limit on storage.
    assert_eq!(
        value_of(
            "limits.ephemeral-storage",
            json!({"ephemeral-storage": "1"})
        ),
        "7"
    );
    assert_eq!(value_of("limits.hugepages-2Mi", json!({})), "0");
    assert_eq!(value_of("requests.cpu", json!({"cpu": "1"})), "0");
}

#[test]
fn a_limit_of_the_pod_on_what_the_node_does_not_offer_is_no_limit() {
    let mut case = asked("limits.cpu", "1m", json!({}));
    let limits = json!({"limits": {"cpu": "1"}});
    case.pod.spec.as_mut().unwrap().resources = Some(read(limits));
    assert_eq!(value(&case).as_deref(), Ok("1000"));
    case.placement.allocatable = Resources::new();
    assert_eq!(value(&case).as_deref(), Ok("0"));
}

#[test]
fn another_container_can_be_asked_about_by_name() {
    let case = |name: &str| {
        let mut case = asked("limits.cpu", "1m", json!({"limits": {"cpu": "1"}}));
        let source = case.container.env.as_mut().unwrap()[0].value_from.as_mut();
        let selector = source.unwrap().resource_field_ref.as_mut().unwrap();
        selector.container_name = Some(name.into());
        let spec = case.pod.spec.as_mut().unwrap();
        spec.containers.push(read(json!({"name": "bare"})));
        spec.init_containers = Some(vec![read(json!({"name": "init"}))]);
        value(&case)
    };
    assert_eq!(case("app").as_deref(), Ok("1000"));
    assert_eq!(case("").as_deref(), Ok("1000"));
    assert_eq!(case("bare").as_deref(), Ok("1900"));
    assert_eq!(
        case("init").as_deref(),
        Ok("0"),
        "init containers get no default"
    );
    assert_eq!(case("gone"), Err("container gone not found".into()));
}

#[test]
fn resources_that_have_no_value_are_named() {
    for resource in ["limits.example.com/gpu", "limits", "other.cpu", "cpu"] {
        let case = asked(resource, "1", json!({}));
        let words = format!("unsupported container resource : {resource}");
        assert_eq!(value(&case), Err(words));
    }
    let words = value(&asked("limits.cpu", "two", json!({}))).unwrap_err();
    assert!(words.contains("\"two\" is not a quantity"), "{words}");
}
