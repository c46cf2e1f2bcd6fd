use std::time::{Duration, Instant};

use super::{BUSY, NODE};
use crate::World;

const MANIFEST: &str = include_str!("s1-deploy.yaml");
/// The user's: from `kubectl apply` to Running.
const RUNNING: Duration = Duration::from_secs(10);

impl World {
    /// The device of no fleet is the only one of that node.
    pub fn s1_deploy(&mut self) {
        // The user's cluster has it.
        self.plane.ok(&["create", "namespace", "codeco"]);
        self.until("the namespace has its ServiceAccount", |w| {
            let account = ["get", "serviceaccount", "default", "-n", "codeco"];
            w.plane.kubectl(&account).success
        });
        let before = self.allocated(NODE);

        let begun = Instant::now();
        self.apply(MANIFEST);
        self.until("S1: nginx-edge is Running", |w| {
            w.jsonpath("codeco", "nginx-edge", "{.status.phase}") == "Running"
        });
        let took = begun.elapsed();
        assert!(took < RUNNING + BUSY, "Running took {took:?}");
        let ready = ["--for=condition=Ready", "pod/nginx-edge", "-n", "codeco"];
        self.plane
            .ok(&[&["wait", "--timeout=30s"], &ready[..]].concat());

        let alone = self.flightctl.alone();
        let device = self.flightctl.device(alone).to_owned();
        // Nobody scheduled it: its node stands in its spec.
        let story = [
            format!("DeviceSelected Selected device {device}"),
            format!("Pulled Image nginx:alpine is on device {device}"),
            "Created Created container nginx".into(),
            "Started Started container nginx".into(),
        ];
        self.until("S1: the events are there", |w| {
            w.story("codeco", "nginx-edge").len() >= story.len()
        });
        let mut told = self.story("codeco", "nginx-edge");
        // Where it is seen: this device has the image, so it is a moment only.
        let pulling = format!(
            "Pulling Device {device} prepares the update, pulling where needed: nginx:alpine"
        );
        if told.get(1) == Some(&pulling) {
            told.remove(1);
        }
        assert_eq!(told, story);

        let address = self.jsonpath("codeco", "nginx-edge", "{.status.podIP}");
        let document = self.flightctl.document(&device);
        let own = document.pointer("/status/systemInfo/netIpDefault").unwrap();
        let own = own.as_str().unwrap();
        assert_eq!(format!("{address}/24"), own, "the device's");
        let uid = self.jsonpath("codeco", "nginx-edge", "{.metadata.uid}");
        assert_eq!(self.applications(alone), [format!("vk-{uid}")]);
        let allocated = self.allocated(NODE);
        assert_ne!(allocated, before);
        for request in ["100m (", "128Mi ("] {
            assert!(allocated.contains(request), "{request} in\n{allocated}");
        }
    }
}
