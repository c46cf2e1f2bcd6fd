//! From an HTTP request to an operation on the store, and back.

use axum::extract::{Query, Request, State};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::delete::{DeleteOptions, in_collections};
use super::list::{ListOptions, Scope, is_set};
use super::patch::{self, PatchKind};
use super::proxy::{self, Connect};
use super::resource::Resource;
use super::rights::Asked;
use super::selector::Fields;
use super::status::ApiError;
use super::update::Part;
use super::view::View;
use super::{Cluster, discovery, object, strict};

/// The largest request: etcd refuses more than 1.5 MiB, the API server 3 MiB.
const MAX_BODY: usize = 3 << 20;

pub(crate) fn router(cluster: Cluster) -> Router {
    let control = crate::control::routes(cluster.faults().clone(), cluster.clock().clone());
    Router::new()
        .fallback(serve)
        .with_state(cluster)
        .merge(control)
}

/// What a path names.
#[derive(Debug, PartialEq)]
struct Target<'a> {
    group: &'a str,
    plural: &'a str,
    namespace: Option<&'a str>,
    name: Option<&'a str>,
    subresource: Option<&'a str>,
}

fn target(path: &str) -> Option<Target<'_>> {
    let parts: Vec<&str> = path.split('/').filter(|p| !p.is_empty()).collect();
    let (group, rest) = match parts.as_slice() {
        ["api", "v1", rest @ ..] => ("", rest),
        ["apis", group, "v1", rest @ ..] => (*group, rest),
        _ => return None,
    };
    let at = |plural, namespace, name, subresource| {
        Some(Target {
            group,
            plural,
            namespace,
            name,
            subresource,
        })
    };
    match *rest {
        ["namespaces", name, sub @ ("status" | "finalize")] if group.is_empty() => {
            at("namespaces", None, Some(name), Some(sub))
        }
        ["namespaces", ns, plural] => at(plural, Some(ns), None, None),
        ["namespaces", ns, plural, name] => at(plural, Some(ns), Some(name), None),
        ["namespaces", ns, plural, name, sub] => at(plural, Some(ns), Some(name), Some(sub)),
        [plural] => at(plural, None, None, None),
        [plural, name] => at(plural, None, Some(name), None),
        [plural, name, sub] => at(plural, None, Some(name), Some(sub)),
        _ => None,
    }
}

async fn serve(State(cluster): State<Cluster>, request: Request) -> Response {
    match answer(&cluster, request).await {
        Ok(response) => response,
        Err(error) => error.into_response(),
    }
}

async fn answer(cluster: &Cluster, request: Request) -> Result<Response, ApiError> {
    let path = request.uri().path().to_owned();
    if matches!(&*path, "/healthz" | "/livez" | "/readyz") {
        return Ok("ok".into_response());
    }
    if !authorized(cluster.token().as_deref(), request.headers()) {
        return Err(ApiError::unauthorized());
    }
    if let Some(connect) = Connect::of(&path) {
        return proxy::serve(cluster, connect, request).await;
    }
    let (head, body) = request.into_parts();
    if head.method == Method::GET
        && let Some(found) = discovery::answer(&path)
    {
        return Ok(Json(found).into_response());
    }
    let verb = head.method.as_str();
    let target = target(&path).ok_or_else(|| ApiError::not_implemented(verb, &path))?;
    let body = axum::body::to_bytes(body, MAX_BODY)
        .await
        .map_err(|error| ApiError::bad_request(error.to_string()))?;
    let text = |name| {
        head.headers
            .get(name)
            .and_then(|v| v.to_str().ok())
            .unwrap_or_default()
    };
    let call = Call {
        cluster,
        uri: &head.uri,
        accept: text(ACCEPT),
        content_type: text(CONTENT_TYPE),
        body,
    };
    call.dispatch(&head.method, &target)
}

fn authorized(token: Option<&str>, headers: &HeaderMap) -> bool {
    let given = headers.get(AUTHORIZATION).and_then(|v| v.to_str().ok());
    token.is_none_or(|token| given.and_then(|v| v.strip_prefix("Bearer ")) == Some(token))
}

struct Call<'a> {
    cluster: &'a Cluster,
    uri: &'a http::Uri,
    accept: &'a str,
    content_type: &'a str,
    body: Bytes,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WriteOptions {
    grace_period_seconds: Option<i64>,
    propagation_policy: Option<String>,
    dry_run: Option<String>,
    field_validation: Option<String>,
}

impl Call<'_> {
    fn query<T: serde::de::DeserializeOwned>(&self) -> Result<T, ApiError> {
        Query::<T>::try_from_uri(self.uri)
            .map(|Query(options)| options)
            .map_err(|error| ApiError::bad_request(error.body_text()))
    }

    fn json(&self) -> Result<Value, ApiError> {
        let kind = self.content_type.split(';').next().unwrap_or_default();
        if !matches!(kind, "" | "application/json" | "*/*") {
            return Err(ApiError::unsupported_media_type());
        }
        serde_json::from_slice(&self.body).map_err(|error| ApiError::bad_request(error.to_string()))
    }

    /// The object, unless the client wants to hear of fields that nobody knows.
    fn checked(&self, resource: &Resource, object: Value) -> Result<Value, ApiError> {
        if self.query::<WriteOptions>()?.field_validation.as_deref() == Some("Strict") {
            strict::check(resource, &object)?;
        }
        Ok(object)
    }

    fn dispatch(&self, method: &Method, target: &Target<'_>) -> Result<Response, ApiError> {
        let what = match target.subresource {
            Some(sub) => format!("{}/{sub}", target.plural),
            None => target.plural.to_owned(),
        };
        let refuse = || Err(ApiError::not_implemented(method.as_str(), &what));
        if target.plural == "bindings" && method == Method::POST && target.name.is_none() {
            let binding = self.json()?;
            return self.bind(
                target.namespace.unwrap_or_default(),
                object::name(&binding),
                &binding,
            );
        }
        let Some(resource) = Resource::find(target.group, target.plural) else {
            return refuse();
        };
        self.cluster.admit(&self.asked(method, resource, target)?)?;
        if method != Method::GET
            && self
                .query::<WriteOptions>()?
                .dry_run
                .is_some_and(|d| !d.is_empty())
        {
            return Err(ApiError::not_implemented(
                &format!("dry run of {method}"),
                &what,
            ));
        }
        if !resource.is_stored() {
            if (method, target.namespace, target.name) != (&Method::POST, None, None) {
                return refuse();
            }
            let reviewed = self.cluster.review(resource, self.json()?)?;
            return Ok((StatusCode::CREATED, Json(reviewed)).into_response());
        }
        let view = View::new(resource, target.group, self.accept);
        let ns = target.namespace.unwrap_or_default();
        if resource.namespaced
            && target.namespace.is_none()
            && (target.name.is_some() || *method == Method::POST)
            || !resource.namespaced && target.namespace.is_some()
        {
            return refuse();
        }
        let Some(name) = target.name else {
            return self.on_collection(method, resource, target.namespace, &view, &what);
        };
        let at = (ns, name);
        match (method.as_str(), target.subresource) {
            ("GET", None) => self.get(resource, at, &view),
            ("GET", Some("status")) if resource.has_status() => self.get(resource, at, &view),
            ("PUT", None) => self.put(resource, at, Part::Main, &view),
            ("PUT", Some("status")) if resource.has_status() => {
                self.put(resource, at, Part::Status, &view)
            }
            ("PATCH", None) => self.patch(resource, at, Part::Main, &view),
            ("PATCH", Some("status")) if resource.has_status() => {
                self.patch(resource, at, Part::Status, &view)
            }
            ("PATCH", Some("resize")) if resource.plural == "pods" => {
                self.patch(resource, at, Part::Resize, &view)
            }
            ("PATCH", Some("ephemeralcontainers")) if resource.plural == "pods" => {
                self.patch(resource, at, Part::Ephemeral, &view)
            }
            ("GET" | "PUT" | "PATCH", Some("scale")) if resource.group == "apps" => {
                self.scale(method, resource, at)
            }
            ("POST", Some("binding")) if resource.plural == "pods" => {
                self.bind(ns, name, &self.json()?)
            }
            ("POST", Some("eviction")) if resource.plural == "pods" => {
                let eviction = self.json()?;
                self.cluster.evict(ns, name, &eviction)?;
                let body = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201});
                Ok((StatusCode::CREATED, Json(body)).into_response())
            }
            ("POST", Some("token")) if resource.plural == "serviceaccounts" => {
                let issued = self.cluster.issue_token(ns, name, self.json()?)?;
                Ok((StatusCode::CREATED, Json(issued)).into_response())
            }
            ("DELETE", None) => {
                let options = self.delete_options()?;
                let deleted = self.cluster.delete_object(resource, ns, name, &options)?;
                Ok(Json(view.object(deleted.body(resource, name))).into_response())
            }
            _ => refuse(),
        }
    }

    /// The request, as it is authorized.
    fn asked<'t>(
        &self,
        method: &Method,
        resource: &'static Resource,
        target: &Target<'t>,
    ) -> Result<Asked<'t>, ApiError> {
        let mut name = target.name.map(str::to_owned);
        let verb = match (method.as_str(), target.name) {
            ("GET", None) => {
                let options: ListOptions = self.query()?;
                // A selector that cannot be read names nothing; it is refused later.
                let fields = Fields::parse(resource, &options.field_selector);
                name = fields.ok().and_then(|f| f.single().map(str::to_owned));
                if is_set(options.watch.as_ref()) {
                    "watch"
                } else {
                    "list"
                }
            }
            ("GET", Some(_)) => "get",
            ("POST", _) => "create",
            ("PUT", _) => "update",
            ("PATCH", _) => "patch",
            ("DELETE", None) => "deletecollection",
            ("DELETE", Some(_)) => "delete",
            _ => return Err(ApiError::not_implemented(method.as_str(), resource.plural)),
        };
        Ok(Asked {
            verb,
            resource,
            subresource: target.subresource,
            namespace: target.namespace,
            name,
        })
    }

    fn on_collection(
        &self,
        method: &Method,
        resource: &'static Resource,
        namespace: Option<&str>,
        view: &View,
        what: &str,
    ) -> Result<Response, ApiError> {
        match *method {
            Method::GET => {
                let options: ListOptions = self.query()?;
                let scope = Scope::new(resource, namespace, &options)?;
                if is_set(options.watch.as_ref()) {
                    let path = self.uri.path_and_query().map_or("", |p| p.as_str());
                    return self.cluster.watch_objects(
                        scope,
                        &options,
                        view.clone(),
                        path.to_owned(),
                    );
                }
                let list = self.cluster.list_objects(&scope, &options, view)?;
                Ok(Json(view.tabulate(list, self.cluster.now())).into_response())
            }
            Method::POST => {
                let body = self.checked(resource, view.read(self.json()?))?;
                let made =
                    self.cluster
                        .create_object(resource, namespace.unwrap_or_default(), body)?;
                let shown = view.one(Value::clone(&made), self.cluster.now());
                Ok((StatusCode::CREATED, Json(shown)).into_response())
            }
            Method::DELETE if in_collections(resource) => {
                let list: ListOptions = self.query()?;
                let scope = Scope::new(resource, namespace, &list)?;
                let options = self.delete_options()?;
                let all: Vec<(String, String)> = self
                    .cluster
                    .store()
                    .read(|state| scope.select(state).map(|(key, _)| key.clone()).collect());
                for (ns, name) in all {
                    match self.cluster.delete_object(resource, &ns, &name, &options) {
                        Err(error) if error.code != 404 => return Err(error),
                        _ => {}
                    }
                }
                Ok(Json(json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}))
                    .into_response())
            }
            _ => Err(ApiError::not_implemented(method.as_str(), what)),
        }
    }

    fn get(
        &self,
        resource: &'static Resource,
        (ns, name): (&str, &str),
        view: &View,
    ) -> Result<Response, ApiError> {
        let found = self
            .cluster
            .store()
            .read(|state| state.get(resource, ns, name).cloned())
            .ok_or_else(|| ApiError::not_found(resource, name))?;
        Ok(Json(view.one(Value::clone(&found), self.cluster.now())).into_response())
    }

    fn put(
        &self,
        resource: &'static Resource,
        at: (&str, &str),
        part: Part,
        view: &View,
    ) -> Result<Response, ApiError> {
        let body = self.checked(resource, view.read(self.json()?))?;
        let stored = self.cluster.put_object(resource, at, part, body)?;
        Ok(Json(view.one(Value::clone(&stored), self.cluster.now())).into_response())
    }

    fn patch(
        &self,
        resource: &'static Resource,
        at: (&str, &str),
        part: Part,
        view: &View,
    ) -> Result<Response, ApiError> {
        let kind = PatchKind::from_content_type(self.content_type)?;
        let stored = self.cluster.revise(resource, at, part, |old| {
            let shown = view.object(old.clone());
            self.checked(resource, view.read(patch::apply(kind, &shown, &self.body)?))
        })?;
        Ok(Json(view.one(Value::clone(&stored), self.cluster.now())).into_response())
    }

    fn bind(&self, ns: &str, name: &str, binding: &Value) -> Result<Response, ApiError> {
        self.cluster.bind(ns, name, binding)?;
        let body = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201});
        Ok((StatusCode::CREATED, Json(body)).into_response())
    }

    /// `autoscaling/v1` Scale of a workload.
    fn scale(
        &self,
        method: &Method,
        resource: &'static Resource,
        at: (&str, &str),
    ) -> Result<Response, ApiError> {
        if method == Method::GET {
            let found = self
                .cluster
                .store()
                .read(|state| state.get(resource, at.0, at.1).cloned());
            let found = found.ok_or_else(|| ApiError::not_found(resource, at.1))?;
            return Ok(Json(as_scale(&found)).into_response());
        }
        let stored = self.cluster.revise(resource, at, Part::Main, |old| {
            let scale = if method == Method::PUT {
                self.json()?
            } else {
                let kind = PatchKind::from_content_type(self.content_type)?;
                patch::apply(kind, &as_scale(old), &self.body)?
            };
            let mut new = old.clone();
            new["spec"]["replicas"] =
                json!(object::int(&scale, "/spec/replicas").unwrap_or_default());
            if let Some(version) = scale.pointer("/metadata/resourceVersion") {
                new["metadata"]["resourceVersion"] = version.clone();
            }
            Ok(new)
        })?;
        Ok(Json(as_scale(&stored)).into_response())
    }

    fn delete_options(&self) -> Result<DeleteOptions, ApiError> {
        let query: WriteOptions = self.query()?;
        let mut options = if self.body.is_empty() {
            DeleteOptions::default()
        } else {
            serde_json::from_value(self.json()?)
                .map_err(|error| ApiError::bad_request(format!("DeleteOptions: {error}")))?
        };
        if options.dry_run.as_ref().is_some_and(|d| !d.is_empty()) {
            return Err(ApiError::not_implemented(
                "dry run of DELETE",
                "any resource",
            ));
        }
        options.grace_period_seconds = options.grace_period_seconds.or(query.grace_period_seconds);
        options.propagation_policy = options.propagation_policy.or(query.propagation_policy);
        Ok(options)
    }
}

fn as_scale(workload: &Value) -> Value {
    let labels: Vec<String> = workload["spec"]["selector"]["matchLabels"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    let metadata = &workload["metadata"];
    json!({"kind": "Scale", "apiVersion": "autoscaling/v1",
        "metadata": {"name": metadata["name"], "namespace": metadata["namespace"], "uid": metadata["uid"],
            "resourceVersion": metadata["resourceVersion"], "creationTimestamp": metadata["creationTimestamp"]},
        "spec": {"replicas": workload["spec"]["replicas"]},
        "status": {"replicas": object::int(workload, "/status/replicas").unwrap_or_default(),
            "selector": labels.join(",")}})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_path_names_its_target() {
        let named = |path| {
            let t: Target<'_> = target(path).unwrap();
            (t.group, t.plural, t.namespace, t.name, t.subresource)
        };
        assert_eq!(named("/api/v1/pods"), ("", "pods", None, None, None));
        assert_eq!(
            named("/api/v1/namespaces/a/pods/p/status"),
            ("", "pods", Some("a"), Some("p"), Some("status"))
        );
        assert_eq!(
            named("/api/v1/namespaces/a/status"),
            ("", "namespaces", None, Some("a"), Some("status"))
        );
        assert_eq!(
            named("/api/v1/namespaces/a/pods"),
            ("", "pods", Some("a"), None, None)
        );
        assert_eq!(
            named("/api/v1/namespaces/a"),
            ("", "namespaces", None, Some("a"), None)
        );
        assert_eq!(
            named("/apis/apps/v1/deployments"),
            ("apps", "deployments", None, None, None)
        );
        assert_eq!(target("/apis/apps/v1beta1/deployments"), None);
    }
}
