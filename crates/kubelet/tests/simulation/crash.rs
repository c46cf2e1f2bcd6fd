//! The process is killed at every one of its remote calls, in three ways, and
//! started again: the end is the same and nothing ran twice.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, sleep};
use vk_provider::Uid;

use crate::broken::Guard;
use crate::court::{is_terminal, phase, uid};
use crate::life::{Life, MOMENTS, Moment};
use crate::remote::HEEDED;
use crate::seeds::{alone, stride};
use crate::world::{Kind, NAMESPACE, World};

/// Between a death and the next start, as a Deployment would.
const RESTART: Duration = Duration::from_secs(1);
/// Between two looks of the user.
const LOOK: Duration = Duration::from_millis(250);
/// The user waits this long for anything: back-offs after a death are short.
const PATIENCE: Duration = Duration::from_secs(400);

/// What a run came to: of every pod that ever was, in order, how often it was
/// started; of those that are there in the end, what they show.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Outcome {
    starts: Vec<(String, u32)>,
    shown: BTreeMap<String, String>,
}

struct Story {
    world: World,
    life: Life,
    made: Vec<(String, String)>,
}

impl Story {
    /// Time passes; whoever watches the process starts it again when it died.
    async fn pass(&mut self, time: Duration) {
        let end = Instant::now() + time;
        if !self.life.is_dead() {
            tokio::select! {
                () = tokio::time::sleep_until(end) => return,
                () = self.life.died() => {}
            }
        }
        if self.world.is_up() && self.life.is_dead() {
            self.world.kill();
            sleep(RESTART).await;
            self.life = Life::default();
            self.world.start_with(self.life.clone());
        }
        tokio::time::sleep_until(end).await;
    }

    async fn wait(&mut self, what: &str, met: impl Fn(&World) -> bool) {
        let begun = Instant::now();
        while !met(&self.world) {
            if begun.elapsed() > PATIENCE {
                return self.world.court.wrong(format!("never: {what}"));
            }
            self.pass(LOOK).await;
        }
    }

    async fn shown(&mut self, name: &str, wanted: &str) {
        let what = format!("{name} {wanted}");
        self.wait(&what, |world| {
            let pod = world.cluster.get_value("pods", NAMESPACE, name);
            pod.is_some_and(|pod| phase(&pod) == wanted)
        })
        .await;
    }

    async fn gone(&mut self, name: &str) {
        let what = format!("{name} gone");
        self.wait(&what, |world| {
            world.cluster.get_value("pods", NAMESPACE, name).is_none()
        })
        .await;
    }

    fn make(&mut self, name: &str, policy: &str) {
        self.world.create(name, policy, false, Kind::Plain);
        self.made.push((name.into(), self.uid(name)));
    }

    fn uid(&self, name: &str) -> String {
        let pod = self.world.cluster.get_value("pods", NAMESPACE, name);
        pod.map(|pod| uid(&pod).to_owned()).unwrap_or_default()
    }

    /// Every kind of step once, each begun when the user has seen the one before.
    async fn tell(&mut self) {
        self.make("kept", "Always");
        self.make("once", "Never");
        self.make("job", "OnFailure");
        self.make("held", "Always");
        for name in ["kept", "once", "job", "held"] {
            self.shown(name, "Running").await;
        }
        let held = json!({"metadata": {"finalizers": ["example.com/held"]}});
        self.world.patch("held", &held);
        self.world.remote.exit(&Uid::new(&self.uid("once")), 3);
        self.world.remote.exit(&Uid::new(&self.uid("job")), 0);
        self.world.delete("held", Some(5));
        let image =
            json!([{"name": "app", "image": "app:2", "resources": {"requests": {"cpu": "1"}}}]);
        self.world
            .patch("kept", &json!({"spec": {"containers": image}}));
        self.shown("once", "Failed").await;
        self.shown("job", "Succeeded").await;
        self.wait("held has ended", |world| {
            let pod = world.cluster.get_value("pods", NAMESPACE, "held");
            pod.is_some_and(|pod| is_terminal(phase(&pod)))
        })
        .await;
        self.world
            .patch("held", &json!({"metadata": {"finalizers": null}}));
        self.gone("held").await;
        self.make("held", "Always");
        self.shown("held", "Running").await;
        self.world.delete("held", Some(0));
        self.make("held", "Never");
        self.world.delete("once", None);
        self.shown("held", "Running").await;
        self.lose_places().await;
        // Past the listings that confirm and heal.
        self.pass(Duration::from_secs(70)).await;
    }

    /// One pod is given up and replaced, another is run elsewhere.
    async fn lose_places(&mut self) {
        self.make("lost", "Always");
        self.shown("lost", "Running").await;
        let (lost, kept) = (Uid::new(&self.uid("lost")), Uid::new(&self.uid("kept")));
        for uid in [&lost, &kept] {
            self.world.remote.silence(uid);
        }
        for name in ["lost", "kept"] {
            self.shown(name, "Unknown").await;
        }
        self.world.remote.give_up(&lost);
        self.world.remote.displace(&kept);
        let told = json!({"metadata": {"annotations": {HEEDED: "yes"}}});
        self.world.patch("kept", &told);
        self.gone("lost").await;
        self.shown("kept", "Running").await;
        self.world.remote.hear_again();
        self.wait("lost is released", |world| {
            world.remote.known(lost.as_str()).is_none()
        })
        .await;
    }

    fn outcome(&self) -> Outcome {
        let starts = self
            .made
            .iter()
            .map(|(name, uid)| (name.clone(), self.world.court.fate(uid).starts))
            .collect();
        let pods = self.world.pods();
        let shown = pods.iter().map(|pod| {
            let state = &pod["status"]["containerStatuses"][0]["state"];
            let kind = state.as_object().and_then(|s| s.keys().next().cloned());
            let code = &state["terminated"]["exitCode"];
            let name = pod["metadata"]["name"].as_str().unwrap_or_default();
            (name.to_owned(), format!("{} {kind:?} {code}", phase(pod)))
        });
        Outcome {
            starts,
            shown: shown.collect(),
        }
    }
}

/// The calls of the first life, the outcome, and what was wrong.
async fn run(life: Life) -> (usize, Outcome, Option<String>) {
    let mut world = World::new(7, Guard::Sound);
    world.start_with(life.clone());
    let mut story = Story {
        world,
        life: life.clone(),
        made: Vec::new(),
    };
    story.tell().await;
    let calls = life.calls();
    let outcome = story.outcome();
    story.world.settle().await;
    story.world.kill();
    (calls, outcome, story.world.court.verdict())
}

#[test]
fn killed_at_every_remote_call_the_process_ends_at_the_same_and_runs_nothing_twice() {
    let (calls, wanted, wrong) = alone(run(Life::default()));
    assert_eq!(wrong, None, "without a death");
    assert!(calls > 50, "{calls} calls are no story");
    let shown: Vec<(&str, &str)> = wanted.shown.iter().map(|(n, s)| (&**n, &**s)).collect();
    let expected: [(&str, &str); 3] = [
        ("held", "Running Some(\"running\") null"),
        ("job", "Succeeded Some(\"terminated\") 0"),
        ("kept", "Running Some(\"running\") null"),
    ];
    assert_eq!(shown, expected);
    let deaths: Vec<(usize, Moment)> = (1..=calls)
        .flat_map(|call| MOMENTS.map(|moment| (call, moment)))
        .step_by(stride())
        .collect();
    let next = AtomicUsize::new(0);
    let failed = Mutex::new(Vec::new());
    let work = || {
        while let Some((call, moment)) = deaths.get(next.fetch_add(1, Ordering::Relaxed)) {
            let (_, outcome, wrong) = alone(run(Life::until(*call, *moment)));
            if wrong.is_some() || outcome != wanted {
                let why = wrong.unwrap_or_else(|| format!("{outcome:?}\n  instead of {wanted:?}"));
                failed
                    .lock()
                    .unwrap()
                    .push(format!("call {call} of {calls}, {moment:?}: {why}"));
            }
        }
    };
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(work);
        }
    });
    let failed = failed.into_inner().unwrap();
    println!(
        "{calls} calls, {} deaths, {} failed",
        deaths.len(),
        failed.len()
    );
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
}
