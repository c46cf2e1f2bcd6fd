//! Thousands of pods that refer to one ConfigMap and one Secret: how many watches
//! that takes, how much memory, and how soon a change has reached them all.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::json;

use crate::Bench;
use crate::generator::{self, Generator, NAMESPACE};
use crate::report::Report;
use crate::requests::Requests;
use crate::subject::{Kind, Subject};

/// What all pods refer to.
const NAME: &str = "shared";
/// A change that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(120);

pub async fn measure(bench: &Bench<'_>, generator: &mut Generator, report: &mut Report) {
    eprintln!("inputs: {} pods, one ConfigMap, one Secret", bench.size);
    let maps: Api<ConfigMap> = Api::namespaced(bench.client.clone(), NAMESPACE);
    let secrets: Api<Secret> = Api::namespaced(bench.client.clone(), NAMESPACE);
    let map = json!({"metadata": {"name": NAME}, "data": {"LEVEL": "info", "file": "1"}});
    let secret = json!({"metadata": {"name": NAME}, "stringData": {"password": "p"}});
    let post = PostParams::default();
    let map = serde_json::from_value(map).unwrap();
    maps.create(&post, &map).await.unwrap();
    let secret = serde_json::from_value(secret).unwrap();
    secrets.create(&post, &secret).await.unwrap();

    let mut ceiling = bench.start(Kind::Ceiling, 1, generator).await;
    started(bench, "the ceiling", &mut ceiling, generator, report).await;
    generator.delete().await;
    ceiling.stop();

    // The API server watches some for itself.
    let (maps_before, secrets_before) = open(bench).await;
    let mut subject = bench.start(Kind::MockInputs, 1, generator).await;
    started(bench, "the mock", &mut subject, generator, report).await;
    let (maps_open, secrets_open) = open(bench).await;
    let (maps_open, secrets_open) = (maps_open - maps_before, secrets_open - secrets_before);
    assert!(
        (maps_open, secrets_open) == (1.0, 1.0),
        "{maps_open} watches of ConfigMaps, {secrets_open} of Secrets"
    );
    report.line(
        "watches of ConfigMaps, of Secrets",
        &format!("{maps_open:.0}, {secrets_open:.0}"),
    );

    let (before, cpu) = (subject.ensures().await, subject.cpu());
    let begun = Instant::now();
    let change = Patch::Merge(json!({"data": {"file": "2"}}));
    maps.patch(NAME, &PatchParams::default(), &change)
        .await
        .unwrap();
    while subject.ensures().await < before + bench.size as u64 {
        assert!(
            begun.elapsed() < PATIENCE,
            "never refreshed: {}",
            subject.log()
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let took = begun.elapsed().as_secs_f64();
    subject.quiet().await;
    let used = (subject.cpu() - cpu).as_secs_f64();
    report.line(
        "a change of the ConfigMap has reached every pod's backend",
        &format!("after {took:.2} s, with {used:.2} CPU-s"),
    );
    generator.delete().await;
    subject.quiet().await;
    let (maps_left, secrets_left) = open(bench).await;
    report.line(
        "watches of both when the pods are gone",
        &format!(
            "{:.0}",
            maps_left - maps_before + secrets_left - secrets_before
        ),
    );
    subject.stop();
}

/// All pods are created and become Running.
async fn started(
    bench: &Bench<'_>,
    name: &str,
    subject: &mut Subject,
    generator: &mut Generator,
    report: &mut Report,
) {
    let cpu = subject.cpu();
    let created = generator.create_with(bench.size, &subject.nodes, pod).await;
    subject.quiet().await;
    let used = (subject.cpu() - cpu).as_secs_f64() * 1000.0 / bench.size as f64;
    let (rss, peak) = subject.memory();
    let seconds = |part| created.quantile(part).as_secs_f64();
    report.line(
        &format!("{} pods on one ConfigMap and one Secret: {name}", bench.size),
        &format!(
            "{:.0} pods/s, p50 {:.2} s, p99 {:.2} s (told of by the API server after {:.2} s, {:.2} s), {used:.2} CPU-s per 1,000, RSS {rss:.1} MB (peak {peak:.1})",
            created.rate(),
            seconds(0.5),
            seconds(0.99),
            created.told(0.5).as_secs_f64(),
            created.told(0.99).as_secs_f64(),
        ),
    );
}

/// Watches of ConfigMaps and of Secrets that are open now.
async fn open(bench: &Bench<'_>) -> (f64, f64) {
    (
        Requests::watches(&bench.client, "configmaps").await,
        Requests::watches(&bench.client, "secrets").await,
    )
}

/// A pod that takes variables and files from both.
fn pod(number: usize, node: &str) -> Pod {
    let mut pod = serde_json::to_value(generator::pod(number, node)).unwrap();
    let spec = &mut pod["spec"];
    spec["volumes"] = json!([
        {"name": "map", "configMap": {"name": NAME}},
        {"name": "secret", "secret": {"secretName": NAME}},
    ]);
    let container = &mut spec["containers"][0];
    container["envFrom"] = json!([{"configMapRef": {"name": NAME}}]);
    container["volumeMounts"] = json!([
        {"name": "map", "mountPath": "/etc/map"},
        {"name": "secret", "mountPath": "/etc/secret"},
    ]);
    serde_json::from_value(pod).unwrap()
}
