//! The annotations of a pod.

use k8s_openapi::api::core::v1::Pod;

use super::RequestError;

/// Of every annotation of ours.
pub const PREFIX: &str = "orca.research/";
/// Above this likeness an unknown name is taken for a slip of the pen.
const LIKENESS: f64 = 0.75;
/// All that there are; those that do not choose are for launching.
const KNOWN: [&str; 23] = [
    "allow-burstable",
    "allow-fractional-gpu",
    "allow-oversize",
    "ami",
    "arch",
    "budget-namespace",
    "capacity-block-id",
    "capacity-reservation-id",
    "capacity-reservation-preference",
    "debug",
    "gpu-memory-min",
    "gpu-model",
    "instance-type",
    "launch-type",
    "local-disk-min",
    "max-lifetime",
    "max-spot-price",
    "neuron-generation",
    "selected",
    "spot-max-price",
    "termination-protection",
    "user-data",
    "workload-template",
];

/// The annotations of one pod.
pub(super) struct Annotations<'a>(&'a Pod);

impl<'a> Annotations<'a> {
    /// Of this pod.
    pub(super) fn of(pod: &'a Pod) -> Self {
        Self(pod)
    }

    /// The text of one of ours.
    pub(super) fn get(&self, name: &str) -> Option<&'a str> {
        let all = self.0.metadata.annotations.as_ref()?;
        all.get(&format!("{PREFIX}{name}")).map(String::as_str)
    }

    /// One of ours, read; `form` says what to write.
    pub(super) fn read<T>(
        &self,
        name: &str,
        form: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, RequestError> {
        let Some(text) = self.get(name) else {
            return Ok(None);
        };
        match parse(text.trim()) {
            Some(value) => Ok(Some(value)),
            None => Err(RequestError {
                field: format!("metadata.annotations[{PREFIX}{name}]"),
                why: format!("{text:?} cannot be used; write {form}"),
            }),
        }
    }

    /// One that is `true` or `false`; false where it is not there.
    pub(super) fn flag(&self, name: &str) -> Result<bool, RequestError> {
        let value = self.read(name, "\"true\" or \"false\"", |text| text.parse().ok())?;
        Ok(value.unwrap_or(false))
    }

    /// A sentence for each of ours that there is not.
    pub(super) fn unknown(pod: &Pod) -> Vec<String> {
        let all = pod.metadata.annotations.iter().flatten();
        let ours = all.filter_map(|(name, _)| name.strip_prefix(PREFIX));
        ours.filter(|name| !KNOWN.contains(name))
            .map(
                |name| match crate::config::nearest(name, &KNOWN, LIKENESS) {
                    Some(known) => format!(
                        "annotation {PREFIX}{name} is unknown; did you mean {PREFIX}{known}?"
                    ),
                    None => format!("annotation {PREFIX}{name} is unknown and has no effect"),
                },
            )
            .collect()
    }
}
