//! The files of a volume, gathered from its sources.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    ConfigMap, DownwardAPIVolumeFile, KeyToPath, Pod, ProjectedVolumeSource, Secret,
    ServiceAccountTokenProjection, Volume,
};

use super::owner::Owner;
use super::path::file_path;
use super::{Content, File, Given, Medium, Problem, downward};
use crate::inputs::TokenAsk;
use crate::podspec::Refusal;

/// What the sources gave, in their order, and what they could not give.
pub(super) struct Gathered<'a> {
    pod: &'a Pod,
    given: Given<'a>,
    owner: &'a Owner,
    default_mode: Option<i32>,
    files: Vec<(String, File)>,
    errors: Vec<String>,
}

/// One object's keys and values; a key that is there twice is there twice.
type Entries<'a> = Vec<(&'a str, &'a [u8])>;

/// A reference to an object whose keys become files.
#[derive(Clone, Copy)]
struct Reference<'a> {
    name: &'a str,
    items: Option<&'a Vec<KeyToPath>>,
    optional: Option<bool>,
}

/// The files of a volume that is one of files, and what a kubelet has it on.
///
/// # Errors
/// A projected source is refused.
pub(super) fn gather<'a>(
    pod: &'a Pod,
    volume: &'a Volume,
    path: &str,
    given: Given<'a>,
    owner: &'a Owner,
) -> Result<Option<(Medium, Gathered<'a>)>, Problem> {
    let mut gathered = Gathered {
        pod,
        given,
        owner,
        default_mode: None,
        files: Vec::new(),
        errors: Vec::new(),
    };
    if let Some(source) = &volume.config_map {
        gathered.default_mode = source.default_mode;
        gathered.config_map(Reference {
            name: &source.name,
            items: source.items.as_ref(),
            optional: source.optional,
        });
        return Ok(Some((Medium::Disk, gathered)));
    }
    if let Some(source) = &volume.secret {
        gathered.default_mode = source.default_mode;
        gathered.secret(Reference {
            name: source.secret_name.as_deref().unwrap_or_default(),
            items: source.items.as_ref(),
            optional: source.optional,
        });
    } else if let Some(source) = &volume.downward_api {
        gathered.default_mode = source.default_mode;
        gathered.downward(source.items.iter().flatten());
    } else if let Some(source) = &volume.projected {
        gathered.projected(source, path)?;
    } else {
        return Ok(None);
    }
    Ok(Some((Medium::Memory, gathered)))
}

impl<'a> Gathered<'a> {
    fn projected(&mut self, source: &'a ProjectedVolumeSource, path: &str) -> Result<(), Problem> {
        self.default_mode = source.default_mode;
        for (index, source) in source.sources.iter().flatten().enumerate() {
            let path = format!("{path}.projected.sources[{index}]");
            if let Some(source) = &source.secret {
                self.secret(Reference {
                    name: &source.name,
                    items: source.items.as_ref(),
                    optional: source.optional,
                });
            } else if let Some(source) = &source.config_map {
                self.config_map(Reference {
                    name: &source.name,
                    items: source.items.as_ref(),
                    optional: source.optional,
                });
            } else if let Some(source) = &source.downward_api {
                self.downward(source.items.iter().flatten());
            } else if let Some(source) = &source.service_account_token {
                self.token(source, &path)?;
            } else {
                return Err(refused_projection(source, &path).into());
            }
        }
        Ok(())
    }

    fn config_map(&mut self, reference: Reference<'_>) {
        let entries = self.given.inputs.config_maps.get(reference.name);
        self.object(
            reference,
            entries.map(|map| entries_of_config_map(map)),
            "configmap",
            "configmap references non-existent config key",
        );
    }

    fn secret(&mut self, reference: Reference<'_>) {
        let entries = self.given.inputs.secrets.get(reference.name);
        self.object(
            reference,
            entries.map(|secret| entries_of_secret(secret)),
            "secret",
            "references non-existent secret key",
        );
    }

    /// The keys of an object as files: all of them, or those of `items`.
    fn object(
        &mut self,
        reference: Reference<'_>,
        entries: Option<Entries<'_>>,
        kind: &str,
        missing_key: &str,
    ) {
        let optional = reference.optional == Some(true);
        let entries = match entries {
            Some(entries) => entries,
            None if optional => Entries::new(),
            None => {
                let name = reference.name;
                return self.errors.push(format!("{kind} {name:?} not found"));
            }
        };
        let mut files = Vec::new();
        let items = reference.items.filter(|items| !items.is_empty());
        if items.is_none() {
            for (key, bytes) in &entries {
                let file = self
                    .owner
                    .file(Content::from(*bytes), None, self.default_mode);
                files.push(((*key).to_owned(), file));
            }
        }
        for item in items.into_iter().flatten() {
            let Some((_, bytes)) = entries.iter().find(|(key, _)| *key == item.key) else {
                if optional {
                    continue;
                }
                // Nothing of this object is laid out then.
                return self.errors.push(format!("{missing_key}: {}", item.key));
            };
            let content = Content::from(*bytes);
            let file = self.owner.file(content, item.mode, self.default_mode);
            files.push((item.path.clone(), file));
        }
        self.files.append(&mut files);
    }

    fn downward(&mut self, items: impl Iterator<Item = &'a DownwardAPIVolumeFile>) {
        for item in items {
            let text = if let Some(field) = &item.field_ref {
                downward::field(self.pod, &field.field_path)
            } else if let Some(resource) = &item.resource_field_ref {
                downward::resource(self.pod, resource, self.given.allocatable)
            } else {
                Ok(String::new())
            };
            match text {
                Err(why) => self.errors.push(why),
                Ok(text) => {
                    let content = Content::from(text);
                    let file = self.owner.file(content, item.mode, self.default_mode);
                    self.files.push((item.path.clone(), file));
                }
            }
        }
    }

    fn token(
        &mut self,
        projection: &ServiceAccountTokenProjection,
        path: &str,
    ) -> Result<(), Refusal> {
        let Some(tokens) = &self.given.inputs.tokens else {
            let namespace = self.pod.metadata.namespace.as_deref();
            let namespace = namespace.unwrap_or_default();
            return Err(Refusal::new(
                format!("{path}.serviceAccountToken"),
                format!(
                    "tokens of namespace {namespace:?} do not leave the cluster; an operator \
                     who wants them to lists it in the provider's configuration"
                ),
            ));
        };
        match tokens.get(&TokenAsk::of(projection)) {
            None => {
                let account = self.pod.spec.as_ref();
                let account = account
                    .and_then(|spec| spec.service_account_name.as_deref())
                    .unwrap_or("default");
                self.errors.push(format!(
                    "failed to fetch token: none was issued for service account {account:?} yet"
                ));
            }
            Some(token) => {
                let file = self.owner.token(token.clone(), self.default_mode);
                self.files.push((projection.path.clone(), file));
            }
        }
        Ok(())
    }

    /// The files by their cleaned path; the last of one path has it.
    ///
    /// # Errors
    /// A source gave nothing, or a path is none.
    pub(super) fn into_files(self) -> Result<BTreeMap<String, File>, String> {
        if !self.errors.is_empty() {
            return Err(aggregate(self.errors));
        }
        let mut files = BTreeMap::new();
        for (path, file) in self.files {
            files.insert(file_path(&path)?, file);
        }
        for path in files.keys() {
            for (at, _) in path.match_indices('/') {
                let above = &path[..at];
                if files.contains_key(above) {
                    return Err(format!(
                        "invalid path: {above:?} is a file and also a directory"
                    ));
                }
            }
        }
        Ok(files)
    }
}

/// Text wins where `items` names a key; where all keys become files, bytes
/// do, as the later ones. (No key can be in both.)
fn entries_of_config_map(object: &ConfigMap) -> Entries<'_> {
    let text = object.data.iter().flatten();
    let bytes = object.binary_data.iter().flatten();
    text.map(|(key, value)| (key.as_str(), value.as_bytes()))
        .chain(bytes.map(|(key, value)| (key.as_str(), &value.0[..])))
        .collect()
}

fn entries_of_secret(object: &Secret) -> Entries<'_> {
    let data = object.data.iter().flatten();
    data.map(|(key, value)| (key.as_str(), &value.0[..]))
        .collect()
}

fn refused_projection(
    source: &k8s_openapi::api::core::v1::VolumeProjection,
    path: &str,
) -> Refusal {
    const INSTEAD: &str = "use configMap, secret, downwardAPI or serviceAccountToken";
    if source.cluster_trust_bundle.is_some() {
        return Refusal::new(
            format!("{path}.clusterTrustBundle"),
            format!("trust bundles are not projected here; {INSTEAD}"),
        );
    }
    if source.pod_certificate.is_some() {
        return Refusal::new(
            format!("{path}.podCertificate"),
            format!("certificates are not issued here; {INSTEAD}"),
        );
    }
    Refusal::new(path, format!("no source that is known here; {INSTEAD}"))
}

/// Several errors as one, each once, as Kubernetes writes them.
fn aggregate(errors: Vec<String>) -> String {
    let mut once: Vec<String> = Vec::new();
    for error in errors {
        if !once.contains(&error) {
            once.push(error);
        }
    }
    match &once[..] {
        [one] => one.clone(),
        all => format!("[{}]", all.join(", ")),
    }
}
