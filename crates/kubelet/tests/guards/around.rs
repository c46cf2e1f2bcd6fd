//! A backend around another that can be told to be slow, silent or unwilling.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_util::sync::CancellationToken;
use vk_provider::{
    Admission, Backend, BackendError, Capabilities, Change, Grace, Listing, NodeSet, NodeUse,
    PodCx, PodKey, PodRequest,
};

/// How a stream breaks: the next one that is opened does not.
#[derive(Clone, Copy, Debug)]
pub enum Break {
    /// Before it says anything.
    AtOnce,
    /// It ends after its first word.
    Ends,
    /// It panics after its first word.
    Panics,
}

impl Break {
    fn of<T: Send + 'static>(
        this: Option<Self>,
        whole: BoxStream<'static, T>,
    ) -> BoxStream<'static, T> {
        match this {
            None => whole,
            Some(Self::AtOnce) => panic!("the test asks for it"),
            Some(Self::Ends) => whole.take(1).boxed(),
            Some(Self::Panics) => {
                let panics = stream::once(async { panic!("the test asks for it") });
                whole.take(1).chain(panics).boxed()
            }
        }
    }
}

/// What is told.
#[derive(Debug, Default)]
pub struct Told {
    /// `ensure` takes this long.
    pub ensure_takes: Duration,
    /// `ensure` writes a journal of so many bytes first.
    pub journal: Option<usize>,
    /// `admit` answers this.
    pub admission: Option<Admission>,
    /// `stop` with no more than this much grace fails.
    pub stops_fail: Option<Duration>,
    /// `release` fails so often.
    pub releases_fail: u32,
    /// The next stream of nodes breaks.
    pub nodes: Option<Break>,
    /// The next stream of changes breaks.
    pub changes: Option<Break>,
}

/// What was seen.
#[derive(Debug, Default)]
pub struct Seen {
    /// Listings that were answered.
    pub listings: usize,
    /// Stops: when, with which grace, and after how many listings.
    pub stops: Vec<(Instant, Duration, usize)>,
    pub releases: usize,
    /// What tells each `ensure` that it is no longer wanted.
    pub cancels: Vec<CancellationToken>,
    /// The journal that each `ensure` was given.
    pub journals: Vec<Option<Arc<str>>>,
}

/// The backend.
pub struct Around {
    inner: Arc<dyn Backend>,
    capabilities: Capabilities,
    pub told: Mutex<Told>,
    pub seen: Mutex<Seen>,
    /// While false, no listing is answered.
    pub lists: watch::Sender<bool>,
    looks: mpsc::UnboundedSender<Change>,
    changes: Mutex<Option<mpsc::UnboundedReceiver<Change>>>,
}

impl Around {
    pub fn new(inner: Arc<dyn Backend>, grace: Grace) -> Arc<Self> {
        let (looks, changes) = mpsc::unbounded_channel();
        Arc::new(Self {
            capabilities: Capabilities {
                grace,
                ..inner.capabilities().clone()
            },
            inner,
            told: Mutex::default(),
            seen: Mutex::default(),
            lists: watch::Sender::new(true),
            looks,
            changes: Mutex::new(Some(changes)),
        })
    }

    pub fn tell(&self, change: impl FnOnce(&mut Told)) {
        change(&mut self.told.lock().unwrap());
    }

    /// The backend asks for another look at this pod.
    pub fn look(&self, key: PodKey) {
        self.looks.send(Change::Look(key)).unwrap();
    }

    pub fn stops(&self) -> Vec<(Instant, Duration, usize)> {
        self.seen.lock().unwrap().stops.clone()
    }

    pub fn listings(&self) -> usize {
        self.seen.lock().unwrap().listings
    }

    pub fn releases(&self) -> usize {
        self.seen.lock().unwrap().releases
    }
}

#[async_trait]
impl Backend for Around {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn nodes(&self) -> BoxStream<'static, NodeSet> {
        let breaks = self.told.lock().unwrap().nodes.take();
        Break::of(breaks, self.inner.nodes())
    }

    fn admit(&self, pod: &PodRequest, bound: &NodeUse) -> Admission {
        let told = self.told.lock().unwrap().admission.clone();
        told.unwrap_or_else(|| self.inner.admit(pod, bound))
    }

    async fn ensure(&self, pod: &PodRequest, cx: &PodCx) -> Result<(), BackendError> {
        let (takes, journal) = {
            let told = self.told.lock().unwrap();
            (told.ensure_takes, told.journal)
        };
        {
            let mut seen = self.seen.lock().unwrap();
            seen.cancels.push(cx.cancel.clone());
            seen.journals.push(pod.journal.clone());
        }
        if let Some(bytes) = journal {
            cx.journal.persist(&"j".repeat(bytes)).await?;
        }
        if !takes.is_zero() {
            tokio::time::sleep(takes).await;
        }
        self.inner.ensure(pod, cx).await
    }

    async fn stop(&self, pod: &PodKey, grace: Duration) -> Result<(), BackendError> {
        {
            let mut seen = self.seen.lock().unwrap();
            let listings = seen.listings;
            seen.stops.push((Instant::now(), grace, listings));
        }
        let fails = self.told.lock().unwrap().stops_fail;
        if fails.is_some_and(|most| grace <= most) {
            return Err(BackendError::Unavailable {
                message: "not now".into(),
                retry: None,
            });
        }
        self.inner.stop(pod, grace).await
    }

    async fn release(&self, pod: &PodKey) -> Result<(), BackendError> {
        self.seen.lock().unwrap().releases += 1;
        {
            let mut told = self.told.lock().unwrap();
            if told.releases_fail > 0 {
                told.releases_fail -= 1;
                return Err(BackendError::Unavailable {
                    message: "not now".into(),
                    retry: Some(Duration::from_secs(1)),
                });
            }
        }
        self.inner.release(pod).await
    }

    async fn list(&self) -> Result<Listing, BackendError> {
        let mut answers = self.lists.subscribe();
        let _ = answers.wait_for(|answers| *answers).await;
        let listing = self.inner.list().await;
        self.seen.lock().unwrap().listings += 1;
        listing
    }

    fn changes(&self) -> BoxStream<'static, Change> {
        let breaks = self.told.lock().unwrap().changes.take();
        // Only the first stream has the looks.
        let looks = self.changes.lock().unwrap().take();
        let looks = looks.map_or_else(
            || stream::pending().boxed(),
            |looks| UnboundedReceiverStream::new(looks).boxed(),
        );
        Break::of(breaks, stream::select(self.inner.changes(), looks).boxed())
    }
}
