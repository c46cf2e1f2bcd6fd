//! What a kubelet lays out, as tables.

mod files;
mod places;
mod projections;
mod revisions;

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, Secret};
use serde_json::{Value, json};

use super::{FailedMount, Files, Given, Volume, VolumesError, lay_out};
use crate::inputs::{Inputs, TokenAsk};
use crate::quantity::{Amount, Resources};

const TOKEN: &str = "planted-t0ken";
const SECRET: &str = "planted-s3cret";

/// A ConfigMap `cm`, a Secret `sec` and two tokens.
fn inputs() -> Inputs {
    let mut inputs = Inputs::default();
    // `AP8=` is the bytes 0 and 255.
    let map = json!({"data": {"a": "text", "b.conf": "x=1"}, "binaryData": {"bin": "AP8="}});
    let map = serde_json::from_value(map).unwrap();
    inputs.config_maps.insert("cm".into(), Arc::new(map));
    let mut secret = Secret::default();
    let bytes = |text: &str| k8s_openapi::ByteString(text.into());
    let data = [
        ("a".into(), bytes("over")),
        ("password".into(), bytes(SECRET)),
    ];
    secret.data = Some(data.into());
    let secret = Arc::new(secret.into());
    inputs.secrets.insert("sec".into(), secret);
    for (audience, expiration_seconds) in [(None, 3607), (Some("vault".into()), 600)] {
        let ask = TokenAsk {
            audience,
            expiration_seconds,
        };
        let tokens = inputs.tokens.get_or_insert_default();
        tokens.insert(ask, TOKEN.into());
    }
    inputs
}

/// A pod with one container `app` that mounts the volumes at `/NAME`.
fn pod(volumes: &Value) -> Pod {
    let names = volumes.as_array().unwrap().iter().map(|v| &v["name"]);
    let mounts: Vec<Value> = names
        .map(|name| json!({"name": name, "mountPath": format!("/{}", name.as_str().unwrap())}))
        .collect();
    let pod = json!({
        "metadata": {
            "name": "web-0", "namespace": "shop", "uid": "u-1",
            "labels": {"zone": "b", "app": "web"},
            "annotations": {"note": "two\nlines", "build": "\"7\""},
        },
        "spec": {
            "serviceAccountName": "robot",
            "volumes": volumes,
            "containers": [{"name": "app", "volumeMounts": mounts}],
        },
    });
    serde_json::from_value(pod).unwrap()
}

fn try_lay_out(pod: &Pod, declared: &[&str]) -> Result<BTreeMap<String, Volume>, VolumesError> {
    let allocatable = Resources::new()
        .with("cpu", Amount::units(4))
        .with("memory", Amount::units(8 << 30));
    let given = Given {
        inputs: &inputs(),
        allocatable: &allocatable,
        declared,
    };
    lay_out(pod, given)
}

/// The pod's volume `v`.
fn laid_out(pod: &Pod) -> Volume {
    try_lay_out(pod, &[]).unwrap().remove("v").unwrap()
}

fn files_of(pod: &Pod) -> Files {
    match laid_out(pod) {
        Volume::Files(files) => files,
        other => panic!("not files: {other:?}"),
    }
}

/// Path, text (bytes that are none as `\xff`), mode in octal.
fn listing(files: &Files) -> Vec<String> {
    let shown = files.files.iter();
    shown
        .map(|(path, f)| format!("{path} {} {:o}", f.content.bytes().escape_ascii(), f.mode))
        .collect()
}

/// The files of a volume with this source.
fn list(source: Value) -> Vec<String> {
    listing(&files_of(&pod(&json!([volume(source)]))))
}

/// Why the volume with this source cannot be made now.
fn failure(source: Value) -> String {
    match try_lay_out(&pod(&json!([volume(source)])), &[]) {
        Err(VolumesError::Failed(failed)) => match &failed[..] {
            [FailedMount { volume, why }] if volume == "v" => why.clone(),
            other => panic!("not one volume: {other:?}"),
        },
        other => panic!("not a failed mount: {other:?}"),
    }
}

/// The fields that are refused.
fn refused(pod: &Pod, declared: &[&str]) -> Vec<String> {
    match try_lay_out(pod, declared) {
        Err(VolumesError::Refused(refusals)) => refusals.0.into_iter().map(|r| r.path).collect(),
        other => panic!("not refused: {other:?}"),
    }
}

/// The source, as the volume `v`.
fn volume(source: Value) -> Value {
    let mut volume = source;
    volume["name"] = json!("v");
    volume
}
