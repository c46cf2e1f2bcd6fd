//! What happens to containers while they run: probes and hooks.

use serde_json::{Value, json};

use super::super::warnings;
use super::{APP, app_id, check, files, line, one, pod, refused};

fn unit(container: Value) -> String {
    files(one(container))["app.container"].clone()
}

#[test]
fn a_container_is_ended_whose_command_says_that_it_is_not_alive() {
    let name = format!("{}-app", app_id(APP));
    let expected = |delay: u32, limit: u32, failures: u32, period: u32| {
        format!(
            "/bin/sh -c 'm=$$MAINPID; {{ sleep {delay}; f=0; while kill -0 $$m 2>/dev/null; do \
             if timeout -k 1 {limit} podman exec {name} \"$$@\" >/dev/null 2>&1; then f=0; else f=$$((f + 1)); fi; \
             [ $$f -lt {failures} ] || {{ systemctl is-active --quiet %n || exit; \
             echo liveness probe failed, ending the container; podman stop -i {name}; exit; }}; \
             sleep {period}; done; }} &' sh"
        )
    };
    let text = unit(json!({"livenessProbe": {
        "exec": {"command": ["test", "-f", "/a $b"]}, "initialDelaySeconds": 7, "periodSeconds": 3, "timeoutSeconds": 2, "failureThreshold": 4, "successThreshold": 1}}));
    let words = "\"test\" \"-f\" \"/a $$b\"";
    assert_eq!(
        line(&text, "ExecStartPost"),
        [format!("{} {words}", expected(7, 4, 4, 3))]
    );
    let text = unit(json!({"livenessProbe": {"exec": {"command": ["/check"]}}}));
    assert_eq!(
        line(&text, "ExecStartPost"),
        [format!("{} \"/check\"", expected(0, 3, 3, 10))]
    );
}

#[test]
fn liveness_waits_as_long_as_a_startup_probe_that_nobody_runs_would_have() {
    let spec = one(json!({
        "livenessProbe": {"exec": {"command": ["x", "y"]}, "initialDelaySeconds": 5},
        "startupProbe": {"httpGet": {"port": 1}, "initialDelaySeconds": 2, "periodSeconds": 4, "failureThreshold": 30},
    }));
    assert_eq!(refused(spec.clone()), "spec.containers[0].startupProbe");
    let mut request = pod(spec.clone());
    let pod_ = std::sync::Arc::make_mut(&mut request.pod);
    pod_.metadata.annotations = Some([("flightctl.io/probes".into(), "ignore".into())].into());
    assert_eq!(check(&request), Ok(()));
    assert_eq!(warnings(&request)[0].0, "ProbesIgnored");
    let text = super::application_of(&request).to_string();
    assert!(text.contains("sleep 122;"), "{text}");
    // One that is run is nothing to warn of.
    let alive = one(json!({"livenessProbe": {"exec": {"command": ["x", "y"]}}}));
    assert!(warnings(&pod(alive)).is_empty());
}

#[test]
fn a_hook_runs_before_the_end_and_within_the_grace_period() {
    let hooked = |hook: Value, grace: i64| {
        let mut spec = one(json!({"lifecycle": {"preStop": hook, "stopSignal": "SIGUSR1"}}));
        spec["terminationGracePeriodSeconds"] = json!(grace);
        files(spec)["app.container"].clone()
    };
    let name = format!("{}-app", app_id(APP));
    let expected = |act: &str| {
        format!(
            "-/bin/sh -c '[ \"$${{MAINPID:-0}}\" != 0 ] || exit 0; read -r a b </proc/uptime; timeout 20 {act}; \
             read -r c b </proc/uptime; r=$$((20 + $${{a%%.*}} - $${{c%%.*}})); [ $$r -ge 2 ] || r=2; \
             podman stop -i -t $$r {name}' sh"
        )
    };
    let text = hooked(
        json!({"exec": {"command": ["sh", "-c", "echo $X '%n'", ""]}}),
        20,
    );
    let act = format!("podman exec {name} \"$$@\"");
    assert_eq!(
        line(&text, "ExecStop"),
        [format!(
            "{} \"sh\" \"-c\" \"echo $$X '%%n'\" \"\"",
            expected(&act)
        )]
    );
    assert_eq!(line(&text, "PodmanArgs"), ["--stop-signal=SIGUSR1"]);
    let text = hooked(json!({"sleep": {"seconds": 4}}), 20);
    assert_eq!(line(&text, "ExecStop"), [expected("sleep 4")]);
    // As with the kubelet.
    assert!(line(&hooked(json!({"sleep": {"seconds": 4}}), 0), "ExecStop").is_empty());
}

#[test]
fn probes_and_hooks_that_nobody_runs_are_refused_by_path() {
    let exec = json!({"command": ["x", "y"]});
    for (container, path) in [
        (
            json!({"livenessProbe": {"httpGet": {"port": 1}}}),
            "livenessProbe.httpGet",
        ),
        (
            json!({"livenessProbe": {"grpc": {"port": 1}, "periodSeconds": 5}}),
            "livenessProbe.grpc",
        ),
        (
            json!({"livenessProbe": {"exec": exec, "terminationGracePeriodSeconds": 1}}),
            "livenessProbe.terminationGracePeriodSeconds",
        ),
        (
            json!({"livenessProbe": {"exec": {"command": ["sh", "a\0"]}}}),
            "livenessProbe.exec.command[1]",
        ),
        (
            json!({"livenessProbe": {"exec": exec}, "lifecycle": {"preStop": {"exec": exec}}}),
            "livenessProbe.exec",
        ),
        (
            json!({"lifecycle": {"preStop": {"httpGet": {"port": 1}}}}),
            "lifecycle.preStop.httpGet",
        ),
        (
            json!({"lifecycle": {"preStop": {"exec": {"command": ["x", "\u{ffff}"]}}}}),
            "lifecycle.preStop.exec.command[1]",
        ),
        (
            json!({"lifecycle": {"postStart": {"exec": exec}}}),
            "lifecycle.postStart",
        ),
        (
            json!({"lifecycle": {"stopSignal": "SIGTERM --privileged"}}),
            "lifecycle.stopSignal",
        ),
    ] {
        assert_eq!(
            refused(one(container)),
            format!("spec.containers[0].{path}")
        );
    }
    // A grace of its own is refused also where other probes are ignored.
    let mut request = pod(one(
        json!({"livenessProbe": {"exec": exec, "terminationGracePeriodSeconds": 1}}),
    ));
    let pod_ = std::sync::Arc::make_mut(&mut request.pod);
    pod_.metadata.annotations = Some([("flightctl.io/probes".into(), "ignore".into())].into());
    assert!(check(&request).is_err());
}
