//! A clock that stands beside sockets that do not.

use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use http_body_util::{BodyExt, Empty};

use crate::rig::{Rig, TOKEN};

/// Less than a lease is written for without a renewal, and more than it takes to
/// the next one.
const STEP: Duration = Duration::from_secs(11);

/// For whatever is awaited; a test that needs it has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// The runtime's time stands until it is moved, or this is dropped. Only in a runtime
/// of one thread.
pub struct Standing(#[expect(dead_code, reason = "held")] Sender<()>);

impl Standing {
    pub fn new() -> Self {
        // A runtime that waits for a socket would go on to its next timer; one that has
        // a blocking task under way does not.
        let (held, end) = channel();
        tokio::task::spawn_blocking(move || end.recv());
        tokio::time::pause();
        Self(held)
    }

    /// What does not come in the time of a clock that nobody holds fails the test.
    pub async fn in_time<T>(&self, what: impl Future<Output = T>) -> T {
        let (_done, end) = channel::<()>();
        let late = tokio::task::spawn_blocking(move || end.recv_timeout(PATIENCE));
        tokio::select! {
            done = what => done,
            _ = late => panic!("it does not come"),
        }
    }

    /// Time passes all at once.
    pub async fn pass(&self, time: Duration) {
        tokio::time::advance(time).await;
    }

    /// Time passes in steps, in which the node's lease is renewed.
    pub async fn pass_with(&self, rig: &Rig, time: Duration) {
        let client = rig.http2();
        let mut left = time;
        while !left.is_zero() {
            let step = left.min(STEP);
            left -= step;
            tokio::time::advance(step).await;
            loop {
                let request = http::Request::get(format!("https://{}/healthz", rig.address))
                    .header("authorization", format!("Bearer {TOKEN}"))
                    .body(Empty::new())
                    .unwrap();
                let answer = client.request(request).await.unwrap();
                let well = answer.status() == 200;
                answer.into_body().collect().await.unwrap();
                if well {
                    break;
                }
            }
        }
    }
}

impl Drop for Standing {
    fn drop(&mut self) {
        tokio::time::resume();
    }
}
