//! A pod's inputs, put together when they are known.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use k8s_openapi::api::core::v1::Pod;
use tokio::time::timeout;
use vk_provider::environment::{Read, references};
use vk_provider::{Inputs, PodKey, PodRequest, RenderError, TokenAsk};

use super::read::Object;
use super::seen::Seen;
use super::source::{Kind, Source};
use super::unread::Problems;
use super::{State, Store};

/// How long a pod waits for the API server's answers about its inputs; then it
/// is shown why, and tried again. A list of one object takes milliseconds, and
/// thousands of them at a start come in turn.
pub(super) const DEADLINE: Duration = Duration::from_secs(10);

/// Objects that one pod may name: each is a watch, and a spec has room for ten
/// thousand of them, with which one pod could take up the connection of all.
pub(super) const MAX_OBJECTS: usize = 1000;

/// What a pod is given.
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    /// The objects, as far as they could be read.
    pub(crate) inputs: Arc<Inputs>,
    /// Their fingerprints; `None` where the backend wants nothing.
    pub(crate) seen: Option<Box<Seen>>,
    /// Why Secrets for pulls could not be read, which stops nothing.
    pub(crate) unread_for_pulls: Vec<String>,
}

impl Gathered {
    /// What keeps a pod from being started.
    pub(crate) fn unread(&self) -> Option<&RenderError> {
        self.inputs.unread.as_ref()
    }
}

/// What a pod refers to.
pub(super) struct Wanted {
    pub(super) objects: BTreeMap<Source, Read>,
    /// `None`: withheld.
    pub(super) tokens: Option<BTreeSet<TokenAsk>>,
    /// Its service account.
    pub(super) account: Box<str>,
}

impl Store {
    /// The inputs of a pod that nothing was fetched for yet: they tell whether it
    /// may have tokens.
    pub(crate) fn before_gathering(&self, key: &PodKey) -> Arc<Inputs> {
        let tokens = self.hands_out_tokens(key).then(BTreeMap::new);
        Arc::new(Inputs {
            tokens,
            ..Inputs::default()
        })
    }

    /// Why a pod names more than it may: see [`MAX_OBJECTS`].
    pub(crate) fn excess(&self, request: &PodRequest) -> Option<String> {
        if self.wants_nothing() {
            return None;
        }
        let number = self.wanted(&request.key, &request.pod).objects.len();
        (number > MAX_OBJECTS).then(|| {
            format!(
                "spec: the pod names {number} ConfigMaps, Secrets and Services, and at most \
                 {MAX_OBJECTS} are read for one pod: merge some of them"
            )
        })
    }

    fn hands_out_tokens(&self, key: &PodKey) -> bool {
        let (needs, settings) = (self.0.needs, &self.0.settings);
        needs.objects && settings.token_namespaces.contains(&*key.namespace)
    }

    /// The inputs of a pod, `downward` being the fingerprint of the labels and
    /// annotations that the request has. Waits until the API server has told of
    /// every object, for [`DEADLINE`] at most. From then on they are watched,
    /// until [`Store::let_go`].
    ///
    /// Cancel-safe: what was begun goes on being watched; a token request under
    /// way is made again.
    pub(crate) async fn gather(
        &self,
        request: &PodRequest,
        downward: Option<NonZeroU64>,
    ) -> Gathered {
        if self.wants_nothing() {
            return Gathered::default();
        }
        let wanted = self.wanted(&request.key, &request.pod);
        let answers = self.take_up(&request.key, &wanted);
        let answers = join_all(answers.iter().map(|answered| answered.cancelled()));
        let tokens = self.fetch_missing(&request.key, &wanted);
        // Who has not answered by then is told of.
        let _ = timeout(DEADLINE, async { tokio::join!(answers, tokens) }).await;
        let mut state = self.lock();
        if state.expect_tokens(&request.key.uid, &wanted) {
            self.0.due_earlier.notify_one();
        }
        self.collect(&state, request, &wanted, downward)
    }

    fn wanted(&self, key: &PodKey, pod: &Pod) -> Wanted {
        let (needs, settings) = (self.0.needs, &self.0.settings);
        let namespace = &key.namespace;
        let has_tokens = self.hands_out_tokens(key);
        let mut objects = BTreeMap::new();
        let mut tokens = None;
        if needs.objects {
            let refers = references(pod, has_tokens);
            tokens = has_tokens.then_some(refers.tokens);
            for (kind, names) in [
                (Kind::ConfigMap, refers.config_maps),
                (Kind::Secret, refers.secrets),
            ] {
                let names = names.into_iter();
                objects.extend(
                    names
                        .filter(|(name, _)| Source::can_exist(name))
                        .map(|(name, read)| (Source::new(kind, namespace, Some(&name)), read)),
                );
            }
        }
        let spec = pod.spec.as_ref();
        if needs.services && settings.api_server.is_none() {
            let links = spec.and_then(|s| s.enable_service_links) != Some(false);
            if links {
                let all = Source::new(Kind::Service, namespace, None);
                objects.insert(all, Read::AtStart);
            }
            if !links || &**namespace != "default" {
                let api = Source::new(Kind::Service, "default", Some("kubernetes"));
                objects.insert(api, Read::AtStart);
            }
        }
        let account = spec.and_then(|s| s.service_account_name.as_deref());
        Wanted {
            objects,
            tokens,
            account: account.unwrap_or("default").into(),
        }
    }

    /// What is known now.
    fn collect(
        &self,
        state: &State,
        request: &PodRequest,
        wanted: &Wanted,
        downward: Option<NonZeroU64>,
    ) -> Gathered {
        let uid = &request.key.uid;
        let mut inputs = Inputs {
            api_server: self.0.settings.api_server.clone(),
            ..Inputs::default()
        };
        let mut problems = Problems::default();
        let mut unread_for_pulls = Vec::new();
        for (source, read) in &wanted.objects {
            let Some(watched) = state.watched.get(source) else {
                continue;
            };
            match watched.objects(source) {
                Ok(objects) => objects.iter().for_each(|object| put(&mut inputs, object)),
                // The pull is tried without it, and that is told.
                Err(why) if *read == Read::ToPull => unread_for_pulls.push(why),
                Err(why) => {
                    problems.objects.insert(source.clone(), why);
                }
            }
        }
        if let Some(asks) = &wanted.tokens {
            let tokens = state.users.get(uid).map(|user| &user.tokens);
            let issued = tokens.into_iter().flatten();
            let issued = issued.filter_map(|(ask, t)| Some((ask.clone(), t.content.clone()?)));
            let issued: BTreeMap<_, _> = issued.collect();
            let missing = asks.iter().find(|ask| !issued.contains_key(*ask));
            problems.token = missing.map(|ask| {
                let token = tokens.and_then(|tokens| tokens.get(ask));
                let why = token.and_then(|t| t.trouble.as_deref());
                let why = why.unwrap_or("no answer from the API server");
                format!("failed to fetch token: {why}")
            });
            inputs.tokens = Some(issued);
        }
        inputs.unread = problems.error(&request.pod);
        Gathered {
            inputs: Arc::new(inputs),
            seen: state.seen(uid, downward).map(Box::new),
            unread_for_pulls,
        }
    }
}

fn put(inputs: &mut Inputs, object: &Object) {
    let name = |meta: &Option<String>| meta.clone().unwrap_or_default();
    match object {
        Object::ConfigMap(map) => {
            let name = name(&map.metadata.name);
            inputs.config_maps.insert(name, map.clone());
        }
        Object::Secret(secret) => {
            let name = name(&secret.metadata.name);
            inputs.secrets.insert(name, secret.clone());
        }
        Object::Service(service) => inputs.services.push(service.clone()),
    }
}
