//! Prometheus' own tool on the alerts.

use std::process::Command;

use crate::{repository, run};

#[test]
fn prometheus_takes_the_alerts_and_they_come_when_they_should() {
    if Command::new("promtool").arg("--version").output().is_err() {
        println!("SKIPPED: alerts in Prometheus (no promtool: Debian's prometheus)");
        return;
    }
    let promtool = |command: &str, kind: &str, file: &str| {
        let path = repository().join(file);
        let mut promtool = Command::new("promtool");
        run(promtool.args([command, kind]).arg(path))
    };
    promtool("check", "rules", "config/monitoring/rules.yaml");
    let said = promtool("test", "rules", "tests/monitoring/rules_test.yaml");
    assert!(said.contains("SUCCESS"), "{said}");
}
