//! A pod's application on its device, as facts and as events. Pure.

use jiff::Timestamp;
use vk_provider::Reach;

use crate::device::{DeviceView, State};
use crate::facts::{Seen, Sight, facts};
use crate::mapping::Expected;
use crate::placed::Placed;

/// What is seen of a pod's containers; `None` while it is not known what the
/// application consists of. `refusal` is what the device does not take, where that is
/// none of ours.
pub fn containers(
    placed: &Placed,
    device: &DeviceView,
    applied: bool,
    refusal: Option<(&'static str, &str)>,
) -> Option<Seen> {
    let expected = match placed
        .application(device)
        .and_then(Expected::of_application)
    {
        Some(expected) => expected,
        None => Expected::of(placed.request.as_deref()?),
    };
    let sight = Sight {
        app: &placed.app,
        device,
        applied,
        refused: placed
            .refused
            .as_ref()
            .map(|(reason, message)| (reason.as_str(), message.as_str())),
        held: placed.hold.as_ref().map(|hold| &hold.why),
        refusal,
        settled: placed.settled(),
        confirmed: placed.confirmed(),
        echo: placed.heard.may_be_echo(),
        ended: placed.heard.ended,
    };
    Some(facts(&expected, &sight))
}

/// Whether the device is heard of; where not, its last known states stand. `since` is
/// when one was found that was never heard of.
pub fn reach(device: &DeviceView, since: Timestamp) -> Reach {
    let (since, reason, message) = if let Some(away) = device.away {
        let why = "is disconnected; the states shown are the last known ones";
        (away.since, DISCONNECTED, why)
    } else if device.not_yet_seen() {
        (
            since,
            NOT_YET_SEEN,
            "has not been seen yet by Flight Control",
        )
    } else {
        return Reach::Reachable;
    };
    Reach::Unreachable {
        since,
        reason: reason.into(),
        message: format!("Device {} {message}", device.shown()),
    }
}

pub(crate) const DISCONNECTED: &str = "DeviceDisconnected";
const NOT_YET_SEEN: &str = "DeviceNotYetSeen";

/// One event of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Told at most once per revision.
    pub reason: &'static str,
    /// For people.
    pub message: String,
    /// `type: Warning`.
    pub warning: bool,
}

/// What the device tells about a pod now; the caller tells each reason once.
pub fn events(placed: &Placed, device: &DeviceView, applied: bool, seen: &Seen) -> Vec<Told> {
    let mut told = Vec::new();
    let normal = |reason, message| Told {
        reason,
        message,
        warning: false,
    };
    let images: Vec<&str> = placed
        .request
        .iter()
        .flat_map(|r| {
            r.spec()
                .init_containers
                .iter()
                .flatten()
                .chain(&r.spec().containers)
        })
        .filter_map(|c| c.image.as_deref())
        .collect();
    let images = images.join(", ");
    let update = &device.updating;
    if placed.is_on_its_way(device) && update.active && update.reason == "Preparing" {
        told.push(normal(
            "Pulling",
            format!(
                "Device {} prepares the update, pulling where needed: {images}",
                device.shown()
            ),
        ));
    }
    if applied {
        told.push(normal(
            "Pulled",
            format!("Image {images} is on device {}", device.shown()),
        ));
    }
    if placed.is_on_its_way(device) {
        let mut states = device.states();
        for state in [State::Alert, State::UpdatingOs, State::UpdateWindow] {
            if let Some(why) = states.remove(&state) {
                told.push(Told {
                    reason: state.names().begins,
                    message: format!("The pod waits for device {}: {why}", device.shown()),
                    warning: state.is_trouble(),
                });
            }
        }
    }
    if let Some((reason, message)) = &seen.trouble {
        told.push(Told {
            reason,
            message: message.clone(),
            warning: true,
        });
    }
    if device.not_yet_seen() {
        told.push(normal(
            NOT_YET_SEEN,
            format!(
                "Device {} has not been seen yet by Flight Control",
                device.shown()
            ),
        ));
    }
    told
}
