//! What a backend was given of a pod's inputs last, and whether what is there
//! now would be news to running containers. Pure.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::num::NonZeroU64;

use k8s_openapi::api::core::v1::{DownwardAPIVolumeFile, Pod};
use vk_provider::environment::Read;

use crate::desired::JOURNAL_ANNOTATION;

/// Fingerprints of a pod's inputs at one time. Known to this process alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// In the order of the pod's references; `None` for what is not there.
    pub(super) objects: Box<[(Read, Option<u64>)]>,
    /// Of the labels and annotations, where a volume shows them.
    pub(super) downward: Option<NonZeroU64>,
    /// Numbers of the tokens.
    pub(super) tokens: Box<[u64]>,
}

impl Seen {
    /// Whether running containers would see a difference. An object that is gone
    /// is none: they keep what they have, and what it held comes as news only
    /// when it is back.
    pub(crate) fn is_outdated_by(&self, now: &Self) -> bool {
        let objects = self.objects.iter().zip(&now.objects);
        let mut objects = objects.filter(|(_, (read, _))| *read == Read::WhileRunning);
        // A pod that refers to more than it did has its places moved.
        self.objects.len() != now.objects.len()
            || objects.any(|((_, given), (_, now))| now.is_some() && now != given)
            || self.downward != now.downward
            || self.tokens != now.tokens
    }
}

/// A fingerprint of the labels and annotations of a pod that has a volume which
/// may show them. The journal is not among them: a backend that writes it while
/// it is given the pod would be given it again for that.
pub(crate) fn downward(pod: &Pod) -> Option<NonZeroU64> {
    let volumes = pod.spec.as_ref()?.volumes.iter().flatten();
    let mut items = volumes.flat_map(|volume| {
        let own = volume.downward_api.iter().filter_map(|d| d.items.as_ref());
        let projected = volume.projected.iter().filter_map(|p| p.sources.as_ref());
        let projected = projected.flatten().filter_map(|s| s.downward_api.as_ref());
        own.chain(projected.filter_map(|d| d.items.as_ref()))
            .flatten()
    });
    if !items.any(shows_what_changes) {
        return None;
    }
    let mut hash = DefaultHasher::new();
    pod.metadata.labels.hash(&mut hash);
    for pair in pod.metadata.annotations.iter().flatten() {
        if pair.0 != JOURNAL_ANNOTATION {
            pair.hash(&mut hash);
        }
    }
    NonZeroU64::new(hash.finish() | 1)
}

/// `metadata.labels`, `metadata.annotations['x']`: no other field changes.
fn shows_what_changes(item: &DownwardAPIVolumeFile) -> bool {
    item.field_ref.as_ref().is_some_and(|field| {
        let path = &field.field_path;
        path.starts_with("metadata.labels") || path.starts_with("metadata.annotations")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn seen(read: Read, print: Option<u64>) -> Seen {
        Seen {
            objects: [(read, print)].into(),
            ..Seen::default()
        }
    }

    #[test]
    fn only_what_is_read_while_containers_run_is_news_to_them() {
        let news = |read| seen(read, Some(1)).is_outdated_by(&seen(read, Some(2)));
        assert!(news(Read::WhileRunning));
        assert!(!news(Read::AtStart));
        assert!(!news(Read::ToPull));
    }

    #[test]
    fn an_object_that_goes_is_no_news_and_one_that_is_back_is_where_it_was_missed() {
        let of = |print| seen(Read::WhileRunning, print);
        assert!(!of(Some(1)).is_outdated_by(&of(None)));
        assert!(!of(Some(1)).is_outdated_by(&of(Some(1))), "back as it was");
        assert!(of(Some(1)).is_outdated_by(&of(Some(2))), "back as another");
        assert!(of(None).is_outdated_by(&of(Some(1))), "given without it");
    }

    #[test]
    fn a_pod_that_has_come_to_refer_to_more_is_looked_at_anew() {
        let given = seen(Read::WhileRunning, Some(1));
        // An ephemeral container names what is not there, before what has changed.
        let now = Seen {
            objects: [(Read::AtStart, None), (Read::WhileRunning, Some(2))].into(),
            ..Seen::default()
        };
        assert!(given.is_outdated_by(&now));
    }

    #[test]
    fn a_renewed_token_is_news() {
        let of = |number| Seen {
            tokens: [number].into(),
            ..Seen::default()
        };
        assert!(of(1).is_outdated_by(&of(2)));
        assert!(!of(2).is_outdated_by(&of(2)));
    }

    #[test]
    fn labels_count_where_a_volume_shows_them_and_the_journal_never_does() {
        let pod = |field: &str, metadata: serde_json::Value| -> Pod {
            let item = json!({"path": "f", "fieldRef": {"fieldPath": field}});
            serde_json::from_value(json!({"metadata": metadata, "spec": {
                "containers": [],
                "volumes": [{"name": "v", "projected": {"sources": [{"downwardAPI": {"items": [item]}}]}}],
            }}))
            .unwrap()
        };
        let bare = json!({});
        let labelled = json!({"labels": {"a": "b"}});
        let annotated = json!({"annotations": {"a": "b"}});
        let journal = json!({"annotations": {JOURNAL_ANNOTATION: "b"}});
        let of = |metadata: &serde_json::Value| downward(&pod("metadata.labels", metadata.clone()));
        assert_ne!(of(&bare), of(&labelled));
        assert_ne!(of(&bare), of(&annotated));
        assert_eq!(of(&bare), of(&journal));
        assert_eq!(downward(&pod("metadata.name", labelled)), None);
    }
}
