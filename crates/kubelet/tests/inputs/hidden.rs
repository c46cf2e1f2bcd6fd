//! What nobody may read anywhere.

use std::cell::{Cell, RefCell};
use std::io;
use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use serde_json::json;
use tokio::time::sleep;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::dynamic_filter_fn;
use tracing_subscriber::layer::SubscriberExt;

use super::*;

/// Text that is in a Secret, and the same in its base64.
const PLANTED: [&str; 2] = ["planted-s3cret", "cGxhbnRlZC1zM2NyZX"];

thread_local! {
    static RECORDS: Cell<bool> = const { Cell::new(false) };
    /// Everything that this thread logs; a test and all its tasks are on one.
    static LOG: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

struct Log;

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LOG.with_borrow_mut(|log| log.extend(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_planted_secret_is_in_no_log_event_or_status() {
    let layer = tracing_subscriber::fmt::layer()
        .with_ansi(false)
        .with_writer(|| Log)
        .with_filter(dynamic_filter_fn(|_, _| RECORDS.get()));
    // Of the whole process: what others log beside it would switch places off.
    tracing::subscriber::set_global_default(tracing_subscriber::registry().with(layer)).unwrap();
    RECORDS.set(true);
    let (mut world, cluster) = world_with(InputSettings {
        token_namespaces: ["default".to_owned()].into(),
        ..InputSettings::default()
    })
    .await;
    secret(&cluster, "keys", json!({"k": "planted-s3cret one"}));
    let key = |key: &str| json!({"name": "K", "valueFrom": {"secretKeyRef": {"name": "keys", "key": key}}});
    let app = |env: Value| {
        json!({"env": [env], "args": ["$(K)"],
            "volumeMounts": [{"name": "files", "mountPath": "/files"}]})
    };
    let sources = json!([
        {"secret": {"name": "keys"}},
        {"serviceAccountToken": {"path": "token", "expirationSeconds": 600}},
    ]);
    let spec = json!({"volumes": [{"name": "files", "projected": {"sources": sources}}]});
    let good = pod(&world, "good", app(key("k")), spec.clone());
    let good = world.create(&good).await;
    world
        .create(&pod(&world, "bad", app(key("none")), spec))
        .await;
    world.running("good").await;
    waiting_for(&world, "bad", "CreateContainerConfigError").await;
    change::<Secret>(
        &cluster,
        "keys",
        json!({"stringData": {"k": "planted-s3cret two"}}),
    );
    until_file(&world, &good, "/files/k", "planted-s3cret two").await;
    let first = file(&world, &good, "/files/token").unwrap();
    sleep(Duration::from_secs(600)).await;
    let second = file(&world, &good, "/files/token").unwrap();
    assert_ne!(first, second, "renewed");
    cluster.delete::<Secret>("default", "keys", None).unwrap();
    sleep(Duration::from_secs(600)).await;
    world.stop().await;

    RECORDS.set(false);
    let mut said = LOG.with_borrow(|log| String::from_utf8_lossy(log).into_owned());
    assert!(
        said.contains("what the pod refers to is missing"),
        "it is logged"
    );
    for plural in ["events", "pods", "nodes", "leases"] {
        for object in cluster.list_values(plural, None) {
            said.push_str(&object.to_string());
        }
    }
    said.push_str(&format!("{:?}", world.remote.calls()));
    for hidden in PLANTED.into_iter().chain([&*first, &*second]) {
        let at = said.find(hidden);
        let around = at.map(|at| &said[at.saturating_sub(200)..at]);
        assert!(around.is_none(), "after {around:?}");
    }
}
