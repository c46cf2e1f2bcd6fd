//! How Flight Control is reached: URL, certificate, organization, and the way to
//! its token.

use std::path::Path;

use http::Uri;

use super::client_yaml::ClientYaml;
use super::credentials::Given;
use super::file::{File, Service};
use super::{ConfigError, Environment, read, value};
use crate::client::{DEFAULT_PER_MINUTE, Tls, TokenSource};

/// Everything the client is made of.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) url: Uri,
    pub(super) tls: Tls,
    pub(super) token: TokenSource,
    pub(super) organization: Option<String>,
    pub(super) requests_per_minute: u32,
}

impl Connection {
    /// Environment over file over `client.yaml`; of credentials there is one.
    pub(super) fn of(environment: &Environment, file: &File) -> Result<Self, ConfigError> {
        let service = &file.flightctl;
        let yaml = match &service.client_config {
            None => None,
            Some(path) => {
                let text = read(path)?;
                let yaml = ClientYaml::parse(&path.display().to_string(), &text)?;
                Some((path.as_path(), yaml))
            }
        };
        let login = yaml.as_ref().map(|(path, yaml)| (*path, yaml));
        let insecure = match environment.insecure_tls.as_deref() {
            Some(text) => boolean("FLIGHTCTL_INSECURE_TLS", text)?,
            None => service
                .insecure_tls
                .unwrap_or_else(|| login.is_some_and(|(_, y)| y.insecure())),
        };
        let requests_per_minute = match &service.requests_per_minute {
            None => DEFAULT_PER_MINUTE,
            Some(zero) if zero.value == 0 => {
                let error = value(
                    "flightctl.requestsPerMinute",
                    "0 would let nothing pass; write at least 1",
                );
                return Err(error.at(&file.path, zero));
            }
            Some(number) => number.value,
        };
        let url = url(environment, file, login, insecure)?;
        let tls = tls(service, login, insecure)?;
        Ok(Self {
            token: Given::of(environment, file)?.token(&url, &tls, insecure)?,
            url,
            tls,
            organization: organization(file, login)?,
            requests_per_minute,
        })
    }
}

fn url(
    environment: &Environment,
    file: &File,
    login: Option<(&Path, &ClientYaml)>,
    insecure: bool,
) -> Result<Uri, ConfigError> {
    if let Some(text) = &environment.api_url {
        return parse_url("FLIGHTCTL_API_URL", text, insecure);
    }
    if let Some(text) = &file.flightctl.url {
        return parse_url("flightctl.url", &text.value, insecure)
            .map_err(|e| e.at(&file.path, text));
    }
    match login.and_then(|(path, yaml)| Some((path, yaml.server()?))) {
        Some((path, text)) => parse_url(
            &format!("{}: service.server", path.display()),
            text,
            insecure,
        ),
        None => Err(value(
            "flightctl.url",
            "Flight Control's URL is missing; set FLIGHTCTL_API_URL or flightctl.url",
        )),
    }
}

pub(super) fn parse_url(key: &str, text: &str, insecure: bool) -> Result<Uri, ConfigError> {
    let text = text.trim();
    let wrong = |why: &str| {
        value(
            key,
            format!("{text:?} {why}; write for example https://flightctl.example.com"),
        )
    };
    let uri: Uri = text.parse().map_err(|_| wrong("is no URL"))?;
    let Some(host) = uri
        .host()
        .filter(|_| matches!(uri.scheme_str(), Some("https" | "http")))
    else {
        return Err(wrong("has no https:// and host"));
    };
    if uri.query().is_some() {
        return Err(wrong("has a query"));
    }
    if uri.authority().is_some_and(|a| a.as_str().contains('@')) {
        return Err(wrong("has a user in it, and Flight Control takes a token"));
    }
    let address = host.trim_start_matches('[').trim_end_matches(']');
    let local = host == "localhost"
        || address
            .parse()
            .is_ok_and(|ip: std::net::IpAddr| ip.is_loopback());
    if uri.scheme_str() == Some("http") && !insecure && !local {
        return Err(wrong(
            "would send the token in the clear, unless insecureTLS asks for it",
        ));
    }
    Ok(uri)
}

fn tls(
    service: &Service,
    login: Option<(&Path, &ClientYaml)>,
    insecure: bool,
) -> Result<Tls, ConfigError> {
    if insecure {
        return Ok(Tls::Insecure);
    }
    let authorities = match (&service.ca_file, login) {
        (Some(path), _) => Some(read(path)?.into_bytes()),
        (None, Some((path, yaml))) => yaml.authorities(path)?,
        (None, None) => None,
    };
    let trust = authorities.map_or(Tls::System, Tls::Authorities);
    Ok(match login.and_then(|(_, yaml)| yaml.tls_server_name()) {
        None => trust,
        Some(name) => Tls::Named {
            server_name: name.into(),
            trust: Box::new(trust),
        },
    })
}

fn organization(
    file: &File,
    login: Option<(&Path, &ClientYaml)>,
) -> Result<Option<String>, ConfigError> {
    let why = |text: &str| format!("{text:?} is no UUID; `flightctl get organizations` shows them");
    if let Some(text) = &file.flightctl.organization {
        if !is_uuid(&text.value) {
            return Err(value("flightctl.organization", why(&text.value)).at(&file.path, text));
        }
        return Ok(Some(text.value.clone()));
    }
    match login.and_then(|(path, yaml)| Some((path, yaml.organization()?))) {
        Some((path, text)) if !is_uuid(text) => Err(value(
            format!("{}: organization", path.display()),
            why(text),
        )),
        Some((_, text)) => Ok(Some(text.into())),
        None => Ok(None),
    }
}

fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.char_indices().all(|(at, c)| match at {
            8 | 13 | 18 | 23 => c == '-',
            _ => c.is_ascii_hexdigit(),
        })
}

/// As Go reads booleans, which is how the variable was read so far.
fn boolean(key: &str, text: &str) -> Result<bool, ConfigError> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "t" | "1" => Ok(true),
        "false" | "f" | "0" => Ok(false),
        _ => Err(value(key, format!("{text:?} is neither true nor false"))),
    }
}
