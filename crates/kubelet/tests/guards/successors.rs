//! A pod of the same name takes the place of the one that a write is about,
//! while that write is on its way.

use std::sync::{Arc, OnceLock};

use futures::FutureExt;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use virtual_kubelet::JOURNAL_ANNOTATION;

use crate::rig::{Meet, Rig, first, seconds};
use crate::suite::memory::JOURNALS;
use crate::suite::world::uid;

/// Where the successor goes, known once the world is there.
type Place = Arc<OnceLock<(Api<Pod>, Pod)>>;

fn replacing(
    place: &Place,
    met: impl Fn(&http::request::Parts) -> bool + Send + Sync + 'static,
) -> Meet {
    let place = place.clone();
    Arc::new(move |parts| {
        let replaces = met(parts);
        let place = place.clone();
        async move {
            if replaces {
                let (pods, heir) = place.get().unwrap();
                let now = DeleteParams::default().grace_period(0);
                pods.delete("heir", &now).await.unwrap();
                pods.create(&PostParams::default(), heir).await.unwrap();
            }
            None
        }
        .boxed()
    })
}

#[tokio::test(start_paused = true)]
async fn the_final_delete_spares_a_successor_of_the_same_name() {
    let place = Place::default();
    let mut rig = Rig::met(replacing(&place, first("DELETE", "/pods/heir"))).await;
    let pod = rig.world.pod("heir", "Always");
    place.set((rig.world.pods(), pod.clone())).unwrap();
    let before = rig.world.create(&pod).await;
    rig.world.running("heir").await;
    rig.world.delete("heir", Some(30)).await;
    rig.world.gone("heir", &uid(&before)).await;
    seconds(100).await;
    let heir = rig.world.running("heir").await;
    assert!(heir.metadata.deletion_timestamp.is_none());
    assert_ne!(uid(&heir), uid(&before));
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_journal_is_not_written_to_a_successor_of_the_same_name() {
    let place = Place::default();
    let mut rig = Rig::met(replacing(&place, first("PATCH", "/pods/heir"))).await;
    let mut pod = rig.world.pod("heir", "Always");
    place.set((rig.world.pods(), pod.clone())).unwrap();
    pod.metadata.annotations = Some([(JOURNALS.to_owned(), "yes".to_owned())].into());
    let before = rig.world.create(&pod).await;
    rig.world.gone("heir", &uid(&before)).await;
    let heir = rig.world.running("heir").await;
    seconds(10).await;
    let annotations = heir.metadata.annotations.unwrap_or_default();
    assert!(
        !annotations.contains_key(JOURNAL_ANNOTATION),
        "{annotations:?}"
    );
    rig.stop().await;
}
