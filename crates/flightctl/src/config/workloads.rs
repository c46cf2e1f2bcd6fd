//! What pods on devices are told of the cluster they belong to, and what they may do.

use std::collections::BTreeSet;
use std::path::Path;

use http::uri::Authority;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use vk_provider::environment::ApiServer;

use super::file::{At, File};
use super::{ConfigError, read, value};
use crate::quadlet::is_name;

/// The port of `https`.
const HTTPS: u16 = 443;
/// Longest name of a namespace (a DNS label).
const NAMESPACE_LIMIT: usize = 63;

/// What workloads outside the cluster get of it, and of their devices.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Workloads {
    /// Where they reach the API server; without one they do not.
    pub api_server: Option<ApiServer>,
    /// What its certificate is to be checked against, as PEM; without it, what the
    /// cluster publishes in each namespace (`kube-root-ca.crt`).
    pub api_server_ca: Option<String>,
    /// Namespaces whose pods may have tokens of their ServiceAccounts on devices.
    pub token_namespaces: BTreeSet<String>,
    /// Namespaces whose pods may get hold of their devices: `privileged`, `hostPID`
    /// and whatever else Kubernetes' Pod Security Standard *baseline* forbids.
    pub privileged_namespaces: BTreeSet<String>,
}

pub(super) fn workloads(file: &File) -> Result<Workloads, ConfigError> {
    let given = &file.workloads;
    let wrong = |key: &str, why: String, at: &At<String>| {
        value(format!("workloads.{key}"), why).at(&file.path, at)
    };
    let api_server = match &given.api_server {
        None => None,
        Some(at) => Some(api_server(&at.value).map_err(|why| wrong("apiServer", why, at))?),
    };
    let needs = |key: &str, at: &At<String>| {
        match api_server {
        Some(_) => Ok(()),
        None => Err(wrong(
            key,
            "it is of no use without a way to the API server from devices; set workloads.apiServer as well, or leave it out".into(),
            at,
        )),
    }
    };
    let mut api_server_ca = None;
    if let Some(at) = &given.api_server_ca {
        needs("apiServerCA", at)?;
        api_server_ca = Some(pem(&at.value).map_err(|why| wrong("apiServerCA", why, at))?);
    }
    let namespaces = |key: &str, given: &[At<String>]| {
        let name = |at: &At<String>| {
            let name = &at.value;
            if is_name(name) && name.len() <= NAMESPACE_LIMIT {
                return Ok(name.clone());
            }
            let why = format!("{name:?} is no name of a namespace; list each one by its name");
            Err(wrong(key, why, at))
        };
        given.iter().map(name).collect::<Result<BTreeSet<_>, _>>()
    };
    for at in &given.service_account_tokens {
        needs("serviceAccountTokens", at)?;
    }
    let token_namespaces = namespaces("serviceAccountTokens", &given.service_account_tokens)?;
    let privileged_namespaces = namespaces("privileged", &given.privileged)?;
    Ok(Workloads {
        api_server,
        api_server_ca,
        token_namespaces,
        privileged_namespaces,
    })
}

/// `https://host`, `https://host:6443`, `host:6443`.
fn api_server(text: &str) -> Result<ApiServer, String> {
    let wrong = || {
        format!(
            "{text:?} is no address of an API server; write for example https://api.example.com:6443"
        )
    };
    let (rest, default) = match text.split_once("://") {
        None => (text, None),
        Some(("https", rest)) => (rest.strip_suffix('/').unwrap_or(rest), Some(HTTPS)),
        Some(_) => {
            return Err(format!(
                "{text:?} is not https, the only way to an API server"
            ));
        }
    };
    let authority: Authority = rest.parse().map_err(|_| wrong())?;
    if rest.contains('@') {
        return Err(wrong());
    }
    let host = authority.host();
    let host = host
        .strip_prefix('[')
        .and_then(|h| h.strip_suffix(']'))
        .unwrap_or(host);
    let named = authority.as_str() != authority.host();
    let port = match authority.port_u16() {
        Some(port) if port > 0 => port,
        None if !named => default.ok_or_else(wrong)?,
        _ => return Err(wrong()),
    };
    if host.is_empty() {
        return Err(wrong());
    }
    let host = host.to_owned();
    Ok(ApiServer { host, port })
}

/// The text of a file of certificates.
fn pem(path: &str) -> Result<String, String> {
    let text = read(Path::new(path)).map_err(|error| error.to_string())?;
    let mut certificates = CertificateDer::pem_slice_iter(text.as_bytes());
    match certificates.next() {
        Some(Ok(_)) => Ok(text),
        _ => Err(format!("{path} holds no certificate in PEM")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_api_server_is_a_url_or_a_host_with_its_port() {
        let of = |text: &str| api_server(text).map(|a| (a.host, a.port)).ok();
        let is = |host: &str, port| Some((host.to_owned(), port));
        assert_eq!(of("https://api.example.com"), is("api.example.com", 443));
        assert_eq!(of("https://10.0.0.1:6443/"), is("10.0.0.1", 6443));
        assert_eq!(of("api.example.com:6443"), is("api.example.com", 6443));
        assert_eq!(of("https://[fd00::1]:6443"), is("fd00::1", 6443));
        for odd in [
            "",
            "api.example.com",
            "http://api.example.com",
            "https://",
            "https://u@api.example.com",
            "https://api.example.com/path",
            "https://api.example.com:0",
            "https://api.example.com:70000",
            "a b:1",
        ] {
            assert_eq!(of(odd), None, "{odd}");
        }
    }
}
