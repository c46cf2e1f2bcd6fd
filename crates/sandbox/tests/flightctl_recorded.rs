//! The exchanges recorded from the real service, replayed against ours.

#![allow(clippy::unwrap_used, reason = "a test may fail here")]

mod flightctl_client;

use std::collections::BTreeMap;
use std::time::Duration;

use flightctl_client::{app, call, quadlet, service, with};
use http::HeaderMap;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};
use vk_sandbox::flightctl::{DeviceSpec, FlightControl, Options, Role};

const RENDERED: Duration = Duration::from_millis(20);
const FLEETS: Duration = Duration::from_millis(150);

fn device(name: &str) -> Value {
    json!({"apiVersion": "flightctl.io/v1beta1", "kind": "Device", "metadata": {"name": name}, "spec": {}})
}

fn fleet(name: &str, label: &str, template: &Value) -> Value {
    json!({
        "apiVersion": "flightctl.io/v1beta1", "kind": "Fleet", "metadata": {"name": name},
        "spec": {"selector": {"matchLabels": {"fleet": label}}, "template": {"spec": template}},
    })
}

async fn created(service: &FlightControl, name: &str) {
    assert_eq!(
        call(service, "POST /devices", &device(name)).await.code,
        201
    );
    sleep(RENDERED).await;
}

fn header(headers: &HeaderMap, name: &str) -> String {
    headers
        .get(name)
        .map_or(String::new(), |v| v.to_str().unwrap().to_owned())
}

#[tokio::test(start_paused = true)]
async fn versions_health_and_routes_answer_as_recorded() {
    let service = service(Options::default());
    let none = Value::Null;
    for (request, code, message) in [
        ("GET //readyz", 200, ""),
        ("GET //healthz", 200, ""),
        ("GET //api/version", 200, ""),
        ("GET /version", 400, "failed to get auth token"),
    ] {
        let answer = with(&service, request, &none, &[]).await;
        assert_eq!(
            (answer.code, answer.message()),
            (code, message),
            "{request}"
        );
    }
    let denied = "access denied to organization";
    for (request, code, message) in [
        ("GET /version", 200, ""),
        (
            "GET /nonsense",
            404,
            "API Error: no matching operation was found",
        ),
        ("DELETE /devices", 404, "API Error: method not allowed"),
        ("POST /devices/a", 404, "API Error: method not allowed"),
        (
            "GET /devices?org_id=00000000-0000-0000-0000-000000000001",
            403,
            denied,
        ),
        (
            "GET /devices?org_id=x",
            400,
            "invalid organization ID format",
        ),
        (
            "GET /devices/nope",
            404,
            "Device of name \"nope\" not found",
        ),
        (
            "GET /repositories",
            501,
            "the sandbox does not implement /api/v1/repositories",
        ),
        ("GET /devices?watch=true&nonsense=1", 200, ""),
    ] {
        let answer = call(&service, request, &none).await;
        assert_eq!(
            (answer.code, answer.message()),
            (code, message),
            "{request}"
        );
        assert_eq!(header(&answer.headers, "flightctl-api-version"), "v1beta1");
        assert_eq!(header(&answer.headers, "vary"), "Flightctl-API-Version");
    }
    let long = format!("GET /devices?x={}", "x".repeat(2000));
    assert_eq!(call(&service, &long, &none).await.code, 414);
    let headers = [
        ("authorization", "Bearer t"),
        ("flightctl-api-version", "v1alpha1"),
    ];
    let answer = with(&service, "GET /devices", &none, &headers).await;
    assert_eq!(
        answer.body,
        json!({"apiVersion": "", "code": 406, "kind": "", "message": "Requested API version is not supported for this endpoint. Supported versions: v1beta1", "reason": "", "status": ""})
    );
    let answer = call(&service, "GET /organizations", &none).await;
    assert_eq!(
        answer.body,
        json!({"apiVersion": "flightctl.io/v1beta1", "items": [{"apiVersion": "flightctl.io/v1beta1", "kind": "Organization", "metadata": {"name": "00000000-0000-0000-0000-000000000000"}, "spec": {"displayName": "Default", "externalId": "default"}}], "kind": "OrganizationList", "metadata": {}})
    );
}

#[tokio::test(start_paused = true)]
async fn tokens_are_refused_as_recorded_an_expired_one_after_ten_seconds() {
    let options = Options {
        token: Some("good".into()),
        ..Options::default()
    };
    let service = service(options);
    service.accept_token_as("viewer", Role::Viewer);
    service.accept_token_as("operator", Role::Operator);
    service.accept_token("old");
    service.expire_token("old");
    let answer = with(&service, "GET /devices", &Value::Null, &[]).await;
    assert_eq!(
        answer.body,
        json!({"apiVersion": "flightctl.io/v1beta1", "code": 400, "kind": "Status", "message": "failed to get auth token", "reason": "Bad Request", "status": "Failure"})
    );
    for (token, request, code, after) in [
        ("good", "GET /devices", 200, 0),
        ("nonsense", "GET /devices", 401, 0),
        ("old", "GET /devices", 401, 10),
        ("a.b.c", "GET /devices", 401, 10),
        ("viewer", "GET /events", 200, 0),
        ("viewer", "POST /devices", 403, 0),
        ("operator", "POST /devices", 201, 0),
        ("operator", "PUT /devices/d1/decommission", 403, 0),
        ("operator", "PUT /devices/d1/status", 403, 0),
    ] {
        let began = Instant::now();
        let bearer = format!("Bearer {token}");
        let body = if request.starts_with("GET") {
            Value::Null
        } else {
            device("d1")
        };
        let answer = with(&service, request, &body, &[("authorization", &bearer)]).await;
        assert_eq!(answer.code, code, "{token} {request} {}", answer.message());
        assert_eq!(began.elapsed().as_secs(), after, "{token}");
        match code {
            401 => assert_eq!(answer.message(), "failed to validate token"),
            403 => assert_eq!(answer.message(), "Forbidden"),
            _ => {}
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_created_device_reads_as_recorded_and_is_rendered_a_moment_later() {
    let service = service(Options::default());
    let mut body = device("d1");
    body["metadata"]["labels"] = json!({"zone": "a"});
    body.as_object_mut().unwrap().remove("spec");
    let answer = call(&service, "POST /devices", &body).await;
    assert_eq!(answer.code, 201);
    let away = json!({"info": "Device is disconnected (last seen more than 5 minutes ago).", "status": "Unknown"});
    assert_eq!(
        answer.body,
        json!({"apiVersion": "flightctl.io/v1beta1", "kind": "Device",
            "metadata": {"annotations": {}, "creationTimestamp": "2026-11-21T04:00:00Z", "generation": 1, "labels": {"zone": "a"}, "name": "d1", "resourceVersion": "1"},
            "spec": {},
            "status": {"applications": [], "applicationsSummary": away, "conditions": [{"lastTransitionTime": "0001-01-01T00:00:00Z", "message": "", "reason": "", "status": "Unknown", "type": "Updating"}],
                "config": {"renderedVersion": ""}, "integrity": {"status": "Unknown"}, "lifecycle": {"status": "Unknown"}, "os": {"image": "", "imageDigest": ""},
                "resources": {"cpu": "Unknown", "disk": "Unknown", "memory": "Unknown"}, "summary": away,
                "systemInfo": {"agentVersion": "", "architecture": "", "bootID": "", "operatingSystem": ""},
                "updated": {"info": "Device was updated to the latest device spec.", "status": "UpToDate"}}})
    );
    sleep(RENDERED).await;
    let answer = call(&service, "GET /devices/d1", &Value::Null).await;
    assert_eq!(
        answer.at("/metadata/annotations/device-controller~1renderedVersion"),
        "1"
    );
    assert_eq!(answer.at("/status/conditions/1/type"), "SpecValid");
    assert_eq!(answer.at("/status/conditions/1/reason"), "Valid");
    assert_eq!(answer.at("/status/updated/status"), "OutOfDate");
    assert_eq!(answer.at("/metadata/resourceVersion"), "2");
    assert_eq!(answer.at("/metadata/generation"), 1);
    let lastseen = call(&service, "GET /devices/d1/lastseen", &Value::Null).await;
    assert_eq!(lastseen.code, 204);
    let again = call(&service, "POST /devices", &body).await;
    assert_eq!(
        (again.code, again.message()),
        (409, "a resource with this name already exists")
    );
    let bad = call(&service, "POST /devices", &device("D_2")).await;
    assert_eq!(bad.code, 400);
    assert!(
        bad.message()
            .starts_with("metadata.name: Invalid value: \"D_2\": a lowercase RFC 1123 subdomain")
    );
}

/// One recorded PATCH: operations, code, end of the message, generation after.
type Recorded = (Value, u16, &'static str, u64);

#[tokio::test(start_paused = true)]
async fn patches_are_answered_and_counted_as_recorded() {
    let service = service(Options::default());
    created(&service, "d1").await;
    let test = |path: &str, value: Value| json!({"op": "test", "path": path, "value": value});
    let generation = |n: u64| test("/metadata/generation", json!(n));
    let add = |path: &str, value: Value| json!({"op": "add", "path": path, "value": value});
    let remove = |path: &str| json!({"op": "remove", "path": path});
    let apps = "/spec/applications";
    let last = "/spec/applications/-";
    let steps: Vec<Recorded> = vec![
        (
            json!([generation(1), add(last, app("a1"))]),
            400,
            "failed to apply JSON patch: add operation does not apply: doc is missing path: \"/spec/applications/-\": missing value",
            1,
        ),
        (
            json!([generation(1), add(apps, json!([app("a1")]))]),
            200,
            "",
            2,
        ),
        (
            json!([generation(1), add(apps, json!([app("a1")]))]),
            400,
            "failed to apply JSON patch: testing value /metadata/generation failed: test failed",
            2,
        ),
        (
            json!([test("/metadata/generation", json!("2"))]),
            400,
            "testing value /metadata/generation failed: test failed",
            2,
        ),
        (
            json!([test("/metadata/generation", json!(2.0))]),
            200,
            "",
            2,
        ),
        (json!([generation(2), add(last, app("a2"))]), 200, "", 3),
        (
            json!([
                test("/spec/applications/1/name", json!("a1")),
                remove("/spec/applications/1")
            ]),
            400,
            "testing value /spec/applications/1/name failed: test failed",
            3,
        ),
        (
            json!([test("/spec/applications/7/name", json!("a2"))]),
            400,
            "test operation does not apply: is missing path: /spec/applications/7/name: missing value",
            3,
        ),
        (
            json!([
                test("/spec/applications/1/name", json!("a2")),
                remove("/spec/applications/1")
            ]),
            200,
            "",
            4,
        ),
        (json!([remove("/spec/applications/0")]), 200, "", 5),
        (json!([add(last, app("a3"))]), 200, "", 6),
        (json!([remove(apps)]), 200, "", 7),
        (
            json!([remove(apps)]),
            400,
            "error in remove for path: '/spec/applications': Unable to remove nonexistent key: applications: missing value",
            7,
        ),
        (
            json!([{"op": "replace", "path": apps, "value": [app("a4")]}]),
            200,
            "",
            8,
        ),
        (
            json!([test("/spec/applications/0", Value::Null)]),
            400,
            "API Error: request body has an error: doesn't match schema #/components/schemas/PatchRequest: Error at \"/0/value\": Value is not nullable",
            8,
        ),
        (
            json!([{"op": "move", "from": apps, "path": "/spec/x"}]),
            400,
            "property \"from\" is unsupported",
            8,
        ),
        (
            json!([{"op": "replace", "path": "/metadata/name", "value": "x"}]),
            400,
            "metadata.name is immutable",
            8,
        ),
        (
            json!([{"op": "replace", "path": "/status/summary/status", "value": "Online"}]),
            400,
            "status is immutable",
            8,
        ),
        (
            json!([add("/metadata/owner", json!("Fleet/x"))]),
            200,
            "",
            8,
        ),
        (
            json!([add("/metadata/annotations/x", json!("y"))]),
            200,
            "",
            8,
        ),
        (json!([add("/metadata/generation", json!(99))]), 200, "", 8),
        (
            json!([add("/spec/nonsense", json!(1))]),
            400,
            "patch produced an invalid resource: json: unknown field \"nonsense\"",
            8,
        ),
        (
            json!([add("/spec/applications/0/nonsense", json!(1))]),
            200,
            "",
            9,
        ),
        (json!([]), 200, "", 9),
        (
            json!([add("/metadata/labels", json!({"x": "y"}))]),
            200,
            "",
            9,
        ),
        (
            json!([
                test("/metadata/labels/x", json!("y")),
                test("/kind", json!("Device")),
                test("/metadata/name", json!("d1")),
                test("/status/summary/status", json!("Unknown"))
            ]),
            200,
            "",
            9,
        ),
    ];
    let mut version = 2;
    for (ops, code, message, generation) in steps {
        sleep(Duration::ZERO).await;
        let answer = call(&service, "PATCH /devices/d1", &ops).await;
        assert_eq!(answer.code, code, "{ops}: {}", answer.message());
        assert!(
            answer.message().ends_with(message),
            "{ops}: {}",
            answer.message()
        );
        let now = call(&service, "GET /devices/d1", &Value::Null).await;
        assert_eq!(now.at("/metadata/generation"), generation, "{ops}");
        assert_eq!(now.at("/metadata/owner"), Value::Null);
        if code == 200 {
            version += 1;
        }
        // Time stands still, so nothing is rendered in between.
        assert_eq!(
            now.at("/metadata/resourceVersion"),
            version.to_string(),
            "{ops}"
        );
    }
    for kind in ["application/merge-patch+json", "application/json"] {
        let headers = [("authorization", "Bearer t"), ("content-type", kind)];
        let answer = with(&service, "PATCH /devices/d1", &json!([]), &headers).await;
        assert_eq!(answer.code, 400);
        assert!(
            answer
                .message()
                .contains("header Content-Type has unexpected value")
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_put_is_guarded_by_the_resource_version_and_keeps_what_it_leaves_out() {
    let service = service(Options::default());
    let mut body = device("d1");
    body["metadata"]["labels"] = json!({"zone": "a"});
    body["spec"] = json!({"applications": [app("a1")]});
    assert_eq!(call(&service, "PUT /devices/d1", &body).await.code, 201);
    let mut bare = json!({"apiVersion": "v1beta1", "kind": "Device", "metadata": {"name": "d1"}});
    let answer = call(&service, "PUT /devices/d1", &bare).await;
    assert_eq!(answer.code, 200);
    assert_eq!(answer.at("/apiVersion"), "flightctl.io/v1beta1");
    assert_eq!(answer.at("/metadata/labels/zone"), "a");
    assert_eq!(answer.at("/spec/applications/0/name"), "a1");
    assert_eq!(answer.at("/metadata/generation"), 1);
    for stale in ["1", "abc"] {
        bare["metadata"]["resourceVersion"] = json!(stale);
        let answer = call(&service, "PUT /devices/d1", &bare).await;
        assert_eq!(answer.code, 409);
        assert_eq!(answer.at("/reason"), "Conflict");
        assert_eq!(
            answer.message(),
            "the object has been modified; please apply your changes to the latest version and try again"
        );
    }
    assert_eq!(
        call(&service, "PUT /devices/other", &device("d1"))
            .await
            .code,
        400
    );
}

#[tokio::test(start_paused = true)]
async fn invalid_applications_are_refused_with_the_recorded_messages() {
    let service = service(Options::default());
    created(&service, "val").await;
    let good = "[Container]\nImage=quay.io/x/y:1\n";
    let one = |path: &str, text: &str| json!([quadlet("a", &[(path, text)])]);
    let named = |name: &str| json!([quadlet(name, &[("a.container", good)])]);
    let with_key = |key: &str, value: Value| {
        let mut app = quadlet("a", &[("a.container", good)]);
        app[key] = value;
        json!([app])
    };
    let long = "a".repeat(254);
    let big = "x".repeat(1024 * 1024 + 1);
    let cases: Vec<(Value, &str)> = vec![
        (
            one("a.container", "[Container]\nExec=x\n"),
            ".container quadlet must have an Image key",
        ),
        (
            one("a.container", "[Container]\nImage=nginx\n"),
            "container.image: Invalid value: \"nginx\": Invalidpattern",
        ),
        (
            one("a.container", "Image=nginx\n"),
            "parse quadlet spec \"a.container\": non quadlet type",
        ),
        (
            one("a.container", "[Container\nImage=x\n"),
            "unable to find end of section",
        ),
        (
            one("a.container", "[Container]\nImage\n"),
            "unexpected newline encountered while parsing option name",
        ),
        (
            one("a.container", &format!("{good}[Pod]\nPodName=x\n")),
            "multiple quadlet type sections found",
        ),
        (
            one("a.volume", good),
            "quadlet type \"container\" does not match file extension \".volume\"",
        ),
        (
            one("a.container", "[Build]\nImage=x\n"),
            "unsupported quadlet type: type: Build",
        ),
        (
            one("a.container", "[Container]\nImage=x.build\n"),
            ".build quadlet types are unsupported: x.build",
        ),
        (
            one("p.pod", "[Pod]\nPodName=p\n"),
            "at least one quadlet workload must be supplied",
        ),
        (json!([quadlet("a", &[])]), "no paths provided"),
        (
            one("a.container", &format!("{good}Pod=p.pod\n")),
            "quadlet file \"a.container\" references \"p.pod\" which is not defined in the application",
        ),
        (
            one("a.container", &format!("{good}Volume=v.volume:/x\n")),
            "references \"v.volume\" which is not defined in the application",
        ),
        (
            json!([quadlet(
                "a",
                &[
                    ("a.container", &format!("{good}ContainerName=c\n")),
                    ("b.container", &format!("{good}ContainerName=c\n"))
                ]
            )]),
            "duplicate ContainerName \"c\" found in a.container and b.container",
        ),
        (
            json!([quadlet(
                "a",
                &[("a.container", good), ("a.container", good)]
            )]),
            "duplicate inline path: a.container",
        ),
        (json!([app("a"), app("a")]), "duplicate application name: a"),
        (
            one("sub/a.container", good),
            "quadlet file must be at root level: \"sub/a.container\"",
        ),
        (one("/abs", "x"), "must be a relative path"),
        (one("../x", "x"), "must not contain '..'"),
        (
            named("A"),
            "spec.applications[].name: Invalid value: \"A\": Invalidpattern (regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')",
        ),
        (named("a_b"), "Invalidpattern"),
        (named("a.b"), "Invalidpattern"),
        (named("-a"), "Invalidpattern"),
        (named(&long), "Too long: may not be more than 253 bytes"),
        (named(""), "inline quadlet application name cannot be empty"),
        (
            with_key("envVars", json!({"A": ""})),
            "spec.applications[a].envVars: Required value",
        ),
        (
            with_key("envVars", json!({"1A": "x"})),
            "Invalid value: \"1A\"",
        ),
        (
            with_key("desiredState", json!("stopped")),
            "spec.applications[a].desiredState is read-only and cannot be set directly; use the stop/start device APIs instead",
        ),
        (
            json!([quadlet("a", &[("a.container", good), ("big", &big)])]),
            "spec.applications[].inline[1].content: Too long: may not be more than 1048576 bytes",
        ),
        (
            one("a.container", &format!("{good}Exec={}\n", "x".repeat(2043))),
            "line too long (max 2048 bytes)",
        ),
        (
            json!([{"name": "c", "appType": "container", "image": "nginx:1.27", "resources": {"limits": {"memory": "256Mi"}}}]),
            "limits.memory: must be in format 'number[unit]' where unit is b, k, m, or g, got \"256Mi\"",
        ),
    ];
    for (apps, message) in cases {
        let ops = json!([{"op": "add", "path": "/spec/applications", "value": apps}]);
        let answer = call(&service, "PATCH /devices/val", &ops).await;
        assert_eq!(answer.code, 400, "{message}");
        assert!(
            answer.message().contains(message),
            "wanted {message}\n   got {}",
            answer.message()
        );
        assert_eq!(answer.at("/reason"), "Bad Request");
    }
    let accepted = vec![
        one(
            "a.container",
            &format!("{good}Nonsense=1\n[Elsewhere]\nx=y\n"),
        ),
        with_key("annotations", json!({"x": "y"})),
        with_key("runAs", json!("Bad User")),
        named(&"a".repeat(253)),
        json!([quadlet(
            "a",
            &[("a.container", good), ("deep/er/file.txt", "x")]
        )]),
        json!([{"name": "c", "appType": "container", "image": "nginx:1.27", "ports": ["80:80"]}]),
    ];
    for apps in accepted {
        let ops = json!([{"op": "add", "path": "/spec/applications", "value": apps}]);
        let answer = call(&service, "PATCH /devices/val", &ops).await;
        assert_eq!(answer.code, 200, "{}", answer.message());
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_rendered_stays_invalid_until_something_new_comes() {
    let service = service(Options::default());
    created(&service, "d1").await;
    let git = json!([{"op": "add", "path": "/spec/config", "value": [{"name": "g", "gitRef": {"repository": "r", "targetRevision": "main", "path": "/"}}]}]);
    assert_eq!(call(&service, "PATCH /devices/d1", &git).await.code, 200);
    let valid = async |expected: (&str, &str)| {
        sleep(RENDERED).await;
        let now = call(&service, "GET /devices/d1", &Value::Null).await;
        assert_eq!(now.at("/status/conditions/1/status"), expected.0);
        assert_eq!(
            now.at("/metadata/annotations/device-controller~1renderedVersion"),
            expected.1
        );
    };
    valid(("False", "1")).await;
    let back = json!([{"op": "remove", "path": "/spec/config"}]);
    assert_eq!(call(&service, "PATCH /devices/d1", &back).await.code, 200);
    valid(("False", "1")).await;
    let new = json!([{"op": "add", "path": "/spec/applications", "value": [app("a")]}]);
    assert_eq!(call(&service, "PATCH /devices/d1", &new).await.code, 200);
    valid(("True", "2")).await;
    let reasons: Vec<Value> = service
        .events()
        .iter()
        .map(|event| event["reason"].clone())
        .collect();
    assert!(reasons.contains(&json!("DeviceSpecInvalid")));
}

#[tokio::test(start_paused = true)]
async fn a_fleet_owns_its_devices_and_their_specs() {
    let service = service(Options::default());
    for name in ["f1", "f2"] {
        let mut body = device(name);
        body["metadata"]["labels"] = json!({"fleet": "x", "zone": format!("z-{name}")});
        call(&service, "POST /devices", &body).await;
    }
    let unit = "[Container]\nImage=quay.io/x/y:1\nEnvironment=DEV={{ .metadata.name }} ZONE={{ .metadata.labels.zone }}\n";
    let template = json!({"applications": [quadlet("base", &[("a.container", unit)])]});
    let answer = call(&service, "POST /fleets", &fleet("fx", "x", &template)).await;
    assert_eq!(
        (answer.code, answer.at("/status")),
        (201, json!({"conditions": []}))
    );
    sleep(FLEETS).await;
    let owned = call(&service, "GET /devices/f1", &Value::Null).await;
    assert_eq!(owned.at("/metadata/owner"), "Fleet/fx");
    assert_eq!(
        owned.at("/metadata/annotations/fleet-controller~1templateVersion"),
        "v1"
    );
    assert_eq!(
        owned.at("/metadata/annotations/fleet-controller~1renderedTemplateVersion"),
        "v1"
    );
    assert_eq!(owned.at("/spec/applications/0/runAs"), "");
    assert!(
        owned
            .at("/spec/applications/0/inline/0/content")
            .as_str()
            .unwrap()
            .contains("DEV=f1 ZONE=z-f1")
    );
    let ops = json!([{"op": "add", "path": "/spec/applications/-", "value": app("mine")}]);
    let refused = call(&service, "PATCH /devices/f1", &ops).await;
    assert_eq!(
        (refused.code, refused.message()),
        (
            409,
            "updating the resource is not allowed because it has an owner"
        )
    );
    let label = json!([{"op": "add", "path": "/metadata/labels/more", "value": "x"}]);
    assert_eq!(call(&service, "PATCH /devices/f1", &label).await.code, 200);
    let stop = "POST /devices/f1/applications/base/actions/stop";
    assert_eq!(call(&service, stop, &Value::Null).await.code, 200);
    let summary = call(
        &service,
        "GET /fleets/fx?addDevicesSummary=true",
        &Value::Null,
    )
    .await;
    assert_eq!(summary.at("/status/devicesSummary/total"), 2);
    assert_eq!(
        summary.at("/status/devicesSummary/updateStatus"),
        json!({"OutOfDate": 2})
    );
    assert_eq!(summary.at("/status/conditions/0/type"), "Valid");
    let stale = json!([{"op": "test", "path": "/metadata/generation", "value": 7}]);
    assert_eq!(call(&service, "PATCH /fleets/fx", &stale).await.code, 400);

    call(&service, "POST /fleets", &fleet("fz", "x", &template)).await;
    sleep(FLEETS).await;
    let both = call(&service, "GET /devices/f1", &Value::Null).await;
    let conditions = both.at("/status/conditions");
    let multiple = conditions
        .as_array()
        .unwrap()
        .iter()
        .find(|c| c["type"] == "MultipleOwners")
        .unwrap();
    assert_eq!(
        (&multiple["status"], &multiple["message"]),
        (&json!("True"), &json!("fx,fz"))
    );
    assert_eq!(both.at("/metadata/owner"), "Fleet/fx");
    for name in ["fx", "fz"] {
        let answer = call(&service, &format!("DELETE /fleets/{name}"), &Value::Null).await;
        assert_eq!((answer.code, answer.at("/status")), (200, json!("Success")));
    }
    sleep(FLEETS).await;
    let free = call(&service, "GET /devices/f1", &Value::Null).await;
    assert_eq!(free.at("/metadata/owner"), Value::Null);
    assert_eq!(
        free.at("/spec/applications/0/name"),
        "base",
        "the last spec stays"
    );
    assert_eq!(call(&service, "PATCH /devices/f1", &ops).await.code, 200);
}

#[tokio::test(start_paused = true)]
async fn a_template_that_a_device_has_no_label_for_rolls_nothing_out() {
    let service = service(Options::default());
    service.add_device(DeviceSpec::new("d1").label("fleet", "x"));
    let unit = "[Container]\nImage=quay.io/x/y:1\nEnvironment=Z={{ .metadata.labels.zone }}\n";
    let template = json!({"applications": [quadlet("base", &[("a.container", unit)])]});
    let labels = BTreeMap::from([("fleet".to_owned(), "x".to_owned())]);
    service.create_fleet("fx", &labels, &template).unwrap();
    sleep(FLEETS).await;
    let device = service.device_value("d1").unwrap();
    assert_eq!(device["metadata"]["owner"], "Fleet/fx");
    assert_eq!(device["spec"], json!({}));
    let error = &device["metadata"]["annotations"]["fleet-controller/lastRolloutError"];
    assert!(
        error
            .as_str()
            .unwrap()
            .contains("map has no entry for key \"zone\"")
    );
    let bad = json!({"applications": [quadlet("base", &[("a.container", "[Container]\nImage={{ .metadata.labels.img }}\n")])]});
    assert!(service.create_fleet("bad", &labels, &bad).is_err());
}

#[tokio::test(start_paused = true)]
async fn lists_are_paged_and_selected_as_recorded() {
    let service = service(Options::default());
    for name in ["pg0", "pg1", "pg2", "pg3", "pg4"] {
        let mut body = device(name);
        body["metadata"]["labels"] = json!({"grp": "p"});
        call(&service, "POST /devices", &body).await;
    }
    call(&service, "POST /devices", &device("other")).await;
    let answer = call(
        &service,
        "GET /devices?limit=2&labelSelector=grp%3Dp",
        &Value::Null,
    )
    .await;
    assert_eq!(answer.at("/kind"), "DeviceList");
    assert_eq!(answer.at("/metadata/remainingItemCount"), 3);
    assert_eq!(answer.at("/summary/total"), 2);
    let token = answer
        .at("/metadata/continue")
        .as_str()
        .unwrap()
        .replace('=', "%3D");
    let next = format!("GET /devices?limit=5&labelSelector=grp%3Dp&continue={token}");
    let answer = call(&service, &next, &Value::Null).await;
    let names: Vec<Value> = answer
        .at("/items")
        .as_array()
        .unwrap()
        .iter()
        .map(|d| d["metadata"]["name"].clone())
        .collect();
    assert_eq!(names, ["pg2", "pg3", "pg4"]);
    assert_eq!(answer.at("/metadata"), json!({}));
    for (query, code, count) in [
        ("limit=1001", 400, 0),
        ("limit=-1", 400, 0),
        ("limit=0", 200, 6),
        ("continue=zz", 400, 0),
        ("summaryOnly=true", 200, 0),
        ("summaryOnly=true&limit=1", 400, 0),
        ("labelSelector=i%3E3", 400, 0),
        ("labelSelector=!grp", 200, 1),
        ("fieldSelector=metadata.name%20in%20(pg1,pg2)", 200, 2),
        ("fieldSelector=!metadata.owner", 200, 6),
        ("fieldSelector=status.summary.status%3DOnline", 200, 0),
        ("fieldSelector=lastSeen%3Cx", 400, 0),
    ] {
        let answer = call(&service, &format!("GET /devices?{query}"), &Value::Null).await;
        assert_eq!(answer.code, code, "{query} {}", answer.message());
        if code == 200 {
            assert_eq!(
                answer.at("/items").as_array().unwrap().len(),
                count,
                "{query}"
            );
        }
    }
    let labels = call(&service, "GET /labels?kind=Device", &Value::Null).await;
    assert_eq!(labels.body, json!(["grp=p"]));
}

#[tokio::test(start_paused = true)]
async fn events_are_read_on_from_a_point_in_time() {
    let service = service(Options::default());
    created(&service, "d1").await;
    let ops = json!([{"op": "add", "path": "/spec/applications", "value": [app("a")]}]);
    sleep(Duration::from_secs(5)).await;
    call(&service, "PATCH /devices/d1", &ops).await;
    let newest = call(&service, "GET /events?limit=1", &Value::Null).await;
    let event = newest.at("/items/0");
    assert_eq!(event["reason"], "ResourceUpdated");
    assert_eq!(
        event["details"],
        json!({"detailType": "ResourceUpdated", "updatedFields": ["spec"]})
    );
    assert_eq!(
        event["involvedObject"],
        json!({"kind": "Device", "name": "d1"})
    );
    assert!(newest.at("/metadata/remainingItemCount").as_u64().unwrap() > 0);
    let since = "GET /events?order=asc&fieldSelector=involvedObject.kind%3DDevice,metadata.creationTimestamp%3E%3D2026-11-21T04:00:03Z";
    let answer = call(&service, since, &Value::Null).await;
    assert_eq!(answer.at("/items").as_array().unwrap().len(), 1);
    assert_eq!(answer.at("/metadata"), json!({}), "no token at the end");
    assert_eq!(
        call(
            &service,
            "GET /events?fieldSelector=message%3Dx",
            &Value::Null
        )
        .await
        .code,
        400
    );
    let mut token = String::new();
    let mut seen = Vec::new();
    loop {
        let page = call(
            &service,
            &format!("GET /events?limit=2{token}"),
            &Value::Null,
        )
        .await;
        seen.extend(
            page.at("/items")
                .as_array()
                .unwrap()
                .iter()
                .map(|e| e["metadata"]["name"].clone()),
        );
        match page.at("/metadata/continue").as_str() {
            Some(next) => token = format!("&continue={}", next.replace('=', "%3D")),
            None => break,
        }
    }
    let mut all: Vec<Value> = service
        .events()
        .iter()
        .map(|e| e["metadata"]["name"].clone())
        .collect();
    all.reverse();
    assert_eq!(seen, all);
}

#[tokio::test(start_paused = true)]
async fn the_request_limit_answers_as_recorded() {
    let service = service(Options {
        rate_limit: Some(20),
        rate_limit_window: Duration::from_secs(10),
        ..Options::default()
    });
    let first = call(&service, "GET /version", &Value::Null).await;
    assert_eq!(header(&first.headers, "x-ratelimit-limit"), "20");
    assert_eq!(header(&first.headers, "x-ratelimit-remaining"), "19");
    assert!(!header(&first.headers, "x-ratelimit-reset").is_empty());
    for _ in 0..19 {
        assert_eq!(call(&service, "GET /version", &Value::Null).await.code, 200);
    }
    let over = call(&service, "GET /version", &Value::Null).await;
    assert_eq!(over.code, 429);
    assert_eq!(header(&over.headers, "retry-after"), "10");
    assert_eq!(
        over.body,
        json!({"apiVersion": "", "code": 429, "kind": "", "message": "Rate limit exceeded, please try again later", "reason": "TooManyRequests", "status": ""})
    );
    assert_eq!(call(&service, "GET //readyz", &Value::Null).await.code, 200);
    assert_eq!(
        call(&service, "GET //api/version", &Value::Null).await.code,
        200
    );
    sleep(Duration::from_secs(13)).await;
    assert_eq!(call(&service, "GET /version", &Value::Null).await.code, 200);
}

#[tokio::test(start_paused = true)]
async fn decommissioning_and_deletion_answer_as_recorded() {
    let service = service(Options::default());
    service.add_device(DeviceSpec::new("d1").label("x", "y"));
    sleep(Duration::from_secs(10)).await;
    let bad = call(
        &service,
        "PUT /devices/d1/decommission",
        &json!({"target": "Moon"}),
    )
    .await;
    assert_eq!(bad.code, 400);
    let target = json!({"target": "Unenroll"});
    let answer = call(&service, "PUT /devices/d1/decommission", &target).await;
    assert_eq!(answer.code, 200);
    assert_eq!(answer.at("/metadata/labels"), Value::Null);
    assert_eq!(answer.at("/metadata/generation"), 1);
    assert_eq!(answer.at("/spec/decommissioning"), target);
    assert_eq!(answer.at("/status/lifecycle/status"), "Decommissioning");
    let answer = call(&service, "PUT /devices/d1/decommission", &target).await;
    assert_eq!(answer.code, 409);
    let label = json!([{"op": "add", "path": "/metadata/labels", "value": {"a": "b"}}]);
    let answer = call(&service, "PATCH /devices/d1", &label).await;
    assert_eq!(
        (answer.code, answer.message()),
        (
            400,
            "spec.decommissioning cannot be changed via patch request"
        )
    );
    let answer = call(&service, "PUT /devices/d1", &device("d1")).await;
    assert_eq!(
        (answer.code, answer.message()),
        (409, "decommissioned device cannot be created or updated")
    );
    let answer = call(
        &service,
        "POST /devices/d1/applications/a/actions/stop",
        &Value::Null,
    )
    .await;
    assert_eq!(answer.code, 400);
    sleep(Duration::from_secs(10)).await;
    let answer = call(&service, "GET /devices/d1", &Value::Null).await;
    assert_eq!(
        answer.at("/metadata/annotations/device-controller~1renderedVersion"),
        "2"
    );
    assert_eq!(
        answer.at("/status/lifecycle"),
        json!({"status": "Decommissioned", "info": "Device has completed decommissioning"})
    );
    for _ in 0..2 {
        let answer = call(&service, "DELETE /devices/d1", &Value::Null).await;
        assert_eq!((answer.code, answer.at("/status")), (200, json!("Success")));
    }
    assert_eq!(
        call(&service, "GET /devices/d1", &Value::Null).await.code,
        404
    );
}

#[tokio::test(start_paused = true)]
async fn application_actions_change_the_rendered_version_and_nothing_else() {
    let service = service(Options::default());
    created(&service, "d1").await;
    flightctl_client::deploy(&service, "d1", &[app("web")]).await;
    sleep(RENDERED).await;
    let at = "/devices/d1/applications";
    let answer = call(
        &service,
        &format!("POST {at}/web/actions/stop"),
        &Value::Null,
    )
    .await;
    assert_eq!(
        (answer.code, answer.at("/metadata/generation")),
        (200, json!(2))
    );
    sleep(RENDERED).await;
    let rendered = call(&service, "GET /devices/d1/rendered", &Value::Null).await;
    assert_eq!(rendered.at("/spec/applications/0/desiredState"), "stopped");
    assert_eq!(
        rendered.at("/metadata/annotations/device-controller~1renderedVersion"),
        "3"
    );
    let answer = call(
        &service,
        &format!("POST {at}/nope/actions/stop"),
        &Value::Null,
    )
    .await;
    assert_eq!(
        (answer.code, answer.message()),
        (404, "Application of name \"nope\" not found")
    );
    let answer = call(
        &service,
        &format!("POST {at}/web/actions/dance"),
        &Value::Null,
    )
    .await;
    assert_eq!(answer.code, 404);
}

#[tokio::test(start_paused = true)]
async fn quick_patches_become_one_version_and_the_last_content_wins() {
    let service = service(Options::default());
    created(&service, "d1").await;
    for n in 1..=5 {
        flightctl_client::deploy(&service, "d1", &[app(&format!("a{n}"))]).await;
    }
    sleep(RENDERED).await;
    let rendered = call(&service, "GET /devices/d1/rendered", &Value::Null).await;
    assert_eq!(rendered.at("/metadata/generation"), 6);
    assert_eq!(
        rendered.at("/metadata/annotations/device-controller~1renderedVersion"),
        "2"
    );
    assert_eq!(rendered.at("/spec/applications/0/name"), "a5");
}

#[tokio::test(start_paused = true)]
async fn a_users_long_poll_takes_the_wake_up_of_the_device() {
    let service = service(Options::default());
    let device = service.add_device(DeviceSpec::new("d1"));
    sleep(Duration::from_secs(20)).await;
    let thief = {
        let service = service.clone();
        tokio::spawn(async move {
            call(
                &service,
                "GET /devices/d1/rendered?knownRenderedVersion=1",
                &Value::Null,
            )
            .await
        })
    };
    sleep(Duration::from_secs(1)).await;
    flightctl_client::deploy(&service, "d1", &[app("a")]).await;
    let patched = Instant::now();
    assert_eq!(thief.await.unwrap().code, 200);
    assert!(patched.elapsed() < Duration::from_millis(20));
    device.changed().await;
    assert!(
        patched.elapsed() > Duration::from_secs(60),
        "the device slept on"
    );
    let idle = call(
        &service,
        "GET /devices/d1/rendered?knownRenderedVersion=2",
        &Value::Null,
    );
    assert_eq!(
        timeout(Duration::from_secs(121), idle).await.unwrap().code,
        204
    );
}

#[tokio::test(start_paused = true)]
async fn two_writers_who_test_the_generation_lose_no_insert() {
    let service = service(Options::default());
    created(&service, "d1").await;
    flightctl_client::deploy(&service, "d1", &[]).await;
    let writer = |who: &'static str| {
        let service = service.clone();
        async move {
            for n in 0..40 {
                loop {
                    let now = call(&service, "GET /devices/d1", &Value::Null).await;
                    tokio::task::yield_now().await;
                    let ops = json!([
                        {"op": "test", "path": "/metadata/generation", "value": now.at("/metadata/generation")},
                        {"op": "add", "path": "/spec/applications/-", "value": app(&format!("{who}{n}"))},
                    ]);
                    if call(&service, "PATCH /devices/d1", &ops).await.code == 200 {
                        break;
                    }
                }
            }
        }
    };
    tokio::join!(writer("a"), writer("b"));
    let now = call(&service, "GET /devices/d1", &Value::Null).await;
    assert_eq!(now.at("/spec/applications").as_array().unwrap().len(), 80);
    assert_eq!(now.at("/metadata/generation"), 82);
}
