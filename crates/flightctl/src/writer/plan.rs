//! What is written to a device for some changes of it: pure.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::Change;
use crate::device::DeviceView;
use crate::items::{DEVICE_LIMIT, Item, Seen};
use crate::marker::{self, Marker};
use crate::private::Private;

/// A write to be.
#[derive(Debug)]
pub(super) struct Plan {
    /// A JSON Patch for the device as it was read, and for no other; none if it is
    /// as it shall be.
    pub(super) patch: Option<Private>,
    /// Whether it makes another version for the device.
    pub(super) versioned: bool,
    /// For each change, why it is left out, if it is.
    pub(super) left: Vec<Option<String>>,
}

/// Applies changes to a device as it was read. What is of others stays as it is
/// and where it is. A change whose files would be too much is left out whole: the
/// service could refuse the request, and with it those of its neighbours.
pub(super) fn plan(view: &DeviceView, changes: &[&Change], cluster: &str) -> Plan {
    let mut spec = Spec {
        apps: view.applications.clone(),
        items: view.items.clone(),
        labels: view.labels.clone(),
        generation: view.generation,
        operations: Vec::new(),
    };
    let left = changes.iter().map(|c| spec.apply(c, cluster)).collect();
    let Spec {
        apps,
        labels,
        mut operations,
        ..
    } = spec;
    if apps != view.applications {
        operations.insert(
            0,
            json!({"op": "add", "path": "/spec/applications", "value": apps}),
        );
    }
    let versioned = !operations.is_empty();
    operations.extend(relabel(&view.labels, &labels));
    let patch = (!operations.is_empty()).then(|| {
        let read = json!({"op": "test", "path": "/metadata/generation", "value": view.generation});
        operations.insert(0, read);
        Value::Array(operations).into()
    });
    Plan {
        patch,
        versioned,
        left,
    }
}

/// The operations on labels: single ones, so that others may write theirs meanwhile.
fn relabel(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) -> Vec<Value> {
    let path = |key: &str| {
        let key = key.replace('~', "~0").replace('/', "~1");
        format!("/metadata/labels/{key}")
    };
    if before.is_empty() && !after.is_empty() {
        return vec![json!({"op": "add", "path": "/metadata/labels", "value": after})];
    }
    let gone = before.keys().filter(|key| !after.contains_key(*key));
    let gone = gone.map(|key| json!({"op": "remove", "path": path(key)}));
    let new = after
        .iter()
        .filter(|(key, value)| before.get(*key) != Some(*value));
    let new = new.map(|(key, value)| json!({"op": "add", "path": path(key), "value": value}));
    gone.chain(new).collect()
}

/// A device's spec as it becomes.
struct Spec {
    apps: Vec<Value>,
    items: Option<Vec<Seen>>,
    labels: BTreeMap<String, String>,
    /// What it is written over.
    generation: i64,
    operations: Vec<Value>,
}

impl Spec {
    fn apply(&mut self, change: &Change, cluster: &str) -> Option<String> {
        let name = change.app();
        let place = self
            .apps
            .iter()
            .position(|app| Marker::ours(app, name, cluster));
        if let Some(why) = self.too_large(change) {
            return Some(why);
        }
        match (change, place) {
            (Change::Put(workload), Some(place)) => {
                if let Some(app) = self.apps.get_mut(place) {
                    *app = marker::in_place_of(app, &workload.app, self.generation);
                }
            }
            (Change::Restore(before), Some(place)) => {
                if let Some(app) = self.apps.get_mut(place) {
                    *app = before.app.clone();
                }
            }
            (Change::Put(workload), None) => {
                self.apps.push(marker::over(&workload.app, self.generation));
            }
            // Without its application it has been taken out meanwhile, and its
            // files with it.
            (Change::Refresh { .. } | Change::Restore(_), None) => return None,
            (Change::Refresh { .. }, Some(_)) => {}
            (Change::Remove(_) | Change::End(_) | Change::Bury(_), Some(_)) => {
                self.apps.retain(|app| !Marker::ours(app, name, cluster));
            }
            (Change::Unbury(_), Some(_)) => {}
            // It was put back, and has its files.
            (Change::Clear(_), Some(_)) => return None,
            // Another cluster's application of this name has items of these names.
            (Change::Remove(_) | Change::Clear(_), None)
                if self.apps.iter().any(|app| app["name"] == name) =>
            {
                return None;
            }
            (
                Change::Remove(_)
                | Change::End(_)
                | Change::Clear(_)
                | Change::Bury(_)
                | Change::Unbury(_),
                None,
            ) => {}
        }
        match change {
            Change::Bury(tomb) => {
                self.labels
                    .insert(tomb.label.clone(), tomb.value().to_owned());
            }
            Change::Unbury(tomb) => {
                self.labels.remove(&tomb.label);
            }
            _ => {}
        }
        for (name, item) in change.items() {
            self.set(&name, item);
        }
        None
    }

    /// Why a change is too much, if it makes the files of the device more.
    fn too_large(&self, change: &Change) -> Option<String> {
        let before: usize = self.items.iter().flatten().map(|item| item.bytes).sum();
        let items = change.items();
        let own = |name: &str| items.iter().any(|(own, _)| own == name);
        let kept = self.items.iter().flatten().filter(|item| !own(&item.name));
        let others: usize = kept.map(|item| item.bytes).sum();
        let new = items.iter().filter_map(|(_, item)| *item);
        let new: usize = new.map(Item::bytes).sum();
        (others + new > DEVICE_LIMIT && others + new > before).then(|| {
            format!(
                "the pod's files take {new} bytes in its spec, beside {others} of others, and \
                 {DEVICE_LIMIT} are the most that Flight Control is sent for one device"
            )
        })
    }

    fn set(&mut self, name: &str, item: Option<&Item>) {
        let place = self.items.iter().flatten().position(|i| i.name == name);
        let operation = match (place, &mut self.items, item) {
            (Some(place), Some(items), Some(item)) => {
                if items.get(place).is_some_and(|i| i.seal == *item.seal()) {
                    return;
                }
                if let Some(known) = items.get_mut(place) {
                    *known = item.seen().clone();
                }
                let path = format!("/spec/config/{place}");
                json!({"op": "replace", "path": path, "value": item.value()})
            }
            (Some(place), Some(items), None) => {
                items.remove(place);
                json!({"op": "remove", "path": format!("/spec/config/{place}")})
            }
            (None, Some(items), Some(item)) => {
                items.push(item.seen().clone());
                json!({"op": "add", "path": "/spec/config/-", "value": item.value()})
            }
            (_, None, Some(item)) => {
                self.items = Some(vec![item.seen().clone()]);
                json!({"op": "add", "path": "/spec/config", "value": [item.value()]})
            }
            (_, _, None) => return,
        };
        self.operations.push(operation);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::away::tomb::Tomb;
    use crate::items::{File, environment_item};
    use crate::mapping::tests::{application, pod};
    use crate::mapping::{Workload, folder};
    use crate::placed::Before;

    fn app(cluster: &str) -> Value {
        let pod = pod(json!({"containers": [{"name": "app", "image": "nginx"}]}));
        application(&pod, cluster).unwrap()
    }

    fn name() -> String {
        app("cluster")["name"].as_str().unwrap().to_owned()
    }

    fn item(name: &str, content: &str) -> Item {
        let path = format!("{}/v/key", folder(name));
        let content = content.into();
        let (mode, uid, gid) = (0o644, 0, 0);
        Item::new(
            name,
            &[File {
                path,
                content,
                mode,
                uid,
                gid,
            }],
        )
    }

    fn put(content: &str) -> Change {
        Change::Put(Box::new(Workload {
            app: app("cluster"),
            volumes: Some(item(&name(), content)),
            environment: Some(item(&environment_item(&name()), "secret")),
            skipped: Vec::new(),
        }))
    }

    fn restore(app: &Value, environment: Option<Item>) -> Change {
        let app = app.clone();
        Change::Restore(Box::new(Before { app, environment }))
    }

    fn foreign(name: &str) -> Value {
        json!({"name": name, "gitRef": {"repository": "r", "path": "/", "targetRevision": "main"}})
    }

    /// A device's spec after changes, each in its own write or all in one.
    fn after(spec: &Value, changes: &[&Change]) -> Value {
        let mut doc = json!({"metadata": {"name": "a"}, "spec": spec});
        let view = DeviceView::of(&doc).unwrap();
        let plan = plan(&view, changes, "cluster");
        assert!(plan.left.iter().all(Option::is_none), "{plan:?}");
        let patch = plan.patch.iter().flat_map(|p| p.as_array().unwrap());
        for operation in patch.skip(1) {
            let path = operation["path"].as_str().unwrap();
            let (list, key) = path.rsplit_once('/').unwrap();
            let value = operation["value"].clone();
            let place = doc.pointer_mut(list).unwrap();
            match (operation["op"].as_str().unwrap(), key.parse::<usize>()) {
                ("add", Err(_)) if key == "-" => place.as_array_mut().unwrap().push(value),
                ("add", Err(_)) => place[key] = value,
                ("replace", Ok(at)) => place[at] = value,
                ("remove", Ok(at)) => drop(place.as_array_mut().unwrap().remove(at)),
                other => panic!("{other:?}"),
            }
        }
        doc["spec"].clone()
    }

    #[test]
    fn a_tombstone_comes_with_the_end_and_makes_no_version_alone() {
        let tomb = Tomb {
            label: "vk.flightctl.io/gone-1".into(),
            app: name(),
        };
        let of = |labels: Value, apps: Value, change: Change| {
            let doc = json!({
                "metadata": {"name": "a", "labels": labels},
                "spec": {"applications": apps},
            });
            let plan = plan(&DeviceView::of(&doc).unwrap(), &[&change], "cluster");
            let patch = plan.patch.iter().flat_map(|p| p.as_array().unwrap());
            (plan.versioned, patch.skip(1).cloned().collect::<Vec<_>>())
        };
        let bury = || Change::Bury(tomb.clone());
        let value = tomb.value();
        let label = |op: &str| match op {
            "remove" => json!({"op": op, "path": "/metadata/labels/vk.flightctl.io~1gone-1"}),
            _ => {
                json!({"op": op, "path": "/metadata/labels/vk.flightctl.io~1gone-1", "value": value})
            }
        };
        let out = json!({"op": "add", "path": "/spec/applications", "value": []});
        let (labels, laid) = (
            json!({"a": "b"}),
            json!({"a": "b", "vk.flightctl.io/gone-1": value}),
        );
        let with = json!([app("cluster")]);
        assert_eq!(
            of(labels.clone(), with.clone(), bury()),
            (true, vec![out, label("add")])
        );
        assert_eq!(
            of(labels.clone(), json!([]), bury()),
            (false, vec![label("add")])
        );
        assert_eq!(of(laid.clone(), json!([]), bury()), (false, vec![]));
        let unbury = || Change::Unbury(tomb.clone());
        assert_eq!(
            of(laid, with.clone(), unbury()),
            (false, vec![label("remove")])
        );
        assert_eq!(of(labels, with, unbury()), (false, vec![]));
    }

    fn items(spec: &Value) -> Vec<&str> {
        let items = spec["config"].as_array().into_iter().flatten();
        items.map(|i| i["name"].as_str().unwrap()).collect()
    }

    #[test]
    fn an_application_of_another_cluster_is_neither_replaced_nor_taken_out() {
        let (ours, theirs) = (app("cluster"), app("another"));
        let other = json!({"name": "x", "appType": "quadlet", "inline": []});
        let spec = json!({"applications": [theirs, other], "config": [foreign(&name())]});
        let remove = Change::Remove(name());
        let restore = restore(&ours, None);
        for change in [
            &remove,
            &restore,
            &Change::End(name()),
            &Change::Clear(name()),
        ] {
            assert_eq!(after(&spec, &[change]), spec);
        }
        let put = put("text");
        let both = after(&spec, &[&put]);
        let written = marker::over(&ours, 0);
        assert_eq!(both["applications"], json!([theirs, other, written]));
        let spec = json!({"applications": [ours, theirs]});
        assert_eq!(after(&spec, &[&remove])["applications"], json!([theirs]));
    }

    #[test]
    fn files_come_and_go_with_their_application_and_those_of_others_stay() {
        let others = json!({"applications": [], "config": [foreign("theirs"), foreign("more")]});
        for spec in [json!({}), json!({"config": []}), others] {
            let here = after(&spec, &[&put("text")]);
            let mut expected = items(&spec);
            let (own, environment) = (name(), environment_item(&name()));
            expected.extend([own.as_str(), environment.as_str()]);
            assert_eq!(items(&here), expected);
            assert_eq!(after(&here, &[&put("text")]), here, "nothing to do");
            let gone = after(&here, &[&Change::Remove(name())]);
            assert_eq!(items(&gone), items(&spec));
            let ended = after(&here, &[&Change::End(name())]);
            assert_eq!(
                ended["applications"],
                spec["applications"]
                    .as_array()
                    .map_or(json!([]), |a| json!(a))
            );
            assert_eq!(ended["config"], here["config"], "its containers have them");
            let cleared = after(&ended, &[&Change::Clear(name())]);
            assert_eq!(items(&cleared), items(&spec));
            assert_eq!(after(&here, &[&Change::Clear(name())]), here, "it is there");
            let both = [&put("text"), &Change::Remove(name()), &put("other")];
            assert_eq!(items(&after(&spec, &both)), expected);
        }
    }

    #[test]
    fn what_is_written_again_is_told_from_what_was_refused_and_what_stands_stays() {
        let at = |generation: i64, apps: Value| {
            let metadata = json!({"name": "a", "generation": generation});
            let doc = json!({"metadata": metadata, "spec": {"applications": apps}});
            let view = DeviceView::of(&doc).unwrap();
            let patch = plan(&view, &[&put("text")], "cluster").patch?;
            let operations = patch.as_array().unwrap().iter();
            let mut apps = operations.filter(|o| o["path"] == "/spec/applications");
            Some(apps.next()?["value"].clone())
        };
        let first = at(3, json!([])).unwrap();
        let again = at(5, json!([])).unwrap();
        assert_ne!(first, again);
        assert!(Marker::intact(&again[0]));
        assert_eq!(Marker::of(&first[0]), Marker::of(&again[0]));
        assert!(at(7, again).is_none(), "it stands there");
        let mut edited = first.clone();
        edited[0]["inline"][1]["content"] = json!("[Container]");
        assert_eq!(at(7, edited), Some(first), "as it ran before the edit");
        assert!(
            at(7, json!([app("cluster")])).is_none(),
            "of an earlier process"
        );
    }

    #[test]
    fn a_refresh_touches_one_item_and_only_beside_its_application() {
        let spec = json!({"applications": [], "config": [foreign("theirs")]});
        let here = after(&spec, &[&put("text")]);
        let volumes = item(&name(), "newer");
        let refresh = Change::Refresh {
            app: name(),
            volumes: volumes.clone(),
        };
        let fresh = after(&here, &[&refresh]);
        assert_eq!(fresh["applications"], here["applications"]);
        assert_eq!(fresh["config"][1], *volumes.value());
        assert_eq!(fresh["config"][2], here["config"][2]);
        assert_eq!(
            after(&spec, &[&refresh]),
            spec,
            "it was taken out meanwhile"
        );
    }

    #[test]
    fn what_is_put_back_is_the_application_alone_and_only_where_one_is() {
        let before = after(&json!({}), &[&put("text")]);
        let mut newer = after(&before, &[&put("newer")]);
        newer["applications"][0]["inline"] = json!([]);
        let ran = before["applications"][0].clone();
        let restored = after(&newer, &[&restore(&ran, None)]);
        assert_eq!(restored["applications"], before["applications"]);
        assert_eq!(restored["config"], newer["config"], "its files are newer");
        let variables = item(&environment_item(&name()), "older");
        let restored = after(&newer, &[&restore(&ran, Some(variables.clone()))]);
        assert_eq!(restored["config"][0], newer["config"][0]);
        assert_eq!(
            restored["config"][1],
            *variables.value(),
            "what it is started with"
        );
        let none = json!({"applications": [], "config": []});
        let restore = restore(&app("cluster"), Some(variables));
        assert_eq!(after(&none, &[&restore]), none);
    }

    #[test]
    fn what_is_too_large_is_left_out_with_its_numbers_and_alone() {
        let view = DeviceView::of(&json!({"metadata": {"name": "a"}, "spec": {}})).unwrap();
        // Two of these are a little more than a device takes.
        let content = "x".repeat(DEVICE_LIMIT / 2);
        let large = |app: &str| {
            Change::Put(Box::new(Workload {
                app: json!({"name": app}),
                volumes: Some(item(app, &content)),
                environment: None,
                skipped: Vec::new(),
            }))
        };
        let small = put("text");
        let changes = [&large("one"), &large("two"), &small];
        let plan = plan(&view, &changes, "cluster");
        let why = plan.left[1].as_deref().unwrap();
        assert!(plan.left[0].is_none() && plan.left[2].is_none());
        assert!(why.contains("16777216") && why.contains("8388"), "{why}");
        let apps = &plan.patch.as_ref().unwrap()[1]["value"];
        assert_eq!(apps.as_array().unwrap().len(), 2);
        // One that is there already may stay as large as it is, or get smaller.
        let full = json!({"metadata": {"name": "a"}, "spec": {
            "applications": [app("cluster")],
            "config": [foreign("theirs"), item(&name(), &"x".repeat(DEVICE_LIMIT)).value()]}});
        let view = DeviceView::of(&full).unwrap();
        let plan = super::plan(&view, &[&small], "cluster");
        assert_eq!(plan.left, [None]);
    }
}
