//! What one process sees of the remote: the backend under the framework, with
//! the weather on the way.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::UnboundedReceiverStream;
use vk_provider::quantity::{Amount, Resources};
use vk_provider::{
    Backend, BackendError, Capabilities, Change, ContainerState, Grace, Heeds, InputNeeds, Listing,
    NodeFacts, NodeInfo, NodeSet, PodCx, PodFacts, PodKey, PodRequest,
};

use vk_provider::podspec::{Declaration, no_meaning, refused};

use crate::dice::Dice;
use crate::life::Life;
use crate::remote::{HEEDED, Knowledge, Remote};
use crate::weather::{LATE_CHANGE, SLOW_CALL, Weather};
use crate::world::REFUSED;

static POD_SPEC: Declaration = Declaration::new(&[
    no_meaning("spec", "nothing of a pod is made real"),
    refused(REFUSED, "there is no host"),
    refused("spec.ephemeralContainers", "nothing can be started in it"),
    refused("pods/resize", "nothing has a size"),
]);

static CAPABILITIES: Capabilities = Capabilities {
    name: "simulated",
    grace: Grace::Exact,
    restarts: true,
    heeds: Heeds {
        labels: &[],
        annotations: &[HEEDED],
        replaced: &[],
    },
    pod_spec: &POD_SPEC,
    inputs: InputNeeds::NOTHING,
};

/// No call that is about one pod is waited for longer than this.
const DEADLINE: Duration = Duration::from_secs(60);

/// The honest backend.
#[derive(Clone, Debug)]
pub struct Handle {
    pub remote: Remote,
    pub node: Arc<str>,
    pub life: Life,
    pub weather: Weather,
    pub dice: Dice,
}

impl Handle {
    /// One call about a pod: one that only the node's holder may make, that is
    /// not made again and again, and that is given up when it takes too long.
    async fn ask_about(
        &self,
        what: &str,
        pod: &PodKey,
        effect: impl FnOnce() -> Result<(), BackendError>,
    ) -> Result<(), BackendError> {
        let (court, began) = (&self.remote.court, Instant::now());
        let call = format!("{what} {}", pod.name);
        if !self.life.is_dead() {
            court.may_write(&call);
        }
        let answer = self.ask(call.clone(), effect).await;
        if began.elapsed() > DEADLINE {
            let open = began.elapsed();
            court.wrong(format!("{call} is still waited for after {open:?}"));
        }
        if matches!(answer, Err(BackendError::Unavailable { .. })) {
            court.failed(pod.uid.as_str(), &call);
        }
        answer
    }

    /// One call through the weather.
    async fn ask<T>(
        &self,
        what: String,
        effect: impl FnOnce() -> Result<T, BackendError>,
    ) -> Result<T, BackendError> {
        let faults = self.weather.now();
        let call = async {
            if faults.down {
                return Err(unavailable("down"));
            }
            assert!(
                !self.dice.percent(faults.panics),
                "the backend panics, on purpose"
            );
            let slow = self.dice.percent(faults.slow);
            let late = self.dice.percent(50);
            if slow && !late {
                tokio::time::sleep(self.dice.within(SLOW_CALL)).await;
            }
            let answer = effect();
            if slow && late {
                tokio::time::sleep(self.dice.within(SLOW_CALL)).await;
            }
            if self.dice.percent(faults.answers_lost) {
                return Err(unavailable("answer lost"));
            }
            answer
        };
        self.life.call(what, call).await
    }
}

fn unavailable(why: &str) -> BackendError {
    BackendError::Unavailable {
        message: why.into(),
        retry: None,
    }
}

#[async_trait]
impl Backend for Handle {
    fn capabilities(&self) -> &Capabilities {
        &CAPABILITIES
    }

    fn nodes(&self) -> BoxStream<'static, NodeSet> {
        let set = NodeSet::from([(self.node.to_string(), facts())]);
        stream::once(async { set }).chain(stream::pending()).boxed()
    }

    async fn ensure(&self, pod: &PodRequest, _: &PodCx) -> Result<(), BackendError> {
        let fate = self.remote.court.fate(pod.key.uid.as_str());
        let before = |at: Option<Instant>| at.is_some_and(|at| at < Instant::now());
        let knew = Knowledge {
            end: before(fate.told),
            loss: before(fate.missed) && (fate.shown || fate.known),
        };
        self.ask_about("ensure", &pod.key, || self.remote.ensure(pod, knew))
            .await
    }

    async fn stop(&self, pod: &PodKey, grace: Duration) -> Result<(), BackendError> {
        self.ask_about("stop", pod, || self.remote.stop(pod, grace))
            .await
    }

    async fn release(&self, pod: &PodKey) -> Result<(), BackendError> {
        self.ask_about("release", pod, || self.remote.release(pod))
            .await
    }

    async fn list(&self) -> Result<Listing, BackendError> {
        let faults = self.weather.now();
        let list = || {
            let age = self.dice.within(faults.listing_lag);
            let (mut pods, as_of) = if age.is_zero() {
                self.remote.list()
            } else {
                self.remote.list_of(age)
            };
            let complete = !self.dice.percent(faults.partial);
            if !complete {
                pods.retain(|_| self.dice.percent(50));
            }
            Ok(Listing {
                pods,
                complete,
                as_of,
            })
        };
        let listing = self.ask("list".into(), list).await?;
        let now = Instant::now();
        if listing.complete && listing.as_of == now {
            self.remote.court.listed();
        }
        Ok(listing)
    }

    fn changes(&self) -> BoxStream<'static, Change> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let mut news = self.remote.listen();
        let handle = self.clone();
        tokio::spawn(async move {
            while let Some(facts) = news.recv().await {
                handle.pass_on(facts, &sender);
            }
        });
        UnboundedReceiverStream::new(receiver)
            .map(|facts| Change::Facts(Box::new(facts)))
            .boxed()
    }
}

impl Handle {
    /// The process knows the end from the next instant on.
    fn tell(&self, facts: &PodFacts) {
        if self.life.is_dead() {
            return;
        }
        let state = &facts.containers[0].state;
        let ran = !matches!(
            state,
            ContainerState::Waiting { .. } | ContainerState::Unknown
        );
        self.remote.court.fated(facts.key.uid.as_str(), |fate| {
            fate.known |= ran;
            if facts.ended {
                fate.told.get_or_insert_with(Instant::now);
            }
        });
    }

    fn pass_on(&self, facts: PodFacts, to: &mpsc::UnboundedSender<PodFacts>) {
        let faults = self.weather.now();
        if self.dice.percent(faults.changes_late) {
            let (again, to, late) = (facts.clone(), to.clone(), self.dice.within(LATE_CHANGE));
            tokio::spawn(async move {
                tokio::time::sleep(late).await;
                // Nobody listens any more: as good as lost.
                let _ = to.send(again);
            });
        }
        if !self.dice.percent(faults.changes_lost) {
            self.tell(&facts);
            let _ = to.send(facts);
        }
    }
}

fn facts() -> NodeFacts {
    let size = Resources::new()
        .with("cpu", Amount::units(8000))
        .with("memory", Amount::units(1 << 45))
        .with("pods", Amount::units(10_000));
    NodeFacts {
        capacity: size.clone(),
        allocatable: size,
        info: NodeInfo {
            architecture: "amd64".into(),
            operating_system: "linux".into(),
            ..NodeInfo::default()
        },
        ..NodeFacts::default()
    }
}
