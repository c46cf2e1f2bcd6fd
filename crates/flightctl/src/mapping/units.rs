//! The files of an application: how its units start, wait and end.
//!
//! Nothing here may hold the device: its agent starts an application's target
//! and waits for every unit in it, so that a unit that takes its time (a oneshot,
//! `Notify=healthy`) stops all updates and statuses of the device. Units whose
//! turn has not come are therefore skipped by a condition and started by the one
//! before them.

use super::container::container;
use super::expected::{Policy, Role};
use super::memory;
use super::network::{self, On};
use super::shape::{Part, Shape};
use crate::quadlet::{Key, TextError, Unit, Value};
use crate::types::InlineFile;
use vk_provider::BackendError;
use vk_provider::podspec::Refusal;
use zeroize::Zeroizing;

/// Between two runs of a container, in seconds.
const RESTART: &str = "5";
/// Between two tries of an init container.
const INIT_RESTART: &str = "4";
/// systemd waits this much longer than Podman, which kills by itself.
const STOP_MARGIN: i64 = 10;
/// What systemd tells an `ExecStopPost`, `$` doubled.
const SUCCESS: &str = r#"[ "$$SERVICE_RESULT" = success ] && [ "$$EXIT_STATUS" = 0 ]"#;

/// What an application is made of.
pub(super) struct Files {
    /// All its files but the marker.
    pub(super) inline: Vec<InlineFile>,
    /// By container, the variables that no file of an application may have.
    pub(super) environments: Vec<(String, Zeroizing<String>)>,
}

/// The files of a pod's application.
pub(super) fn files(shape: &Shape<'_>) -> Result<Files, BackendError> {
    let mut files = Vec::new();
    let mut environments = Vec::new();
    if let Some(stem) = &shape.pod {
        let mut unit =
            pod(shape, stem).map_err(|why| Refusal::new("spec.containers", too_many(why)))?;
        network::write(shape.spec, On::Pod, &mut unit)?;
        memory::write(shape, &mut unit)?;
        files.push(InlineFile::new(format!("{stem}.pod"), unit.text()));
    }
    for (index, part) in shape.parts.iter().enumerate() {
        let (mut unit, variables) = container(shape, part)?;
        environments.push((part.name().to_owned(), variables));
        run(shape, index, part, &mut unit)
            .map_err(|why| Refusal::new("spec.containers", too_many(why)))?;
        files.push(InlineFile::new(
            format!("{}.container", part.name()),
            unit.text(),
        ));
    }
    Ok(Files {
        inline: files,
        environments,
    })
}

/// Only lines that name every container can fail here.
fn too_many(why: TextError) -> String {
    format!(
        "the pod has too many containers, or too long names, for a line that names them all: {why}"
    )
}

fn set(unit: &mut Unit, key: Key, text: String) -> Result<(), TextError> {
    unit.set(key, Value::ours(text)?)
}

/// Sections `[Unit]`, `[Service]` and `[Install]` of a container.
fn run(shape: &Shape<'_>, index: usize, part: &Part<'_>, unit: &mut Unit) -> Result<(), TextError> {
    if shape.policy != Policy::Never {
        // With systemd's limit a container that ends fast is given up at the fifth start.
        unit.set(Key::StartLimitInterval, Value::fixed("0"))?;
    }
    let before = shape.parts.get(..index).unwrap_or_default();
    // Regular containers wait for all init containers, those for the ones before them.
    if let Some(init) = before.iter().rfind(|p| p.role == Role::Init) {
        set(unit, Key::Condition, shape.succeeded(init))?;
        set(unit, Key::After, init.service())?;
    }
    for sidecar in before.iter().filter(|p| p.role == Role::Sidecar) {
        set(unit, Key::Wants, sidecar.service())?;
        set(unit, Key::After, sidecar.service())?;
    }
    match (part.role, shape.policy) {
        (Role::Init, _) => init(shape, index, part, unit)?,
        (_, Policy::Always) => {
            unit.set(Key::Restart, Value::fixed("always"))?;
            unit.set(Key::RestartSec, Value::fixed(RESTART))?;
        }
        (_, Policy::OnFailure) => {
            set(unit, Key::Condition, format!("!{}", shape.done(part)))?;
            unit.set(Key::Restart, Value::fixed("on-failure"))?;
            unit.set(Key::RestartSec, Value::fixed(RESTART))?;
            set(unit, Key::ExecStopPost, on_success(&finish(shape, part)))?;
        }
        (_, Policy::Never) => once(unit, &shape.ran(part))?,
    }
    set(
        unit,
        Key::TimeoutStop,
        (shape.grace + STOP_MARGIN).to_string(),
    )?;
    // Without it the agent finds the unit not loaded and rolls everything back.
    unit.set(Key::WantedBy, Value::fixed("default.target"))
}

fn init(
    shape: &Shape<'_>,
    index: usize,
    part: &Part<'_>,
    unit: &mut Unit,
) -> Result<(), TextError> {
    let succeeded = shape.succeeded(part);
    match shape.policy {
        Policy::Never => once(unit, &shape.ran(part))?,
        policy => {
            set(unit, Key::Condition, format!("!{succeeded}"))?;
            if policy == Policy::OnFailure {
                // After a reboot of a device where the pod has completed.
                set(unit, Key::Condition, format!("!{}", shape.all_done()))?;
            }
            unit.set(Key::Restart, Value::fixed("on-failure"))?;
            unit.set(Key::RestartSec, Value::fixed(INIT_RESTART))?;
        }
    }
    set(
        unit,
        Key::ExecStopPost,
        on_success(&format!(": > {succeeded}")),
    )?;
    // Up to the next init container; systemd starts them when the mark is written.
    for next in shape.parts.iter().skip(index + 1) {
        set(unit, Key::OnSuccess, next.service())?;
        if next.role == Role::Init {
            break;
        }
    }
    Ok(())
}

/// At most one run: not at the next start of the agent, not after a reboot.
fn once(unit: &mut Unit, mark: &str) -> Result<(), TextError> {
    set(unit, Key::Condition, format!("!{mark}"))?;
    unit.set(Key::Restart, Value::fixed("no"))?;
    set(unit, Key::ExecStartPre, format!("/usr/bin/touch {mark}"))
}

fn on_success(script: &str) -> String {
    format!("/bin/sh -c 'if {SUCCESS}; then {script}; fi'")
}

/// What a container of an `OnFailure` pod does after it succeeded: the last one
/// ends the Podman pod, which would otherwise stay for ever.
fn finish(shape: &Shape<'_>, part: &Part<'_>) -> String {
    let mut script = format!(": > {}", shape.done(part));
    let end = shape.pod.as_ref().map(|stem| {
        let id = &shape.id;
        format!("; systemctl stop --no-block {id}-{stem}-pod.service")
    });
    let end = end.unwrap_or_default();
    let apps: Vec<_> = shape.of_role(Role::App).collect();
    if apps.len() > 1 {
        let all: Vec<String> = apps
            .iter()
            .map(|app| format!("[ -e {} ]", shape.done(app)))
            .collect();
        script.push_str(&format!(
            "; if {}; then : > {}{end}; fi",
            all.join(" && "),
            shape.all_done()
        ));
    } else {
        script.push_str(&end);
    }
    script
}

/// The Podman pod.
fn pod(shape: &Shape<'_>, stem: &str) -> Result<Unit, TextError> {
    let mut unit = Unit::default();
    set(&mut unit, Key::PodName, stem.to_owned())?;
    let mut arguments = Vec::new();
    // By default a Podman pod ends with its last container: right for one that
    // never runs twice, wrong for all others.
    if shape.policy != Policy::Never {
        arguments.push("--exit-policy=continue".to_owned());
    }
    if let Some(hostname) = &shape.hostname {
        arguments.push(format!("--hostname={hostname}"));
    }
    if shape.spec.share_process_namespace == Some(true) {
        arguments.push("--share=+pid".to_owned());
    }
    if !arguments.is_empty() {
        set(&mut unit, Key::PodPodmanArgs, arguments.join(" "))?;
    }
    let inside = shape
        .parts
        .iter()
        .filter(|part| shape.joins(part).is_some());
    let mut published = std::collections::BTreeSet::new();
    for port in inside.flat_map(|part| super::container::ports(part.container)) {
        if published.insert(port.clone()) {
            unit.set(Key::PodPublishPort, Value::plain(&port)?)?;
        }
    }
    let last_init = shape.of_role(Role::Init).next_back();
    match shape.policy {
        Policy::Always => {
            // A new Podman pod begins with its init containers.
            let marks: Vec<String> = shape
                .of_role(Role::Init)
                .map(|init| shape.succeeded(init))
                .collect();
            for mark in marks {
                set(&mut unit, Key::ExecStopPost, format!("/bin/rm -f {mark}"))?;
            }
        }
        Policy::OnFailure => set(&mut unit, Key::Condition, format!("!{}", shape.all_done()))?,
        Policy::Never => {
            let mark = shape.pod_ran();
            set(&mut unit, Key::Condition, format!("!{mark}"))?;
            set(
                &mut unit,
                Key::ExecStartPre,
                format!("/usr/bin/touch {mark}"),
            )?;
        }
    }
    // Init containers are outside then, and an infra container alone would say *running*.
    if let (Some(init), false) = (last_init, shape.policy == Policy::Always) {
        set(&mut unit, Key::Condition, shape.succeeded(init))?;
    }
    unit.set(Key::WantedBy, Value::fixed("default.target"))?;
    Ok(unit)
}
