//! The Flight Control client against the sandbox's service, a scripted one, and
//! loopback sockets.

#![allow(clippy::unwrap_used, reason = "a test may fail here")]

mod credentials;
mod reading;
mod requests;
mod tls;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Request, Response, StatusCode, Uri};
use http_body_util::Full;
use hyper_util::client::legacy::Client as Http;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use vk_flightctl::client::{Client, TokenSource};
use vk_sandbox::clock::Clock;
use vk_sandbox::flightctl::{FlightControl, Options};

fn flight_control(token: &str) -> FlightControl {
    let start = "2026-01-01T00:00:00Z".parse().unwrap();
    FlightControl::new(
        Clock::stepped(start),
        Options {
            token: Some(token.into()),
            ..Options::default()
        },
    )
}

fn client(service: &FlightControl, token: TokenSource) -> Client {
    let http = Http::builder(TokioExecutor::new()).build(service.endpoint().connector());
    Client::new(http, &Uri::from_static("http://flightctl.test/"), token)
}

/// A service that answers each request with the next of these, and what it was asked.
fn scripted(answers: Vec<(u16, Value)>) -> (Client, Arc<Mutex<Vec<String>>>) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let answers = Arc::new(Mutex::new(VecDeque::from(answers)));
    let log = asked.clone();
    let service = tower::service_fn(move |request: Request<Full<Bytes>>| {
        log.lock().unwrap().push(request.uri().to_string());
        let (status, body) = answers
            .lock()
            .unwrap()
            .pop_front()
            .expect("no more requests than answers");
        async move {
            let answer = Response::builder().status(StatusCode::from_u16(status).unwrap());
            Ok::<_, Infallible>(
                answer
                    .body(Full::new(Bytes::from(body.to_string())))
                    .unwrap(),
            )
        }
    });
    let client = Client::new(
        service,
        &Uri::from_static("http://flightctl.test/"),
        TokenSource::fixed("token"),
    );
    (client, asked)
}
