//! A restart with thousands of pods that run: nothing is written, nothing is
//! deleted, and the new process is ready at once.

use std::time::Duration;

use http::Method;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use serde_json::json;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use virtual_kubelet::events::Recorder;
use virtual_kubelet::metrics::Metrics;
use virtual_kubelet::node::NodeSettings;
use virtual_kubelet::table::Table;
use virtual_kubelet::{Host, InputSettings, Settings};
use vk_sandbox::kubernetes::Cluster;

use crate::broken::Guard;
use crate::court::{Court, phase};
use crate::dice::Dice;
use crate::life::Life;
use crate::memory::{Call, Remote};
use crate::seeds::alone;
use crate::weather::Weather;
use crate::wire::Wire;
use crate::world::{Log, NAMESPACE, NODE};

const PODS: usize = 5000;
/// Pods of one page of a list.
const PAGE: usize = 500;
/// A takeover has to be quicker than anyone notices.
const READY: Duration = Duration::from_secs(10);
/// Long enough for the listings that confirm and heal.
const WATCHED: Duration = Duration::from_secs(180);

struct Process {
    life: Life,
    stop: CancellationToken,
    task: JoinHandle<()>,
    table: Table,
}

fn start(cluster: &Cluster, remote: &Remote, clock: &vk_provider::Clock, log: &Log) -> Process {
    let life = Life::default();
    let client = Client::new(
        Wire {
            cluster: cluster.clone(),
            court: Court::blind(cluster.clone()),
            life: life.clone(),
            weather: Weather::default(),
            dice: Dice::new(1),
            clock: clock.clone(),
            guard: Guard::Sound,
            log: log.clone(),
        },
        NAMESPACE,
    );
    let metrics = Metrics::default();
    let mut node = NodeSettings::new("memory", "vk-memory");
    // As a container that is restarted in its pod: the lease is still its own.
    node.identity = "same-pod".into();
    let settings = Settings {
        client: client.clone(),
        lease_client: client.clone(),
        node,
        inputs: InputSettings::default(),
        api: None,
        events: Recorder::start(client, "vk-memory", &metrics, clock.clone()),
        metrics,
        clock: clock.clone(),
    };
    let host = Host::new(settings, remote.backend());
    let (stop, table) = (CancellationToken::new(), host.table());
    let task = tokio::spawn(host.run(stop.clone()));
    Process {
        life,
        stop,
        task,
        table,
    }
}

fn pod(n: usize) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": format!("p{n}"), "namespace": NAMESPACE},
        "spec": {
            "nodeName": NODE,
            "automountServiceAccountToken": false,
            "containers": [{"name": "app", "image": "app:1"}],
        },
    }))
    .unwrap()
}

#[test]
fn a_restart_with_5000_running_pods_writes_and_deletes_nothing_and_is_ready_within_10_s() {
    alone(async {
        let began: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let cluster = Cluster::new(vk_sandbox::clock::Clock::stepped(began));
        let clock = vk_provider::Clock::stepped(began);
        let remote = Remote::new(clock.clone(), &[NODE]);
        let log = Log::default();
        let first = start(&cluster, &remote, &clock, &log);
        for n in 0..PODS {
            cluster.create(&pod(n)).unwrap();
        }
        let running = |cluster: &Cluster| {
            let pods = cluster.list_values("pods", Some(NAMESPACE));
            pods.iter().filter(|pod| phase(pod) == "Running").count()
        };
        let begun = Instant::now();
        while running(&cluster) < PODS {
            assert!(
                begun.elapsed() < Duration::from_secs(600),
                "{} run",
                running(&cluster)
            );
            sleep(Duration::from_secs(5)).await;
        }
        // Killed, not ended: nothing is tidied up.
        first.life.kill();
        first.stop.cancel();
        let calls = remote.calls().len();
        log.lock().unwrap().clear();

        let begun = Instant::now();
        let second = start(&cluster, &remote, &clock, &log);
        let known = |call: &&Call| matches!(call, Call::Ensure(_));
        let taken = || remote.calls()[calls..].iter().filter(known).count();
        while taken() < PODS {
            assert!(begun.elapsed() < READY, "{} of {PODS} taken over", taken());
            sleep(Duration::from_millis(100)).await;
        }
        sleep(WATCHED).await;
        assert_eq!(second.table.len(), PODS);
        let requests = std::mem::take(&mut *log.lock().unwrap());
        let wrote: Vec<_> = requests
            .iter()
            .filter(|(method, path)| *method != Method::GET && path.contains("/pods"))
            .collect();
        assert!(
            wrote.is_empty(),
            "{} writes to pods: {:?}",
            wrote.len(),
            wrote.first()
        );
        let others = remote.calls()[calls..]
            .iter()
            .filter(|call| !known(call))
            .count();
        assert_eq!(others, 0, "nothing is stopped or released");
        let lists = requests
            .iter()
            .filter(|(_, path)| path.ends_with("/pods"))
            .count();
        println!(
            "{} requests, {lists} of them lists or watches of pods",
            requests.len()
        );
        assert!(
            lists <= PODS / PAGE + 2,
            "{lists} lists and watches of pods"
        );
        second.stop.cancel();
        timeout(Duration::from_secs(5), second.task)
            .await
            .unwrap()
            .unwrap();
    });
}
