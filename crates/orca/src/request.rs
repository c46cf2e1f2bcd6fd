//! What a pod asks of an instance: its resources and the annotations that choose.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use vk_provider::quantity::{Amount, pod_requests};

use crate::catalogue::Arch;
use crate::money::Price;
use crate::pattern::Pattern;

mod annotations;

use annotations::Annotations;
pub use annotations::PREFIX;

/// Largest root volume: what every gp3 volume could have before 2025, and still can.
const MAX_STORAGE: Amount = Amount::units(16 << 40);

/// How an instance is paid for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Launch {
    /// At the list price.
    OnDemand,
    /// At the market's price; AWS may take it back with two minutes' notice.
    Spot,
}

impl Launch {
    /// Reads `on-demand` or `spot`.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "on-demand" => Some(Self::OnDemand),
            "spot" => Some(Self::Spot),
            _ => None,
        }
    }
}

impl std::fmt::Display for Launch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::OnDemand => "on-demand",
            Self::Spot => "spot",
        })
    }
}

/// A pod that cannot be read as a request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {why}")]
pub struct RequestError {
    /// Path of the field in the pod.
    pub field: String,
    /// What is wrong and what to write.
    pub why: String,
}

/// What a pod asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Processors.
    pub cpu: Amount,
    /// Bytes of memory.
    pub memory: Amount,
    /// Bytes of `ephemeral-storage`; sizes the root volume, excludes no type.
    pub storage: Amount,
    /// `nvidia.com/gpu`.
    pub gpus: u32,
    /// `aws.amazon.com/neuron`: devices.
    pub neuron: u32,
    /// `aws.amazon.com/neuroncore`.
    pub neuron_cores: u32,
    /// `aws.amazon.com/fpga`.
    pub fpgas: u32,
    /// `vpc.amazonaws.com/efa`: interfaces.
    pub efa: u32,
    /// Node selector `kubernetes.io/arch` or annotation `arch`; amd64 by default.
    pub arch: Arch,
    /// `instance-type`; empty where the pod names none.
    pub types: Vec<Pattern>,
    /// `workload-template`.
    pub template: Option<String>,
    /// `launch-type`.
    pub launch: Option<Launch>,
    /// `max-spot-price`.
    pub max_spot: Option<Price>,
    /// `capacity-reservation-id` or `capacity-block-id` is there; never with spot.
    pub reserved: bool,
    /// `gpu-model`: one of these, any case.
    pub gpu_models: Vec<String>,
    /// `gpu-memory-min`: bytes of each.
    pub gpu_memory: Amount,
    /// `neuron-generation`: at least this.
    pub neuron_generation: u32,
    /// `local-disk-min`: bytes.
    pub local_disk: Amount,
    /// `allow-burstable`.
    pub burstable: bool,
    /// `allow-oversize`: more than twice the accelerators.
    pub oversize: bool,
    /// `allow-fractional-gpu`.
    pub fractional: bool,
    /// Annotations of ours that nobody knows, each a sentence.
    pub notes: Vec<String>,
}

const GPU: &str = "nvidia.com/gpu";
const NEURON: &str = "aws.amazon.com/neuron";
const NEURON_CORE: &str = "aws.amazon.com/neuroncore";
const FPGA: &str = "aws.amazon.com/fpga";
const EFA: &str = "vpc.amazonaws.com/efa";
/// What an instance can give.
const RESOURCES: [&str; 8] = [
    "cpu",
    "memory",
    "ephemeral-storage",
    GPU,
    NEURON,
    NEURON_CORE,
    FPGA,
    EFA,
];

impl Request {
    /// Reads a pod.
    ///
    /// # Errors
    /// The first field that cannot be honoured, with the remedy.
    pub fn of(pod: &Pod) -> Result<Self, RequestError> {
        let wrong = |field: &str, why: String| RequestError {
            field: field.into(),
            why,
        };
        let spec = pod.spec.as_ref().filter(|spec| !spec.containers.is_empty());
        let spec = spec.ok_or_else(|| {
            wrong(
                "spec.containers",
                "is empty; write at least one container".into(),
            )
        })?;
        for (list, containers) in [
            ("containers", Some(&spec.containers)),
            ("initContainers", spec.init_containers.as_ref()),
        ] {
            for (index, container) in containers.into_iter().flatten().enumerate() {
                let Some(resources) = &container.resources else {
                    continue;
                };
                let place = format!("spec.{list}[{index}].resources");
                check(&format!("{place}.requests"), resources.requests.as_ref())?;
                check(&format!("{place}.limits"), resources.limits.as_ref())?;
            }
        }
        if let Some(level) = &spec.resources {
            check("spec.resources.requests", level.requests.as_ref())?;
        }
        check("spec.overhead", spec.overhead.as_ref())?;
        let total = pod_requests(spec);
        let count = |name: &str| {
            let amount = total.get(name);
            u32::try_from(amount.ceil_units()).map_err(|_| {
                wrong(
                    "spec.containers",
                    format!("{name} is too large: {}", amount.show(name)),
                )
            })
        };
        let storage = total.get("ephemeral-storage");
        if storage > MAX_STORAGE {
            return Err(wrong(
                "spec.containers",
                format!(
                    "ephemeral-storage together is {}; a volume has 16Ti at most",
                    storage.show("ephemeral-storage")
                ),
            ));
        }
        let notes = Annotations::unknown(pod);
        let annotations = Annotations::of(pod);
        let selector = spec
            .node_selector
            .as_ref()
            .and_then(|s| s.get("kubernetes.io/arch"));
        let arch = match selector {
            Some(text) => Arch::parse(text).ok_or_else(|| {
                wrong(
                    "spec.nodeSelector[kubernetes.io/arch]",
                    format!("{text:?}; write amd64 or arm64"),
                )
            })?,
            None => annotations
                .read("arch", "amd64 or arm64", Arch::parse)?
                .unwrap_or(Arch::Amd64),
        };
        let bytes = |text: &str| Amount::parse(text).ok().filter(|a| *a >= Amount::ZERO);
        let request = Self {
            cpu: total.get("cpu"),
            memory: total.get("memory"),
            storage,
            gpus: count(GPU)?,
            neuron: count(NEURON)?,
            neuron_cores: count(NEURON_CORE)?,
            fpgas: count(FPGA)?,
            efa: count(EFA)?,
            arch,
            types: annotations
                .read(
                    "instance-type",
                    "names such as g5.xlarge or g5.*, separated by commas",
                    |t| Pattern::list(t).ok(),
                )?
                .unwrap_or_default(),
            template: annotations.get("workload-template").map(str::to_owned),
            launch: annotations.read("launch-type", "on-demand or spot", Launch::parse)?,
            max_spot: match annotations.read("max-spot-price", DOLLARS, Price::parse)? {
                None => annotations.read("spot-max-price", DOLLARS, Price::parse)?,
                some => some,
            },
            reserved: ["capacity-reservation-id", "capacity-block-id"]
                .iter()
                .any(|n| annotations.get(n).is_some()),
            gpu_models: annotations.get("gpu-model").map_or_else(Vec::new, |text| {
                text.split(',')
                    .map(|model| model.trim().to_owned())
                    .collect()
            }),
            gpu_memory: annotations
                .read("gpu-memory-min", "an amount such as 40Gi", bytes)?
                .unwrap_or_default(),
            neuron_generation: annotations
                .read("neuron-generation", "1, 2 or 3", |t| t.parse().ok())?
                .unwrap_or(0),
            local_disk: annotations
                .read("local-disk-min", "an amount such as 500Gi", bytes)?
                .unwrap_or_default(),
            burstable: annotations.flag("allow-burstable")?,
            oversize: annotations.flag("allow-oversize")?,
            fractional: annotations.flag("allow-fractional-gpu")?,
            notes,
        };
        Ok(request)
    }
}

const DOLLARS: &str = "US dollars an hour, such as 0.50";

/// Every quantity is one, and of a resource that an instance can give.
fn check(place: &str, amounts: Option<&BTreeMap<String, Quantity>>) -> Result<(), RequestError> {
    for (name, quantity) in amounts.into_iter().flatten() {
        let wrong = |why: String| {
            Err(RequestError {
                field: format!("{place}[{name}]"),
                why,
            })
        };
        if !RESOURCES.contains(&name.as_str()) {
            return wrong(format!(
                "no instance gives this; ORCA knows {}",
                RESOURCES.join(", ")
            ));
        }
        let amount = match Amount::parse(&quantity.0) {
            Ok(amount) => amount,
            Err(error) => return wrong(error.to_string()),
        };
        if amount < Amount::ZERO {
            return wrong(format!("{} is below zero; write 0 or more", quantity.0));
        }
        // As the API server has it.
        if name.contains('/') && amount.ceil_milli() % 1000 != 0 {
            return wrong(format!(
                "{} is no whole number; write for example 1",
                quantity.0
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
