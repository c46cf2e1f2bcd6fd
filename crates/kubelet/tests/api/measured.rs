//! What the backend measures, in the names that Kubernetes reads it by.

use jiff::Timestamp;
use serde_json::{Value, json};
use vk_provider::stats::{ContainerStats, Cpu, Memory, NodeStats, PodStats, Usage};
use vk_provider::{BackendError, PodKey};

use crate::rig::{NODE, Rig};

/// As metrics-server asks for it (pkg/scraper/client/resource/client.go).
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn whole(nanos: u64, bytes: u64) -> Usage {
    Usage {
        cpu: Some(Cpu {
            at: at(1000),
            total_nanos: Some(nanos),
            nano_cores: Some(250_000_000),
        }),
        memory: Some(Memory {
            at: at(1001),
            working_set: Some(bytes),
            usage: Some(bytes + 1),
            rss: Some(bytes + 2),
            available: Some(bytes + 3),
        }),
    }
}

fn container(name: &str, since: Option<i64>, usage: Usage) -> ContainerStats {
    ContainerStats {
        name: name.into(),
        started_at: since.map(at),
        usage,
    }
}

fn pod(name: &str, containers: Vec<ContainerStats>) -> PodStats {
    PodStats {
        key: PodKey::new("shop", name, &format!("uid-{name}")),
        started_at: Some(at(900)),
        usage: Usage::default(),
        containers,
    }
}

/// A pod of which everything is known, and one of which little is.
fn measured() -> NodeStats {
    let dim = Usage {
        cpu: None,
        memory: Some(Memory {
            working_set: Some(50),
            usage: None,
            rss: None,
            available: None,
            at: at(1001),
        }),
    };
    NodeStats {
        started_at: Some(at(800)),
        usage: whole(9_000_000_000, 4096),
        pods: vec![
            pod(
                "clear",
                vec![container("app", Some(901), whole(1_500_000_000, 1024))],
            ),
            pod(
                "dim",
                vec![
                    container("app", None, dim),
                    container("dark", None, Usage::default()),
                ],
            ),
        ],
    }
}

/// Its lines without help and types, sorted.
fn samples(text: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    lines.sort_unstable();
    lines
}

#[tokio::test(flavor = "multi_thread")]
async fn a_summary_has_the_fields_of_kubernetes_and_none_that_was_not_measured() {
    let rig = Rig::new().await;
    rig.remote.measures(Some(Ok(measured())));
    let answer = rig.get("/stats/summary").await;
    assert_eq!(answer.status, 200);
    assert!(
        answer.head.contains("content-type: application/json"),
        "{}",
        answer.head
    );
    let told: Value = serde_json::from_slice(&answer.body).unwrap();
    // k8s.io/kubelet/pkg/apis/stats/v1alpha1/types.go
    let (time, later) = ("1970-01-01T00:16:40Z", "1970-01-01T00:16:41Z");
    let cpu = |nanos: u64| json!({"time": time, "usageNanoCores": 250_000_000, "usageCoreNanoSeconds": nanos});
    let memory = |bytes: u64| {
        json!({"time": later, "workingSetBytes": bytes,
        "usageBytes": bytes + 1, "rssBytes": bytes + 2, "availableBytes": bytes + 3})
    };
    let dim = json!({"time": later, "workingSetBytes": 50});
    // What is left of each of its containers is not known of all of them.
    let mut sum = memory(1024);
    sum.as_object_mut().unwrap().remove("availableBytes");
    let wanted = json!({
        "node": {"nodeName": NODE, "startTime": "1970-01-01T00:13:20Z",
            "cpu": cpu(9_000_000_000), "memory": memory(4096)},
        "pods": [
            {
                "podRef": {"name": "clear", "namespace": "shop", "uid": "uid-clear"},
                "startTime": "1970-01-01T00:15:00Z",
                "cpu": cpu(1_500_000_000), "memory": sum,
                "containers": [{"name": "app", "startTime": "1970-01-01T00:15:01Z",
                    "cpu": cpu(1_500_000_000), "memory": memory(1024)}],
            },
            {
                "podRef": {"name": "dim", "namespace": "shop", "uid": "uid-dim"},
                "startTime": "1970-01-01T00:15:00Z",
                "containers": [
                    {"name": "app", "startTime": null, "memory": dim},
                    {"name": "dark", "startTime": null},
                ],
            },
        ],
    });
    assert_eq!(told, wanted);
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_server_finds_its_names_and_no_zero_that_was_not_measured() {
    let rig = Rig::new().await;
    rig.remote.measures(Some(Ok(measured())));
    let answer = rig.get("/metrics/resource").await;
    assert_eq!(answer.status, 200);
    let kind = format!("content-type: {PROMETHEUS}");
    assert!(answer.head.contains(&kind), "{}", answer.head);
    let text = answer.text();
    assert_eq!(
        samples(&text),
        [
            r#"container_cpu_usage_seconds_total{container="app",namespace="shop",pod="clear"} 1.5 1000000"#,
            r#"container_memory_working_set_bytes{container="app",namespace="shop",pod="clear"} 1024 1001000"#,
            r#"container_memory_working_set_bytes{container="app",namespace="shop",pod="dim"} 50 1001000"#,
            r#"container_start_time_seconds{container="app",namespace="shop",pod="clear"} 901"#,
            "node_cpu_usage_seconds_total 9 1000000",
            "node_memory_working_set_bytes 4096 1001000",
            r#"pod_cpu_usage_seconds_total{namespace="shop",pod="clear"} 1.5 1000000"#,
            r#"pod_memory_working_set_bytes{namespace="shop",pod="clear"} 1024 1001000"#,
            "resource_scrape_error 0",
            "scrape_error 0",
        ]
    );
    for (name, kind) in [
        ("node_cpu_usage_seconds_total", "counter"),
        ("node_memory_working_set_bytes", "gauge"),
        ("container_cpu_usage_seconds_total", "counter"),
        ("container_memory_working_set_bytes", "gauge"),
        ("container_start_time_seconds", "gauge"),
        ("scrape_error", "gauge"),
    ] {
        let line = format!("# TYPE {name} {kind}");
        assert!(
            text.lines().any(|l| l == line),
            "{line} is missing in\n{text}"
        );
    }
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cadvisors_names_are_there_of_what_was_measured_alone() {
    let rig = Rig::new().await;
    rig.remote.measures(Some(Ok(measured())));
    let answer = rig.get("/metrics/cadvisor").await;
    let kind = format!("content-type: {PROMETHEUS}");
    assert!(
        answer.status == 200 && answer.head.contains(&kind),
        "{}",
        answer.head
    );
    assert_eq!(
        samples(&answer.text()),
        [
            r#"container_cpu_usage_seconds_total{container="app",namespace="shop",pod="clear"} 1.5 1000000"#,
            r#"container_memory_working_set_bytes{container="app",namespace="shop",pod="clear"} 1024 1001000"#,
            r#"container_memory_working_set_bytes{container="app",namespace="shop",pod="dim"} 50 1001000"#,
        ]
    );
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn measurements_that_fail_are_an_error_and_never_an_idle_node() {
    let rig = Rig::new().await;
    let away = BackendError::Unavailable {
        message: "the device is away".into(),
        retry: None,
    };
    rig.remote.measures(Some(Err(away)));
    for path in ["/stats/summary", "/metrics/cadvisor"] {
        let answer = rig.get(path).await;
        assert_eq!(answer.status, 500, "{path}");
        assert!(
            answer.text().contains("the device is away"),
            "{path}: {}",
            answer.text()
        );
    }
    // As the kubelet: what there is to tell is that it failed.
    let answer = rig.get("/metrics/resource").await;
    assert_eq!(answer.status, 200);
    let text = answer.text();
    assert_eq!(
        samples(&text),
        ["resource_scrape_error 1", "scrape_error 1"]
    );
    rig.remote.measures(Some(Ok(NodeStats::default())));
    let text = rig.get("/metrics/resource").await.text();
    assert_eq!(
        samples(&text),
        ["resource_scrape_error 0", "scrape_error 0"]
    );
    rig.end().await;
}
