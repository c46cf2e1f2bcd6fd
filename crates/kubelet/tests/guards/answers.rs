//! Odd answers of the Kubernetes API.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt;
use http::Response;
use tokio::time::Instant;
use vk_provider::{PodFacts, PodKey};
use vk_sandbox::faults::{Effect, Rule};

use crate::rig::{Rig, bare_404, first, seconds};
use crate::suite::world::{phase, uid};

#[tokio::test(start_paused = true)]
async fn a_proxy_that_knows_no_pods_for_a_moment_ends_no_workload() {
    let written = first("PATCH", "/pods/victim/status");
    let read = first("GET", "/pods/victim");
    let mut rig = Rig::met(Arc::new(move |parts| {
        let answer = (written(parts) || read(parts)).then(bare_404);
        async move { answer }.boxed()
    }))
    .await;
    let created = rig.world.create(&rig.world.pod("victim", "Always")).await;
    rig.world.running("victim").await;
    seconds(100).await;
    assert!(rig.backend.stops().is_empty(), "{:?}", rig.backend.stops());
    assert!(rig.world.remote.runs(&uid(&created)));
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_long_retry_after_is_cut_short() {
    let mut rig = Rig::running().await;
    let rule = Rule::always("/pods/patient/status", Effect::TooManyRequests(3600));
    rig.cluster.faults().add(rule.method("PATCH").times(1));
    rig.world.create(&rig.world.pod("patient", "Always")).await;
    let begun = Instant::now();
    let written = || async { phase(&rig.world.pods().get("patient").await.unwrap()) == "Running" };
    while !written().await {
        assert!(begun.elapsed() < Duration::from_secs(70));
        seconds(1).await;
    }
    assert!(
        begun.elapsed() > Duration::from_secs(50),
        "the answer struck"
    );
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_final_delete_without_effect_is_repeated_after_half_a_minute_not_before() {
    let deletes = Arc::new(Mutex::new(Vec::new()));
    let counted = deletes.clone();
    let mut rig = Rig::met(Arc::new(move |parts| {
        let mut answer = None;
        if parts.method == "DELETE" && parts.uri.path().ends_with("/pods/kept") {
            let mut deletes = counted.lock().unwrap();
            deletes.push(Instant::now());
            let said = br#"{"kind":"Status","apiVersion":"v1","status":"Success"}"#;
            answer = (deletes.len() == 1).then(|| Response::new(said.to_vec().into()));
        }
        async move { answer }.boxed()
    }))
    .await;
    let created = rig.world.create(&rig.world.pod("kept", "Always")).await;
    rig.world.running("kept").await;
    rig.world.delete("kept", Some(30)).await;
    rig.world.gone("kept", &uid(&created)).await;
    let deletes = deletes.lock().unwrap().clone();
    assert_eq!(deletes.len(), 2);
    let between = (deletes[1] - deletes[0]).as_secs();
    assert!((29..=31).contains(&between), "{between} s");
    rig.stop().await;
}

/// The watch's new list alone tells of the delete: listings of the remote,
/// which would tell too, are a minute apart by then.
#[tokio::test(start_paused = true)]
async fn a_pod_that_a_new_list_no_longer_has_is_stopped_at_once() {
    let mut rig = Rig::running().await;
    rig.world.create(&rig.world.pod("missed", "Always")).await;
    rig.world.running("missed").await;
    while rig.backend.listings() < 3 {
        seconds(1).await;
    }
    rig.cluster
        .faults()
        .add(Rule::always("nodeName", Effect::WatchGone).times(1));
    rig.world.delete("missed", Some(0)).await;
    rig.cluster.compact();
    seconds(20).await;
    assert!(rig.cluster.faults().rules().is_empty(), "the fault struck");
    assert_eq!(rig.backend.listings(), 3);
    assert_eq!(rig.backend.stops().len(), 1);
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_write_that_fails_is_counted_by_the_code_of_its_answer() {
    let failures = [
        (Effect::Status(403), 403),
        (Effect::Status(422), 422),
        (Effect::Status(500), 500),
        (Effect::Status(503), 503),
        (Effect::TooManyRequests(1), 429),
        (Effect::DropConnection, 0),
        // A deadline of ours that passes.
        (Effect::Latency(11_000), 0),
    ];
    for (effect, code) in failures {
        let mut rig = Rig::running().await;
        let rule = Rule::always("/pods/patient/status", effect.clone());
        rig.cluster.faults().add(rule.method("PATCH").times(1));
        rig.world.create(&rig.world.pod("patient", "Always")).await;
        rig.world.running("patient").await;
        let text = rig.metrics.text();
        let counted: Vec<_> = text
            .lines()
            .filter(|line| line.contains("api_errors_total{operation=\"publish\""))
            .collect();
        let line =
            format!("virtual_kubelet_api_errors_total{{operation=\"publish\",code=\"{code}\"}} 1");
        assert_eq!(counted, [line], "{effect:?}");
        rig.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_final_delete_that_fails_is_counted_and_repeated() {
    let refuses = first("DELETE", "/pods/kept");
    let mut rig = Rig::met(Arc::new(move |parts| {
        let answer = refuses(parts).then(|| {
            let mut answer = Response::new(Vec::new().into());
            *answer.status_mut() = http::StatusCode::SERVICE_UNAVAILABLE;
            answer
        });
        async move { answer }.boxed()
    }))
    .await;
    let created = rig.world.create(&rig.world.pod("kept", "Always")).await;
    rig.world.running("kept").await;
    rig.world.delete("kept", Some(30)).await;
    rig.world.gone("kept", &uid(&created)).await;
    let line = "virtual_kubelet_api_errors_total{operation=\"publish\",code=\"503\"} 1";
    assert!(rig.metrics.text().contains(line), "{}", rig.metrics.text());
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn journals_and_reads_that_fail_are_counted_by_what_they_were_for() {
    for (operation, method, end) in [
        ("journal", "PATCH", "/pods/patient"),
        ("read", "GET", "/pods/orphan"),
        ("node_labels", "GET", "/nodes/vk-default"),
    ] {
        let armed = Arc::new(AtomicBool::new(false));
        let strikes = armed.clone();
        let mut rig = Rig::met(Arc::new(move |parts| {
            let meant = parts.method == method && parts.uri.path().ends_with(end);
            let answer = (meant && strikes.swap(false, Ordering::SeqCst)).then(|| {
                let mut answer = Response::new(Vec::new().into());
                *answer.status_mut() = http::StatusCode::SERVICE_UNAVAILABLE;
                answer
            });
            async move { answer }.boxed()
        }))
        .await;
        seconds(5).await;
        armed.store(true, Ordering::SeqCst);
        // One pod that has a journal, one that asks for a label nobody knows,
        // and one that runs though Kubernetes has none.
        rig.backend.tell(|told| told.journal = Some(10));
        let mut pod = rig.world.pod("patient", "Always");
        if operation == "node_labels" {
            let selector = [("tier".to_owned(), "gold".to_owned())].into();
            pod.spec.as_mut().unwrap().node_selector = Some(selector);
        }
        rig.world.create(&pod).await;
        let nobody = "00000000-0000-0000-0000-00000000aaaa";
        let key = PodKey::new(&rig.world.namespace, "orphan", nobody);
        let facts = PodFacts::new(key, rig.world.node.as_str().into(), 1);
        rig.world.remote.plant(facts);
        let counted = || {
            let text = rig.metrics.text();
            let lines = text
                .lines()
                .filter(|line| line.contains("api_errors_total{") && !line.ends_with(" 0"));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        let begun = Instant::now();
        while counted().is_empty() && begun.elapsed() < Duration::from_secs(300) {
            seconds(1).await;
        }
        let line =
            format!("virtual_kubelet_api_errors_total{{operation=\"{operation}\",code=\"503\"}} 1");
        assert_eq!(counted(), [line]);
        rig.stop().await;
    }
}
