//! Certificates as they come and change, on the stepped clock.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{Method, Request, Response};
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::NodeAddress;
use kube::Client;
use kube::client::Body;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, IsCa, Issuer, KeyPair,
};
use rustls::pki_types::CertificateDer;
use serde_json::{Value, json};
use tokio::time::advance;
use vk_provider::Clock;

use super::*;

fn start() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

fn node() -> NodeSettings {
    NodeSettings {
        name: "vk-1".into(),
        listen_port: Some(10_250),
        ..NodeSettings::new("test", "test")
    }
}

fn at(address: &str) -> NodeFacts {
    NodeFacts {
        addresses: vec![NodeAddress {
            type_: "InternalIP".into(),
            address: address.into(),
        }],
        ..NodeFacts::default()
    }
}

fn leaf(shown: &Shown) -> Option<CertificateDer<'static>> {
    shown.certificate()?.first().cloned()
}

/// Until something is shown that was not; the clock steps by itself meanwhile.
async fn changes(
    shown: &Shown,
    before: Option<&CertificateDer<'static>>,
) -> CertificateDer<'static> {
    for _ in 0..10_000 {
        match leaf(shown) {
            Some(now) if Some(&now) != before => return now,
            _ => tokio::time::sleep(Duration::from_secs(1)).await,
        }
    }
    panic!("it never changes");
}

#[tokio::test(start_paused = true)]
async fn a_self_signed_certificate_follows_the_addresses() {
    let (sender, facts) = watch::channel(at("10.0.0.1"));
    let shown = Arc::new(Shown::default());
    let keeping = tokio::spawn({
        let shown = shown.clone();
        async move {
            let mut named = Named::new(node(), facts);
            keep_self_signed("vk-1", &mut named, &shown).await;
        }
    });
    let first = changes(&shown, None).await;
    sender.send_modify(|facts| facts.conditions.clear());
    advance(Duration::from_secs(60)).await;
    assert_eq!(leaf(&shown), Some(first.clone()), "nothing changed");
    sender.send_replace(at("10.0.0.2"));
    let second = changes(&shown, Some(&first)).await;
    assert_ne!(first, second);
    keeping.abort();
}

#[tokio::test(start_paused = true)]
async fn files_are_read_again_and_bad_ones_change_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let paths = ["tls.crt", "tls.key"].map(|name| folder.path().join(name));
    let write = || {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec!["vk".into()]).unwrap();
        let certificate = certificate.self_signed(&key).unwrap();
        std::fs::write(&paths[0], certificate.pem()).unwrap();
        std::fs::write(&paths[1], key.serialize_pem()).unwrap();
        certificate.der().clone()
    };
    let shown = Arc::new(Shown::default());
    let keeping = tokio::spawn({
        let (shown, [certificate, key]) = (shown.clone(), paths.clone());
        async move { keep_files("vk-1", &certificate, &key, &shown).await }
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(leaf(&shown), None, "there are none yet");
    let first = write();
    assert_eq!(changes(&shown, None).await, first);
    let second = write();
    assert_eq!(changes(&shown, Some(&first)).await, second);
    std::fs::write(&paths[0], "nonsense").unwrap();
    tokio::time::sleep(Duration::from_secs(200)).await;
    assert_eq!(leaf(&shown), Some(second.clone()));
    let third = write();
    assert_eq!(changes(&shown, Some(&second)).await, third);
    keeping.abort();
}

/// An API server with requests for certificates, which a test signs.
#[derive(Clone)]
struct Cluster {
    requests: Arc<Mutex<Vec<Value>>>,
    issuer: Arc<Issuer<'static, KeyPair>>,
}

impl Cluster {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self {
            requests: Arc::default(),
            issuer: Arc::new(Issuer::new(params, key)),
        }
    }

    fn client(&self) -> Client {
        let requests = self.requests.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let requests = requests.clone();
            async move {
                let (parts, body) = request.into_parts();
                let bytes = body.collect_bytes().await?;
                let mut requests = requests.lock().unwrap();
                let answer = if parts.method == Method::POST {
                    let mut made: Value = serde_json::from_slice(&bytes)?;
                    made["metadata"]["name"] = requests.len().to_string().into();
                    requests.push(made.clone());
                    made
                } else {
                    let name = parts.uri.path().rsplit('/').next().unwrap_or_default();
                    requests[name.parse::<usize>()?].clone()
                };
                Ok::<_, tower::BoxError>(Response::new(Body::from(answer.to_string().into_bytes())))
            }
        });
        Client::new(service, "default")
    }

    fn asked(&self) -> usize {
        self.requests.lock().unwrap().len()
    }

    async fn is_asked(&self, times: usize) {
        for _ in 0..20_000 {
            if self.asked() >= times {
                return;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        panic!("asked {} times and not {times}", self.asked());
    }

    /// For a life of this many seconds from now.
    fn sign(&self, number: usize, now: Timestamp, life: i64) {
        let mut requests = self.requests.lock().unwrap();
        let pem: ByteString =
            serde_json::from_value(requests[number]["spec"]["request"].clone()).unwrap();
        let pem = String::from_utf8(pem.0).unwrap();
        let mut asked = CertificateSigningRequestParams::from_pem(&pem).unwrap();
        let since = now.as_second() - start().as_second();
        let moment = |second: i64| {
            rcgen::date_time_ymd(2026, 1, 1) + Duration::from_secs(second.try_into().unwrap())
        };
        asked.params.not_before = moment(since);
        asked.params.not_after = moment(since + life);
        let issued = asked.signed_by(&self.issuer).unwrap().pem();
        let certificate = serde_json::to_value(ByteString(issued.into_bytes())).unwrap();
        requests[number]["status"] = json!({"certificate": certificate});
    }

    fn deny(&self, number: usize) {
        let denied = json!({"type": "Denied", "status": "True", "message": "no"});
        self.requests.lock().unwrap()[number]["status"] = json!({"conditions": [denied]});
    }
}

#[tokio::test(start_paused = true)]
async fn a_certificate_is_asked_for_awaited_renewed_and_asked_for_again_elsewhere() {
    let clock = Clock::stepped(start());
    let (cluster, shown) = (Cluster::new(), Arc::new(Shown::default()));
    let (sender, facts) = watch::channel(NodeFacts::default());
    let keeping = tokio::spawn({
        let (client, clock, shown) = (cluster.client(), clock.clone(), shown.clone());
        // Without an address there is nothing to ask for.
        let settings = NodeSettings {
            address: None,
            ..node()
        };
        async move {
            let mut named = Named::new(settings, facts);
            request::keep(&client, &clock, "vk-1", &mut named, &shown).await;
        }
    });
    sender.send_replace(at("10.0.0.1"));
    cluster.is_asked(1).await;
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!((cluster.asked(), leaf(&shown)), (1, None), "it waits");
    cluster.sign(0, clock.now(), 10_000);
    let first = changes(&shown, None).await;
    tokio::time::sleep(Duration::from_secs(6_800)).await;
    assert_eq!(cluster.asked(), 1, "it is good");
    cluster.is_asked(2).await;
    let age = clock.now().as_second();
    assert!(
        leaf(&shown) == Some(first.clone()),
        "that of before is shown"
    );
    cluster.sign(1, clock.now(), 10_000);
    let second = changes(&shown, Some(&first)).await;
    let moved = clock.now().as_second();
    assert!(moved - age < 60, "taken within a minute");
    // Elsewhere it is good for nothing, and a request under way neither.
    sender.send_replace(at("10.0.0.2"));
    cluster.is_asked(3).await;
    sender.send_replace(at("10.0.0.3"));
    cluster.is_asked(4).await;
    cluster.sign(2, clock.now(), 10_000);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(
        leaf(&shown),
        Some(second.clone()),
        "nobody waits for the third"
    );
    cluster.deny(3);
    cluster.is_asked(5).await;
    cluster.sign(4, clock.now(), 10_000);
    changes(&shown, Some(&second)).await;
    keeping.abort();
}
