//! `/configz`: the part of a kubelet's configuration that this one has.

use axum::body::Body;
use http::Response;
use serde_json::json;

use super::answer;
use super::limits::{ALLOWED, DENIED, TOKEN};
use super::node::NodeApi;
use crate::lease;
use crate::node::STATUS_EVERY;

pub(super) fn serve(api: &NodeApi) -> Response<Body> {
    let seconds = |span: std::time::Duration| format!("{}s", span.as_secs());
    let settings = &api.shared.settings;
    let config = json!({"kubeletconfig": {
        "kind": "KubeletConfiguration",
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "address": settings.bind.to_string(),
        "port": api.port,
        "readOnlyPort": 0,
        "authentication": {
            "anonymous": {"enabled": false},
            "webhook": {"enabled": true, "cacheTTL": seconds(TOKEN)},
        },
        "authorization": {
            "mode": "Webhook",
            "webhook": {
                "cacheAuthorizedTTL": seconds(ALLOWED),
                "cacheUnauthorizedTTL": seconds(DENIED),
            },
        },
        "enableServer": true,
        "enableDebuggingHandlers": true,
        "enableProfilingHandler": false,
        "enableSystemLogHandler": false,
        "nodeLeaseDurationSeconds": lease::DURATION.as_secs(),
        "nodeStatusReportFrequency": seconds(STATUS_EVERY),
        "registerNode": true,
    }});
    answer::json(config.to_string())
}
