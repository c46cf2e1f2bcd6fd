//! The ways to a token on the real service: what it takes, and that it goes on
//! taking it after a renewal. And `doctor` where everything is as it should be.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use http::Method;
use secrecy::ExposeSecret as _;
use serde_json::json;
use vk_flightctl::client::{Client, ClientCredentials, ClientError, Tls, TokenSource, Transport};

use crate::flightctl_service::FlightControlService;
use crate::oidc;
use crate::service::{self, Service};
use crate::world::World;

/// Longer than the life of a token and a renewal.
const RENEWED: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn a_client_and_a_login_are_renewed_on_the_real_flight_control_service() {
    let Some(bin) = service::binaries() else {
        return;
    };
    let flightctl = Service::without_devices(&bin).await;
    let service = flightctl.service().unwrap();
    let folder = tempfile::tempdir().unwrap();
    a_viewer_may_not_write(service).await;
    a_client(service, folder.path()).await;
    a_login(service, folder.path()).await;
}

/// Asks the service with each of the source's next two tokens.
async fn goes_on(service: &FlightControlService, source: &TokenSource) {
    let base = service.url().parse().unwrap();
    let client = Client::https(&base, &trust(service), source.clone()).unwrap();
    for _ in 0..2 {
        let before = source.current().await.unwrap();
        client.list_devices(None).await.unwrap();
        client.may_write_devices().await.unwrap();
        let begun = Instant::now();
        while source.current().await.unwrap().expose_secret() == before.expose_secret() {
            assert!(begun.elapsed() < RENEWED, "never renewed");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    client.list_devices(None).await.unwrap();
}

/// The question that `doctor` asks tells them apart.
async fn a_viewer_may_not_write(service: &FlightControlService) {
    let token = service.issuer().token(oidc::AUDIENCE, "flightctl-viewer");
    let base = service.url().parse().unwrap();
    let viewer = TokenSource::fixed(&token);
    let client = Client::https(&base, &trust(service), viewer).unwrap();
    client.list_devices(None).await.unwrap();
    let refused = client.may_write_devices().await.unwrap_err();
    assert!(
        matches!(refused, ClientError::Forbidden { .. }),
        "{refused}"
    );
    assert!(!client.may("get", "devices/console").await.unwrap());
    client.speaks_our_version().await.unwrap();
}

fn trust(service: &FlightControlService) -> Tls {
    Tls::Authorities(service.ca_pem().into())
}

async fn a_client(service: &FlightControlService, folder: &Path) {
    let secret_file = folder.join("secret");
    std::fs::write(&secret_file, oidc::CLIENT.1).unwrap();
    let client = ClientCredentials {
        issuer: service.issuer().url().to_owned(),
        client_id: oidc::CLIENT.0.to_owned(),
        secret_file,
        scopes: Vec::new(),
        audience: None,
    };
    let http = Transport::https(&trust(service)).unwrap();
    goes_on(service, &TokenSource::client_credentials(client, http)).await;
}

/// A `client.yaml` as the CLI writes it, of the provider that the service names.
async fn a_login(service: &FlightControlService, folder: &Path) {
    let user = service.user();
    let (_, config) = user
        .call(Method::GET, "/api/v1/auth/config", None)
        .await
        .unwrap();
    let provider = config["providers"][0].clone();
    assert!(provider["metadata"]["name"].is_string(), "{config}");
    let expiry = jiff::Timestamp::now() + jiff::SignedDuration::try_from(oidc::GRANTED).unwrap();
    let token = service.issuer().short_token(oidc::AUDIENCE, oidc::OPERATOR);
    let yaml = json!({
        "service": {"server": service.url()},
        "authentication": {
            "access-token": token,
            "access-token-expiry": expiry.to_string(),
            "refresh-token": oidc::FIRST_REFRESH,
            "token-to-use": "access",
            "auth-provider": {"auth-provider": provider},
        },
    });
    let path = folder.join("client.yaml");
    std::fs::write(&path, yaml.to_string()).unwrap();
    let http = Transport::https(&trust(service)).unwrap();
    let base = service.url().parse().unwrap();
    goes_on(
        service,
        &TokenSource::client_config(path.clone(), http, &base),
    )
    .await;
    assert!(
        service.issuer().refreshed() >= 2,
        "each refresh token is good once"
    );
    assert_eq!(std::fs::read_to_string(&path).unwrap(), yaml.to_string());
}

impl World {
    /// With the provider's own configuration, and the rights of `config/rbac.yaml`.
    pub fn the_doctor_finds_nothing_wrong(&self) {
        let folder = self.plane.folder();
        let kubeconfig = self
            .plane
            .service_account_kubeconfig("default", "vk-flightctl-provider");
        let mut doctor = Command::new(env!("CARGO_BIN_EXE_vk-flightctl-provider"));
        doctor
            .arg("doctor")
            .arg("--config")
            .arg(folder.join("provider.yaml"))
            .arg("--kubeconfig")
            .arg(kubeconfig)
            .env_remove("FLIGHTCTL_AUTH_TOKEN")
            .env("POD_IP", "127.0.0.1")
            .env("FLIGHTCTL_API_URL", &self.flightctl.url);
        let output = doctor.output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{said}");
        for name in [
            "reachable",
            "clocks",
            "token",
            "organization",
            "API version",
            "writing devices",
            "sizes",
            "nodes and pods",
            "leases",
            "kubelet API",
        ] {
            assert!(
                said.contains(&format!("ok       {name}: ")),
                "{name}: {said}"
            );
        }
        assert!(said.starts_with("ok       owned by Fleets: "), "{said}");
        println!("{said}");
    }
}
