//! What the containers of a pod see of a network: names, resolver, settings of the
//! kernel. It is the Podman pod's where there is one, and each container's where not.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{PodSpec, Sysctl};
use vk_provider::podspec::{Refusal, Refusals};

use crate::quadlet::{Key, TextError, Unit, Value, is_name};

/// Settings that concern a pod's own namespaces alone (kubelet:
/// `pkg/kubelet/sysctl`, `SafeSysctlAllowlist`).
pub(super) const SAFE_SYSCTLS: [&str; 12] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_wmem",
];
/// What is of a network namespace, and what of an IPC namespace; all else is the
/// device's own.
const OF_NETWORK: [&str; 1] = ["net."];
const OF_IPC: [&str; 4] = ["kernel.shm", "kernel.msg", "kernel.sem", "fs.mqueue."];
/// No search domains, not even the device's (podman-run(1), `--dns-search`).
const NO_SEARCH: &str = ".";
/// The resolver's default. Without any option Podman takes the device's.
const NO_OPTION: &str = "ndots:1";

/// Where it is written.
#[derive(Clone, Copy)]
pub(super) enum On {
    /// A container without a Podman pod.
    Container,
    /// The Podman pod.
    Pod,
}

/// Looks at what a pod asks for.
pub(super) fn check(spec: &PodSpec, refusals: &mut Refusals) {
    for (index, alias) in spec.host_aliases.iter().flatten().enumerate() {
        let path = format!("spec.hostAliases[{index}]");
        refusals.unless(
            alias.ip.parse::<IpAddr>().is_ok(),
            format!("{path}.ip"),
            "it is no IP address",
        );
        for (index, name) in alias.hostnames.iter().flatten().enumerate() {
            refusals.unless(
                name.split('.').all(is_name),
                format!("{path}.hostnames[{index}]"),
                "it is no host name",
            );
        }
    }
    resolver(spec, refusals);
    sysctls(spec, refusals);
}

fn is_none(spec: &PodSpec) -> bool {
    spec.dns_policy.as_deref() == Some("None")
}

fn resolver(spec: &PodSpec, refusals: &mut Refusals) {
    let (servers, searches) = (servers(spec), searches(spec));
    if is_none(spec) {
        refusals.unless(
            !servers.is_empty(),
            "spec.dnsConfig.nameservers",
            "dnsPolicy None needs one at least",
        );
    } else {
        // Podman takes the pod's in place of the device's, and not beside it.
        let why = "it would be in place of the device's own; set dnsPolicy: None and write all of it, or leave it out";
        refusals.unless(servers.is_empty(), "spec.dnsConfig.nameservers", why);
        refusals.unless(searches.is_empty(), "spec.dnsConfig.searches", why);
    }
    for (index, server) in servers.iter().enumerate() {
        refusals.unless(
            server.parse::<IpAddr>().is_ok(),
            format!("spec.dnsConfig.nameservers[{index}]"),
            "it is no IP address",
        );
    }
    for (index, search) in searches.iter().enumerate() {
        if let Err(why) = Value::plain(search) {
            refusals.add(format!("spec.dnsConfig.searches[{index}]"), why);
        }
    }
    for (index, option) in options(spec).enumerate() {
        if let Err(why) = Value::plain(&option) {
            refusals.add(format!("spec.dnsConfig.options[{index}]"), why);
        }
    }
}

fn servers(spec: &PodSpec) -> &[String] {
    let config = spec.dns_config.as_ref();
    let all = config.and_then(|c| c.nameservers.as_deref());
    all.unwrap_or_default()
}

fn searches(spec: &PodSpec) -> &[String] {
    let config = spec.dns_config.as_ref();
    let all = config.and_then(|c| c.searches.as_deref());
    all.unwrap_or_default()
}

fn settings(spec: &PodSpec) -> &[Sysctl] {
    let context = spec.security_context.as_ref();
    let all = context.and_then(|c| c.sysctls.as_deref());
    all.unwrap_or_default()
}

/// `ndots:2`, `use-vc`.
fn options(spec: &PodSpec) -> impl Iterator<Item = String> {
    let config = spec.dns_config.as_ref();
    let all = config.and_then(|c| c.options.as_ref());
    all.into_iter().flatten().map(|option| {
        let name = option.name.as_deref().unwrap_or_default();
        match option.value.as_deref().filter(|value| !value.is_empty()) {
            Some(value) => format!("{name}:{value}"),
            None => name.to_owned(),
        }
    })
}

fn sysctls(spec: &PodSpec, refusals: &mut Refusals) {
    for (index, sysctl) in settings(spec).iter().enumerate() {
        let path = format!("spec.securityContext.sysctls[{index}]");
        let of = |prefixes: &[&str]| prefixes.iter().any(|p| sysctl.name.starts_with(p));
        let why = if Value::plain(&sysctl.name).is_err() || sysctl.name.contains('/') {
            "it is no name of a setting; write it with dots"
        } else if of(&OF_NETWORK) && spec.host_network == Some(true) {
            "with hostNetwork it is the device's own"
        } else if of(&OF_IPC) && spec.host_ipc == Some(true) {
            "with hostIPC it is the device's own"
        } else if !of(&OF_NETWORK) && !of(&OF_IPC) {
            "it is the device's own and no pod's; set it on the device"
        } else {
            if let Err((_, why)) = setting(&sysctl.name, &sysctl.value) {
                refusals.add(format!("{path}.value"), why);
            }
            continue;
        };
        refusals.add(format!("{path}.name"), why);
    }
}

/// A value may have blanks in it.
fn setting(name: &str, value: &str) -> Result<Value, (usize, TextError)> {
    Value::words(&[format!("{name}={value}")])
}

/// Writes it into a unit.
pub(super) fn write(spec: &PodSpec, on: On, unit: &mut Unit) -> Result<(), Refusal> {
    let (host, dns, search, option) = match on {
        On::Container => (Key::AddHost, Key::Dns, Key::DnsSearch, Key::DnsOption),
        On::Pod => (
            Key::PodAddHost,
            Key::PodDns,
            Key::PodDnsSearch,
            Key::PodDnsOption,
        ),
    };
    let mut set = |key: Key, text: &str, path: &str| {
        let value = Value::plain(text);
        let set = value.and_then(|value| unit.set(key, value));
        set.map_err(|why| Refusal::new(path, why))
    };
    for alias in spec.host_aliases.iter().flatten() {
        for name in alias.hostnames.iter().flatten() {
            set(host, &format!("{name}:{}", alias.ip), "spec.hostAliases")?;
        }
    }
    let path = "spec.dnsConfig";
    for server in servers(spec) {
        set(dns, server, path)?;
    }
    let searches = searches(spec);
    for domain in searches {
        set(search, domain, path)?;
    }
    let mut without = true;
    for text in options(spec) {
        without = false;
        set(option, &text, path)?;
    }
    if is_none(spec) {
        if searches.is_empty() {
            set(search, NO_SEARCH, path)?;
        }
        if without {
            set(option, NO_OPTION, path)?;
        }
    }
    for sysctl in settings(spec) {
        let path = "spec.securityContext.sysctls";
        let value = match on {
            On::Container => setting(&sysctl.name, &sysctl.value),
            On::Pod => setting(&format!("--sysctl={}", sysctl.name), &sysctl.value),
        };
        let key = match on {
            On::Container => Key::Sysctl,
            On::Pod => Key::PodPodmanArgs,
        };
        let value = value.map_err(|(_, why)| Refusal::new(path, why))?;
        unit.set(key, value)
            .map_err(|why| Refusal::new(path, why))?;
    }
    Ok(())
}
