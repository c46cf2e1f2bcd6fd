//! Prometheus metrics, named `virtual_kubelet_*` but for those that have the same
//! name in every program (`process_*`) or every client of Kubernetes
//! (`rest_client_*`). `docs/metrics.md` lists them.
//!
//! Labels have few values: operations and codes, never pods or devices. A
//! product registers its own metrics beside these with [`Metrics::extend`].

mod process;
mod rest;
mod shown;

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

pub(crate) use rest::Requests;
pub(crate) use shown::show;

/// What `/metrics` is served as.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// From a mock's 50 ms to the 27 minutes of a slow image pull.
const STARTUP_BUCKETS: (f64, f64, u16) = (0.05, 2.0, 16);
/// From a decision in memory (1 ms) to the 60 s deadline of a backend call.
const STEP_BUCKETS: (f64, f64, u16) = (0.001, 2.5, 13);

/// What every process asks of Kubernetes.
const ALWAYS: [&str; 4] = ["node", "lease", "status", "event"];

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Operation {
    operation: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ApiError {
    operation: String,
    code: u16,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Build {
    name: String,
    version: String,
}

type Steps = Family<Operation, Histogram, fn() -> Histogram>;

/// All counters of one process; clones share them.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Arc<Mutex<Registry>>,
    requests: Requests,
    startup: Histogram,
    accepted: Histogram,
    steps: Steps,
    status_patches: Counter,
    api_errors: Family<ApiError, Counter>,
    events_sent: Counter,
    events_dropped: Counter,
    ready_nodes: Gauge<i64>,
    lease_renewed: Gauge<f64, AtomicU64>,
    watched_objects: Gauge<i64>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new("virtual-kubelet", env!("CARGO_PKG_VERSION"))
    }
}

impl Metrics {
    /// Metrics of the program `name` in this version, which `build_info` shows.
    pub fn new(name: &str, version: &str) -> Self {
        let (first, factor, count) = STARTUP_BUCKETS;
        let metrics = Self {
            registry: Arc::default(),
            requests: Requests::default(),
            startup: Histogram::new(exponential_buckets(first, factor, count)),
            accepted: Histogram::new(exponential_buckets(first, factor, count)),
            steps: Family::new_with_constructor(|| {
                let (first, factor, count) = STEP_BUCKETS;
                Histogram::new(exponential_buckets(first, factor, count))
            }),
            status_patches: Counter::default(),
            api_errors: Family::default(),
            events_sent: Counter::default(),
            events_dropped: Counter::default(),
            ready_nodes: Gauge::default(),
            lease_renewed: Gauge::default(),
            watched_objects: Gauge::default(),
        };
        let build = Build {
            name: name.into(),
            version: version.into(),
        };
        metrics.extend(|registry| metrics.register(registry, build));
        {
            let mut registry = metrics.lock();
            metrics.requests.register(&mut registry);
            registry.register_collector(Box::new(process::Process));
        }
        for operation in ALWAYS {
            // A rate needs the zero before the first one.
            metrics.errors(operation, 0);
        }
        metrics
    }

    fn register(&self, registry: &mut Registry, build: Build) {
        registry.register_with_unit(
            "pod_accepted_duration",
            "From the creation of a pod to the backend's word that it holds it",
            Unit::Seconds,
            self.accepted.clone(),
        );
        registry.register_with_unit(
            "pod_startup_duration",
            "From the creation of a pod to its status Running in Kubernetes",
            Unit::Seconds,
            self.startup.clone(),
        );
        registry.register_with_unit(
            "reconcile_duration",
            "One step for one pod, the backend's answer included",
            Unit::Seconds,
            self.steps.clone(),
        );
        registry.register(
            "pod_status_patches",
            "Pod statuses sent to Kubernetes",
            self.status_patches.clone(),
        );
        registry.register(
            "api_errors",
            "Requests to Kubernetes that failed; code 0 is no answer",
            self.api_errors.clone(),
        );
        registry.register(
            "events",
            "Events sent to Kubernetes",
            self.events_sent.clone(),
        );
        registry.register(
            "events_dropped",
            "Events dropped because too many waited or one failed",
            self.events_dropped.clone(),
        );
        registry.register(
            "registered_nodes",
            "Nodes that are registered",
            self.ready_nodes.clone(),
        );
        registry.register_with_unit(
            "lease_renewed_timestamp",
            "Unix time of the latest renewal of any node's lease",
            Unit::Seconds,
            self.lease_renewed.clone(),
        );
        registry.register(
            "watched_objects",
            "Watches of ConfigMaps, Secrets and Services that pods refer to",
            self.watched_objects.clone(),
        );
        registry.register("build", "The program and its version", Info::new(build));
    }

    /// Registers more metrics, with the prefix `virtual_kubelet` unless they are
    /// put into a registry of the caller's own.
    pub fn extend(&self, register: impl FnOnce(&mut Registry)) {
        register(self.lock().sub_registry_with_prefix("virtual_kubelet"));
    }

    fn lock(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What counts requests to Kubernetes.
    pub(crate) fn requests(&self) -> &Requests {
        &self.requests
    }

    /// The backend has taken a pod over that was `created` then.
    pub(crate) fn pod_accepted(&self, created: Timestamp, now: Timestamp) {
        self.accepted.observe(since(created, now));
    }

    /// A pod that was `created` then became Running.
    pub(crate) fn pod_started(&self, created: Timestamp, now: Timestamp) {
        self.startup.observe(since(created, now));
    }

    /// One step of the planner was carried out.
    pub(crate) fn observe_step(&self, operation: &str, took: Duration) {
        let operation = Operation {
            operation: operation.into(),
        };
        self.steps
            .get_or_create(&operation)
            .observe(took.as_secs_f64());
    }

    /// A pod status is sent.
    pub(crate) fn status_patch(&self) {
        self.status_patches.inc();
    }

    /// A request to Kubernetes failed.
    pub(crate) fn api_error(&self, operation: &str, error: &kube::Error) {
        let code = match error {
            kube::Error::Api(status) => status.code,
            _ => 0,
        };
        self.count_error(operation, code);
    }

    /// A request to Kubernetes failed with this code, 0 for no answer.
    pub(crate) fn count_error(&self, operation: &str, code: u16) {
        self.errors(operation, code).inc();
    }

    fn errors(&self, operation: &str, code: u16) -> Counter {
        let operation = operation.into();
        let labels = ApiError { operation, code };
        self.api_errors.get_or_create_owned(&labels)
    }

    /// An event was stored.
    pub(crate) fn event_sent(&self) {
        self.events_sent.inc();
    }

    /// An event was given up.
    pub(crate) fn event_dropped(&self) {
        self.events_dropped.inc();
    }

    /// Events given up so far.
    #[cfg(test)]
    pub(crate) fn events_dropped(&self) -> u64 {
        self.events_dropped.get()
    }

    /// A node was registered, or its task ended.
    pub(crate) fn node_registered(&self, registered: bool) {
        if registered {
            self.ready_nodes.inc();
        } else {
            self.ready_nodes.dec();
        }
    }

    /// So many objects that pods refer to are watched.
    pub(crate) fn set_watched_objects(&self, watched: usize) {
        self.watched_objects
            .set(i64::try_from(watched).unwrap_or(i64::MAX));
    }

    /// A lease was renewed.
    pub(crate) fn lease_renewed(&self, at: Timestamp) {
        #[allow(
            clippy::cast_precision_loss,
            reason = "seconds since 1970 fit into 53 bits"
        )]
        self.lease_renewed.set(at.as_second() as f64);
    }

    /// Everything as OpenMetrics text.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let registry = self.lock();
        // Writing to a String cannot fail.
        let _ = encode(&mut text, &registry);
        text
    }
}

/// Creation times are whole seconds, and clocks differ.
fn since(created: Timestamp, now: Timestamp) -> f64 {
    now.duration_since(created).as_secs_f64().max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_are_those_that_dashboards_use() {
        let metrics = Metrics::new("mock", "1.2.3");
        metrics.observe_step("ensure", Duration::from_millis(3));
        metrics.count_error("status", 409);
        metrics.status_patch();
        let text = metrics.text();
        for line in [
            "virtual_kubelet_pod_startup_duration_seconds_count 0",
            "virtual_kubelet_reconcile_duration_seconds_count{operation=\"ensure\"} 1",
            "virtual_kubelet_pod_status_patches_total 1",
            "virtual_kubelet_api_errors_total{operation=\"status\",code=\"409\"} 1",
            "virtual_kubelet_events_dropped_total 0",
            "virtual_kubelet_watched_objects 0",
            "virtual_kubelet_build_info{name=\"mock\",version=\"1.2.3\"} 1",
        ] {
            assert!(text.contains(line), "{line} is missing in\n{text}");
        }
    }

    #[test]
    fn startup_counts_from_the_creation_and_never_below_zero() {
        let metrics = Metrics::new("mock", "1");
        let at = |second| Timestamp::from_second(second).unwrap();
        metrics.pod_started(at(100), at(104));
        metrics.pod_started(at(100), at(99));
        let text = metrics.text();
        assert!(
            text.contains("pod_startup_duration_seconds_sum 4.0"),
            "{text}"
        );
        assert!(
            text.contains("pod_startup_duration_seconds_count 2"),
            "{text}"
        );
    }
}
