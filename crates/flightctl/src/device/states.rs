//! What may come over a device, and what it is called in conditions, events and
//! metrics: pure. `docs/devices.md` has a row for each.

use std::collections::BTreeMap;

use super::DeviceView;

/// Something about a device that people have to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// A Fleet resource owns it.
    Owned,
    /// It is on its way out of Flight Control.
    Decommissioned,
    /// Not heard of, powered off or starting.
    Away,
    /// Flight Control's database was put back, and it renders nothing for it.
    Paused,
    /// Its agent says that a resource is nearly used up.
    Alert,
    /// It is getting another image of its operating system.
    UpdatingOs,
    /// It takes changes only at certain times.
    UpdateWindow,
}

/// What a state is called.
#[derive(Debug)]
pub struct Names {
    /// Type of the node's condition, which is True while a device is in that state;
    /// that of `Owned` is [`crate::fleet`]'s `FleetManaged`.
    pub condition: &'static str,
    /// Reason of that condition while it is False.
    pub none: &'static str,
    /// Reason of the event with which it begins.
    pub begins: &'static str,
    /// Reason of the event with which it ends.
    pub ends: &'static str,
}

impl State {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Owned,
        Self::Decommissioned,
        Self::Away,
        Self::Paused,
        Self::Alert,
        Self::UpdatingOs,
        Self::UpdateWindow,
    ];

    /// Its names.
    pub fn names(self) -> Names {
        let [condition, none, begins, ends] = match self {
            Self::Owned => [
                "FleetManaged",
                "DevicesWritable",
                "DeviceOwned",
                "DeviceReleased",
            ],
            Self::Decommissioned => [
                "DevicesDecommissioned",
                "NoneDecommissioned",
                "DeviceDecommissioned",
                "DeviceEnrolledAgain",
            ],
            Self::Away => ["DevicesAway", "NoneAway", "DeviceAway", "DeviceBack"],
            Self::Paused => [
                "DevicesPaused",
                "NonePaused",
                "DevicePaused",
                "DeviceResumed",
            ],
            Self::Alert => [
                "DevicesAlerting",
                "NoAlerts",
                "DeviceAlert",
                "DeviceAlertOver",
            ],
            Self::UpdatingOs => [
                "DevicesUpdatingOS",
                "NoneUpdatingOS",
                "DeviceUpdatingOS",
                "DeviceUpdatedOS",
            ],
            Self::UpdateWindow => [
                "DevicesWithUpdateWindow",
                "NoUpdateWindows",
                "DeviceUpdateWindow",
                "DeviceUpdateWindowOver",
            ],
        };
        Names {
            condition,
            none,
            begins,
            ends,
        }
    }

    /// Whether people have to do something about it.
    pub fn is_trouble(self) -> bool {
        !matches!(self, Self::UpdatingOs | Self::UpdateWindow)
    }
}

/// `Device.spec.updatePolicy.updateSchedule`: outside it the agent applies nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpdateWindow {
    /// Cron expression of its beginnings.
    pub at: String,
    /// IANA name, or `Local`: the device's own.
    pub zone: String,
    /// For how long after that an update may begin.
    pub grace: String,
}

impl DeviceView {
    /// What it is in, each with a sentence.
    pub fn states(&self) -> BTreeMap<State, String> {
        let owned = self.owner.as_ref().map(|owner| {
            format!("owned by {owner}: Flight Control refuses pods on it; take it out of the Fleet's selector")
        });
        let away = match self.summary.as_str() {
            _ if self.offline() => Some("offline"),
            "Unknown" if self.not_yet_seen() => Some("not seen yet by Flight Control"),
            "PoweredOff" => Some("powered off"),
            "Rebooting" => Some("rebooting"),
            _ => None,
        };
        let paused = match self.summary.as_str() {
            status @ ("AwaitingReconnect" | "ConflictPaused") => Some(format!("paused ({status})")),
            _ => None,
        };
        let os = self.os_update.as_ref().map(|image| {
            format!("updates its operating system to {image}, and takes nothing else before that is done")
        });
        let window = self.window.as_ref().map(|window| {
            format!(
                "applies changes only at {:?} ({} time) and for {} after, by its updatePolicy",
                window.at, window.zone, window.grace
            )
        });
        let all = [
            (State::Owned, owned),
            (
                State::Decommissioned,
                self.decommissioned().then(|| "decommissioned".into()),
            ),
            (State::Away, away.map(str::to_owned)),
            (State::Paused, paused),
            (State::Alert, self.alerts()),
            (State::UpdatingOs, os),
            (State::UpdateWindow, window),
        ];
        let told = all.into_iter();
        told.filter_map(|(state, why)| Some((state, why?)))
            .collect()
    }

    fn alerts(&self) -> Option<String> {
        let mut all = Vec::new();
        for (what, critical) in [
            ("cpu", self.critical.cpu),
            ("memory", self.critical.memory),
            ("disk", self.critical.disk),
        ] {
            if critical {
                all.push(what);
            }
        }
        let blocked = match self.takes_no_update() {
            true => "; its agent takes no change before that is over",
            false => "",
        };
        (!all.is_empty()).then(|| format!("critical alert of {}{blocked}", all.join(" and ")))
    }

    /// Its agent lets no update through while processor or memory are nearly used up.
    fn takes_no_update(&self) -> bool {
        self.critical.cpu || self.critical.memory
    }

    /// Why it counts for nothing in its node's allocatable, if so.
    pub fn out_of_service(&self) -> Option<String> {
        let mut states = self.states();
        // One that starts is back in a minute: its room stays its node's.
        let away = (self.summary != "Rebooting").then_some(State::Away);
        let out = [
            Some(State::Owned),
            Some(State::Decommissioned),
            away,
            Some(State::Paused),
        ];
        let why = out
            .into_iter()
            .flatten()
            .find_map(|state| states.remove(&state));
        // Until it has reported, nothing is known of what it can run.
        why.or_else(|| {
            self.architecture
                .is_none()
                .then(|| "has not reported yet".into())
        })
    }

    /// Why it takes no pods now.
    pub fn closed(&self) -> Option<String> {
        self.out_of_service()
            .or_else(|| self.alerts().filter(|_| self.takes_no_update()))
            .or_else(|| {
                let often = "it came and went too often lately";
                self.flapping.then(|| often.into())
            })
    }

    /// Why a pod would wait there, if so.
    pub fn hindered(&self) -> Option<String> {
        let mut states = self.states();
        let mut slow = [
            State::Away,
            State::UpdatingOs,
            State::UpdateWindow,
            State::Alert,
        ]
        .into_iter();
        slow.find_map(|state| states.remove(&state))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(spec: &serde_json::Value, status: &serde_json::Value) -> DeviceView {
        let mut status = status.clone();
        if status["systemInfo"].is_null() {
            status["systemInfo"] = json!({"architecture": "amd64"});
        }
        DeviceView::of(&json!({"metadata": {"name": "d"}, "spec": spec, "status": status})).unwrap()
    }

    #[test]
    fn an_alert_of_processor_or_memory_closes_a_device_and_one_of_its_disk_does_not() {
        for (what, closes) in [("cpu", true), ("memory", true), ("disk", false)] {
            let device = read(&json!({}), &json!({"resources": {what: "Critical"}}));
            assert!(device.states()[&State::Alert].contains(what));
            assert_eq!(device.closed().is_some(), closes, "{what}");
            assert_eq!(device.out_of_service(), None);
            assert!(device.hindered().is_some());
        }
        let warned = read(&json!({}), &json!({"resources": {"cpu": "Warning"}}));
        assert!(warned.states().is_empty());
    }

    #[test]
    fn another_image_that_is_on_its_way_is_an_update_of_the_os() {
        let spec = json!({"os": {"image": "quay.io/os:2"}});
        let status = |image: &str, updating: &str| {
            json!({
                "os": {"image": image},
                "conditions": [{"type": "Updating", "status": updating, "reason": "ApplyingUpdate"}],
            })
        };
        let device = read(&spec, &status("quay.io/os:1", "True"));
        assert!(device.states()[&State::UpdatingOs].contains("quay.io/os:2"));
        assert!(device.closed().is_none() && device.hindered().is_some());
        for status in [
            status("quay.io/os:2", "True"),
            status("quay.io/os:1", "False"),
        ] {
            assert!(read(&spec, &status).states().is_empty());
        }
    }

    #[test]
    fn a_window_for_updates_is_told_as_it_is_written() {
        let spec = json!({"updatePolicy": {"updateSchedule": {
            "at": "0 2 * * *", "timeZone": "Europe/Paris", "startGraceDuration": "1h",
        }}});
        let device = read(&spec, &json!({}));
        let said = &device.states()[&State::UpdateWindow];
        assert!(
            said.contains("\"0 2 * * *\" (Europe/Paris time) and for 1h"),
            "{said}"
        );
        assert!(device.closed().is_none());
    }

    #[test]
    fn a_paused_device_says_by_which_of_flight_controls_words() {
        for status in ["AwaitingReconnect", "ConflictPaused"] {
            let device = read(&json!({}), &json!({"summary": {"status": status}}));
            assert!(device.states()[&State::Paused].contains(status));
            assert!(device.closed().is_some());
        }
    }

    #[test]
    fn a_device_that_starts_keeps_its_room() {
        let device = read(&json!({}), &json!({"summary": {"status": "Rebooting"}}));
        assert!(device.usable() && device.hindered().is_some());
        let mut owned = device.clone();
        owned.owner = Some("Fleet/f".into());
        assert!(!owned.usable());
        let mut leaving = device;
        leaving.lifecycle = "Decommissioning".into();
        assert!(!leaving.usable());
    }
}
