//! The life of one process under test. Everything it asks of the outside goes
//! through [`Life::call`]; once dead it asks nothing more, whatever its tasks
//! still think.

use std::fmt::Display;
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio_util::sync::CancellationToken;

/// Where in a call the process dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Before the call leaves.
    BeforeItLeaves,
    /// It took effect; no answer arrives.
    AfterItTookEffect,
    /// The answer arrives; nothing that follows from it leaves.
    BeforeItsAnswerIsHandled,
}

pub const MOMENTS: [Moment; 3] = [
    Moment::BeforeItLeaves,
    Moment::AfterItTookEffect,
    Moment::BeforeItsAnswerIsHandled,
];

/// Clones share one life.
#[derive(Clone, Debug, Default)]
pub struct Life {
    dead: CancellationToken,
    calls: Arc<AtomicUsize>,
    end: Option<(usize, Moment)>,
}

impl Life {
    /// A process that dies at its `n`-th call.
    pub fn until(n: usize, moment: Moment) -> Self {
        Self {
            end: Some((n, moment)),
            ..Self::default()
        }
    }

    pub fn kill(&self) {
        self.dead.cancel();
    }

    pub fn is_dead(&self) -> bool {
        self.dead.is_cancelled()
    }

    pub async fn died(&self) {
        self.dead.cancelled().await;
    }

    /// Calls so far.
    pub fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }

    /// One remote call of this process.
    pub async fn call<T>(&self, what: impl Display, effect: impl Future<Output = T>) -> T {
        if self.is_dead() {
            return pending().await;
        }
        let n = self.calls.fetch_add(1, Ordering::Relaxed) + 1;
        let end = self
            .end
            .filter(|(at, _)| *at == n)
            .map(|(_, moment)| moment);
        if let Some(moment) = end {
            println!("  killed at call {n} ({what}), {moment:?}");
        }
        if end == Some(Moment::BeforeItLeaves) {
            self.kill();
            return pending().await;
        }
        let answer = tokio::select! {
            biased;
            () = self.died() => return pending().await,
            answer = effect => answer,
        };
        if end.is_some() {
            self.kill();
        }
        if end == Some(Moment::AfterItTookEffect) {
            return pending().await;
        }
        answer
    }
}
