use std::time::{Duration, Instant};

use vk_sandbox::flightctl::{JournalEntry, Occurrence};

use super::{BUSY, FLEET, NODE};
use crate::World;

const V1: &str = include_str!("s4-update.yaml");
const V2: &str = include_str!("s4-update-v2.yaml");
const OLD: &str = "gcr.io/google-samples/hello-app:1.0";
const NEW: &str = "gcr.io/google-samples/hello-app:2.0";
/// The user's, on a device that has the image.
const UPDATED: Duration = Duration::from_secs(15);

impl World {
    pub fn s4_update(&mut self) {
        self.update_test_runs();
        let uid = self.jsonpath("default", "update-test", "{.metadata.uid}");
        assert_eq!(self.what_update_test_is(), format!("v1 {OLD} {OLD}"));

        // As typed it changes a variable, too: Kubernetes itself refuses, and all
        // of it.
        let refused = self.plane.apply(&self.on_its_node(V2));
        assert!(!refused.success, "{}", refused.text);
        for word in [
            "\"update-test\" is invalid",
            "Forbidden",
            "pod updates may not change",
        ] {
            assert!(refused.text.contains(word), "{}", refused.text);
        }
        assert_eq!(self.what_update_test_is(), format!("v1 {OLD} {OLD}"));

        // Label and image may change.
        let begun = Instant::now();
        self.apply(
            &self
                .on_its_node(V2)
                .replace("value: \"2.0\"", "value: \"1.0\""),
        );
        let updated = format!("v2 {NEW} {NEW}");
        self.until("S4: the new image runs", |w| {
            w.what_update_test_is() == updated
        });
        self.update_test_is_ready();
        let took = begun.elapsed();
        assert!(took < UPDATED + BUSY, "the update took {took:?}");
        assert_eq!(
            self.jsonpath("default", "update-test", "{.metadata.uid}"),
            uid,
            "it is the same pod"
        );
        let described = self.plane.ok(&["describe", "pod", "update-test"]);
        assert!(
            described.contains(&format!("Image:          {NEW}")),
            "{described}"
        );
        let told = self.story("default", "update-test");
        let killing = "Killing Container app definition changed, will be restarted";
        assert!(told.iter().any(|event| event == killing), "{told:?}");
        self.old_ends_before_new_starts(&format!("vk-{uid}"));
    }

    /// By what happened on the device, whatever anyone reports.
    fn old_ends_before_new_starts(&self, app: &str) {
        let journals = (1..=self.flightctl.alone()).map(|n| self.flightctl.journal(n));
        let journal: Vec<_> = journals.flatten().filter(|e| e.app == app).collect();
        let happened: Vec<_> = journal.iter().map(|e| (&*e.image, happened(e))).collect();
        let story = [(OLD, "start"), (OLD, "stop"), (OLD, "exit"), (NEW, "start")];
        assert_eq!(happened, story, "{journal:#?}");
        println!("S4: nothing ran for {:#}", journal[3].at - journal[2].at);
    }

    pub fn update_test_runs(&mut self) {
        self.apply(&self.on_its_node(V1));
        self.update_test_is_ready();
    }

    /// As typed; where there is a single device, and it is of no fleet, on its node.
    fn on_its_node(&self, manifest: &str) -> String {
        match self.flightctl.alone() {
            1 => manifest.replace(FLEET, NODE),
            _ => manifest.to_owned(),
        }
    }

    fn update_test_is_ready(&mut self) {
        let ready = "{.status.conditions[?(@.type=='Ready')].status}";
        self.until("S4: update-test is Ready", |w| {
            w.jsonpath("default", "update-test", ready) == "True"
        });
    }

    /// Its label, the image that it asks for and the one that it has.
    fn what_update_test_is(&self) -> String {
        let path = "{.metadata.labels.version} {.spec.containers[0].image} \
                    {.status.containerStatuses[0].image}";
        self.jsonpath("default", "update-test", path)
    }
}

fn happened(entry: &JournalEntry) -> &'static str {
    match entry.event {
        Occurrence::Start => "start",
        Occurrence::Stop => "stop",
        Occurrence::Exit(_) => "exit",
    }
}
