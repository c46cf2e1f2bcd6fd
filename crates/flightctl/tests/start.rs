//! The binary while Kubernetes or Flight Control cannot be reached, or refuse
//! it: it says so with the remedy, keeps trying where that may help, and ends
//! when it is told to.

#![allow(
    dead_code,
    unreachable_pub,
    missing_debug_implementations,
    clippy::unwrap_used,
    reason = "modules of one test"
)]

#[path = "../../../tests/real/harness/process.rs"]
mod process;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use process::Watchdog;
use tokio_util::sync::{CancellationToken, DropGuard};
use vk_sandbox::faults::{Effect, Rule};
use vk_sandbox::flightctl::{DeviceSpec, FlightControl, Options};
use vk_sandbox::kubernetes::Cluster;
use vk_sandbox::transport;

/// The provider at these two, with this authority of Kubernetes.
fn provider(folder: &Path, url: &str, ca: &str, flightctl: &str) -> Child {
    let ca_file = folder.join("ca.pem");
    std::fs::write(&ca_file, ca).unwrap();
    let kubeconfig = folder.join("kubeconfig");
    std::fs::write(
        &kubeconfig,
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: t\n\
             clusters: [{{name: t, cluster: {{server: '{url}', certificate-authority: '{}'}}}}]\n\
             contexts: [{{name: t, context: {{cluster: t, user: t}}}}]\n\
             users: [{{name: t, user: {{token: t}}}}]\n",
            ca_file.display()
        ),
    )
    .unwrap();
    let config = folder.join("config.yaml");
    let text = "apiVersion: vk-flightctl.io/v1alpha1\nkind: ProviderConfig\nlisten: 127.0.0.1:0\n";
    std::fs::write(&config, text).unwrap();
    Command::new(env!("CARGO_BIN_EXE_vk-flightctl-provider"))
        .arg("--config")
        .arg(config)
        .arg("--kubeconfig")
        .arg(kubeconfig)
        .env("FLIGHTCTL_API_URL", flightctl)
        .env("FLIGHTCTL_AUTH_TOKEN", "t")
        .env_remove("POD_IP")
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Reads the log until a line contains `text`, then ends the process as an
/// operator does.
fn says_and_ends(mut provider: Child, text: &str) -> String {
    let mut watchdog = Watchdog::over(provider.id());
    // Kept open to the end: a process whose log has no reader cannot end well.
    let mut lines = BufReader::new(provider.stderr.take().unwrap()).lines();
    let said = lines
        .by_ref()
        .map_while(Result::ok)
        .find(|line| line.contains(text));
    watchdog.call_off();
    let begun = Instant::now();
    let pid = provider.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-TERM", &pid])
            .status()
            .unwrap()
            .success()
    );
    assert!(provider.wait().unwrap().success());
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "SIGTERM took {:?}",
        begun.elapsed()
    );
    said.unwrap_or_else(|| panic!("never said: {text}"))
}

/// The last line of the log of a process that gives up by itself.
fn last_words(mut provider: Child) -> String {
    let _watchdog = Watchdog::over(provider.id());
    let lines = BufReader::new(provider.stderr.take().unwrap()).lines();
    let mut last = String::new();
    for line in lines.map_while(Result::ok) {
        last = line;
        if last.contains("trying again") {
            provider.kill().unwrap();
        }
    }
    assert!(!provider.wait().unwrap().success(), "{last}");
    last
}

/// Nobody listens there.
const NOWHERE: &str = "https://127.0.0.1:1";

/// An API of the sandbox on loopback.
struct Served {
    url: String,
    ca: String,
    _stop: DropGuard,
}

async fn serve(endpoint: transport::Endpoint) -> Served {
    let tls = vk_sandbox::tls::loopback().unwrap();
    let address = "127.0.0.1:0".parse().unwrap();
    let listener = transport::loopback(address).await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let stop = CancellationToken::new();
    tokio::spawn(endpoint.listen(listener, Some(tls.acceptor), stop.clone()));
    Served {
        url,
        ca: tls.ca_pem,
        _stop: stop.drop_guard(),
    }
}

/// Starts the provider and hands it to `judge`, which may block.
async fn with_provider<T: Send + 'static>(
    kubernetes: (&str, &str),
    flightctl: &str,
    judge: impl FnOnce(Child) -> T + Send + 'static,
) -> T {
    let (url, ca) = (kubernetes.0.to_owned(), kubernetes.1.to_owned());
    let flightctl = flightctl.to_owned();
    let judged = tokio::task::spawn_blocking(move || {
        let folder = tempfile::tempdir().unwrap();
        judge(provider(folder.path(), &url, &ca, &flightctl))
    });
    judged.await.unwrap()
}

fn cluster() -> Cluster {
    Cluster::new(vk_sandbox::clock::Clock::live())
}

const KUBERNETES_AWAY: &str = "Kubernetes does not answer, trying again";
const FLIGHT_CONTROL_AWAY: &str = "Flight Control could not be read";

#[tokio::test(flavor = "multi_thread")]
async fn an_unreachable_kubernetes_is_told_and_tried_again() {
    let ca = vk_sandbox::tls::loopback().unwrap().ca_pem;
    let said = with_provider((NOWHERE, &ca), NOWHERE, |p| {
        says_and_ends(p, KUBERNETES_AWAY)
    });
    let said = said.await;
    assert!(said.contains("--kubeconfig"), "the remedy: {said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kubernetes_with_the_wrong_certificate_is_told() {
    let served = serve(cluster().endpoint()).await;
    let other_ca = vk_sandbox::tls::loopback().unwrap().ca_pem;
    let said = with_provider((&served.url, &other_ca), NOWHERE, |p| {
        says_and_ends(p, KUBERNETES_AWAY)
    });
    let said = said.await;
    assert!(said.to_lowercase().contains("certificate"), "{said}");
    assert!(said.contains("--kubeconfig"), "the remedy: {said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kubernetes_that_refuses_at_the_start_ends_it_with_the_remedy() {
    for status in [401, 403] {
        let cluster = cluster();
        let rule = Rule::always("/namespaces/kube-system", Effect::Status(status));
        cluster.faults().add(rule);
        let served = serve(cluster.endpoint()).await;
        let kubernetes = (served.url.as_str(), served.ca.as_str());
        let said = with_provider(kubernetes, NOWHERE, last_words).await;
        assert!(said.contains("config/rbac.yaml"), "{status}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreachable_flight_control_is_told_and_tried_again() {
    let served = serve(cluster().endpoint()).await;
    let said = with_provider((&served.url, &served.ca), NOWHERE, |p| {
        says_and_ends(p, FLIGHT_CONTROL_AWAY)
    });
    let said = said.await;
    assert!(said.contains(NOWHERE), "{said}");
    assert!(said.contains("FLIGHTCTL_API_URL"), "the remedy: {said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flight_control_with_the_wrong_certificate_is_told_with_the_remedy() {
    let kubernetes = serve(cluster().endpoint()).await;
    let clock = vk_sandbox::clock::Clock::live();
    let flightctl = FlightControl::new(clock, Options::default());
    let flightctl = serve(flightctl.endpoint()).await;
    let kubernetes = (kubernetes.url.as_str(), kubernetes.ca.as_str());
    let said = with_provider(kubernetes, &flightctl.url, |p| {
        says_and_ends(p, FLIGHT_CONTROL_AWAY)
    });
    let said = said.await;
    assert!(said.contains(&flightctl.url), "{said}");
    assert!(said.to_lowercase().contains("certificate"), "{said}");
    assert!(said.contains("caFile"), "the remedy: {said}");
}

/// `explain POD` at these two: its exit code, and what it printed to either stream.
fn explained(kubernetes: &Served, flightctl: &Served, pod: &str) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("flightctl.pem");
    std::fs::write(&ca, &flightctl.ca).unwrap();
    // Its files are the ones that are needed.
    let mut serving = provider(folder.path(), &kubernetes.url, &kubernetes.ca, NOWHERE);
    serving.kill().unwrap();
    serving.wait().unwrap();
    let config = folder.path().join("config.yaml");
    let text = std::fs::read_to_string(&config).unwrap();
    let text = format!("{text}flightctl: {{caFile: '{}'}}\n", ca.display());
    std::fs::write(&config, text).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_vk-flightctl-provider"))
        .args(["explain", pod, "-n", "default", "--config"])
        .arg(config)
        .arg("--kubeconfig")
        .arg(folder.path().join("kubeconfig"))
        .env("FLIGHTCTL_API_URL", &flightctl.url)
        .env("FLIGHTCTL_AUTH_TOKEN", "t")
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(said).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn explain_ends_with_a_code_for_fits_for_fits_nowhere_and_for_cannot_tell() {
    let cluster = cluster();
    let options = Options {
        token: Some("t".into()),
        ..Options::default()
    };
    let flightctl = FlightControl::new(vk_sandbox::clock::Clock::live(), options);
    let _device = flightctl.add_device(DeviceSpec::new("device-1"));
    for (name, cpu) in [("small", "1"), ("large", "100")] {
        let pod = serde_json::json!({
            "metadata": {"name": name, "namespace": "default"},
            "spec": {"nodeName": "vk-flightctl-node", "containers": [{
                "name": "app", "image": "app:1", "resources": {"requests": {"cpu": cpu}},
            }]},
        });
        let pod: k8s_openapi::api::core::v1::Pod = serde_json::from_value(pod).unwrap();
        cluster.create(&pod).unwrap();
    }
    let kubernetes = serve(cluster.endpoint()).await;
    let served = serve(flightctl.endpoint()).await;
    let all = tokio::task::spawn_blocking(move || {
        let said = |pod| explained(&kubernetes, &served, pod);
        // Flight Control saves the first sign of life of a device after a while.
        let patience = Instant::now() + Duration::from_secs(60);
        let mut small = said("small");
        while small.0 != Some(0) && Instant::now() < patience {
            small = said("small");
        }
        [small, said("large"), said("nobody")]
    });
    let [small, large, nobody] = all.await.unwrap();
    assert_eq!(small.0, Some(0), "{}", small.1);
    assert!(small.1.contains("It would go to device-1."), "{}", small.1);
    assert_eq!(large.0, Some(2), "{}", large.1);
    assert!(
        large.1.contains("too small: cpu 3750m of 100"),
        "{}",
        large.1
    );
    assert_eq!(nobody.0, Some(1), "{}", nobody.1);
    assert!(nobody.1.contains("there is no pod nobody"), "{}", nobody.1);
}
