//! The environment of a container, exactly as the kubelet makes it.
//!
//! Rules: `makeEnvironmentVariables` in `pkg/kubelet/kubelet_pods.go` of
//! Kubernetes 1.36. First `envFrom` in order, then `env` in order, the later of
//! two with one name winning; then what the services say, for names that are
//! still free. A `value` sees, through `$(NAME)`, what came before it and the
//! variables of services. The kubelet hands its result out in random order;
//! here it is the order of declaration, then those of services by name.
//!
//! Everything here is a pure function of the pod and [`Inputs`](crate::Inputs): resolved once
//! per start of a container, when its [`Placement`] is known, and never to
//! compare.

mod error;
mod expansion;
mod fields;
mod references;
mod resolve;
mod resources;
mod services;
mod variables;

#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::Container;
use zeroize::{Zeroize, Zeroizing};

pub use error::{EnvironmentError, Kind};
pub use references::{Read, References, references};
pub use resolve::environment;
pub use services::ApiServer;

use crate::quantity::Resources;

/// Where a text comes from; of one that was put together, the last of these that
/// any part of it comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// The pod itself, or its place: it stays as long as the pod does.
    #[default]
    Pod,
    /// A ConfigMap or a Service, which may change.
    Object,
    /// A Secret: it must not be shown where the pod is.
    Secret,
}

/// One variable. What it holds may come from a Secret and is not in `Debug`; a
/// copy of it is not wiped.
#[derive(Clone, PartialEq, Eq)]
pub struct EnvVar {
    /// Name.
    pub name: String,
    /// Value, expanded.
    pub value: String,
    /// Where the value comes from, by `$(NAME)` too.
    pub origin: Origin,
}

impl Zeroize for EnvVar {
    fn zeroize(&mut self) {
        self.value.zeroize();
    }
}

impl fmt::Debug for EnvVar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}=(hidden)", self.name)
    }
}

/// What only the place a pod runs at can tell. `spec.nodeName` is not among it:
/// that is in the pod.
#[derive(Clone, Debug, Default)]
pub struct Placement {
    /// What the node offers: the limit of a container that has none.
    pub allocatable: Resources,
    /// Addresses of the pod; with `hostNetwork`, empty means those of the host.
    pub pod_ips: Vec<IpAddr>,
    /// Addresses of the host, the first of the family that it prefers.
    pub host_ips: Vec<IpAddr>,
}

/// What a container is started with. Values are wiped on drop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Environment {
    variables: Zeroizing<Vec<EnvVar>>,
    skipped: Vec<String>,
}

/// A container's command and arguments, expanded. May hold what a Secret holds,
/// so `Debug` counts only, and they are wiped on drop.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct CommandLine {
    /// `command`; empty means the image's.
    pub command: Zeroizing<Vec<String>>,
    /// `args`; empty means the image's.
    pub args: Zeroizing<Vec<String>>,
}

impl fmt::Debug for CommandLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (command, args) = (self.command.len(), self.args.len());
        write!(f, "CommandLine({command} and {args} words, hidden)")
    }
}

impl Environment {
    /// Reason of the Warning event for each of [`Environment::skipped`]. Older kubelets
    /// told it; that of 1.36 checks no names, as no API server takes such keys.
    pub const SKIPPED_REASON: &str = "InvalidEnvironmentVariableNames";

    /// All variables, each name once.
    pub fn variables(&self) -> &[EnvVar] {
        &self.variables
    }

    /// The value of a variable.
    pub fn get(&self, name: &str) -> Option<&str> {
        let found = self.variables.iter().find(|v| v.name == name)?;
        Some(&found.value)
    }

    /// One sentence for each `envFrom` of which keys were left out.
    pub fn skipped(&self) -> &[String] {
        &self.skipped
    }

    /// `command` and `args` with `$(NAME)` replaced.
    ///
    /// # Errors
    /// It would be more than Linux hands to a process.
    pub fn command_line(&self, container: &Container) -> Result<CommandLine, EnvironmentError> {
        let known = self.lookup();
        let mut total = 0;
        let mut expand = |field, texts: Option<&Vec<String>>, into: &mut Vec<String>| {
            texts.into_iter().flatten().try_for_each(|text| {
                into.push(variables::word(field, text, &known, &mut total)?);
                Ok::<_, EnvironmentError>(())
            })
        };
        let mut line = CommandLine::default();
        expand("command", container.command.as_ref(), &mut line.command)?;
        expand("args", container.args.as_ref(), &mut line.args)?;
        Ok(line)
    }

    /// Where the text comes from that `$(NAME)` in `text` becomes: a word of a
    /// command line, a `subPathExpr`.
    pub fn origin(&self, text: &str) -> Origin {
        let mut origin = Origin::Pod;
        // Only the names count; the length was looked at where it is made.
        let _ = expansion::expand(text, variables::MAX_TOTAL, |name| {
            let found = self.variables.iter().find(|v| v.name == name)?;
            origin = origin.max(found.origin);
            Some("")
        });
        origin
    }

    /// A `subPathExpr`, in which every variable must have a value.
    ///
    /// # Errors
    /// Some variable is empty or unknown, or the path too long.
    pub fn sub_path(&self, expression: &str) -> Result<String, EnvironmentError> {
        let known = self.lookup();
        let mut missing = BTreeSet::new();
        let path = expansion::expand(expression, variables::MAX_STRING, |name| {
            let value = known.get(name).copied().filter(|value| !value.is_empty());
            if value.is_none() {
                missing.insert(name.to_owned());
            }
            value
        });
        if missing.is_empty() {
            path.ok_or_else(|| EnvironmentError::TooLong("subPathExpr".into()))
        } else {
            let names = missing.into_iter().collect::<Vec<_>>();
            Err(EnvironmentError::NoValue(names.join(", ")))
        }
    }

    fn lookup(&self) -> HashMap<&str, &str> {
        let all = self.variables.iter();
        all.map(|v| (v.name.as_str(), v.value.as_str())).collect()
    }
}
