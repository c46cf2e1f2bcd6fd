//! Tombstones: labels on devices that are away and may still run what was taken out
//! of their spec. They outlive us and the pod's object: nothing of that name is
//! started there before the device has confirmed the end.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};
use vk_provider::PodKey;

use crate::mapping::app_name;

/// What their keys begin with.
const PREFIX: &str = "vk.flightctl.io/gone-";
/// What all our applications' names begin with.
const APP_PREFIX: &str = "vk-";
/// Hexadecimal digits of what tells a cluster, a pod's name, and its UID from others:
/// together a label's name of 37 characters, and 63 may be. Names are told apart on one
/// device, the others within one name.
const CLUSTER: usize = 8;
const NAME: usize = 16;
const UID: usize = 8;

/// One label of ours.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tomb {
    /// Its key.
    pub label: String,
    /// The application that may still run; its value is the pod's UID.
    pub app: String,
}

impl Tomb {
    /// The one of a pod.
    pub fn of(cluster: &str, key: &PodKey) -> Self {
        let name = of_name(cluster, &key.namespace, &key.name);
        Self {
            label: format!("{name}{}", digits(key.uid.as_str(), UID)),
            app: app_name(&key.uid),
        }
    }

    /// All of a cluster among a device's labels.
    pub fn all<'a>(
        cluster: &str,
        labels: &'a BTreeMap<String, String>,
    ) -> impl Iterator<Item = Self> + use<'a> {
        let prefix = of_cluster(cluster);
        let ours = labels
            .iter()
            .filter(move |(key, _)| key.starts_with(&prefix));
        ours.map(|(key, value)| Self {
            label: key.clone(),
            app: format!("{APP_PREFIX}{value}"),
        })
    }

    /// Whether a device may still run a pod of this name, this one or an earlier one.
    pub fn forbids(
        cluster: &str,
        labels: &BTreeMap<String, String>,
        namespace: &str,
        name: &str,
    ) -> bool {
        let prefix = of_name(cluster, namespace, name);
        labels.keys().any(|key| key.starts_with(&prefix))
    }

    /// The label's value.
    pub fn value(&self) -> &str {
        self.app.strip_prefix(APP_PREFIX).unwrap_or(&self.app)
    }
}

fn of_cluster(cluster: &str) -> String {
    format!("{PREFIX}{}", digits(cluster, CLUSTER))
}

fn of_name(cluster: &str, namespace: &str, name: &str) -> String {
    format!(
        "{}{}",
        of_cluster(cluster),
        digits(&format!("{namespace}/{name}"), NAME)
    )
}

fn digits(text: &str, count: usize) -> String {
    let digest = Sha256::digest(text.as_bytes());
    let mut hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    hex.truncate(count);
    hex
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::select::{is_label_key, is_label_value};

    fn labels(tomb: &Tomb) -> BTreeMap<String, String> {
        [(tomb.label.clone(), tomb.value().to_owned())].into()
    }

    #[test]
    fn a_tombstone_is_a_label_that_is_found_again() {
        let uid = "6f9619ff-8b86-d011-b42d-00c04fc964ff";
        let tomb = Tomb::of("cluster", &PodKey::new("default", "web-0", uid));
        assert!(is_label_key(&tomb.label), "{}", tomb.label);
        assert!(is_label_value(tomb.value()));
        assert_eq!(tomb.value(), uid);
        let mut labels = labels(&tomb);
        labels.insert("vk.flightctl.io/gone-".into(), "of nobody".into());
        labels.insert("fleet".into(), "edge".into());
        assert_eq!(Tomb::all("cluster", &labels).collect::<Vec<_>>(), [tomb]);
        assert_eq!(Tomb::all("another", &labels).count(), 0);
    }

    #[test]
    fn it_forbids_its_name_and_no_other() {
        let key = PodKey::new("default", "web-0", "6f9619ff-8b86-d011-b42d-00c04fc964ff");
        let labels = labels(&Tomb::of("cluster", &key));
        assert!(Tomb::forbids("cluster", &labels, "default", "web-0"));
        assert!(!Tomb::forbids("cluster", &labels, "default", "web-1"));
        assert!(!Tomb::forbids("cluster", &labels, "other", "web-0"));
        assert!(!Tomb::forbids("another", &labels, "default", "web-0"));
    }
}
