//! What EC2 has: instance types, their sizes and their prices.

use std::fmt;

use crate::money::Price;

/// The catalogue that is compiled in; its head says where it comes from.
const COMPILED: &str = include_str!("../data/instance-types.tsv");
/// Columns of a row.
const COLUMNS: usize = 14;

/// Processor architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Arch {
    /// `x86_64`.
    Amd64,
    /// 64-bit ARM.
    Arm64,
}

impl Arch {
    /// Reads the value of the label `kubernetes.io/arch`.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "amd64" => Some(Self::Amd64),
            "arm64" => Some(Self::Arm64),
            _ => None,
        }
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        })
    }
}

/// What sort of accelerator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// GPU of NVIDIA: `nvidia.com/gpu`.
    Nvidia,
    /// Inferentia or Trainium: `aws.amazon.com/neuron`.
    Neuron,
    /// `aws.amazon.com/fpga`.
    Fpga,
    /// One that no resource of a pod asks for.
    Other,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nvidia => "NVIDIA GPU",
            Self::Neuron => "Neuron device",
            Self::Fpga => "FPGA",
            Self::Other => "accelerator of another kind",
        })
    }
}

/// The accelerators of an instance type, all of one model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accelerator {
    /// What sort.
    pub kind: Kind,
    /// AWS's name of the model, such as `H100`.
    pub model: String,
    /// How many.
    pub count: u32,
    /// Memory of each, MiB.
    pub memory_mib: u64,
    /// Neuron cores of all together.
    pub cores: u32,
    /// Generation of the Neuron cores, 0 elsewhere; the first needs an SDK of its own.
    pub generation: u32,
    /// Each is a part of a device only.
    pub fractional: bool,
}

/// One instance type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceType {
    /// Such as `g5.xlarge`.
    pub name: String,
    /// Virtual processors.
    pub vcpu: u32,
    /// Memory as AWS states it, MiB; the operating system sees less.
    pub memory_mib: u64,
    /// Architecture.
    pub arch: Arch,
    /// Accelerators, if any.
    pub accelerator: Option<Accelerator>,
    /// Most EFA interfaces.
    pub efa: u32,
    /// Local disks together, GB; 0 for none.
    pub local_disk_gb: u64,
    /// No hypervisor.
    pub metal: bool,
    /// Full speed on credit only.
    pub burstable: bool,
    /// AWS calls it previous generation.
    pub previous: bool,
    /// On demand, Linux, us-east-1, on the catalogue's date; `None` is unknown, never free.
    pub price: Option<Price>,
}

impl InstanceType {
    /// The number in the family's name: 7 of `c7i.xlarge`. Only for ties.
    pub fn generation(&self) -> u32 {
        let digits = self.name.split('.').next().unwrap_or_default();
        let digits = digits.trim_start_matches(|c: char| !c.is_ascii_digit());
        let end = digits
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(digits.len());
        digits[..end].parse().unwrap_or(0)
    }
}

/// All instance types that are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Catalogue {
    /// The day of its prices, `YYYY-MM-DD`.
    pub date: String,
    /// Sorted by name.
    pub types: Vec<InstanceType>,
}

impl Catalogue {
    /// The one that is compiled in, for when AWS cannot be asked.
    ///
    /// # Errors
    /// The line that cannot be read; a test reads them all.
    pub fn compiled() -> Result<Self, String> {
        Self::parse(COMPILED)
    }

    /// Reads rows of columns separated by tabs, as the compiled file has them.
    ///
    /// # Errors
    /// The number and text of the first line that cannot be read.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut date = String::new();
        let mut types = Vec::new();
        for (index, line) in text.lines().enumerate() {
            if let Some(comment) = line.strip_prefix('#') {
                if let Some(day) = comment.trim().strip_prefix("date: ") {
                    date = day.into();
                }
                continue;
            }
            types.push(row(line).ok_or_else(|| format!("line {}: {line:?}", index + 1))?);
        }
        types.sort_by(|a: &InstanceType, b| a.name.cmp(&b.name));
        Ok(Self { date, types })
    }

    /// The type of this name.
    pub fn get(&self, name: &str) -> Option<&InstanceType> {
        let found = self.types.binary_search_by(|t| t.name.as_str().cmp(name));
        found.ok().map(|place| &self.types[place])
    }
}

fn row(line: &str) -> Option<InstanceType> {
    let cells: Vec<&str> = line.split('\t').collect();
    let cells: [&str; COLUMNS] = cells.try_into().ok()?;
    let [
        name,
        vcpu,
        memory,
        arch,
        kind,
        model,
        count,
        each,
        cores,
        generation,
        efa,
        disk,
        flags,
        price,
    ] = cells;
    let flag = |name: &str| flags.split(',').any(|flag| flag == name);
    let kind = match kind {
        "-" => None,
        "nvidia" => Some(Kind::Nvidia),
        "neuron" => Some(Kind::Neuron),
        "fpga" => Some(Kind::Fpga),
        "other" => Some(Kind::Other),
        _ => return None,
    };
    let accelerator = match kind {
        None => None,
        Some(kind) => Some(Accelerator {
            kind,
            model: model.into(),
            count: count.parse().ok()?,
            memory_mib: each.parse().ok()?,
            cores: cores.parse().ok()?,
            generation: generation.parse().ok()?,
            fractional: flag("fractional"),
        }),
    };
    Some(InstanceType {
        name: name.into(),
        vcpu: vcpu.parse().ok()?,
        memory_mib: memory.parse().ok()?,
        arch: Arch::parse(arch)?,
        accelerator,
        efa: efa.parse().ok()?,
        local_disk_gb: disk.parse().ok()?,
        metal: flag("metal"),
        burstable: flag("burstable"),
        previous: flag("previous"),
        price: match price {
            "-" => None,
            known => Some(Price::parse(known)?),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_the_compiled_catalogue_is_read() {
        let catalogue = Catalogue::compiled().unwrap();
        assert_eq!(catalogue.date, "2026-07-20");
        let lines = COMPILED.lines().filter(|l| !l.starts_with('#')).count();
        assert_eq!(catalogue.types.len(), lines);
        let p5 = catalogue.get("p5.48xlarge").unwrap();
        let gpus = p5.accelerator.as_ref().unwrap();
        assert_eq!((gpus.kind, gpus.count, p5.efa), (Kind::Nvidia, 8, 32));
        assert_eq!(catalogue.get("p5e.48xlarge").unwrap().price, None);
    }

    #[test]
    fn a_line_that_cannot_be_read_is_named() {
        let error = Catalogue::parse("# date: x\nc5.large\t2").unwrap_err();
        assert!(error.contains("line 2"), "{error}");
    }
}
