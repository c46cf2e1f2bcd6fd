//! Real sockets and TLS.

use http::Uri;
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use vk_flightctl::client::{Client, ClientError, Tls, TokenSource};
use vk_sandbox::clock::Clock;
use vk_sandbox::flightctl::{FlightControl, Options};

/// The sandbox's service on a loopback socket with TLS.
struct Socket {
    base: Uri,
    authority: Vec<u8>,
    _stop: tokio_util::sync::DropGuard,
}

async fn socket() -> Socket {
    let service = FlightControl::new(Clock::live(), Options::default());
    let tls = vk_sandbox::tls::loopback().unwrap();
    let listener = vk_sandbox::transport::loopback("127.0.0.1:0".parse().unwrap())
        .await
        .unwrap();
    let base = format!("https://{}", listener.local_addr().unwrap())
        .parse()
        .unwrap();
    let stop = CancellationToken::new();
    tokio::spawn(
        service
            .endpoint()
            .listen(listener, Some(tls.acceptor), stop.clone()),
    );
    Socket {
        base,
        authority: tls.ca_pem.into_bytes(),
        _stop: stop.drop_guard(),
    }
}

async fn listed(base: &Uri, tls: &Tls) -> Result<Vec<Value>, ClientError> {
    Client::https(base, tls, TokenSource::fixed("token"))
        .unwrap()
        .list_devices(None)
        .await
}

#[tokio::test]
async fn a_certificate_is_checked_against_the_given_authority() {
    let socket = socket().await;
    let trusted = Tls::Authorities(socket.authority.clone());
    listed(&socket.base, &trusted).await.unwrap();
    listed(&socket.base, &Tls::Insecure).await.unwrap();

    let other = Tls::Authorities(vk_sandbox::tls::loopback().unwrap().ca_pem.into_bytes());
    let error = listed(&socket.base, &other).await.unwrap_err().to_string();
    assert!(
        error.contains("certificate") && error.contains("caFile"),
        "{error}"
    );
    assert!(
        error.contains(&socket.base.to_string().trim_end_matches('/').to_owned()),
        "{error}"
    );
}

#[tokio::test]
async fn a_server_name_of_its_own_replaces_the_urls_host() {
    let socket = socket().await;
    let named = |name: &str| Tls::Named {
        server_name: name.into(),
        trust: Box::new(Tls::Authorities(socket.authority.clone())),
    };
    listed(&socket.base, &named("localhost")).await.unwrap();
    let error = listed(&socket.base, &named("elsewhere.example"))
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("certificate"), "{error}");
}

#[tokio::test]
async fn an_authority_without_a_certificate_is_refused_before_anything_is_sent() {
    let base = Uri::from_static("https://127.0.0.1:1");
    let error = Client::https(
        &base,
        &Tls::Authorities(b"hello".to_vec()),
        TokenSource::fixed("t"),
    )
    .unwrap_err();
    assert!(error.to_string().contains("PEM"), "{error}");
}

#[tokio::test]
async fn a_service_that_cannot_be_reached_is_named() {
    let listener = vk_sandbox::transport::loopback("127.0.0.1:0".parse().unwrap())
        .await
        .unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let base: Uri = format!("https://{address}").parse().unwrap();
    let error = listed(&base, &Tls::Insecure).await.unwrap_err();
    assert!(matches!(error, ClientError::Transport { .. }), "{error}");
    assert!(error.to_string().contains(&address.to_string()), "{error}");
}
