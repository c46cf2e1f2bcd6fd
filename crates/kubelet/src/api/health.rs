//! `/healthz` and its parts, as `k8s.io/apiserver/pkg/server/healthz` words them.

use axum::body::Body;
use http::{Response, StatusCode};

use super::answer;
use super::node::NodeApi;
use super::route::Health;

pub(super) fn serve(api: &NodeApi, asked: Health) -> Response<Body> {
    // A kubelet's sync loop turns: it hears of its pods and may act on them.
    let led = api.leadership.may_write(&api.name) && api.shared.table.is_synced(&api.name);
    match (asked, led) {
        (Health::Ping | Health::Log, _) | (_, true) => answer::text(StatusCode::OK, "ok"),
        (Health::SyncLoop, false) => answer::text(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal server error: the node's lease is not held by this process, or its pods \
             are not listed yet\n",
        ),
        (Health::All, false) => answer::text(
            StatusCode::INTERNAL_SERVER_ERROR,
            "[+]ping ok\n[+]log ok\n[-]syncloop failed: reason withheld\nhealthz check failed\n",
        ),
    }
}
