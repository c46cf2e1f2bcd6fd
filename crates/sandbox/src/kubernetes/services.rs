//! Services, as far as pods see them: addresses and ports. No proxy runs here,
//! so types that open ports elsewhere are refused by name.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use serde_json::{Value, json};

use super::defaults::{each, put};
use super::object;
use super::resource::SERVICES;
use super::status::{ApiError, FieldError};
use super::store::State;
use super::validate::label_fault;

/// Where addresses come from: 10.96.0.0/16, of which kubeadm's default
/// (10.96.0.0/12) is a wider form.
const RANGE: u32 = Ipv4Addr::new(10, 96, 0, 0).to_bits();
/// Addresses in the range, the first and the last, which nobody gets, included.
const SIZE: u32 = 1 << 16;
/// What a headless Service has instead of an address.
const HEADLESS: &str = "None";
/// The address of the Service `kubernetes`: the range's first, as the real
/// server takes it.
const API_ADDRESS: &str = "10.96.0.1";
/// Seconds a client keeps its pod with `sessionAffinity: ClientIP`.
const STICKY_SECONDS: u32 = 10_800;

/// The Service that leads to the API, as the real server makes it.
pub(crate) fn of_the_api() -> Value {
    json!({"metadata": {"name": "kubernetes",
            "labels": {"component": "apiserver", "provider": "kubernetes"}},
        "spec": {"clusterIP": API_ADDRESS,
            "ports": [{"name": "https", "protocol": "TCP", "port": 443, "targetPort": 6443}]}})
}

fn kind(service: &Value) -> &str {
    object::text(service, "/spec/type")
}

fn address(service: &Value) -> &str {
    object::text(service, "/spec/clusterIP")
}

/// Fills in an object on create and on update.
pub(crate) fn fill(service: &mut Value) {
    let spec = &mut service["spec"];
    put(spec, "type", json!("ClusterIP"));
    put(spec, "sessionAffinity", json!("None"));
    if spec["sessionAffinity"] == "ClientIP" {
        let sticky = json!({"clientIP": {"timeoutSeconds": STICKY_SECONDS}});
        put(spec, "sessionAffinityConfig", sticky);
    }
    for port in each(spec, "ports") {
        put(port, "protocol", json!("TCP"));
        let target = &port["targetPort"];
        if target.is_null() || target == 0 || target == "" {
            port["targetPort"] = port["port"].clone();
        }
    }
    if spec["clusterIP"] == ""
        && let Some(spec) = spec.as_object_mut()
    {
        spec.remove("clusterIP");
    }
    if spec["type"] == "ExternalName" {
        return;
    }
    put(spec, "internalTrafficPolicy", json!("Cluster"));
    let headless = spec["clusterIP"] == HEADLESS;
    let selects = spec["selector"].as_object().is_some_and(|s| !s.is_empty());
    // Whoever brings its own endpoints may bring any.
    let (families, policy) = if headless && !selects {
        (json!(["IPv4", "IPv6"]), "RequireDualStack")
    } else {
        (json!(["IPv4"]), "SingleStack")
    };
    put(spec, "ipFamilies", families);
    put(spec, "ipFamilyPolicy", json!(policy));
    if spec["clusterIP"].is_string() {
        let single = json!([spec["clusterIP"]]);
        put(spec, "clusterIPs", single);
    }
}

/// A new Service, before it has an address.
pub(crate) fn created(service: &Value, errors: &mut Vec<FieldError>) {
    spec(service, errors);
    let ips = &service["spec"]["clusterIPs"];
    let given = address(service);
    if given.is_empty() && !ips.is_null() {
        let detail = "must be empty when `clusterIP` is not specified";
        errors.push(FieldError::invalid("spec.clusterIPs", ips, detail));
    }
    if !given.is_empty() && given != HEADLESS && given.parse::<IpAddr>().is_err() {
        let detail = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
        errors.push(FieldError::invalid(
            "spec.clusterIPs[0]",
            &json!(given),
            detail,
        ));
    }
}

/// `new` in the place of `old`.
pub(crate) fn updated(old: &Value, new: &Value, errors: &mut Vec<FieldError>) {
    if kind(old) != kind(new) {
        let detail = "the sandbox does not change the type of a Service";
        errors.push(FieldError::forbidden("spec.type", detail));
        return;
    }
    spec(new, errors);
    let ips = "clusterIPs";
    if address(old) != address(new) || old["spec"][ips] != new["spec"][ips] {
        errors.push(FieldError::invalid(
            "spec.clusterIPs[0]",
            &new["spec"][ips],
            "may not change once set",
        ));
    }
}

/// A new status: no type that is made here has addresses outside.
pub(crate) fn status_updated(new: &Value, errors: &mut Vec<FieldError>) {
    if !object::items(new, "/status/loadBalancer/ingress").is_empty() {
        let detail = "may only be used when `spec.type` is 'LoadBalancer'";
        errors.push(FieldError::forbidden("status.loadBalancer.ingress", detail));
    }
}

fn spec(service: &Value, errors: &mut Vec<FieldError>) {
    let ports = object::items(service, "/spec/ports");
    match kind(service) {
        "ClusterIP" | "NodePort" | "LoadBalancer" => {
            if ports.is_empty() && address(service) != HEADLESS {
                errors.push(FieldError::required("spec.ports", ""));
            }
        }
        "ExternalName" => {
            if object::text(service, "/spec/externalName").is_empty() {
                errors.push(FieldError::required("spec.externalName", ""));
            }
        }
        other => {
            let known = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
            errors.push(FieldError::not_supported("spec.type", other, &known));
        }
    }
    for (index, port) in ports.iter().enumerate() {
        let at = format!("spec.ports[{index}]");
        let name = object::text(port, "/name");
        if name.is_empty() {
            if ports.len() > 1 {
                errors.push(FieldError::required(format!("{at}.name"), ""));
            }
        } else if let Some(fault) = label_fault(name) {
            let at = format!("{at}.name");
            errors.push(FieldError::invalid(at, &json!(name), fault));
        }
        for field in ["port", "targetPort"] {
            let number = port[field].as_i64();
            if number.is_some_and(|n| !(1..=65535).contains(&n)) {
                let detail = "must be between 1 and 65535, inclusive";
                let at = format!("{at}.{field}");
                errors.push(FieldError::invalid(at, &port[field], detail));
            }
        }
    }
}

/// Keeps the address that a PUT leaves out, and makes the list follow the
/// single one where only that was changed.
pub(crate) fn keep_address(old: &Value, new: &mut Value) {
    if kind(old) == "ExternalName" || kind(new) == "ExternalName" {
        return;
    }
    let spec = &mut new["spec"];
    let absent = spec["clusterIP"].as_str().is_none_or(str::is_empty);
    if absent {
        spec["clusterIP"] = old["spec"]["clusterIP"].clone();
    }
    if spec["clusterIPs"].is_null() || spec["clusterIPs"] == old["spec"]["clusterIPs"] {
        spec["clusterIPs"] = json!([spec["clusterIP"]]);
    }
}

/// Gives a new Service its address, or takes the one it asks for.
pub(crate) fn allocate(state: &State, service: &mut Value) -> Result<(), ApiError> {
    match kind(service) {
        "ExternalName" => return Ok(()),
        kind @ ("NodePort" | "LoadBalancer") => {
            return Err(ApiError::not_implemented(
                &format!("type {kind}"),
                "services",
            ));
        }
        _ => {}
    }
    let given = address(service);
    if given == HEADLESS {
        return Ok(());
    }
    let taken: BTreeSet<u32> = state
        .list(&SERVICES, None)
        .filter_map(|(_, service)| address(service).parse::<Ipv4Addr>().ok())
        .map(Ipv4Addr::to_bits)
        .collect();
    if let Ok(wanted) = given.parse::<IpAddr>() {
        let fault = match wanted {
            IpAddr::V4(ip) if (1..SIZE - 1).contains(&ip.to_bits().wrapping_sub(RANGE)) => taken
                .contains(&ip.to_bits())
                .then_some("provided IP is already allocated"),
            _ => Some("the provided network does not match the current range"),
        };
        return fault.map_or(Ok(()), |fault| {
            let detail = format!("failed to allocate IP {wanted}: {fault}");
            let ips = &service["spec"]["clusterIPs"];
            let error = FieldError::invalid("spec.clusterIPs", ips, &detail);
            Err(ApiError::invalid(
                &SERVICES,
                object::name(service),
                &[error],
            ))
        });
    }
    // From the revision on, so that one made anew under its old name gets
    // another address, as it nearly always does from the real server.
    let start = u32::try_from(state.revision() % u64::from(SIZE)).unwrap_or_default();
    let free = (0..SIZE)
        .map(|step| (start + step) % SIZE)
        .filter(|offset| (1..SIZE - 1).contains(offset))
        .map(|offset| RANGE + offset)
        .find(|bits| !taken.contains(bits))
        .ok_or_else(|| ApiError::internal("failed to allocate a serviceIP: range is full"))?;
    let ip = Ipv4Addr::from_bits(free).to_string();
    service["spec"]["clusterIPs"] = json!([ip]);
    service["spec"]["clusterIP"] = json!(ip);
    Ok(())
}
