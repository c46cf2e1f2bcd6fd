//! The machine that this program runs on, as a node.

use std::fs;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::NodeAddress;
use vk_provider::quantity::{Amount, Resources};
use vk_provider::{NodeFacts, NodeInfo};

/// The kubelet's default is 110; conformance asks for hundreds.
const PODS: i64 = 1000;

/// Every node has the whole machine: they do not know of each other.
pub(super) fn facts(address: IpAddr) -> NodeFacts {
    let cpus = std::thread::available_parallelism()
        .map_or(1, |n| i64::try_from(n.get()).unwrap_or(i64::MAX));
    let size = Resources::new()
        .with("cpu", Amount::units(cpus))
        .with("memory", Amount::units(memory()))
        .with("pods", Amount::units(PODS));
    NodeFacts {
        capacity: size.clone(),
        allocatable: size,
        addresses: vec![NodeAddress {
            type_: "InternalIP".into(),
            address: address.to_string(),
        }],
        info: NodeInfo {
            architecture: match std::env::consts::ARCH {
                "x86_64" => "amd64".into(),
                "aarch64" => "arm64".into(),
                other => other.into(),
            },
            operating_system: "linux".into(),
            os_image: "mock: processes of this machine".into(),
            kernel_version: fs::read_to_string("/proc/sys/kernel/osrelease")
                .map(|text| text.trim().to_owned())
                .unwrap_or_default(),
            ..NodeInfo::default()
        },
        ..NodeFacts::default()
    }
}

/// In bytes; 0 where it cannot be read.
fn memory() -> i64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    number
        .and_then(|n| n.parse::<i64>().ok())
        .map_or(0, |kib| kib << 10)
}
