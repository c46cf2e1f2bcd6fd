//! Containers: their output, environment, signals and ends.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use serde_json::json;
use vk_provider::{
    Backend, BackendError, Inputs, LogItem, LogSource, Logs, PodChange, PodRequest, Stats,
};

use super::rig::{Death, NODE, backend, context, end, escaped, in_time, pod, query, script, text};

const A_DAY: Duration = Duration::from_secs(86_400);

#[tokio::test]
async fn a_container_is_its_command_and_its_output_the_log() {
    let Some(backend) = backend().await else {
        return;
    };
    let fields = json!({"args": ["-c", "echo out $0; echo err >&2; exit 3", "arg"]});
    let pod = backend.starts(&pod(&["sh"], fields)).await;
    let end = backend.end_of(&pod).await;
    assert_eq!(end.exit_code, Some(3));
    assert!(end.started_at <= end.finished_at && end.started_at.is_some());
    let log = backend.open(&query(&pod, false, false)).await.unwrap();
    let items: Vec<_> = log.items.collect().await;
    let of = |wanted| -> String {
        let written = items.iter().filter_map(|item| match item {
            Ok(LogItem::Written(chunk)) if chunk.source == wanted => Some(&chunk.bytes[..]),
            _ => None,
        });
        written
            .map(|bytes| String::from_utf8_lossy(bytes))
            .collect()
    };
    assert_eq!(of(LogSource::Stdout), "out arg\n");
    assert_eq!(of(LogSource::Stderr), "err\n");
}

#[tokio::test]
async fn the_environment_is_of_values_fields_and_objects() {
    let Some(backend) = backend().await else {
        return;
    };
    let env = json!({"env": [
        {"name": "WHO", "value": "me"},
        {"name": "SAID", "value": "by $(WHO)"},
        {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "DEEP", "valueFrom": {"configMapKeyRef": {"name": "cm", "key": "k"}}},
    ]});
    let map = serde_json::from_value(json!({"data": {"k": "v"}})).unwrap();
    let without = pod(&["sh", "-c", "echo $SAID $POD $DEEP $HOSTNAME $(pwd)"], env);
    let given = PodRequest {
        inputs: Arc::new(Inputs {
            config_maps: [("cm".into(), Arc::new(map))].into(),
            ..Inputs::default()
        }),
        ..without.clone()
    };
    let missing = backend.ensure(&without, &context()).await;
    assert!(
        matches!(missing, Err(BackendError::Inputs(_))),
        "{missing:?}"
    );
    let pod = backend.starts(&given).await;
    let (name, uid) = (&pod.name, &pod.uid);
    let log = backend.whole_log(&pod).await;
    let place = log.strip_prefix(&format!("by me {name} v {name} "));
    assert!(
        place.is_some_and(|p| p.trim().ends_with(uid.as_str())),
        "{log}"
    );
}

#[tokio::test]
async fn a_signal_is_128_and_its_number() {
    let Some(backend) = backend().await else {
        return;
    };
    let pod = backend.starts(&script("kill -USR1 $$; sleep 1000")).await;
    assert_eq!(backend.end_of(&pod).await.exit_code, Some(128 + 10));
}

#[tokio::test]
async fn a_command_that_is_not_there_is_a_start_error() {
    let Some(backend) = backend().await else {
        return;
    };
    let pod = backend.starts(&pod(&["no-such-program"], json!({}))).await;
    let end = backend.end_of(&pod).await;
    assert_eq!((end.exit_code, &*end.reason), (Some(128), "StartError"));
    assert_eq!(backend.whole_log(&pod).await, "");
}

#[tokio::test]
async fn a_stop_is_term_and_kill_when_the_grace_is_over() {
    let Some(backend) = backend().await else {
        return;
    };
    let heeds = script("trap 'exit 7' TERM; echo $$; sleep 100000 & wait");
    let heeds = backend.starts(&heeds).await;
    backend.first_line(&heeds).await;
    backend.stop(&heeds, A_DAY).await.unwrap();
    assert_eq!(backend.end_of(&heeds).await.exit_code, Some(7));

    let ignores = script("trap 'echo asked' TERM; echo $$; while :; do sleep 100000 & wait; done");
    let ignores = backend.starts(&ignores).await;
    let death = Death::of(&backend.first_line(&ignores).await);
    backend.stop(&ignores, A_DAY).await.unwrap();
    backend.log_until(&ignores, "asked\n").await;
    backend.stop(&ignores, Duration::ZERO).await.unwrap();
    death.comes().await;
    assert_eq!(backend.end_of(&ignores).await.exit_code, Some(128 + 9));
    // It is not started again, whoever asks.
    backend.release(&ignores).await.unwrap();
    assert_eq!(
        backend.stop(&ignores, A_DAY).await,
        Err(BackendError::NotFound)
    );
}

#[tokio::test]
async fn everything_of_a_container_ends_with_its_first_process() {
    let Some(backend) = backend().await else {
        return;
    };
    let text = &*escaped("setsid sh -c 'echo $$; exec sleep 100000' & read line");
    let fields = json!({"stdin": true, "stdinOnce": true});
    let pod = backend.starts(&pod(&["sh", "-c", text], fields)).await;
    let death = Death::of(&backend.first_line(&pod).await);
    backend.close_input(&pod).await;
    backend.end_of(&pod).await;
    death.comes().await;
}

#[tokio::test]
async fn a_log_that_is_followed_ends_with_its_container() {
    let Some(backend) = backend().await else {
        return;
    };
    let fields = json!({"stdin": true, "stdinOnce": true});
    let pod = pod(&["sh", "-c", "echo first; read line; echo second"], fields);
    let pod = backend.starts(&pod).await;
    backend.first_line(&pod).await;
    let mut log = backend.open(&query(&pod, true, false)).await.unwrap();
    assert!(!log.tailed);
    let mut next = async || in_time(log.items.next()).await.map(Result::unwrap);
    assert_eq!(
        next().await.map(|item| text(&item)).as_deref(),
        Some("first\n")
    );
    assert_eq!(next().await, Some(LogItem::Present));
    backend.close_input(&pod).await;
    assert_eq!(
        next().await.map(|item| text(&item)).as_deref(),
        Some("second\n")
    );
    assert_eq!(next().await, None);
}

#[tokio::test]
async fn a_restarted_container_has_a_log_and_an_end_before() {
    let Some(backend) = backend().await else {
        return;
    };
    let first = script("echo $$; exit 1");
    let pod = backend.starts(&first).await;
    backend.end_of(&pod).await;
    let before = backend.whole_log(&pod).await;
    assert!(backend.open(&query(&pod, false, true)).await.is_err());
    let again = PodRequest {
        change: PodChange::Restart,
        ..first
    };
    backend.starts(&again).await;
    let facts = backend
        .until(&pod, |f| f.ended && f.containers[0].last.is_some())
        .await;
    assert_eq!(end(&facts).exit_code, Some(1));
    let previous = backend.open(&query(&pod, false, true)).await.unwrap();
    let items: Vec<_> = previous.items.collect().await;
    let previous: String = items.into_iter().map(|i| text(&i.unwrap())).collect();
    assert_eq!(previous, before);
    assert_ne!(backend.whole_log(&pod).await, before);
}

#[tokio::test]
async fn what_is_used_is_measured_and_rises() {
    let Some(backend) = backend().await else {
        return;
    };
    let busy =
        script("i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done; echo done; exec sleep 100000");
    let pod = backend.starts(&busy).await;
    backend.log_until(&pod, "done").await;
    let stats = Stats::stats(&backend, NODE).await.unwrap();
    let container = &stats.pods[0].containers[0];
    assert_eq!((&stats.pods[0].key, &*container.name), (&pod, "main"));
    assert!(container.usage.cpu.unwrap().total_nanos.unwrap() > 0);
    assert!(container.usage.memory.unwrap().rss.unwrap() > 0);
    assert_eq!(
        Stats::stats(&backend, "other").await,
        Err(BackendError::NotFound)
    );
}

#[tokio::test]
async fn everything_ends_with_the_program_however_it_ends() {
    let Some(backend) = backend().await else {
        return;
    };
    let lasting = script("echo $$; trap '' TERM HUP; setsid sleep 100000 & wait");
    let pod = backend.starts(&lasting).await;
    let death = Death::of(&backend.first_line(&pod).await);
    backend.end().await;
    death.comes().await;

    // All of a runtime's tasks are gone, and nobody said good-bye.
    let doomed = tokio::runtime::Runtime::new().unwrap();
    let started = doomed.spawn(async move {
        let backend = super::rig::backend().await.unwrap();
        let pod = backend.starts(&lasting).await;
        backend.first_line(&pod).await
    });
    let death = Death::of(&started.await.unwrap());
    doomed.shutdown_background();
    death.comes().await;
}
