//! An update of an image (S4), told by Podman's own journal.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::registry::REGISTRY;
use super::{Device, IMAGE, describe, ready};
use vk_flightctl::mapping::app_id;

/// Another name of the same image, which the device has.
const NEWER: &str = "localhost/busybox:2";
/// What users are promised where the device has the image.
const SOON: Duration = Duration::from_secs(15);
/// Pods whose images change.
const UPDATED: &str = "good-3";
const SPOILT: &str = "good-4";

/// What happened to a container: when, since 1970, and what.
struct Event {
    at: Duration,
    what: String,
    image: String,
}

impl Device {
    pub fn an_update_follows_without_overlap(&mut self) {
        self.edge.machine.ok(&["podman", "tag", IMAGE, NEWER]);
        let others = self.runs(&[UPDATED]);
        let asked = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        self.new_image(UPDATED, NEWER);
        self.until("the new image is shown, and Ready", |e| {
            shown_image(e) == NEWER && ready(e, UPDATED) == 1
        });
        let journal = self.journal(UPDATED);
        let told = |event: &Event| (event.what.clone(), event.image.clone());
        let expected = [("start", IMAGE), ("died", IMAGE), ("start", NEWER)];
        let expected = expected.map(|(what, image)| (what.to_owned(), image.to_owned()));
        assert_eq!(
            journal.iter().map(told).collect::<Vec<_>>(),
            expected,
            "the old one ends, and then the new one begins"
        );
        let [_, ended, began] = journal.as_slice() else {
            unreachable!("three were expected");
        };
        let (took, down) = (began.at - asked, began.at - ended.at);
        println!("the update runs after {took:.1?}, of which nothing ran for {down:.1?}");
        assert!(took < SOON, "{took:?}");
        self.undisturbed(&others);
    }

    /// An agent goes back from a version that failed as to another one: it starts anew
    /// what the version would have changed, as it was.
    pub fn an_update_that_fails_keeps_the_old_one_running(&mut self) {
        let others = self.runs(&[SPOILT]);
        let image = format!("{REGISTRY}/team/gone:1");
        self.new_image(SPOILT, &image);
        self.until("an event says what is wrong with the update", |e| {
            let words = format!(
                "Back-off pulling image \"{image}\": While Preparing: prefetch failed for {image}: "
            );
            describe(e, SPOILT).contains(&words)
        });
        self.until("the device runs what it did", |e| {
            e.status()["updated"]["status"] == "UpToDate" && ready(e, SPOILT) == 1
        });
        let status = |path: &str| {
            let path = format!("{{.status.containerStatuses[0].{path}}}");
            self.edge.world.jsonpath("default", SPOILT, &path)
        };
        assert_eq!(status("image"), IMAGE);
        assert!(status("state").contains("running"), "{}", status("state"));
        let journal = self.journal(SPOILT);
        assert!(journal.iter().all(|event| event.image == IMAGE));
        assert_eq!(journal.last().unwrap().what, "start", "it runs");
        self.undisturbed(&others);
        self.new_image(SPOILT, IMAGE);
    }

    fn new_image(&self, pod: &str, image: &str) {
        let (pod, image) = (format!("pod/{pod}"), format!("app={image}"));
        self.edge.world.plane.ok(&["set", "image", &pod, &image]);
    }

    /// Starts and ends of a pod's containers, as Podman wrote them down.
    fn journal(&self, pod: &str) -> Vec<Event> {
        let filter = format!("container={}-app", app_id(&self.edge.app(pod)));
        let format = "{{.TimeNano}} {{.Status}} {{.Image}}";
        let events = [
            "podman",
            "events",
            "--stream=false",
            "--since=1h",
            "--filter",
            &filter,
        ];
        let events = [&events, ["--format", format].as_slice()].concat();
        let all = self.edge.machine.ok(&events);
        let all = all.lines().map(|line| {
            let [at, what, image] = line.split(' ').collect::<Vec<_>>()[..] else {
                panic!("{line}");
            };
            let at = Duration::from_nanos(at.parse().unwrap());
            let (what, image) = (what.to_owned(), image.to_owned());
            Event { at, what, image }
        });
        all.filter(|event| ["start", "died"].contains(&event.what.as_str()))
            .collect()
    }
}

fn shown_image(edge: &super::Edge) -> String {
    let path = "{.status.containerStatuses[0].image}";
    edge.world.jsonpath("default", UPDATED, path)
}
