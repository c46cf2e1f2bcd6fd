//! `/exec`, `/attach`, `/run` and `/portForward`: the place where the streaming
//! protocols meet the backend. They are not connected yet, so that everything is
//! answered 501, in words.
//!
//! # Caveats
//! Once a connection is upgraded it leaves `connection::serve`, which then gives
//! its place back: what serves the upgraded one has to hold the `pulse::Place`.

use axum::body::Body;
use http::{Response, StatusCode};

use super::answer;
use super::logs::is_in_spec;
use super::node::NodeApi;
use super::route::{InPod, Route};

pub(super) fn serve(api: &NodeApi, route: &Route<'_>) -> Response<Body> {
    let backend = &api.shared.backend;
    let (place, what, has) = match *route {
        Route::Attach(place) => (place, "attach", backend.attach().is_some()),
        Route::PortForward(place) => (place, "port-forward", backend.port_forward().is_some()),
        Route::Exec(place) | Route::Run(place) => (place, "exec", backend.exec().is_some()),
        _ => return answer::no_route(super::route::NoRoute::Path),
    };
    if let Some(refusal) = unknown(api, place) {
        return refusal;
    }
    if has {
        let sentence = format!("{what} is not served on this node yet\n");
        return answer::text(StatusCode::NOT_IMPLEMENTED, sentence);
    }
    let name = backend.capabilities().name;
    answer::not_implemented(name, &format!("{what} (kubectl {what})"))
}

/// The pod or container is not there, in the kubelet's words.
fn unknown(api: &NodeApi, place: InPod<'_>) -> Option<Response<Body>> {
    let not_found = |text: String| Some(answer::text(StatusCode::NOT_FOUND, text));
    let Some(pod) = api.pod(place) else {
        return not_found("pod does not exist".into());
    };
    let uid = pod.metadata.uid.as_deref();
    if place.uid.is_some_and(|asked| uid != Some(asked)) {
        return not_found("pod not found".into());
    }
    if place.container.is_empty() || is_in_spec(&pod, place.container) {
        return None;
    }
    not_found(format!(
        "container {:?} not found in pod {:?}",
        place.container, place.pod
    ))
}
