//! The user's scenarios through kubectl: a real control plane with its default
//! scheduler and controllers, the provider's own binary under the RBAC of
//! `config/rbac.yaml`, and Flight Control on loopback: the sandbox's, and the
//! real service where there is one.

#![allow(
    dead_code,
    unreachable_pub,
    missing_debug_implementations,
    clippy::unwrap_used,
    reason = "modules of one test"
)]

#[path = "../../../../tests/real/harness/mod.rs"]
mod harness;

mod access;
#[path = "../../../../tests/real/harness/agent_link.rs"]
mod agent_link;
mod console;
#[path = "../corpus/mod.rs"]
mod corpus;
mod device;
#[path = "../../../../tests/real/harness/flightctl_service.rs"]
mod flightctl_service;
#[path = "../../../../tests/real/harness/https.rs"]
mod https;
mod inputs;
#[path = "../../../../tests/real/harness/machine.rs"]
mod machine;
#[path = "../../../../tests/real/harness/oidc.rs"]
mod oidc;
#[path = "../../../../tests/scenarios/mod.rs"]
mod scenarios;
mod service;
mod world;

use std::path::PathBuf;
use std::time::Duration;

use flightctl_service::Role;
use harness::control_plane::KUBELET_CLIENT;
use scenarios::{FLEET, NODE};
use service::Service;
use vk_sandbox::flightctl::Script;
use world::{PATIENCE, World, repository};

#[tokio::test(flavor = "multi_thread")]
async fn the_users_scenarios_through_kubectl() {
    let Some(tools) = harness::tools() else {
        return;
    };
    play(tools, Service::sandbox().await, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_users_scenarios_on_the_real_flight_control_service() {
    let (Some(bin), Some(tools)) = (service::binaries(), harness::tools()) else {
        return;
    };
    // Consoles of simulated devices are the sandbox's alone.
    play(tools, Service::real(&bin).await, false).await;
}

async fn play(tools: PathBuf, flightctl: Service, consoles: bool) {
    tokio::task::spawn_blocking(move || {
        let consoles_too = if consoles { console::ENABLED } else { "" };
        let more = format!("{}{consoles_too}", inputs::TRUSTS);
        let mut world = World::start(&tools, flightctl, &more);
        world.nodes_are_there();
        world.s1_deploy();
        world.the_nodes_api_answers();
        world.s2_fleet();
        world.s3_too_big();
        world.s4_update();
        world.s6_delete();
        world.cleanup();
        world.s7_inputs();
        world.s7_token();
        if consoles {
            world.logs_and_processes();
        }
        world.an_operators_rights_are_enough();
        world.the_doctor_finds_nothing_wrong();
        world.the_manifests_are_accepted();
        world.sigterm_keeps_node_and_pods();
    })
    .await
    .unwrap();
}

impl World {
    fn nodes_are_there(&mut self) {
        self.until("two nodes are Ready", |w| {
            let nodes = w.plane.kubectl(&["get", "nodes"]).text;
            [FLEET, NODE].iter().all(|name| {
                nodes
                    .lines()
                    .any(|l| l.starts_with(name) && l.contains(" Ready ") && l.contains("agent"))
            })
        });
        // A device that has just enrolled counts from its first saved sign on.
        self.until("they show labels, version and the devices' room", |w| {
            let node = ["describe", "node", FLEET];
            let node = w.plane.kubectl(&node).text;
            [
                "flightctl.io/fleet=edge-fleet-1",
                "type=virtual-kubelet",
                "11250m",
                "-vk-flightctl",
            ]
            .iter()
            .all(|text| node.contains(text))
        });
        assert_eq!(self.http("/readyz").0, 200);
        assert_eq!(self.http("/healthz").0, 200);
        let metrics = self.http("/metrics").1;
        assert!(metrics.contains("virtual_kubelet_"), "{metrics}");
    }

    /// Under the rights of `config/rbac.yaml`: the API server's certificate is
    /// known, what it may is asked, and what no device can do is refused in words.
    fn the_nodes_api_answers(&mut self) {
        let account = "--as=system:serviceaccount:default:vk-flightctl-provider";
        for right in [
            &["create", "tokenreviews.authentication.k8s.io"] as &[&str],
            &["create", "subjectaccessreviews.authorization.k8s.io"],
            &[
                "get",
                "configmap/extension-apiserver-authentication",
                "-n",
                "kube-system",
            ],
        ] {
            self.plane
                .ok(&[&["auth", "can-i", account], right].concat());
        }
        self.may_use_nodes();
        let forward = ["port-forward", "-n", "codeco", "pod/nginx-edge", ":80"];
        self.until("the API server is told what no device can do", |w| {
            let refused = w.plane.kubectl(&forward);
            assert!(!refused.success, "{}", refused.text);
            refused
                .text
                .contains("backend of this node has no port-forward")
        });
        let log = self.provider.log();
        assert!(!log.contains("turns clients away"), "{log}");
    }

    /// The API server may ask nodes.
    fn may_use_nodes(&self) {
        let (role, user) = (
            "--clusterrole=system:kubelet-api-admin",
            format!("--user={KUBELET_CLIENT}"),
        );
        let grant = ["create", "clusterrolebinding", KUBELET_CLIENT, role, &user];
        self.plane.ok(&grant);
    }

    fn logs_and_processes(&mut self) {
        let talks = Script::container(console::TALKER)
            .prints(Duration::from_millis(10), &["begun"])
            .complains(Duration::from_millis(10), "oops")
            .prints(Duration::from_secs(1), &["tick"; 600]);
        self.flightctl.devices[3].script(talks);
        self.talker_is_ready("docker.io/library/busybox:1");
        self.the_console_answers();
        self.flightctl.devices[3].disconnect();
        self.a_device_that_is_away_runs_nothing_and_is_left_alone();
        self.flightctl.devices[3].reconnect();
        self.plane
            .ok(&["delete", "pod", console::TALKER, "--timeout=60s"]);
    }

    /// On the real service everything above was done with that role.
    fn an_operators_rights_are_enough(&self) {
        let Some(service) = self.flightctl.service() else {
            return;
        };
        let path = format!("/api/v1/devices/{}/decommission", self.flightctl.device(1));
        let body = serde_json::json!({"target": "Unenroll"});
        let operator = service.user_as(Role::Operator);
        let answer = operator.call(http::Method::PUT, &path, Some(&body));
        let answer = tokio::runtime::Handle::current().block_on(answer);
        let (status, said) = answer.unwrap();
        assert_eq!(
            status, 403,
            "an operator may less than an administrator: {said}"
        );
        let metrics = self.http("/metrics").1;
        let mut asked = metrics
            .lines()
            .filter(|l| l.contains("flightctl_requests_total{"));
        assert!(metrics.contains("\"patch_device\""), "{metrics}");
        assert!(asked.all(|line| !line.contains("\"403\"")), "{metrics}");
    }

    fn the_manifests_are_accepted(&mut self) {
        let deployment = repository().join("config/deployment.yaml");
        self.plane.ok(&[
            "apply",
            "--dry-run=server",
            "-f",
            &deployment.display().to_string(),
        ]);
    }

    fn sigterm_keeps_node_and_pods(&mut self) {
        self.update_test_runs();
        let took = self.provider.terminate();
        assert!(took < Duration::from_secs(5), "SIGTERM took {took:?}");
        assert!(self.plane.kubectl(&["get", "node", NODE]).success);
        assert_eq!(
            self.jsonpath("default", "update-test", "{.status.phase}"),
            "Running"
        );
        let log = self.provider.log();
        assert!(!log.contains(" ERROR "), "{log}");
    }
}
