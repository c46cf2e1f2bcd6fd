//! What Kubernetes is asked about clients.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, UserInfo};
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use kube::api::PostParams;
use kube::{Api, Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::cache::Unanswered;
use super::user::User;
use crate::api::limits::{REVIEW, REVIEWS};

/// Asks; clones share its places.
#[derive(Clone)]
pub(super) struct Reviewer {
    client: Client,
    places: Arc<Semaphore>,
}

impl Reviewer {
    pub(super) fn new(client: Client) -> Self {
        Self {
            client,
            places: Arc::new(Semaphore::new(REVIEWS)),
        }
    }

    /// Whose token this is; `None`: nobody's.
    pub(super) async fn token(self, token: String) -> Result<Option<User>, Unanswered> {
        let review = TokenReview {
            spec: TokenReviewSpec {
                token,
                ..TokenReviewSpec::default()
            },
            ..TokenReview::default()
        };
        let status = self.ask(&review).await?.status;
        let status = status.filter(|status| status.authenticated == Some(true));
        Ok(status.and_then(|status| status.user).and_then(user))
    }

    /// Whether this is allowed.
    pub(super) async fn access(self, spec: SubjectAccessReviewSpec) -> Result<bool, Unanswered> {
        let review = SubjectAccessReview {
            spec,
            ..SubjectAccessReview::default()
        };
        let status = self.ask(&review).await?.status;
        let status = status.ok_or_else(|| Unanswered("the review has no status".into()))?;
        Ok(status.allowed && status.denied != Some(true))
    }

    async fn ask<K>(&self, review: &K) -> Result<K, Unanswered>
    where
        K: Resource<DynamicType = ()> + Serialize + DeserializeOwned + Clone + std::fmt::Debug,
        K: Resource<Scope = k8s_openapi::ClusterResourceScope>,
    {
        let api: Api<K> = Api::all(self.client.clone());
        let asking = async {
            // It is never closed.
            let _place = self.places.acquire().await;
            api.create(&PostParams::default(), review).await
        };
        match timeout(REVIEW, asking).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(Unanswered(error.to_string())),
            Err(_) => Err(Unanswered("no answer from the API server".into())),
        }
    }
}

fn user(info: UserInfo) -> Option<User> {
    let user = User {
        name: info.username.unwrap_or_default(),
        uid: info.uid.filter(|uid| !uid.is_empty()),
        groups: info.groups.unwrap_or_default(),
        extra: info.extra.unwrap_or_default(),
    };
    user.known()
}

/// May this user do this to that part of the node?
pub(super) fn access(
    user: &User,
    node: &str,
    verb: &str,
    subresource: &str,
) -> SubjectAccessReviewSpec {
    SubjectAccessReviewSpec {
        user: Some(user.name.clone()),
        uid: user.uid.clone(),
        groups: Some(user.groups.clone()),
        extra: Some(user.extra.clone()).filter(|extra: &BTreeMap<_, _>| !extra.is_empty()),
        resource_attributes: Some(ResourceAttributes {
            verb: Some(verb.into()),
            version: Some("v1".into()),
            resource: Some("nodes".into()),
            subresource: Some(subresource.into()),
            name: Some(node.into()),
            ..ResourceAttributes::default()
        }),
        ..SubjectAccessReviewSpec::default()
    }
}
