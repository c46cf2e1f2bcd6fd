//! Podman's own quadlet generator judges every unit we write, and systemd what
//! the generator made of it.
//!
//! Runs where `VK_DEVICE_ROOT` names a device's root (`tests/real/device-root.sh`
//! makes one); needs root for chroot, no boot, and takes milliseconds.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::PathBuf;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, PodSpec};
use serde_json::{Value, json};
use vk_flightctl::mapping::{Workload, app_id, workload};
use vk_provider::environment::Placement;
use vk_provider::{BackendError, Inputs, PodChange, PodKey, PodRequest, Revision};

mod corpus;
use corpus::systemd;
#[path = "generator/made.rs"]
mod made;
use made::{command, generate, option, service, start};

/// The device's root, or `None` with a line that says what to do.
fn device_root() -> Option<PathBuf> {
    let root = std::env::var_os("VK_DEVICE_ROOT").map(PathBuf::from);
    if root.is_none() {
        eprintln!(
            "skipped: VK_DEVICE_ROOT is not set; tests/real/device-root.sh makes a device's root and prints it"
        );
    }
    root
}

fn request(number: usize, spec: Value) -> PodRequest {
    let spec: PodSpec = serde_json::from_value(spec).unwrap();
    let uid = format!("00000000-0000-4000-8000-{number:012}");
    PodRequest {
        key: PodKey::new("default", "web", &uid),
        node: "node".into(),
        spec_revision: Revision::of(&spec),
        pod: Arc::new(Pod {
            spec: Some(spec),
            ..Pod::default()
        }),
        change: PodChange::First,
        journal: None,
        inputs: Default::default(),
    }
}

/// The application of a pod.
fn application(request: &PodRequest) -> Result<Value, BackendError> {
    given(request).map(|workload| workload.app)
}

fn given(request: &PodRequest) -> Result<Workload, BackendError> {
    workload(request, &Placement::default(), "cluster")
}

const IMAGE: &str = "docker.io/library/nginx:latest";

#[test]
fn every_text_of_the_corpus_reaches_podman_unchanged() {
    let Some(root) = device_root() else { return };
    let mut apps = Vec::new();
    for (number, text) in corpus::strings().into_iter().enumerate() {
        let spec = json!({"containers": [
            {"name": "a", "image": "nginx", "command": ["sh", "-c", text], "args": [text, "last"]},
            {"name": "b", "image": "nginx", "args": [text, "last"]},
            {"name": "c", "image": "nginx", "env": [{"name": "A", "value": "first"}, {"name": "V", "value": text}, {"name": "Z", "value": "last"}]},
            {"name": "d", "image": "nginx", "workingDir": format!("/{text}")},
            {"name": "e", "image": "nginx", "lifecycle": {"preStop": {"exec": {"command": ["sh", text, "last"]}}}},
            {"name": "f", "image": "nginx", "livenessProbe": {"exec": {"command": ["sh", text, "last"]}}},
        ]});
        // One container at a time: a text may be fine in one field only.
        for (index, only) in spec["containers"].as_array().unwrap().iter().enumerate() {
            let request = request(number * 10 + index, json!({"containers": [only]}));
            match given(&request) {
                Ok(given) => apps.push((text.clone(), index, given)),
                // The field of a working directory knows no escapes.
                Err(why) => assert!(corpus::refusable(&text) || index == 3, "{text:?}: {why}"),
            }
        }
    }
    assert!(apps.len() > 600, "{}", apps.len());
    let units = generate(
        &root,
        &apps
            .iter()
            .map(|(_, _, given)| given.app.clone())
            .collect::<Vec<_>>(),
    );
    assert_eq!(
        units.len(),
        apps.len(),
        "every file became a unit, and nothing else did"
    );
    for (text, index, given) in &apps {
        let name = ["a", "b", "c", "d", "e", "f"][*index];
        let words = start(&units, &given.app, name);
        let dir = format!("/{text}");
        let literal = text;
        let text = corpus::expanded(text, &[]);
        assert!(
            !words.iter().any(|w| w == "--privileged") || text == "--privileged",
            "{text:?}"
        );
        match name {
            "a" => {
                let entrypoint = option(&words, "--entrypoint");
                let mut all: Vec<String> = serde_json::from_str(entrypoint[0]).unwrap();
                all.extend_from_slice(command(&words, IMAGE));
                assert_eq!(all, ["sh", "-c", &text, &text, "last"], "{text:?}");
            }
            "d" => assert_eq!(option(&words, "--workdir"), [dir]),
            "e" => {
                let hook = service(&units, &given.app, name, "ExecStop");
                let words = systemd::words(hook[0]);
                assert_eq!(words[3..], ["sh", "sh", literal, "last"]);
            }
            "f" => {
                let probe = service(&units, &given.app, name, "ExecStartPost");
                let words = systemd::words(&probe[0].replacen("%n", "unit", 1));
                assert_eq!(words[3..], ["sh", "sh", literal, "last"]);
            }
            "b" => assert_eq!(command(&words, IMAGE), [text.as_str(), "last"], "{text:?}"),
            _ => {
                let own = format!("V={text}");
                let mut expected = vec!["A=first", "Z=last"];
                match &given.environment {
                    None => expected.insert(1, &own),
                    // What no line of a unit can carry is in the file.
                    Some(item) => {
                        let file = &item.value()["inline"][0];
                        let path = file["path"].as_str().unwrap();
                        assert_eq!(option(&words, "--env-file"), [path]);
                        let content = file["content"].as_str().unwrap();
                        assert_eq!(content, format!("{own}\n"));
                    }
                }
                assert_eq!(option(&words, "--env"), expected, "{text:?}");
                assert!(command(&words, IMAGE).is_empty(), "{text:?}");
            }
        }
    }
}

#[test]
fn names_of_variables_reach_podman_unchanged() {
    let Some(root) = device_root() else { return };
    let names: Vec<String> = ('!'..='~')
        .filter(|c| *c != '=')
        .flat_map(|c| [c.to_string(), format!("{c}A{c}")])
        .collect();
    let env: Vec<Value> = names
        .iter()
        .map(|name| json!({"name": name, "value": "x"}))
        .collect();
    let spec = json!({"containers": [{"name": "a", "image": "nginx", "env": env}]});
    let app = application(&request(0, spec)).unwrap();
    let units = generate(&root, std::slice::from_ref(&app));
    let words = start(&units, &app, "a");
    let mut got: Vec<_> = option(&words, "--env")
        .into_iter()
        .map(str::to_owned)
        .collect();
    let mut want: Vec<_> = names.iter().map(|name| format!("{name}=x")).collect();
    got.sort();
    want.sort();
    assert_eq!(got, want);
}

#[test]
fn an_image_of_any_tag_that_is_taken_makes_a_unit() {
    let Some(root) = device_root() else { return };
    let endings = [
        "build",
        "container",
        "image",
        "kube",
        "network",
        "pod",
        "service",
        "socket",
        "target",
        "volume",
    ];
    let mut taken = Vec::new();
    for (number, end) in endings.into_iter().enumerate() {
        let image = format!("example.com/a:1.{end}");
        let spec = json!({"containers": [{"name": "a", "image": image}]});
        match application(&request(number, spec)) {
            Ok(app) => taken.push((image, app)),
            Err(why) => assert!(["build", "image"].contains(&end), "{image}: {why}"),
        }
    }
    assert_eq!(taken.len(), 8);
    let apps: Vec<Value> = taken.iter().map(|(_, app)| app.clone()).collect();
    let units = generate(&root, &apps);
    for (image, app) in &taken {
        assert!(start(&units, app, "a").contains(image), "{image}");
    }
}

#[test]
fn every_shape_of_a_pod_is_accepted() {
    let Some(root) = device_root() else { return };
    let container = |name: &str| {
        json!({
            "name": name, "image": "nginx", "command": ["sh"], "workingDir": "/srv/a b%n$x",
            "ports": [{"containerPort": 80, "hostPort": 8080}, {"containerPort": 81, "hostPort": 8081, "hostIP": "::1", "protocol": "UDP"}],
            "resources": {"limits": {"cpu": "1500m", "memory": "64Mi"}, "requests": {"cpu": "100m"}},
            "volumeMounts": [{"name": "data", "mountPath": "/data"}],
            "imagePullPolicy": "Never",
        })
    };
    let mut apps = Vec::new();
    let mut expected = 0;
    for policy in ["Always", "OnFailure", "Never"] {
        for containers in 1..=3 {
            for inits in 0..=2 {
                for sidecar in
                    [false, true]
                        .into_iter()
                        .take(if policy == "Always" { 2 } else { 1 })
                {
                    for host in [false, true] {
                        let mut init: Vec<Value> =
                            (0..inits).map(|n| container(&format!("i{n}"))).collect();
                        if sidecar {
                            let mut sidecar = container("sc");
                            sidecar["restartPolicy"] = json!("Always");
                            init.insert(0, sidecar);
                        }
                        let spec = json!({
                            "restartPolicy": policy, "hostNetwork": host, "terminationGracePeriodSeconds": 5,
                            "volumes": [{"name": "data", "emptyDir": {}}],
                            "initContainers": init,
                            "containers": (0..containers).map(|n| container(&format!("c{n}"))).collect::<Vec<_>>(),
                        });
                        let together = containers + usize::from(sidecar) > 1;
                        expected += containers
                            + inits
                            + usize::from(sidecar)
                            + usize::from(!host && together);
                        apps.push(application(&request(apps.len(), spec)).unwrap());
                    }
                }
            }
        }
    }
    let units = generate(&root, &apps);
    assert_eq!(units.len(), expected);
    let words = start(&units, &apps[0], "c0");
    for (option_name, values) in [
        ("--stop-timeout", vec!["5"]),
        ("--pull", vec!["never"]),
        ("--workdir", vec!["/srv/a b%n$x"]),
        ("--hostname", vec!["web"]),
        ("--publish", vec!["8080:80", "[::1]:8081:81/udp"]),
    ] {
        assert_eq!(option(&words, option_name), values);
    }
    for word in [
        "--memory=67108864b",
        "--memory-swap=67108864b",
        "--cpus=1.5",
        "--cpu-shares=102",
    ] {
        assert!(words.iter().any(|w| w == word), "{word}");
    }
    let volume = option(&words, "-v")[0];
    assert!(
        volume.ends_with("/e/data:/data:z") && volume.starts_with('/'),
        "{volume}"
    );
}

#[test]
fn files_of_a_pod_are_mounted_and_read_by_their_absolute_paths() {
    let Some(root) = device_root() else { return };
    let mut request = request(
        1,
        json!({
            "volumes": [{"name": "map", "configMap": {"name": "map"}}, {"name": "hush", "secret": {"secretName": "hush"}}],
            "containers": [{
                "name": "a", "image": "nginx",
                "env": [{"name": "S", "valueFrom": {"secretKeyRef": {"name": "hush", "key": "word"}}}, {"name": "L", "value": "literal"}],
                "volumeMounts": [
                    {"name": "map", "mountPath": "/map"}, {"name": "map", "mountPath": "/one", "subPath": "key"},
                    {"name": "map", "mountPath": "/none", "subPath": "absent"}, {"name": "hush", "mountPath": "/map/deep"},
                ],
            }],
        }),
    );
    let map = Arc::new(serde_json::from_value(json!({"data": {"key": "text"}})).unwrap());
    let secret: k8s_openapi::api::core::v1::Secret =
        serde_json::from_value(json!({"data": {"word": "aHVudGVyMg=="}})).unwrap();
    request.inputs = Arc::new(Inputs {
        config_maps: [("map".to_owned(), map)].into(),
        secrets: [("hush".to_owned(), Arc::new(secret.into()))].into(),
        ..Inputs::default()
    });
    let workload = given(&request).unwrap();
    let units = generate(&root, std::slice::from_ref(&workload.app));
    let words = start(&units, &workload.app, "a");
    let folder = format!("/var/lib/virtual-kubelet/{}", request.key.uid);
    assert_eq!(
        option(&words, "--env-file"),
        [format!("{folder}/.env/a").as_str()]
    );
    assert_eq!(option(&words, "--env"), ["L=literal"]);
    assert_eq!(
        option(&words, "-v"),
        [
            format!("{folder}/map:/map:ro,z"),
            format!("{folder}/map/key:/one:ro,z"),
            format!("{folder}/.none/map:/none:ro,z"),
            format!("{folder}/hush:/map/deep:ro,z"),
        ]
    );
    let before = service(&units, &workload.app, "a", "ExecStartPre");
    assert!(before.contains(&format!("/bin/mkdir -p {folder}/map/deep").as_str()));
    assert!(before.contains(&format!("/bin/chmod 0700 {folder}").as_str()));
}

/// Everything that confines containers and connects them.
fn confined(containers: &[&str]) -> Value {
    let container = |name: &&str| {
        json!({
            "name": name, "image": "nginx",
            "securityContext": {
                "runAsUser": 1000, "runAsGroup": 2000, "runAsNonRoot": true,
                "capabilities": {"drop": ["ALL"], "add": ["NET_ADMIN", "SYS_TIME"]},
                "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
                "seccompProfile": {"type": "Unconfined"}, "appArmorProfile": {"type": "Unconfined"},
                "seLinuxOptions": {"user": "u", "role": "r", "type": "spc_t", "level": "s0:c1,c2"},
            },
            "livenessProbe": {"exec": {"command": ["/check"]}, "periodSeconds": 3, "failureThreshold": 2},
            "lifecycle": {"stopSignal": "SIGRTMIN+3"},
            "volumeMounts": [{"name": "data", "mountPath": "/data"}, {"name": "memory", "mountPath": "/dev/shm"}],
        })
    };
    json!({
        "containers": containers.iter().map(container).collect::<Vec<_>>(),
        "hostPID": true, "hostIPC": true,
        "hostAliases": [{"ip": "fd00::1", "hostnames": ["a.b"]}],
        "dnsPolicy": "None", "dnsConfig": {"nameservers": ["9.9.9.9"], "options": [{"name": "ndots", "value": "2"}]},
        "securityContext": {
            "fsGroup": 77, "supplementalGroups": [3000],
            "sysctls": [{"name": "net.ipv4.ip_local_port_range", "value": "1024 60000"}],
        },
        "volumes": [{"name": "data", "emptyDir": {}}],
    })
}

/// What of it stands on the network's owner.
const NETWORK: [(&str, &[&str]); 4] = [
    ("--add-host", &["a.b:fd00::1"]),
    ("--dns", &["9.9.9.9"]),
    ("--dns-search", &["."]),
    ("--dns-option", &["ndots:2"]),
];

#[test]
fn what_confines_and_connects_containers_reaches_podman_as_it_is_meant() {
    let Some(root) = device_root() else { return };
    let mut alone = confined(&["a"]);
    alone["containers"][0]["volumeMounts"]
        .as_array_mut()
        .unwrap()
        .pop();
    let mut together = confined(&["a", "b"]);
    together["volumes"]
        .as_array_mut()
        .unwrap()
        .push(json!({"name": "memory", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}));
    let apps = [alone, together]
        .into_iter()
        .enumerate()
        .map(|(number, spec)| application(&request(number, spec)).unwrap())
        .collect::<Vec<_>>();
    let units = generate(&root, &apps);
    assert_eq!(units.len(), 4, "{:?}", units.keys());
    for app in &apps {
        let words = start(&units, app, "a");
        for (name, values) in [
            ("--user", &["1000:2000"][..]),
            ("--group-add", &["77", "3000"]),
            ("--cap-drop", &["all"]),
            ("--cap-add", &["net_admin", "sys_time"]),
        ] {
            assert_eq!(option(&words, name), values, "{name}");
        }
        let labels = ["label=type:spc_t", "label=level:s0:c1,c2"];
        let mut security = option(&words, "--security-opt");
        security.retain(|text| !labels.contains(text));
        assert_eq!(security, ["seccomp=unconfined"]);
        for word in [
            "--pid=host",
            "--ipc=host",
            "--read-only",
            "--read-only-tmpfs=false",
            "--security-opt=no-new-privileges",
            "--security-opt=apparmor=unconfined",
            "--security-opt=label=user:u",
            "--security-opt=label=role:r",
            "--stop-signal=SIGRTMIN+3",
        ] {
            assert!(words.iter().any(|w| w == word), "{word}: {words:?}");
        }
    }
    let alone = start(&units, &apps[0], "a");
    for (name, values) in NETWORK {
        assert_eq!(option(&alone, name), values, "{name}");
    }
    assert_eq!(
        option(&alone, "--sysctl"),
        ["net.ipv4.ip_local_port_range=1024 60000"]
    );
    let id = app_id(apps[1]["name"].as_str().unwrap());
    let pod: Vec<_> = units[&format!("{id}-p-pod.service")]
        .iter()
        .filter(|(s, k, v)| s == "Service" && k == "ExecStartPre" && v.contains("pod create"))
        .map(|(_, _, v)| v.replace("%t", "/run").replace("%N", "unit"))
        .collect();
    let pod = systemd::words(&pod[0]);
    for (name, values) in NETWORK {
        assert_eq!(option(&pod, name), values, "{name}");
    }
    assert!(
        pod.iter()
            .any(|word| word == "--sysctl=net.ipv4.ip_local_port_range=1024 60000"),
        "{pod:?}"
    );
}
