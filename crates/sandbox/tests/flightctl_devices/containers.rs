//! Containers under systemd: restarts, pods, init containers, operators.

use std::time::Duration;

use serde_json::Value;
use tokio::time::sleep;
use vk_sandbox::flightctl::{Occurrence, Script};

use crate::flightctl_client::{app, call, container_app, deploy, quadlet};
use crate::{idle, reported, starts};

const INSTALL: &str = "[Install]\nWantedBy=default.target\n";

#[tokio::test(start_paused = true)]
async fn restart_policies_show_as_measured() {
    let (service, device) = idle().await;
    device.script(Script::image("quay.io/x/zero:1").exits(Duration::from_secs(2), 0));
    device.script(Script::image("quay.io/x/three:1").exits(Duration::from_secs(2), 3));
    let unit = |name: &str, image: &str, more: &str| container_app(name, image, more);
    deploy(
        &service,
        "d1",
        &[
            unit("never-0", "quay.io/x/zero:1", "[Service]\nRestart=no"),
            unit("never-3", "quay.io/x/three:1", "[Service]\nRestart=no"),
            unit(
                "fail-0",
                "quay.io/x/zero:1",
                "[Service]\nRestart=on-failure\nRestartSec=5",
            ),
            unit(
                "fail-3",
                "quay.io/x/three:1",
                "[Unit]\nStartLimitIntervalSec=0\n[Service]\nRestart=on-failure\nRestartSec=1000",
            ),
            unit("limit", "quay.io/x/zero:1", "[Service]\nRestart=always"),
        ],
    )
    .await;
    device.script(Script::app("limit").exits(Duration::from_millis(100), 0));
    sleep(Duration::from_secs(60)).await;
    assert_eq!(
        reported(&device),
        [
            "fail-0 Completed 0/1 r0",
            "fail-3 Error 0/1 r0",
            "limit Completed 0/1 r4",
            "never-0 Completed 0/1 r0",
            "never-3 Error 0/1 r0",
        ]
    );
    let summary = &device.value().unwrap()["status"]["applicationsSummary"];
    assert_eq!(summary["status"], "Error");
    assert_eq!(
        summary["info"],
        "fail-3 is in status Error, never-3 is in status Error"
    );
}

#[tokio::test(start_paused = true)]
async fn a_never_pod_with_its_marker_runs_once_whatever_restarts() {
    let (service, device) = idle().await;
    device.script(Script::container("app").exits(Duration::from_secs(1), 3));
    let unit = format!(
        "[Unit]\nConditionPathExists=!%E/containers/systemd/job/.app.ran\n[Container]\nImage=quay.io/x/job:1\nContainerName=app\n[Service]\nRestart=no\nExecStartPre=/usr/bin/touch %E/containers/systemd/job/.app.ran\n{INSTALL}"
    );
    deploy(
        &service,
        "d1",
        &[quadlet("job", &[("app.container", &unit)])],
    )
    .await;
    sleep(Duration::from_secs(30)).await;
    assert_eq!(reported(&device), ["job Error 0/1 r0"]);
    device.restart_agent();
    sleep(Duration::from_secs(5)).await;
    assert_eq!(
        reported(&device),
        [""; 0],
        "just restarted: nothing is listed"
    );
    sleep(Duration::from_secs(20)).await;
    assert_eq!(reported(&device), ["job Error 0/1 r0"]);
    device.reboot();
    sleep(Duration::from_secs(60)).await;
    assert_eq!(
        reported(&device),
        ["job Unknown 0/0 r0"],
        "no event since boot"
    );
    assert_eq!(starts(&device.journal(), "quay.io/x/job:1"), 1);
}

#[tokio::test(start_paused = true)]
async fn pods_count_their_infra_container_and_end_by_their_exit_policy() {
    let (service, device) = idle().await;
    device.script(Script::container("one").exits(Duration::from_secs(2), 0));
    device.script(Script::container("two").exits(Duration::from_secs(8), 3));
    let pod = |policy: &str| format!("[Pod]\nPodName=p\n{policy}\n{INSTALL}");
    let member = |name: &str| {
        format!(
            "[Container]\nImage=quay.io/x/{name}:1\nPod=p.pod\nContainerName={name}\n[Service]\nRestart=no\n{INSTALL}"
        )
    };
    let files = |policy: &str, name: &str| {
        let (pod, one, two) = (pod(policy), member("one"), member("two"));
        quadlet(
            name,
            &[
                ("p.pod", &pod),
                ("one.container", &one),
                ("two.container", &two),
            ],
        )
    };
    deploy(
        &service,
        "d1",
        &[
            files("", "stops"),
            files("PodmanArgs=--exit-policy=continue", "stays"),
        ],
    )
    .await;
    device
        .until(|journal| starts(journal, "quay.io/x/two:1") == 2)
        .await;
    sleep(Duration::from_secs(4)).await;
    let now: Vec<String> = device
        .applications()
        .iter()
        .map(|a| format!("{} {} {}", a.name, a.status, a.ready))
        .collect();
    assert_eq!(now, ["stays Running 2/3", "stops Running 2/3"]);
    sleep(Duration::from_secs(20)).await;
    assert_eq!(
        reported(&device),
        ["stays Running 1/3 r0", "stops Error 0/3 r0"]
    );
}

fn init(name: &str, marker: &str, more: &str, next: &str) -> String {
    format!(
        "[Unit]\nStartLimitIntervalSec=0\nConditionPathExists=!%t/ID.{marker}\n{more}OnSuccess={next}.service\n[Container]\nImage=quay.io/x/{name}:1\nPod=p.pod\nContainerName={name}\n[Service]\nRestart=on-failure\nRestartSec=4\nExecStopPost=/bin/sh -c 'if [ \"$$SERVICE_RESULT\" = success ] && [ \"$$EXIT_STATUS\" = 0 ]; then : > %t/ID.{marker}; fi'\n{INSTALL}"
    )
}

#[tokio::test(start_paused = true)]
async fn init_containers_run_one_after_the_other_before_the_app_and_again_after_a_reboot() {
    let (service, device) = idle().await;
    device.script(Script::container("i1").exits_in_turn(vec![
        Some((Duration::from_secs(1), 1)),
        Some((Duration::from_secs(1), 1)),
        Some((Duration::from_secs(1), 0)),
    ]));
    device.script(Script::container("i2").exits(Duration::from_secs(1), 0));
    let (i1, i2) = (
        init("i1", "i1", "", "i2"),
        init(
            "i2",
            "i2",
            "ConditionPathExists=%t/ID.i1\nAfter=i1.service\n",
            "app",
        ),
    );
    let main = format!(
        "[Unit]\nStartLimitIntervalSec=0\nConditionPathExists=%t/ID.i2\nAfter=i2.service\n[Container]\nImage=quay.io/x/app:1\nPod=p.pod\nContainerName=app\n[Service]\nRestart=always\n{INSTALL}"
    );
    let pod = format!(
        "[Pod]\nPodName=p\nPodmanArgs=--exit-policy=continue\n[Service]\nExecStopPost=/bin/rm -f %t/ID.i1 %t/ID.i2\n{INSTALL}"
    );
    let files = [
        ("i1.container", i1.as_str()),
        ("i2.container", &i2),
        ("app.container", &main),
        ("p.pod", &pod),
    ];
    deploy(&service, "d1", &[quadlet("web", &files)]).await;
    device
        .until(|journal| starts(journal, "quay.io/x/app:1") == 1)
        .await;
    let order: Vec<String> = device
        .journal()
        .iter()
        .filter(|e| e.event == Occurrence::Start)
        .map(|e| e.container.clone())
        .collect();
    assert_eq!(order, ["i1", "i1", "i1", "i2", "app"]);
    sleep(Duration::from_secs(20)).await;
    assert_eq!(
        reported(&device),
        ["web Running 2/4 r2"],
        "infra and app, of four"
    );
    device.restart_agent();
    sleep(Duration::from_secs(30)).await;
    assert_eq!(
        starts(&device.journal(), "quay.io/x/app:1"),
        1,
        "the running app is not touched"
    );
    device.reboot();
    device
        .until(|journal| starts(journal, "quay.io/x/app:1") == 2)
        .await;
    assert_eq!(starts(&device.journal(), "quay.io/x/i2:1"), 2);
    deploy(&service, "d1", &[]).await;
    device
        .until(|journal| {
            journal
                .last()
                .is_some_and(|e| e.container == "app" && e.event == Occurrence::Exit(0))
        })
        .await;
    sleep(Duration::from_secs(2)).await;
    assert_eq!(reported(&device), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn an_operator_stops_and_starts_an_application() {
    let (service, device) = idle().await;
    deploy(&service, "d1", &[app("web")]).await;
    sleep(Duration::from_secs(15)).await;
    let act = async |action: &str| {
        let path = format!("POST /devices/d1/applications/web/actions/{action}");
        assert_eq!(call(&service, &path, &Value::Null).await.code, 200);
        sleep(Duration::from_secs(20)).await;
        reported(&device)
    };
    assert_eq!(act("stop").await, ["web Stopped 0/1 r0"]);
    assert_eq!(act("start").await, ["web Running 1/1 r0"]);
    let before = device.journal().len();
    assert_eq!(act("restart").await, ["web Running 1/1 r0"]);
    assert_eq!(device.journal().len(), before + 3);
}
