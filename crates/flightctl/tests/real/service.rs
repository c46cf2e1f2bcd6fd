//! Flight Control as the scenarios see it: the sandbox's, with simulated devices or
//! one that a machine stands behind, or the real service with the sandbox's devices
//! on its agent API.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use http::Method;
use serde_json::Value;
use tokio::runtime::Handle;
use tokio_util::sync::{CancellationToken, DropGuard};
use vk_sandbox::clock::Clock;
use vk_sandbox::flightctl::{
    BackedDevice, Device, DeviceSpec, FlightControl, JournalEntry, Options, start_agent,
};
use vk_sandbox::transport;

use crate::agent_link::AgentLink;
use crate::flightctl_service::{FlightControlService, Role};
use crate::https::Https;
use crate::machine::Machine;

const TOKEN: &str = "real-parts-token";

/// Four devices; the first three are of `edge-fleet-1`.
pub const DEVICES: u32 = 4;

/// Either Flight Control.
pub struct Service {
    pub url: String,
    pub ca_pem: String,
    pub token: String,
    /// Their names are ours in the sandbox only.
    pub devices: Vec<Device>,
    /// In place of them.
    pub backed: Option<BackedDevice>,
    // Before the service: agents that it leaves behind would complain.
    _stop: DropGuard,
    api: Api,
}

enum Api {
    Sandbox(FlightControl),
    Real {
        user: Box<Https>,
        service: Box<FlightControlService>,
    },
}

/// The folder of the real service, unless there is none; then says so.
pub fn binaries() -> Option<PathBuf> {
    let folder = std::env::var_os("FLIGHTCTL_BIN").filter(|folder| !folder.is_empty());
    if folder.is_none() {
        println!("SKIPPED: real Flight Control (set FLIGHTCTL_BIN=folder)");
    }
    folder.map(PathBuf::from)
}

/// A device as both have it.
fn device(name: &str, number: u32) -> DeviceSpec {
    let mut spec = DeviceSpec::new(name);
    spec.cpu_cores = Some(4);
    spec.memory_kb = Some(8 << 20);
    spec.address = Some(format!("10.42.0.{number}/24"));
    spec.status_interval = Duration::from_secs(2);
    spec.labels = labels(number);
    spec
}

fn labels(number: u32) -> BTreeMap<String, String> {
    let fleet = (number < DEVICES).then(|| ("fleet".into(), "edge-fleet-1".into()));
    fleet.into_iter().collect()
}

impl Service {
    /// The sandbox's, behind TLS.
    pub async fn sandbox() -> Self {
        let mut sandbox = Self::empty_sandbox().await;
        let Api::Sandbox(flightctl) = &sandbox.api else {
            unreachable!("it is the sandbox's");
        };
        sandbox.devices = (1..=DEVICES)
            .map(|number| {
                let name = format!("device-{number}");
                flightctl.add_device(device(&name, number))
            })
            .collect();
        sandbox
    }

    /// The same with one device of no fleet: what runs on it, a machine runs.
    pub async fn backed(machine: &Machine, address: &str) -> Self {
        let mut sandbox = Self::empty_sandbox().await;
        let Api::Sandbox(flightctl) = &sandbox.api else {
            unreachable!("it is the sandbox's");
        };
        let mut spec = device("device-1", DEVICES);
        spec.address = Some(format!("{address}/24"));
        let machine = vk_sandbox::flightctl::Machine::new(machine.entrance());
        sandbox.backed = Some(flightctl.add_backed_device(&spec, machine));
        sandbox
    }

    async fn empty_sandbox() -> Self {
        let options = Options {
            token: Some(TOKEN.into()),
            ..Options::default()
        };
        let flightctl = FlightControl::new(Clock::live(), options);
        let tls = vk_sandbox::tls::loopback().unwrap();
        let listener = transport::loopback("127.0.0.1:0".parse().unwrap())
            .await
            .unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let stop = CancellationToken::new();
        let endpoint = flightctl.endpoint();
        tokio::spawn(endpoint.listen(listener, Some(tls.acceptor), stop.clone()));
        Self {
            url,
            ca_pem: tls.ca_pem,
            token: TOKEN.into(),
            devices: Vec::new(),
            backed: None,
            api: Api::Sandbox(flightctl),
            _stop: stop.drop_guard(),
        }
    }

    /// The service that was built into `bin`, with enrolled devices.
    pub async fn real(bin: &Path) -> Self {
        let mut real = Self::without_devices(bin).await;
        let Api::Real { service, .. } = &real.api else {
            unreachable!("it is the real one");
        };
        let stop = CancellationToken::new();
        for number in 1..=DEVICES {
            let link = AgentLink::enroll(service, &labels(number)).await;
            let spec = device(link.name(), number);
            let agent = start_agent(link, spec, Clock::live(), stop.clone());
            real.devices.push(agent);
        }
        for device in &real.devices {
            service.has_seen(device.name()).await;
        }
        real._stop = stop.drop_guard();
        real
    }

    /// The same before any device has enrolled.
    pub async fn without_devices(bin: &Path) -> Self {
        let bin = bin.to_owned();
        let begun = Instant::now();
        let service = tokio::task::spawn_blocking(move || FlightControlService::start(&bin))
            .await
            .unwrap();
        let up = begun.elapsed().as_secs_f64();
        println!("real Flight Control is up ({up:.1} s)");
        Self {
            url: service.url(),
            ca_pem: service.ca_pem().to_owned(),
            // All that the provider needs.
            token: service.token(Role::Operator),
            devices: Vec::new(),
            backed: None,
            api: Api::Real {
                user: Box::new(service.user()),
                service: Box::new(service),
            },
            _stop: CancellationToken::new().drop_guard(),
        }
    }

    /// The real service, if it is that.
    pub fn service(&self) -> Option<&FlightControlService> {
        match &self.api {
            Api::Real { service, .. } => Some(service),
            Api::Sandbox(_) => None,
        }
    }

    /// The names of its devices; the last is of no fleet.
    pub fn names(&self) -> Vec<&str> {
        let simulated = self.devices.iter().map(Device::name);
        simulated
            .chain(self.backed.iter().map(BackedDevice::name))
            .collect()
    }

    /// The name of device 1, 2, 3 or 4.
    pub fn device(&self, number: usize) -> &str {
        self.names()[number - 1]
    }

    /// The number of the device of no fleet.
    pub fn alone(&self) -> usize {
        self.names().len()
    }

    /// What happened on a device, by its own account.
    pub fn journal(&self, number: usize) -> Vec<JournalEntry> {
        match &self.backed {
            Some(backed) => backed.journal(),
            None => self.devices[number - 1].journal(),
        }
    }

    /// How many applications a device has, whatever it has reported.
    pub fn running(&self, number: usize) -> usize {
        match &self.backed {
            Some(backed) => backed.applications().len(),
            None => self.devices[number - 1].applications().len(),
        }
    }

    /// A device as the user API shows it. Blocks.
    pub fn document(&self, device: &str) -> Value {
        Handle::current().block_on(self.read(device))
    }

    /// A device's specification. Blocks.
    pub fn spec(&self, device: &str) -> Value {
        self.document(device)["spec"].take()
    }

    /// The applications in a device's specification. Blocks.
    pub fn applications(&self, device: &str) -> Vec<String> {
        let spec = self.spec(device);
        let apps = spec["applications"].as_array();
        apps.into_iter()
            .flatten()
            .map(|app| app["name"].as_str().unwrap_or_default().to_owned())
            .collect()
    }

    async fn read(&self, device: &str) -> Value {
        match &self.api {
            Api::Sandbox(flightctl) => flightctl.device_value(device).unwrap_or_default(),
            Api::Real { user, .. } => {
                let path = format!("/api/v1/devices/{device}");
                let (status, value) = user.call(Method::GET, &path, None).await.unwrap();
                assert!(status.is_success(), "{path}: {status} {value}");
                value
            }
        }
    }
}
