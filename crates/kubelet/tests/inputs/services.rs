//! Services, for a backend that wants them.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Namespace, Service, ServiceAccount};
use serde_json::json;

use super::*;
use suite::world::eventually;

/// A Service at this address; `None` is one without.
fn service(cluster: &Cluster, namespace: &str, name: &str, address: &str) {
    let service = json!({
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"clusterIP": address, "ports": [{"port": 80}]},
    });
    let service: Service = serde_json::from_value(service).unwrap();
    cluster.create(&service).unwrap();
}

/// What the kubelet makes of such a one, and of the API server's own.
fn variables(services: &[(&str, &str, &str, Option<&str>)]) -> BTreeMap<String, String> {
    let each = services.iter().flat_map(|(prefix, ip, port, label)| {
        let link = format!("{prefix}_PORT_{port}_TCP");
        let url = format!("tcp://{ip}:{port}");
        let (ip, port) = ((*ip).to_owned(), (*port).to_owned());
        let labelled = label.map(|label| (format!("{prefix}_SERVICE_PORT_{label}"), port.clone()));
        let all = [
            (format!("{prefix}_SERVICE_HOST"), ip.clone()),
            (format!("{prefix}_SERVICE_PORT"), port.clone()),
            (format!("{prefix}_PORT"), url.clone()),
            (format!("{link}_PROTO"), "tcp".to_owned()),
            (format!("{link}_PORT"), port),
            (format!("{link}_ADDR"), ip),
            (link, url),
        ];
        all.into_iter().chain(labelled)
    });
    each.collect()
}

const API: (&str, &str, &str, Option<&str>) = ("KUBERNETES", "10.96.0.1", "443", Some("HTTPS"));

#[tokio::test(start_paused = true)]
async fn a_pod_is_told_of_its_namespaces_services_and_of_the_api_servers() {
    let (mut world, cluster) = world().await;
    let shop: Namespace = serde_json::from_value(json!({"metadata": {"name": "shop"}})).unwrap();
    cluster.create(&shop).unwrap();
    eventually("it has its ServiceAccount", async || {
        cluster.get::<ServiceAccount>("shop", "default")
    })
    .await;
    service(&cluster, "shop", "till", "10.96.7.1");
    service(&cluster, "shop", "headless", "None");
    service(&cluster, "default", "front-desk", "10.96.7.2");
    let create = |namespace: &str, name: &str, links: Option<bool>| {
        let mut pod = pod(
            &world,
            name,
            json!({}),
            json!({"enableServiceLinks": links}),
        );
        pod.metadata.namespace = Some(namespace.into());
        cluster.create(&pod).unwrap()
    };
    let till = ("TILL", "10.96.7.1", "80", None);
    let desk = ("FRONT_DESK", "10.96.7.2", "80", None);
    for (namespace, name, links, told) in [
        ("shop", "linked", None, &[API, till][..]),
        ("shop", "alone", Some(false), &[API]),
        ("default", "linked", Some(true), &[API, desk]),
        ("default", "alone", Some(false), &[API]),
    ] {
        let created = create(namespace, name, links);
        let what = format!("{namespace}/{name} is given its variables");
        let given = eventually(&what, async || world.remote.given(&uid(&created))).await;
        assert_eq!(given.environment["app"], variables(told), "{what}");
    }
    world.stop().await;
}
