//! The API server, as pods on devices are told of it: the whole provider, from its
//! file to a device.

use std::collections::BTreeMap;

use clap::Parser;
use k8s_openapi::api::core::v1::ServiceAccount;
use serde_json::{Value, json};
use vk_flightctl::config::cli::Cli;
use vk_flightctl::config::{Config, Environment, Workloads};
use vk_flightctl::mapping::app_name;
use vk_provider::Uid;
use vk_sandbox::flightctl::Container;

use super::stage::{self, Stage};

/// Where the API server puts the volume with the token.
const ACCESS: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// What the kubelet makes of the service `kubernetes`, at the configured address.
const TOLD: [(&str, &str); 8] = [
    ("KUBERNETES_PORT", "tcp://api.example.com:6443"),
    ("KUBERNETES_PORT_6443_TCP", "tcp://api.example.com:6443"),
    ("KUBERNETES_PORT_6443_TCP_ADDR", "api.example.com"),
    ("KUBERNETES_PORT_6443_TCP_PORT", "6443"),
    ("KUBERNETES_PORT_6443_TCP_PROTO", "tcp"),
    ("KUBERNETES_SERVICE_HOST", "api.example.com"),
    ("KUBERNETES_SERVICE_PORT", "6443"),
    ("KUBERNETES_SERVICE_PORT_HTTPS", "6443"),
];

/// As the provider's file says it, with this certificate.
fn configured(pem: &str) -> Workloads {
    let folder = tempfile::tempdir().unwrap();
    let (ca, file) = (folder.path().join("ca.crt"), folder.path().join("config"));
    std::fs::write(&ca, pem).unwrap();
    let text = format!(
        "apiVersion: vk-flightctl.io/v1alpha1\nkind: ProviderConfig\nworkloads:\n  \
         apiServer: https://api.example.com:6443\n  apiServerCA: {}\n  \
         serviceAccountTokens: [default]\n",
        ca.display()
    );
    std::fs::write(&file, text).unwrap();
    let cli = Cli::parse_from(["vk-flightctl-provider", "--config", file.to_str().unwrap()]);
    let environment = Environment {
        api_url: Some("https://flightctl.test".into()),
        auth_token: Some("token".into()),
        ..Environment::default()
    };
    Config::load(&cli, &environment).unwrap().workloads
}

/// A pod on the device, and the text of its unit.
async fn placed(stage: &Stage, name: &str, spec: Value) -> (Container, String) {
    let mut pod = stage::pod(name, "vk-flightctl-edge-fleet-1", "nginx:alpine");
    let all = pod["spec"].as_object_mut().unwrap();
    all.extend(spec.as_object().unwrap().clone());
    let app = app_name(&Uid::new(&stage.create(pod)));
    stage.ready(name).await;
    let container = stage.devices[0].container(&app, "app").unwrap();
    let applications = stage.spec_applications("device-1");
    let mut applications = applications.as_array().unwrap().iter();
    let application = applications.find(|a| a["name"] == *app).unwrap();
    let mut files = application["inline"].as_array().unwrap().iter();
    let unit = files.find(|f| f["path"] == "app.container").unwrap();
    (container, unit["content"].as_str().unwrap().to_owned())
}

#[tokio::test(start_paused = true)]
async fn the_configured_api_server_reaches_units_and_its_certificates_the_volume_with_the_token() {
    let made = rcgen::generate_simple_self_signed(["api.example.com".to_owned()]).unwrap();
    let pem = made.cert.pem();
    let mut stage = Stage::new(1, 1, 0).await;
    stage.stop_provider().await;
    stage.workloads = configured(&pem);
    stage.start_provider().await;
    let quiet = json!({"metadata": {"name": "quiet", "namespace": "default"},
        "automountServiceAccountToken": false});
    let quiet: ServiceAccount = serde_json::from_value(quiet).unwrap();
    stage.cluster.create(&quiet).unwrap();

    let (client, unit) = placed(&stage, "client", json!({})).await;
    let told: BTreeMap<_, _> = TOLD.map(|(n, v)| (n.to_owned(), v.to_owned())).into();
    assert_eq!(client.environment, told);
    for (name, value) in TOLD {
        let line = format!("{name}={value}");
        assert!(unit.contains(&line), "{line} in\n{unit}");
    }
    let file = |name: &str| {
        let file = &client.files[&format!("{ACCESS}/{name}")];
        String::from_utf8_lossy(&file.content).into_owned()
    };
    assert_eq!(client.files.len(), 3, "{:?}", client.files.keys());
    assert_eq!(file("ca.crt"), pem);
    assert_eq!(file("namespace"), "default");
    assert_eq!(file("token").matches('.').count(), 2, "a JWT");

    for (name, spec) in [
        ("closed", json!({"automountServiceAccountToken": false})),
        ("of-quiet", json!({"serviceAccountName": "quiet"})),
    ] {
        let (closed, _) = placed(&stage, name, spec).await;
        assert!(closed.files.is_empty(), "{name}: {:?}", closed.files.keys());
        assert_eq!(closed.environment, told, "{name}");
    }
    stage.stop_provider().await;
}
