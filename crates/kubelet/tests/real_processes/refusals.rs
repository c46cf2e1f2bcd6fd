//! What the mock's processes are not for.

use std::path::Path;

use http::Uri;
use serde_json::json;
use vk_provider::podspec::missing_tests;
use vk_provider::{Admission, Backend, BackendError, NodeUse};

use super::harness::example;
use super::processes::declaration::POD_SPEC;
use super::processes::local::check;
use super::rig::{backend, context, pod, request};

#[test]
fn the_processes_declare_every_field_and_their_tests_exist() {
    assert_eq!(POD_SPEC.problems(), [""; 0]);
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders = [&*tests.join("tests"), &*tests.join("src")];
    assert_eq!(missing_tests(&POD_SPEC, &folders).unwrap(), [""; 0]);
}

#[tokio::test]
async fn an_api_server_elsewhere_is_refused() {
    let uri = |text: &str| text.parse::<Uri>().unwrap();
    for here in [
        "https://127.0.0.1:6443",
        "https://localhost",
        "http://127.0.0.2:1",
    ] {
        assert_eq!(check(&uri(here), None).await, Ok(()), "{here}");
    }
    // Of the documentation's block: nobody's.
    let refused = check(&uri("https://192.0.2.1:6443"), None).await;
    assert!(refused.unwrap_err().contains("192.0.2.1"));
    let everywhere = check(&uri("https://0.0.0.0:6443"), None).await;
    assert!(everywhere.is_err());
    let proxy = uri("http://127.0.0.1:8080");
    let refused = check(&uri("https://127.0.0.1:6443"), Some(&proxy)).await;
    assert!(refused.unwrap_err().contains("proxy"));
}

#[test]
fn the_mock_does_not_start_for_an_api_server_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    let kubeconfig = folder.path().join("kubeconfig");
    let with = |server: &str, proxy: &str| {
        let text = json!({"apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": {"server": server, "proxy-url": proxy}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "users": [{"name": "u", "user": {"token": "none"}}]});
        std::fs::write(
            &kubeconfig,
            text.to_string().replace(",\"proxy-url\":\"\"", ""),
        )
        .unwrap();
        let mut mock = std::process::Command::new(example("mock"));
        mock.arg("--processes").arg("--kubeconfig").arg(&kubeconfig);
        let ran = mock.args(["--listen", "127.0.0.1:0"]).output().unwrap();
        let said = String::from_utf8_lossy(&ran.stderr).into_owned();
        assert_eq!(ran.status.code(), Some(1), "{said}");
        said
    };
    // Of the documentation's blocks: nobody's, and never dialled.
    for elsewhere in ["192.0.2.1", "[2001:db8::1]"] {
        let said = with(&format!("https://{elsewhere}:6443"), "");
        let ip = elsewhere.trim_matches(['[', ']']);
        let why = format!("the API server must be on it, and {ip} is no address of this machine");
        assert!(
            said.contains("without any isolation") && said.contains(&why),
            "{said}"
        );
    }
    let said = with("https://127.0.0.1:1", "http://127.0.0.1:1");
    assert!(
        said.contains("not by the proxy http://127.0.0.1:1"),
        "{said}"
    );
}

#[tokio::test]
async fn what_would_have_to_be_ignored_is_refused_by_path() {
    let Some(backend) = backend().await else {
        return;
    };
    let bare = pod(&[], json!({}));
    let admission = backend.admit(&bare, &NodeUse::default());
    let Admission::Reject { message, .. } = admission else {
        panic!("{admission:?}");
    };
    assert!(
        message.starts_with("spec.containers[0].command"),
        "{message}"
    );
    let error = backend.ensure(&bare, &context()).await.unwrap_err();
    assert!(matches!(error, BackendError::Unsupported { .. }));

    let refused = |container| {
        let pod = pod(&["true"], container);
        let refusals = POD_SPEC.refusals(&pod).0;
        refusals
            .into_iter()
            .map(|refusal| refusal.path)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        refused(json!({"terminationMessagePath": "/dev/termination-log"})),
        [""; 0]
    );
    for (field, value) in [
        ("workingDir", json!("/tmp")),
        ("livenessProbe", json!({"exec": {"command": ["true"]}})),
        ("securityContext", json!({"runAsUser": 1000})),
        (
            "lifecycle",
            json!({"preStop": {"exec": {"command": ["true"]}}}),
        ),
        ("resources", json!({"limits": {"cpu": "1"}})),
        ("ports", json!([{"containerPort": 80, "hostPort": 80}])),
    ] {
        let paths = refused(json!({field: value}));
        let named = format!("spec.containers[0].{field}");
        assert!(
            paths.len() == 1 && paths[0].starts_with(&named),
            "{paths:?}"
        );
    }

    let mut object = (*pod(&["true"], json!({})).pod).clone();
    let volumes = json!([{"name": "v", "projected": {"sources": []}}]);
    object.spec.as_mut().unwrap().volumes = serde_json::from_value(volumes).unwrap();
    let error = backend
        .ensure(&request(object), &context())
        .await
        .unwrap_err();
    assert!(error.to_string().starts_with("spec.volumes[0]"), "{error}");
}
