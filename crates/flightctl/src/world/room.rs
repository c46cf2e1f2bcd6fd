//! Which device has room for a pod.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use vk_provider::environment::Placement;
use vk_provider::quantity::{Amount, Resources, pod_requests};
use vk_provider::{PodEvents, PodKey, PodRequest, Uid};

use super::World;
use crate::away::outcome::{LOST_ANNOTATION, confirmed_lost, is_at_most_once};
use crate::away::tomb::Tomb;
use crate::device::DeviceView;
use crate::fleet::Policy;
use crate::hold::Hold;
use crate::mapping::app_name;
use crate::marker::Marker;
use crate::place::{
    Candidate, DEVICE_KEY, NoPlace, Resident, Taken, Weighed, choose, host_ports, place, weigh,
};
use crate::placed::{Placed, Stage};

/// After a start, devices that hold pods whose requests are not known yet take
/// no new ones for this long: the framework names every living pod well within.
pub(super) const ADOPTION: Duration = Duration::from_secs(10);

/// A pod that waits for room.
#[derive(Debug)]
pub(super) struct Waiting {
    key: PodKey,
    pub(super) node: Arc<str>,
    /// In this process.
    since: Instant,
    /// Refused then, if ever.
    until: Option<Instant>,
    /// It was looked at again for that.
    marked: bool,
}

impl World {
    /// Where a pod would go now. `remember` lets it be told when that changes.
    ///
    /// # Errors
    /// Why nowhere.
    pub fn choose(&mut self, pod: &PodRequest, remember: bool) -> Result<String, NoPlace> {
        if let Some(device) = self.kept_out_of(pod) {
            self.waiting.remove(&pod.key.uid);
            return Ok(device);
        }
        if let Some(device) = self.unconfirmed(pod) {
            let why = format!(
                "device {} may still run it: nothing is started elsewhere before it has confirmed the end, or a human has called it lost: kubectl annotate pod -n {} {} --overwrite {LOST_ANNOTATION}={}",
                device.shown(),
                pod.key.namespace,
                pod.key.name,
                device.name,
            );
            self.waits(pod);
            return Err(NoPlace::Earlier(why));
        }
        let earlier = self.may_still_run(&pod.key.uid).map(DeviceView::shown);
        let policy = self.policy(&pod.node);
        let chosen = place(
            pod,
            self.node_labels(&pod.node),
            policy.placement,
            &self.candidates(pod),
        );
        let why = match chosen {
            Err(why) if remember => why,
            other => {
                self.waiting.remove(&pod.key.uid);
                return other;
            }
        };
        let waiting = self.waits(pod);
        let overdue = waiting.until.is_some_and(|until| until <= Instant::now());
        match why {
            NoPlace::NotNow(message) if overdue => Err(NoPlace::Overdue(format!(
                "{message}; that for {} s (unplaceable.rejectAfter)",
                waiting.since.elapsed().as_secs()
            ))),
            NoPlace::NotNow(message) => match earlier {
                None => Err(NoPlace::NotNow(message)),
                Some(device) => Err(NoPlace::Earlier(format!(
                    "device {device} did not come back in time: {message}"
                ))),
            },
            why => Err(why),
        }
    }

    /// Notes that a pod waits for room.
    fn waits(&mut self, pod: &PodRequest) -> &Waiting {
        let now = Instant::now();
        let after = self.policy(&pod.node).reject_after;
        let waiting = self.waiting.entry(pod.key.uid.clone());
        waiting.or_insert_with(|| Waiting {
            key: pod.key.clone(),
            node: pod.node.clone(),
            since: now,
            until: after.map(|after| now + after),
            marked: false,
        })
    }

    /// What stands against each device of a pod's node, and what comes of it.
    ///
    /// # Errors
    /// What the pod says about devices cannot be understood.
    pub(crate) fn explain(
        &self,
        pod: &PodRequest,
        tell: impl FnOnce(&[Weighed<'_>], &Result<String, NoPlace>),
    ) -> Result<(), NoPlace> {
        let candidates = self.candidates(pod);
        let weighed = weigh(pod, self.node_labels(&pod.node), &candidates)?;
        let chosen = choose(pod, self.policy(&pod.node).placement, &weighed);
        tell(&weighed, &chosen);
        Ok(())
    }

    /// Kubernetes has named every pod that there is.
    pub(crate) fn knows_its_pods(&mut self) {
        self.counting_until = Instant::now();
    }

    fn policy(&self, node: &str) -> Policy {
        let rule = self.grouping.rules.get(node);
        rule.map_or(self.rules.policy, |rule| rule.policy)
    }

    fn node_labels(&self, node: &str) -> &BTreeMap<String, String> {
        static NONE: BTreeMap<String, String> = BTreeMap::new();
        self.grouping.nodes.get(node).map_or(&NONE, |n| &n.labels)
    }

    /// Pods that wait for room are looked at again.
    pub fn mark_waiting(&mut self) {
        self.dirty.extend(self.waiting.keys().cloned());
    }

    /// So are those that have waited for too long.
    pub(crate) fn mark_overdue(&mut self) {
        let now = Instant::now();
        for (uid, waiting) in &mut self.waiting {
            // Told once: what becomes of it is the framework's.
            if waiting.until.is_some_and(|until| until <= now) && !waiting.marked {
                waiting.marked = true;
                self.dirty.insert(uid.clone());
            }
        }
    }

    /// Whether a pod is only marked because it waits for room.
    pub fn is_waiting(&self, uid: &Uid) -> Option<PodKey> {
        self.waiting.get(uid).map(|waiting| waiting.key.clone())
    }

    /// Reserves a device for a pod, before anything is written.
    ///
    /// # Errors
    /// Why there is none.
    pub fn reserve(
        &mut self,
        pod: &PodRequest,
        app: &str,
        events: Arc<dyn PodEvents>,
    ) -> Result<String, NoPlace> {
        let device = match self.holder(app) {
            Some(device) => device,
            None => {
                let device = self.choose(pod, true)?;
                let fleet = self.fleet_of(&device).to_owned();
                *self.placements.entry(fleet).or_default() += 1;
                device
            }
        };
        let (key, node) = (pod.key.clone(), pod.node.clone());
        let mut placed = Placed::new(key, node, &device, app, Stage::Reserved);
        placed.names(pod);
        placed.events = Some(events);
        self.pods.insert(pod.key.uid.clone(), placed);
        Ok(device)
    }

    /// Finds a pod that Kubernetes names by its application's name, where it was
    /// not adopted: nobody else has its UID.
    pub fn claim(&mut self, key: &PodKey, app: &str) {
        let Some((device, stage)) = self
            .holder(app)
            .map(|device| (device, Stage::Reserved))
            .or_else(|| self.leaving_from(app))
        else {
            return;
        };
        if self.device(&device).is_some_and(DeviceView::decommissioned) {
            return;
        }
        let node = self.grouping.node_of.get(&device).cloned();
        let node = node.unwrap_or_default();
        let placed = Placed::new(key.clone(), node, &device, app, stage);
        self.pods.insert(key.uid.clone(), placed);
    }

    /// The device that another process took this application out of, and that has not
    /// confirmed it or has files of it.
    fn leaving_from(&self, app: &str) -> Option<(String, Stage)> {
        let mut devices = self.devices.values();
        let device = devices.find(|d| {
            let left = d.has_items_left_of(app) || d.app_status.contains_key(app);
            left && !d.has_application(app)
        })?;
        let stage = Stage::Removed {
            version: None,
            after: 0,
        };
        Some((device.name.clone(), stage))
    }

    /// The device that holds this application already: it was not adopted where
    /// an edit made its marker unreadable, and must not run twice.
    fn holder(&self, app: &str) -> Option<String> {
        self.devices
            .values()
            .find(|d| {
                d.applications
                    .iter()
                    .any(|a| Marker::ours(a, app, &self.cluster))
            })
            .map(|d| d.name.clone())
    }

    /// The device that an earlier process kept this pod out of: it is its place still.
    fn kept_out_of(&self, pod: &PodRequest) -> Option<String> {
        let unknown = !self.pods.contains_key(&pod.key.uid);
        let held = unknown && Hold::found(&pod.pod, &pod.spec_revision).is_some();
        let label = pod.pod.metadata.labels.as_ref()?.get(DEVICE_KEY);
        let device = self.devices.get(label.filter(|_| held)?)?;
        let node = self.grouping.node_of.get(&device.name)?;
        (**node == *pod.node && device.usable()).then(|| device.name.clone())
    }

    /// A device that may still run the pod, where that keeps it from others, unless a
    /// human has called it lost.
    fn unconfirmed(&self, pod: &PodRequest) -> Option<&DeviceView> {
        let device = match self.may_still_run(&pod.key.uid) {
            Some(given_up) if is_at_most_once(&pod.pod) => given_up,
            Some(_) => return None,
            None => self.last_shown_on(pod)?,
        };
        let lost = confirmed_lost(&pod.pod).is_some_and(|name| device.is_called(name));
        (!lost).then_some(device)
    }

    /// The device that an earlier process had a pod on, which is in no spec any more
    /// and was not given up: what it shows, or may show when it is back, is the pod.
    fn last_shown_on(&self, pod: &PodRequest) -> Option<&DeviceView> {
        if self.pods.contains_key(&pod.key.uid) {
            return None;
        }
        let label = pod.pod.metadata.labels.as_ref()?.get(DEVICE_KEY)?;
        let device = self.devices.get(label).filter(|d| !d.decommissioned())?;
        let app = app_name(&pod.key.uid);
        let shows = device.offline() || device.app_status.contains_key(&app);
        (shows && !device.has_application(&app)).then_some(device)
    }

    /// What is known of a device as a place for pods.
    pub(crate) fn placement(&self, device: &str) -> Placement {
        let address = self.device(device).and_then(|d| d.address);
        let allocatable = self.grouping.allocatable.get(device);
        Placement {
            allocatable: allocatable.cloned().unwrap_or_default(),
            pod_ips: address.into_iter().collect(),
            host_ips: address.into_iter().collect(),
        }
    }

    fn candidates(&self, pod: &PodRequest) -> Vec<Candidate> {
        let owner = controller(pod);
        let own = app_name(&pod.key.uid);
        let mut on: HashMap<&str, Vec<&Placed>> = HashMap::new();
        for placed in self
            .pods
            .values()
            .filter(|p| p.holds_room() && p.key.uid != pod.key.uid)
        {
            on.entry(&placed.device).or_default().push(placed);
        }
        self.devices
            .values()
            .filter(|d| {
                self.grouping
                    .node_of
                    .get(&d.name)
                    .is_some_and(|n| **n == *pod.node)
            })
            .map(|device| {
                let pods = on.get(device.name.as_str()).map_or(&[][..], Vec::as_slice);
                let mut candidate = self.candidate(device, pods, &own, owner.as_deref());
                let (namespace, name) = (&pod.key.namespace, &pod.key.name);
                let ghost = self.is_ghost(&device.name, &app_name(&pod.key.uid))
                    || Tomb::forbids(&self.cluster, &device.labels, namespace, name);
                if ghost {
                    let why = || "an earlier copy may still run there".into();
                    candidate.closed.get_or_insert_with(why);
                }
                candidate
            })
            .collect()
    }

    fn candidate(
        &self,
        device: &DeviceView,
        pods: &[&Placed],
        own: &str,
        owner: Option<&str>,
    ) -> Candidate {
        let allocatable = self
            .grouping
            .allocatable
            .get(&device.name)
            .cloned()
            .unwrap_or_default();
        let mut used = Resources::new();
        let (mut siblings, mut unknown) = (0, 0);
        let mut ports = taken_by_others(device, pods, own);
        let mut residents = Vec::new();
        for placed in pods {
            match &placed.request {
                Some(request) => {
                    residents.push(Resident {
                        pod: request.clone(),
                        leaving: matches!(placed.stage, Stage::Removed { .. }),
                    });
                    used.add(&pod_requests(request.spec()));
                    ports.extend(
                        host_ports(request)
                            .into_iter()
                            .map(|ports| Taken { ports, by: None }),
                    );
                    siblings +=
                        usize::from(owner.is_some() && controller(request).as_deref() == owner);
                }
                None => {
                    unknown += 1;
                    used.add(&Resources::new().with("pods", Amount::units(1)));
                }
            }
        }
        let learning = unknown > 0 && Instant::now() < self.counting_until;
        Candidate {
            name: device.name.clone(),
            alias: device.alias.clone(),
            labels: device.labels.clone(),
            free: allocatable.minus(&used),
            allocatable,
            unheard: device.architecture.is_none(),
            closed: device
                .closed()
                .or_else(|| learning.then(|| "its pods are still being counted".into())),
            hindered: device.hindered(),
            siblings,
            pods: pods.len(),
            residents,
            ports,
        }
    }
}

/// Ports of what is neither a pod that Kubernetes has named nor the one to place,
/// whose application is `own`.
fn taken_by_others(device: &DeviceView, pods: &[&Placed], own: &str) -> Vec<Taken> {
    let pod = |name: &str| pods.iter().find(|placed| placed.app == name);
    let all = device.ports.iter().filter(|published| published.by != own);
    all.filter(|published| pod(&published.by).is_none_or(|placed| placed.request.is_none()))
        .map(|published| Taken {
            ports: published.ports.clone(),
            by: pod(&published.by).is_none().then(|| published.by.clone()),
        })
        .collect()
}

/// Name of the controller that owns a pod: its siblings are spread.
fn controller(pod: &PodRequest) -> Option<String> {
    let owners = pod.pod.metadata.owner_references.as_ref()?;
    owners
        .iter()
        .find(|o| o.controller == Some(true))
        .map(|o| o.uid.clone())
}
