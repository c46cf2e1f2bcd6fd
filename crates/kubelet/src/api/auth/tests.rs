//! What Kubernetes is asked about clients, and what becomes of its answers.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method, Request, Response, header};
use kube::client::Body;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
};
use serde_json::{Value, json};

use super::*;
use crate::api::route::needs;

/// An API server that answers reviews, and what it was asked.
#[derive(Clone, Default)]
struct Server {
    asked: Arc<Mutex<Vec<Value>>>,
}

impl Server {
    /// Knows one token, and lets its owner do what `allowed` lists.
    fn auth(&self, allowed: &'static [&'static str]) -> Auth {
        let asked = self.asked.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let asked = asked.clone();
            async move {
                let bytes = request.into_body().collect_bytes().await?;
                let mut review: Value = serde_json::from_slice(&bytes)?;
                let spec = &review["spec"];
                review["status"] = match spec["token"].as_str() {
                    Some("good") => json!({"authenticated": true, "user": {
                        "username": "jane", "uid": "7", "groups": ["dev"],
                        "extra": {"scope": ["a"]},
                    }}),
                    Some("broken") => json!(7),
                    Some(_) => json!({"authenticated": false}),
                    None => {
                        let part = &spec["resourceAttributes"]["subresource"];
                        let part = part.as_str().unwrap_or_default();
                        if part == "stats" {
                            json!("not a status")
                        } else {
                            json!({"allowed": allowed.contains(&part)})
                        }
                    }
                };
                asked.lock().unwrap().push(review["spec"].clone());
                Ok::<_, tower::BoxError>(Response::new(Body::from(review.to_string().into_bytes())))
            }
        });
        let client = Client::new(service, "default");
        Auth::new(client, ClientCa::Nobody, Clock::live())
    }

    fn asked(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

fn token(token: &str) -> HeaderMap {
    let value = HeaderValue::from_str(&format!("Bearer {token}")).unwrap();
    HeaderMap::from_iter([(header::AUTHORIZATION, value)])
}

async fn check(auth: &Auth, token_: &str, path: &str) -> Result<(), Refused> {
    let needs = needs(&Method::GET, path);
    auth.check("vk-1", &[], &token(token_), &needs).await
}

#[tokio::test(start_paused = true)]
async fn who_is_nobody_is_unauthorized_and_who_may_not_is_told_what() {
    let server = Server::default();
    let auth = server.auth(&["proxy"]);
    let needs = needs(&Method::GET, "/metrics");
    let anonymous = auth.check("vk-1", &[], &HeaderMap::new(), &needs).await;
    assert_eq!(anonymous, Err(Refused::Unauthorized));
    assert_eq!(server.asked(), 0, "nobody is not asked about");
    let unknown = check(&auth, "bad", "/pods").await;
    assert_eq!(unknown, Err(Refused::Unauthorized));
    let broken = check(&auth, "broken", "/pods").await;
    assert_eq!(broken, Err(Refused::Unauthorized), "no answer is no yes");
    let text = "Forbidden (user=jane, verb=get, resource=nodes, subresource(s)=[metrics])\n";
    let refused = check(&auth, "good", "/metrics").await;
    assert_eq!(refused, Err(Refused::Forbidden(text.into())));
    let text = "Authorization error (user=jane, verb=get, resource=nodes, subresource=stats)";
    let unanswered = check(&auth, "good", "/stats/summary").await;
    assert_eq!(unanswered, Err(Refused::Unanswered(text.into())));
}

#[tokio::test(start_paused = true)]
async fn the_finest_right_is_enough_and_the_proxy_right_too() {
    for (allowed, questions) in [(&["pods"] as &[&str], 1), (&["proxy"], 2)] {
        let server = Server::default();
        let auth = server.auth(allowed);
        assert_eq!(check(&auth, "good", "/pods").await, Ok(()));
        assert_eq!(server.asked(), 1 + questions, "{allowed:?}");
        let asked = server.asked.lock().unwrap().last().cloned().unwrap();
        let wanted = json!({
            "user": "jane", "uid": "7", "groups": ["dev", "system:authenticated"],
            "extra": {"scope": ["a"]},
            "resourceAttributes": {
                "verb": "get", "version": "v1", "resource": "nodes", "name": "vk-1",
                "subresource": allowed[0],
            },
        });
        assert_eq!(asked, wanted);
    }
}

#[tokio::test(start_paused = true)]
async fn answers_are_remembered_as_long_as_the_kubelet_does() {
    let server = Server::default();
    let auth = server.auth(&["proxy"]);
    check(&auth, "good", "/exec/a/b/c").await.unwrap();
    assert_eq!(server.asked(), 2, "whose token, and whether they may");
    tokio::time::advance(Duration::from_secs(119)).await;
    check(&auth, "good", "/exec/a/b/c").await.unwrap();
    assert_eq!(server.asked(), 2);
    tokio::time::advance(Duration::from_secs(2)).await;
    check(&auth, "good", "/exec/a/b/c").await.unwrap();
    assert_eq!(server.asked(), 3, "the token alone");
    tokio::time::advance(Duration::from_secs(300)).await;
    check(&auth, "good", "/exec/a/b/c").await.unwrap();
    assert_eq!(server.asked(), 5);
}

/// A certificate authority with a certificate of Jane, for this purpose.
fn jane(purpose: ExtendedKeyUsagePurpose) -> (Vec<u8>, CertificateDer<'static>) {
    let key = || KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_key = key();
    let pem = params.self_signed(&ca_key).unwrap().pem();
    let issuer = Issuer::new(params, ca_key);
    let mut jane = CertificateParams::default();
    jane.distinguished_name.push(DnType::CommonName, "jane");
    jane.extended_key_usages = vec![purpose];
    let certificate = jane.signed_by(&key(), &issuer).unwrap();
    (pem.into_bytes(), certificate.der().clone())
}

#[tokio::test(start_paused = true)]
async fn a_certificate_counts_while_its_authority_does_and_only_as_a_clients() {
    let server = Server::default();
    let auth = server.auth(&["proxy"]);
    let (pem, certificate) = jane(ExtendedKeyUsagePurpose::ClientAuth);
    let needs = needs(&Method::GET, "/containerLogs/a/b/c");
    let shown = std::slice::from_ref(&certificate);
    let nothing = HeaderMap::new();
    let before = auth.check("vk-1", shown, &nothing, &needs).await;
    assert_eq!(before, Err(Refused::Unauthorized), "no authority is known");
    auth.authorities.set(pem.clone()).unwrap();
    assert_eq!(auth.check("vk-1", shown, &nothing, &needs).await, Ok(()));
    let late = "4200-01-01T00:00:00Z".parse().unwrap();
    assert!(!auth.authorities.vouch(shown, late), "it has run out");
    // A server's certificate is no client's.
    let (other, servers) = jane(ExtendedKeyUsagePurpose::ServerAuth);
    auth.authorities.set(other).unwrap();
    let shown_servers = std::slice::from_ref(&servers);
    for shown in [shown, shown_servers] {
        let refused = auth.check("vk-1", shown, &nothing, &needs).await;
        assert_eq!(refused, Err(Refused::Unauthorized));
    }
    // It may have a token besides.
    let token = token("good");
    assert_eq!(auth.check("vk-1", shown, &token, &needs).await, Ok(()));
    assert!(auth.authorities.set(b"nonsense".to_vec()).is_err());
    assert!(
        !auth.authorities.vouch(shown_servers, Clock::live().now()),
        "the authorities of before count on"
    );
}
