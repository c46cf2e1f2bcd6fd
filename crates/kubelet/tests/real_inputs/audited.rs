//! What the kubelet asked for, as the API server wrote it down.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::harness::control_plane::ControlPlane;
use crate::{BARE, SHOP};

const USER: &str = "system:serviceaccount:default:vk-flightctl-provider";

pub fn single_objects_alone(plane: &ControlPlane) {
    let (mut read, mut issued, mut refused) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    let log = plane.audit();
    let entries = log
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    for entry in entries.filter(|entry| entry["user"]["username"] == USER) {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let object = &entry["objectRef"];
        let (namespace, resource) = (text(&object["namespace"]), text(&object["resource"]));
        let (verb, uri) = (text(&entry["verb"]), text(&entry["requestURI"]));
        let secret_or_map = matches!(resource.as_str(), "secrets" | "configmaps");
        if entry["responseStatus"]["code"] == 403 {
            refused.insert(format!("{namespace} {resource}"));
            assert!(secret_or_map, "{uri} is refused: {entry}");
        }
        if secret_or_map {
            assert!(matches!(verb.as_str(), "list" | "watch"), "{verb} {uri}");
            let name = selected(&uri).unwrap_or_else(|| panic!("{verb} {uri}"));
            read.insert(format!("{namespace} {resource} {name}"));
        }
        if resource == "serviceaccounts" {
            assert_eq!(
                (verb.as_str(), &object["subresource"]),
                ("create", &"token".into())
            );
            issued.insert(format!("{namespace} {}", text(&object["name"])));
        }
    }
    let set = |texts: &[&str]| {
        texts
            .iter()
            .map(|t| (*t).to_owned())
            .collect::<BTreeSet<_>>()
    };
    // Each is named by a pod of ours; in `apart` there are objects and no pods.
    assert_eq!(
        read,
        set(&[
            "bare configmaps settings",
            "bare secrets hush",
            "shop configmaps kube-root-ca.crt",
            "shop configmaps late",
            "shop configmaps nothing",
            "shop configmaps settings",
            "shop secrets hush",
            "shop secrets nothing",
            "shop secrets registry",
        ])
    );
    assert_eq!(
        issued,
        set(&[&format!("{SHOP} default"), &format!("{SHOP} robot")])
    );
    // Before its binding came; everything else that was tried is granted.
    let denied = ["configmaps", "secrets"].map(|kind| format!("{BARE} {kind}"));
    assert_eq!(refused, denied.into());
}

/// The one name that a request is limited to.
fn selected(uri: &str) -> Option<String> {
    let (_, query) = uri.split_once('?')?;
    let mut selectors = query
        .split('&')
        .filter_map(|p| p.strip_prefix("fieldSelector="));
    let name = selectors.next()?.strip_prefix("metadata.name%3D")?;
    // A comma or another operator would be written with a percent sign.
    (!name.is_empty() && !name.contains(['%', '=', ','])).then(|| name.to_owned())
}
