//! Flight Control's own `client.yaml`, as its CLI writes it at `flightctl login`.
//! Unknown keys are passed over: it is not our file.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use secrecy::SecretString;
use serde::Deserialize;

use super::file::place;
use super::{ConfigError, read, value};

/// What is read of it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct ClientYaml {
    service: Service,
    authentication: Authentication,
    organization: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct Service {
    server: Option<String>,
    certificate_authority: Option<String>,
    certificate_authority_data: Option<String>,
    tls_server_name: Option<String>,
    #[serde(rename = "insecureSkipVerify")]
    insecure_skip_verify: bool,
}

#[derive(Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct Authentication {
    access_token: Option<String>,
    id_token: Option<String>,
    token_to_use: Option<String>,
    access_token_expiry: Option<String>,
    refresh_token: Option<String>,
    auth_provider: Option<AuthProviderConfig>,
}

#[derive(Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct AuthProviderConfig {
    auth_provider: Option<AuthProvider>,
}

/// As the API has it.
#[derive(Clone, Default, Deserialize)]
#[serde(default)]
struct AuthProvider {
    metadata: Metadata,
    spec: Spec,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default)]
struct Metadata {
    name: Option<String>,
}

#[derive(Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    client_id: Option<String>,
}

impl std::fmt::Debug for Authentication {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authentication").finish_non_exhaustive()
    }
}

impl ClientYaml {
    /// Reads its text.
    ///
    /// # Errors
    /// It is no YAML of that shape.
    pub fn parse(path: &str, text: &str) -> Result<Self, ConfigError> {
        // Neither snippet nor message: both may quote a token.
        serde_saphyr::from_str(text).map_err(|e| ConfigError::Parse {
            place: place(path, e.location().map_or(0, |at| at.line())),
            why: "is not what `flightctl login` writes; run it again".into(),
        })
    }

    /// The service's URL.
    pub fn server(&self) -> Option<&str> {
        self.service.server.as_deref()
    }

    /// Whether its certificate is not checked.
    pub fn insecure(&self) -> bool {
        self.service.insecure_skip_verify
    }

    /// The name in its certificate, where that is not the URL's host.
    pub fn tls_server_name(&self) -> Option<&str> {
        self.service
            .tls_server_name
            .as_deref()
            .filter(|name| !name.is_empty())
    }

    /// The organization's UUID.
    pub fn organization(&self) -> Option<&str> {
        self.organization.as_deref().filter(|o| !o.is_empty())
    }

    /// The certificate authorities in PEM, inline or from the file it names,
    /// relative to `path`.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn authorities(&self, path: &Path) -> Result<Option<Vec<u8>>, ConfigError> {
        if let Some(data) = self
            .service
            .certificate_authority_data
            .as_deref()
            .filter(|d| !d.is_empty())
        {
            let pem = STANDARD.decode(data.trim()).map_err(|e| {
                value(
                    "service.certificate-authority-data",
                    format!("is no base64: {e}; run flightctl login again"),
                )
            })?;
            return Ok(Some(pem));
        }
        match self
            .service
            .certificate_authority
            .as_deref()
            .filter(|f| !f.is_empty())
        {
            None => Ok(None),
            Some(file) => {
                let folder = path.parent().unwrap_or(Path::new("."));
                Ok(Some(read(&folder.join(file))?.into_bytes()))
            }
        }
    }
}

/// What a login left in a `client.yaml` to be known by.
#[derive(Debug)]
pub(crate) struct Tokens {
    /// The one to send.
    pub(crate) token: SecretString,
    /// Whether that is the ID token.
    pub(crate) id_is_used: bool,
    /// When the access token is over.
    pub(crate) expiry: Option<Timestamp>,
    /// What another one is got with.
    pub(crate) refresh: Option<RefreshToken>,
}

/// A refresh token, whose it is and who passes it on.
#[derive(Debug)]
pub(crate) struct RefreshToken {
    pub(crate) token: SecretString,
    pub(crate) client_id: String,
    /// The name of Flight Control's `AuthProvider`.
    pub(crate) provider: String,
}

/// The tokens in the text of a `client.yaml`; `None` where there is no login in it.
pub(crate) fn tokens(text: &str) -> Option<Tokens> {
    let yaml: ClientYaml = serde_saphyr::from_str(text).ok()?;
    let login = yaml.authentication;
    let id_is_used = login.token_to_use.as_deref() == Some("id");
    let token = if id_is_used {
        login.id_token
    } else {
        login.access_token
    };
    let token = token.filter(|token| !token.trim().is_empty())?;
    let provider = login.auth_provider.and_then(|config| config.auth_provider);
    let refresh = provider.and_then(|provider| {
        Some(RefreshToken {
            token: login.refresh_token.filter(|t| !t.is_empty())?.into(),
            client_id: provider.spec.client_id?,
            provider: provider.metadata.name?,
        })
    });
    Some(Tokens {
        token: token.trim().into(),
        id_is_used,
        expiry: login.access_token_expiry.and_then(|at| at.parse().ok()),
        refresh,
    })
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    const YAML: &str = "
service:
  server: https://fc.example.com:3443
  certificate-authority-data: UEVN
  tls-server-name: api.fc.example.com
  insecureSkipVerify: false
authentication:
  access-token: the-access-token
  id-token: the-id-token
  token-to-use: id
  access-token-expiry: 2026-12-01T10:00:00.123456789+01:00
  refresh-token: the-refresh-token
  auth-provider:
    auth-provider:
      apiVersion: flightctl.io/v1beta1
      kind: AuthProvider
      metadata: {name: oidc}
      spec: {providerType: oidc, issuer: 'https://issuer', clientId: flightctl, scopes: [openid]}
    ca-file: /ca.crt
organization: 00000000-0000-0000-0000-000000000000
";

    #[test]
    fn reads_what_the_cli_writes() {
        let yaml = ClientYaml::parse("client.yaml", YAML).unwrap();
        assert_eq!(yaml.server(), Some("https://fc.example.com:3443"));
        assert_eq!(yaml.tls_server_name(), Some("api.fc.example.com"));
        assert_eq!(
            yaml.authorities(Path::new("client.yaml")).unwrap().unwrap(),
            b"PEM"
        );
        let login = tokens(YAML).unwrap();
        assert_eq!(login.token.expose_secret(), "the-id-token");
        assert_eq!(
            login.expiry.unwrap().to_string(),
            "2026-12-01T09:00:00.123456789Z"
        );
        let refresh = login.refresh.as_ref().unwrap();
        assert_eq!(refresh.token.expose_secret(), "the-refresh-token");
        assert_eq!(
            (&*refresh.client_id, &*refresh.provider),
            ("flightctl", "oidc")
        );
        let access = tokens(&YAML.replace("token-to-use: id", "")).unwrap();
        assert_eq!(access.token.expose_secret(), "the-access-token");
        assert!(!format!("{login:?}").contains("the-"), "{login:?}");
        assert!(!format!("{yaml:?}").contains("the-id-token"));
    }
}
