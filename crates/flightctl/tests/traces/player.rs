//! The recorded service: it answers what was answered, no sooner than it was, and
//! each version of the device at least once.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use crate::trace::{DEVICE, News, POD, Step, Trace, merge};

const RENDERED: &str = "device-controller/renderedVersion";

/// The service; clones share it.
#[derive(Clone)]
pub struct Player(Arc<Mutex<Playing>>);

struct Playing {
    steps: VecDeque<Step>,
    /// When the last step was due.
    at: Instant,
    device: Value,
    /// Whether anyone was told of the device as it is now.
    told: bool,
    rendered: Map<String, Value>,
    events: Vec<Value>,
    last_seen: Value,
    written: Vec<Value>,
    pod: String,
    /// What was asked that no recording answers.
    wrong: Option<String>,
    /// When the recording began, and its replay.
    begun: (Timestamp, Instant),
}

impl Player {
    pub fn new(trace: Trace) -> Self {
        Self(Arc::new(Mutex::new(Playing {
            steps: trace.steps.into(),
            at: Instant::now(),
            device: trace.device,
            told: false,
            rendered: trace.rendered,
            events: Vec::new(),
            last_seen: Value::Null,
            written: Vec::new(),
            pod: POD.into(),
            wrong: None,
            begun: (trace.begun, Instant::now()),
        })))
    }

    pub async fn ask(self, request: Request<Full<Bytes>>) -> Response<Full<Bytes>> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let uri = parts.uri.path_and_query().unwrap().as_str();
        let mut playing = self.lock();
        playing.pass();
        let answer = if parts.method == Method::PATCH {
            playing.write(&serde_json::from_slice(&body).unwrap())
        } else {
            playing.read(uri)
        };
        let answer = answer.map(|value| value.to_string().replace(POD, &playing.pod));
        let (status, body) = match answer {
            Ok(body) => (StatusCode::OK, body),
            Err(why) => {
                let why = format!("{} {uri}: {why}", parts.method);
                playing.wrong.get_or_insert(why);
                (StatusCode::INTERNAL_SERVER_ERROR, String::new())
            }
        };
        let mut response = Response::new(Full::from(body));
        *response.status_mut() = status;
        let (begun, replayed) = playing.begun;
        let now = begun.checked_add(replayed.elapsed()).unwrap();
        let date = DateTimePrinter::new().timestamp_to_rfc9110_string(&now);
        let date = HeaderValue::try_from(date.unwrap()).unwrap();
        response.headers_mut().insert(header::DATE, date);
        response
    }

    /// Goes on behind what was done to the device.
    pub async fn act(&self, name: &str) {
        loop {
            {
                let mut playing = self.lock();
                playing.pass();
                match playing.steps.front().map(|step| &step.news) {
                    Some(News::Act(next)) if next == name => {
                        playing.steps.pop_front();
                        playing.at = Instant::now();
                        return;
                    }
                    Some(News::Change(_) | News::Event(_) | News::LastSeen(_)) => {}
                    other => panic!("{name} is not next, but {other:?}: {:?}", playing.wrong),
                }
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    pub fn create(&self, uid: &str) {
        self.lock().pod = uid.into();
    }

    pub fn wrong(&self) -> Option<String> {
        self.lock().wrong.clone()
    }

    /// Writes that nobody made, for one.
    pub fn left(&self) -> Vec<News> {
        let steps = self.lock();
        let open = |news: &News| matches!(news, News::Written { .. } | News::Act(_));
        let all = steps.steps.iter().map(|step| step.news.clone());
        all.filter(open).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Playing> {
        self.0.lock().unwrap()
    }
}

impl Playing {
    /// Takes the steps that time alone brings.
    fn pass(&mut self) {
        while let Some(step) = self.steps.front() {
            let due = self.at + Duration::from_millis(step.after.unsigned_abs());
            let news = match &step.news {
                News::Written { .. } | News::Act(_) => return,
                News::Change(_) if !self.told => return,
                news if due <= Instant::now() => news.clone(),
                _ => return,
            };
            self.steps.pop_front();
            self.at = due;
            self.take(news);
        }
    }

    fn take(&mut self, news: News) {
        match news {
            News::Change(change) => {
                merge(&mut self.device, &change);
                self.told = false;
            }
            News::Event(event) => self.events.push(event),
            News::LastSeen(last_seen) => self.last_seen = last_seen,
            News::Written { .. } | News::Act(_) => unreachable!("they wait to be done"),
        }
    }

    fn write(&mut self, patch: &Value) -> Result<Value, String> {
        let generation = &self.device["metadata"]["generation"];
        let test = json!({"op": "test", "path": "/metadata/generation", "value": generation});
        if patch[0] != test {
            return Err(format!("{patch} is not guarded by {test}"));
        }
        let add = &patch[1];
        let apps = add["value"].as_array().map(Vec::len);
        let (Some(apps), true) = (apps, add["path"] == "/spec/applications") else {
            return Err(format!("another write: {patch}"));
        };
        // What came before it then is past.
        loop {
            match self.steps.pop_front().map(|step| step.news) {
                Some(News::Written {
                    applications,
                    change,
                }) if applications == apps => {
                    self.written.push(add["value"].clone());
                    merge(&mut self.device, &change);
                    self.at = Instant::now();
                    self.told = true;
                    return Ok(self.device());
                }
                Some(News::Written { applications, .. }) => {
                    return Err(format!("{apps} applications, not {applications}"));
                }
                Some(News::Act(name)) => return Err(format!("a write before {name}")),
                Some(news) => self.take(news),
                None => return Err(format!("one write more: {patch}")),
            }
        }
    }

    fn read(&mut self, uri: &str) -> Result<Value, String> {
        let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
        let device = format!("/api/v1/devices/{DEVICE}");
        match path.strip_prefix(&device) {
            Some("") => {
                self.told = true;
                Ok(self.device())
            }
            Some("/rendered") => self.given(),
            Some("/lastseen") if !self.last_seen.is_null() => Ok(self.last_seen.clone()),
            _ if path == "/api/v1/devices" => {
                self.told = true;
                Ok(list("Device", &[self.device()]))
            }
            _ if path == "/api/v1/events" => Ok(list("Event", &self.events(query))),
            _ => Err("nobody asked that".into()),
        }
    }

    fn device(&self) -> Value {
        let mut device = self.device.clone();
        device["spec"]["applications"] = self.applications(&device["spec"]["applications"]);
        device
    }

    /// The document that the device is given.
    fn given(&self) -> Result<Value, String> {
        let version = &self.device["metadata"]["annotations"][RENDERED];
        let applications = version.as_str().and_then(|v| self.rendered.get(v));
        let applications = applications.ok_or_else(|| format!("nobody asked for {version}"))?;
        Ok(json!({
            "metadata": {"name": DEVICE, "annotations": {RENDERED: version}},
            "spec": {"applications": self.applications(applications)},
        }))
    }

    fn applications(&self, symbols: &Value) -> Value {
        let symbols = symbols.as_array().into_iter().flatten();
        let applications = symbols.map(|symbol| {
            let at = symbol["written"].as_u64().unwrap();
            let mut application = self.written[usize::try_from(at).unwrap()][0].clone();
            merge(&mut application, &symbol["adds"]);
            application
        });
        applications.collect()
    }

    /// From a time on in their order, or only the last.
    fn events(&self, query: &str) -> Vec<Value> {
        let Some((_, from)) = query.split_once("creationTimestamp%3E%3D") else {
            return self.events.last().cloned().into_iter().collect();
        };
        let from = from.split('&').next().unwrap_or_default();
        let from: Timestamp = from.replace("%3A", ":").parse().unwrap();
        let at = |event: &Value| -> Timestamp {
            let at = event["metadata"]["creationTimestamp"].as_str();
            at.unwrap().parse().unwrap()
        };
        let events = self.events.iter().filter(|event| at(event) >= from);
        events.cloned().collect()
    }
}

fn list(kind: &str, items: &[Value]) -> Value {
    json!({
        "apiVersion": "flightctl.io/v1beta1",
        "kind": format!("{kind}List"),
        "metadata": {},
        "items": items,
    })
}
