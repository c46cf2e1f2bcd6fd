//! Writers against a service of one device.

use bytes::Bytes;
use http::{Method, Request, Response, Uri};
use http_body_util::{BodyExt, Full};

use super::*;
use crate::client::TokenSource;
use crate::config::default_rules;

/// The device as the service holds it, and the patches that it took.
#[derive(Clone)]
struct Service {
    device: Arc<Mutex<Value>>,
    patches: Arc<Mutex<usize>>,
}

impl Service {
    fn new(applications: &[Value]) -> Self {
        let device = json!({
            "metadata": {"name": "a", "generation": 7, "resourceVersion": "7"},
            "spec": {"applications": applications},
            "status": {"summary": {"status": "Online"}},
        });
        Self {
            device: Arc::new(Mutex::new(device)),
            patches: Arc::default(),
        }
    }

    fn names(&self) -> Vec<String> {
        let device = self.device.lock().unwrap();
        let apps = device["spec"]["applications"].as_array().unwrap();
        let name = |app: &Value| app["name"].as_str().unwrap().to_owned();
        apps.iter().map(name).collect()
    }

    /// Refuses what holds an application named `bad`, by its name.
    fn answer(&self, method: &Method, body: &Bytes) -> (u16, Value) {
        let mut device = self.device.lock().unwrap();
        if method == Method::PATCH {
            let patch: Value = serde_json::from_slice(body).unwrap();
            let operations = patch.as_array().unwrap();
            let path = |operation: &&Value| operation["path"] == "/spec/applications";
            let apps = &operations.iter().find(path).unwrap()["value"];
            if apps.as_array().unwrap().iter().any(|a| a["name"] == "bad") {
                let message = "spec.applications[bad].inline: odd";
                return (400, json!({"kind": "Status", "message": message}));
            }
            *self.patches.lock().unwrap() += 1;
            if patch[0]["value"] != device["metadata"]["generation"] {
                return (400, json!({"kind": "Status", "message": "test failed"}));
            }
            device["spec"]["applications"] = apps.clone();
            let generation = device["metadata"]["generation"].as_i64().unwrap() + 1;
            device["metadata"]["generation"] = generation.into();
        }
        (200, device.clone())
    }

    /// Writers that have last read the device with these applications.
    fn writers(&self, cached: &[Value]) -> Writers {
        let service = self.clone();
        let http = tower::service_fn(move |request: Request<Full<Bytes>>| {
            let service = service.clone();
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect().await.unwrap().to_bytes();
                let (status, answer) = service.answer(&parts.method, &body);
                let answer = Full::new(Bytes::from(answer.to_string()));
                let response = Response::builder().status(status).body(answer).unwrap();
                Ok::<_, std::convert::Infallible>(response)
            }
        });
        let base = Uri::from_static("http://flightctl.test/");
        let client = Client::new(http, &base, TokenSource::fixed("t"));
        let mut world = World::new("cluster", default_rules());
        let mut known = self.device.lock().unwrap().clone();
        known["spec"]["applications"] = cached.into();
        let views = DeviceView::of(&known).into_iter().collect();
        world.read(views, Instant::now(), true);
        Writers::new(client, Arc::new(Mutex::new(world)))
    }
}

fn named(name: &str) -> Value {
    json!({"name": name, "appType": "quadlet", "inline": []})
}

#[tokio::test(start_paused = true)]
async fn only_the_service_says_that_there_is_nothing_to_take_out() {
    let service = Service::new(&[named("ours"), named("theirs")]);
    let writers = service.writers(&[named("theirs")]);
    let remove = Change::Remove("ours".into());
    writers.submit("a", remove.clone()).await.unwrap();
    assert_eq!(service.names(), ["theirs"]);
    let again = writers.submit("a", remove).await.unwrap();
    assert_eq!(again.after, 0);
    assert_eq!(*service.patches.lock().unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn one_application_that_is_refused_takes_no_other_with_it() {
    let service = Service::new(&[]);
    let writers = service.writers(&[]);
    let put = |name: &str| writers.submit("a", change(named(name)));
    // The first one goes alone, the others wait for it and travel together.
    let (first, good, bad, last) = tokio::join!(put("first"), put("good"), put("bad"), put("last"));
    assert!(first.is_ok() && good.is_ok() && last.is_ok());
    assert!(matches!(bad, Err(BackendError::Rejected { .. })), "{bad:?}");
    assert_eq!(service.names(), ["first", "good", "last"]);
}
