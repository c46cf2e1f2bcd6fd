//! Two pods with every way to be given something, and what their processes see.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{ADDRESS, Edge, IMAGE, USER_IMAGE};
use crate::corpus;

/// Several containers in a Podman pod, one of another user.
pub const MANY: &str = "many";
/// One container without one.
pub const ONE: &str = "one";
/// In every value of a Secret that is looked for where it must not be.
pub const PLANTED: &str = "planted-s3cret";
/// What a runtime gives beside: the image's, and Podman's own.
const RUNTIME: [&str; 5] = ["PATH", "HOME", "HOSTNAME", "TERM", "container"];

/// Paths in a container to owner, mode, length and digest.
pub type Files = BTreeMap<String, String>;

impl Edge {
    pub fn pods_see_exactly_what_they_ask_for(&mut self) {
        self.world.plane.ok(&["apply", "-k", &inputs_binding()]);
        self.world.apply(&objects().to_string());
        self.world.apply(&many().to_string());
        self.world.apply(&one().to_string());
        for pod in [MANY, ONE] {
            self.until(&format!("{pod} is Ready on the device"), |e| {
                let ready = "{.status.conditions[?(@.type=='Ready')].status}";
                e.world.jsonpath("default", pod, ready) == "True"
            });
        }
        self.all_is_as_asked_for("hello", "hello");
        self.token_is_one();
        self.modes_hold();
    }

    /// Environment and files of both pods; `greeting` is the one that changes, and
    /// was another when the containers started.
    pub fn all_is_as_asked_for(&self, greeting: &str, at_start: &str) {
        let many = self.app(MANY);
        same(&self.environment(&many, "app"), &environment(), "variables");
        same(
            &self.files(&many, "app"),
            &files_of_app(greeting, at_start),
            "files",
        );
        let user = self.files(&many, "user");
        same(&user, &files_of_user(greeting), "files of another user");
        let one = self.app(ONE);
        let expected = BTreeMap::from([
            ("FROM_SECRET".into(), PLANTED.into()),
            ("HOST".into(), ADDRESS.into()),
            ("POD".into(), ADDRESS.into()),
        ]);
        same(
            &self.environment(&one, "app"),
            &expected,
            "variables of one",
        );
        let mut expected = Files::new();
        put(&mut expected, "/given/settings/greeting", 0o644, greeting);
        put(&mut expected, "/given/settings/picked", 0o644, "kept");
        same(&self.files(&one, "app"), &expected, "files of one");
    }

    /// What the first process of a container was started with.
    fn environment(&self, app: &str, container: &str) -> BTreeMap<String, String> {
        let said = self.exec(app, container, &["cat", "/proc/1/environ"]);
        assert!(said.success, "{}", said.stderr);
        let text = String::from_utf8(said.stdout).unwrap();
        let all = text
            .split_terminator('\0')
            .map(|v| v.split_once('=').unwrap());
        // The API server's are of every pod.
        all.filter(|(name, _)| !RUNTIME.contains(name) && !name.starts_with("KUBERNETES_"))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect()
    }

    /// Everything below `/given` but the token, as the container's user sees it.
    fn files(&self, app: &str, container: &str) -> Files {
        let look = "find /given -type f ! -name token -exec stat -c '%u:%g %a %s' {} \\; \
                    -exec sha256sum {} \\;";
        let said = self.exec(app, container, &["sh", "-c", look]);
        assert!(said.success, "{}", said.stderr);
        let text = String::from_utf8(said.stdout).unwrap();
        let lines: Vec<_> = text.lines().collect();
        let files = lines.chunks(2).map(|pair| {
            let (digest, path) = pair[1].split_once("  ").unwrap();
            (path.to_owned(), format!("{} {digest}", pair[0]))
        });
        files.collect()
    }

    fn token_is_one(&self) {
        let token = |command: &str| {
            let said = self.exec(&self.app(MANY), "app", &["sh", "-c", command]);
            assert!(said.success, "{}", said.stderr);
            String::from_utf8(said.stdout).unwrap()
        };
        let text = token("cat /given/all/token");
        assert_eq!(text.split('.').count(), 3, "it is a JWT");
        assert_eq!(token("stat -c %a /given/all/token"), "444\n");
    }

    /// What may be written, and by whom.
    fn modes_hold(&self) {
        let app = self.app(MANY);
        let write = |container: &str, path: &str| {
            let command = format!("echo written > '{path}'");
            self.exec(&app, container, &["sh", "-c", &command])
        };
        for path in [
            "/given/settings/new",
            "/given/settings/greeting",
            "/given/hush/new",
        ] {
            let said = write("app", path);
            assert!(
                !said.success && said.stderr.contains("Read-only"),
                "{path}: {}",
                said.stderr
            );
        }
        let empty = self.exec(&app, "app", &["ls", "-A", "/scratch"]);
        assert_eq!(
            String::from_utf8_lossy(&empty.stdout),
            "",
            "an emptyDir is empty"
        );
        assert!(write("user", "/scratch/kept").success, "of any user");
        let seen = self.exec(&app, "app", &["cat", "/watched/kept"]);
        assert_eq!(seen.stdout, b"written\n", "and of all containers");
        let said = write("app", "/watched/more");
        assert!(said.stderr.contains("Read-only"), "{}", said.stderr);
    }

    pub fn others_of_the_device_see_no_secret(&mut self) {
        let nobody = |command: &str| {
            let user = "setpriv --reuid=65534 --regid=65534 --clear-groups --";
            let command = format!("{user} sh -c '{command}'");
            self.machine.run(&["sh", "-c", &command])
        };
        for place in ["/etc/containers/systemd", "/run/systemd/generator"] {
            assert!(nobody(&format!("ls {place}/.")).success, "{place} is open");
        }
        let found = "grep -rls [p]lanted-s3cret /etc /run /tmp /var /proc/[0-9]*/cmdline \
                     /proc/[0-9]*/environ";
        // (In brackets, as the command itself is not it.) The agent's copy of its spec can be read by everyone, until the owner of
        // the device closes its folder (docs/flight-control-mapping.md).
        let open = nobody(found).stdout;
        let open = String::from_utf8_lossy(&open).into_owned();
        assert!(
            open.lines()
                .all(|path| path.starts_with("/var/lib/flightctl/")),
            "{open}"
        );
        self.machine.ok(&["chmod", "0700", "/var/lib/flightctl"]);
        assert_eq!(String::from_utf8_lossy(&nobody(found).stdout), "");
        let file = format!("/var/lib/virtual-kubelet/{}/.env/app", self.uid(ONE));
        assert_eq!(
            self.machine.ok(&["stat", "-c", "%a %U:%G", &file]),
            "600 root:root"
        );
    }
}

pub fn inputs_binding() -> String {
    crate::repository()
        .join("config/inputs")
        .display()
        .to_string()
}

/// Compares and names what differs, and nothing else: there are hundreds.
fn same(seen: &BTreeMap<String, String>, asked: &BTreeMap<String, String>, what: &str) {
    let mut text = String::new();
    for (name, value) in asked {
        if seen.get(name) != Some(value) {
            let _ = writeln!(text, "{name}: asked {value:?}, seen {:?}", seen.get(name));
        }
    }
    for name in seen.keys().filter(|name| !asked.contains_key(*name)) {
        let _ = writeln!(text, "{name}: not asked for");
    }
    assert!(text.is_empty(), "{what}:\n{text}");
    assert!(!asked.is_empty());
}

fn put(files: &mut Files, path: &str, mode: u32, content: &str) {
    let digest: String = Sha256::digest(content)
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    let line = format!("0:0 {mode:o} {} {digest}", content.len());
    files.insert(path.to_owned(), line);
}

/// The texts that Kubernetes can hold, with keys.
fn texts() -> impl Iterator<Item = (String, String)> {
    let texts = corpus::strings()
        .into_iter()
        .filter(|text| !text.contains('\0'));
    texts
        .enumerate()
        .map(|(number, text)| (format!("t{number:03}"), text))
}

/// Those of them that the product takes as a variable.
fn variables() -> impl Iterator<Item = (String, String)> {
    texts().filter(|(_, text)| text.is_empty() || !corpus::refusable(text))
}

/// Those that it takes from a Secret.
fn lines() -> impl Iterator<Item = (String, String)> {
    variables().filter(|(_, text)| !text.contains('\n') && !text.ends_with('\r'))
}

fn map(all: impl Iterator<Item = (String, String)>) -> Value {
    all.map(|(name, text)| (name, Value::from(text)))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

/// Longer than a line of a unit can be.
fn long() -> String {
    "long % $HOME \\ \" '".repeat(500)
}

fn objects() -> Value {
    let object = |kind: &str, name: &str, field: &str, data: Value| {
        let meta = json!({"name": name});
        json!({"apiVersion": "v1", "kind": kind, "metadata": meta, field: data})
    };
    json!({"apiVersion": "v1", "kind": "List", "items": [
        object("ConfigMap", "texts", "data", map(texts())),
        object("ConfigMap", "variables", "data", map(variables())),
        object("Secret", "lines", "stringData", map(lines())),
        object("ConfigMap", "settings", "data", json!({"greeting": "hello", "picked": "kept", "long": long()})),
        object("Secret", "hush", "stringData", json!({"word": PLANTED, "long": format!("{PLANTED}{}", long())})),
    ]})
}

/// By the rules of Kubernetes.
fn environment() -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    let before = [("WORD", PLANTED)];
    for (key, text) in variables() {
        all.insert(format!("L_{key}"), corpus::expanded(&text, &before));
        all.insert(format!("C_{key}"), text);
    }
    for (key, text) in lines() {
        all.insert(format!("S_{key}"), text);
    }
    all.insert("WORD".into(), PLANTED.into());
    all.insert("MADE_OF_IT".into(), format!("<{PLANTED}>"));
    all.insert("LONG".into(), long());
    all.insert("LONG_WORD".into(), format!("{PLANTED}{}", long()));
    all.insert("NAME".into(), MANY.into());
    all.insert("NOTE".into(), NOTE.into());
    all
}

/// An annotation.
const NOTE: &str = "a \"note\" of 100% $HOME \\n\nin two lines ✓";
/// A path that nobody would choose.
const ODD: &str = "a folder/ö %n $HOME 'x' \"y\" \\z ; #1";

fn many() -> Value {
    let from_key = |kind: &str, name: &str, key: &str| json!({kind: {"name": name, "key": key}});
    let field = |path: &str| json!({"fieldRef": {"fieldPath": path}});
    let mut env = vec![
        json!({"name": "WORD", "valueFrom": from_key("secretKeyRef", "hush", "word")}),
        json!({"name": "MADE_OF_IT", "value": "<$(WORD)>"}),
        json!({"name": "LONG", "valueFrom": from_key("configMapKeyRef", "settings", "long")}),
        json!({"name": "LONG_WORD", "valueFrom": from_key("secretKeyRef", "hush", "long")}),
        json!({"name": "NAME", "valueFrom": field("metadata.name")}),
        json!({"name": "NOTE", "valueFrom": field("metadata.annotations['note']")}),
    ];
    env.extend(variables().map(|(key, text)| json!({"name": format!("L_{key}"), "value": text})));
    let mount = |name: &str, path: &str| json!({"name": name, "mountPath": path});
    let part = |name: &str, path: &str, sub: &str| json!({"name": name, "mountPath": path, "subPath": sub});
    let labels = json!({"path": "labels/app", "fieldRef": {"fieldPath": "metadata.labels['app']"}});
    let note = json!({"path": "note", "mode": 0o604, "fieldRef": {"fieldPath": "metadata.annotations['note']"}});
    json!({"apiVersion": "v1", "kind": "Pod",
    "metadata": {"name": MANY, "annotations": {"note": NOTE}, "labels": {"app": "given"}},
    "spec": {
        "nodeName": "vk-flightctl-node",
        "terminationGracePeriodSeconds": 1,
        "containers": [
            {"name": "app", "image": IMAGE, "command": ["sleep", "86400"], "env": env,
             "envFrom": [
                {"prefix": "C_", "configMapRef": {"name": "variables"}},
                {"prefix": "S_", "secretRef": {"name": "lines"}},
             ],
             "volumeMounts": [
                mount("texts", "/given/texts"), mount("settings", "/given/settings"),
                mount("hush", "/given/hush"), mount("picked", "/given/picked"),
                mount("all", "/given/all"), mount("about", "/given/about"),
                part("settings", "/given/part/greeting", "greeting"),
                part("about", "/given/part/labels", "labels"),
                part("settings", "/given/part/nothing", "nothing"),
                mount("scratch", "/scratch"),
                {"name": "scratch", "mountPath": "/watched", "readOnly": true},
             ]},
            {"name": "user", "image": USER_IMAGE, "command": ["sleep", "86400"],
             "volumeMounts": [mount("settings", "/given/settings"), mount("scratch", "/scratch")]},
        ],
        "volumes": [
            {"name": "texts", "configMap": {"name": "texts", "defaultMode": 0o640}},
            {"name": "settings", "configMap": {"name": "settings"}},
            {"name": "hush", "secret": {"secretName": "hush", "defaultMode": 0o400}},
            {"name": "picked", "configMap": {"name": "settings", "items": [
                {"key": "greeting", "path": ODD, "mode": 0o755},
                {"key": "picked", "path": "b"},
            ]}},
            {"name": "all", "projected": {"defaultMode": 0o444, "sources": [
                {"configMap": {"name": "settings", "items": [{"key": "picked", "path": "map/picked"}]}},
                {"secret": {"name": "hush", "items": [{"key": "word", "path": "secret/word", "mode": 0o440}]}},
                {"downwardAPI": {"items": [{"path": "name", "fieldRef": {"fieldPath": "metadata.name"}}]}},
                {"serviceAccountToken": {"path": "token"}},
            ]}},
            {"name": "about", "downwardAPI": {"items": [labels, note]}},
            {"name": "scratch", "emptyDir": {}},
        ],
    }})
}

fn files_of_app(greeting: &str, at_start: &str) -> Files {
    let mut files = files_of_user(greeting);
    for (key, text) in texts() {
        put(&mut files, &format!("/given/texts/{key}"), 0o640, &text);
    }
    put(&mut files, "/given/hush/word", 0o400, PLANTED);
    put(
        &mut files,
        "/given/hush/long",
        0o400,
        &format!("{PLANTED}{}", long()),
    );
    put(&mut files, &format!("/given/picked/{ODD}"), 0o755, greeting);
    put(&mut files, "/given/picked/b", 0o644, "kept");
    put(&mut files, "/given/all/map/picked", 0o444, "kept");
    put(&mut files, "/given/all/secret/word", 0o440, PLANTED);
    put(&mut files, "/given/all/name", 0o444, MANY);
    put(&mut files, "/given/about/labels/app", 0o644, "given");
    put(&mut files, "/given/about/note", 0o604, NOTE);
    // A part stays what it was.
    put(&mut files, "/given/part/greeting", 0o644, at_start);
    put(&mut files, "/given/part/labels/app", 0o644, "given");
    files
}

fn files_of_user(greeting: &str) -> Files {
    let mut files = Files::new();
    put(&mut files, "/given/settings/greeting", 0o644, greeting);
    put(&mut files, "/given/settings/picked", 0o644, "kept");
    put(&mut files, "/given/settings/long", 0o644, &long());
    files
}

/// Ends at once when it is told to, and says what it has then.
const FAREWELL: &str =
    "trap 'echo goodbye and $(cat /given/settings/greeting); exit' TERM; sleep 86400 & wait";

fn one() -> Value {
    let items =
        json!([{"key": "greeting", "path": "greeting"}, {"key": "picked", "path": "picked"}]);
    let field = |path: &str| json!({"fieldRef": {"fieldPath": path}});
    json!({"apiVersion": "v1", "kind": "Pod",
    "metadata": {"name": ONE},
    "spec": {
        "nodeName": "vk-flightctl-node",
        "terminationGracePeriodSeconds": 1,
        "automountServiceAccountToken": false,
        "containers": [{
            "name": "app", "image": IMAGE, "command": ["sh", "-c", FAREWELL],
            "env": [
                {"name": "FROM_SECRET", "valueFrom": {"secretKeyRef": {"name": "hush", "key": "word"}}},
                {"name": "HOST", "valueFrom": field("status.hostIP")},
                {"name": "POD", "valueFrom": field("status.podIP")},
            ],
            "volumeMounts": [{"name": "settings", "mountPath": "/given/settings"}],
        }],
        "volumes": [{"name": "settings", "configMap": {"name": "settings", "items": items}}],
    }})
}
