//! Between the provider and the real service: what it is answered is written down,
//! once, without what no second run has.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::https::Https;
use crate::trace::{DEVICE, News, POD, Step, Trace, difference};

/// The cycles to record: `VK_RECORD=away,bad-image`.
pub fn wanted() -> Vec<String> {
    let Ok(names) = std::env::var("VK_RECORD") else {
        println!("SKIPPED: recording (set VK_RECORD=cycle,… and FLIGHTCTL_BIN=folder)");
        return Vec::new();
    };
    names.split(',').map(str::to_owned).collect()
}

/// What was answered so far; clones share it.
#[derive(Clone)]
pub struct Recorder(Arc<Mutex<Recording>>);

struct Recording {
    begun: Timestamp,
    device: String,
    pod: Option<String>,
    first: Option<Value>,
    last: Value,
    last_at: Timestamp,
    /// What was written, in turn, as it was read back.
    written: Vec<Value>,
    rendered: Map<String, Value>,
    events: BTreeSet<String>,
    steps: Vec<(Timestamp, News)>,
}

impl Recorder {
    pub fn new(device: &str) -> Self {
        let begun = Timestamp::now();
        Self(Arc::new(Mutex::new(Recording {
            begun,
            device: device.into(),
            pod: None,
            first: None,
            last: Value::Null,
            last_at: begun,
            written: Vec::new(),
            rendered: Map::new(),
            events: BTreeSet::new(),
            steps: Vec::new(),
        })))
    }

    /// Asks the service, and writes down what it says.
    pub async fn ask(
        self,
        https: Https,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Full<Bytes>>, String> {
        let asked = Timestamp::now();
        let (parts, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let write = parts.method == Method::PATCH;
        if write {
            self.lock().writes(&body);
        }
        let path = parts.uri.path_and_query().unwrap().to_string();
        let request = Request::from_parts(parts, Full::new(body));
        let answer = https.send(request).await;
        let Ok(answer) = &answer else {
            panic!("the service does not answer {path}: {answer:?}");
        };
        if answer.status().is_success() {
            let text = String::from_utf8_lossy(answer.body());
            self.lock().answered(&path, write, asked, &text);
        } else if write {
            println!("not written: {} {:?}", answer.status(), answer.body());
            self.lock().written.pop();
        }
        Ok(answer.clone().map(Full::new))
    }

    pub fn act(&self, name: &str) {
        let step = (Timestamp::now(), News::Act(name.into()));
        self.lock().steps.push(step);
    }

    /// Nothing is written down until the pod has its UID.
    pub fn create(&self, create: impl FnOnce() -> String) {
        let mut recording = self.lock();
        recording.pod = Some(create());
    }

    pub fn trace(&self) -> Trace {
        let mut recording = self.lock();
        let mut steps = std::mem::take(&mut recording.steps);
        steps.sort_by_key(|(at, _)| *at);
        let mut before = recording.begun;
        let steps = steps.into_iter().map(|(at, news)| {
            let after = at.duration_since(before).as_millis();
            before = at;
            let after = i64::try_from(after).unwrap();
            Step { after, news }
        });
        Trace {
            begun: recording.begun,
            steps: steps.collect(),
            device: recording.first.take().unwrap(),
            rendered: std::mem::take(&mut recording.rendered),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Recording> {
        self.0.lock().unwrap()
    }
}

impl Recording {
    fn writes(&mut self, patch: &Bytes) {
        let patch: Value = serde_json::from_slice(patch).unwrap();
        let mut operations = patch.as_array().unwrap().iter();
        let apps = operations.find(|o| o["path"] == "/spec/applications");
        let apps = apps.map_or(Value::Null, |o| o["value"].clone());
        let apps = self.plain(&apps.to_string());
        self.written.push(apps);
    }

    fn answered(&mut self, path: &str, write: bool, asked: Timestamp, answer: &str) {
        let answer = self.plain(answer);
        let device = path.starts_with("/api/v1/devices");
        if device && path.ends_with("/rendered") {
            let version = &answer["metadata"]["annotations"]["device-controller/renderedVersion"];
            let version = version.as_str().unwrap().to_owned();
            let apps = self.symbol(&answer["spec"]["applications"]);
            self.rendered.insert(version, apps);
        } else if device && path.ends_with("/lastseen") {
            self.steps.push((asked, News::LastSeen(answer)));
        } else if device {
            let listed = answer["items"].as_array().into_iter().flatten();
            let all = listed.chain(answer["items"].is_null().then_some(&answer));
            for document in all.cloned().collect::<Vec<_>>() {
                self.device(document, write, asked);
            }
        } else if path.starts_with("/api/v1/events") {
            for event in answer["items"].as_array().unwrap() {
                self.event(event);
            }
        } else {
            panic!("{path} is asked, and recorded nowhere");
        }
    }

    fn device(&mut self, mut document: Value, write: bool, asked: Timestamp) {
        let annotations = document["metadata"]["annotations"].as_object_mut().unwrap();
        annotations.remove("device-controller/renderedSpecHash");
        document["spec"]["applications"] = self.symbol(&document["spec"]["applications"]);
        let version = |d: &Value| -> u64 {
            let version = d["metadata"]["resourceVersion"].as_str();
            version.and_then(|v| v.parse().ok()).unwrap_or_default()
        };
        if self.first.is_none() {
            self.first = Some(document.clone());
            self.last = document;
            return;
        }
        if document == self.last && !write || version(&document) < version(&self.last) {
            return;
        }
        let change = difference(&self.last, &document);
        self.last = document;
        // Differences hold in the order in which they were made.
        self.last_at = self.last_at.max(asked);
        let applications = self.written.last().and_then(Value::as_array);
        let applications = applications.map_or(0, Vec::len);
        let news = if write {
            News::Written {
                applications,
                change,
            }
        } else {
            News::Change(change)
        };
        self.steps.push((self.last_at, news));
    }

    fn event(&mut self, event: &Value) {
        let name = event["metadata"]["name"].as_str().unwrap();
        let first = self.events.insert(name.into());
        if !first || event["involvedObject"]["kind"] != "Device" {
            return;
        }
        let at = event["metadata"]["creationTimestamp"].as_str().unwrap();
        let name = format!("event-{}", self.events.len());
        let told = json!({
            "metadata": {"name": name, "creationTimestamp": at},
            "involvedObject": event["involvedObject"],
            "reason": event["reason"],
        });
        // What was before us is told at once.
        let at = at.parse::<Timestamp>().unwrap().max(self.begun);
        self.steps.push((at, News::Event(told)));
    }

    /// Without the names of this run.
    fn plain(&self, text: &str) -> Value {
        let mut text = text.replace(&self.device, DEVICE);
        if let Some(pod) = &self.pod {
            text = text.replace(pod, POD);
        }
        serde_json::from_str(&text).unwrap()
    }

    /// Applications as what was written when, with what the service adds to it:
    /// the rest is ours.
    fn symbol(&self, applications: &Value) -> Value {
        let applications = applications.as_array().into_iter().flatten();
        let symbols = applications.map(|application| {
            let written = self.written.iter().enumerate().rev();
            let adds = |w: &Value| adds(application, &w[0]);
            let mut found = written.filter_map(|(at, w)| Some((at, adds(w)?)));
            let found = found.next();
            let (at, adds) = found.unwrap_or_else(|| panic!("nobody wrote {application}"));
            json!({"written": at, "adds": adds})
        });
        symbols.collect()
    }
}

/// What one has beside all that the other has.
fn adds(application: &Value, written: &Value) -> Option<Value> {
    let mut adds = application.as_object()?.clone();
    for (key, value) in written.as_object()? {
        adds.remove(key).filter(|has| has == value)?;
    }
    Some(adds.into())
}
