//! Variables that tell where services are.
//! <https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables>

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// The service every container hears of, links or not.
const MASTER: (&str, &str) = ("default", "kubernetes");

/// Where workloads outside the cluster reach the API server. It stands for the
/// service `default/kubernetes`, in all the variables made from that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiServer {
    /// A name or an address, IPv6 without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl ApiServer {
    fn service(&self) -> Service {
        Service {
            metadata: ObjectMeta {
                namespace: Some(MASTER.0.into()),
                name: Some(MASTER.1.into()),
                ..Default::default()
            },
            spec: Some(ServiceSpec {
                cluster_ip: Some(self.host.clone()),
                ports: Some(vec![ServicePort {
                    name: Some("https".into()),
                    port: self.port.into(),
                    ..Default::default()
                }]),
                ..Default::default()
            }),
            ..Default::default()
        }
    }
}

/// The variables of the services a pod of `namespace` sees. Where two services
/// make the same variable, the kubelet picks at random and this the later name.
pub(super) fn variables(
    services: &[Arc<Service>],
    namespace: &str,
    links: bool,
    api_server: Option<&ApiServer>,
) -> BTreeMap<String, String> {
    let outside = api_server.map(ApiServer::service);
    let mut seen: BTreeMap<&str, &Service> = BTreeMap::new();
    if let Some(outside) = &outside {
        seen.insert(MASTER.1, outside);
    }
    for service in services.iter().filter(|s| address(s).is_some()) {
        let from = service.metadata.namespace.as_deref().unwrap_or_default();
        let name = service.metadata.name.as_deref().unwrap_or_default();
        if (from, name) == MASTER {
            // A service of that name in the pod's own namespace goes before.
            seen.entry(name).or_insert(service);
        } else if from == namespace && links {
            seen.insert(name, service);
        }
    }
    let mut all = BTreeMap::new();
    for (name, service) in seen {
        one(name, service, &mut all);
    }
    all
}

/// The address of a service, `None` for a headless one or one without.
fn address(service: &Service) -> Option<&str> {
    let address = service.spec.as_ref()?.cluster_ip.as_deref()?;
    (!matches!(address, "" | "None")).then_some(address)
}

fn one(name: &str, service: &Service, all: &mut BTreeMap<String, String>) {
    let Some(host) = address(service) else { return };
    let prefix = upper(name);
    all.insert(format!("{prefix}_SERVICE_HOST"), host.into());
    let ports = service.spec.as_ref().and_then(|s| s.ports.as_ref());
    for (index, port) in ports.into_iter().flatten().enumerate() {
        let number = port.port.to_string();
        let protocol = match port.protocol.as_deref() {
            None | Some("") => "TCP",
            Some(protocol) => protocol,
        };
        let lower = protocol.to_ascii_lowercase();
        let url = if host.contains([':', '%']) {
            format!("{lower}://[{host}]:{number}")
        } else {
            format!("{lower}://{host}:{number}")
        };
        if index == 0 {
            all.insert(format!("{prefix}_SERVICE_PORT"), number.clone());
            all.insert(format!("{prefix}_PORT"), url.clone());
        }
        if let Some(label) = port.name.as_deref().filter(|label| !label.is_empty()) {
            let label = upper(label);
            all.insert(format!("{prefix}_SERVICE_PORT_{label}"), number.clone());
        }
        // As the links of Docker were.
        let link = format!("{prefix}_PORT_{number}_{}", protocol.to_ascii_uppercase());
        all.insert(format!("{link}_PROTO"), lower);
        all.insert(format!("{link}_PORT"), number);
        all.insert(format!("{link}_ADDR"), host.into());
        all.insert(link, url);
    }
}

fn upper(name: &str) -> String {
    name.replace('-', "_").to_ascii_uppercase()
}
