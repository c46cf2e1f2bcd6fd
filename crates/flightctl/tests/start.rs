//! The binary while Kubernetes cannot be reached: it says so, keeps trying, and
//! ends when it is told to.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use vk_sandbox::kubernetes::Cluster;
use vk_sandbox::transport;

fn provider(folder: &Path, url: &str, ca: &str) -> Child {
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
        .env("FLIGHTCTL_API_URL", "https://127.0.0.1:1")
        .env("FLIGHTCTL_AUTH_TOKEN", "t")
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Reads the log until a line contains `text`, then ends the process as an
/// operator does.
fn says_and_ends(mut provider: Child, text: &str) -> String {
    // Kept open to the end: a process whose log has no reader cannot end well.
    let mut lines = BufReader::new(provider.stderr.take().unwrap()).lines();
    let said = lines
        .by_ref()
        .map_while(Result::ok)
        .find(|line| line.contains(text));
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

#[tokio::test(flavor = "multi_thread")]
async fn an_unreachable_kubernetes_is_told_and_tried_again() {
    let ca = vk_sandbox::tls::loopback().unwrap().ca_pem;
    tokio::task::spawn_blocking(move || {
        let folder = tempfile::tempdir().unwrap();
        let child = provider(folder.path(), "https://127.0.0.1:1", &ca);
        says_and_ends(child, "Kubernetes does not answer, trying again");
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kubernetes_with_the_wrong_certificate_is_told() {
    let cluster = Cluster::new(vk_sandbox::clock::Clock::live());
    let tls = vk_sandbox::tls::loopback().unwrap();
    let other_ca = vk_sandbox::tls::loopback().unwrap().ca_pem;
    let listener = transport::loopback("127.0.0.1:0".parse().unwrap())
        .await
        .unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let stop = CancellationToken::new();
    let serving = tokio::spawn(cluster.endpoint().listen(
        listener,
        Some(tls.acceptor),
        stop.clone(),
    ));
    let said = tokio::task::spawn_blocking(move || {
        let folder = tempfile::tempdir().unwrap();
        let child = provider(folder.path(), &url, &other_ca);
        says_and_ends(child, "Kubernetes does not answer, trying again")
    })
    .await
    .unwrap();
    assert!(said.to_lowercase().contains("certificate"), "{said}");
    stop.cancel();
    serving.await.unwrap();
}
