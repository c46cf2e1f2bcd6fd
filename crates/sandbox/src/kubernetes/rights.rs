//! What a request asks for, as the real server's authorizers see it, and what
//! is refused. There are no users and roles here: everybody is
//! [`USER`] and may do everything that was not forbidden.

use std::sync::{Mutex, PoisonError};

use super::Cluster;
use super::resource::Resource;
use super::status::ApiError;

/// Who asks, in refusals and in reviews of the cluster's own token.
pub(crate) const USER: &str = "admin";

/// To which groups that user belongs.
pub(crate) const GROUPS: [&str; 2] = ["system:masters", "system:authenticated"];

/// One request.
#[derive(Debug)]
pub(crate) struct Asked<'a> {
    pub(crate) verb: &'static str,
    pub(crate) resource: &'static Resource,
    pub(crate) subresource: Option<&'a str>,
    pub(crate) namespace: Option<&'a str>,
    /// The object in the path, or the one that a list or watch selects.
    pub(crate) name: Option<String>,
}

/// Something that nobody may do.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Denial {
    verb: String,
    resource: String,
    namespace: Option<String>,
}

/// All that nobody may do.
#[derive(Debug, Default)]
pub(crate) struct Denials(Mutex<Vec<Denial>>);

impl Denial {
    fn covers(&self, verb: &str, resource: &str, namespace: Option<&str>) -> bool {
        // Rights only add up: who may do it everywhere may do it here.
        let here = match (&self.namespace, namespace) {
            (Some(denied), Some(asked)) => denied == asked,
            _ => true,
        };
        here && (self.verb == "*" || self.verb == verb) && self.resource == resource
    }
}

impl Asked<'_> {
    /// `pods`, or `pods/status`.
    fn what(&self) -> String {
        match self.subresource {
            Some(sub) => format!("{}/{sub}", self.resource.plural),
            None => self.resource.plural.to_owned(),
        }
    }

    fn refused(&self) -> ApiError {
        let namespace = match (self.namespace, &self.name) {
            // A Namespace is in itself.
            (None, Some(name)) if self.resource.plural == "namespaces" => Some(name.as_str()),
            (namespace, _) => namespace,
        };
        let scope = match namespace {
            Some(ns) => format!("in the namespace \"{ns}\""),
            None => "at the cluster scope".to_owned(),
        };
        let why = format!(
            "User \"{USER}\" cannot {} resource \"{}\" in API group \"{}\" {scope}",
            self.verb,
            self.what(),
            self.resource.group,
        );
        ApiError::forbidden(
            self.resource,
            self.name.as_deref().unwrap_or_default(),
            &why,
        )
    }
}

impl Cluster {
    /// From now on answers 403, in the real server's words, to requests over
    /// HTTP with this verb (`get`, `list`, `watch`, `create`, …, or `*`) for
    /// this resource (`secrets`, `serviceaccounts/token`) in this namespace, or
    /// in any. What is forbidden in one namespace is forbidden across all, too:
    /// a cluster-wide right would include it. Watches that are open stay open,
    /// as in the real server. Twice is as good as once.
    pub fn forbid(&self, verb: &str, resource: &str, namespace: Option<&str>) {
        let denial = denial(verb, resource, namespace);
        let mut denials = self.denials().lock();
        if !denials.contains(&denial) {
            denials.push(denial);
        }
    }

    /// Takes back a [`Cluster::forbid`] with the same arguments; without effect
    /// when there was none.
    pub fn allow(&self, verb: &str, resource: &str, namespace: Option<&str>) {
        let denial = denial(verb, resource, namespace);
        self.denials().lock().retain(|known| *known != denial);
    }

    /// Counts a request and refuses it where it is forbidden.
    pub(crate) fn admit(&self, asked: &Asked<'_>) -> Result<(), ApiError> {
        if asked.name.is_none() && matches!(asked.verb, "list" | "watch") {
            let is_watch = asked.verb == "watch";
            self.reads().unnamed(asked.resource.plural, is_watch);
        }
        if self.denies(asked.verb, &asked.what(), asked.namespace) {
            return Err(asked.refused());
        }
        Ok(())
    }

    /// Whether that was forbidden.
    pub(crate) fn denies(&self, verb: &str, resource: &str, namespace: Option<&str>) -> bool {
        let denials = self.denials().lock();
        denials.iter().any(|d| d.covers(verb, resource, namespace))
    }
}

fn denial(verb: &str, resource: &str, namespace: Option<&str>) -> Denial {
    Denial {
        verb: verb.to_owned(),
        resource: resource.to_owned(),
        namespace: namespace.map(str::to_owned),
    }
}

impl Denials {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Denial>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
