//! One pod with each input, and what a kubelet of 1.36 gives it.
//!
//! The tables are written by hand from the kubelet's rules: variables from
//! `makeEnvironmentVariables` (`pkg/kubelet/kubelet_pods.go`; its order is
//! random, ours is that of declaration), texts from
//! `third_party/forked/golang/expansion`, files from
//! `pkg/volume/{configmap,secret,projected,downwardapi,emptydir}`, modes and
//! owners from `SetVolumeOwnership` (`fsGroup` adds 0440 to files, 2550 to
//! directories) and `collectData` of projected volumes (a token is 0600 and
//! `runAsUser`'s).

use k8s_openapi::api::core::v1::{Event, Pod};
use kube::Api;
use kube::api::ListParams;
use vk_provider::volumes::{Medium, Mount, Volume};

use crate::harness::control_plane::ControlPlane;
use crate::suite::memory::given::Given;
use crate::suite::world::{World, uid};
use crate::{CA, SHOP, create};

/// In the namespace `shop`, to be replaced for others.
pub const OBJECTS: &str = r#"
apiVersion: v1
kind: ServiceAccount
metadata: {name: robot, namespace: shop}
imagePullSecrets: [{name: registry}]
---
apiVersion: v1
kind: Secret
metadata: {name: registry, namespace: shop}
type: kubernetes.io/dockerconfigjson
stringData:
  .dockerconfigjson: '{"auths": {"registry.example.com": {"username": "puller", "password": "pull-s3cret"}}}'
---
apiVersion: v1
kind: ConfigMap
metadata: {name: settings, namespace: shop}
data: {plain: of the map, shared: of the map, two.words: "a\nb\n"}
binaryData: {logo: AP9oaQ==}
---
apiVersion: v1
kind: Secret
metadata: {name: hush, namespace: shop}
stringData: {word: s3cret, shared: of the secret}
"#;

const POD: &str = r#"
apiVersion: v1
kind: Pod
metadata:
  name: everything
  namespace: shop
  labels: {x: of-the-label, tier: front}
  annotations: {"y": "of \"two\"\nlines"}
spec:
  nodeName: vk-shop
  serviceAccountName: robot
  securityContext: {runAsUser: 1000, fsGroup: 2000}
  initContainers:
  - name: first
    image: registry.example.com/app:1
    command: [prepare, "$(WHO)"]
    env:
    - {name: WHO, valueFrom: {fieldRef: {fieldPath: spec.serviceAccountName}}}
    volumeMounts: [{name: hush, mountPath: /hush}]
  containers:
  - name: app
    image: registry.example.com/app:1
    command: [/bin/app, "--name=$(NAME)", "$$(NAME)", "$(NOBODY)"]
    args: ["--word=$(WORD)", "$$$(DIR)", "--at=$(POD_IP)"]
    resources: {requests: {cpu: 250m, memory: 100M}, limits: {cpu: 1500m}}
    envFrom:
    - {prefix: C_, configMapRef: {name: settings}}
    - {prefix: C_, secretRef: {name: hush}}
    - {configMapRef: {name: nothing, optional: true}}
    - {prefix: N_, secretRef: {name: nothing, optional: true}}
    env:
    - {name: DIR, value: /srv}
    - {name: C_plain, value: "$(C_plain), declared"}
    - {name: JOINED, value: "$(DIR)/$(C_word)/$(KEY)"}
    - {name: ESCAPED, value: "$$(DIR) $$$(DIR) $(LATER) $(DIR $ $$"}
    - {name: LATER, value: "$(JOINED)"}
    - {name: KEY, valueFrom: {configMapKeyRef: {name: settings, key: plain}}}
    - {name: WORD, valueFrom: {secretKeyRef: {name: hush, key: word}}}
    - {name: NO_MAP, valueFrom: {configMapKeyRef: {name: nothing, key: a, optional: true}}}
    - {name: NO_KEY, valueFrom: {secretKeyRef: {name: hush, key: nothing, optional: true}}}
    - {name: NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
    - {name: NAMESPACE, valueFrom: {fieldRef: {fieldPath: metadata.namespace}}}
    - {name: POD_UID, valueFrom: {fieldRef: {fieldPath: metadata.uid}}}
    - {name: LABEL, valueFrom: {fieldRef: {fieldPath: "metadata.labels['x']"}}}
    - {name: ANNOTATION, valueFrom: {fieldRef: {fieldPath: "metadata.annotations['y']"}}}
    - {name: NODE, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}
    - {name: ACCOUNT, valueFrom: {fieldRef: {fieldPath: spec.serviceAccountName}}}
    - {name: POD_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
    - {name: HOST_IP, valueFrom: {fieldRef: {fieldPath: status.hostIP}}}
    - {name: CPUS, valueFrom: {resourceFieldRef: {resource: limits.cpu}}}
    - {name: MILLI, valueFrom: {resourceFieldRef: {resource: limits.cpu, divisor: 1m}}}
    - {name: MEBI, valueFrom: {resourceFieldRef: {resource: requests.memory, divisor: 1Mi}}}
    - {name: ROOM, valueFrom: {resourceFieldRef: {resource: limits.memory, divisor: 1Gi}}}
    - {name: API, value: "https://$(KUBERNETES_SERVICE_HOST):$(KUBERNETES_SERVICE_PORT)"}
    volumeMounts:
    - {name: conf, mountPath: /conf}
    - {name: conf, mountPath: /part, subPath: deep}
    - {name: all, mountPath: /all}
    - {name: all, mountPath: /one, subPath: plain}
    - {name: hush, mountPath: /hush}
    - {name: about, mountPath: /about}
    - {name: mix, mountPath: /mix}
    - {name: gone, mountPath: /gone}
    - {name: data, mountPath: /data}
    - {name: data, mountPath: /mine, subPathExpr: "$(NAMESPACE)/$(NAME)", readOnly: true}
    - {name: cache, mountPath: /cache}
  volumes:
  - name: conf
    configMap:
      name: settings
      defaultMode: 0440
      items: [{key: plain, path: deep/plain, mode: 0500}, {key: logo, path: logo.bin}]
  - {name: all, configMap: {name: settings}}
  - {name: hush, secret: {secretName: hush, defaultMode: 0400}}
  - name: about
    downwardAPI:
      items:
      - {path: labels, fieldRef: {fieldPath: metadata.labels}}
      - {path: annotations, fieldRef: {fieldPath: metadata.annotations}}
      - {path: name, mode: 0600, fieldRef: {fieldPath: metadata.name}}
      - {path: cpu, resourceFieldRef: {containerName: app, resource: limits.cpu, divisor: 1m}}
  - name: mix
    projected:
      defaultMode: 0400
      sources:
      - {configMap: {name: settings, items: [{key: plain, path: map/plain}]}}
      - {secret: {name: hush, items: [{key: word, path: word, mode: 0404}]}}
      - {downwardAPI: {items: [{path: uid, fieldRef: {fieldPath: metadata.uid}}]}}
      - {serviceAccountToken: {audience: vault, expirationSeconds: 600, path: tokens/vault}}
  - {name: gone, configMap: {name: nothing, optional: true}}
  - {name: data, emptyDir: {}}
  - {name: cache, emptyDir: {medium: Memory, sizeLimit: 16Mi}}
"#;

/// Where the API server's own volume is.
pub const ACCESS: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

fn variables(uid: &str) -> Vec<(&'static str, &str)> {
    vec![
        ("C_plain", "of the map, declared"),
        ("C_shared", "of the secret"),
        ("C_two.words", "a\nb\n"),
        ("C_word", "s3cret"),
        ("DIR", "/srv"),
        ("JOINED", "/srv/s3cret/$(KEY)"),
        ("ESCAPED", "$(DIR) $/srv $(LATER) $(DIR $ $"),
        ("LATER", "/srv/s3cret/$(KEY)"),
        ("KEY", "of the map"),
        ("WORD", "s3cret"),
        ("NAME", "everything"),
        ("NAMESPACE", "shop"),
        ("POD_UID", uid),
        ("LABEL", "of-the-label"),
        ("ANNOTATION", "of \"two\"\nlines"),
        ("NODE", "vk-shop"),
        ("ACCOUNT", "robot"),
        ("POD_IP", "10.0.0.1"),
        ("HOST_IP", "192.0.2.1"),
        ("CPUS", "2"),
        ("MILLI", "1500"),
        ("MEBI", "96"),
        // It has no limit: the node's 16 GiB.
        ("ROOM", "16"),
        ("API", "https://api.example.com:6443"),
        ("KUBERNETES_PORT", "tcp://api.example.com:6443"),
        ("KUBERNETES_PORT_6443_TCP", "tcp://api.example.com:6443"),
        ("KUBERNETES_PORT_6443_TCP_ADDR", "api.example.com"),
        ("KUBERNETES_PORT_6443_TCP_PORT", "6443"),
        ("KUBERNETES_PORT_6443_TCP_PROTO", "tcp"),
        ("KUBERNETES_SERVICE_HOST", "api.example.com"),
        ("KUBERNETES_SERVICE_PORT", "6443"),
        ("KUBERNETES_SERVICE_PORT_HTTPS", "6443"),
    ]
}

const COMMAND: [&str; 4] = ["/bin/app", "--name=everything", "$(NAME)", "$(NOBODY)"];
const ARGS: [&str; 3] = ["--word=s3cret", "$/srv", "--at=10.0.0.1"];

/// Mode, owner, path and bytes; those of tokens are looked at elsewhere.
fn files(uid: &str) -> Vec<(&'static str, &[u8])> {
    vec![
        (
            "0644 0:2000 /about/annotations",
            br#"y="of \"two\"\nlines""#,
        ),
        ("0644 0:2000 /about/cpu", b"1500"),
        (
            "0644 0:2000 /about/labels",
            b"tier=\"front\"\nx=\"of-the-label\"",
        ),
        ("0640 0:2000 /about/name", b"everything"),
        ("0644 0:2000 /all/logo", b"\x00\xffhi"),
        ("0644 0:2000 /all/plain", b"of the map"),
        ("0644 0:2000 /all/shared", b"of the map"),
        ("0644 0:2000 /all/two.words", b"a\nb\n"),
        ("0540 0:2000 /conf/deep/plain", b"of the map"),
        ("0440 0:2000 /conf/logo.bin", b"\x00\xffhi"),
        ("0440 0:2000 /hush/shared", b"of the secret"),
        ("0440 0:2000 /hush/word", b"s3cret"),
        ("0440 0:2000 /mix/map/plain", b"of the map"),
        ("0640 1000:2000 /mix/tokens/vault", b"(token)"),
        ("0440 0:2000 /mix/uid", uid.as_bytes()),
        ("0444 0:2000 /mix/word", b"s3cret"),
        ("0644 0:2000 /one", b"of the map"),
        ("0540 0:2000 /part/plain", b"of the map"),
        (
            "0644 0:2000 /var/run/secrets/kubernetes.io/serviceaccount/ca.crt",
            CA.as_bytes(),
        ),
        (
            "0644 0:2000 /var/run/secrets/kubernetes.io/serviceaccount/namespace",
            b"shop",
        ),
        (
            "0640 1000:2000 /var/run/secrets/kubernetes.io/serviceaccount/token",
            b"(token)",
        ),
    ]
}

/// Volume, part of it, place, and whether the container may write.
const MOUNTS: [&str; 12] = [
    "conf /conf ro",
    "conf:deep /part ro",
    "all /all ro",
    "all:plain /one ro",
    "hush /hush ro",
    "about /about ro",
    "mix /mix ro",
    "gone /gone ro",
    "data /data rw",
    "data:shop/everything /mine ro",
    "cache /cache rw",
    "kube-api-access /var/run/secrets/kubernetes.io/serviceaccount ro",
];

/// Medium, mode and group of each volume's own directory, and its limit.
const VOLUMES: [&str; 9] = [
    "about Memory 3777 2000",
    "all Disk 2777 2000",
    "cache Memory 3777 2000 16777216",
    "conf Disk 2777 2000",
    "data Disk 2777 2000",
    "gone Disk 2777 2000",
    "hush Memory 3777 2000",
    "kube-api-access Memory 3777 2000",
    "mix Memory 3777 2000",
];

/// Creates the pod and compares; answers with it, running.
pub async fn is_given(plane: &ControlPlane, world: &World) -> Pod {
    create(plane, POD);
    let pod = world.running("everything").await;
    let uid = uid(&pod);
    let given = world.remote.given(&uid).unwrap();
    let app = &given.rendered.containers[0];
    let shown = app.environment.variables().iter();
    let shown: Vec<_> = shown.map(|v| (v.name.as_str(), v.value.as_str())).collect();
    assert_eq!(shown, variables(&uid));
    assert_eq!(*app.command.command, COMMAND);
    assert_eq!(*app.command.args, ARGS);
    let mounts: Vec<_> = app.mounts.iter().map(mount).collect();
    assert_eq!(mounts, MOUNTS);
    let volumes: Vec<_> = given.rendered.payload.volumes.iter().map(volume).collect();
    assert_eq!(volumes, VOLUMES);
    let expected = files(&uid).into_iter().map(|(line, bytes)| {
        let bytes = bytes.escape_ascii();
        format!("{line} {bytes}")
    });
    assert_eq!(seen(&given), expected.collect::<Vec<_>>());

    let first = &given.rendered.init[0];
    assert_eq!(*first.command.command, ["prepare", "robot"]);
    assert_eq!(first.environment.get("WHO"), Some("robot"));
    let mounts: Vec<_> = first.mounts.iter().map(mount).collect();
    assert_eq!(mounts, [MOUNTS[4], MOUNTS[11]]);

    // The admission plugin copied the ServiceAccount's list.
    let pull = given.pull.candidates("registry.example.com/app:1").unwrap();
    let pull: Vec<_> = pull.iter().map(|c| (c.username(), c.password())).collect();
    assert_eq!(pull, [("puller", "pull-s3cret")]);
    assert!(
        given
            .pull
            .candidates("other.example.com/app:1")
            .unwrap()
            .is_empty()
    );
    assert_eq!(given.starts, 1);
    let events: Api<Event> = Api::namespaced(world.client.clone(), SHOP);
    let events = events.list(&ListParams::default()).await.unwrap();
    let warnings: Vec<_> = events
        .iter()
        .filter(|e| e.type_.as_deref() != Some("Normal"))
        .collect();
    assert!(warnings.is_empty(), "{warnings:#?}");
    pod
}

/// Its name, without what the API server adds at random.
fn plain(name: &str) -> &str {
    match name.starts_with("kube-api-access-") {
        true => "kube-api-access",
        false => name,
    }
}

fn mount(mount: &Mount) -> String {
    let part = mount.sub_path.as_deref();
    let part = part.map(|part| format!(":{part}")).unwrap_or_default();
    let access = if mount.read_only { "ro" } else { "rw" };
    format!(
        "{}{part} {} {access}",
        plain(&mount.volume),
        mount.mount_path
    )
}

fn volume((name, volume): (&String, &Volume)) -> String {
    let (medium, root, limit): (Medium, _, _) = match volume {
        Volume::Files(files) => (files.medium, files.root, None),
        Volume::Empty(empty) => (empty.medium, empty.root, empty.size_limit),
        Volume::Declared(kind) => panic!("{kind}"),
    };
    let limit = limit
        .map(|l| format!(" {}", l.ceil_units()))
        .unwrap_or_default();
    format!(
        "{} {medium:?} {:o} {}{limit}",
        plain(name),
        root.mode,
        root.gid
    )
}

/// What the container `app` sees, in order of paths.
fn seen(given: &Given) -> Vec<String> {
    let mut seen = Vec::new();
    for mount in &given.rendered.containers[0].mounts {
        let Volume::Files(volume) = &given.rendered.payload.volumes[&mount.volume] else {
            continue;
        };
        for (path, file) in &volume.files {
            let path = match &mount.sub_path {
                None => format!("/{path}"),
                Some(part) => match path.strip_prefix(part.as_str()) {
                    Some(rest) if rest.is_empty() || rest.starts_with('/') => rest.to_owned(),
                    _ => continue,
                },
            };
            let path = format!("{}{path}", mount.mount_path);
            let is_token = path.contains("/token");
            let bytes = if is_token {
                b"(token)"
            } else {
                file.content.bytes()
            };
            let (mode, uid, gid) = (file.mode, file.uid, file.gid);
            let line = format!("{mode:04o} {uid}:{gid} {path} {}", bytes.escape_ascii());
            seen.push((path, line));
        }
    }
    seen.sort();
    seen.into_iter().map(|(_, line)| line).collect()
}
