//! Declarations over small pods.

use serde_json::{Value, json};

use super::*;

static SOME: Declaration = Declaration::new(&[
    no_meaning(
        "spec.{schedulerName,nodeName,tolerations}",
        "the scheduler's",
    ),
    refused_but("spec.hostPID", "one process tree", Values::Bool(false)),
    refused("spec.{hostAliases,dnsConfig,overhead}", "not here"),
    refused("spec.securityContext", "set it in the image"),
    refused_but(
        "spec.securityContext.seccompProfile.type",
        "set it in the image",
        Values::Words(&["RuntimeDefault"]),
    ),
    refused("spec.volumes", "no volumes"),
    honoured("spec.volumes[].name", "t"),
    honoured_only(
        "spec.terminationGracePeriodSeconds",
        "t",
        Values::Range(0, 9),
        "0 to 9",
    ),
    honoured("spec.{containers,initContainers}[].{name,image,env}", "t"),
    refused(
        "spec.{containers,initContainers}[].lifecycle.{preStop,postStart}",
        "no hooks",
    ),
    refused_unless(
        "spec.containers[].livenessProbe",
        "no probes",
        ("probes", "ignore"),
    ),
    refused("spec.ephemeralContainers", "nothing joins a pod"),
]);

fn paths(declaration: &Declaration, spec: &Value) -> Vec<String> {
    let found = declaration.check(spec, |_| None);
    found.0.into_iter().map(|r| r.path).collect()
}

#[test]
fn what_is_refused_is_named_by_its_place_in_the_pod() {
    let spec = json!({
        "containers": [
            {"name": "a", "env": [{"name": "A", "value": "1"}], "livenessProbe": {"exec": {"command": ["x"]}}},
            {"name": "b", "lifecycle": {"postStart": {"sleep": {"seconds": 1}}}},
        ],
        "initContainers": [{"name": "i", "lifecycle": {"preStop": {"sleep": {"seconds": 1}}}}],
        "hostPID": true,
        "hostAliases": [{"ip": "10.0.0.1"}],
        "overhead": {"cpu": "1"},
        "securityContext": {"runAsUser": 0, "seccompProfile": {"type": "Unconfined"}},
        "terminationGracePeriodSeconds": 10,
        "volumes": [{"name": "v", "emptyDir": {}}],
    });
    let mut found = paths(&SOME, &spec);
    assert_eq!(
        found.split_off(found.len() - 3),
        [
            "spec.initContainers[0].lifecycle.preStop",
            "spec.containers[0].livenessProbe",
            "spec.containers[1].lifecycle.postStart",
        ],
        "containers come last"
    );
    found.sort();
    assert_eq!(
        found,
        [
            "spec.hostAliases",
            "spec.hostPID",
            "spec.overhead",
            "spec.securityContext.runAsUser",
            "spec.securityContext.seccompProfile.type",
            "spec.terminationGracePeriodSeconds",
            "spec.volumes[0].emptyDir",
        ]
    );
}

#[test]
fn what_says_nothing_or_has_no_meaning_passes() {
    let spec = json!({
        "containers": [{"name": "a", "image": "i", "lifecycle": {}}],
        "dnsConfig": {"nameservers": []}, "hostAliases": [], "hostPID": false, "overhead": {},
        "nodeName": "n", "schedulerName": "s", "tolerations": [{"operator": "Exists"}],
        "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}, "windowsOptions": null},
        "terminationGracePeriodSeconds": 9, "runtimeClassName": "",
    });
    assert_eq!(paths(&SOME, &spec), [""; 0]);
}

#[test]
fn a_field_that_nobody_declared_is_refused_even_below_what_is_honoured() {
    let spec = json!({
        "containers": [{"name": "a", "tty": false, "env": [{"name": "A", "novel": 1}]}],
        "hostIPC": false,
        "tolerations": [{"novel": "x"}],
        "novel": {"x": 1},
    });
    assert_eq!(
        paths(&SOME, &spec),
        [
            "spec.hostIPC",
            "spec.novel",
            "spec.tolerations[0].novel",
            "spec.containers[0].env[0].novel",
            "spec.containers[0].tty",
        ]
    );
}

#[test]
fn an_annotation_waives_what_the_rule_lets_it() {
    let spec = json!({"containers": [{"livenessProbe": {"exec": {"command": ["x"]}}}]});
    let with = |value: &str| {
        let value = value.to_owned();
        SOME.check(&spec, |name| (name == "probes").then(|| value.clone()))
    };
    assert_eq!(with("ignore"), Refusals::default());
    assert_eq!(with("run").0.len(), 1);
}

#[test]
fn an_ephemeral_container_never_ends_the_pod_it_was_added_to() {
    let spec = json!({"ephemeralContainers": [{"name": "debug"}]});
    assert_eq!(paths(&SOME, &spec), [""; 0]);
    assert!(matches!(
        SOME.handling("spec.ephemeralContainers[].name"),
        Some(Handling::Refused { .. })
    ));
}

#[test]
fn a_declaration_tells_its_own_faults() {
    static FAULTY: Declaration = Declaration::new(&[
        no_meaning("spec", "nothing runs"),
        no_meaning("pods/resize", "nothing runs"),
        refused("spec.{hostPID,hostPDI}", "typing"),
        refused("spec.hostPID", "again"),
        refused("spec.containers.name", "brackets"),
        refused_but("spec.dnsConfig", "blurred", Values::Bool(true)),
        refused("spec.dnsConfig.searches[]", "blurs"),
        refused("spec.volumes[].secret", "no volumes"),
        honoured("spec.volumes[].secret.optional", "t"),
    ]);
    assert_eq!(
        FAULTY.problems(),
        [
            "spec.hostPDI: there is no such field",
            "spec.hostPID: declared twice",
            "spec.containers.name: there is no such field",
            "spec.dnsConfig: a rule of single values has rules below it",
            "spec.volumes[].secret: refused, so it can have no rules below it",
        ]
    );
    static PARTIAL: Declaration = Declaration::new(&[no_meaning("spec.os", "x")]);
    let missing = PARTIAL.problems();
    assert!(missing.contains(&"pods/resize: not declared, so it is refused".to_owned()));
    assert!(
        !missing.iter().any(|m| m.starts_with("spec.os")),
        "{missing:?}"
    );
}

#[test]
fn the_record_is_sorted_and_holds_what_a_pod_has() {
    let lines: Vec<&str> = FIELDS.lines().collect();
    assert!(lines.is_sorted() && lines.len() > 1000, "{}", lines.len());
    for line in [
        "spec.containers[].securityContext.seccompProfile.type string",
        "spec.ephemeralContainers[].targetContainerName string",
        "spec.nodeSelector{} string",
        "spec.os.name string",
    ] {
        assert!(lines.contains(&line), "{line}");
    }
}

#[test]
fn the_table_joins_what_is_alike() {
    let text = table(&[("some", &SOME)]);
    for line in [
        "| `spec.tolerations[]` and the 5 below | no meaning: the scheduler's |",
        "| `spec.hostIPC` | refused: not declared |",
        "| `spec.hostPID` | refused but for `false`: one process tree |",
        "| `spec.terminationGracePeriodSeconds` | **honoured**, only 0 to 9 (0 to 9); test `t` |",
        "| `spec.{initContainers,containers}[].image` | **honoured**; test `t` |",
        "| `spec.initContainers[].livenessProbe` and the 22 below | refused: not declared |",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    let once = text.matches("emptyDir").count();
    assert_eq!(once, 1, "a kind of volume that is refused is one row");
}
