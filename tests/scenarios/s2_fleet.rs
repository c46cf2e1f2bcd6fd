use super::FLEET;
use crate::World;

const MANIFEST: &str = include_str!("s2-fleet.yaml");

impl World {
    /// The fleet has the devices 1, 2 and 3.
    pub fn s2_fleet(&mut self) {
        let labels = ["get", "node", FLEET, "--show-labels"];
        let labels = self.plane.ok(&labels);
        assert!(
            labels.contains("flightctl.io/fleet=edge-fleet-1"),
            "{labels}"
        );

        self.apply(MANIFEST);
        let rollout = [
            "rollout",
            "status",
            "deployment/hello-edge",
            "--timeout=60s",
        ];
        self.plane.ok(&rollout);
        let pods = self
            .plane
            .ok(&["get", "pods", "-l", "app=hello-edge", "-o", "wide"]);
        let running = pods
            .lines()
            .filter(|l| l.contains(" 1/1 ") && l.contains(" Running ") && l.contains(FLEET));
        assert_eq!(running.count(), 3, "{pods}");

        let on = "jsonpath={.items[*].metadata.labels.flightctl\\.io/device}";
        let devices = self
            .plane
            .ok(&["get", "pods", "-l", "app=hello-edge", "-o", on]);
        let mut devices: Vec<&str> = devices.split_whitespace().collect();
        devices.sort_unstable();
        let mut fleet = [1, 2, 3].map(|number| self.flightctl.device(number));
        fleet.sort_unstable();
        assert_eq!(devices, fleet, "one each");
        for number in 1..=3 {
            assert_eq!(self.applications(number).len(), 1, "of device {number}");
        }

        let allocated = self.allocated(FLEET);
        for sum in ["150m (1%)", "192Mi (0%)"] {
            assert!(allocated.contains(sum), "3 × 50m and 64Mi in\n{allocated}");
        }
    }
}
