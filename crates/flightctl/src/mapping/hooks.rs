//! What runs before a container is told to end.
//!
//! The service of a container runs it (`ExecStop=`), within the grace period; a
//! container that ends by itself has none, as in Kubernetes (kubelet:
//! `killContainer`). What runs after the start of a container cannot be: the service
//! would not count as started until it has ended, and hold the whole device.

use k8s_openapi::api::core::v1::Container;
use vk_provider::podspec::{Refusal, Refusals};

use super::shape::{Part, Shape};
use crate::quadlet::{Key, TextError, Unit, Value};

/// What a container has at least after its hook (kubelet:
/// `minimumGracePeriodInSeconds`).
const LEAST: i64 = 2;

/// Looks at the hooks of a container.
pub(super) fn check(container: &Container, path: &str, refusals: &mut Refusals) {
    let path = format!("{path}.lifecycle");
    let Some(lifecycle) = &container.lifecycle else {
        return;
    };
    let exec = lifecycle
        .pre_stop
        .as_ref()
        .and_then(|hook| hook.exec.as_ref());
    if let Some(exec) = exec {
        let words = exec.command.as_deref().unwrap_or_default();
        refusals.unless(
            !words.is_empty(),
            format!("{path}.preStop.exec.command"),
            "there is none",
        );
        if let Err((index, why)) = Value::command(String::new(), words) {
            refusals.add(format!("{path}.preStop.exec.command[{index}]"), why);
        }
    }
    let sleep = lifecycle
        .pre_stop
        .as_ref()
        .and_then(|hook| hook.sleep.as_ref());
    refusals.unless(
        sleep.is_none_or(|sleep| sleep.seconds >= 0),
        format!("{path}.preStop.sleep.seconds"),
        "it is no number of seconds",
    );
    let signal = lifecycle.stop_signal.as_deref();
    refusals.unless(
        signal.is_none_or(|signal| signal.starts_with("SIG") && Value::plain(signal).is_ok()),
        format!("{path}.stopSignal"),
        "it is no name of a signal",
    );
}

/// Writes the hooks of a container into its unit.
pub(super) fn write(shape: &Shape<'_>, part: &Part<'_>, unit: &mut Unit) -> Result<(), Refusal> {
    let path = format!("{}.lifecycle", part.path);
    let refused = |why: TextError| Refusal::new(&path, why);
    let Some(lifecycle) = &part.container.lifecycle else {
        return Ok(());
    };
    if let Some(signal) = &lifecycle.stop_signal {
        let value = Value::ours(format!("--stop-signal={signal}")).map_err(refused)?;
        unit.set(Key::PodmanArgs, value).map_err(refused)?;
    }
    let Some(hook) = &lifecycle.pre_stop else {
        return Ok(());
    };
    // No grace, no hook (kubelet).
    let grace = shape.grace;
    if grace == 0 {
        return Ok(());
    }
    let name = format!("{}-{}", shape.id, part.name());
    let words = hook.exec.as_ref().and_then(|exec| exec.command.as_deref());
    let (act, words) = match (words, &hook.sleep) {
        (Some(words), _) => (format!(r#"podman exec {name} "$$@""#), words),
        (None, Some(sleep)) => (format!("sleep {}", sleep.seconds), &[][..]),
        (None, None) => return Ok(()),
    };
    // By the clock that nobody sets. `$MAINPID` is of a container that runs.
    let script = format!(
        "-/bin/sh -c '[ \"$${{MAINPID:-0}}\" != 0 ] || exit 0; read -r a b </proc/uptime; \
         timeout {grace} {act}; read -r c b </proc/uptime; \
         r=$$(({grace} + $${{a%%.*}} - $${{c%%.*}})); [ $$r -ge {LEAST} ] || r={LEAST}; \
         podman stop -i -t $$r {name}' sh"
    );
    let value = Value::command(script, words).map_err(|(index, why)| {
        Refusal::new(format!("{path}.preStop.exec.command[{index}]"), why)
    })?;
    unit.set(Key::ExecStop, value).map_err(refused)
}
