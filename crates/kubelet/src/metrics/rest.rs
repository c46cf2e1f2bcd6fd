//! Requests to the Kubernetes API, named as client-go names its own.

use std::time::Instant;

use http::{Method, StatusCode};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// From an API server beside us to the 60 s after which it gives a request up.
const SECONDS: [f64; 9] = [0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0, 60.0];
/// client-go's word for no answer.
const NO_ANSWER: &str = "<error>";

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Request {
    method: String,
    code: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Verb {
    verb: String,
}

/// Counters of requests; clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Requests {
    requests: Family<Request, Counter>,
    durations: Family<Verb, Histogram, fn() -> Histogram>,
}

impl Default for Requests {
    fn default() -> Self {
        Self {
            requests: Family::default(),
            durations: Family::new_with_constructor(|| Histogram::new(SECONDS)),
        }
    }
}

impl Requests {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "rest_client_requests",
            "Requests to the Kubernetes API by method and status; <error> is no answer",
            self.requests.clone(),
        );
        registry.register(
            "rest_client_request_duration_seconds",
            "Time until the Kubernetes API begins to answer",
            self.durations.clone(),
        );
    }

    /// A request begins.
    pub(crate) fn begin(&self, method: &Method) -> UnderWay {
        UnderWay {
            requests: self.clone(),
            method: method.to_string(),
            begun: Instant::now(),
            code: None,
        }
    }
}

/// A request, counted when it is dropped.
#[derive(Debug)]
pub(crate) struct UnderWay {
    requests: Requests,
    method: String,
    begun: Instant,
    code: Option<StatusCode>,
}

impl UnderWay {
    /// It was answered; dropped without, it was given up.
    pub(crate) fn answered(mut self, code: StatusCode) {
        self.code = Some(code);
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let code = self.code.as_ref().map_or(NO_ANSWER, StatusCode::as_str);
        let labels = Request {
            method: self.method.clone(),
            code: code.into(),
        };
        self.requests.requests.get_or_create(&labels).inc();
        if self.code.is_some() {
            let verb = std::mem::take(&mut self.method);
            let durations = self.requests.durations.get_or_create_owned(&Verb { verb });
            durations.observe(self.begun.elapsed().as_secs_f64());
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::metrics::Metrics;
    use http::{Method, StatusCode};

    #[test]
    fn requests_are_counted_by_method_and_status_also_when_they_are_given_up() {
        let metrics = Metrics::new("mock", "1");
        metrics
            .requests()
            .begin(&Method::PATCH)
            .answered(StatusCode::CONFLICT);
        drop(metrics.requests().begin(&Method::GET));
        let text = metrics.text();
        for line in [
            r#"rest_client_requests_total{method="PATCH",code="409"} 1"#,
            r#"rest_client_requests_total{method="GET",code="<error>"} 1"#,
            r#"rest_client_request_duration_seconds_count{verb="PATCH"} 1"#,
        ] {
            assert!(text.lines().any(|l| l == line), "{line} in\n{text}");
        }
    }
}
