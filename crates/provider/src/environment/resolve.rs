//! From what a container declares to what it is started with.

use k8s_openapi::api::core::v1::{ConfigMap, Container, EnvFromSource, EnvVarSource, Pod, Secret};
use zeroize::Zeroizing;

use super::variables::{Variables, variable};
use super::{Environment, EnvironmentError, Kind, Origin, Placement};
use super::{fields, resources, services};
use crate::inputs::Inputs;

/// The environment of one container of `pod`.
///
/// Where the inputs name an API server, it stands for the service `kubernetes`.
///
/// # Errors
/// The container cannot be started as things are; the text is the kubelet's for
/// the reason [`EnvironmentError::REASON`].
pub fn environment(
    pod: &Pod,
    container: &Container,
    inputs: &Inputs,
    placement: &Placement,
) -> Result<Environment, EnvironmentError> {
    let context = Context {
        pod,
        container,
        inputs,
        placement,
        namespace: pod.metadata.namespace.as_deref().unwrap_or_default(),
    };
    let spec = pod.spec.as_ref();
    // The API server fills the default in.
    let links = spec.and_then(|s| s.enable_service_links).unwrap_or(true);
    let api_server = inputs.api_server.as_ref();
    let services = services::variables(&inputs.services, context.namespace, links, api_server);
    let mut variables = Variables::over(services);
    let mut skipped = Vec::new();
    for source in container.env_from.iter().flatten() {
        skipped.extend(context.take_all(source, &mut variables)?);
    }
    for declared in container.env.iter().flatten() {
        let text = declared.value.as_deref().unwrap_or_default();
        let value = match &declared.value_from {
            Some(source) if text.is_empty() => context.look_up(&declared.name, source)?,
            _ => Some(variables.expand(&declared.name, text)?),
        };
        // What is optional and missing leaves what `envFrom` may have set.
        if let Some((value, origin)) = value {
            variables.set(&declared.name, value, origin)?;
        }
    }
    Ok(Environment {
        variables: variables.finish()?,
        skipped,
    })
}

/// What a variable holds, and where that comes from.
type Value = (Zeroizing<String>, Origin);

struct Context<'a> {
    pod: &'a Pod,
    container: &'a Container,
    inputs: &'a Inputs,
    placement: &'a Placement,
    namespace: &'a str,
}

impl<'a> Context<'a> {
    /// One entry of `envFrom`; a sentence where keys of it were left out.
    fn take_all(
        &self,
        source: &EnvFromSource,
        variables: &mut Variables,
    ) -> Result<Option<String>, EnvironmentError> {
        let mut taken = Taken {
            prefix: source.prefix.as_deref().unwrap_or_default(),
            invalid: Vec::new(),
            variables,
        };
        let (kind, name) = if let Some(wanted) = &source.config_map_ref {
            let found = self.config_map(&wanted.name, wanted.optional)?;
            for (key, value) in found.iter().flat_map(|map| map.data.iter().flatten()) {
                taken.add(key, value.as_bytes(), Origin::Object)?;
            }
            ("configMap", &wanted.name)
        } else if let Some(wanted) = &source.secret_ref {
            let found = self.secret(&wanted.name, wanted.optional)?;
            for (key, value) in found.iter().flat_map(|map| map.data.iter().flatten()) {
                taken.add(key, &value.0, Origin::Secret)?;
            }
            ("secret", &wanted.name)
        } else {
            return Ok(None);
        };
        let keys = taken.invalid.join(", ");
        let namespace = self.namespace;
        Ok((!keys.is_empty()).then(|| {
            format!(
                "Keys [{keys}] from the EnvFrom {kind} {namespace}/{name} were skipped since \
                 they are considered invalid environment variable names."
            )
        }))
    }

    /// The value of `valueFrom`, `None` where it is optional and missing.
    fn look_up(
        &self,
        name: &str,
        source: &EnvVarSource,
    ) -> Result<Option<Value>, EnvironmentError> {
        if let Some(field) = &source.field_ref {
            let value = fields::value(field, self.pod, self.placement)?;
            Ok(Some((value.into(), Origin::Pod)))
        } else if let Some(field) = &source.resource_field_ref {
            let allocatable = &self.placement.allocatable;
            let value = resources::value(field, self.pod, self.container, allocatable)?;
            Ok(Some((value.into(), Origin::Pod)))
        } else if let Some(wanted) = &source.config_map_key_ref {
            let Some(map) = self.config_map(&wanted.name, wanted.optional)? else {
                return Ok(None);
            };
            match map.data.as_ref().and_then(|data| data.get(&wanted.key)) {
                Some(value) => Ok(Some((value.clone().into(), Origin::Object))),
                None => self.no_key(Kind::ConfigMap, &wanted.name, &wanted.key, wanted.optional),
            }
        } else if let Some(wanted) = &source.secret_key_ref {
            let Some(secret) = self.secret(&wanted.name, wanted.optional)? else {
                return Ok(None);
            };
            match secret.data.as_ref().and_then(|data| data.get(&wanted.key)) {
                Some(value) => Ok(Some((text(name, &value.0)?, Origin::Secret))),
                None => self.no_key(Kind::Secret, &wanted.name, &wanted.key, wanted.optional),
            }
        } else if source.file_key_ref.is_some() {
            Err(EnvironmentError::FileKeyRef(name.into()))
        } else {
            Ok(Some(Default::default()))
        }
    }

    fn config_map(
        &self,
        name: &str,
        optional: Option<bool>,
    ) -> Result<Option<&'a ConfigMap>, EnvironmentError> {
        let found = self.inputs.config_maps.get(name).map(|map| &**map);
        present(found, Kind::ConfigMap, name, optional)
    }

    fn secret(
        &self,
        name: &str,
        optional: Option<bool>,
    ) -> Result<Option<&'a Secret>, EnvironmentError> {
        let found = self.inputs.secrets.get(name).map(|secret| &***secret);
        present(found, Kind::Secret, name, optional)
    }

    fn no_key(
        &self,
        kind: Kind,
        name: &str,
        key: &str,
        optional: Option<bool>,
    ) -> Result<Option<Value>, EnvironmentError> {
        if optional == Some(true) {
            return Ok(None);
        }
        Err(EnvironmentError::KeyNotFound {
            kind,
            namespace: self.namespace.into(),
            name: name.into(),
            key: key.into(),
        })
    }
}

fn present<T>(
    found: Option<T>,
    kind: Kind,
    name: &str,
    optional: Option<bool>,
) -> Result<Option<T>, EnvironmentError> {
    if found.is_none() && optional != Some(true) {
        let name = name.into();
        return Err(EnvironmentError::NotFound { kind, name });
    }
    Ok(found)
}

/// What one entry of `envFrom` adds.
struct Taken<'a> {
    prefix: &'a str,
    invalid: Vec<String>,
    variables: &'a mut Variables,
}

impl Taken<'_> {
    fn add(&mut self, key: &str, value: &[u8], origin: Origin) -> Result<(), EnvironmentError> {
        let name = format!("{}{key}", self.prefix);
        if is_name(&name) {
            let value = text(&name, value)?;
            return self.variables.set(&name, value, origin);
        }
        self.invalid.push(name);
        Ok(())
    }
}

/// Since 1.34 any printable ASCII but `=` will do
/// (`IsRelaxedEnvVarName` in apimachinery).
fn is_name(name: &str) -> bool {
    let fits = |byte| matches!(byte, b' '..=b'~') && byte != b'=';
    !name.is_empty() && name.bytes().all(fits)
}

fn text(name: &str, bytes: &[u8]) -> Result<Zeroizing<String>, EnvironmentError> {
    let text = std::str::from_utf8(bytes);
    text.map(|text| text.to_owned().into())
        .map_err(|_| EnvironmentError::NotText(variable(name)))
}
