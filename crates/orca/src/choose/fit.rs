//! Whether an instance type can run a pod, price and place aside.

use std::fmt;

use vk_provider::quantity::Amount;

use super::{Wish, devices, usable_memory};
use crate::catalogue::{Arch, InstanceType, Kind};
use crate::money::Price;

/// Most accelerators for each that was asked for, without `allow-oversize`.
const OVERSIZE: u32 = 2;

/// Why a type is left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Not among the types that the pod or its template names.
    NotNamed,
    /// Not in `instances.allowedInstanceTypes`.
    NotAllowed,
    /// Another architecture.
    Arch(Arch),
    /// Bare metal, and not named exactly.
    Metal,
    /// Previous generation, and not named exactly.
    Previous,
    /// Burstable, neither allowed nor named exactly.
    Burstable,
    /// Parts of GPUs, neither allowed nor named exactly.
    Fractional,
    /// Accelerators that the pod does not ask for.
    Unasked(Kind),
    /// Less of something than asked for.
    TooSmall {
        /// Of what.
        what: &'static str,
        /// How much there is.
        has: String,
        /// How much is asked for.
        wants: String,
    },
    /// Another model of accelerator.
    Model(String),
    /// Far more accelerators than asked for.
    Oversize {
        /// How many there are.
        has: u32,
        /// How many are asked for.
        wants: u32,
    },
    /// In no zone with a usable subnet.
    NotOffered,
    /// AWS had none just now.
    Unavailable,
    /// Dearer than may be, or of unknown price.
    TooDear {
        /// An hour, where known.
        price: Option<Price>,
        /// The most.
        most: Price,
    },
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotNamed => f.write_str("not among the types that are named"),
            Self::NotAllowed => f.write_str("not in instances.allowedInstanceTypes"),
            Self::Arch(arch) => write!(f, "is {arch}"),
            Self::Metal => f.write_str("bare metal; only by its name"),
            Self::Previous => f.write_str("previous generation; only by its name"),
            Self::Burstable => {
                f.write_str("burstable; allow it with orca.research/allow-burstable")
            }
            Self::Fractional => {
                f.write_str("has parts of GPUs; allow them with orca.research/allow-fractional-gpu")
            }
            Self::Unasked(kind) => write!(f, "has an {kind} that the pod does not ask for"),
            Self::TooSmall { what, has, wants } => {
                write!(f, "{what}: has {has}, the pod wants {wants}")
            }
            Self::Model(model) => write!(f, "its accelerators are {model}"),
            Self::Oversize { has, wants } => write!(
                f,
                "has {has} accelerators for the {wants} asked for; allow it with orca.research/allow-oversize"
            ),
            Self::NotOffered => f.write_str("in no zone with a usable subnet"),
            Self::Unavailable => f.write_str("AWS had none just now"),
            Self::TooDear {
                price: Some(price),
                most,
            } => write!(f, "{price} an hour, {most} allowed"),
            Self::TooDear { price: None, most } => {
                write!(f, "its price is not known, {most} allowed")
            }
        }
    }
}

/// Whether the type can run the pod. A type that is named exactly is taken at
/// its word in all matters of taste, never in size.
pub(super) fn fit(kind: &InstanceType, wish: &Wish<'_>) -> Result<(), Reason> {
    let request = wish.request;
    let mut naming = wish
        .types
        .iter()
        .filter(|pattern| pattern.matches(&kind.name))
        .peekable();
    if !wish.types.is_empty() && naming.peek().is_none() {
        return Err(Reason::NotNamed);
    }
    let exact = naming.any(super::Pattern::exact);
    let allowed = &wish.policy.allowed;
    if !allowed.is_empty() && !allowed.iter().any(|pattern| pattern.matches(&kind.name)) {
        return Err(Reason::NotAllowed);
    }
    if kind.arch != request.arch {
        return Err(Reason::Arch(kind.arch));
    }
    size(kind, wish)?;
    if exact {
        return Ok(());
    }
    if kind.metal {
        return Err(Reason::Metal);
    }
    if kind.previous {
        return Err(Reason::Previous);
    }
    if kind.burstable && !request.burstable {
        return Err(Reason::Burstable);
    }
    taste(kind, wish)
}

/// Never too small.
fn size(kind: &InstanceType, wish: &Wish<'_>) -> Result<(), Reason> {
    let request = wish.request;
    let least = |what, has: Amount, wants: Amount, unit: &str| {
        if has >= wants {
            return Ok(());
        }
        Err(Reason::TooSmall {
            what,
            has: has.show(unit),
            wants: wants.show(unit),
        })
    };
    let count = |what, has: u32, wants: u32| {
        least(
            what,
            Amount::units(has.into()),
            Amount::units(wants.into()),
            "cpu",
        )
    };
    let accelerator = kind.accelerator.as_ref();
    count("nvidia.com/gpu", devices(kind, Kind::Nvidia), request.gpus)?;
    count(
        "aws.amazon.com/neuron",
        devices(kind, Kind::Neuron),
        request.neuron,
    )?;
    count(
        "aws.amazon.com/neuroncore",
        accelerator.map_or(0, |a| a.cores),
        request.neuron_cores,
    )?;
    count(
        "aws.amazon.com/fpga",
        devices(kind, Kind::Fpga),
        request.fpgas,
    )?;
    if let Some(gpus) = accelerator.filter(|_| request.gpus > 0) {
        if !request.gpu_models.is_empty()
            && !request
                .gpu_models
                .iter()
                .any(|model| model.eq_ignore_ascii_case(&gpus.model))
        {
            return Err(Reason::Model(gpus.model.clone()));
        }
        least(
            "memory of each GPU",
            bytes(gpus.memory_mib, 1 << 20),
            request.gpu_memory,
            "memory",
        )?;
    }
    if let Some(chips) = accelerator.filter(|_| request.neuron > 0 || request.neuron_cores > 0) {
        count(
            "Neuron generation",
            chips.generation,
            request.neuron_generation,
        )?;
    }
    count("vpc.amazonaws.com/efa", kind.efa, request.efa)?;
    least("cpu", Amount::units(kind.vcpu.into()), request.cpu, "cpu")?;
    least("memory", usable_memory(kind), request.memory, "memory")?;
    least(
        "local disk",
        bytes(kind.local_disk_gb, 1_000_000_000),
        request.local_disk,
        "memory",
    )
}

fn bytes(count: u64, unit: u64) -> Amount {
    Amount::units(i64::try_from(count.saturating_mul(unit)).unwrap_or(i64::MAX))
}

/// No accelerator unasked, and not many more than asked for.
fn taste(kind: &InstanceType, wish: &Wish<'_>) -> Result<(), Reason> {
    let request = wish.request;
    let Some(has) = &kind.accelerator else {
        return Ok(());
    };
    let (count, wants) = match has.kind {
        Kind::Nvidia => (has.count, request.gpus),
        Kind::Neuron if request.neuron > 0 => (has.count, request.neuron),
        Kind::Neuron => (has.cores, request.neuron_cores),
        Kind::Fpga => (has.count, request.fpgas),
        Kind::Other => (has.count, 0),
    };
    if wants == 0 {
        return Err(Reason::Unasked(has.kind));
    }
    if has.fractional && !request.fractional {
        return Err(Reason::Fractional);
    }
    // One device is the least that there is, however many cores it has.
    if !request.oversize && has.count > 1 && count > wants.saturating_mul(OVERSIZE) {
        return Err(Reason::Oversize { has: count, wants });
    }
    Ok(())
}
