//! Flight Control's own `client.yaml`, as its CLI writes it at `flightctl login`.
//! Unknown keys are passed over: it is not our file.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
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

/// The token in the text of a `client.yaml`.
pub(crate) fn token(text: &str) -> Option<String> {
    let yaml: ClientYaml = serde_saphyr::from_str(text).ok()?;
    let Authentication {
        access_token,
        id_token,
        token_to_use,
    } = yaml.authentication;
    match token_to_use.as_deref() {
        Some("id") => id_token,
        _ => access_token,
    }
}

#[cfg(test)]
mod tests {
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
  auth-provider: {name: oidc}
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
        assert_eq!(token(YAML).as_deref(), Some("the-id-token"));
        assert_eq!(
            token(&YAML.replace("token-to-use: id", "")).as_deref(),
            Some("the-access-token")
        );
        assert!(!format!("{yaml:?}").contains("the-id-token"));
    }
}
