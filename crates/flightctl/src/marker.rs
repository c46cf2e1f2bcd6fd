//! What we write into an application so that we know it again.
//!
//! The marker is one JSON file of the application, at the application's root,
//! where nothing of a user ever stands: Flight Control keeps inline files as
//! they are, in `Device.spec` and in what devices are given, and unit files are
//! not touched by it. It changes only when the application is written for another
//! reason: any change of an application restarts its containers.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use vk_provider::{PodKey, Revision};

use crate::mapping::{Expected, app_name};
use crate::types::{Application, InlineFile};

/// The file. Unit files have other endings, users' files lie in folders.
pub const MARKER_FILE: &str = "virtual-kubelet.json";

/// Longer ones are not ours: names in it are bounded by Kubernetes, containers
/// by the size of a pod (1.5 MiB in etcd, and these are its names alone).
pub(crate) const MARKER_LIMIT: usize = 256 * 1024;

/// What [`over`] adds to one: the field's name and a number.
pub(crate) const STAMP: usize = 40;

/// Fields of an application that we never set and that change what runs.
/// Others are left alone: a newer service may fill in some of its own.
pub(crate) const CHANGES_IT: [&str; 6] =
    ["envVars", "image", "ports", "resources", "runAs", "volumes"];

pub(crate) fn is_empty(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => true,
        Some(Value::String(text)) => text.is_empty(),
        Some(Value::Array(list)) => list.is_empty(),
        Some(Value::Object(map)) => map.is_empty(),
        Some(Value::Bool(_) | Value::Number(_)) => false,
    }
}

/// Whose application it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marker {
    /// UID of the namespace `kube-system` of the pod's cluster.
    pub cluster: String,
    /// The pod.
    pub key: PodKey,
    /// The node it was placed for.
    pub node: String,
    /// What its containers were made from.
    pub revision: Revision,
}

/// The file's content.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Content {
    cluster: String,
    node: String,
    namespace: String,
    name: String,
    uid: String,
    revision: String,
    /// Of all other files, so that a foreign edit shows.
    digest: String,
    expected: Expected,
    /// Items of the device's config that it needs, by name. Not what is in them:
    /// everyone on the device reads this file.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    items: Vec<String>,
    /// The generation of the device's spec that it was written over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    over: Option<i64>,
}

impl Marker {
    /// The marker of an application as Flight Control stores it; `None` for
    /// anything that is not exactly ours, a renamed copy included.
    pub fn of(app: &Value) -> Option<Self> {
        let content = content(app)?;
        let key = PodKey::new(&content.namespace, &content.name, &content.uid);
        if app.get("name")?.as_str()? != app_name(&key.uid) || content.cluster.is_empty() {
            return None;
        }
        Some(Self {
            cluster: content.cluster,
            key,
            node: content.node,
            revision: Revision::from_text(&content.revision),
        })
    }

    /// Whether an application is the one of this name that we wrote. A name
    /// holds the pod's UID: where someone's edit dropped or broke the marker,
    /// it is still ours, unless the marker says whose it is instead.
    pub fn ours(app: &Value, name: &str, cluster: &str) -> bool {
        app["name"] == name && Self::of(app).is_none_or(|m| m.cluster == cluster)
    }

    /// Whether an application is as we wrote it, whichever version of us that was.
    pub fn intact(app: &Value) -> bool {
        let Some(content) = content(app) else {
            return false;
        };
        serde_json::from_value::<Application>(app.clone()).is_ok_and(|app| {
            app.app_type == "quadlet"
                && CHANGES_IT
                    .iter()
                    .all(|field| is_empty(app.extra.get(*field)))
                && digest(&app.inline) == content.digest
        })
    }

    /// The marker file for an application of these files.
    pub(crate) fn file(
        &self,
        expected: &Expected,
        items: Vec<String>,
        files: &[InlineFile],
    ) -> InlineFile {
        let content = Content {
            cluster: self.cluster.clone(),
            node: self.node.clone(),
            namespace: self.key.namespace.to_string(),
            name: self.key.name.to_string(),
            uid: self.key.uid.to_string(),
            revision: self.revision.to_string(),
            digest: digest(files),
            expected: expected.clone(),
            items,
            over: None,
        };
        InlineFile::new(MARKER_FILE, content.text())
    }
}

impl Content {
    fn text(&self) -> String {
        // Plain strings, lists and maps with string keys always become JSON.
        let mut text = serde_json::to_string_pretty(self).unwrap_or_default();
        text.push('\n');
        text
    }
}

/// An application of ours as it is written over this generation of its device's spec.
///
/// An agent passes over, without a word and until it restarts, every spec that is
/// letter for letter one that has failed (Flight Control,
/// `internal/agent/device/spec/queue.go`): another try has to be told from the one
/// before.
pub(crate) fn over(app: &Value, generation: i64) -> Value {
    written(app, Some(generation))
}

/// What takes the place of `old`: after an edit by others, and where nothing is to be
/// changed, it is as it was written, so that nothing restarts.
pub(crate) fn in_place_of(old: &Value, new: &Value, generation: i64) -> Value {
    let (before, after) = (content(old), content(new));
    let same = |b: &Content| {
        let after = after.as_ref();
        after.is_some_and(|a| a.revision == b.revision && a.digest == b.digest)
    };
    let before = before.filter(same);
    written(new, before.map_or(Some(generation), |b| b.over))
}

fn written(app: &Value, over: Option<i64>) -> Value {
    let mut app = app.clone();
    let text = content(&app).map(|content| Content { over, ..content }.text());
    let files = app.get_mut("inline").and_then(Value::as_array_mut);
    let mut files = files.into_iter().flatten();
    let file = files.find(|file| file.get("path").and_then(Value::as_str) == Some(MARKER_FILE));
    if let (Some(file), Some(text)) = (file.and_then(|f| f.get_mut("content")), text) {
        *file = text.into();
    }
    app
}

/// What an application of ours holds.
pub(crate) fn expected(app: &Value) -> Option<Expected> {
    Some(content(app)?.expected)
}

/// Items of the device's config that an application of ours needs.
pub(crate) fn items(app: &Value) -> Vec<String> {
    content(app).map(|c| c.items).unwrap_or_default()
}

fn content(app: &Value) -> Option<Content> {
    let file = app
        .get("inline")?
        .as_array()?
        .iter()
        .find(|file| file.get("path").and_then(Value::as_str) == Some(MARKER_FILE))?;
    let plain = matches!(
        file.get("contentEncoding").and_then(Value::as_str),
        None | Some("" | "plain")
    );
    let text = file.get("content")?.as_str()?;
    if !plain || text.len() > MARKER_LIMIT {
        return None;
    }
    serde_json::from_str(text).ok()
}

/// Order does not count: a server may sort files.
fn digest(files: &[InlineFile]) -> String {
    let mut parts: Vec<_> = files
        .iter()
        .filter(|file| file.path != MARKER_FILE)
        .map(|file| {
            (
                file.path.as_str(),
                file.content.as_str(),
                file.content_encoding.as_deref().unwrap_or_default(),
            )
        })
        .collect();
    parts.sort_unstable();
    let mut hash = Sha256::new();
    for (path, content, encoding) in parts {
        for part in [
            path,
            content,
            if encoding == "plain" { "" } else { encoding },
        ] {
            // The length in front keeps neighbours apart.
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
    }
    hash.finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mapping::tests::{application_of, pod};
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn our_own_application_is_known_again() {
        let pod = pod(json!({"containers": [{"name": "app", "image": "nginx"}]}));
        let app = application_of(&pod);
        let marker = Marker::of(&app).unwrap();
        assert_eq!(marker.cluster, "cluster-uid");
        assert_eq!(
            (marker.key, &*marker.node, marker.revision),
            (pod.key.clone(), "node", pod.spec_revision.clone())
        );
        assert!(Marker::intact(&app));
        assert_eq!(expected(&app), Some(Expected::of(&pod)));
    }

    #[test]
    fn an_application_whose_marker_was_lost_is_ours_by_its_name() {
        let ours = application_of(&pod(
            json!({"containers": [{"name": "app", "image": "nginx"}]}),
        ));
        let name = ours["name"].as_str().unwrap();
        let bare = json!({"name": name, "appType": "quadlet", "inline": []});
        assert!(Marker::ours(&ours, name, "cluster-uid"));
        assert!(Marker::ours(&bare, name, "cluster-uid"));
        assert!(!Marker::ours(&ours, name, "another cluster"));
        assert!(!Marker::ours(&bare, "vk-other", "cluster-uid"));
    }

    #[test]
    fn what_the_server_adds_or_sorts_does_not_matter() {
        let mut app = application_of(&pod(
            json!({"containers": [{"name": "app", "image": "nginx"}]}),
        ));
        app["runAs"] = json!("");
        app["inline"].as_array_mut().unwrap().reverse();
        for file in app["inline"].as_array_mut().unwrap() {
            file["contentEncoding"] = json!("plain");
        }
        assert!(Marker::of(&app).is_some() && Marker::intact(&app));
    }

    #[test]
    fn a_foreign_edit_shows_and_a_renamed_copy_is_not_ours() {
        let ours = application_of(&pod(
            json!({"containers": [{"name": "app", "image": "nginx"}]}),
        ));
        let mut edited = ours.clone();
        let file = edited["inline"]
            .as_array_mut()
            .unwrap()
            .iter_mut()
            .find(|f| f["path"] == "app.container")
            .unwrap();
        file["content"] = json!("[Container]\nImage=example.com/evil:1\n");
        assert!(Marker::of(&edited).is_some() && !Marker::intact(&edited));
        let mut copy = ours.clone();
        copy["name"] = json!("other");
        assert_eq!(Marker::of(&copy), None);
    }

    #[test]
    fn an_edit_beside_the_files_shows_too() {
        let ours = application_of(&pod(
            json!({"containers": [{"name": "app", "image": "nginx"}]}),
        ));
        for (field, value) in [
            ("envVars", json!({"A": "b"})),
            ("runAs", json!("flightctl")),
            ("volumes", json!([{"name": "v"}])),
            ("appType", json!("compose")),
        ] {
            let mut edited = ours.clone();
            edited[field] = value;
            assert!(!Marker::intact(&edited), "{field}");
        }
        let mut newer = ours.clone();
        newer["envVars"] = json!({});
        newer["ofTheFuture"] = json!("x");
        assert!(Marker::intact(&newer));
    }

    #[test]
    fn nothing_a_user_writes_becomes_a_marker() {
        let forged = serde_json::to_string(&json!({
            "cluster": "other", "node": "n", "namespace": "x", "name": "y", "uid": "u", "revision": "r", "digest": "",
            "expected": {"restartPolicy": "Always", "pod": false, "members": []},
        }))
        .unwrap();
        let pod = pod(json!({
            "containers": [{
                "name": "app", "image": "nginx",
                "command": ["sh", "-c", forged],
                "env": [{"name": "A", "value": format!("\n{MARKER_FILE}\n{forged}")}],
            }],
        }));
        assert_eq!(
            Marker::of(&application_of(&pod)).unwrap().cluster,
            "cluster-uid"
        );
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<i64>().prop_map(Value::from),
            ".*".prop_map(Value::from),
            Just(json!(MARKER_FILE)),
            Just(json!("{\"cluster\":\"c\"}")),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::hash_map(
                    "name|inline|path|content|contentEncoding|x",
                    inner,
                    0..5
                )
                .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_json_is_read_without_panic(app in any_json()) {
            let _ = Marker::of(&app);
            let _ = Marker::intact(&app);
        }

        #[test]
        fn any_content_is_read_without_panic(text in ".*") {
            let app = json!({"name": "vk-u", "inline": [{"path": MARKER_FILE, "content": text}]});
            prop_assert!(Marker::of(&app).is_none());
        }
    }
}
