//! Rules between pods.

use serde_json::{Value, json};

use super::*;

fn with(name: &str, metadata: &Value, spec: &Value) -> PodRequest {
    let mut made = request(name, name, "100m", "1Mi");
    let mut pod = serde_json::to_value(&*made.pod).unwrap();
    for (at, part) in [("metadata", metadata), ("spec", spec)] {
        for (key, value) in part.as_object().into_iter().flatten() {
            pod[at][key] = value.clone();
        }
    }
    made.pod = Arc::new(serde_json::from_value(pod).unwrap());
    made
}

fn anti(term: &Value) -> Value {
    let mut term = term.clone();
    if term.get("topologyKey").is_none() {
        term["topologyKey"] = DEVICE_KEY.into();
    }
    json!({"affinity": {"podAntiAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": [term],
    }}})
}

fn spread(more: &Value) -> Value {
    let mut constraint = json!({
        "topologyKey": DEVICE_KEY, "maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": {"app": "web"}},
    });
    for (key, value) in more.as_object().into_iter().flatten() {
        constraint[key] = value.clone();
    }
    json!({"topologySpreadConstraints": [constraint]})
}

fn web() -> Value {
    json!({"labels": {"app": "web"}})
}

fn holds(candidate: &mut Candidate, pod: PodRequest) {
    candidate.pods += 1;
    candidate.residents.push(Resident {
        pod: Arc::new(pod),
        leaving: false,
    });
}

fn two() -> [Candidate; 2] {
    [candidate("a", 4000, 4000), candidate("b", 4000, 4000)]
}

fn placed(pod: &PodRequest, devices: &[Candidate]) -> Result<String, NoPlace> {
    place(pod, &none(), Strategy::Pack, devices)
}

#[test]
fn pods_that_must_not_share_a_device_do_not() {
    let selector = json!({"labelSelector": {"matchExpressions": [
        {"key": "app", "operator": "In", "values": ["web", "api"]},
    ]}});
    let pod = with("new", &web(), &anti(&selector));
    let mut devices = two();
    assert_eq!(placed(&pod, &devices).unwrap(), "a");
    holds(&mut devices[0], with("old", &web(), &json!({})));
    assert_eq!(placed(&pod, &devices).unwrap(), "b");
    holds(
        &mut devices[1],
        with("older", &json!({"labels": {"app": "api"}}), &json!({})),
    );
    let Err(NoPlace::NotNow(message)) = placed(&pod, &devices) else {
        panic!()
    };
    assert!(
        message.contains("a: its anti-affinity keeps it from pod old"),
        "{message}"
    );
}

#[test]
fn who_was_there_first_keeps_others_away_too() {
    let selector = json!({"labelSelector": {"matchLabels": {"app": "web"}}});
    let mut devices = two();
    holds(&mut devices[0], with("alone", &json!({}), &anti(&selector)));
    assert_eq!(
        placed(&with("new", &web(), &json!({})), &devices).unwrap(),
        "b"
    );
    assert_eq!(
        placed(&with("other", &json!({}), &json!({})), &devices).unwrap(),
        "a"
    );
}

#[test]
fn pods_of_other_namespaces_are_no_neighbours() {
    let selector = json!({"labelSelector": {"matchLabels": {"app": "web"}}});
    let mut devices = two();
    let mut other = with("old", &web(), &json!({}));
    other.key = vk_provider::PodKey::new("elsewhere", "old", "old");
    holds(&mut devices[0], other);
    let pod = with("new", &web(), &anti(&selector));
    assert_eq!(placed(&pod, &devices).unwrap(), "a");
}

#[test]
fn a_spread_that_must_be_kept_is_kept_over_the_devices_that_take_pods() {
    let mut devices = two();
    let pod = |name: &str| with(name, &web(), &spread(&json!({})));
    holds(&mut devices[0], pod("1"));
    assert_eq!(placed(&pod("2"), &devices).unwrap(), "b");
    holds(&mut devices[1], pod("2"));
    assert_eq!(placed(&pod("3"), &devices).unwrap(), "a");
    holds(&mut devices[0], pod("3"));
    devices[1].free = Resources::new();
    let Err(NoPlace::NotNow(message)) = placed(&pod("4"), &devices) else {
        panic!()
    };
    assert!(message.contains("maxSkew is 1"), "{message}");
    // One that takes none is nothing to be even with.
    devices[1].closed = Some("offline".into());
    assert_eq!(placed(&pod("4"), &devices).unwrap(), "a");
    // One that leaves is not counted any more.
    devices[1].closed = None;
    devices[0].residents[1].leaving = true;
    assert_eq!(placed(&pod("4"), &devices).unwrap(), "a");
}

#[test]
fn an_annotation_spreads_the_pods_of_a_controller() {
    let owned = json!({
        "annotations": {MAX_SKEW_ANNOTATION: "1"},
        "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "r", "controller": true}],
    });
    let mut devices = two();
    devices[0].siblings = 1;
    let pod = with("new", &owned, &json!({}));
    assert_eq!(placed(&pod, &devices).unwrap(), "b");
    devices[1].free = Resources::new();
    assert!(matches!(
        placed(&pod, &devices),
        Err(NoPlace::NotNow(m)) if m.contains("flightctl.io/max-skew 1")
    ));
    for (metadata, words) in [
        (
            json!({"annotations": {MAX_SKEW_ANNOTATION: "1"}}),
            "this pod has none",
        ),
        (
            json!({"annotations": {MAX_SKEW_ANNOTATION: "0"}, "ownerReferences": owned["ownerReferences"]}),
            "no number above 0",
        ),
    ] {
        assert!(matches!(
            placed(&with("new", &metadata, &json!({})), &devices),
            Err(NoPlace::Unsupported { field, message })
                if field == "metadata.annotations[flightctl.io/max-skew]" && message.contains(words)
        ));
    }
}

#[test]
fn what_devices_of_one_node_cannot_keep_is_refused_by_path() {
    let anti_path =
        "spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0]";
    let affinity = json!({"affinity": {"podAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": DEVICE_KEY}],
    }}});
    for (spec, path) in [
        (
            affinity,
            "spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0]"
                .to_owned(),
        ),
        (
            anti(&json!({"namespaceSelector": {}})),
            format!("{anti_path}.namespaceSelector"),
        ),
        (
            anti(&json!({"namespaces": ["a"]})),
            format!("{anti_path}.namespaces"),
        ),
        (
            spread(&json!({"minDomains": 3})),
            "spec.topologySpreadConstraints[0].minDomains".to_owned(),
        ),
        (
            spread(
                &json!({"labelSelector": {"matchExpressions": [{"key": "a", "operator": "Maybe"}]}}),
            ),
            "spec.topologySpreadConstraints[0].labelSelector".to_owned(),
        ),
    ] {
        let pod = with("new", &web(), &spec);
        assert!(
            matches!(placed(&pod, &two()), Err(NoPlace::Unsupported { field, .. }) if field == path),
            "{path}"
        );
        // The scheduler has decided, where it can.
        let own = [(DEVICE_KEY.to_owned(), "a".to_owned())].into();
        assert!(
            place(&pod, &own, Strategy::Spread, &two()[..1]).is_ok(),
            "{path}"
        );
    }
}

#[test]
fn rules_of_other_topologies_and_wishes_are_the_schedulers() {
    for spec in [
        anti(&json!({"topologyKey": "kubernetes.io/hostname", "labelSelector": {}})),
        spread(&json!({"whenUnsatisfiable": "ScheduleAnyway", "minDomains": 3})),
    ] {
        let mut devices = two();
        holds(&mut devices[0], with("old", &web(), &json!({})));
        assert_eq!(placed(&with("new", &web(), &spec), &devices).unwrap(), "a");
    }
}

#[test]
fn packing_fills_a_device_before_it_begins_another() {
    let mut devices = [candidate("a", 4000, 3000), candidate("b", 4000, 500)];
    let pod = request("a", "1", "400m", "1Mi");
    assert_eq!(place(&pod, &none(), Strategy::Pack, &devices).unwrap(), "b");
    assert_eq!(
        place(&pod, &none(), Strategy::Spread, &devices).unwrap(),
        "a"
    );
    devices[1].free.set("cpu", Amount::milli(300));
    assert_eq!(place(&pod, &none(), Strategy::Pack, &devices).unwrap(), "a");
    // Where it would wait it goes only if it has to.
    devices[1].free.set("cpu", Amount::milli(500));
    devices[1].hindered = Some("updates its OS".into());
    assert_eq!(place(&pod, &none(), Strategy::Pack, &devices).unwrap(), "a");
    devices[0].closed = Some("offline".into());
    assert_eq!(place(&pod, &none(), Strategy::Pack, &devices).unwrap(), "b");
}
