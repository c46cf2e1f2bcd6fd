//! The three kinds of patch, as pure functions from object and patch to object.

use serde_json::{Map, Value};

use super::status::ApiError;

/// How the body of a PATCH is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PatchKind {
    Json,
    Merge,
    Strategic,
}

impl PatchKind {
    /// From the request's `Content-Type`.
    pub(crate) fn from_content_type(text: &str) -> Result<Self, ApiError> {
        match text.split(';').next().unwrap_or_default().trim() {
            "application/json-patch+json" => Ok(Self::Json),
            "application/merge-patch+json" => Ok(Self::Merge),
            "application/strategic-merge-patch+json" => Ok(Self::Strategic),
            "application/apply-patch+yaml" | "application/apply-patch+cbor" => Err(
                ApiError::not_implemented("server-side apply", "any resource"),
            ),
            _ => Err(ApiError::unsupported_media_type()),
        }
    }
}

/// `target` with the patch applied.
pub(crate) fn apply(kind: PatchKind, target: &Value, body: &[u8]) -> Result<Value, ApiError> {
    let mut result = target.clone();
    let unreadable = |error: serde_json::Error| ApiError::bad_request(error.to_string());
    match kind {
        PatchKind::Json => {
            let patch: json_patch::Patch = serde_json::from_slice(body).map_err(unreadable)?;
            json_patch::patch(&mut result, &patch).map_err(|_| ApiError::unprocessable())?;
        }
        PatchKind::Merge => {
            let patch: Value = serde_json::from_slice(body).map_err(unreadable)?;
            json_patch::merge(&mut result, &patch);
        }
        PatchKind::Strategic => {
            let patch: Value = serde_json::from_slice(body).map_err(unreadable)?;
            let Value::Object(patch) = patch else {
                return Err(ApiError::bad_request("the patch is no JSON object"));
            };
            if let Value::Object(object) = &mut result {
                merge_map(object, patch)?;
            }
        }
    }
    Ok(result)
}

/// How a list merges.
enum Strategy {
    /// Replaced as a whole.
    Atomic,
    /// A set of texts.
    Set,
    /// Objects identified by this field.
    ByKey(&'static str),
}

/// The `patchMergeKey`s of the API's types, for the resources served here. The
/// name of the list tells them apart, and a port of a Service from one of a
/// container its items do. Taints and tolerations are atomic in the real API too.
fn strategy(field: &str, items: &[Value]) -> Strategy {
    match field {
        "ports" if items.iter().any(|item| item.get("port").is_some()) => Strategy::ByKey("port"),
        "conditions" | "addresses" => Strategy::ByKey("type"),
        "podIPs" | "hostIPs" | "hostAliases" => Strategy::ByKey("ip"),
        "containers"
        | "initContainers"
        | "ephemeralContainers"
        | "volumes"
        | "env"
        | "imagePullSecrets"
        | "schedulingGates"
        | "resourceClaims"
        | "resourceClaimStatuses"
        | "secrets" => Strategy::ByKey("name"),
        "volumeMounts" => Strategy::ByKey("mountPath"),
        "volumeDevices" => Strategy::ByKey("devicePath"),
        "ports" => Strategy::ByKey("containerPort"),
        "topologySpreadConstraints" => Strategy::ByKey("topologyKey"),
        "ownerReferences" => Strategy::ByKey("uid"),
        "finalizers" | "podCIDRs" => Strategy::Set,
        _ => Strategy::Atomic,
    }
}

const DIRECTIVE: &str = "$patch";
const RETAIN: &str = "$retainKeys";
const DELETE_FROM: &str = "$deleteFromPrimitiveList/";
const ORDER: &str = "$setElementOrder/";

fn merge_map(
    target: &mut Map<String, Value>,
    mut patch: Map<String, Value>,
) -> Result<(), ApiError> {
    match patch.remove(DIRECTIVE).as_ref().and_then(Value::as_str) {
        Some("replace") => {
            *target = patch;
            return Ok(());
        }
        Some("delete") => {
            target.clear();
            return Ok(());
        }
        _ => {}
    }
    if let Some(Value::Array(keep)) = patch.remove(RETAIN) {
        target.retain(|key, _| keep.iter().any(|k| k == key));
    }
    let mut orders = Vec::new();
    for (field, value) in patch {
        if let Some(list) = field.strip_prefix(DELETE_FROM) {
            if let (Some(Value::Array(old)), Value::Array(gone)) = (target.get_mut(list), value) {
                old.retain(|item| !gone.contains(item));
            }
        } else if let Some(list) = field.strip_prefix(ORDER) {
            orders.push((list.to_owned(), value));
        } else {
            merge_field(target, field, value)?;
        }
    }
    for (field, order) in orders {
        if let (Some(Value::Array(list)), Value::Array(order)) = (target.get_mut(&field), order) {
            let strategy = strategy(&field, &order);
            reorder(list, &order, &strategy);
        }
    }
    Ok(())
}

fn merge_field(
    target: &mut Map<String, Value>,
    field: String,
    value: Value,
) -> Result<(), ApiError> {
    match value {
        Value::Null => {
            target.remove(&field);
        }
        Value::Object(patch) => {
            if let Some(Value::Object(old)) = target.get_mut(&field) {
                merge_map(old, patch)?;
            } else {
                let mut fresh = Map::new();
                merge_map(&mut fresh, patch)?;
                target.insert(field, Value::Object(fresh));
            }
        }
        Value::Array(patch) => {
            let old = match target.remove(&field) {
                Some(Value::Array(old)) => old,
                _ => Vec::new(),
            };
            let merged = merge_list(&field, old, patch)?;
            target.insert(field, Value::Array(merged));
        }
        plain => {
            target.insert(field, plain);
        }
    }
    Ok(())
}

fn merge_list(
    field: &str,
    mut old: Vec<Value>,
    mut patch: Vec<Value>,
) -> Result<Vec<Value>, ApiError> {
    match strategy(field, &patch) {
        Strategy::Atomic => Ok(patch),
        Strategy::Set => {
            for item in patch {
                if !old.contains(&item) {
                    old.push(item);
                }
            }
            Ok(old)
        }
        Strategy::ByKey(key) => {
            let is_replace = |item: &Value| {
                item[DIRECTIVE] == "replace" && item.as_object().is_some_and(|o| o.len() == 1)
            };
            if patch.iter().any(is_replace) {
                patch.retain(|item| !is_replace(item));
                old.clear();
            }
            for item in patch {
                merge_item(key, &mut old, item)?;
            }
            Ok(old)
        }
    }
}

fn merge_item(key: &str, list: &mut Vec<Value>, item: Value) -> Result<(), ApiError> {
    let Value::Object(item) = item else {
        return Err(ApiError::bad_request(
            "a list of objects has an item of another type",
        ));
    };
    let Some(id) = item.get(key).cloned() else {
        return Err(ApiError::bad_request(format!(
            "map: {} does not contain declared merge key: {key}",
            Value::Object(item)
        )));
    };
    let at = list.iter().position(|old| old[key] == id);
    if item.get(DIRECTIVE).is_some_and(|d| d == "delete") {
        list.retain(|old| old[key] != id);
        return Ok(());
    }
    match at.and_then(|at| list[at].as_object_mut()) {
        Some(old) => {
            merge_map(old, item)?;
        }
        None => {
            let mut fresh = Map::new();
            merge_map(&mut fresh, item)?;
            list.push(Value::Object(fresh));
        }
    }
    Ok(())
}

/// Items named in `order` first, in that order; the others keep theirs.
fn reorder(list: &mut [Value], order: &[Value], strategy: &Strategy) {
    let rank = |item: &Value| {
        order
            .iter()
            .position(|wanted| match strategy {
                Strategy::ByKey(key) => wanted[*key] == item[*key],
                _ => wanted == item,
            })
            .unwrap_or(order.len())
    };
    list.sort_by_key(rank);
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn strategic(target: &Value, patch: &Value) -> Value {
        apply(PatchKind::Strategic, target, patch.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn conditions_of_others_survive_and_ours_are_replaced_by_type() {
        let old = json!({"status": {"conditions": [
            {"type": "Ready", "status": "False", "reason": "X"}, {"type": "Other", "status": "True"}]}});
        let new = strategic(
            &old,
            &json!({"status": {"conditions": [{"type": "Ready", "status": "True", "reason": null}]}}),
        );
        assert_eq!(
            new["status"]["conditions"],
            json!([{"type": "Ready", "status": "True"}, {"type": "Other", "status": "True"}])
        );
    }

    #[test]
    fn ports_of_services_and_of_containers_have_each_their_key() {
        let service = json!({"ports": [{"name": "a", "port": 80}]});
        let second = json!({"ports": [{"port": 81}, {"port": 80, "name": "b"}],
            "$setElementOrder/ports": [{"port": 81}, {"port": 80}]});
        assert_eq!(
            strategic(&service, &second)["ports"],
            json!([{"port": 81}, {"name": "b", "port": 80}])
        );
        let container = json!({"ports": [{"containerPort": 80}]});
        let named = json!({"ports": [{"containerPort": 80, "name": "b"}]});
        assert_eq!(strategic(&container, &named), named);
    }

    #[test]
    fn ip_lists_add_up_unless_the_patch_says_replace() {
        let old = json!({"podIPs": [{"ip": "10.0.0.1"}]});
        assert_eq!(
            strategic(&old, &json!({"podIPs": [{"ip": "10.0.0.2"}]}))["podIPs"],
            json!([{"ip": "10.0.0.1"}, {"ip": "10.0.0.2"}])
        );
        assert_eq!(
            strategic(
                &old,
                &json!({"podIPs": [{"$patch": "replace"}, {"ip": "10.0.0.2"}]})
            )["podIPs"],
            json!([{"ip": "10.0.0.2"}])
        );
        assert_eq!(
            strategic(
                &old,
                &json!({"podIPs": [{"$patch": "delete", "ip": "10.0.0.1"}]})
            )["podIPs"],
            json!([])
        );
    }

    #[test]
    fn statuses_taints_and_tolerations_are_replaced_whole() {
        for field in ["containerStatuses", "taints", "tolerations"] {
            let old = json!({field: [{"name": "a", "key": "a"}, {"name": "b", "key": "b"}]});
            let new = strategic(&old, &json!({field: [{"name": "b", "key": "b"}]}));
            assert_eq!(new[field], json!([{"name": "b", "key": "b"}]), "{field}");
        }
    }

    #[test]
    fn finalizers_are_a_set_and_null_removes() {
        let old = json!({"metadata": {"finalizers": ["a", "b"], "labels": {"x": "1", "y": "2"}}});
        let new = strategic(
            &old,
            &json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["a"], "finalizers": ["c", "b"], "labels": {"x": null}}}),
        );
        assert_eq!(
            new,
            json!({"metadata": {"finalizers": ["b", "c"], "labels": {"y": "2"}}})
        );
    }

    #[test]
    fn kubectl_apply_sets_order_and_keeps_only_the_named_keys_of_a_volume() {
        let old =
            json!({"volumes": [{"name": "v", "emptyDir": {}}], "containers": [{"name": "a"}]});
        let new = strategic(
            &old,
            &json!({
                "volumes": [{"name": "v", "$retainKeys": ["name", "secret"], "secret": {"secretName": "s"}}],
                "$setElementOrder/containers": [{"name": "b"}, {"name": "a"}],
                "containers": [{"name": "b"}]}),
        );
        assert_eq!(
            new["volumes"],
            json!([{"name": "v", "secret": {"secretName": "s"}}])
        );
        assert_eq!(new["containers"], json!([{"name": "b"}, {"name": "a"}]));
    }

    #[test]
    fn a_list_item_without_its_key_is_refused() {
        let patch = json!({"conditions": [{"status": "True"}]}).to_string();
        assert_eq!(
            apply(PatchKind::Strategic, &json!({}), patch.as_bytes())
                .unwrap_err()
                .code,
            400
        );
    }

    #[test]
    fn a_failed_test_in_a_json_patch_is_unprocessable() {
        let patch = br#"[{"op": "test", "path": "/a", "value": 2}]"#;
        assert_eq!(
            apply(PatchKind::Json, &json!({"a": 1}), patch)
                .unwrap_err()
                .code,
            422
        );
    }
}
