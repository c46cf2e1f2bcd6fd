use super::FLEET;
use crate::World;

const MANIFEST: &str = include_str!("s3-too-big.yaml");
/// What the largest device of the fleet has: 4 cores and 8 GiB without the reserve.
const WHY: &str = "FailedScheduling Insufficient resources: \
    requested cpu=100, memory=1000Gi; available cpu=3750m, memory=7680Mi";

impl World {
    pub fn s3_too_big(&mut self) {
        let before = (self.writes(), self.generations());
        self.apply(MANIFEST);
        self.until("S3: resource-hog is Failed", |w| {
            w.jsonpath("default", "resource-hog", "{.status.phase}") == "Failed"
        });
        // As a kubelet words it; kubectl shows the reason, not the phase.
        let shown = self.plane.ok(&["get", "pod", "resource-hog"]);
        let row = shown.lines().nth(1).unwrap_or_default();
        let row: Vec<&str> = row.split_whitespace().collect();
        assert_eq!(row[..3], ["resource-hog", "0/1", "OutOfcpu"], "{shown}");
        self.until("S3: its event", |w| {
            !w.story("default", "resource-hog").is_empty()
        });
        let story = self.story("default", "resource-hog");
        assert!(story[0].starts_with(WHY) && story.len() == 1, "{story:?}");

        let deleted = ["delete", "pod", "resource-hog", "--timeout=10s"];
        self.plane.ok(&deleted);
        let node = self.plane.ok(&["describe", "node", FLEET]);
        assert!(!node.contains("resource-hog"), "{node}");
        let after = (self.writes(), self.generations());
        assert_eq!(after, before, "nothing was sent to Flight Control");
    }
}
