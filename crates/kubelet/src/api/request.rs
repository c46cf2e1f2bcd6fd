//! One request: who sends it, whether they may, and its answer.

use axum::body::Body;
use http::{Request, Response, StatusCode};
use http_body::Body as _;
use hyper::body::Incoming;
use rustls::pki_types::CertificateDer;

use super::auth::Refused;
use super::counters::UnderWay;
use super::node::NodeApi;
use super::route::{Route, needs, route};
use super::streams::Session;
use super::{answer, configz, health, logs, pods, stats, streams};
use crate::metrics;

/// What a request comes to.
pub(super) struct Reply {
    pub(super) answer: Response<Body>,
    /// What the connection goes on as, behind the answer.
    pub(super) session: Option<Session>,
    pub(super) under_way: UnderWay,
}

/// The answer to a request whose sender showed these certificates.
pub(super) async fn answer(
    api: &NodeApi,
    shown: &[CertificateDer<'static>],
    mut request: Request<Incoming>,
) -> Reply {
    let uri = request.uri().clone();
    let routed = route(request.method(), uri.path());
    let endpoint = routed.as_ref().map_or("other", Route::name);
    let counters = &api.shared.counters;
    let under_way = counters.under_way(endpoint);
    let (answer, session) = match (permitted(api, shown, &request).await, &routed) {
        (Err(refusal), _) => (refusal, None),
        (Ok(()), Err(why)) => (answer::no_route(*why), None),
        (Ok(()), Ok(route)) => serve(api, route, &mut request).await,
    };
    counters.answered(endpoint, answer.status().as_u16());
    Reply {
        answer,
        session,
        under_way,
    }
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

/// The answer, and what the connection goes on as behind it.
async fn serve(
    api: &NodeApi,
    route: &Route<'_>,
    request: &mut Request<Incoming>,
) -> (Response<Body>, Option<Session>) {
    let query = request.uri().query().unwrap_or_default();
    let answer = match route {
        Route::Exec(place) => return parted(streams::exec(api, *place, request)),
        Route::Attach(place) => return parted(streams::attach(api, *place, request)),
        Route::PortForward(place) => return parted(streams::port_forward(api, *place, request)),
        Route::Logs(place) => logs::serve(api, *place, query).await,
        Route::Run(place) => streams::run(api, *place, query).await,
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
    };
    (answer, None)
}

fn parted(upgrade: streams::Upgrade) -> (Response<Body>, Option<Session>) {
    match upgrade {
        Ok((answer, session)) => (answer, Some(session)),
        Err(refusal) => (*refusal, None),
    }
}
