use std::time::{Duration, Instant};

use vk_sandbox::flightctl::Occurrence;

use super::{BUSY, NODE};
use crate::World;

/// From the deletion to a spec without the application.
const SENT: Duration = Duration::from_secs(1);
/// From the container's end to a namespace without the pod: the device reports
/// within 2 s, and is asked every second.
const CONFIRMED: Duration = Duration::from_secs(4);

impl World {
    /// Of the pod of S1, on the device of no fleet.
    pub fn s6_delete(&mut self) {
        let alone = self.flightctl.alone();
        let app = format!(
            "vk-{}",
            self.jsonpath("codeco", "nginx-edge", "{.metadata.uid}")
        );
        let listed = |w: &Self| w.applications(alone).contains(&app);
        assert!(listed(self));
        let begun = Instant::now();
        // Without the wait, which would hide when what happens.
        let delete = [
            "delete",
            "pod",
            "nginx-edge",
            "-n",
            "codeco",
            "--wait=false",
        ];
        self.plane.ok(&delete);
        self.until("S6: the spec is without it", |w| !listed(w));
        let sent = begun.elapsed();
        assert!(sent < SENT + BUSY, "the spec had it for {sent:?}");
        let get = ["get", "pod", "nginx-edge", "-n", "codeco"];
        self.until("S6: nginx-edge is gone", |w| {
            w.plane.kubectl(&get).text.contains("NotFound")
        });
        let gone = jiff::Timestamp::now();
        println!("S6: deleted in {:.1} s", begun.elapsed().as_secs_f64());

        let journal = self.flightctl.journal(alone);
        let last = journal.iter().rfind(|entry| app == entry.app);
        let ended = last.filter(|entry| matches!(entry.event, Occurrence::Exit(_)));
        let ended = ended.unwrap_or_else(|| panic!("it runs: {journal:#?}")).at;
        let shown = Duration::try_from(gone.duration_since(ended));
        let shown = shown.expect("gone from Kubernetes only when it had ended");
        assert!(
            shown < CONFIRMED + BUSY,
            "its end was shown after {shown:?}"
        );
        assert_eq!(
            self.flightctl.running(alone),
            self.applications(alone).len()
        );

        let allocated = self.allocated(NODE);
        for none in ["cpu                0 (0%)", "memory             0 (0%)"] {
            assert!(allocated.contains(none), "its room is free in\n{allocated}");
        }
        let log = self.provider.log();
        let told = |line: &&str| {
            line.contains("removed from the device's spec") && line.contains("nginx-edge")
        };
        assert!(log.lines().any(|line| told(&line)), "{log}");
    }

    /// As the user typed it.
    pub fn cleanup(&mut self) {
        let deployment = ["delete", "deployment", "hello-edge", "--timeout=30s"];
        self.plane.ok(&deployment);
        let pods = [
            "delete",
            "pod",
            "update-test",
            "resilience-test",
            "reconnect-test",
        ];
        self.plane
            .ok(&[&pods[..], &["--ignore-not-found", "--timeout=30s"]].concat());
        self.until("no application is left", |w| {
            (1..=w.flightctl.alone()).all(|n| w.applications(n).is_empty())
        });
    }
}
