use super::*;
use crate::device::tests::request;
use vk_provider::quantity::Amount;

fn candidate(name: &str, cpu: i64, free: i64) -> Candidate {
    let amounts = |cpu: i64| {
        Resources::new()
            .with("cpu", Amount::milli(cpu))
            .with("memory", Amount::units(8 << 30))
            .with("pods", Amount::units(110))
    };
    Candidate {
        name: name.into(),
        alias: None,
        labels: [("zone".to_owned(), name.to_owned())].into(),
        allocatable: amounts(cpu),
        free: amounts(free),
        unheard: false,
        closed: None,
        hindered: None,
        siblings: 0,
        pods: 0,
        residents: Vec::new(),
        ports: Vec::new(),
    }
}

fn annotated(key: &str, value: &str) -> PodRequest {
    let mut request = request("a", "1", "100m", "128Mi");
    let mut pod = (*request.pod).clone();
    pod.metadata.annotations = Some([(key.to_owned(), value.to_owned())].into());
    request.pod = Arc::new(pod);
    request
}

fn selecting(key: &str, value: &str) -> PodRequest {
    let mut request = request("a", "1", "100m", "128Mi");
    let mut pod = (*request.pod).clone();
    pod.spec.as_mut().unwrap().node_selector = Some([(key.to_owned(), value.to_owned())].into());
    request.pod = Arc::new(pod);
    request
}

fn none() -> BTreeMap<String, String> {
    BTreeMap::new()
}

#[test]
fn spreads_over_the_devices() {
    let pod = request("a", "1", "100m", "128Mi");
    let mut devices = [candidate("a", 4000, 4000), candidate("b", 4000, 4000)];
    assert_eq!(
        place(&pod, &none(), Strategy::Spread, &devices).unwrap(),
        "a"
    );
    devices[0].siblings = 1;
    assert_eq!(
        place(&pod, &none(), Strategy::Spread, &devices).unwrap(),
        "b"
    );
}

#[test]
fn larger_than_any_device_says_what_the_user_expects() {
    let pod = request("a", "1", "100", "1000Gi");
    let devices = [candidate("a", 7500, 100), candidate("b", 4000, 100)];
    let Err(NoPlace::TooBig { resource, message }) =
        place(&pod, &none(), Strategy::Spread, &devices)
    else {
        panic!()
    };
    assert_eq!(resource, "cpu");
    assert!(
        message.starts_with("Insufficient resources: requested cpu=100, memory=1000Gi; available cpu=7500m, memory=8Gi"),
        "{message}"
    );
}

#[test]
fn nothing_is_too_big_for_a_device_that_has_not_reported() {
    let pod = request("a", "1", "100", "1Gi");
    let mut devices = [candidate("a", 4000, 4000), candidate("b", 4000, 4000)];
    devices[1].unheard = true;
    devices[1].closed = Some("has not reported yet".into());
    assert!(matches!(
        place(&pod, &none(), Strategy::Spread, &devices),
        Err(NoPlace::NotNow(_))
    ));
}

#[test]
fn what_fits_later_waits_and_names_the_largest_slot() {
    let pod = request("a", "1", "2", "128Mi");
    let devices = [candidate("a", 4000, 500), candidate("b", 4000, 900)];
    let Err(NoPlace::NotNow(message)) = place(&pod, &none(), Strategy::Spread, &devices) else {
        panic!()
    };
    assert!(message.contains("requested cpu=2"), "{message}");
    assert!(
        message.contains("largest free slot cpu=900m, memory=8Gi on b"),
        "{message}"
    );
}

#[test]
fn devices_are_chosen_by_name_alias_or_label() {
    let mut devices = [candidate("a", 4000, 4000), candidate("b", 4000, 4000)];
    devices[1].alias = Some("left".into());
    for pod in [
        annotated(DEVICE_KEY, "b"),
        annotated(DEVICE_KEY, "left"),
        annotated(SELECTOR_ANNOTATION, "zone in (b)"),
        selecting("flightctl.io/device-id", "b"),
        selecting("zone", "b"),
    ] {
        assert_eq!(
            place(&pod, &none(), Strategy::Spread, &devices).unwrap(),
            "b"
        );
    }
}

#[test]
fn an_ambiguous_alias_is_refused_by_naming_the_candidates() {
    let mut devices = [candidate("a", 4000, 4000), candidate("b", 4000, 4000)];
    devices
        .iter_mut()
        .for_each(|d| d.alias = Some("left".into()));
    let Err(NoPlace::BadSelector(message)) = place(
        &annotated(DEVICE_KEY, "left"),
        &none(),
        Strategy::Spread,
        &devices,
    ) else {
        panic!()
    };
    assert!(message.contains("a, b"), "{message}");
}

#[test]
fn a_selector_entry_of_the_node_does_not_speak_of_devices() {
    let labels = [("flightctl.io/fleet".to_owned(), "one".to_owned())].into();
    let pod = selecting("flightctl.io/fleet", "one");
    assert!(
        place(
            &pod,
            &labels,
            Strategy::Spread,
            &[candidate("a", 4000, 4000)]
        )
        .is_ok()
    );
}

#[test]
fn a_closed_device_and_a_taken_port_are_avoided() {
    let mut devices = [candidate("a", 4000, 4000), candidate("b", 4000, 4000)];
    devices[0].closed = Some("offline".into());
    assert_eq!(
        place(
            &request("a", "1", "1", "1Mi"),
            &none(),
            Strategy::Spread,
            &devices
        )
        .unwrap(),
        "b"
    );
    devices[1].closed = Some("offline".into());
    assert!(matches!(
        place(&request("a", "1", "1", "1Mi"), &none(), Strategy::Spread, &devices),
        Err(NoPlace::NotNow(m)) if m.contains("a: offline")
    ));
}

#[test]
fn a_bad_selector_names_its_annotation() {
    assert!(matches!(
        place(&annotated(SELECTOR_ANNOTATION, "zone in"), &none(), Strategy::Spread, &[candidate("a", 1, 1)]),
        Err(NoPlace::BadSelector(m)) if m.contains(SELECTOR_ANNOTATION)
    ));
}

fn publishing(port: i32) -> PodRequest {
    let mut request = request("a", "1", "100m", "128Mi");
    let mut pod = (*request.pod).clone();
    pod.spec.as_mut().unwrap().containers[0].ports =
        Some(vec![k8s_openapi::api::core::v1::ContainerPort {
            container_port: 80,
            host_port: Some(port),
            ..Default::default()
        }]);
    request.pod = Arc::new(pod);
    request
}

#[test]
fn a_host_port_is_given_to_one_pod_of_a_device() {
    let mut devices = [candidate("a", 4000, 4000), candidate("b", 4000, 4000)];
    let used = |protocol: &str, by: Option<&str>| {
        vec![Taken {
            ports: HostPorts::one(8080, protocol, None).unwrap(),
            by: by.map(str::to_owned),
        }]
    };
    devices[0].ports = used("TCP", None);
    assert_eq!(
        place(&publishing(8080), &none(), Strategy::Spread, &devices).unwrap(),
        "b"
    );
    assert_eq!(
        place(&publishing(8081), &none(), Strategy::Spread, &devices).unwrap(),
        "a"
    );
    devices[1].ports = used("UDP", None);
    assert_eq!(
        place(&publishing(8080), &none(), Strategy::Spread, &devices).unwrap(),
        "b",
        "another protocol"
    );
    devices[1].ports = used("TCP", Some("web"));
    let Err(NoPlace::NotNow(message)) =
        place(&publishing(8080), &none(), Strategy::Spread, &devices)
    else {
        panic!()
    };
    let each = "(a: 8080/TCP, by another pod; b: 8080/TCP, by the application web)";
    assert!(message.ends_with(each), "{message}");
}

#[test]
fn spreads_by_pods_and_then_by_free_cpu() {
    let pod = request("a", "1", "100m", "128Mi");
    let mut devices = [candidate("a", 4000, 1000), candidate("b", 4000, 4000)];
    assert_eq!(
        place(&pod, &none(), Strategy::Spread, &devices).unwrap(),
        "b",
        "more cpu"
    );
    devices[1].pods = 1;
    assert_eq!(
        place(&pod, &none(), Strategy::Spread, &devices).unwrap(),
        "a",
        "fewer pods"
    );
    devices[0].siblings = 1;
    assert_eq!(
        place(&pod, &none(), Strategy::Spread, &devices).unwrap(),
        "b",
        "no sibling"
    );
}

#[test]
fn a_selector_of_kubernetes_own_keys_does_not_speak_of_devices() {
    let pod = selecting("kubernetes.io/os", "linux");
    assert!(
        place(
            &pod,
            &none(),
            Strategy::Spread,
            &[candidate("a", 4000, 4000)]
        )
        .is_ok()
    );
}

mod apart;
mod properties;
