//! What must hold in the end: faults have ceased and time has passed.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use vk_provider::Revision;

use crate::court::{called, is_agent, is_deleting, is_given_up, is_terminal, phase, text, uid};
use crate::remote::{ELSEWHERE, HEEDED};
use crate::weather::Faults;
use crate::world::{NAMESPACE, World};

/// The longest back-off is five minutes, a stalled watch is given up after five
/// more; twice that is for ever.
const LONG: Duration = Duration::from_secs(1200);
/// Between two looks.
const LOOK: Duration = Duration::from_secs(10);

impl World {
    /// All is well from now on; whatever is wanted must come true, and then,
    /// when all is deleted, nothing must be left.
    pub async fn settle(&mut self) {
        if self.is_api_disturbed() {
            self.disturbed();
        }
        self.weather.set(Faults::default());
        self.cluster.faults().clear();
        self.remote.hear_again();
        if !self.is_up() {
            self.start();
        }
        self.court.note("faults cease");
        self.until(Self::unsettled).await;
        self.court.note("everything is deleted");
        for pod in self.pods() {
            let name = text(&pod, "/metadata/name");
            self.patch(name, &json!({"metadata": {"finalizers": null}}));
            self.delete(name, None);
        }
        self.until(Self::left).await;
    }

    async fn until(&mut self, wrongs: impl Fn(&Self) -> Vec<String>) {
        let begun = tokio::time::Instant::now();
        loop {
            tokio::time::sleep(LOOK).await;
            self.look_at_node();
            let wrongs = wrongs(self);
            if wrongs.is_empty() || self.court.is_broken() {
                return;
            }
            if begun.elapsed() > LONG {
                wrongs
                    .iter()
                    .for_each(|wrong| self.court.wrong(format!("in the end {wrong}")));
                return;
            }
        }
    }

    fn unsettled(&self) -> Vec<String> {
        let mut wrongs = Vec::new();
        let remote = self.remote.pods();
        let pods = self.pods();
        for pod in &pods {
            let name = called(pod);
            let there = remote.get(uid(pod));
            let runs = there.is_some_and(|(_, at)| *at == Ok(true));
            if is_deleting(pod) {
                if pod["metadata"]["finalizers"]
                    .as_array()
                    .is_none_or(Vec::is_empty)
                {
                    wrongs.push(format!("{name} is still being deleted"));
                }
                if runs {
                    wrongs.push(format!("{name} is deleted and runs"));
                }
                continue;
            }
            let shown = phase(pod);
            if is_agent(pod) {
                if shown != "Pending" {
                    wrongs.push(format!("the agent {name} is shown {shown}"));
                }
                continue;
            }
            if is_given_up(pod) {
                wrongs.push(format!("{name} is given up and still there"));
            }
            if is_terminal(shown) {
                let code =
                    &pod["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"];
                match there {
                    Some((_, Ok(_))) => wrongs.push(format!("{name} is {shown} and runs")),
                    Some((_, Err(real))) if *code != json!(real) => {
                        wrongs.push(format!("{name} shows exit code {code}, not {real}"));
                    }
                    _ => {}
                }
                continue;
            }
            let typed: Pod = serde_json::from_value(pod.clone()).unwrap();
            let wanted = Revision::of(typed.spec.as_ref().unwrap());
            match there {
                None => wrongs.push(format!("{name} is wanted and not at the remote")),
                Some((_, Err(code))) => {
                    wrongs.push(format!("{name} ended with {code} and is shown {shown}"));
                }
                Some((revision, _)) if *revision != wanted => {
                    wrongs.push(format!("{name} is at revision {revision}, not {wanted}"));
                }
                Some((_, Ok(running))) => {
                    let state = &pod["status"]["containerStatuses"][0]["state"]["running"];
                    if !*running || state.is_null() || shown != "Running" {
                        wrongs.push(format!("{name} is shown {shown} {state}, runs: {running}"));
                    }
                    wrongs.extend(self.misplaced(pod));
                }
            }
        }
        for uid in remote.keys() {
            if !pods.iter().any(|pod| self::uid(pod) == uid) {
                wrongs.push(format!("{uid} is at the remote and not in Kubernetes"));
            }
        }
        wrongs
    }

    /// What is not as it should be after a change of places and of metadata.
    fn misplaced(&self, pod: &Value) -> Vec<String> {
        let mut wrongs = Vec::new();
        let (name, uid) = (called(pod), uid(pod));
        let status = &pod["status"]["containerStatuses"][0];
        let Some((id, heeded)) = self.remote.known(uid) else {
            return wrongs;
        };
        if status["containerID"] != id {
            wrongs.push(format!("{name} shows {}, not {id}", status["containerID"]));
        }
        let moves = self.court.fate(uid).moves;
        if status["restartCount"].as_u64().unwrap_or_default() < moves {
            wrongs.push(format!("{name} was moved {moves} times and shows {status}"));
        }
        let annotations = &pod["metadata"]["annotations"];
        if !annotations[ELSEWHERE].is_null() {
            wrongs.push(format!("{name} runs and is said to be on its way"));
        }
        if annotations[HEEDED].as_str() != heeded.as_deref() {
            wrongs.push(format!("{name}: the remote was told {heeded:?}"));
        }
        wrongs
    }

    fn left(&self) -> Vec<String> {
        let mut wrongs = Vec::new();
        for pod in self.cluster.list_values("pods", Some(NAMESPACE)) {
            wrongs.push(format!("{} is left in Kubernetes", called(&pod)));
        }
        for uid in self.remote.pods().keys() {
            wrongs.push(format!("{uid} is left at the remote"));
        }
        if self.known() > 0 {
            wrongs.push(format!(
                "{} records are left: {}",
                self.known(),
                self.records()
            ));
        }
        wrongs
    }
}
