//! Section `[Container]`: what a container is, and what it needs before it starts.

use k8s_openapi::api::core::v1::Container;

use super::network::{self, On};
use super::resources;
use super::shape::{Part, Shape};
use super::{env, hooks, probes, security};
use super::{payload, volumes};
use crate::quadlet::{Key, TextError, Unit, Value};
use vk_provider::BackendError;
use vk_provider::environment::Origin;
use vk_provider::podspec::Refusal;
use zeroize::Zeroizing;

/// The unit of a container, still without how it is run, and the text of the file
/// with those of its variables that are not in it.
pub(super) fn container(
    shape: &Shape<'_>,
    part: &Part<'_>,
) -> Result<(Unit, Zeroizing<String>), BackendError> {
    let mut unit = Unit::default();
    let own = |why: TextError| Refusal::new(format!("{}.name", part.path), why);
    let field = |name: &'static str| {
        move |why: TextError| Refusal::new(format!("{}.{name}", part.path), why)
    };
    let container = part.container;

    unit.set(
        Key::Image,
        Value::plain(&part.image).map_err(field("image"))?,
    )
    .map_err(field("image"))?;
    unit.set(Key::ContainerName, Value::plain(part.name()).map_err(own)?)
        .map_err(own)?;
    match shape.joins(part) {
        Some(stem) => unit
            .set(Key::InPod, Value::ours(format!("{stem}.pod")).map_err(own)?)
            .map_err(own)?,
        None => {
            if shape.host_network {
                unit.set(Key::Network, Value::fixed("host")).map_err(own)?;
            }
            if let Some(hostname) = &shape.hostname {
                unit.set(Key::HostName, Value::plain(hostname).map_err(own)?)
                    .map_err(own)?;
            }
            network::write(shape.spec, On::Container, &mut unit)?;
            // With the device's network every port is published already.
            for port in ports(container).filter(|_| !shape.host_network) {
                unit.set(
                    Key::PublishPort,
                    Value::plain(&port).map_err(field("ports"))?,
                )
                .map_err(field("ports"))?;
            }
        }
    }
    command(part, &mut unit)?;
    let variables = env::write(part, &mut unit)?;
    if !variables.is_empty() {
        let file = payload::environment_file(&shape.app, part.name());
        unit.set(Key::EnvironmentFile, Value::ours(file).map_err(own)?)
            .map_err(own)?;
    }
    if let Some(dir) = container
        .working_dir
        .as_deref()
        .filter(|dir| !dir.is_empty())
    {
        let refused = field("workingDir");
        unit.set(Key::WorkingDir, Value::path(dir).map_err(refused)?)
            .map_err(refused)?;
    }
    for (shared, namespace) in [
        (shape.spec.host_pid, "--pid=host"),
        (shape.spec.host_ipc, "--ipc=host"),
    ] {
        if shared == Some(true) {
            unit.set(Key::PodmanArgs, Value::fixed(namespace))
                .map_err(own)?;
        }
    }
    security::write(shape, part, &mut unit)?;
    volumes::write(shape, part, &mut unit)?;
    if !variables.is_empty() || volumes::has_files(part, shape.volumes) {
        volumes::close(shape, &mut unit).map_err(own)?;
    }
    let arguments = resources::arguments(container);
    if !arguments.is_empty() {
        let refused = field("resources");
        unit.set(
            Key::PodmanArgs,
            Value::ours(arguments.join(" ")).map_err(refused)?,
        )
        .map_err(refused)?;
    }
    // `Always` is left out: a container that restarts while the registry is away
    // would not start, and one that starts slowly holds the whole device.
    if container.image_pull_policy.as_deref() == Some("Never") {
        unit.set(Key::Pull, Value::fixed("never")).map_err(own)?;
    }
    probes::write(shape, part, &mut unit)?;
    hooks::write(shape, part, &mut unit)?;
    let grace = field("terminationGracePeriodSeconds");
    unit.set(
        Key::StopTimeout,
        Value::ours(shape.grace.to_string()).map_err(grace)?,
    )
    .map_err(grace)?;
    Ok((unit, variables))
}

/// `command` and `args`: with a command all words as one JSON array, which keeps
/// every string; otherwise the words behind the image's own entrypoint.
fn command(part: &Part<'_>, unit: &mut Unit) -> Result<(), BackendError> {
    let command = part.container.command.as_deref().unwrap_or_default();
    let args = part.container.args.as_deref().unwrap_or_default();
    let path = |index: usize| match index.checked_sub(command.len()) {
        None => format!("{}.command[{index}]", part.path),
        Some(index) => format!("{}.args[{index}]", part.path),
    };
    let raw = || command.iter().chain(args);
    let origin = |word: &String| part.given.environment.origin(word);
    if let Some(index) = raw().position(|word| origin(word) == Origin::Secret) {
        let why = "it would hold the text of a Secret, which must not stand in a unit; let the program read the variable itself, or mount the Secret as a file";
        return Err(Refusal::new(path(index), why).into());
    }
    let given = &part.given.command;
    let words = [&**given.command, &**given.args].concat();
    let refused = |(index, why): (usize, TextError)| {
        let origin = raw().nth(index).map(origin).unwrap_or_default();
        env::given(part, origin, Refusal::new(path(index), why))
    };
    if words.is_empty() {
        return Ok(());
    }
    if command.is_empty() {
        let value = Value::words(&words).map_err(refused)?;
        return unit.set(Key::Exec, value).map_err(|why| refused((0, why)));
    }
    if words.first().is_some_and(String::is_empty) {
        return Err(refused((0, TextError::Form("it is empty"))));
    }
    if let Some(value) = Value::json(&words).map_err(refused)? {
        return unit
            .set(Key::Entrypoint, value)
            .map_err(|why| refused((0, why)));
    }
    // Too long for one line: the rest as words, which may take many lines.
    let (first, rest) = words.split_at(1);
    let Some(entrypoint) = Value::json(first).map_err(refused)? else {
        return Err(refused((
            0,
            TextError::TooLong(first.iter().map(String::len).sum()),
        )));
    };
    unit.set(Key::Entrypoint, entrypoint)
        .map_err(|why| refused((0, why)))?;
    if rest.is_empty() {
        return Ok(());
    }
    let value = Value::words(rest).map_err(|(index, why)| refused((index + 1, why)))?;
    unit.set(Key::Exec, value).map_err(|why| refused((1, why)))
}

/// Published ports: `127.0.0.1:8080:80/udp`. Without a host port nothing is
/// published: pods on devices have no address of their own.
pub(super) fn ports(container: &Container) -> impl Iterator<Item = String> {
    container.ports.iter().flatten().filter_map(|port| {
        let host = port.host_port.filter(|p| *p != 0)?;
        let ip = match port.host_ip.as_deref().filter(|ip| !ip.is_empty()) {
            Some(ip) if ip.contains(':') => format!("[{ip}]:"),
            Some(ip) => format!("{ip}:"),
            None => String::new(),
        };
        let protocol = match port.protocol.as_deref() {
            Some("UDP") => "/udp",
            _ => "",
        };
        Some(format!("{ip}{host}:{}{protocol}", port.container_port))
    })
}
