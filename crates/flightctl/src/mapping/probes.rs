//! Liveness by a command: the one probe that can be run on a device. Nothing of any
//! probe comes back from it.
//!
//! The service of a container runs it, beside the container. Podman's own health
//! checks will not do: Podman 5.4 waits for ever for a command that hangs, and tells
//! each run of one to Flight Control's agent, which keeps them all until a reboot.

use k8s_openapi::api::core::v1::{Container, Probe};
use vk_provider::podspec::{Refusal, Refusals};

use super::shape::{Part, Shape};
use crate::quadlet::{Key, TextError, Unit, Value};

/// Kubernetes' defaults, for objects that never went through its API server.
const PERIOD: i32 = 10;
const TIMEOUT: i32 = 1;
const FAILURES: i32 = 3;
/// In seconds: what Podman takes on a slow device until the command runs. A probe's
/// timeout is of the command alone.
const PODMAN: i64 = 2;

/// The command by which a container is alive, where it has one.
fn command(probe: &Probe) -> Option<&[String]> {
    let exec = probe.exec.as_ref()?;
    exec.command.as_deref().filter(|words| !words.is_empty())
}

/// Whether a probe of a container is one that nobody runs.
pub(super) fn any_ignored(container: &Container) -> bool {
    let liveness = container.liveness_probe.as_ref();
    container.readiness_probe.is_some()
        || container.startup_probe.is_some()
        || liveness.is_some_and(|probe| command(probe).is_none())
}

/// Looks at the probe of a container.
pub(super) fn check(container: &Container, path: &str, refusals: &mut Refusals) {
    let Some(probe) = &container.liveness_probe else {
        return;
    };
    let path = format!("{path}.livenessProbe");
    let Some(words) = command(probe) else { return };
    if let Err((index, why)) = Value::command(String::new(), words) {
        refusals.add(format!("{path}.exec.command[{index}]"), why);
    }
    refusals.unless(
        probe.termination_grace_period_seconds.is_none(),
        format!("{path}.terminationGracePeriodSeconds"),
        "a container on a device has one grace period; set spec.terminationGracePeriodSeconds",
    );
    refusals.unless(
        container
            .lifecycle
            .as_ref()
            .is_none_or(|l| l.pre_stop.is_none()),
        format!("{path}.exec"),
        "a container that fails it would be ended without its preStop hook; use one of them",
    );
}

/// Writes the probe of a container into its unit.
pub(super) fn write(shape: &Shape<'_>, part: &Part<'_>, unit: &mut Unit) -> Result<(), Refusal> {
    let Some(probe) = &part.container.liveness_probe else {
        return Ok(());
    };
    let Some(words) = command(probe) else {
        return Ok(());
    };
    let path = format!("{}.livenessProbe", part.path);
    let or = |given: Option<i32>, default: i32| given.filter(|n| *n > 0).unwrap_or(default);
    let name = format!("{}-{}", shape.id, part.name());
    let delay = delay(part.container, probe);
    let limit = i64::from(or(probe.timeout_seconds, TIMEOUT)) + PODMAN;
    let failures = or(probe.failure_threshold, FAILURES);
    let period = or(probe.period_seconds, PERIOD);
    // It goes on in the background, for the service counts as started when this
    // ends; systemd ends it with the service. A container that is being stopped is
    // not asked any more, as in Kubernetes.
    let script = format!(
        "/bin/sh -c 'm=$$MAINPID; {{ sleep {delay}; f=0; while kill -0 $$m 2>/dev/null; do \
         if timeout -k 1 {limit} podman exec {name} \"$$@\" >/dev/null 2>&1; then f=0; else f=$$((f + 1)); fi; \
         [ $$f -lt {failures} ] || {{ systemctl is-active --quiet %n || exit; \
         echo liveness probe failed, ending the container; podman stop -i {name}; exit; }}; \
         sleep {period}; done; }} &' sh"
    );
    let value = Value::command(script, words)
        .map_err(|(index, why)| Refusal::new(format!("{path}.exec.command[{index}]"), why))?;
    let set = unit.set(Key::ExecStartPost, value);
    set.map_err(|why: TextError| Refusal::new(path, why))
}

/// Until it is run first. A startup probe, which nobody runs, would have kept it
/// waiting for as long.
fn delay(container: &Container, probe: &Probe) -> i64 {
    let own = i64::from(probe.initial_delay_seconds.unwrap_or_default().max(0));
    let startup = container.startup_probe.as_ref().map_or(0, |startup| {
        let tries = i64::from(startup.failure_threshold.unwrap_or(FAILURES).max(0));
        let period = i64::from(startup.period_seconds.unwrap_or(PERIOD).max(0));
        i64::from(startup.initial_delay_seconds.unwrap_or_default().max(0)) + tries * period
    });
    own.max(startup)
}
