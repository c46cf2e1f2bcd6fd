//! Guards broken from outside, one at a time: a client that strips, swallows or
//! invents writes, and a backend that lies. The simulation has to see each.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use axum::body::{Body, Bytes};
use axum::response::Response;
use futures::StreamExt;
use futures::stream::BoxStream;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::time::timeout;
use vk_provider::podspec::{Declaration, no_meaning};
use vk_provider::{
    Backend, BackendError, Capabilities, Change, ContainerState, Grace, Heeds, InputNeeds, Listing,
    NodeSet, PodChange, PodCx, PodFacts, PodKey, PodRequest, Uid,
};
use vk_sandbox::transport::Dropped;

use crate::court::{FOREIGN, text};
use crate::handle::Handle;
use crate::remote::HEEDED;
use crate::wire::{Sent, Wire};

/// What is broken; each names the promise that it breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guard {
    /// Nothing is.
    Sound,
    /// The final delete names a UID.
    DeleteWithoutUid,
    /// A status names a UID.
    StatusWithoutUid,
    /// Only what someone deleted is deleted.
    DeleteUnasked,
    /// What is deleted goes.
    DeleteSwallowed,
    /// The lease is renewed, whatever else happens.
    LeaseSwallowed,
    /// Each renewal is dated later than the one before.
    LeaseBackdated,
    /// A backend's outage never changes Ready.
    NotReadyInOutage,
    /// Conditions of others are kept.
    ForeignConditionsLost,
    /// `startTime` never moves.
    StartTimeMoves,
    /// A terminal phase stays.
    TerminalTakenBack,
    /// A listing that misses pods says so.
    PartialListingCalledComplete,
    /// A listing that is old says so.
    OldListingCalledNew,
    /// `ensure` answers Ok only when it happened.
    EnsureDoesNothing,
    /// `ensure` twice is one pod.
    EnsureStartsAgain,
    /// `stop` answers `NotFound` only when nothing runs.
    StopFindsNothing,
    /// An end is reported only when it happened.
    EndReportedEarly,
    /// An end is reported.
    EndNeverReported,
    /// `release` frees.
    ReleaseKeeps,
    /// What failed is asked for again.
    GivesUp,
    /// What failed is not asked for again at once.
    RepeatsAtOnce,
    /// The time that the server names is waited for.
    RetryAfterIgnored,
    /// A call has an end, whatever the remote does.
    NoDeadline,
    /// Only a renewal that the server answered is one.
    RenewalInvented,
    /// A field that cannot be had is refused.
    FieldIgnored,
    /// A refusal names the field.
    RefusalNamesNothing,
    /// What is kept of a pod goes with it.
    KeepsWhatIsGone,
    /// An agent of the cluster's machines is not Failed.
    AgentFailed,
    /// Annotations of others are kept.
    ForeignAnnotationsLost,
    /// What the backend no longer annotates goes.
    AnnotationKept,
    /// `stop` answers Ok only when it was taken.
    StopNotTaken,
    /// What people say of a pod reaches the remote.
    MetadataUntold,
}

pub const ALL: [Guard; 31] = [
    Guard::DeleteWithoutUid,
    Guard::StatusWithoutUid,
    Guard::DeleteUnasked,
    Guard::DeleteSwallowed,
    Guard::LeaseSwallowed,
    Guard::LeaseBackdated,
    Guard::NotReadyInOutage,
    Guard::ForeignConditionsLost,
    Guard::StartTimeMoves,
    Guard::TerminalTakenBack,
    Guard::PartialListingCalledComplete,
    Guard::OldListingCalledNew,
    Guard::EnsureDoesNothing,
    Guard::EnsureStartsAgain,
    Guard::StopFindsNothing,
    Guard::EndReportedEarly,
    Guard::EndNeverReported,
    Guard::ReleaseKeeps,
    Guard::GivesUp,
    Guard::RepeatsAtOnce,
    Guard::RetryAfterIgnored,
    Guard::NoDeadline,
    Guard::RenewalInvented,
    Guard::FieldIgnored,
    Guard::RefusalNamesNothing,
    Guard::KeepsWhatIsGone,
    Guard::AgentFailed,
    Guard::ForeignAnnotationsLost,
    Guard::AnnotationKept,
    Guard::StopNotTaken,
    Guard::MetadataUntold,
];

/// A write that the broken client invents follows the real one after this.
const SOON: Duration = Duration::from_secs(1);
/// Between two tries of those who cannot wait, and how often they try.
const HASTE: (Duration, usize) = (Duration::from_millis(200), 20);

impl Guard {
    /// What the broken client does instead of sending this; the request comes
    /// back when it has nothing to do with the guard.
    pub async fn instead(self, wire: &Wire, sent: Sent) -> Result<Response, Sent> {
        let pod = sent.is_pod() && sent.method != Method::GET;
        let status = pod && sent.path().ends_with("/status");
        let delete = pod && sent.method == Method::DELETE;
        let marks = pod && sent.method == Method::PATCH && !status;
        let lease = sent.method == Method::PUT && sent.path().contains("/leases/");
        let node = sent.method == Method::PATCH && sent.path().contains("/nodes/");
        let mut sent = sent;
        match self {
            // Once it is False, putting it right is spoilt too.
            Self::NotReadyInOutage if node && wire.weather.now().down => sent.edit(|body| {
                let all = body["status"]["conditions"].as_array_mut();
                for condition in all.into_iter().flatten() {
                    if condition["type"] == "Ready" {
                        condition["status"] = json!("False");
                    }
                }
            }),
            Self::DeleteWithoutUid if delete => sent.edit(|body| {
                body.as_object_mut().unwrap().remove("preconditions");
            }),
            Self::StatusWithoutUid if status => sent.edit(|body| {
                body.as_object_mut().unwrap().remove("metadata");
            }),
            Self::ForeignConditionsLost if status => sent.edit(|body| {
                if let Some(all) = body["status"]["conditions"].as_array_mut() {
                    all.push(json!({"type": FOREIGN, "$patch": "delete"}));
                }
            }),
            Self::StartTimeMoves if status => sent.edit(|body| {
                body["status"]["startTime"] = json!(wire.now());
            }),
            Self::DeleteUnasked if status && sent.says("Running") => {
                let mut delete = sent.clone();
                delete.method = Method::DELETE;
                delete.uri = sent.path().trim_end_matches("/status").parse().unwrap();
                let uid = json!({"uid": sent.uid()});
                let now = json!({"gracePeriodSeconds": 0, "preconditions": uid});
                delete.body = now.to_string().into();
                let kind = "application/json".parse().unwrap();
                delete.headers.insert(http::header::CONTENT_TYPE, kind);
                follow(wire, delete);
            }
            Self::TerminalTakenBack
                if status && (sent.says("Failed") || sent.says("Succeeded")) =>
            {
                let mut back = sent.clone();
                back.edit(|body| body["status"] = json!({"phase": "Running"}));
                follow(wire, back);
            }
            Self::NotReadyInOutage if lease && wire.weather.now().down => {
                let mut unready = sent.clone();
                let node = sent.path().rsplit('/').next().unwrap();
                unready.method = Method::PATCH;
                unready.uri = format!("/api/v1/nodes/{node}/status").parse().unwrap();
                let kind = "application/strategic-merge-patch+json".parse().unwrap();
                unready.headers.insert(http::header::CONTENT_TYPE, kind);
                let ready =
                    json!({"status": {"conditions": [{"type": "Ready", "status": "False"}]}});
                unready.body = ready.to_string().into();
                follow(wire, unready);
            }
            // As a process does whose clock was set back and that writes its time.
            Self::LeaseBackdated if lease => sent.edit(|body| {
                body["spec"]["renewTime"] = json!("2025-12-31T23:00:00.000000Z");
            }),
            Self::LeaseSwallowed if lease => return Ok(Response::new(Body::from(sent.body))),
            // The process believes that it holds a node that it does not.
            Self::RenewalInvented if lease => {
                let answer = timeout(SOON, wire.forward(sent.clone())).await;
                return match answer {
                    Ok(Ok(answer)) if answer.status().is_success() => Ok(answer),
                    _ => Ok(Response::new(Body::from(sent.body))),
                };
            }
            Self::RetryAfterIgnored if pod => {
                for _ in 0..HASTE.1 {
                    match wire.forward(sent.clone()).await {
                        Ok(answer) if answer.status() != StatusCode::TOO_MANY_REQUESTS => {
                            return Ok(answer);
                        }
                        Err(_) => break,
                        Ok(_) => tokio::time::sleep(HASTE.0).await,
                    }
                }
            }
            Self::RefusalNamesNothing if status => sent.edit(|body| {
                if body["status"]["reason"] == "Unsupported" {
                    body["status"]["message"] = json!("cannot be run here");
                }
            }),
            // As one does that refuses what it will not run.
            Self::AgentFailed if sent.method == Method::POST && sent.is_event() => {
                sent.edit(|event| {
                    if event["reason"] == "NotForThisNode" {
                        fail(wire, &event["regarding"]);
                    }
                });
            }
            Self::ForeignAnnotationsLost if marks => sent.edit(|body| {
                body["metadata"]["annotations"][HEEDED] = Value::Null;
            }),
            Self::AnnotationKept if marks => sent.edit(|body| {
                let all = body["metadata"]["annotations"].as_object_mut();
                all.into_iter()
                    .for_each(|all| all.retain(|_, value| !value.is_null()));
            }),
            Self::DeleteSwallowed if delete => {
                let mut read = sent.clone();
                read.method = Method::GET;
                read.body = Bytes::new();
                if let Ok(answer) = wire.forward(read).await {
                    return Ok(answer);
                }
            }
            _ => {}
        }
        Err(sent)
    }

    /// The backend of a process, lying if that is what is broken.
    pub fn backend(self, honest: Handle) -> Arc<dyn Backend> {
        Arc::new(Liar {
            honest,
            guard: self,
            kept: Arc::default(),
        })
    }
}

fn follow(wire: &Wire, sent: Sent) {
    let wire = wire.clone();
    tokio::spawn(async move {
        tokio::time::sleep(SOON).await;
        let _: Result<Response, Dropped> = wire.forward(sent).await;
    });
}

fn fail(wire: &Wire, pod: &Value) {
    let path = format!(
        "/api/v1/namespaces/{}/pods/{}/status",
        text(pod, "/namespace"),
        text(pod, "/name")
    );
    let kind = "application/strategic-merge-patch+json".parse().unwrap();
    let body = json!({"metadata": {"uid": pod["uid"]}, "status": {"phase": "Failed"}});
    let failed = Sent {
        method: Method::PATCH,
        uri: path.parse().unwrap(),
        headers: [(http::header::CONTENT_TYPE, kind)].into_iter().collect(),
        body: body.to_string().into(),
    };
    follow(wire, failed);
}

impl Sent {
    fn is_event(&self) -> bool {
        self.path().ends_with("/events")
    }

    fn edit(&mut self, change: impl FnOnce(&mut Value)) {
        if let Ok(mut body) = serde_json::from_slice(&self.body) {
            change(&mut body);
            self.body = body.to_string().into();
        }
    }

    fn says(&self, phase: &str) -> bool {
        let body: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        text(&body, "/status/phase") == phase
    }
}

/// What the broken ones remember, and should not.
#[derive(Default)]
struct Kept {
    failed: HashSet<Uid>,
    ended: BTreeMap<Uid, PodFacts>,
}

struct Liar {
    honest: Handle,
    guard: Guard,
    kept: Arc<Mutex<Kept>>,
}

/// What is listed anew is newer than all that was told of the pod.
const NEWER: u64 = 1000;

/// Promises what nobody keeps.
static BOASTS: Declaration = Declaration::new(&[no_meaning("spec", "so it says")]);

static BOASTER: Capabilities = Capabilities {
    name: "simulated",
    grace: Grace::Exact,
    restarts: true,
    heeds: Heeds::NOTHING,
    pod_spec: &BOASTS,
    inputs: InputNeeds::NOTHING,
};

/// Older than a listing may be without saying so.
const OLD: Duration = Duration::from_secs(120);

#[async_trait]
impl Backend for Liar {
    fn capabilities(&self) -> &Capabilities {
        match self.guard {
            Guard::FieldIgnored => &BOASTER,
            _ => self.honest.capabilities(),
        }
    }

    fn nodes(&self) -> BoxStream<'static, NodeSet> {
        self.honest.nodes()
    }

    async fn ensure(&self, pod: &PodRequest, cx: &PodCx) -> Result<(), BackendError> {
        match self.guard {
            Guard::EnsureDoesNothing => return Ok(()),
            Guard::MetadataUntold if pod.change == PodChange::Metadata => return Ok(()),
            Guard::EnsureStartsAgain => self.honest.remote.start_beside(&pod.key.uid),
            Guard::GivesUp if self.kept.lock().unwrap().failed.contains(&pod.key.uid) => {
                return Err(BackendError::Unavailable {
                    message: "not asked any more".into(),
                    retry: None,
                });
            }
            Guard::RepeatsAtOnce => {
                for _ in 0..HASTE.1 {
                    match self.honest.ensure(pod, cx).await {
                        Err(BackendError::Unavailable { .. }) => tokio::time::sleep(HASTE.0).await,
                        answer => return answer,
                    }
                }
            }
            _ => {}
        }
        let answer = self.honest.ensure(pod, cx).await;
        if matches!(answer, Err(BackendError::Unavailable { .. })) {
            self.kept.lock().unwrap().failed.insert(pod.key.uid.clone());
        }
        answer
    }

    async fn stop(&self, pod: &PodKey, grace: Duration) -> Result<(), BackendError> {
        if self.guard == Guard::StopFindsNothing {
            return Err(BackendError::NotFound);
        }
        if self.guard == Guard::StopNotTaken {
            return Ok(());
        }
        if self.guard == Guard::NoDeadline {
            // Goes on when nobody waits for it any more.
            let (honest, pod) = (self.honest.clone(), pod.clone());
            let call = tokio::spawn(async move { honest.stop(&pod, grace).await });
            return match call.await {
                Ok(answer) => answer,
                Err(panic) => std::panic::resume_unwind(panic.into_panic()),
            };
        }
        self.honest.stop(pod, grace).await
    }

    async fn release(&self, pod: &PodKey) -> Result<(), BackendError> {
        if self.guard == Guard::ReleaseKeeps {
            return Ok(());
        }
        self.honest.release(pod).await
    }

    async fn list(&self) -> Result<Listing, BackendError> {
        let mut listing = self.honest.list().await?;
        let dice = &self.honest.dice;
        match self.guard {
            Guard::PartialListingCalledComplete => {
                listing.pods.retain(|_| dice.percent(70));
                listing.complete = true;
            }
            Guard::OldListingCalledNew => {
                listing.pods = self.honest.remote.list_of(dice.within(OLD)).0;
            }
            Guard::KeepsWhatIsGone => {
                let ended = &mut self.kept.lock().unwrap().ended;
                let now = listing.pods.iter().filter(|facts| facts.ended);
                ended.extend(now.map(|facts| (facts.key.uid.clone(), facts.clone())));
                let there: HashSet<Uid> = listing.pods.iter().map(|f| f.key.uid.clone()).collect();
                for (_, facts) in ended.iter_mut().filter(|(uid, _)| !there.contains(uid)) {
                    facts.seq += NEWER;
                    listing.pods.push(facts.clone());
                }
            }
            _ => {}
        }
        let guard = self.guard;
        listing.pods = listing
            .pods
            .into_iter()
            .map(|facts| told(guard, facts))
            .collect();
        Ok(listing)
    }

    fn changes(&self) -> BoxStream<'static, Change> {
        let guard = self.guard;
        let tell = move |change| match change {
            Change::Facts(facts) => Change::Facts(Box::new(told(guard, *facts))),
            other => other,
        };
        self.honest.changes().map(tell).boxed()
    }
}

/// Facts as the liar tells them.
fn told(guard: Guard, mut facts: PodFacts) -> PodFacts {
    let running =
        |facts: &PodFacts| matches!(facts.containers[0].state, ContainerState::Running { .. });
    match guard {
        Guard::EndReportedEarly if running(&facts) => {
            facts.ended = true;
            facts.containers[0].state =
                ContainerState::Terminated(vk_provider::Terminated::default());
        }
        Guard::EndNeverReported if facts.ended => {
            facts.ended = false;
            facts.containers[0].state = ContainerState::Unknown;
        }
        _ => {}
    }
    facts
}
