//! What the provider counts beside the framework: requests to Flight Control
//! and its devices. Names follow Prometheus' conventions; labels are few.

use std::sync::atomic::AtomicI64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use virtual_kubelet::metrics::Metrics;

use crate::client::Call;

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

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct State {
    state: &'static str,
}

/// The provider's own counters; clones share them.
#[derive(Clone, Debug)]
pub struct Counters {
    requests: Family<Request, Counter>,
    durations: Family<Operation, Histogram, fn() -> Histogram>,
    devices: Family<State, Gauge<i64, AtomicI64>>,
}

impl Counters {
    /// Counters, registered beside the framework's.
    pub fn new(metrics: &Metrics) -> Self {
        let counters = Self {
            requests: Family::default(),
            durations: Family::new_with_constructor(|| Histogram::new(SECONDS)),
            devices: Family::default(),
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
            registry.register(
                "flightctl_devices",
                "Devices known, and those that take pods",
                counters.devices.clone(),
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

    /// Shows how many devices there are.
    pub fn devices(&self, known: usize, usable: usize) {
        for (state, count) in [("known", known), ("usable", usable)] {
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            self.devices.get_or_create(&State { state }).set(count);
        }
    }
}
