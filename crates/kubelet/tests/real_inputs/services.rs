//! Services, for a backend that wants them. The provider of `config/` has no right
//! to read them: no address of a cluster works on a device.

use k8s_openapi::api::core::v1::ServiceAccount;
use kube::Api;
use vk_provider::Clock;

use crate::harness::control_plane::ControlPlane;
use crate::suite::world::{World, eventually, uid};
use crate::{create, rights};

const LINKED: &str = "linked";

const OBJECTS: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: linked}
---
apiVersion: v1
kind: Service
metadata: {name: front-desk, namespace: linked}
spec: {clusterIP: 10.96.0.77, ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: headless, namespace: linked}
spec: {clusterIP: None, ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: elsewhere, namespace: apart}
spec: {clusterIP: 10.96.0.78, ports: [{port: 80}]}
"#;

const OF_THE_API: [(&str, &str); 8] = [
    ("KUBERNETES_PORT", "tcp://10.96.0.1:443"),
    ("KUBERNETES_PORT_443_TCP", "tcp://10.96.0.1:443"),
    ("KUBERNETES_PORT_443_TCP_ADDR", "10.96.0.1"),
    ("KUBERNETES_PORT_443_TCP_PORT", "443"),
    ("KUBERNETES_PORT_443_TCP_PROTO", "tcp"),
    ("KUBERNETES_SERVICE_HOST", "10.96.0.1"),
    ("KUBERNETES_SERVICE_PORT", "443"),
    ("KUBERNETES_SERVICE_PORT_HTTPS", "443"),
];

/// Its port has no name, and there is no variable of one.
const OF_THE_DESK: [(&str, &str); 7] = [
    ("FRONT_DESK_PORT", "tcp://10.96.0.77:80"),
    ("FRONT_DESK_PORT_80_TCP", "tcp://10.96.0.77:80"),
    ("FRONT_DESK_PORT_80_TCP_ADDR", "10.96.0.77"),
    ("FRONT_DESK_PORT_80_TCP_PORT", "80"),
    ("FRONT_DESK_PORT_80_TCP_PROTO", "tcp"),
    ("FRONT_DESK_SERVICE_HOST", "10.96.0.77"),
    ("FRONT_DESK_SERVICE_PORT", "80"),
];

pub async fn are_told(plane: &ControlPlane) {
    create(plane, OBJECTS);
    let client = rights::client(&plane.kubeconfig()).await;
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), LINKED);
    let there = async || accounts.get_opt("default").await.unwrap();
    eventually("the namespace has its ServiceAccount", there).await;
    let mut world = World::idle(client, Clock::live(), LINKED);
    world.remote.want_inputs();
    world.start().await;
    let with_links = [&OF_THE_DESK[..], &OF_THE_API].concat();
    for (name, links, told) in [
        ("linked", None, &with_links[..]),
        ("alone", Some(false), &OF_THE_API),
    ] {
        let mut pod = world.pod(name, "Always");
        pod.spec.as_mut().unwrap().enable_service_links = links;
        let created = world.create(&pod).await;
        world.running(name).await;
        let given = world.remote.given(&uid(&created)).unwrap();
        let shown = given.environment["app"].iter();
        let shown: Vec<_> = shown.map(|(n, v)| (n.as_str(), v.as_str())).collect();
        assert_eq!(shown, told, "{name}");
    }
    world.stop().await;
}
