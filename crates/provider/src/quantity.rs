//! Kubernetes quantities, and the resources of pods and nodes.
//!
//! Values are `i128` in *nano* units, which holds every quantity Kubernetes
//! accepts (<https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/>)
//! without rounding down.

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::api::core::v1::{Container, PodSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

const NANO: i128 = 1_000_000_000;
/// Larger exponents than kubernetes' own `int64` quantities can hold.
const MAX_EXPONENT: i32 = 18;

/// An amount of one resource, exact to a billionth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Amount(i128);

/// A text that is no quantity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a quantity; write a number with an optional unit, as in 500m, 2 or 1.5Gi")]
pub struct QuantityError(String);

impl Amount {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// Whole units (cores, bytes, pods).
    pub const fn units(units: i64) -> Self {
        Self(units as i128 * NANO)
    }

    /// Thousandths (`millicores`).
    pub const fn milli(milli: i64) -> Self {
        Self(milli as i128 * (NANO / 1000))
    }

    /// Parses `500m`, `2`, `1.5Gi`, `1e3`.
    ///
    /// # Errors
    /// The text is not a quantity.
    pub fn parse(text: &str) -> Result<Self, QuantityError> {
        parse(text)
            .map(Self)
            .ok_or_else(|| QuantityError(text.into()))
    }

    /// In whole units, rounded up as Kubernetes rounds.
    pub fn ceil_units(self) -> i128 {
        self.0.div_euclid(NANO) + i128::from(self.0.rem_euclid(NANO) != 0)
    }

    /// In thousandths, rounded up.
    pub fn ceil_milli(self) -> i128 {
        let step = NANO / 1000;
        self.0.div_euclid(step) + i128::from(self.0.rem_euclid(step) != 0)
    }

    /// The difference, never below zero.
    #[must_use]
    pub fn saturating_sub(self, other: Self) -> Self {
        Self((self.0 - other.0).max(0))
    }

    /// As text for a resource of this name: bytes in binary units, everything
    /// else in decimal ones, as kubectl shows them.
    pub fn show(self, resource: &str) -> String {
        if is_bytes(resource) {
            let bytes = self.ceil_units();
            for (unit, size) in BINARY.iter().rev() {
                if bytes != 0 && bytes % size == 0 {
                    return format!("{}{unit}", bytes / size);
                }
            }
            return bytes.to_string();
        }
        let milli = self.ceil_milli();
        if milli % 1000 == 0 {
            (milli / 1000).to_string()
        } else {
            format!("{milli}m")
        }
    }
}

impl std::ops::Add for Amount {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl std::ops::AddAssign for Amount {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

const BINARY: [(&str, i128); 6] = [
    ("Ki", 1 << 10),
    ("Mi", 1 << 20),
    ("Gi", 1 << 30),
    ("Ti", 1 << 40),
    ("Pi", 1 << 50),
    ("Ei", 1 << 60),
];

fn is_bytes(resource: &str) -> bool {
    matches!(resource, "memory" | "ephemeral-storage") || resource.starts_with("hugepages-")
}

fn parse(text: &str) -> Option<i128> {
    let text = text.trim();
    let (negative, body) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let end = body
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(body.len());
    let (number, suffix) = body.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    let digits = format!("{whole}{fraction}");
    let mantissa: i128 = digits.parse().ok()?;
    let scale = i32::try_from(fraction.len()).ok()?;
    // value = mantissa * 10^-scale * factor, in nano
    let (factor, exponent) = match suffix {
        "" => (1, 0),
        "n" => (1, -9),
        "u" => (1, -6),
        "m" => (1, -3),
        "k" => (1, 3),
        "M" => (1, 6),
        "G" => (1, 9),
        "T" => (1, 12),
        "P" => (1, 15),
        "E" => (1, 18),
        other => match BINARY.iter().find(|(unit, _)| *unit == other) {
            Some((_, size)) => (*size, 0),
            None => {
                let exponent = other.strip_prefix(['e', 'E'])?;
                (1, exponent.parse::<i32>().ok()?)
            }
        },
    };
    if !(-MAX_EXPONENT..=MAX_EXPONENT).contains(&exponent) {
        return None;
    }
    let power = 9 + exponent - scale;
    let value = mantissa.checked_mul(factor)?;
    let nano = if power >= 0 {
        value.checked_mul(10i128.checked_pow(u32::try_from(power).ok()?)?)?
    } else {
        let divisor = 10i128.checked_pow(power.unsigned_abs())?;
        value / divisor + i128::from(value % divisor != 0)
    };
    Some(if negative { -nano } else { nano })
}

/// Amounts by resource name (`cpu`, `memory`, `pods`, extended resources).
///
/// Sorted by name, and a list: every pod has one of a few names, and a map's
/// smallest node has room for eleven.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Resources(Vec<(Box<str>, Amount)>);

impl Resources {
    /// No resources.
    pub fn new() -> Self {
        Self::default()
    }

    /// With one more resource.
    #[must_use]
    pub fn with(mut self, name: &str, amount: Amount) -> Self {
        self.set(name, amount);
        self
    }

    /// The amount of one resource, zero where it is not named.
    pub fn get(&self, name: &str) -> Amount {
        let found = self.place(name).ok();
        found.map_or(Amount::ZERO, |place| self.0[place].1)
    }

    /// Sets one resource.
    pub fn set(&mut self, name: &str, amount: Amount) {
        match self.place(name) {
            Ok(place) => self.0[place].1 = amount,
            Err(place) => {
                self.0.reserve_exact(1);
                self.0.insert(place, (name.into(), amount));
            }
        }
    }

    /// Where a name is, or belongs.
    fn place(&self, name: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|(known, _)| (**known).cmp(name))
    }

    /// All named resources, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Amount)> {
        self.0.iter().map(|(name, amount)| (&**name, *amount))
    }

    /// Adds every resource of `other`.
    pub fn add(&mut self, other: &Self) {
        for (name, amount) in other.iter() {
            self.set(name, self.get(name) + amount);
        }
    }

    /// What is left after `used`, never below zero; names of `self` only.
    #[must_use]
    pub fn minus(&self, used: &Self) -> Self {
        Self(
            self.0
                .iter()
                .map(|(name, amount)| (name.clone(), amount.saturating_sub(used.get(name))))
                .collect(),
        )
    }

    /// The first resource of `self` that `free` has too little of.
    pub fn exceeds<'a>(&'a self, free: &Self) -> Option<&'a str> {
        self.iter()
            .find(|(name, amount)| *amount > Amount::ZERO && *amount > free.get(name))
            .map(|(name, _)| name)
    }

    /// As the API spells it.
    pub fn to_quantities(&self) -> BTreeMap<String, Quantity> {
        self.iter()
            .map(|(name, amount)| (name.to_owned(), Quantity(amount.show(name))))
            .collect()
    }

    /// From the API; texts that are no quantities are left out (the API server
    /// lets none pass).
    pub fn from_quantities(map: Option<&BTreeMap<String, Quantity>>) -> Self {
        Self(
            map.into_iter()
                .flatten()
                // Sorted, as the map is.
                .filter_map(|(name, q)| Some((name.as_str().into(), Amount::parse(&q.0).ok()?)))
                .collect(),
        )
    }
}

impl fmt::Display for Resources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (name, amount)) in self.iter().enumerate() {
            let comma = if index > 0 { ", " } else { "" };
            write!(f, "{comma}{name}={}", amount.show(name))?;
        }
        Ok(())
    }
}

/// The effective request of a pod, as the scheduler computes it: the larger of
/// the regular containers (with sidecars) together and each init container
/// (with the sidecars started before it), plus overhead, plus one `pods`.
/// <https://kubernetes.io/docs/concepts/workloads/pods/init-containers/#resource-sharing-within-containers>
pub fn pod_requests(spec: &PodSpec) -> Resources {
    let mut total = Resources::new();
    let mut sidecars = Resources::new();
    let mut init_peak = Resources::new();
    for container in &spec.containers {
        total.add(&requests(container));
    }
    for init in spec.init_containers.iter().flatten() {
        let wanted = requests(init);
        if init.restart_policy.as_deref() == Some("Always") {
            sidecars.add(&wanted);
            total.add(&wanted);
            raise(&mut init_peak, &sidecars);
        } else {
            let mut at_once = sidecars.clone();
            at_once.add(&wanted);
            raise(&mut init_peak, &at_once);
        }
    }
    raise(&mut total, &init_peak);
    if let Some(level) = &spec.resources {
        // Pod-level requests take the place of the containers' sum.
        for (name, amount) in Resources::from_quantities(level.requests.as_ref()).iter() {
            total.set(name, amount);
        }
    }
    total.add(&Resources::from_quantities(spec.overhead.as_ref()));
    total.with("pods", Amount::units(1))
}

fn raise(target: &mut Resources, floor: &Resources) {
    for (name, amount) in floor.iter() {
        if amount > target.get(name) {
            target.set(name, amount);
        }
    }
}

/// Requests of a container; a limit without a request counts as both.
fn requests(container: &Container) -> Resources {
    let Some(resources) = &container.resources else {
        return Resources::new();
    };
    let mut wanted = Resources::from_quantities(resources.limits.as_ref());
    for (name, amount) in Resources::from_quantities(resources.requests.as_ref()).iter() {
        wanted.set(name, amount);
    }
    wanted
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_what_kubernetes_reads() {
        for (text, milli) in [
            ("500m", 500),
            ("2", 2000),
            ("1.5", 1500),
            ("0.1", 100),
            ("1e3", 1_000_000),
            ("1k", 1_000_000),
            ("100n", 1),
            (".5", 500),
        ] {
            assert_eq!(Amount::parse(text).unwrap().ceil_milli(), milli, "{text}");
        }
        assert_eq!(Amount::parse("1.5Gi").unwrap().ceil_units(), 3 << 29);
        for text in ["", "m", "1.2.3", "1Zi", "1e99", "two", "1 Gi"] {
            assert!(Amount::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn shows_what_kubectl_shows() {
        let show = |text: &str, name: &str| Amount::parse(text).unwrap().show(name);
        assert_eq!(show("16Gi", "memory"), "16Gi");
        assert_eq!(show("1000Gi", "memory"), "1000Gi");
        assert_eq!(show("24684092Ki", "memory"), "24684092Ki");
        assert_eq!(show("7.5", "cpu"), "7500m");
        assert_eq!(show("100", "cpu"), "100");
        assert_eq!(show("0", "memory"), "0");
    }

    #[test]
    fn init_containers_and_sidecars_count_as_the_scheduler_counts() {
        let container = |cpu: &str, policy: Option<&str>| Container {
            restart_policy: policy.map(str::to_owned),
            resources: Some(k8s_openapi::api::core::v1::ResourceRequirements {
                requests: Some([("cpu".to_owned(), Quantity(cpu.into()))].into()),
                ..Default::default()
            }),
            ..Default::default()
        };
        let spec = PodSpec {
            init_containers: Some(vec![container("1", Some("Always")), container("4", None)]),
            containers: vec![container("2", None)],
            ..Default::default()
        };
        // init phase: sidecar 1 + init 4; afterwards: sidecar 1 + app 2
        assert_eq!(pod_requests(&spec).get("cpu"), Amount::units(5));
        assert_eq!(pod_requests(&spec).get("pods"), Amount::units(1));
    }

    proptest! {
        #[test]
        fn any_text_parses_or_is_refused_without_panic(text in ".*") {
            let _ = Amount::parse(&text);
        }

        #[test]
        fn what_is_shown_reads_back(milli in 0i64..i64::MAX / 1000) {
            let amount = Amount::milli(milli);
            prop_assert_eq!(Amount::parse(&amount.show("cpu")).unwrap(), amount);
        }
    }
}
