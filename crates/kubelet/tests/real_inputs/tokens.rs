//! Tokens, as the API server that issued them judges them.

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::PostParams;

use crate::everything::ACCESS;
use crate::suite::world::{World, uid};

/// The API server's own name, as the harness configures it.
const ISSUER: &str = "https://kubernetes.default.svc";

async fn review(world: &World, token: &str, audience: &str) -> TokenReviewStatus {
    let review = TokenReview {
        spec: TokenReviewSpec {
            token: token.into(),
            audiences: Some(vec![audience.into()]),
        },
        ..TokenReview::default()
    };
    let api: Api<TokenReview> = Api::all(world.client.clone());
    let reviewed = api.create(&PostParams::default(), &review).await.unwrap();
    reviewed.status.unwrap()
}

pub async fn are_bound_to_the_pod(world: &World, pod: &Pod) {
    let files = &world.remote.given(&uid(pod)).unwrap().files["app"];
    let tokens = [
        ("/mix/tokens/vault".to_owned(), "vault", ISSUER),
        (format!("{ACCESS}/token"), ISSUER, "vault"),
    ];
    for (path, audience, other) in tokens {
        let status = review(world, &files[&path], audience).await;
        assert_eq!(status.authenticated, Some(true), "{path}: {status:?}");
        assert_eq!(status.audiences, Some(vec![audience.to_owned()]));
        let user = status.user.unwrap();
        let account = "system:serviceaccount:shop:robot";
        assert_eq!(user.username.as_deref(), Some(account));
        let extra = user.extra.unwrap();
        let bound = |what: &str| &extra[&format!("authentication.kubernetes.io/pod-{what}")];
        assert_eq!(bound("name"), &["everything"]);
        assert_eq!(bound("uid"), &[uid(pod)]);
        let status = review(world, &files[&path], other).await;
        assert_ne!(status.authenticated, Some(true), "{path} for {other}");
    }
}
