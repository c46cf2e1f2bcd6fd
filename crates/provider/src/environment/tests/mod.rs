//! The kubelet's own cases and ours, over one way to write them.

mod expansion;
mod inputs;
mod limits;
mod placed;
mod references;
mod services;

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container, Pod, Secret};
use serde_json::{Value, json};

use super::*;
use crate::Inputs;

/// What the kubelet's own tests start from: a pod in a namespace, one container.
struct Case {
    pod: Pod,
    container: Container,
    inputs: Inputs,
    placement: Placement,
}

fn case(namespace: &str, links: bool, container: Value) -> Case {
    let mut container = container;
    container["name"] = "app".into();
    let pod = json!({
        "metadata": {
            "namespace": namespace, "name": "dapi-test-pod-name", "uid": "u-1",
            "labels": {"app": "web", "example.com/a[b]": "brackets"},
            "annotations": {"example.com/Note": "hello"},
        },
        "spec": {
            "nodeName": "node-name", "serviceAccountName": "special",
            "enableServiceLinks": links, "containers": [container],
        },
    });
    Case {
        pod: read(pod),
        container: read(container),
        inputs: Inputs::default(),
        placement: Placement::default(),
    }
}

fn read<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

impl Case {
    /// A ConfigMap by the name `map`.
    fn map(mut self, data: &Value) -> Self {
        let map = read(json!({"metadata": {"name": "map"}, "data": data}));
        self.inputs.config_maps.insert("map".into(), Arc::new(map));
        self
    }

    /// A Secret by the name `hush`.
    fn secret(mut self, data: &[(&str, &[u8])]) -> Self {
        let bytes = |value: &[u8]| k8s_openapi::ByteString(value.to_vec());
        let data = data
            .iter()
            .map(|(key, value)| ((*key).into(), bytes(value)));
        let secret = Secret {
            data: Some(data.collect()),
            ..Default::default()
        };
        let secret = Arc::new(secret.into());
        self.inputs.secrets.insert("hush".into(), secret);
        self
    }

    fn service(mut self, namespace: &str, name: &str, address: &str, port: u16) -> Self {
        let service = read(json!({
            "metadata": {"namespace": namespace, "name": name},
            "spec": {"clusterIP": address, "ports": [{"protocol": "TCP", "port": port}]},
        }));
        self.inputs.services.push(Arc::new(service));
        self
    }

    fn run(&self) -> Result<Environment, EnvironmentError> {
        environment(&self.pod, &self.container, &self.inputs, &self.placement)
    }

    /// The variables in their order.
    fn pairs(&self) -> Vec<(String, String)> {
        let all = self.run().unwrap();
        let pair = |v: &EnvVar| (v.name.clone(), v.value.clone());
        all.variables().iter().map(pair).collect()
    }

    fn words(&self) -> String {
        self.run().unwrap_err().to_string()
    }
}

fn owned(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    pairs.iter().map(pair).collect()
}

/// A container with one variable.
fn one(name: &str, source: &Value) -> Value {
    json!({"env": [{"name": name, "valueFrom": source}]})
}
