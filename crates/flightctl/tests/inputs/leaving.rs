//! What becomes of a pod's files at its end: its containers have them as long as
//! they run, and nothing is left of them.

use std::time::Duration;

use serde_json::{Value, json};
use vk_provider::{Backend, BackendError, PodChange, PodRequest};
use vk_sandbox::flightctl::{Occurrence, Script};

use super::bench::{Bench, pod};
use super::objects::{PLANTED, foreign, inputs, watching};
use super::{app, content};

/// Between TERM and the end of a container.
const FAREWELL: Duration = Duration::from_secs(8);

/// An item that only has a name like ours.
fn alike() -> Value {
    json!({"name": "vk-theirs", "inline": [{"path": "/etc/theirs", "content": "hello", "mode": 420}]})
}

/// A pod that takes its time to end, beside items of others, is being ended: its
/// application is out of the spec and its container runs.
async fn ending() -> (Bench, PodRequest) {
    let bench = Bench::new().await;
    bench.device.script(Script::any().stops(FAREWELL, 0));
    let theirs = json!([foreign(), alike()]);
    bench
        .edit(json!([{"op": "add", "path": "/spec/config", "value": theirs}]))
        .await;
    let request = pod("web", watching(), inputs(), PodChange::First);
    bench.ensure(&request).await.unwrap();
    bench.runs(&request, "app", 1).await;
    stop(&bench, &request).await.unwrap();
    assert_eq!(bench.spec()["applications"], json!([]));
    bench
        .until(|b| {
            b.device
                .journal()
                .iter()
                .any(|e| e.event == Occurrence::Stop)
        })
        .await;
    (bench, request)
}

async fn stop(bench: &Bench, request: &PodRequest) -> Result<(), BackendError> {
    bench.backend.stop(&request.key, Duration::ZERO).await
}

fn has_ended(bench: &Bench) -> bool {
    let journal = bench.device.journal();
    journal
        .iter()
        .any(|e| matches!(e.event, Occurrence::Exit(_)))
}

fn is_clean(bench: &Bench) -> bool {
    bench.spec()["config"] == json!([foreign(), alike()])
}

#[tokio::test(start_paused = true)]
async fn a_container_has_its_files_until_it_has_ended_and_then_they_go() {
    let (bench, request) = ending().await;
    bench
        .until(|b| {
            let has = content(b, &request, "/map/plain").as_deref() == Some("of the map");
            assert!(has || has_ended(b), "it runs without its files");
            has_ended(b)
        })
        .await;
    bench
        .until_facts(&request, |facts| {
            assert!(
                !facts.ended || is_clean(&bench),
                "ended, and its files are there"
            );
            facts.ended
        })
        .await;
    assert_eq!(stop(&bench, &request).await, Err(BackendError::NotFound));
    bench.backend.release(&request.key).await.unwrap();
    bench.until(|b| b.device.files().len() == 2).await;
    assert!(is_clean(&bench));
}

#[tokio::test(start_paused = true)]
async fn a_successor_ends_what_its_predecessor_had_begun_to_end() {
    let (mut bench, request) = ending().await;
    bench.restart().await;
    // By then the container has ended, and only the files tell of it.
    assert!(has_ended(&bench) && !is_clean(&bench));
    assert_eq!(stop(&bench, &request).await, Ok(()));
    bench.until_facts(&request, |facts| facts.ended).await;
    assert!(is_clean(&bench));
    assert_eq!(stop(&bench, &request).await, Err(BackendError::NotFound));
}

#[tokio::test(start_paused = true)]
async fn files_of_a_pod_that_nobody_knows_any_more_go_and_those_of_others_stay() {
    let (mut bench, _) = ending().await;
    bench.restart().await;
    bench.pass(120).await;
    assert!(!is_clean(&bench), "they may be another cluster's");
    bench.pass(600).await;
    assert!(is_clean(&bench));
    assert!(!bench.spec().to_string().contains(PLANTED));
    bench.until(|b| b.device.files().len() == 2).await;
}

#[tokio::test(start_paused = true)]
async fn what_someone_puts_back_while_it_ends_keeps_its_files_and_ends_again() {
    let bench = Bench::new().await;
    bench.device.script(Script::any().stops(FAREWELL, 0));
    let request = pod("web", watching(), inputs(), PodChange::First);
    bench.ensure(&request).await.unwrap();
    bench.runs(&request, "app", 1).await;
    let applications = bench.spec()["applications"].clone();
    stop(&bench, &request).await.unwrap();
    bench
        .edit(json!([{"op": "add", "path": "/spec/applications", "value": applications}]))
        .await;
    bench.until_facts(&request, |facts| facts.ended).await;
    let spec = bench.spec();
    assert_eq!(
        (&spec["applications"], &spec["config"]),
        (&json!([]), &json!([]))
    );
    assert!(bench.device.container(&app(&request), "app").is_none());
}
