//! Random operations and faults, from a seed.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::json;
use vk_provider::{PodKey, Uid};
use vk_sandbox::faults::{Effect, Rule};

use crate::broken::Guard;
use crate::court::{Actor, FOREIGN, text, uid};
use crate::remote::HEEDED;
use crate::weather::Faults;
use crate::world::{Kind, NAMESPACE, NODE, World};

/// Operations of one run: enough for three or four lives of each name.
const STEPS: usize = 60;
const NAMES: [&str; 4] = ["a", "b", "c", "d"];
/// Longest pause between two operations.
const PAUSE: Duration = Duration::from_secs(12);
/// What wall clocks are set by, ahead or back, in seconds: a correction, a wrong
/// time zone, a machine that woke up.
const CLOCK_JUMPS: [i64; 3] = [20, 3600, 100_000];

/// One run; what was wrong, if anything.
pub async fn run(seed: u64, guard: Guard) -> Option<String> {
    let mut world = World::new(seed, guard);
    world.start();
    for _ in 0..STEPS {
        world.operate().await;
        // Half of them come in bursts.
        if world.dice.percent(50) {
            tokio::time::sleep(world.dice.within(PAUSE)).await;
        }
        world.look_at_node();
        if world.court.is_broken() {
            break;
        }
    }
    if !world.court.is_broken() {
        world.settle().await;
    }
    world.kill();
    world.court.verdict()
}

impl World {
    async fn operate(&mut self) {
        let name = *self.dice.pick(&NAMES).unwrap();
        let pod = self.cluster.get_value("pods", NAMESPACE, name);
        match self.dice.below(100) {
            0..21 => self.make(name),
            21..24 => self.lose_a_place(pod.as_ref()),
            24 => {
                let heeded = json!({HEEDED: self.dice.below(9).to_string()});
                self.patch(name, &json!({"metadata": {"annotations": heeded}}));
            }
            25..35 => self.delete(name, None),
            35..39 => self.delete(name, Some(1)),
            39..43 => self.delete(name, Some(0)),
            43..49 => {
                // News of the old one is under way when the new one comes.
                if let Some(pod) = pod {
                    self.remote.exit(&Uid::new(uid(&pod)), 3);
                }
                self.delete(name, Some(0));
                self.make(name);
            }
            49..55 => {
                if let Some(pod) = pod {
                    let mut containers = pod["spec"]["containers"].clone();
                    containers[0]["image"] = json!(format!("app:{}", self.dice.below(4)));
                    self.patch(name, &json!({"spec": {"containers": containers}}));
                }
            }
            55..58 => {
                let labels =
                    json!({"metadata": {"labels": {"color": self.dice.below(9).to_string()}}});
                self.patch(name, &labels);
            }
            58..61 => self.patch(name, &json!({"metadata": {"finalizers": null}})),
            61..64 => {
                let _ = self.cluster.delete::<Node>("", NODE, None);
                self.court.note("User deleted the node");
                self.disturbed();
            }
            64..68 => {
                if let Some(pod) = pod {
                    self.add_condition(name, &pod);
                }
            }
            68..77 => {
                if let Some(pod) = pod {
                    let code = i32::try_from(self.dice.below(2)).unwrap() * 3;
                    self.remote.exit(&Uid::new(uid(&pod)), code);
                }
            }
            77..79 => {
                if let Some(pod) = pod {
                    self.remote.lose(&Uid::new(uid(&pod)));
                }
            }
            79..81 => {
                let uid = format!("0rphan-{}", self.dice.below(u64::MAX));
                self.remote.plant(&PodKey::new(NAMESPACE, name, &uid), NODE);
            }
            81..87 => self.restart().await,
            87..90 => self.set_the_clock(),
            _ => self.turn(),
        }
    }

    /// The place of a pod goes silent, is given up, or is back.
    fn lose_a_place(&mut self, pod: Option<&serde_json::Value>) {
        let Some(uid) = pod.map(|pod| Uid::new(uid(pod))) else {
            return self.remote.hear_again();
        };
        self.remote.silence(&uid);
        match self.dice.below(5) {
            0 | 1 => self.remote.give_up(&uid),
            2 | 3 => self.remote.displace(&uid),
            _ => {}
        }
        if self.dice.percent(30) {
            self.remote.hear_again();
        }
    }

    fn make(&mut self, name: &str) {
        let policy = *self.dice.pick(&["Always", "OnFailure", "Never"]).unwrap();
        let finalizer = self.dice.percent(10);
        let kind = match self.dice.below(20) {
            0 | 1 => Kind::Refused,
            2 => Kind::Agent,
            _ => Kind::Plain,
        };
        self.create(name, policy, finalizer, kind);
    }

    fn add_condition(&self, name: &str, pod: &serde_json::Value) {
        let mut all = pod["status"]["conditions"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        all.retain(|condition| text(condition, "/type") != FOREIGN);
        let status = if self.dice.percent(50) {
            "True"
        } else {
            "False"
        };
        all.push(json!({"type": FOREIGN, "status": status, "reason": "Simulated"}));
        let conditions = json!({"status": {"conditions": all}});
        self.cluster
            .patch_status::<Pod>(NAMESPACE, name, &conditions)
            .unwrap();
        self.court.look(Actor::User);
    }

    /// Someone sets the wall clock of the process's machine.
    fn set_the_clock(&mut self) {
        let seconds = *self.dice.pick(&CLOCK_JUMPS).unwrap();
        let sign = if self.dice.percent(50) { 1 } else { -1 };
        self.court
            .note(format!("the clock is set by {} s", sign * seconds));
        self.wall.jump(sign * seconds);
    }

    async fn restart(&mut self) {
        if !self.is_up() {
            self.start();
        } else if self.dice.percent(70) {
            self.kill();
        } else {
            self.stop().await;
        }
        if !self.is_up() && self.dice.percent(50) {
            self.start();
        }
    }

    /// The weather changes: half the time for the better.
    fn turn(&mut self) {
        if self.is_api_disturbed() {
            self.disturbed();
        }
        self.cluster.faults().clear();
        let mut faults = Faults::default();
        if self.dice.percent(50) {
            self.court.note("weather: calm");
            return self.weather.set(faults);
        }
        for _ in 0..=self.dice.below(2) {
            match self.dice.below(10) {
                0 => faults.late_answers = 40,
                1 => faults.watch_lag = Duration::from_secs(6),
                2 => faults.down = true,
                3 => faults.slow = 30,
                4 => faults.answers_lost = 40,
                5 => faults.panics = 15,
                6 => faults.partial = 70,
                7 => faults.listing_lag = Duration::from_secs(40),
                8 => faults.changes_lost = 60,
                _ => faults.changes_late = 60,
            }
        }
        if self.dice.percent(50) {
            self.break_api();
        }
        self.court.note(format!(
            "weather: {faults:?}, {:?}",
            self.cluster.faults().rules()
        ));
        self.weather.set(faults);
    }

    /// Something is on the way to the API server, not only to the remote.
    pub fn is_api_disturbed(&self) -> bool {
        let faults = self.weather.now();
        !self.cluster.faults().rules().is_empty()
            || faults.late_answers > 0
            || !faults.watch_lag.is_zero()
    }

    fn break_api(&mut self) {
        let times = u32::try_from(1 + self.dice.below(6)).unwrap();
        let effect = match self.dice.below(14) {
            0 => Effect::Latency(1000 * self.dice.below(15)),
            1 => Effect::TooManyRequests(1 + self.dice.below(9)),
            2 => Effect::Status(500),
            3 => Effect::Status(503),
            4 => Effect::Status(409),
            5 => Effect::DropConnection,
            6 | 7 => Effect::LoseAnswer,
            8 => Effect::WatchClose,
            9 => {
                self.stalled();
                Effect::WatchStall
            }
            10 => {
                self.cluster.compact();
                Effect::WatchGone
            }
            11 => Effect::WatchRepeat,
            12 => Effect::WatchLag(1000 * (1 + self.dice.below(10))),
            _ => {
                self.stalled();
                Effect::WatchBookmarksOnly
            }
        };
        let tells = matches!(
            effect,
            Effect::WatchRepeat | Effect::WatchLag(_) | Effect::WatchBookmarksOnly
        );
        let paths = if tells {
            ["/pods", "/nodes", ""]
        } else {
            ["/pods", "/pods/", ""]
        };
        let path = *self.dice.pick(&paths).unwrap();
        let mut rule = Rule::always(path, effect.clone());
        // Watches would be closed and opened without end.
        let endless = !matches!(effect, Effect::WatchClose | Effect::WatchGone);
        if !endless || self.dice.percent(60) {
            rule = rule.times(times);
        }
        if matches!(effect, Effect::LoseAnswer | Effect::Status(409)) {
            rule = rule.method(self.dice.pick(&["PATCH", "DELETE", "PUT"]).unwrap());
        }
        self.cluster.faults().add(rule);
    }
}
