//! What the API counts.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use crate::metrics::Metrics;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Answered {
    endpoint: &'static str,
    code: u16,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Inflight {
    endpoint: &'static str,
}

/// A request that is under way, until it is dropped.
#[derive(Debug)]
pub(super) struct UnderWay(Gauge<i64>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[derive(Clone, Debug, Default)]
pub(super) struct Counters {
    answered: Family<Answered, Counter>,
    inflight: Family<Inflight, Gauge<i64>>,
    connections: Gauge<i64>,
    refused: Counter,
}

impl Counters {
    pub(super) fn new(metrics: &Metrics) -> Self {
        let counters = Self::default();
        metrics.extend(|registry| {
            registry.register(
                "http_requests",
                "Requests to the kubelet API of any node that were answered",
                counters.answered.clone(),
            );
            registry.register(
                "http_inflight_requests",
                "Requests to the kubelet API of any node that are under way, sessions of exec, attach and port-forward among them",
                counters.inflight.clone(),
            );
            registry.register(
                "http_connections",
                "Connections to the kubelet API of any node",
                counters.connections.clone(),
            );
            registry.register(
                "http_connections_refused",
                "Connections closed at once because all others were answering",
                counters.refused.clone(),
            );
        });
        counters
    }

    pub(super) fn answered(&self, endpoint: &'static str, code: u16) {
        let labels = Answered { endpoint, code };
        self.answered.get_or_create(&labels).inc();
    }

    pub(super) fn under_way(&self, endpoint: &'static str) -> UnderWay {
        let gauge = self.inflight.get_or_create_owned(&Inflight { endpoint });
        gauge.inc();
        UnderWay(gauge)
    }

    pub(super) fn connections(&self, number: usize) {
        self.connections
            .set(i64::try_from(number).unwrap_or(i64::MAX));
    }

    pub(super) fn refused(&self) {
        self.refused.inc();
    }
}
