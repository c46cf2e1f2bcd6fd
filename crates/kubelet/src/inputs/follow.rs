//! The watch of one source.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use futures::StreamExt;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, Resource};
use tokio_util::task::AbortOnDropHandle;
use tracing::warn;

use super::read::{Object, Referred, Shown};
use super::source::{Kind, Known, Source};
use super::{Shared, Store};
use crate::cause::chain;
use crate::pace::paced;

/// Where every namespace has the certificates of the API server.
const ROOT_CA: &str = "kube-root-ca.crt";
/// Its key.
const CA_KEY: &str = "ca.crt";

/// Follows `source` for `store` until the handle is dropped.
pub(super) fn follow(store: &Store, source: Source) -> AbortOnDropHandle<()> {
    let client = paced(store.0.client.clone());
    let store = Arc::downgrade(&store.0);
    AbortOnDropHandle::new(tokio::spawn(async move {
        match source.kind {
            Kind::ConfigMap => keep::<ConfigMap>(store, client, source).await,
            Kind::Secret => keep::<Secret>(store, client, source).await,
            Kind::Service => keep::<Service>(store, client, source).await,
        }
    }))
}

async fn keep<K: Referred>(store: Weak<Shared>, client: Client, source: Source) {
    let api = Api::<Shown<K>>::namespaced(client, &source.namespace);
    let config = match &source.name {
        Some(name) => watcher::Config::default().fields(&format!("metadata.name={name}")),
        None => watcher::Config::default(),
    };
    loop {
        let mut events = watcher::watcher(api.clone(), config.clone())
            .default_backoff()
            .boxed();
        let mut there = BTreeMap::new();
        let mut listed = BTreeMap::new();
        while let Some(event) = events.next().await {
            // Whoever wants to know is gone.
            let Some(store) = store.upgrade().map(Store) else {
                return;
            };
            match event {
                Err(error) => match denied(&error) {
                    // Listed anew: a watch that works again would not say so.
                    Some(words) => {
                        store.hear(&source, Known::Denied(words));
                        break;
                    }
                    None => {
                        let why = chain(&error);
                        warn!(?source, error = why, "watch of an object interrupted");
                        store.hear(&source, Known::Failing(why));
                        continue;
                    }
                },
                Ok(Event::Init) => {
                    listed.clear();
                    continue;
                }
                Ok(Event::InitApply(shown)) => {
                    listed.extend(named(shown));
                    continue;
                }
                Ok(Event::InitDone) => there = std::mem::take(&mut listed),
                Ok(Event::Apply(shown)) => there.extend(named(shown)),
                Ok(Event::Delete(shown)) => {
                    there.remove(shown.meta().name.as_deref().unwrap_or_default());
                }
            }
            let known = store.known(&source, &there);
            store.hear(&source, known);
        }
    }
}

type There = BTreeMap<String, Option<Object>>;

fn named<K>(shown: Shown<K>) -> Option<(String, Option<Object>)>
where
    Shown<K>: Resource<DynamicType = ()>,
{
    let name = shown.meta().name.clone()?;
    Some((name, shown.object))
}

impl Store {
    /// What a source's objects come to.
    fn known(&self, source: &Source, there: &There) -> Known {
        let Some(objects) = there.values().cloned().collect::<Option<Vec<_>>>() else {
            // The present one stays, if there is one.
            warn!(?source, "an object is not what the API defines");
            return Known::Failing("it is not what the API defines".into());
        };
        let objects: Vec<_> = objects.into_iter().map(|o| self.adapted(o)).collect();
        let keys = &self.0.keys;
        let prints = objects.iter().map(|object| object.print(keys));
        let print = prints.reduce(|all, one| all.rotate_left(1) ^ one);
        Known::Is(objects, print)
    }

    /// What workloads outside the cluster need instead.
    fn adapted(&self, object: Object) -> Object {
        match (object, &self.0.settings.api_server_ca) {
            (Object::ConfigMap(map), Some(ca)) if map.metadata.name.as_deref() == Some(ROOT_CA) => {
                let mut map = Arc::unwrap_or_clone(map);
                let data = map.data.get_or_insert_default();
                data.insert(CA_KEY.into(), ca.clone());
                Object::ConfigMap(Arc::new(map))
            }
            (object, _) => object,
        }
    }
}

/// The server's words, where it forbids the request.
fn denied(error: &watcher::Error) -> Option<String> {
    let status = match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchError(status) => status,
        _ => return None,
    };
    (status.code == 403).then(|| status.message.clone())
}
