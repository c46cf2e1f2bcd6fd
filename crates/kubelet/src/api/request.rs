//! One request: who sends it, whether they may, and its answer.

use axum::body::Body;
use http::{Request, Response, StatusCode};
use http_body::Body as _;
use hyper::body::Incoming;
use rustls::pki_types::CertificateDer;

use super::auth::Refused;
use super::node::NodeApi;
use super::route::{Route, needs, route};
use super::{answer, configz, health, logs, pods, stats, streams};
use crate::metrics;

/// The answer to a request whose sender showed these certificates.
pub(super) async fn answer(
    api: &NodeApi,
    shown: &[CertificateDer<'static>],
    request: Request<Incoming>,
) -> Response<Body> {
    let (method, uri) = (request.method(), request.uri());
    let routed = route(method, uri.path());
    let answer = match permitted(api, shown, &request).await {
        Err(refusal) => refusal,
        Ok(()) => match &routed {
            Ok(route) => serve(api, route, uri.query().unwrap_or_default()).await,
            Err(why) => answer::no_route(*why),
        },
    };
    let endpoint = routed.as_ref().map_or("other", Route::name);
    api.shared
        .counters
        .answered(endpoint, answer.status().as_u16());
    answer
}

async fn permitted(
    api: &NodeApi,
    shown: &[CertificateDer<'static>],
    request: &Request<Incoming>,
) -> Result<(), Response<Body>> {
    if !request.body().is_end_stream() {
        // No endpoint reads one; what follows unread would be taken for requests.
        let text = "requests to this node have no body\n";
        return Err(answer::last(answer::text(StatusCode::BAD_REQUEST, text)));
    }
    let needs = needs(request.method(), request.uri().path());
    let auth = &api.shared.auth;
    let checked = auth.check(&api.name, shown, request.headers(), &needs);
    checked.await.map_err(|refused| match refused {
        Refused::Unauthorized => answer::text(StatusCode::UNAUTHORIZED, "Unauthorized"),
        Refused::Forbidden(text) => answer::text(StatusCode::FORBIDDEN, text),
        Refused::Unanswered(text) => answer::text(StatusCode::INTERNAL_SERVER_ERROR, text),
    })
}

async fn serve(api: &NodeApi, route: &Route<'_>, query: &str) -> Response<Body> {
    match route {
        Route::Logs(place) => logs::serve(api, *place, query).await,
        Route::Exec(_) | Route::Attach(_) | Route::Run(_) | Route::PortForward(_) => {
            streams::serve(api, route)
        }
        Route::Pods => pods::all(api),
        Route::RunningPods => pods::running(api),
        Route::Healthz(asked) => health::serve(api, *asked),
        Route::Metrics => answer::of(
            StatusCode::OK,
            metrics::CONTENT_TYPE,
            Body::from(api.shared.metrics.text()),
        ),
        Route::ResourceMetrics => stats::resource(api).await,
        Route::ProbeMetrics => stats::probes(),
        Route::CadvisorMetrics => stats::cadvisor(api).await,
        Route::Summary => stats::summary(api).await,
        Route::Configz => configz::serve(api),
    }
}
