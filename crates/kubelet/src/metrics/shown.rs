//! What is looked up at each scrape: nodes by role, and the queue.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;

use super::Metrics;
use crate::leadership::Leadership;
use crate::queue::Queue;

/// Shows how this process stands towards its nodes, and what waits.
pub(crate) fn show(metrics: &Metrics, leadership: Leadership, queue: Queue) {
    let shown = Shown { leadership, queue };
    metrics.extend(|registry| registry.register_collector(Box::new(shown)));
}

#[derive(Debug)]
struct Shown {
    leadership: Leadership,
    queue: Queue,
}

impl Collector for Shown {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut nodes = encoder.encode_descriptor(
            "nodes",
            "Nodes by what this process is to them: leading serves one, standby waits for another process to go, contending does not know yet",
            None,
            MetricType::Gauge,
        )?;
        for (role, number) in self.leadership.roles() {
            let labels = [("role", role)];
            ConstGauge::new(whole(number)).encode(nodes.encode_family(&labels)?)?;
        }
        let depth = encoder.encode_descriptor(
            "queue_depth",
            "Pods waiting for a look",
            None,
            MetricType::Gauge,
        )?;
        ConstGauge::new(whole(self.queue.len())).encode(depth)?;
        let oldest = encoder.encode_descriptor(
            "queue_oldest_seconds",
            "How long a pod has been waiting for a look that it should have had",
            None,
            MetricType::Gauge,
        )?;
        ConstGauge::new(self.queue.waits().as_secs_f64()).encode(oldest)
    }
}

fn whole(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::time::Instant;
    use vk_provider::Uid;

    #[tokio::test(start_paused = true)]
    async fn nodes_and_queue_are_shown_as_they_are_at_the_scrape() {
        let (metrics, leadership, queue) =
            (Metrics::default(), Leadership::default(), Queue::default());
        show(&metrics, leadership.clone(), queue.clone());
        let _roles = ["a", "b", "c"].map(|node| leadership.contend(node));
        leadership.renewed("a", Instant::now());
        leadership.lost("b", Some("another"));
        queue.mark(&Uid::new("x"));
        tokio::time::advance(Duration::from_secs(3)).await;
        let text = metrics.text();
        for line in [
            r#"virtual_kubelet_nodes{role="leading"} 1"#,
            r#"virtual_kubelet_nodes{role="standby"} 1"#,
            r#"virtual_kubelet_nodes{role="contending"} 1"#,
            "virtual_kubelet_queue_depth 1",
            "virtual_kubelet_queue_oldest_seconds 3.0",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} in\n{text}");
        }
    }
}
