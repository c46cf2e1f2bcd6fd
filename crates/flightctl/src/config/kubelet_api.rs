//! The kubelet API of the nodes: whether they have one, where, and what it shows.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use virtual_kubelet::{ApiSettings, ClientCa, ServingCertificate};

use super::file::{At, File, nearest};
use super::{ConfigError, Environment, read, value};

/// A port for each of a hundred nodes, the kubelet's own first; the file says
/// where there are more.
const PORTS: RangeInclusive<u16> = 10_250..=10_349;
/// Any port that is free.
const ANY_PORT: RangeInclusive<u16> = 0..=0;

/// `None`: nodes have no API. Without a word it is served where the process knows
/// the address that the API server reaches it at, which is in a pod: elsewhere
/// nodes would tell an address at which nothing answers.
pub(super) fn kubelet_api(
    environment: &Environment,
    file: &File,
    nodes: usize,
) -> Result<Option<ApiSettings>, ConfigError> {
    let given = &file.kubelet_api;
    // All of it is checked also while it is off: it may be turned on any day.
    let address = address(environment, file)?;
    let bind = match &given.bind_address {
        Some(at) => Some(ip(&at.value).map_err(|why| wrong(file, "bindAddress", why, at))?),
        None => None,
    };
    let ports = ports(file, nodes)?;
    let certificate = certificate(file)?;
    let client_ca = client_ca(file)?;
    let defaults = ApiSettings::new(ports);
    let connections = match &given.max_connections {
        Some(at) if at.value == 0 => {
            let why = "0 would let nobody in; write at least 1".into();
            return Err(wrong(file, "maxConnections", why, at));
        }
        Some(at) => at.value,
        None => defaults.connections,
    };
    let address = match (&given.enabled, address) {
        (Some(at), _) if !at.value => return Ok(None),
        (None, None) => return Ok(None),
        (Some(at), None) => {
            let why = "the API server could not reach it: nothing says at which address this process is; set kubeletApi.address, or the variable POD_IP from status.podIP as config/deployment.yaml does".into();
            return Err(wrong(file, "enabled", why, at));
        }
        (_, Some(address)) => address,
    };
    Ok(Some(ApiSettings {
        bind: bind.unwrap_or_else(|| all_of_its_kind(address)),
        address: Some(address),
        certificate,
        client_ca,
        connections,
        ..defaults
    }))
}

fn wrong<T>(file: &File, key: &str, why: String, at: &At<T>) -> ConfigError {
    value(format!("kubeletApi.{key}"), why).at(&file.path, at)
}

/// The file's, which may name another way in than the pod's own address.
fn address(environment: &Environment, file: &File) -> Result<Option<IpAddr>, ConfigError> {
    let dialled = |text: &str| match ip(text)? {
        all if all.is_unspecified() || all.is_multicast() => Err(format!(
            "{text:?} is no address that the API server can dial; write one that leads to this process"
        )),
        address => Ok(address),
    };
    match (&file.kubelet_api.address, &environment.pod_ip) {
        (Some(at), _) => match dialled(&at.value) {
            Ok(address) => Ok(Some(address)),
            Err(why) => Err(wrong(file, "address", why, at)),
        },
        (None, Some(text)) => match dialled(text) {
            Ok(address) => Ok(Some(address)),
            Err(why) => Err(value("POD_IP", why)),
        },
        (None, None) => Ok(None),
    }
}

fn ip(text: &str) -> Result<IpAddr, String> {
    text.parse()
        .map_err(|_| format!("{text:?} is no IP address; write for example 10.0.0.1 or fd00::1"))
}

/// A system without IPv6 has no `::` to listen at.
fn all_of_its_kind(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}

/// Each node has one of its own; those of `fleetLabel` are not known yet.
fn ports(file: &File, nodes: usize) -> Result<RangeInclusive<u16>, ConfigError> {
    let Some(at) = &file.kubelet_api.ports else {
        return Ok(PORTS);
    };
    let example = || format!("write for example \"{}-{}\"", PORTS.start(), PORTS.end());
    let Some(ports) = range(&at.value) else {
        let why = format!("{:?} is no range of ports; {}", at.value, example());
        return Err(wrong(file, "ports", why, at));
    };
    let room = ports.len();
    if ports != ANY_PORT && room < nodes {
        let why = format!(
            "{:?} has room for {room}, and nodeName and fleets make {nodes} nodes, each with a port of its own; {}",
            at.value,
            example()
        );
        return Err(wrong(file, "ports", why, at));
    }
    Ok(ports)
}

/// `10250-10349`, `10250`, or `0` for any.
fn range(text: &str) -> Option<RangeInclusive<u16>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let ports = first.trim().parse().ok()?..=last.trim().parse().ok()?;
    (ports == ANY_PORT || *ports.start() > 0 && !ports.is_empty()).then_some(ports)
}

fn certificate(file: &File) -> Result<ServingCertificate, ConfigError> {
    let given = &file.kubelet_api;
    let files = match (&given.cert_file, &given.key_file) {
        (None, None) => None,
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (Some(alone), None) => {
            let why = "a certificate is of no use without its key; set kubeletApi.keyFile as well";
            return Err(wrong(file, "certFile", why.into(), alone));
        }
        (None, Some(alone)) => {
            let why = "a key is of no use without its certificate; set kubeletApi.certFile as well";
            return Err(wrong(file, "keyFile", why.into(), alone));
        }
    };
    if let Some((certificate, key)) = files {
        if let Some(at) = &given.certificate {
            let why = format!(
                "{:?} and certFile exclude each other; keep one of them",
                at.value
            );
            return Err(wrong(file, "certificate", why, at));
        }
        certificates(&certificate.value)
            .map_err(|why| wrong(file, "certFile", why, certificate))?;
        private_key(&key.value).map_err(|why| wrong(file, "keyFile", why, key))?;
        return Ok(ServingCertificate::Files {
            certificate: PathBuf::from(&certificate.value),
            key: PathBuf::from(&key.value),
        });
    }
    let Some(at) = &given.certificate else {
        return Ok(ServingCertificate::SelfSigned);
    };
    match at.value.as_str() {
        "selfSigned" => Ok(ServingCertificate::SelfSigned),
        "requested" => Ok(ServingCertificate::Requested),
        other => {
            let why = format!(
                "{other:?} is neither selfSigned nor requested; for files set certFile and keyFile"
            );
            Err(wrong(file, "certificate", why, at))
        }
    }
}

fn client_ca(file: &File) -> Result<ClientCa, ConfigError> {
    let Some(at) = &file.kubelet_api.client_ca else {
        return Ok(ClientCa::Cluster);
    };
    match at.value.as_str() {
        "cluster" => Ok(ClientCa::Cluster),
        "none" => Ok(ClientCa::Nobody),
        path if path.contains('/') => match certificates(path) {
            Ok(()) => Ok(ClientCa::File(path.into())),
            Err(why) => Err(wrong(file, "clientCA", why, at)),
        },
        other => {
            let like = nearest(other, &["cluster", "none"]);
            let remedy = like.map_or_else(
                || "write a path with a / in it for a file".into(),
                |word| format!("did you mean `{word}`?"),
            );
            let why = format!("{other:?} is neither cluster, none nor a file; {remedy}");
            Err(wrong(file, "clientCA", why, at))
        }
    }
}

fn certificates(path: &str) -> Result<(), String> {
    let text = read(Path::new(path)).map_err(|error| error.to_string())?;
    match CertificateDer::pem_slice_iter(text.as_bytes()).next() {
        Some(Ok(_)) => Ok(()),
        _ => Err(format!("{path} holds no certificate in PEM")),
    }
}

fn private_key(path: &str) -> Result<(), String> {
    let text = read(Path::new(path)).map_err(|error| error.to_string())?;
    match PrivateKeyDer::from_pem_slice(text.as_bytes()) {
        Ok(_) => Ok(()),
        // The library's words might quote the file.
        Err(_) => Err(format!("{path} holds no private key in PEM")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_a_range_one_or_any() {
        assert_eq!(range("10250-10349"), Some(10_250..=10_349));
        assert_eq!(range("10250 - 10251"), Some(10_250..=10_251));
        assert_eq!(range("10250"), Some(10_250..=10_250));
        assert_eq!(range("0"), Some(ANY_PORT));
        for odd in [
            "",
            "-",
            "10250-",
            "10251-10250",
            "0-5",
            "65536",
            "a-b",
            "1-2-3",
        ] {
            assert_eq!(range(odd), None, "{odd}");
        }
    }
}
