//! `docs/metrics.md` is what a running provider shows; alerts, dashboard and
//! `docs/operations.md` are of the page.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::file;
use crate::stage::{Stage, pod};

/// Of clients and servers that the sandbox on the stepped clock goes without; the
/// framework's own tests see them (`tests/api`, `metrics::rest`).
const ELSEWHERE: [&str; 6] = [
    "rest_client_requests_total",
    "rest_client_request_duration_seconds",
    "virtual_kubelet_http_requests_total",
    "virtual_kubelet_http_inflight_requests",
    "virtual_kubelet_http_connections",
    "virtual_kubelet_http_connections_refused_total",
];

/// Type and labels.
type Described = (String, BTreeSet<String>);

/// The rows of the page, by name.
fn page() -> BTreeMap<String, Described> {
    let text = file("docs/metrics.md");
    let mut rows = BTreeMap::new();
    for line in text.lines().filter(|l| l.starts_with("| `")) {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, name, kind, labels, ..] = cells[..] else {
            panic!("no row of the page: {line}");
        };
        let labels = labels.split(',').map(str::trim).filter(|l| !l.is_empty());
        let described = (kind.to_owned(), labels.map(str::to_owned).collect());
        let twice = rows.insert(name.trim_matches('`').to_owned(), described);
        assert!(twice.is_none(), "twice on the page: {name}");
    }
    rows
}

/// What stands in OpenMetrics text, under the names that queries use.
fn shown(text: &str) -> BTreeMap<String, Described> {
    let mut all = BTreeMap::new();
    let mut family = (String::new(), String::new());
    for line in text.lines() {
        if let Some(declared) = line.strip_prefix("# TYPE ") {
            let (name, kind) = declared.split_once(' ').unwrap();
            family = (name.to_owned(), kind.to_owned());
        } else if !line.starts_with('#') {
            let (name, labels) = match line.split_once('{') {
                Some((name, rest)) => (name, rest.rsplit_once('}').unwrap().0),
                None => (line.split(' ').next().unwrap(), ""),
            };
            let labels = labels
                .split("\",")
                .filter_map(|l| Some(l.split_once('=')?.0));
            let labels = labels.filter(|label| *label != "le").map(str::to_owned);
            let name = if family.1 == "histogram" {
                &family.0
            } else {
                name
            };
            let described: &mut Described = all
                .entry(name.to_owned())
                .or_insert_with(|| (family.1.clone(), BTreeSet::new()));
            described.1.extend(labels);
        }
    }
    all
}

#[tokio::test(start_paused = true)]
async fn the_page_of_metrics_is_what_a_running_provider_shows() {
    let stage = Stage::new(2, 1, 1).await;
    stage.create(pod("web", "vk-flightctl-node", "nginx:alpine"));
    stage.ready("web").await;
    let mut missing = page();
    let names: Vec<&String> = missing.keys().collect();
    for name in ELSEWHERE {
        assert!(names.contains(&&name.to_owned()), "not on the page: {name}");
    }
    let shown = shown(&stage.metrics.text());
    for (name, described) in shown {
        let documented = missing.remove(&name);
        assert_eq!(documented, Some(described), "{name} in docs/metrics.md");
    }
    missing.retain(|name, _| !ELSEWHERE.contains(&name.as_str()));
    assert!(missing.is_empty(), "never shown: {missing:#?}");
}

/// Words that could be names of metrics.
fn names(expression: &str) -> BTreeSet<String> {
    let words = expression.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let ours = ["virtual_kubelet_", "rest_client_", "process_"];
    let metrics = words.filter(|word| ours.iter().any(|prefix| word.starts_with(prefix)));
    metrics.map(str::to_owned).collect()
}

fn assert_documented(used: &BTreeSet<String>, by: &str) {
    let page = page();
    for name in used {
        let histogram = ["_bucket", "_sum", "_count"]
            .iter()
            .find_map(|suffix| page.get(name.strip_suffix(suffix)?))
            .is_some_and(|(kind, _)| kind == "histogram");
        let plain = page.get(name).is_some_and(|(kind, _)| kind != "histogram");
        assert!(histogram || plain, "{by} uses {name}, which there is not");
    }
}

fn alerts() -> Vec<Value> {
    let rules: Value = serde_saphyr::from_str(&file("config/monitoring/rules.yaml")).unwrap();
    rules["groups"][0]["rules"].as_array().unwrap().clone()
}

#[test]
fn every_metric_of_the_alerts_and_the_dashboard_exists() {
    for alert in alerts() {
        let used = names(alert["expr"].as_str().unwrap());
        assert!(!used.is_empty(), "{alert}");
        assert_documented(&used, alert["alert"].as_str().unwrap());
    }
    let dashboard: Value = serde_json::from_str(&file("config/monitoring/dashboard.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let mut used = BTreeSet::new();
    let mut ids = BTreeSet::new();
    for panel in panels {
        assert!(ids.insert(panel["id"].as_u64()), "an id twice: {panel}");
        for target in panel["targets"].as_array().into_iter().flatten() {
            used.extend(names(target["expr"].as_str().unwrap()));
        }
    }
    assert_documented(&used, "the dashboard");
    // The user's three.
    for name in [
        "virtual_kubelet_pod_accepted_duration_seconds_bucket",
        "virtual_kubelet_flightctl_devices_capacity_cpu_cores",
        "virtual_kubelet_reconcile_duration_seconds_bucket",
    ] {
        assert!(used.contains(name), "{name}");
    }
}

#[test]
fn every_alert_has_its_paragraph_and_its_test() {
    let text = file("docs/operations.md");
    let paragraphs: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("### "))
        .collect();
    let alerts = alerts();
    let names: Vec<&str> = alerts
        .iter()
        .map(|a| a["alert"].as_str().unwrap())
        .collect();
    assert_eq!(
        paragraphs, names,
        "docs/operations.md and rules.yaml, in order"
    );
    let tests: Value = serde_saphyr::from_str(&file("tests/monitoring/rules_test.yaml")).unwrap();
    let tests = tests["tests"].as_array().unwrap();
    for name in names {
        let expected = tests.iter().any(|test| {
            let rules = test["alert_rule_test"].as_array().unwrap();
            let of = rules.iter().filter(|rule| rule["alertname"] == name);
            of.filter_map(|rule| rule["exp_alerts"].as_array())
                .any(|a| !a.is_empty())
        });
        assert!(expected, "no test expects {name}");
    }
}
