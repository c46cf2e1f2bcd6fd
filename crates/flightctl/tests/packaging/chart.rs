//! The chart and the manifests: the same rights and the same pod, accepted by a real
//! API server where Kubernetes' Pod Security Standard "restricted" is enforced.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness;
use crate::harness::control_plane::ControlPlane;
use crate::{file, repository, run};

/// For controllers and the scheduler on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
const CHART: &str = "charts/vk-flightctl-provider";
const NAME: &str = "vk-flightctl-provider";

/// `None`, and says so, where there is no Helm.
fn helm() -> Option<PathBuf> {
    let folder = std::env::var_os("VK_HELM");
    if folder.is_none() {
        println!("SKIPPED: the chart (run make test-real, which sets VK_HELM; needs Go)");
    }
    folder.map(|folder| PathBuf::from(folder).join("helm"))
}

fn objects(manifest: &str) -> Vec<Value> {
    let parts = manifest
        .split("\n---\n")
        .map(serde_saphyr::from_str::<Value>);
    parts.map(Result::unwrap).filter(Value::is_object).collect()
}

fn of<'a>(objects: &'a [Value], kind: &str) -> Vec<&'a Value> {
    objects.iter().filter(|o| o["kind"] == kind).collect()
}

fn rendered(helm: &PathBuf, values: &[&str]) -> Vec<Value> {
    let mut command = Command::new(helm);
    command
        .args(["template", NAME, "--namespace", "default"])
        .arg(repository().join(CHART))
        .args(values);
    objects(&run(&mut command))
}

/// Of each role and binding: kind, namespace, whom it names, and what it allows.
fn rights(objects: &[Value]) -> Vec<Value> {
    let roles = objects
        .iter()
        .filter(|o| o["apiVersion"] == "rbac.authorization.k8s.io/v1");
    let mut all: Vec<Value> = roles
        .map(|o| {
            json!([
                o["kind"],
                o["metadata"]["name"],
                o["metadata"]["namespace"],
                o["rules"],
                o["roleRef"],
                o["subjects"]
            ])
        })
        .collect();
    all.sort_by_key(Value::to_string);
    all
}

#[test]
fn the_chart_is_the_manifests_with_values() {
    let Some(helm) = helm() else {
        return;
    };
    run(Command::new(&helm)
        .arg("lint")
        .arg("--strict")
        .arg(repository().join(CHART)));
    let chart = rendered(&helm, &["--set", "image.tag=latest"]);
    let base = [file("config/rbac.yaml"), file("config/deployment.yaml")].join("\n---\n");
    let base = objects(&base);
    assert_eq!(rights(&chart), rights(&base));
    let ours = |objects: &[Value]| {
        let deployment = of(objects, "Deployment")[0].clone();
        let mut pod = deployment["spec"]["template"]["spec"].clone();
        // Of names and labels, which differ.
        pod["topologySpreadConstraints"][0]["labelSelector"].take();
        pod["volumes"][0]["configMap"]["name"].take();
        let strategy = deployment["spec"]["strategy"].clone();
        (pod, strategy, deployment["spec"]["replicas"].clone())
    };
    assert_eq!(ours(&chart), ours(&base));
    let config = |objects: &[Value]| {
        let text = of(objects, "ConfigMap")[0]["data"]["config.yaml"].clone();
        serde_saphyr::from_str::<Value>(text.as_str().unwrap()).unwrap()
    };
    assert_eq!(config(&chart), config(&base));
    let budget =
        |objects: &[Value]| of(objects, "PodDisruptionBudget")[0]["spec"]["minAvailable"].clone();
    assert_eq!(budget(&chart), budget(&base));

    let apart = objects(
        &[
            file("config/inputs/role.yaml"),
            file("config/inputs/default.yaml"),
        ]
        .join("\n---\n"),
    );
    let with = rendered(&helm, &["--set", "inputs.namespaces={default}"]);
    let inputs: Vec<Value> = rights(&with);
    for right in rights(&apart) {
        assert!(inputs.contains(&right), "{right}");
    }
    for (values, kinds) in [
        ("rbac.create=false", ("ClusterRole", 0)),
        ("serviceAccount.create=false", ("ServiceAccount", 0)),
        ("replicas=1", ("PodDisruptionBudget", 0)),
        ("serviceMonitor.enabled=true", ("ServiceMonitor", 1)),
    ] {
        let found = rendered(&helm, &["--set", values]);
        assert_eq!(of(&found, kinds.0).len(), kinds.1, "{values}");
    }
    let image = |values: &str| {
        let found = rendered(&helm, &["--set", values]);
        let pod = &of(&found, "Deployment")[0]["spec"]["template"]["spec"];
        pod["containers"][0]["image"].as_str().unwrap().to_owned()
    };
    let digest = format!("sha256:{}", "a".repeat(64));
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(
        image("image.registry=r.example"),
        format!("r.example/{NAME}:{version}")
    );
    assert_eq!(
        image(&format!("image.digest={digest}")),
        format!("{NAME}@{digest}")
    );
    for wrong in [
        "replica=3",
        "replicas=many",
        "image.digest=latest",
        "settings.listen=x",
    ] {
        let mut command = Command::new(&helm);
        let chart = repository().join(CHART);
        let output = command
            .args(["template", NAME, "--set", wrong])
            .arg(chart)
            .output();
        let output = output.unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            !output.status.success() && said.contains("schema"),
            "{wrong}: {said}"
        );
    }
}

#[test]
fn chart_and_manifests_run_where_pods_are_restricted() {
    let (Some(helm), Some(tools)) = (helm(), harness::tools()) else {
        return;
    };
    let plane = ControlPlane::start(&tools);
    for namespace in ["edge", "shop"] {
        plane.ok(&["create", "namespace", namespace]);
    }
    for namespace in ["edge", "default"] {
        let restricted = "pod-security.kubernetes.io/enforce=restricted";
        plane.ok(&["label", "namespace", namespace, restricted]);
    }
    let refused = plane.kubectl(&[
        "run",
        "x",
        "-n",
        "edge",
        "--image=x.example/x",
        "--dry-run=server",
    ]);
    assert!(
        !refused.success && refused.text.contains("PodSecurity"),
        "{}",
        refused.text
    );
    // A machine, and a node of ours, with more room.
    for (name, kind, cpu) in [
        ("machine", "ordinary", "8"),
        ("virtual", "virtual-kubelet", "100"),
    ] {
        let node = json!({
            "apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": {"type": kind}},
        });
        assert!(plane.apply(&node.to_string()).success);
        let status = json!({"status": {
            "capacity": {"cpu": cpu, "memory": "64Gi", "pods": "110"},
            "allocatable": {"cpu": cpu, "memory": "64Gi", "pods": "110"},
            "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady"}],
        }});
        plane.ok(&[
            "patch",
            "node",
            name,
            "--subresource=status",
            "-p",
            &status.to_string(),
        ]);
    }

    let chart = repository().join(CHART);
    let helm = |args: &[&str]| {
        let mut command = Command::new(&helm);
        command
            .args(args)
            .args(["--namespace", "edge", "--kubeconfig"])
            .arg(plane.kubeconfig())
            .env("HELM_CACHE_HOME", plane.folder().join("helm"));
        run(&mut command)
    };
    let chart = chart.display().to_string();
    let said = helm(&["install", NAME, &chart, "--set", "inputs.namespaces={shop}"]);
    assert!(!said.contains("violate"), "{said}");
    on_the_machine(&plane, "edge", 2);
    let account = format!("--as=system:serviceaccount:edge:{NAME}");
    let may = |args: &[&str]| {
        let all = [&["auth", "can-i", account.as_str()], args].concat();
        plane.kubectl(&all).success
    };
    assert!(may(&["patch", "nodes", "--subresource=status"]));
    assert!(may(&[
        "update",
        "leases.coordination.k8s.io",
        "-n",
        "kube-node-lease"
    ]));
    assert!(!may(&[
        "update",
        "leases.coordination.k8s.io",
        "-n",
        "edge"
    ]));
    assert!(may(&["get", "secrets", "-n", "shop"]));
    assert!(!may(&["get", "secrets", "-n", "edge"]));
    assert!(!may(&["create", "pods", "-n", "edge"]));
    assert!(!may(&["*", "*", "--all-namespaces"]));
    let before = templates(&plane);
    helm(&[
        "upgrade",
        NAME,
        &chart,
        "--reuse-values",
        "--set",
        "logLevel=debug",
    ]);
    assert_ne!(
        templates(&plane),
        before,
        "another configuration, another pod"
    );
    helm(&["uninstall", NAME]);

    let base = repository().join("config").display().to_string();
    let said = plane.ok(&["apply", "-k", &base]);
    assert!(!said.contains("violate"), "{said}");
    on_the_machine(&plane, "default", 2);
    let budget = [
        "get",
        "poddisruptionbudget",
        NAME,
        "-o",
        "jsonpath={.spec.minAvailable}",
    ];
    assert_eq!(plane.ok(&budget), "1");
}

fn templates(plane: &ControlPlane) -> String {
    plane.ok(&[
        "get",
        "deployment",
        NAME,
        "-n",
        "edge",
        "-o",
        "jsonpath={.spec.template}",
    ])
}

/// So many pods of a namespace are accepted and get a place there, on the machine alone.
fn on_the_machine(plane: &ControlPlane, namespace: &str, number: usize) {
    let begun = Instant::now();
    let places = ["get", "pods", "-n", namespace, "-o"];
    let path = "jsonpath={range .items[*]}{.spec.nodeName}{\"\\n\"}{end}";
    loop {
        let bound = plane.ok(&[&places[..], &[path]].concat());
        let bound: Vec<&str> = bound.split_whitespace().collect();
        assert!(
            !bound.contains(&"virtual"),
            "on a node that it would run itself"
        );
        if bound.len() == number {
            return;
        }
        if begun.elapsed() > PATIENCE {
            let all = plane.kubectl(&["get", "pods,replicasets,nodes,events", "-A", "-o", "wide"]);
            panic!(
                "{number} pods in {namespace}, on the machine:\n{}",
                all.text
            );
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}
