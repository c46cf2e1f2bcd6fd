//! A pod's units, read back by a reader that knows nothing of the writer.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{application, check, files, one, pod, refused};

#[path = "../../../tests/corpus/mod.rs"]
mod corpus;
use corpus::systemd;

#[test]
fn long_commands_go_on_in_more_lines() {
    let files = files(one(
        json!({"command": ["sh", "-c", "x".repeat(1000), "y".repeat(1500), "#z"]}),
    ));
    let text = &files["app.container"];
    let unit = systemd::unit(text);
    assert_eq!(
        systemd::value(&unit, "Container", "Entrypoint"),
        Some("[\"sh\"]")
    );
    let words = systemd::words(systemd::value(&unit, "Container", "Exec").unwrap());
    assert_eq!(
        words,
        [
            "-c".to_owned(),
            "x".repeat(1000),
            "y".repeat(1500),
            "#z".to_owned()
        ]
    );
    assert!(text.lines().all(|l| l.len() < 2048));
}

/// A pod with one text in all fields that take any text.
fn everywhere(text: &str) -> Value {
    json!({"containers": [
        {"name": "a", "image": "nginx", "command": ["sh", "-c", text], "args": [text, "last"], "env": [{"name": "V", "value": text}, {"name": "LAST", "value": "last"}]},
        {"name": "b", "image": "nginx", "args": [text, "last"]},
        {"name": "c", "image": "nginx", "lifecycle": {"preStop": {"exec": {"command": ["sh", text, "last"]}}}},
        {"name": "d", "image": "nginx", "livenessProbe": {"exec": {"command": ["sh", text, "last"]}}},
    ]})
}

/// Checks that a text stands where it belongs and changed nothing else.
fn stays_in_its_field(text: &str) {
    let request = pod(everywhere(text));
    let plain = files(everywhere("plain"));
    let Ok(app) = application(&request, "cluster-uid") else {
        // Refused by path: nothing is written at all.
        let field = refused(everywhere(text));
        assert!(
            [".args[", ".command[", ".env["]
                .iter()
                .any(|of| field.contains(of)),
            "{field}"
        );
        assert!(corpus::refusable(text), "{text:?} was refused at {field}");
        return;
    };
    // What the kubelet makes of it; nothing named here is a variable but V itself.
    let value = corpus::expanded(text, &[]);
    let word = corpus::expanded(text, &[("V", &value)]);
    let bare = corpus::expanded(text, &[]);
    for file in app["inline"].as_array().unwrap() {
        let path = file["path"].as_str().unwrap();
        let content = file["content"].as_str().unwrap();
        if path == crate::marker::MARKER_FILE {
            continue;
        }
        let unit = systemd::unit(content);
        let expected = systemd::unit(&plain[path]);
        let keys = |unit: &systemd::Unit| {
            unit.iter()
                .map(|(s, k, _)| (s.clone(), k.clone()))
                .collect::<Vec<_>>()
        };
        assert_eq!(keys(&unit), keys(&expected), "{text:?}");
        for ((_, key, got), (_, _, want)) in unit.iter().zip(&expected) {
            match (path, key.as_str()) {
                ("a.container", "Entrypoint") => {
                    let words: Vec<String> =
                        serde_json::from_str(&systemd::undoubled(got)).unwrap();
                    assert_eq!(words, ["sh", "-c", &word, &word, "last"]);
                }
                ("b.container", "Exec") => assert_eq!(systemd::words(got), [&bare, "last"]),
                // Nothing in these is expanded.
                ("c.container", "ExecStop") => {
                    assert_eq!(systemd::words(got)[3..], ["sh", "sh", text, "last"]);
                }
                ("d.container", "ExecStartPost") => {
                    let words = systemd::words(&got.replacen("%n", "unit", 1));
                    assert_eq!(words[3..], ["sh", "sh", text, "last"]);
                }
                ("a.container", "Environment") if want.contains("V=") => {
                    assert_eq!(systemd::words(got), [format!("V={value}")]);
                }
                _ => assert_eq!(got, want, "{text:?}"),
            }
        }
    }
}

#[test]
fn the_hostile_corpus_stays_in_its_fields() {
    let strings = corpus::strings();
    assert!(strings.len() > 100);
    for text in &strings {
        stays_in_its_field(text);
    }
}

proptest! {
    #[test]
    fn no_text_leaves_its_field(text in prop_oneof![
        ".{0,60}", "(?s).{1,60}",
        r#"[\\"'%$\n\r\t #;\[\]=(){}nxu0a-]{1,40}"#,
        prop::collection::vec(prop::sample::select(corpus::strings()), 1..4).prop_map(|parts| parts.concat()),
    ]) {
        prop_assume!(text.len() < 400);
        stays_in_its_field(&text);
    }

    #[test]
    fn no_text_makes_the_reading_of_a_pod_fail(text in "(?s).{0,40}", name in "(?s).{0,10}") {
        let mut spec = one(json!({
            "workingDir": text, "imagePullPolicy": text, "env": [{"name": name, "value": text}],
            "ports": [{"containerPort": 1, "hostPort": 2, "hostIP": text, "protocol": name}],
            "volumeMounts": [{"name": name, "mountPath": text}],
            "resources": {"limits": {"cpu": text}},
        }));
        spec["hostname"] = json!(text);
        spec["volumes"] = json!([{"name": name, "emptyDir": {}}]);
        spec["containers"][0]["name"] = json!(name);
        spec["containers"][0]["image"] = json!(text);
        let _ = check(&pod(spec));
    }

    #[test]
    fn a_name_of_an_environment_variable_stays_in_its_field(name in "[!-<>-~]{1,20}") {
        let files = files(one(json!({"env": [{"name": name, "value": "x"}]})));
        let unit = systemd::unit(&files["app.container"]);
        let value = systemd::value(&unit, "Container", "Environment").unwrap();
        prop_assert_eq!(systemd::words(value), [format!("{name}=x")]);
    }

    #[test]
    fn a_working_directory_stays_in_its_field(dir in "/(?s).{0,40}") {
        if let Ok(app) = application(&pod(one(json!({"workingDir": dir}))), "c") {
            let text = app["inline"][1]["content"].as_str().unwrap();
            let unit = systemd::unit(text);
            let value = systemd::value(&unit, "Container", "WorkingDir").unwrap();
            prop_assert_eq!(systemd::undoubled(value), dir);
        }
    }
}
