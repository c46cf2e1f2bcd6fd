//! What keeps pods apart on the devices of one node: required anti-affinity and
//! topology spread with the key `flightctl.io/device`, as the scheduler keeps them
//! between nodes, and an annotation for Deployments.
//!
//! A node of many devices has no label of that key. The scheduler lets a pod with
//! required anti-affinity pass there (no node of that topology, nothing to be apart
//! from), but takes such a node out for `whenUnsatisfiable: DoNotSchedule`: that
//! constraint is of use with `spec.nodeName` alone, and `flightctl.io/max-skew` says
//! it for pods that the scheduler places.
//! <https://kubernetes.io/docs/concepts/scheduling-eviction/topology-spread-constraints/>
//! A node of one device has the label, and the scheduler has decided.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{PodAffinityTerm, TopologySpreadConstraint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::core::{Selector, SelectorExt};
use vk_provider::PodRequest;

use super::{Candidate, DEVICE_KEY, NoPlace};

/// Annotation: by how many pods of its controller a device may be ahead of another.
pub const MAX_SKEW_ANNOTATION: &str = "flightctl.io/max-skew";

/// What a pod asks for.
#[derive(Debug, Default)]
pub(super) struct Rules<'a> {
    pod: Option<&'a PodRequest>,
    /// Pods that it cannot be beside.
    not_beside: Vec<Selector>,
    spread: Vec<Spread>,
    /// Of its controller's pods.
    max_skew: Option<usize>,
}

#[derive(Debug)]
struct Spread {
    path: String,
    max_skew: usize,
    selector: Selector,
}

impl<'a> Rules<'a> {
    /// Reads them, on a node with these labels.
    pub(super) fn of(
        pod: &'a PodRequest,
        node_labels: &BTreeMap<String, String>,
    ) -> Result<Self, NoPlace> {
        if node_labels.contains_key(DEVICE_KEY) {
            return Ok(Self::default());
        }
        refuse_affinity(pod)?;
        Ok(Self {
            not_beside: not_beside(pod)?,
            spread: spread(pod)?,
            max_skew: max_skew(pod)?,
            pod: Some(pod),
        })
    }
}

/// The rules, with what the devices that may have the pod hold.
pub(super) struct Counted<'a> {
    rules: &'a Rules<'a>,
    /// Of each spread the fewest matching pods on a device.
    fewest: Vec<usize>,
    fewest_siblings: usize,
}

impl<'a> Counted<'a> {
    pub(super) fn new(rules: &'a Rules<'a>, eligible: &[&Candidate]) -> Self {
        let fewest = |count: &dyn Fn(&Candidate) -> usize| {
            eligible.iter().map(|c| count(c)).min().unwrap_or_default()
        };
        Self {
            fewest: rules
                .spread
                .iter()
                .map(|spread| fewest(&|c| spread.on(c, rules.pod)))
                .collect(),
            fewest_siblings: fewest(&|c| c.siblings),
            rules,
        }
    }

    /// Why the pod may not come to this device, if so.
    pub(super) fn keeps_off(&self, candidate: &Candidate) -> Option<String> {
        let pod = self.rules.pod?;
        for resident in &candidate.residents {
            let other = &*resident.pod;
            if other.key.namespace != pod.key.namespace {
                continue;
            }
            if self.rules.not_beside.iter().any(|s| selects(s, other)) {
                return Some(format!(
                    "its anti-affinity keeps it from pod {}",
                    other.key.name
                ));
            }
            // As in Kubernetes, who was there first keeps others away too.
            let theirs = not_beside(other).unwrap_or_default();
            if theirs.iter().any(|s| selects(s, pod)) {
                return Some(format!(
                    "pod {} keeps it away by its anti-affinity",
                    other.key.name
                ));
            }
        }
        for (spread, fewest) in self.rules.spread.iter().zip(&self.fewest) {
            let with =
                spread.on(candidate, Some(pod)) + usize::from(selects(&spread.selector, pod));
            if with.saturating_sub(*fewest) > spread.max_skew {
                return Some(format!(
                    "{}: it would have {with} such pods and another device has {fewest}, maxSkew is {}",
                    spread.path, spread.max_skew
                ));
            }
        }
        let (with, fewest) = (candidate.siblings + 1, self.fewest_siblings);
        let max = self.rules.max_skew?;
        (with.saturating_sub(fewest) > max).then(|| {
            format!("{MAX_SKEW_ANNOTATION} {max}: it would have {with} pods of the controller and another device has {fewest}")
        })
    }
}

impl Spread {
    /// Matching pods on a device; those that leave do not count.
    fn on(&self, candidate: &Candidate, pod: Option<&PodRequest>) -> usize {
        let residents = candidate.residents.iter().filter(|r| !r.leaving);
        residents
            .filter(|r| pod.is_some_and(|pod| pod.key.namespace == r.pod.key.namespace))
            .filter(|r| selects(&self.selector, &r.pod))
            .count()
    }
}

fn selects(selector: &Selector, pod: &PodRequest) -> bool {
    let none = BTreeMap::new();
    selector.matches(pod.pod.metadata.labels.as_ref().unwrap_or(&none))
}

fn unsupported<T>(field: String, message: &str) -> Result<T, NoPlace> {
    Err(NoPlace::Unsupported {
        field,
        message: message.into(),
    })
}

const PER_DEVICE: &str = "the devices of one node cannot keep it; leave it out, or give each device a node of its own (nodes: perDevice)";

fn refuse_affinity(pod: &PodRequest) -> Result<(), NoPlace> {
    let affinity = pod.spec().affinity.as_ref();
    let terms = affinity
        .and_then(|a| a.pod_affinity.as_ref())
        .and_then(|a| {
            a.required_during_scheduling_ignored_during_execution
                .as_ref()
        });
    for (at, term) in terms.into_iter().flatten().enumerate() {
        if term.topology_key == DEVICE_KEY {
            return unsupported(
                format!(
                    "spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[{at}]"
                ),
                PER_DEVICE,
            );
        }
    }
    Ok(())
}

fn not_beside(pod: &PodRequest) -> Result<Vec<Selector>, NoPlace> {
    let affinity = pod.spec().affinity.as_ref();
    let terms = affinity
        .and_then(|a| a.pod_anti_affinity.as_ref())
        .and_then(|a| {
            a.required_during_scheduling_ignored_during_execution
                .as_ref()
        });
    let of_devices = terms.into_iter().flatten().enumerate();
    of_devices
        .filter(|(_, term)| term.topology_key == DEVICE_KEY)
        .map(|(at, term)| {
            let path = format!(
                "spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[{at}]"
            );
            let PodAffinityTerm {
                label_selector,
                match_label_keys,
                mismatch_label_keys,
                namespace_selector,
                namespaces,
                topology_key: _,
            } = term;
            let more = [
                ("matchLabelKeys", is_set(match_label_keys)),
                ("mismatchLabelKeys", is_set(mismatch_label_keys)),
                ("namespaceSelector", namespace_selector.is_some()),
                ("namespaces", is_set(namespaces)),
            ];
            refuse(&path, &more)?;
            selector(&path, label_selector.as_ref())
        })
        .collect()
}

fn spread(pod: &PodRequest) -> Result<Vec<Spread>, NoPlace> {
    let all = pod.spec().topology_spread_constraints.iter().flatten();
    all.enumerate()
        .filter(|(_, c)| c.topology_key == DEVICE_KEY && c.when_unsatisfiable == "DoNotSchedule")
        .map(|(at, constraint)| {
            let path = format!("spec.topologySpreadConstraints[{at}]");
            let TopologySpreadConstraint {
                label_selector,
                match_label_keys,
                max_skew,
                min_domains,
                node_affinity_policy,
                node_taints_policy,
                topology_key: _,
                when_unsatisfiable: _,
            } = constraint;
            let other = |policy: &Option<String>, usual: &str| {
                policy.as_deref().is_some_and(|policy| policy != usual)
            };
            let more = [
                ("matchLabelKeys", is_set(match_label_keys)),
                ("minDomains", min_domains.is_some()),
                ("nodeAffinityPolicy", other(node_affinity_policy, "Honor")),
                ("nodeTaintsPolicy", other(node_taints_policy, "Ignore")),
            ];
            refuse(&path, &more)?;
            Ok(Spread {
                max_skew: usize::try_from(*max_skew).unwrap_or_default(),
                selector: selector(&path, label_selector.as_ref())?,
                path,
            })
        })
        .collect()
}

fn is_set(list: &Option<Vec<String>>) -> bool {
    list.as_ref().is_some_and(|list| !list.is_empty())
}

fn refuse(path: &str, more: &[(&str, bool)]) -> Result<(), NoPlace> {
    match more.iter().find(|(_, set)| *set) {
        Some((key, _)) => unsupported(format!("{path}.{key}"), PER_DEVICE),
        None => Ok(()),
    }
}

/// Without a selector nothing matches, as in Kubernetes.
fn selector(path: &str, selector: Option<&LabelSelector>) -> Result<Selector, NoPlace> {
    let Some(selector) = selector else {
        let nothing = kube::core::Expression::In(DEVICE_KEY.into(), Default::default());
        return Ok(nothing.into());
    };
    Selector::try_from(selector.clone()).or_else(|why| {
        unsupported(
            format!("{path}.labelSelector"),
            &format!("it cannot be understood: {why}"),
        )
    })
}

fn max_skew(pod: &PodRequest) -> Result<Option<usize>, NoPlace> {
    let Some(text) = pod.annotation(MAX_SKEW_ANNOTATION) else {
        return Ok(None);
    };
    let field = || format!("metadata.annotations[{MAX_SKEW_ANNOTATION}]");
    let owners = pod.pod.metadata.owner_references.iter().flatten();
    if !owners.into_iter().any(|o| o.controller == Some(true)) {
        return unsupported(
            field(),
            "it speaks of the pods of one controller, and this pod has none; use a Deployment",
        );
    }
    match text.trim().parse() {
        Ok(max) if max > 0 => Ok(Some(max)),
        _ => unsupported(
            field(),
            &format!("{text:?} is no number above 0; write for example \"1\""),
        ),
    }
}
