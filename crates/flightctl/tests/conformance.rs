//! The contract's conformance kit over the Flight Control backend: Flight
//! Control and its devices are the sandbox's, on the stepped clock.

#![allow(
    unreachable_pub,
    missing_debug_implementations,
    clippy::unwrap_used,
    dead_code,
    reason = "modules of one test"
)]

mod stage;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use hyper_util::rt::TokioExecutor;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use tokio::task::JoinHandle;
use vk_flightctl::backend::FlightControl;
use vk_flightctl::client::{Client, TokenSource};
use vk_flightctl::mapping::app_name;
use vk_flightctl::world::World;
use vk_provider::conformance::{Fixture, Record, Trouble, check};
use vk_provider::{Backend, Clock, Uid};
use vk_sandbox::faults::{Effect, Rule};
use vk_sandbox::flightctl::{self as service, Device, DeviceSpec, Occurrence, Script};

/// Room for the kit's hundreds of pods, 110 on each.
const DEVICES: usize = 6;
/// One round of the kit's patience: what a device takes to report a change.
const ROUND: Duration = Duration::from_secs(10);
/// An image whose process ignores TERM.
const STUBBORN: &str = "stubborn:1";

struct Devices {
    service: service::FlightControl,
    devices: Vec<Device>,
    clock: Clock,
    following: Mutex<Option<JoinHandle<()>>>,
}

impl Devices {
    fn new() -> Self {
        let start: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let service = service::FlightControl::new(
            vk_sandbox::clock::Clock::stepped(start),
            service::Options::default(),
        );
        let devices = (1..=DEVICES)
            .map(|index| {
                let mut spec = DeviceSpec::new(&format!("device-{index}"));
                spec.address = Some(format!("10.42.0.{index}/16"));
                // What operators are asked to set.
                spec.status_interval = Duration::from_secs(10);
                let device = service.add_device(spec);
                device.script(Script::image(STUBBORN).ignores_term());
                device
            })
            .collect();
        Self {
            service,
            devices,
            clock: Clock::stepped(start),
            following: Mutex::default(),
        }
    }
}

#[async_trait]
impl Fixture for Devices {
    async fn start(&self) -> Arc<dyn Backend> {
        let http = hyper_util::client::legacy::Client::builder(TokioExecutor::new())
            .build(self.service.endpoint().connector());
        let base = http::Uri::from_static("http://flightctl.test/");
        let backend = FlightControl::new(
            Client::new(http, &base, TokenSource::fixed("any")),
            World::new("cluster", vk_flightctl::config::default_rules()),
            self.clock.clone(),
            Duration::from_secs(30),
        );
        let followed = backend.clone();
        let following = tokio::spawn(async move { followed.follow().await });
        if let Some(dead) = self.following.lock().unwrap().replace(following) {
            dead.abort();
        }
        Arc::new(backend)
    }

    fn pod(&self, name: &str) -> Pod {
        let mut json = stage::pod(name, "vk-flightctl-node", "nginx:1");
        json["spec"]["containers"][0]["resources"] = serde_json::Value::Null;
        serde_json::from_value(json).unwrap()
    }

    fn updated(&self, pod: &Pod) -> Pod {
        with_image(pod, "nginx:2")
    }

    fn stubborn(&self, pod: &Pod) -> Option<Pod> {
        Some(with_image(pod, STUBBORN))
    }

    async fn pass(&self) {
        tokio::time::sleep(ROUND).await;
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn record(&self, uid: &Uid) -> Record {
        let app = app_name(uid);
        let mut entries: Vec<_> = self
            .devices
            .iter()
            .flat_map(Device::journal)
            .filter(|entry| entry.app == app)
            .collect();
        entries.sort_by_key(|entry| entry.at);
        let mut record = Record::default();
        for entry in entries {
            match entry.event {
                Occurrence::Start => {
                    record.starts += 1;
                    record.running += 1;
                    record.most_at_once = record.most_at_once.max(record.running);
                }
                Occurrence::Exit(_) => record.running -= 1,
                Occurrence::Stop => {}
            }
        }
        record
    }

    fn reads(&self, uid: &Uid, path: &str) -> Option<Option<Vec<u8>>> {
        let app = app_name(uid);
        let mut containers = self.devices.iter().filter_map(|d| d.container(&app, "app"));
        Some(containers.find_map(|c| Some(c.files.get(path)?.content.clone())))
    }

    async fn trouble(&self, trouble: Trouble, on: bool) -> bool {
        match (trouble, on) {
            (Trouble::Silent, true) => self
                .service
                .faults()
                .add(Rule::always("", Effect::DropConnection)),
            (Trouble::AnswersLost, true) => self
                .service
                .faults()
                .add(Rule::always("", Effect::LoseAnswer).method("PATCH")),
            (Trouble::Silent | Trouble::AnswersLost, false) => self.service.faults().clear(),
            (Trouble::PlaceAway, on) => {
                for device in &self.devices[..DEVICES / 2] {
                    if on {
                        device.disconnect();
                    } else {
                        device.reconnect();
                    }
                }
            }
        }
        true
    }
}

fn with_image(pod: &Pod, image: &str) -> Pod {
    let mut pod = pod.clone();
    pod.spec.as_mut().unwrap().containers[0].image = Some(image.into());
    pod
}

#[tokio::test(start_paused = true)]
async fn the_backend_keeps_the_contract() {
    let report = check(&Devices::new()).await;
    assert!(report.broken().is_empty(), "{report}");
    assert!(report.not_run().is_empty(), "{report}");
}
