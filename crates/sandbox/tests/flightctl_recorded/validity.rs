//! What the service refuses, and what it takes and cannot render.

use serde_json::{Value, json};
use tokio::time::sleep;
use vk_sandbox::flightctl::Options;

use crate::flightctl_client::{app, call, quadlet, service};
use crate::{RENDERED, created};

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
