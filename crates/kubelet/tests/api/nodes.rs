//! Several nodes, each with a port of its own.

use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::ops::RangeInclusive;

use k8s_openapi::api::core::v1::{Event, Node};
use kube::Api;
use kube::api::ListParams;
use serde_json::Value;

use crate::rig::{NODE, Rig};
use crate::suite::world::eventually;

const SECOND: &str = "vk-second";
const THIRD: &str = "vk-third";
const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// So many ports in a row that are free: below those that systems give to whoever
/// asks for any.
fn free(number: u16) -> RangeInclusive<u16> {
    let begin = 20_000 + u16::try_from(std::process::id() % 8_000).unwrap();
    let ranges = (begin..32_000).step_by(usize::from(number));
    let mut ranges = ranges.map(|first| first..=first + number - 1);
    let free = |ports: &RangeInclusive<u16>| {
        let bound: Vec<_> = ports
            .clone()
            .map(|port| TcpListener::bind((LOOPBACK, port)))
            .collect();
        bound.iter().all(Result::is_ok)
    };
    ranges.find(free).expect("some ports are free")
}

/// Which node answers at a port, and which port it says that it has.
async fn who(rig: &mut Rig, node: &str) -> (String, u16) {
    rig.address = eventually("it tells its port", async || rig.told(node).await).await;
    let config = eventually("it answers", async || rig.try_get("/configz").await).await;
    assert_eq!(config.status, 200, "{}", config.text());
    let config: Value = serde_json::from_slice(&config.body).unwrap();
    let port = config["kubeletconfig"]["port"].as_u64().unwrap();
    assert_eq!(port, u64::from(rig.address.port()));
    let summary: Value = serde_json::from_slice(&rig.get("/stats/summary").await.body).unwrap();
    let name = summary["node"]["nodeName"].as_str().unwrap();
    (name.to_owned(), rig.address.port())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_node_has_a_port_of_the_range_and_keeps_it_over_a_restart() {
    let ports = free(8);
    let mut rig = Rig::of(&[NODE, SECOND], |api| api.ports = ports.clone()).await;
    rig.remote.measures(Some(Ok(Default::default())));
    let (name, first) = who(&mut rig, NODE).await;
    assert_eq!(name, NODE);
    let (name, second) = who(&mut rig, SECOND).await;
    assert_eq!(name, SECOND);
    assert_ne!(first, second);
    assert!(
        ports.contains(&first) && ports.contains(&second),
        "{first}, {second}"
    );
    rig.restart().await;
    assert_eq!(who(&mut rig, NODE).await, (NODE.into(), first));
    assert_eq!(who(&mut rig, SECOND).await, (SECOND.into(), second));
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_for_which_no_port_is_left_has_no_api_and_says_so() {
    let ports = free(2);
    let mut rig = Rig::of(&[NODE, SECOND], |api| api.ports = ports.clone()).await;
    rig.remote.measures(Some(Ok(Default::default())));
    let told = async || rig.told(SECOND).await;
    eventually("both have one", told).await;
    rig.remote.set_nodes(&[NODE, SECOND, THIRD]);
    let events: Api<Event> = Api::all(rig.client.clone());
    let event = eventually("it says so", async || {
        let events = events.list(&ListParams::default()).await.unwrap();
        let mut events = events.into_iter();
        events.find(|event| event.reason.as_deref() == Some("NoKubeletAPI"))
    })
    .await;
    assert_eq!(event.involved_object.name.as_deref(), Some(THIRD));
    assert_eq!(event.type_.as_deref(), Some("Warning"));
    let message = event.message.unwrap();
    let (first, last) = ports.into_inner();
    let range = format!("no port of 127.0.0.1:{first}-{last} could be opened");
    assert!(message.starts_with(&range), "{message}");
    assert!(
        message.contains("more ports (its setting `ports`)"),
        "{message}"
    );
    // It is a node like the others but for that, and they are as they were.
    let nodes: Api<Node> = Api::all(rig.client.clone());
    let node = nodes.get(THIRD).await.unwrap();
    let status = node.status.unwrap();
    let endpoint = status.daemon_endpoints.and_then(|all| all.kubelet_endpoint);
    assert!(endpoint.is_none_or(|endpoint| endpoint.port == 0));
    let ready = status
        .conditions
        .into_iter()
        .flatten()
        .find(|c| c.type_ == "Ready");
    assert_eq!(ready.unwrap().status, "True");
    for node in [NODE, SECOND] {
        assert_eq!(who(&mut rig, node).await.0, node);
    }
    rig.end().await;
}
