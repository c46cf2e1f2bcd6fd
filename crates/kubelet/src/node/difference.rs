//! What to write so that a Node becomes as it is wanted. Pure.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, NodeCondition, NodeStatus, NodeSystemInfo, Taint};
use serde_json::{Map, Value, json};
use vk_provider::quantity::Resources;

use super::object::{KUBELETS, OWNED, Owned, Wanted, endpoints, features, record, taint_id};

impl Wanted {
    /// A merge patch of labels, annotations and taints; `None` if they are right.
    ///
    /// Taints are one list, so a change of them holds only for the version that
    /// was read: others write there too.
    pub(super) fn metadata_patch(&self, have: &Node) -> Option<Value> {
        let recorded = Owned::of(have);
        let mut owned = self.owned();
        // Ours until they are gone from the status: a stop in between must not
        // leave them to nobody.
        owned.conditions.extend(
            recorded
                .conditions
                .intersection(&condition_names(have))
                .cloned(),
        );
        owned.resources.extend(
            recorded
                .resources
                .intersection(&resource_names(have))
                .cloned(),
        );

        let mut annotations = self.annotations.clone();
        annotations.insert(OWNED.into(), record(&owned));
        let mut metadata = Map::new();
        for (field, have, want, recorded) in [
            (
                "labels",
                &have.metadata.labels,
                &self.labels,
                &recorded.labels,
            ),
            (
                "annotations",
                &have.metadata.annotations,
                &annotations,
                &recorded.annotations,
            ),
        ] {
            let changes = map_changes(have.as_ref(), want, recorded);
            if !changes.is_empty() {
                metadata.insert(field.into(), changes.into());
            }
        }
        let present = have
            .spec
            .as_ref()
            .and_then(|s| s.taints.clone())
            .unwrap_or_default();
        let taints = self.merged_taints(&present, &recorded.taints);
        let mut body = Map::new();
        if let Some(taints) = taints {
            metadata.insert(
                "resourceVersion".into(),
                json!(have.metadata.resource_version),
            );
            body.insert("spec".into(), json!({"taints": taints}));
        }
        if metadata.is_empty() {
            return None;
        }
        metadata.insert("uid".into(), json!(have.metadata.uid));
        body.insert("metadata".into(), metadata.into());
        Some(body.into())
    }

    /// Ours as wanted and others as they are; `None` if that is what there is.
    fn merged_taints(&self, have: &[Taint], recorded: &BTreeSet<String>) -> Option<Vec<Taint>> {
        let wanted: BTreeSet<String> = self.taints.iter().map(taint_id).collect();
        let same = |a: &Taint, b: &Taint| taint_id(a) == taint_id(b) && a.value == b.value;
        let missing = self.taints.iter().any(|t| !have.iter().any(|h| same(t, h)));
        let stale = have
            .iter()
            .map(taint_id)
            .any(|id| recorded.contains(&id) && !wanted.contains(&id));
        if !missing && !stale {
            return None;
        }
        let others = have.iter().filter(|t| {
            let id = taint_id(t);
            !wanted.contains(&id) && !recorded.contains(&id)
        });
        let ours = self
            .taints
            .iter()
            .map(|t| have.iter().find(|h| same(t, h)).unwrap_or(t));
        Some(others.chain(ours).cloned().collect())
    }

    /// A strategic-merge patch of the status; `None` if it is right and `refresh`
    /// is not asked for. A write always carries the heartbeats of our conditions.
    pub(super) fn status_patch(&self, have: &Node, refresh: bool, now: Timestamp) -> Option<Value> {
        let empty = NodeStatus::default();
        let status = have.status.as_ref().unwrap_or(&empty);
        let recorded = Owned::of(have);
        let mut body = Map::new();
        for (field, have, want) in [
            ("capacity", &status.capacity, &self.capacity),
            ("allocatable", &status.allocatable, &self.allocatable),
        ] {
            let known = Resources::from_quantities(have.as_ref());
            let mut changes = Map::new();
            for (name, quantity) in want.to_quantities() {
                let present = have.as_ref().is_some_and(|all| all.contains_key(&name));
                if !present || known.get(&name) != want.get(&name) {
                    changes.insert(name, json!(quantity));
                }
            }
            for name in have.iter().flat_map(|all| all.keys()) {
                let gone = !want.iter().any(|(wanted, _)| wanted == name);
                if gone && recorded.resources.contains(name) {
                    changes.insert(name.clone(), Value::Null);
                }
            }
            if !changes.is_empty() {
                body.insert(field.into(), changes.into());
            }
        }
        if status.addresses.as_deref().unwrap_or_default() != self.addresses {
            // Their merge key is the type, of which a node may have several.
            let mut list = vec![json!({"$patch": "replace"})];
            list.extend(self.addresses.iter().map(|address| json!(address)));
            body.insert("addresses".into(), list.into());
        }
        let port = status
            .daemon_endpoints
            .as_ref()
            .and_then(|e| e.kubelet_endpoint.as_ref())
            .map(|e| e.port);
        if port.filter(|port| *port != 0) != self.port {
            let endpoints = self
                .port
                .map_or(json!({"kubeletEndpoint": {"Port": 0}}), |p| {
                    json!(endpoints(p))
                });
            body.insert("daemonEndpoints".into(), endpoints);
        }
        if features(have) != self.features {
            // One value to the API: the list takes the place of the one before.
            let declared = match &*self.features {
                [] => Value::Null,
                all => json!(all),
            };
            body.insert("declaredFeatures".into(), declared);
        }
        let info = NodeSystemInfo {
            swap: status.node_info.as_ref().and_then(|i| i.swap.clone()),
            ..self.info.clone()
        };
        if status.node_info.as_ref() != Some(&info) {
            body.insert("nodeInfo".into(), json!(info));
        }
        let gone = condition_names(have)
            .into_iter()
            .filter(|kind| recorded.conditions.contains(kind))
            .filter(|kind| !self.conditions.iter().any(|c| c.type_ == *kind))
            .map(|kind| json!({"$patch": "delete", "type": kind}));
        let mut conditions: Vec<Value> = gone.collect();
        let changed = self.conditions.iter().any(|want| {
            let have = status
                .conditions
                .iter()
                .flatten()
                .find(|c| c.type_ == want.type_);
            have.is_none_or(|have| {
                have.status != want.status
                    || have.reason != want.reason
                    || have.message != want.message
            })
        });
        if !refresh && !changed && conditions.is_empty() && body.is_empty() {
            return None;
        }
        conditions.extend(
            self.conditions_since(Some(status), now)
                .iter()
                .map(|c| json!(c)),
        );
        body.insert("conditions".into(), conditions.into());
        Some(json!({"metadata": {"uid": have.metadata.uid}, "status": body}))
    }

    /// Conditions of the backend's whose status is another than Kubernetes shows;
    /// new ones only if they say that something is wrong.
    pub(super) fn turned(&self, have: &Node) -> Vec<&NodeCondition> {
        let shown = |kind: &str| {
            let conditions = have
                .status
                .iter()
                .flat_map(|s| s.conditions.iter().flatten());
            conditions
                .filter(|c| c.type_ == kind)
                .map(|c| c.status.clone())
                .next()
        };
        let mine = self
            .conditions
            .iter()
            .filter(|c| !KUBELETS.iter().any(|(kind, ..)| *kind == c.type_));
        mine.filter(|c| match shown(&c.type_) {
            Some(status) => status != c.status,
            None => c.status != "True",
        })
        .collect()
    }
}

fn map_changes(
    have: Option<&BTreeMap<String, String>>,
    want: &BTreeMap<String, String>,
    recorded: &BTreeSet<String>,
) -> Map<String, Value> {
    let has = |name: &String| have.and_then(|all| all.get(name));
    let set = want
        .iter()
        .filter(|(name, value)| has(name) != Some(*value))
        .map(|(name, value)| (name.clone(), json!(value)));
    let unset = recorded
        .iter()
        .filter(|name| has(name).is_some() && !want.contains_key(*name))
        .map(|name| (name.clone(), Value::Null));
    set.chain(unset).collect()
}

fn condition_names(node: &Node) -> BTreeSet<String> {
    let conditions = node
        .status
        .iter()
        .flat_map(|s| s.conditions.iter().flatten());
    conditions.map(|c| c.type_.clone()).collect()
}

fn resource_names(node: &Node) -> BTreeSet<String> {
    let maps = node
        .status
        .iter()
        .flat_map(|s| [&s.capacity, &s.allocatable]);
    maps.flatten().flat_map(|all| all.keys().cloned()).collect()
}
