//! What the API server was asked, from its own counter.

use std::collections::BTreeMap;

use kube::Client;

/// Requests by verb and resource, `PATCH pods/status`.
#[derive(Clone, Debug, Default)]
pub struct Requests(BTreeMap<String, usize>);

/// Resources that a kubelet has to do with.
const OURS: [&str; 4] = ["pods", "pods/status", "events", "nodes"];

impl Requests {
    /// All since the API server's start.
    pub async fn read(client: &Client) -> Self {
        let request = http::Request::get("/metrics").body(Vec::new()).unwrap();
        Self::parse(&client.request_text(request).await.unwrap())
    }

    /// All requests that have ended since the API server's start, whatever they
    /// were about, and the watches that are open now. Both count others' too.
    pub async fn all(client: &Client) -> (f64, f64) {
        let request = http::Request::get("/metrics").body(Vec::new()).unwrap();
        let text = client.request_text(request).await.unwrap();
        let sum = |start: &str, verb: &str| -> f64 {
            let lines = text
                .lines()
                .filter(|l| l.starts_with(start) && l.contains(verb));
            lines
                .filter_map(|l| l.rsplit_once(' ')?.1.parse::<f64>().ok())
                .sum()
        };
        let ended = sum("apiserver_request_total{", "");
        let watches = sum("apiserver_longrunning_requests{", "verb=\"WATCH\"");
        (ended, watches)
    }

    /// The watches of one resource that are open now, others' too.
    pub async fn watches(client: &Client, resource: &str) -> f64 {
        let request = http::Request::get("/metrics").body(Vec::new()).unwrap();
        let text = client.request_text(request).await.unwrap();
        let of = format!("resource=\"{resource}\"");
        text.lines()
            .filter(|l| l.starts_with("apiserver_longrunning_requests{"))
            .filter(|l| l.contains("verb=\"WATCH\"") && l.contains(&of))
            .filter_map(|l| l.rsplit_once(' ')?.1.parse::<f64>().ok())
            .sum()
    }

    fn parse(text: &str) -> Self {
        let mut requests = BTreeMap::new();
        for line in text.lines() {
            let Some(rest) = line.strip_prefix("apiserver_request_total{") else {
                continue;
            };
            let Some((labels, count)) = rest.rsplit_once("} ") else {
                continue;
            };
            let label = |name: &str| {
                let (_, value) = labels.split_once(&format!("{name}=\""))?;
                Some(value.split_once('"')?.0)
            };
            let (Some(verb), Some(resource)) = (label("verb"), label("resource")) else {
                continue;
            };
            let what = match label("subresource") {
                // `resource` itself is a part of `subresource`.
                None | Some("") => resource.to_owned(),
                Some(part) => format!("{resource}/{part}"),
            };
            let refused = match label("code") {
                Some(code) if code.starts_with('2') => String::new(),
                Some(code) => format!(" ({code})"),
                None => String::new(),
            };
            if OURS.contains(&what.as_str()) {
                *requests
                    .entry(format!("{verb} {what}{refused}"))
                    .or_default() += count.parse::<f64>().unwrap_or_default() as usize;
            }
        }
        Self(requests)
    }

    /// Those that came after `earlier`.
    pub fn since(&self, earlier: &Self) -> Self {
        let before = |what: &str| earlier.0.get(what).copied().unwrap_or_default();
        let new = self
            .0
            .iter()
            .map(|(what, n)| (what.clone(), n - before(what)));
        Self(new.filter(|(_, n)| *n > 0).collect())
    }

    /// Without what the generator did itself.
    pub fn without(mut self, what: &str, count: usize) -> Self {
        if let Some(n) = self.0.get_mut(what) {
            *n = n.saturating_sub(count);
        }
        self
    }

    /// Writes about pods, events included.
    pub fn writes(&self) -> usize {
        let read = |what: &str| ["GET", "LIST", "WATCH"].iter().any(|v| what.starts_with(v));
        self.0
            .iter()
            .filter(|(what, _)| !read(what) && !what.contains("nodes"))
            .map(|(_, n)| n)
            .sum()
    }

    /// Per pod, what comes to a hundredth at least.
    pub fn per_pod(&self, pods: usize) -> String {
        let part = |n: &usize| *n as f64 / pods as f64;
        let shown = self.0.iter().filter(|(_, n)| part(n) >= 0.005);
        let texts: Vec<String> = shown
            .map(|(what, n)| format!("{what} {:.2}", part(n)))
            .collect();
        texts.join(", ")
    }
}
