//! What clients ask before they ask for objects: versions, groups, resources,
//! and the one fact kubectl looks up in the OpenAPI documents.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::resource::{ALL, AUTHENTICATION_GROUP, EVENTS, EVENTS_GROUP, REVIEWS, Resource};

/// The version this API speaks; the kubelet's version is derived from it.
const VERSION: &str = "v1.36.3";

const VERBS: [&str; 8] = [
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "update",
    "watch",
];

/// The answer to a discovery path, if it is one.
pub(crate) fn answer(path: &str) -> Option<Value> {
    let parts: Vec<&str> = path.split('/').filter(|p| !p.is_empty()).collect();
    match parts[..] {
        ["version"] => Some(version()),
        ["api"] => Some(json!({"kind": "APIVersions", "versions": ["v1"],
            "serverAddressByClientCIDRs": []})),
        ["api", "v1"] => Some(resources("")),
        ["apis"] => {
            let groups: Vec<Value> = groups().into_iter().map(group).collect();
            Some(json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}))
        }
        ["apis", name] if groups().contains(name) => {
            let mut group = group(name);
            group["kind"] = json!("APIGroup");
            group["apiVersion"] = json!("v1");
            Some(group)
        }
        ["apis", name, "v1"] if groups().contains(name) => Some(resources(name)),
        ["openapi", "v3"] => Some(openapi_index()),
        ["openapi", "v3", "api", "v1"] => Some(openapi("")),
        ["openapi", "v3", "apis", name, "v1"] if groups().contains(name) => Some(openapi(name)),
        _ => None,
    }
}

fn version() -> Value {
    json!({"major": "1", "minor": "36", "gitVersion": VERSION, "gitCommit": "sandbox",
        "gitTreeState": "clean", "buildDate": "1970-01-01T00:00:00Z", "goVersion": "none",
        "compiler": "rustc", "platform": "linux/amd64"})
}

fn groups() -> BTreeSet<&'static str> {
    let all = ALL.iter().chain(&REVIEWS).map(|r| r.group);
    let named = all.filter(|group| !group.is_empty());
    named.chain([EVENTS_GROUP]).collect()
}

fn group(name: &str) -> Value {
    let version = json!({"groupVersion": format!("{name}/v1"), "version": "v1"});
    json!({"name": name, "versions": [version.clone()], "preferredVersion": version})
}

fn of_group(group: &str) -> Vec<&'static Resource> {
    if group == EVENTS_GROUP {
        return vec![&EVENTS];
    }
    let all = ALL.into_iter().chain(REVIEWS);
    all.filter(|r| r.group == group).collect()
}

fn resources(group: &str) -> Value {
    let mut list = Vec::new();
    for resource in of_group(group) {
        let verbs: Vec<&str> = VERBS
            .into_iter()
            .filter(|verb| *verb != "deletecollection" || super::delete::in_collections(resource))
            .filter(|verb| *verb == "create" || resource.is_stored())
            .collect();
        list.push(
            json!({"name": resource.plural, "singularName": resource.singular,
            "namespaced": resource.namespaced, "kind": resource.kind, "verbs": verbs,
            "shortNames": resource.short, "categories": resource.categories}),
        );
        for (name, kind) in resource.subresources {
            let verbs = match *name {
                "binding" | "eviction" | "token" => json!(["create"]),
                "log" => json!(["get"]),
                "attach" | "exec" | "portforward" => json!(["create", "get"]),
                "proxy" => json!(["create", "delete", "get", "patch", "update"]),
                _ => json!(["get", "patch", "update"]),
            };
            let mut entry = json!({"name": format!("{}/{name}", resource.plural), "singularName": "",
                "namespaced": resource.namespaced, "kind": kind, "verbs": verbs});
            if *kind == "Scale" {
                entry["group"] = json!("autoscaling");
                entry["version"] = json!("v1");
            }
            if *kind == "TokenRequest" {
                entry["group"] = json!(AUTHENTICATION_GROUP);
                entry["version"] = json!("v1");
            }
            if *kind == "Eviction" {
                entry["group"] = json!("policy");
                entry["version"] = json!("v1");
            }
            list.push(entry);
        }
    }
    let version = if group.is_empty() {
        "v1".into()
    } else {
        format!("{group}/v1")
    };
    json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": list})
}

fn openapi_index() -> Value {
    let mut paths = json!({"api/v1": {"serverRelativeURL": "/openapi/v3/api/v1"}});
    for group in groups() {
        paths[format!("apis/{group}/v1")] =
            json!({"serverRelativeURL": format!("/openapi/v3/apis/{group}/v1")});
    }
    json!({"paths": paths})
}

/// Only what kubectl looks for before an apply: that PATCH knows the parameter
/// `fieldValidation`, so that it leaves validation to the server.
fn openapi(group: &str) -> Value {
    let mut paths = json!({});
    for resource in of_group(group).into_iter().filter(|r| r.is_stored()) {
        let prefix = if group.is_empty() {
            "/api/v1".into()
        } else {
            format!("/apis/{group}/v1")
        };
        let middle = if resource.namespaced {
            "/namespaces/{namespace}"
        } else {
            ""
        };
        let parameter =
            json!({"name": "fieldValidation", "in": "query", "schema": {"type": "string"}});
        paths[format!("{prefix}{middle}/{}/{{name}}", resource.plural)] = json!({"patch": {
            "parameters": [parameter],
            "responses": {},
            "x-kubernetes-group-version-kind": {"group": group, "version": "v1", "kind": resource.kind},
        }});
    }
    json!({"openapi": "3.0.0", "info": {"title": "vk-sandbox", "version": VERSION}, "paths": paths})
}
