//! Lists and their pages.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Cluster;
use super::resource::Resource;
use super::selector::{Fields, Labels};
use super::status::ApiError;
use super::store::{Key, State};
use super::view::View;

/// `metav1.ListOptions` from the query.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ListOptions {
    #[serde(default)]
    pub(crate) label_selector: String,
    #[serde(default)]
    pub(crate) field_selector: String,
    #[serde(default)]
    pub(crate) resource_version: String,
    #[serde(default)]
    pub(crate) resource_version_match: String,
    #[serde(default)]
    pub(crate) limit: Option<usize>,
    #[serde(default, rename = "continue")]
    pub(crate) continue_token: String,
    #[serde(default)]
    pub(crate) watch: Option<String>,
    #[serde(default)]
    pub(crate) allow_watch_bookmarks: Option<String>,
    #[serde(default)]
    pub(crate) send_initial_events: Option<String>,
    #[serde(default)]
    pub(crate) timeout_seconds: Option<u64>,
}

pub(crate) fn is_set(flag: Option<&String>) -> bool {
    flag.is_some_and(|text| matches!(text.as_str(), "" | "1" | "true" | "True"))
}

/// What a list or a watch is about.
#[derive(Clone, Debug)]
pub(crate) struct Scope {
    pub(crate) resource: &'static Resource,
    pub(crate) namespace: Option<String>,
    labels: Labels,
    fields: Fields,
}

impl Scope {
    pub(crate) fn new(
        resource: &'static Resource,
        namespace: Option<&str>,
        options: &ListOptions,
    ) -> Result<Self, ApiError> {
        Ok(Self {
            resource,
            namespace: namespace.map(str::to_owned),
            labels: Labels::parse(&options.label_selector)?,
            fields: Fields::parse(resource, &options.field_selector)?,
        })
    }

    /// Everything in the scope, selected or not, is of this namespace.
    pub(crate) fn selects(&self, object: &Value) -> bool {
        self.labels.matches(&object["metadata"]["labels"]) && self.fields.matches(object)
    }

    /// The name of the only object that it can select, if its fields say it.
    pub(crate) fn single(&self) -> Option<&str> {
        self.fields.single()
    }

    pub(crate) fn covers(&self, resource: &Resource, namespace: &str) -> bool {
        self.resource.plural == resource.plural
            && self.namespace.as_deref().is_none_or(|ns| ns == namespace)
    }

    /// The selected objects, in order.
    pub(crate) fn select<'a>(
        &'a self,
        state: &'a State,
    ) -> impl Iterator<Item = (&'a Key, &'a std::sync::Arc<Value>)> {
        state
            .list(self.resource, self.namespace.as_deref())
            .filter(|(_, object)| self.selects(object))
    }
}

/// Where the next page starts.
#[derive(Serialize, Deserialize)]
struct Continue {
    revision: u64,
    namespace: String,
    name: String,
}

/// A revision from the query; 0 and absent mean *any*.
pub(crate) fn revision(text: &str) -> Result<u64, ApiError> {
    if text.is_empty() {
        return Ok(0);
    }
    text.parse()
        .map_err(|_| ApiError::bad_request(format!("invalid resource version {text:?}")))
}

impl Cluster {
    pub(crate) fn list_objects(
        &self,
        scope: &Scope,
        options: &ListOptions,
        view: &View,
    ) -> Result<Value, ApiError> {
        let wanted = revision(&options.resource_version)?;
        let resume = (!options.continue_token.is_empty())
            .then(|| token(&options.continue_token))
            .transpose()?;
        self.store().read(|state| {
            if wanted > state.revision() {
                return Err(ApiError::too_new(wanted, state.revision()));
            }
            if options.resource_version_match == "Exact" && wanted != state.revision() {
                return Err(ApiError::expired(
                    "The resourceVersion for the provided list is too old.",
                ));
            }
            let (revision, after) = match &resume {
                // Later pages show the present, under the first page's
                // revision: a watch from there repeats what changed between.
                Some(next) => {
                    if state.since(next.revision).is_err() {
                        return Err(ApiError::expired(
                            "The provided continue parameter is too old to display a consistent list result. You must start a new list without the continue parameter.",
                        ));
                    }
                    (next.revision, Some((&next.namespace, &next.name)))
                }
                None => (state.revision(), None),
            };
            let mut rest = scope
                .select(state)
                .filter(|(key, _)| after.is_none_or(|after| (&key.0, &key.1) > after))
                .peekable();
            let limit = options.limit.filter(|l| *l > 0).unwrap_or(usize::MAX);
            let mut page = Vec::new();
            let mut last = None;
            while page.len() < limit
                && let Some((key, object)) = rest.next()
            {
                page.push(Value::clone(object));
                last = Some(key.clone());
            }
            let mut metadata = json!({"resourceVersion": revision.to_string()});
            let remaining = rest.count();
            if remaining > 0
                && let Some((namespace, name)) = last
            {
                let next = Continue { revision, namespace, name };
                let text = serde_json::to_vec(&next).unwrap_or_default();
                metadata["continue"] = json!(URL_SAFE_NO_PAD.encode(text));
                // The real server does not count behind a selector.
                if options.label_selector.is_empty() && options.field_selector.is_empty() {
                    metadata["remainingItemCount"] = json!(remaining);
                }
            }
            Ok(view.list(page, &metadata))
        })
    }
}

fn token(text: &str) -> Result<Continue, ApiError> {
    let invalid = || ApiError::bad_request("invalid continue token: continue key is not valid");
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| invalid())?;
    serde_json::from_slice(&bytes).map_err(|_| invalid())
}
