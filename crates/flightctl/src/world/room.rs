//! Which device has room for a pod.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use vk_provider::environment::Placement;
use vk_provider::quantity::{Amount, Resources, pod_requests};
use vk_provider::{PodEvents, PodKey, PodRequest};

use super::World;
use crate::device::DeviceView;
use crate::hold::Hold;
use crate::mapping::app_name;
use crate::marker::Marker;
use crate::place::{Candidate, DEVICE_KEY, NoPlace, Taken, host_ports, place};
use crate::placed::{Placed, Stage};

/// After a start, devices that hold pods whose requests are not known yet take
/// no new ones for this long: the framework names every living pod well within.
const ADOPTION: Duration = Duration::from_secs(10);

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
        let candidates = self.candidates(pod);
        let none = BTreeMap::new();
        let labels = self
            .grouping
            .nodes
            .get(&*pod.node)
            .map_or(&none, |n| &n.labels);
        let chosen = place(pod, labels, &candidates);
        if remember && chosen.is_err() {
            let waits = (pod.key.clone(), pod.node.clone());
            self.waiting.insert(pod.key.uid.clone(), waits);
        } else {
            self.waiting.remove(&pod.key.uid);
        }
        chosen
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
                self.candidate(device, pods, &own, owner.as_deref())
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
        for placed in pods {
            match &placed.request {
                Some(request) => {
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
        let learning = unknown > 0 && self.started.elapsed() < ADOPTION;
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
            siblings,
            pods: pods.len(),
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
