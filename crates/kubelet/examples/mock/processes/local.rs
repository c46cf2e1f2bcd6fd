//! Whose pods may run here: those of an API server on this machine.

use std::io;
use std::net::IpAddr;

use http::Uri;
use tokio::net::{TcpListener, lookup_host};

/// Fails with a sentence unless the API server has an address of this machine:
/// whoever can create pods there can run commands here. A tunnel to another
/// machine looks like one that is here and cannot be told from it.
///
/// # Errors
/// It is elsewhere, or is reached by a proxy.
pub(crate) async fn check(server: &Uri, proxy: Option<&Uri>) -> Result<(), String> {
    const WHY: &str = "--processes runs the commands of pods on this machine without any isolation";
    if let Some(proxy) = proxy {
        return Err(format!(
            "{WHY}: the API server must be on it and be reached directly, not by the proxy {proxy}"
        ));
    }
    let host = server.host().unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let found = lookup_host((host, server.port_u16().unwrap_or(443))).await;
    let found = found.map_err(|error| format!("{WHY}, and {host} cannot be looked up: {error}"))?;
    let mut here = false;
    for address in found {
        let ip = address.ip();
        if !is_own(ip)
            .await
            .map_err(|error| format!("{WHY}, and {ip}: {error}"))?
        {
            return Err(format!(
                "{WHY}: the API server must be on it, and {ip} is no address of this machine"
            ));
        }
        here = true;
    }
    match here {
        true => Ok(()),
        false => Err(format!("{WHY}, and {host} has no address")),
    }
}

/// Only own addresses can be listened on.
async fn is_own(ip: IpAddr) -> io::Result<bool> {
    if ip.is_loopback() || ip.is_unspecified() {
        return Ok(ip.is_loopback());
    }
    match TcpListener::bind((ip, 0)).await {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => Ok(false),
        Err(error) => Err(error),
    }
}
