//! `/healthz` and its parts, as `k8s.io/apiserver/pkg/server/healthz` words them.

use std::time::Duration;

use axum::body::Body;
use http::{Response, StatusCode};

use super::answer;
use super::limits::STUCK;
use super::node::NodeApi;
use super::route::Health;

pub(super) fn serve(api: &NodeApi, asked: Health) -> Response<Body> {
    let stands = stands(
        api.leadership.may_write(&api.name),
        api.shared.table.is_synced(&api.name),
        api.shared.queue.waits(),
    );
    let failed = |text: &str| answer::text(StatusCode::INTERNAL_SERVER_ERROR, text);
    match (asked, stands) {
        (Health::Ping | Health::Log, _) | (_, None) => answer::text(StatusCode::OK, "ok"),
        (Health::SyncLoop, Some(why)) => failed(&format!("internal server error: {why}\n")),
        (Health::All, Some(_)) => failed(
            "[+]ping ok\n[+]log ok\n[-]syncloop failed: reason withheld\nhealthz check failed\n",
        ),
    }
}

/// Why the loop that a kubelet would have does not turn: nobody hears of its pods, may
/// act on them or looks at them. `None` when it does.
fn stands(led: bool, listed: bool, unlooked: Duration) -> Option<&'static str> {
    if !led {
        Some("the node's lease is not held by this process")
    } else if !listed {
        Some("the node's pods are not listed yet")
    } else if unlooked >= STUCK {
        Some("a pod has been due for more than 5 minutes and was not looked at: the loop is stuck")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_turns_if_it_may_act_knows_its_pods_and_looks_at_them() {
        let short = STUCK - Duration::from_secs(1);
        for (led, listed, unlooked, why) in [
            (true, true, Duration::ZERO, None),
            (true, true, short, None),
            (true, true, STUCK, Some("stuck")),
            (true, false, Duration::ZERO, Some("not listed")),
            (false, true, Duration::ZERO, Some("lease")),
        ] {
            let told = stands(led, listed, unlooked);
            let named = told.zip(why).is_some_and(|(told, why)| told.contains(why));
            assert!(
                named || told.is_none() && why.is_none(),
                "{told:?}, {why:?}"
            );
        }
    }
}
