//! `/stats/summary`, `/metrics/resource`, `/metrics/cadvisor` and
//! `/metrics/probes`: what the backend measured and nothing else.

use std::fmt::Write;

use axum::body::Body;
use http::{Response, StatusCode};
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use tokio::time::timeout;
use vk_provider::BackendError;
use vk_provider::stats::{ContainerStats, Cpu, Memory, NodeStats, PodStats, Usage};

use super::answer;
use super::limits::STATS;
use super::node::NodeApi;

const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// `/stats/summary`, of `k8s.io/kubelet/pkg/apis/stats/v1alpha1`.
pub(super) async fn summary(api: &NodeApi) -> Response<Body> {
    match measured(api).await {
        Ok(stats) => answer::json(summarized(&api.name, &stats).to_string()),
        Err(Unmeasured::Never) => none(api),
        Err(Unmeasured::Now(error)) => answer::backend_error(&error),
    }
}

/// `/metrics/resource`, which metrics-server reads.
pub(super) async fn resource(api: &NodeApi) -> Response<Body> {
    match measured(api).await {
        Ok(stats) => prometheus(resource_text(Some(&stats))),
        Err(Unmeasured::Never) => none(api),
        Err(Unmeasured::Now(error)) => {
            tracing::warn!(node = &*api.name, %error, "the backend tells no measurements");
            prometheus(resource_text(None))
        }
    }
}

/// `/metrics/cadvisor`: of its names those that have a value here.
pub(super) async fn cadvisor(api: &NodeApi) -> Response<Body> {
    match measured(api).await {
        Ok(stats) => prometheus(cadvisor_text(&stats)),
        Err(Unmeasured::Never) => none(api),
        Err(Unmeasured::Now(error)) => answer::backend_error(&error),
    }
}

/// `/metrics/probes`: no probe is run here, the remote runs its own.
pub(super) fn probes() -> Response<Body> {
    prometheus("# no probes are run by this node\n".into())
}

enum Unmeasured {
    Never,
    Now(BackendError),
}

async fn measured(api: &NodeApi) -> Result<NodeStats, Unmeasured> {
    let stats = api.shared.backend.stats().ok_or(Unmeasured::Never)?;
    let measured = timeout(STATS, stats.stats(&api.name)).await;
    let late = || BackendError::Unavailable {
        message: format!("no measurements within {} s", STATS.as_secs()),
        retry: None,
    };
    measured
        .unwrap_or_else(|_| Err(late()))
        .map_err(Unmeasured::Now)
}

fn none(api: &NodeApi) -> Response<Body> {
    answer::not_implemented(&*api.shared.backend, "measurements (kubectl top)")
}

fn prometheus(text: String) -> Response<Body> {
    answer::of(StatusCode::OK, PROMETHEUS, Body::from(text))
}

fn summarized(node: &str, stats: &NodeStats) -> Value {
    let mut whole = used(stats.usage, stats.started_at);
    whole.insert("nodeName".into(), node.into());
    json!({"node": whole, "pods": stats.pods.iter().map(pod).collect::<Vec<_>>()})
}

fn pod(pod: &PodStats) -> Value {
    let mut all = used(pod_usage(pod), pod.started_at);
    let key = &pod.key;
    let named = json!({"name": &*key.name, "namespace": &*key.namespace, "uid": key.uid.as_str()});
    all.insert("podRef".into(), named);
    let containers = pod.containers.iter().map(|container| {
        let mut all = used(container.usage, container.started_at);
        all.insert("name".into(), container.name.as_str().into());
        Value::Object(all)
    });
    all.insert("containers".into(), containers.collect());
    Value::Object(all)
}

fn used(usage: Usage, started_at: Option<Timestamp>) -> Map<String, Value> {
    let mut all = Map::new();
    let at = |at: Timestamp| Value::from(at.to_string());
    all.insert("startTime".into(), started_at.map_or(Value::Null, at));
    if let Some(cpu) = usage.cpu {
        let mut told = Map::from_iter([("time".to_owned(), at(cpu.at))]);
        insert(&mut told, "usageNanoCores", cpu.nano_cores);
        insert(&mut told, "usageCoreNanoSeconds", cpu.total_nanos);
        all.insert("cpu".into(), told.into());
    }
    if let Some(memory) = usage.memory {
        let mut told = Map::from_iter([("time".to_owned(), at(memory.at))]);
        insert(&mut told, "availableBytes", memory.available);
        insert(&mut told, "usageBytes", memory.usage);
        insert(&mut told, "workingSetBytes", memory.working_set);
        insert(&mut told, "rssBytes", memory.rss);
        all.insert("memory".into(), told.into());
    }
    all
}

fn insert(map: &mut Map<String, Value>, name: &str, value: Option<u64>) {
    if let Some(value) = value {
        map.insert(name.into(), value.into());
    }
}

/// A pod's own measurements, else the sum of its containers'.
fn pod_usage(pod: &PodStats) -> Usage {
    Usage {
        cpu: pod.usage.cpu.or_else(|| cpu_of(&pod.containers)),
        memory: pod.usage.memory.or_else(|| memory_of(&pod.containers)),
    }
}

fn cpu_of(containers: &[ContainerStats]) -> Option<Cpu> {
    let all: Option<Vec<Cpu>> = containers.iter().map(|c| c.usage.cpu).collect();
    let all = all?;
    Some(Cpu {
        at: all.iter().map(|cpu| cpu.at).min()?,
        total_nanos: sum(all.iter().map(|cpu| cpu.total_nanos)),
        nano_cores: sum(all.iter().map(|cpu| cpu.nano_cores)),
    })
}

fn memory_of(containers: &[ContainerStats]) -> Option<Memory> {
    let all: Option<Vec<Memory>> = containers.iter().map(|c| c.usage.memory).collect();
    let all = all?;
    Some(Memory {
        at: all.iter().map(|memory| memory.at).min()?,
        working_set: sum(all.iter().map(|memory| memory.working_set)),
        usage: sum(all.iter().map(|memory| memory.usage)),
        rss: sum(all.iter().map(|memory| memory.rss)),
        available: None,
    })
}

/// Of all, or of none.
fn sum(values: impl Iterator<Item = Option<u64>>) -> Option<u64> {
    values.sum()
}

/// Metrics of one name.
struct Family {
    text: String,
    any: bool,
}

impl Family {
    fn new(name: &str, kind: &str, help: &str) -> Self {
        Self {
            text: format!("# HELP {name} {help}\n# TYPE {name} {kind}\n"),
            any: false,
        }
    }

    fn add(&mut self, name: &str, labels: &str, value: f64, at: Option<Timestamp>) {
        self.any = true;
        let at = at.map(|at| format!(" {}", at.as_millisecond()));
        // Writing to a String cannot fail.
        let _ = writeln!(
            self.text,
            "{name}{labels} {value}{}",
            at.unwrap_or_default()
        );
    }

    fn finish(self) -> String {
        if self.any { self.text } else { String::new() }
    }
}

/// Names and texts of pkg/kubelet/metrics/collectors/resource_metrics.go; `None`
/// where measuring failed.
fn resource_text(stats: Option<&NodeStats>) -> String {
    let mut text = String::new();
    if let Some(stats) = stats {
        for (prefix, what) in [("node", "node"), ("pod", "pod"), ("container", "container")] {
            let usages = usages(prefix, stats);
            text += &cpu_family(&format!("{prefix}_cpu_usage_seconds_total"), what, &usages);
            text += &memory_family(&format!("{prefix}_memory_working_set_bytes"), what, &usages);
        }
        let name = "container_start_time_seconds";
        let help = "Start time of the container since unix epoch in seconds";
        let mut starts = Family::new(name, "gauge", help);
        for pod in &stats.pods {
            for container in &pod.containers {
                if let Some(at) = container.started_at {
                    let labels = labels(pod, Some(&container.name));
                    starts.add(name, &labels, seconds(at), None);
                }
            }
        }
        text += &starts.finish();
    }
    for name in ["scrape_error", "resource_scrape_error"] {
        let help = "1 if there was an error while getting container metrics, 0 otherwise";
        let mut error = Family::new(name, "gauge", help);
        error.add(name, "", if stats.is_some() { 0.0 } else { 1.0 }, None);
        text += &error.finish();
    }
    text
}

fn cadvisor_text(stats: &NodeStats) -> String {
    let usages = usages("container", stats);
    cpu_family("container_cpu_usage_seconds_total", "container", &usages)
        + &memory_family("container_memory_working_set_bytes", "container", &usages)
}

/// What is used, with the labels of the metrics of this prefix.
fn usages(prefix: &str, stats: &NodeStats) -> Vec<(String, Usage)> {
    match prefix {
        "node" => vec![(String::new(), stats.usage)],
        "pod" => {
            let pods = stats.pods.iter();
            pods.map(|pod| (labels(pod, None), pod_usage(pod)))
                .collect()
        }
        _ => {
            let of = |pod| move |c: &ContainerStats| (labels(pod, Some(&c.name)), c.usage);
            let pods = stats.pods.iter();
            pods.flat_map(|pod| pod.containers.iter().map(of(pod)))
                .collect()
        }
    }
}

fn cpu_family(name: &str, what: &str, usages: &[(String, Usage)]) -> String {
    let help = format!("Cumulative cpu time consumed by the {what} in core-seconds");
    let mut family = Family::new(name, "counter", &help);
    for (labels, usage) in usages {
        if let Some((cpu, nanos)) = usage.cpu.and_then(|cpu| Some((cpu, cpu.total_nanos?))) {
            #[allow(clippy::cast_precision_loss, reason = "as the kubelet")]
            family.add(name, labels, nanos as f64 / 1e9, Some(cpu.at));
        }
    }
    family.finish()
}

fn memory_family(name: &str, what: &str, usages: &[(String, Usage)]) -> String {
    let help = format!("Current working set of the {what} in bytes");
    let mut family = Family::new(name, "gauge", &help);
    for (labels, usage) in usages {
        if let Some((memory, bytes)) = usage.memory.and_then(|m| Some((m, m.working_set?))) {
            #[allow(clippy::cast_precision_loss, reason = "as the kubelet")]
            family.add(name, labels, bytes as f64, Some(memory.at));
        }
    }
    family.finish()
}

/// Names in Kubernetes hold nothing that had to be escaped.
fn labels(pod: &PodStats, container: Option<&str>) -> String {
    let container = container.map(|name| format!("container=\"{name}\","));
    format!(
        "{{{}namespace=\"{}\",pod=\"{}\"}}",
        container.unwrap_or_default(),
        pod.key.namespace,
        pod.key.name
    )
}

#[allow(
    clippy::cast_precision_loss,
    reason = "milliseconds since 1970 fit into 53 bits"
)]
fn seconds(at: Timestamp) -> f64 {
    at.as_millisecond() as f64 / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;
    use vk_provider::PodKey;

    fn container(name: &str, cpu: Option<u64>, memory: Option<u64>) -> ContainerStats {
        let at = Timestamp::from_second(1000).unwrap();
        ContainerStats {
            name: name.into(),
            started_at: Timestamp::from_second(900).ok(),
            usage: Usage {
                cpu: cpu.map(|nanos| Cpu {
                    at,
                    total_nanos: Some(nanos),
                    nano_cores: None,
                }),
                memory: memory.map(|bytes| Memory {
                    at,
                    working_set: Some(bytes),
                    usage: None,
                    rss: None,
                    available: None,
                }),
            },
        }
    }

    fn node(containers: Vec<ContainerStats>) -> NodeStats {
        NodeStats {
            pods: vec![PodStats {
                key: PodKey::new("ns", "web", "u-1"),
                started_at: None,
                usage: Usage::default(),
                containers,
            }],
            ..NodeStats::default()
        }
    }

    #[test]
    fn a_pod_is_the_sum_of_its_containers_if_all_are_measured() {
        let both = node(vec![
            container("a", Some(1_500_000_000), Some(100)),
            container("b", Some(500_000_000), None),
        ]);
        let text = resource_text(Some(&both));
        for line in [
            "container_cpu_usage_seconds_total{container=\"a\",namespace=\"ns\",pod=\"web\"} 1.5 1000000",
            "container_memory_working_set_bytes{container=\"a\",namespace=\"ns\",pod=\"web\"} 100 1000000",
            "container_start_time_seconds{container=\"b\",namespace=\"ns\",pod=\"web\"} 900",
            "pod_cpu_usage_seconds_total{namespace=\"ns\",pod=\"web\"} 2 1000000",
            "resource_scrape_error 0",
        ] {
            assert!(
                text.lines().any(|l| l == line),
                "{line} is missing in\n{text}"
            );
        }
        for absent in ["pod_memory", "node_cpu", "node_memory"] {
            assert!(!text.contains(absent), "{absent} was not measured\n{text}");
        }
        assert!(resource_text(None).contains("resource_scrape_error 1"));
    }

    #[test]
    fn a_summary_leaves_out_what_was_not_measured() {
        let shown = summarized("vk", &node(vec![container("a", Some(7), None)]));
        let wanted = json!({
            "node": {"nodeName": "vk", "startTime": null},
            "pods": [{
                "podRef": {"name": "web", "namespace": "ns", "uid": "u-1"},
                "startTime": null,
                "cpu": {"time": "1970-01-01T00:16:40Z", "usageCoreNanoSeconds": 7},
                "containers": [{
                    "name": "a",
                    "startTime": "1970-01-01T00:15:00Z",
                    "cpu": {"time": "1970-01-01T00:16:40Z", "usageCoreNanoSeconds": 7},
                }],
            }],
        });
        assert_eq!(shown, wanted);
    }
}
