//! Many devices behind the request limit that Flight Control is shipped with.
//!
//! Small, so that they take seconds; `ONLY=estate make bench` is the full size:
//! `ESTATE_DEVICES`, `ESTATE_PODS` and `ESTATE_HOURS` say it.

use std::time::Duration;

use tokio::time::Instant;
use vk_sandbox::faults::{Effect, Rule};

use crate::pass;
use crate::stage::{Stage, pod};

/// What the service allows in a minute where nothing is configured.
const LIMIT: u32 = 300;
const FLEETS: usize = 10;
/// Milliseconds that the service takes for an answer.
const LATENCY: u64 = 30;
/// Writers of devices at work together.
const WRITERS: usize = 8;

fn size(what: &str, small: usize) -> usize {
    let name = format!("ESTATE_{what}");
    let given = std::env::var(name).ok();
    given.map_or(small, |n| n.parse().expect("a number"))
}

/// Devices of an estate, each of which reports when something changed, and else is
/// silent; the service takes so many milliseconds for a write.
async fn estate(devices: usize, latency: u64) -> Stage {
    let mut stage = Stage::limited(Some(LIMIT));
    stage.devices = stage.flightctl.spawn_devices(devices, FLEETS, 0);
    for (method, latency) in [("PATCH", latency), ("GET", LATENCY)] {
        let slow = Rule::always("/api/v1/", Effect::Latency(latency)).method(method);
        stage.flightctl.faults().add(slow);
    }
    stage.start_provider().await;
    let last = fleet(FLEETS - 1);
    stage
        .until("a node for each fleet", |c| c.get_value("nodes", "", &last))
        .await;
    // What a start asks for does not count.
    pass(60).await;
    *stage.traffic.lock().unwrap() = Default::default();
    stage
}

fn fleet(at: usize) -> String {
    format!("vk-flightctl-edge-fleet-{}", at % FLEETS + 1)
}

fn create(stage: &Stage, at: usize) -> (String, Instant) {
    let made = pod(&format!("p{at}"), &fleet(at), "nginx:alpine");
    (stage.create(made), Instant::now())
}

fn is_running(stage: &Stage) -> usize {
    let pods = stage.cluster.list_values("pods", None);
    let running = pods.iter().filter(|p| p["status"]["phase"] == "Running");
    running.count()
}

/// Until as many pods run; gives how long that took.
async fn running(stage: &Stage, pods: usize) -> Duration {
    let begun = Instant::now();
    let mut last = (0, begun);
    while last.0 < pods {
        // Looking at all of them takes long.
        pass(5).await;
        let now = is_running(stage);
        if now > last.0 {
            last = (now, Instant::now());
        }
        assert!(
            last.1.elapsed().as_secs() < 1800,
            "{} of {pods} run",
            last.0
        );
    }
    begun.elapsed()
}

/// How long each pod took from its creation until it was in a device's spec, sorted.
fn waits(stage: &Stage, created: &[(String, Instant)]) -> Vec<Duration> {
    let traffic = stage.traffic.lock().unwrap();
    let mut waits: Vec<Duration> = created
        .iter()
        .map(|(uid, at)| traffic.accepted[uid].duration_since(*at))
        .collect();
    waits.sort();
    waits
}

fn percentile(sorted: &[Duration], of_100: usize) -> Duration {
    sorted[(sorted.len() * of_100 / 100).min(sorted.len() - 1)]
}

#[tokio::test(start_paused = true)]
async fn pods_that_come_one_by_one_are_soon_accepted() {
    let devices = size("DEVICES", 50);
    let stage = estate(devices, LATENCY).await;
    let mut created = Vec::new();
    for at in 0..size("PODS", 500) / 10 {
        created.push(create(&stage, at));
        pass(2).await;
    }
    running(&stage, created.len()).await;
    let waits = waits(&stage, &created);
    let (half, most) = (percentile(&waits, 50), percentile(&waits, 99));
    let traffic = stage.traffic.lock().unwrap();
    eprintln!(
        "steady: {devices} devices, {} pods, one every 2 s: created to accepted p50 {half:?}, p99 {most:?}; \
         most in a minute {}, refused {}, {:?}",
        created.len(),
        traffic.most_in_a_minute(),
        traffic.refused,
        traffic.kinds(),
    );
    assert!(half < Duration::from_millis(300), "p50 {half:?}");
    assert!(most < Duration::from_secs(2), "p99 {most:?}");
    assert_eq!(traffic.refused, 0);
}

#[tokio::test(start_paused = true)]
async fn a_burst_of_pods_goes_at_the_rate_that_the_limit_allows() {
    let (devices, pods) = (size("DEVICES", 50), size("PODS", 500));
    // Slow enough that writes would pile up.
    let stage = estate(devices, 1500).await;
    let created: Vec<_> = (0..pods).map(|at| create(&stage, at)).collect();
    let took = running(&stage, pods).await;
    let waits = waits(&stage, &created);
    let accepted = percentile(&waits, 100);
    let traffic = stage.traffic.lock().unwrap();
    eprintln!(
        "burst: {devices} devices, {pods} pods: all accepted after {accepted:?}, all running after {took:?}; \
         most in a minute {}, refused {}, devices written at once {}, {:?}",
        traffic.most_in_a_minute(),
        traffic.refused,
        traffic.written_at_once,
        traffic.kinds(),
    );
    assert_eq!(traffic.refused, 0);
    assert!(traffic.written_at_once <= WRITERS);
    assert!(traffic.most_in_a_minute() <= LIMIT as usize);
    // Pods of one device that wait together are one write.
    let writes = traffic.kinds()["write"];
    assert!(writes <= pods.min(devices * 4), "{writes} writes");
}

#[tokio::test(start_paused = true)]
async fn silent_devices_with_pods_stay_within_the_budget_and_none_is_called_away() {
    let devices = size("DEVICES", 50);
    let stage = estate(devices, LATENCY).await;
    for at in 0..devices {
        create(&stage, at);
    }
    running(&stage, devices).await;
    pass(600).await;
    *stage.traffic.lock().unwrap() = Default::default();
    let minutes = size("HOURS", 1) * 60;
    pass(minutes as u64 * 60).await;
    {
        let traffic = stage.traffic.lock().unwrap();
        let asked = traffic.asked.len();
        eprintln!(
            "idle: {devices} silent devices with a pod each, {} h: {:.1} requests a minute, most in a minute {}, \
             refused {}, {:?}",
            minutes / 60,
            asked as f64 / minutes as f64,
            traffic.most_in_a_minute(),
            traffic.refused,
            traffic.kinds(),
        );
        assert_eq!(traffic.refused, 0);
        assert!(traffic.most_in_a_minute() <= 240, "the budget");
        assert_eq!(traffic.kinds().get("write"), None);
    }
    assert_eq!(is_running(&stage), devices);
    let told = stage.cluster.list_values("events", None);
    let away = |e: &&serde_json::Value| {
        ["DeviceAway", "DeviceDisconnected"].contains(&e["reason"].as_str().unwrap_or_default())
    };
    assert_eq!(told.iter().find(away), None);
}
