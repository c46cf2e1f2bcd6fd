//! What the provider counts beside the framework: requests to Flight Control
//! and its devices. Names follow Prometheus' conventions; labels are few.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::Histogram;
use virtual_kubelet::metrics::Metrics;
use vk_provider::quantity::{Amount, Resources};

use crate::client::Call;
use crate::world::{FleetSummary, Summary};

/// From a LAN's answer to the 10 s that an expired token takes.
const SECONDS: [f64; 8] = [0.005, 0.02, 0.05, 0.2, 0.5, 2.0, 5.0, 15.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Request {
    operation: &'static str,
    code: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Operation {
    operation: &'static str,
}

/// The provider's own counters; clones share them.
#[derive(Clone, Debug)]
pub struct Counters {
    requests: Family<Request, Counter>,
    durations: Family<Operation, Histogram, fn() -> Histogram>,
}

impl Counters {
    /// Counters, registered beside the framework's.
    pub fn new(metrics: &Metrics) -> Self {
        let counters = Self {
            requests: Family::default(),
            durations: Family::new_with_constructor(|| Histogram::new(SECONDS)),
        };
        metrics.extend(|registry| {
            registry.register(
                "flightctl_requests",
                "Requests to Flight Control by operation and status; none where there was no answer",
                counters.requests.clone(),
            );
            registry.register(
                "flightctl_request_duration_seconds",
                "Time to the end of Flight Control's answer",
                counters.durations.clone(),
            );
        });
        counters
    }

    /// Counts one request.
    pub fn observe(&self, call: &Call) {
        let operation = call.operation;
        let code = call
            .code
            .map_or_else(|| "none".to_owned(), |c| c.to_string());
        self.requests
            .get_or_create(&Request { operation, code })
            .inc();
        self.durations
            .get_or_create(&Operation { operation })
            .observe(call.took.as_secs_f64());
    }
}

/// Shows the devices, asked for anew at each scrape.
pub(crate) fn show_devices(
    metrics: &Metrics,
    summary: impl Fn() -> Summary + Send + Sync + 'static,
) {
    metrics.extend(|registry| registry.register_collector(Box::new(Devices(summary))));
}

struct Devices<F>(F);

impl<F> fmt::Debug for Devices<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Devices").finish_non_exhaustive()
    }
}

impl<F: Fn() -> Summary + Send + Sync + 'static> Collector for Devices<F> {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let fleets = (self.0)();
        let mut statuses = encoder.encode_descriptor(
            "flightctl_devices_summary",
            "Devices by fleet and by the status that Flight Control gives them",
            None,
            MetricType::Gauge,
        )?;
        for (fleet, summary) in &fleets {
            for (status, count) in &summary.statuses {
                let labels = [("status", status.as_str()), ("fleet", fleet)];
                ConstGauge::new(i64::try_from(*count).unwrap_or(i64::MAX))
                    .encode(statuses.encode_family(&labels)?)?;
            }
        }
        let mut states = encoder.encode_descriptor(
            "flightctl_devices_state",
            "Devices by fleet and by what they are in, under the name of the node condition",
            None,
            MetricType::Gauge,
        )?;
        for (fleet, summary) in &fleets {
            for (state, count) in &summary.states {
                let labels = [("state", *state), ("fleet", fleet)];
                ConstGauge::new(i64::try_from(*count).unwrap_or(i64::MAX))
                    .encode(states.encode_family(&labels)?)?;
            }
        }
        for (name, help, value) in SHOWN {
            let mut gauge = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for (fleet, summary) in &fleets {
                let labels = [("fleet", fleet.as_str())];
                ConstGauge::new(value(summary)).encode(gauge.encode_family(&labels)?)?;
            }
        }
        for (name, help, value) in COUNTED {
            let mut counter = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for (fleet, summary) in &fleets {
                let labels = [("fleet", fleet.as_str())];
                ConstCounter::new(value(summary)).encode(counter.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

/// A name, its explanation, and its value of one fleet.
type Shown = (&'static str, &'static str, fn(&FleetSummary) -> f64);

/// The same of a count that only grows.
type Counted = (&'static str, &'static str, fn(&FleetSummary) -> u64);

/// What is counted of each fleet.
const COUNTED: [Counted; 4] = [
    (
        "flightctl_placements",
        "How often a pod was given a place on a device of a fleet, by this process",
        |fleet| fleet.placements,
    ),
    (
        "flightctl_device_disconnects",
        "How often a device of a fleet was found to be away, by this process",
        |fleet| fleet.tally.left,
    ),
    (
        "flightctl_device_reconnects",
        "How often a device of a fleet came back, by this process",
        |fleet| fleet.tally.returned,
    ),
    (
        "flightctl_reschedules",
        "Pods that were given up because their device did not come back in time, by this process",
        |fleet| fleet.tally.rescheduled,
    ),
];

/// What is shown of each fleet.
const SHOWN: [Shown; 12] = [
    (
        "flightctl_devices_away",
        "Devices of a fleet that are found to be away",
        |fleet| count(fleet.away),
    ),
    (
        "flightctl_devices_flapping",
        "Devices of a fleet that came and went too often, and take no new pods for a while",
        |fleet| count(fleet.flapping),
    ),
    (
        "flightctl_rescheduling_paused",
        "1 while nothing of a fleet is rescheduled because devices vanished together",
        |fleet| count(usize::from(fleet.paused)),
    ),
    (
        "flightctl_pods",
        "Pods that have a place on a device of a fleet",
        |fleet| count(fleet.pods),
    ),
    (
        "flightctl_pods_waiting",
        "Pods that wait because no device of a fleet takes them now",
        |fleet| count(fleet.waiting),
    ),
    (
        "flightctl_devices_usable",
        "Devices of a fleet that take pods",
        |fleet| count(fleet.usable),
    ),
    (
        "flightctl_devices_capacity_cpu_cores",
        "CPU of a fleet's devices",
        |fleet| cores(&fleet.capacity),
    ),
    (
        "flightctl_devices_capacity_memory_bytes",
        "Memory of a fleet's devices",
        |fleet| whole(fleet.capacity.get("memory")),
    ),
    (
        "flightctl_devices_capacity_pods",
        "Pods that a fleet's devices can hold",
        |fleet| whole(fleet.capacity.get("pods")),
    ),
    (
        "flightctl_devices_allocatable_cpu_cores",
        "CPU for pods on the devices of a fleet that take pods",
        |fleet| cores(&fleet.allocatable),
    ),
    (
        "flightctl_devices_allocatable_memory_bytes",
        "Memory for pods on the devices of a fleet that take pods",
        |fleet| whole(fleet.allocatable.get("memory")),
    ),
    (
        "flightctl_devices_allocatable_pods",
        "Pods that the devices of a fleet that take pods can hold",
        |fleet| whole(fleet.allocatable.get("pods")),
    ),
];

fn count(number: usize) -> f64 {
    f64::from(u32::try_from(number).unwrap_or(u32::MAX))
}

fn cores(resources: &Resources) -> f64 {
    float(resources.get("cpu").ceil_milli()) / 1000.0
}

fn whole(amount: Amount) -> f64 {
    float(amount.ceil_units())
}

/// Exact up to 2⁵³, which is 8 PiB in bytes.
#[allow(clippy::cast_precision_loss, reason = "metrics are floats")]
fn float(number: i128) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::tests::device;
    use crate::world::World;
    use tokio::time::Instant;

    #[tokio::test]
    async fn devices_are_counted_by_fleet_and_status_with_what_they_hold() {
        let mut world = World::new("cluster", crate::config::default_rules());
        let mut devices = [
            device("a", &[("fleet", "one")]),
            device("b", &[("fleet", "one")]),
            device("c", &[]),
        ];
        devices[1].summary = "Unknown".into();
        for device in &mut devices {
            device.cpu_cores = Some(2);
            device.memory_kb = Some(1 << 20);
        }
        world.read(devices.into(), Instant::now(), true);
        let summary = world.summary();
        let metrics = Metrics::new("test", "1");
        show_devices(&metrics, move || summary.clone());
        let text = metrics.text();
        for line in [
            r#"flightctl_devices_summary{status="Online",fleet="one"} 1"#,
            r#"flightctl_devices_summary{status="Unknown",fleet="one"} 1"#,
            r#"flightctl_devices_summary{status="Online",fleet=""} 1"#,
            r#"flightctl_devices_state{state="DevicesAway",fleet="one"} 1"#,
            r#"flightctl_devices_state{state="DevicesPaused",fleet="one"} 0"#,
            r#"flightctl_devices_usable{fleet="one"} 1"#,
            r#"flightctl_devices_capacity_cpu_cores{fleet="one"} 4"#,
            r#"flightctl_devices_capacity_memory_bytes{fleet="one"} 2147483648"#,
            r#"flightctl_devices_allocatable_cpu_cores{fleet="one"} 1.75"#,
        ] {
            assert!(text.contains(line), "{line} is missing in {text}");
        }
    }
}
