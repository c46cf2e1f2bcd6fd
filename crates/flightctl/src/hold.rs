//! Why a pod is kept out of its device's spec for now, and for how long.
//! Synchronous and without I/O.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use tokio::time::Instant;
use vk_provider::{BackendError, Revision, Uid};

use crate::blame::{self, Kind};
use crate::mapping::Expected;

/// First wait after a refusal, doubled up to [`LONGEST`]: the kubelet's back-off for
/// images and containers.
const FIRST: Duration = Duration::from_secs(10);
/// Longest wait.
const LONGEST: Duration = Duration::from_secs(300);
/// Doublings of the first wait; as many go beyond the longest.
const DOUBLINGS: u32 = 5;
/// A wait is longer by up to a tenth of it, another tenth for each pod: those that
/// were refused together are not tried together for ever.
const SPREAD: u32 = 10;
/// The framework asks again after this while it is not the pod's turn; when it is,
/// it is told.
const ASK_AGAIN: Duration = Duration::from_secs(300);

/// Kubelet's words for a pod that its device refuses.
pub(crate) const PULL_ERROR: &str = "ErrImagePull";
pub(crate) const PULL_BACK_OFF: &str = "ImagePullBackOff";
pub(crate) const CREATE_ERROR: &str = "CreateContainerError";
pub(crate) const CONFIG_ERROR: &str = "CreateContainerConfigError";

/// What a device said of a version that it did not take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// The pod is to blame for it.
    Refused {
        /// What is wrong.
        kind: Kind,
        /// The device's words.
        words: String,
    },
    /// It is not known who is: the pod waits until it is.
    Turn {
        /// The device's words.
        words: String,
    },
}

/// A pod that is kept out.
#[derive(Clone, Debug)]
pub struct Hold {
    /// The revision of it that was refused: another one has not been.
    pub revision: Revision,
    /// What the device said.
    pub why: Why,
    /// Refusals in a row.
    pub tries: u32,
    /// Not before.
    pub until: Instant,
    /// It is in the spec again, or about to be, and not applied yet.
    pub trying: bool,
    /// The device has applied a version without it: it was to blame.
    pub proven: bool,
}

impl Hold {
    /// A pod that was refused, after `before` where it had been so before.
    pub fn new(uid: &Uid, revision: Revision, why: Why, before: Option<&Self>) -> Self {
        let before = before.filter(|b| b.revision == revision);
        let tries = match (&why, before) {
            (Why::Refused { .. }, Some(before)) => before.tries.saturating_add(1),
            (Why::Refused { .. }, None) => 1,
            (Why::Turn { .. }, before) => before.map_or(0, |b| b.tries),
        };
        Self {
            until: Instant::now() + back_off(uid, tries),
            revision,
            why,
            tries,
            trying: false,
            proven: false,
        }
    }

    /// Of a pod that an earlier process was told to keep out, as its status shows it;
    /// it is tried at the next quiet moment.
    pub fn found(pod: &Pod, revision: &Revision) -> Option<Self> {
        let status = pod.status.as_ref()?;
        let all = status.init_container_statuses.iter().flatten();
        let mut all = all.chain(status.container_statuses.iter().flatten());
        let (kind, words) = all.find_map(|container| {
            let waiting = container.state.as_ref()?.waiting.as_ref()?;
            let kind = match waiting.reason.as_deref()? {
                PULL_ERROR | PULL_BACK_OFF => Kind::Pull,
                CREATE_ERROR => Kind::Unit,
                _ => return None,
            };
            let message = waiting.message.as_deref().unwrap_or_default();
            let words = message
                .split_once("\": ")
                .map_or(message, |(_, words)| words);
            Some((kind, words.to_owned()))
        })?;
        Some(Self {
            revision: revision.clone(),
            why: Why::Refused { kind, words },
            tries: 0,
            until: Instant::now(),
            trying: false,
            proven: true,
        })
    }

    /// Whether its time has come, on a device that has a moment for it.
    pub fn is_due(&self) -> bool {
        matches!(self.why, Why::Refused { .. }) && !self.trying && self.until <= Instant::now()
    }

    /// Each try starts anew what runs of the pod: they are as far apart as can be.
    pub fn disturbs(&mut self, uid: &Uid) {
        self.until = Instant::now() + back_off(uid, DOUBLINGS + 1);
    }

    /// It had its turn, and could not be written: that is no refusal.
    pub fn not_tried(&mut self) {
        self.trying = false;
        self.until = Instant::now() + FIRST;
    }

    /// What whoever asks for the pod is answered; `reason` and message are its event.
    pub fn answer(&self, device: &str, images: &[String]) -> BackendError {
        let left = self.until.saturating_duration_since(Instant::now());
        let (reason, message, retry) = match &self.why {
            Why::Refused {
                kind: Kind::Pull,
                words,
            } => ("BackOff", backing_off(words, images), left),
            Why::Refused { kind, words } => {
                ("Failed", format!("Error: {}: {words}", error(*kind)), left)
            }
            Why::Turn { words } => ("DeviceUpdateFailed", turn(device, words), ASK_AGAIN),
        };
        BackendError::Waiting {
            reason: reason.into(),
            message,
            retry: Some(if retry.is_zero() { ASK_AGAIN } else { retry }),
        }
    }
}

/// The images of an application, as its units spell them.
pub(crate) fn images_of(expected: &Expected) -> Vec<String> {
    expected.members.iter().map(|m| m.image.clone()).collect()
}

/// The kubelet's sentence, with the device's words for its cause.
pub(crate) fn backing_off(words: &str, images: &[String]) -> String {
    match images.iter().find(|image| blame::names_image(words, image)) {
        Some(image) => format!("Back-off pulling image \"{image}\": {words}"),
        None => words.to_owned(),
    }
}

/// The kubelet's word for what is wrong with a pod whose images are there.
pub(crate) fn error(kind: Kind) -> &'static str {
    match kind {
        Kind::Config => CONFIG_ERROR,
        Kind::Pull | Kind::Unit | Kind::Device => CREATE_ERROR,
    }
}

/// Why a pod waits that may not be to blame.
pub(crate) fn turn(device: &str, words: &str) -> String {
    format!(
        "Device {device} refused an update of several pods without saying which of them it refuses; it is being found out: {words}"
    )
}

/// The wait after so many refusals.
fn back_off(uid: &Uid, tries: u32) -> Duration {
    let doublings = tries.saturating_sub(1).min(DOUBLINGS);
    let wait = FIRST.saturating_mul(1 << doublings).min(LONGEST);
    let spread = crc32fast::hash(format!("{uid}/{tries}").as_bytes()) % 1000;
    wait + wait / SPREAD * spread / 1000
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn refused(words: &str) -> Why {
        Why::Refused {
            kind: Kind::Pull,
            words: words.into(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn waits_double_from_ten_seconds_to_five_minutes_and_a_tenth_more_at_most() {
        let (uid, revision) = (Uid::new("u"), Revision::from_text("r"));
        let mut hold: Option<Hold> = None;
        for seconds in [10, 20, 40, 80, 160, 300, 300, 300] {
            let next = Hold::new(&uid, revision.clone(), refused("no"), hold.as_ref());
            let wait = next.until - Instant::now();
            let least = Duration::from_secs(seconds);
            assert!(wait >= least && wait <= least + least / SPREAD, "{wait:?}");
            assert!(!next.is_due());
            hold = Some(next);
        }
        let other = Hold::new(&uid, Revision::from_text("s"), refused("no"), hold.as_ref());
        assert_eq!(other.tries, 1, "another image begins anew");
        let spread: std::collections::BTreeSet<Duration> = (0..20)
            .map(|n| back_off(&Uid::new(format!("u{n}").as_str()), 6))
            .collect();
        assert!(spread.len() > 15, "not all at one time");
    }

    #[tokio::test(start_paused = true)]
    async fn what_an_earlier_process_kept_out_is_told_by_the_pods_status() {
        let of = |reason: &str, message: &str| {
            let pod: Pod = serde_json::from_value(json!({"status": {"containerStatuses": [
                {"name": "a", "image": "a", "imageID": "", "ready": false, "restartCount": 0,
                 "state": {"waiting": {"reason": "ContainerCreating"}}},
                {"name": "b", "image": "b", "imageID": "", "ready": false, "restartCount": 0,
                 "state": {"waiting": {"reason": reason, "message": message}}},
            ]}}))
            .unwrap();
            Hold::found(&pod, &Revision::from_text("r"))
        };
        let images = ["docker.io/library/b:1".to_owned()];
        let words =
            "While Preparing: prefetch failed for docker.io/library/b:1: authentication failed";
        let shown = backing_off(words, &images);
        let hold = of(PULL_BACK_OFF, &shown).unwrap();
        assert_eq!(hold.why, refused(words));
        assert_eq!(
            backing_off(words, &images),
            shown,
            "said again it is the same"
        );
        assert!(hold.is_due());
        assert!(of("ContainerCreating", "").is_none());
        assert!(of("FleetManaged", "x").is_none());
    }
}
