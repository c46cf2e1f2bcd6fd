//! With what Flight Control is asked. There is one credential and no order among
//! several: of two the forgotten one would be used some day.

use std::path::{Path, PathBuf};

use http::Uri;

use super::client_yaml;
use super::connection::parse_url;
use super::file::{File, Oidc};
use super::{ConfigError, Environment, read, value};
use crate::client::{ClientCredentials, Tls, TokenSource, Transport};

/// Where Kubernetes gives a pod the token of its ServiceAccount, a projected one.
/// It is for the API server, which is whom Flight Control in its Kubernetes mode asks
/// about it (a `TokenReview` without audiences, internal/auth/authn/k8s.go).
const SERVICE_ACCOUNT_TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

/// The credential, by the key that names it.
pub(super) enum Given<'a> {
    /// `FLIGHTCTL_AUTH_TOKEN`.
    Token(&'a str),
    /// `FLIGHTCTL_AUTH_TOKEN_FILE`, `flightctl.tokenFile`, `flightctl.serviceAccount`.
    File(PathBuf),
    /// `flightctl.clientConfig`.
    Login(&'a Path),
    /// `flightctl.oidc`.
    Client(&'a File, &'a Oidc),
}

impl<'a> Given<'a> {
    /// The only one.
    pub(super) fn of(environment: &'a Environment, file: &'a File) -> Result<Self, ConfigError> {
        let service = &file.flightctl;
        let account = service.service_account.filter(|used| *used);
        let all = [
            (
                "FLIGHTCTL_AUTH_TOKEN",
                environment.auth_token.as_deref().map(Self::Token),
            ),
            (
                "FLIGHTCTL_AUTH_TOKEN_FILE",
                environment
                    .auth_token_file
                    .as_ref()
                    .map(|path| Self::File(path.into())),
            ),
            (
                "flightctl.tokenFile",
                service.token_file.clone().map(Self::File),
            ),
            (
                "flightctl.serviceAccount",
                account.map(|_| Self::File(SERVICE_ACCOUNT_TOKEN.into())),
            ),
            (
                "flightctl.oidc",
                service.oidc.as_ref().map(|oidc| Self::Client(file, oidc)),
            ),
            (
                "flightctl.clientConfig",
                service.client_config.as_deref().map(Self::Login),
            ),
        ];
        let mut given = all.into_iter().filter_map(|(key, one)| Some((key, one?)));
        match (given.next(), given.next()) {
            (Some((_, one)), None) => Ok(one),
            (Some((key, _)), Some((other, _))) => Err(value(
                format!("{key} and {other}"),
                "each of them is a way to Flight Control's token; keep one",
            )),
            (None, _) => Err(value(
                "flightctl.tokenFile",
                "the token is missing; set FLIGHTCTL_AUTH_TOKEN, FLIGHTCTL_AUTH_TOKEN_FILE, flightctl.tokenFile, flightctl.serviceAccount, flightctl.oidc or flightctl.clientConfig",
            )),
        }
    }

    /// Where its tokens come from, for the service at `url`.
    pub(super) fn token(
        self,
        url: &Uri,
        tls: &Tls,
        insecure: bool,
    ) -> Result<TokenSource, ConfigError> {
        Ok(match self {
            Self::Token(token) => TokenSource::fixed(token),
            // One that is not there yet may still be mounted: that is no error of the
            // configuration.
            Self::File(path) => TokenSource::file(path),
            Self::Login(path) => {
                if client_yaml::tokens(&read(path)?).is_none() {
                    return Err(value(
                        format!("{}: authentication.access-token", path.display()),
                        "there is no token; run flightctl login",
                    ));
                }
                let http =
                    Transport::https(tls).map_err(|e| value("flightctl.caFile", e.to_string()))?;
                TokenSource::client_config(path.to_owned(), http, url)
            }
            Self::Client(file, oidc) => client(file, oidc, insecure)?,
        })
    }
}

fn client(file: &File, oidc: &Oidc, insecure: bool) -> Result<TokenSource, ConfigError> {
    let issuer = &oidc.issuer;
    parse_url("flightctl.oidc.issuer", &issuer.value, insecure)
        .map_err(|e| e.at(&file.path, issuer))?;
    if oidc.client_id.is_empty() {
        let error = value(
            "flightctl.oidc.clientId",
            "is empty; write the client's name at the issuer",
        );
        return Err(error.at(&file.path, issuer));
    }
    let tls = match &oidc.ca_file {
        _ if insecure => Tls::Insecure,
        Some(path) => Tls::Authorities(read(path)?.into_bytes()),
        None => Tls::System,
    };
    let http = Transport::https(&tls).map_err(|e| value("flightctl.oidc.caFile", e.to_string()))?;
    let client = ClientCredentials {
        issuer: issuer.value.trim().to_owned(),
        client_id: oidc.client_id.clone(),
        secret_file: oidc.client_secret_file.clone(),
        scopes: oidc.scopes.clone(),
        audience: oidc.audience.clone(),
    };
    Ok(TokenSource::client_credentials(client, http))
}
