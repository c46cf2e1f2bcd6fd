//! What the containers of a pod have in common: a network, processes, memory.

use serde_json::{Value, json};
use vk_provider::quantity::{Amount, Resources};

use super::{APP, app_id, files, line, mark, one, pod, refused, two};

#[test]
fn names_resolver_and_settings_are_of_the_podman_pod_or_of_each_container_without_one() {
    let given = json!({
        "hostAliases": [{"ip": "1.2.3.4", "hostnames": ["a.b", "c"]}, {"ip": "fd00::1", "hostnames": ["c"]}],
        "dnsPolicy": "None",
        "dnsConfig": {"nameservers": ["9.9.9.9", "fd00::2"], "searches": ["x.y"], "options": [{"name": "ndots", "value": "2"}, {"name": "use-vc"}]},
        "securityContext": {"sysctls": [{"name": "net.ipv4.ip_local_port_range", "value": "1024 60000"}]},
    });
    let add = |mut spec: Value| {
        for (field, value) in given.as_object().unwrap() {
            spec[field] = value.clone();
        }
        spec
    };
    let network = "AddHost=a.b:1.2.3.4\nAddHost=c:1.2.3.4\nAddHost=c:fd00::1\nDNS=9.9.9.9\nDNS=fd00::2\nDNSSearch=x.y\nDNSOption=ndots:2\nDNSOption=use-vc\n";
    let alone = &files(add(one(json!({}))))["app.container"];
    assert!(
        alone.contains(&format!(
            "{network}Sysctl=\"net.ipv4.ip_local_port_range=1024 60000\"\n"
        )),
        "{alone}"
    );
    // An init container of a pod that ends has no other network.
    let mut spec = add(two("Never"));
    spec["initContainers"] = json!([{"name": "i", "image": "a.b/c:1"}]);
    let files_ = files(spec);
    assert!(files_["i.container"].contains(network));
    let pod_ = &files_["p.pod"];
    assert!(
        pod_.contains(&format!(
            "{network}PodmanArgs=\"--sysctl=net.ipv4.ip_local_port_range=1024 60000\"\n"
        )),
        "{pod_}"
    );
    // On a container of a Podman pod they keep it from being created.
    for key in ["AddHost", "DNS", "Sysctl"] {
        assert!(line(&files_["a.container"], key).is_empty());
    }
    let mut bare = one(json!({}));
    bare["dnsPolicy"] = json!("None");
    bare["dnsConfig"] = json!({"nameservers": ["9.9.9.9"]});
    let text = &files(bare)["app.container"];
    // Or Podman takes the device's own.
    assert!(
        text.contains("DNS=9.9.9.9\nDNSSearch=.\nDNSOption=ndots:1\n"),
        "{text}"
    );
}

#[test]
fn what_no_network_of_a_pod_can_have_is_refused_by_its_path() {
    let sysctl = |name: &str| json!({"sysctls": [{"name": name, "value": "1"}]});
    let with = |field: &str, value: Value| vec![(field.to_owned(), value)];
    for (fields, path) in [
        (
            with(
                "hostAliases",
                json!([{"ip": "1.2.3.4.5", "hostnames": ["a"]}]),
            ),
            "spec.hostAliases[0].ip",
        ),
        (
            with(
                "hostAliases",
                json!([{"ip": "::1", "hostnames": ["a", "b;c"]}]),
            ),
            "spec.hostAliases[0].hostnames[1]",
        ),
        (
            with("dnsPolicy", json!("None")),
            "spec.dnsConfig.nameservers",
        ),
        (
            with("dnsConfig", json!({"nameservers": ["1.1.1.1"]})),
            "spec.dnsConfig.nameservers",
        ),
        (
            with("dnsConfig", json!({"searches": ["x"]})),
            "spec.dnsConfig.searches",
        ),
        (
            with("dnsConfig", json!({"options": [{"name": "a b"}]})),
            "spec.dnsConfig.options[0]",
        ),
        (
            vec![
                ("dnsPolicy".into(), json!("None")),
                ("dnsConfig".into(), json!({"nameservers": ["x"]})),
            ],
            "spec.dnsConfig.nameservers[0]",
        ),
        (
            with("securityContext", sysctl("vm.swappiness")),
            "spec.securityContext.sysctls[0].name",
        ),
        (
            with("securityContext", sysctl("net/ipv4/tcp_syncookies")),
            "spec.securityContext.sysctls[0].name",
        ),
        (
            vec![
                ("hostNetwork".into(), json!(true)),
                ("securityContext".into(), sysctl("net.ipv4.tcp_syncookies")),
            ],
            "spec.securityContext.sysctls[0].name",
        ),
        (
            with(
                "securityContext",
                json!({"sysctls": [{"name": "net.ipv4.tcp_syncookies", "value": "1\0"}]}),
            ),
            "spec.securityContext.sysctls[0].value",
        ),
        (
            vec![
                ("hostNetwork".into(), json!(true)),
                ("shareProcessNamespace".into(), json!(true)),
            ],
            "spec.shareProcessNamespace",
        ),
    ] {
        let mut spec = one(json!({}));
        for (field, value) in fields {
            spec[field] = value;
        }
        assert_eq!(refused(spec), path);
    }
    // The resolver's options can be the pod's, whatever the rest of it is.
    let mut spec = one(json!({}));
    spec["dnsConfig"] = json!({"options": [{"name": "ndots", "value": "2"}]});
    assert_eq!(
        line(&files(spec)["app.container"], "DNSOption"),
        ["ndots:2"]
    );
}

#[test]
fn containers_share_their_processes_through_a_podman_pod() {
    let mut spec = one(json!({}));
    spec["shareProcessNamespace"] = json!(true);
    let always = files(spec.clone());
    assert_eq!(
        line(&always["p.pod"], "PodmanArgs"),
        ["--exit-policy=continue --hostname=web --share=+pid"]
    );
    assert_eq!(line(&always["app.container"], "Pod"), ["p.pod"]);
    // It does not stay when its only container has succeeded.
    spec["restartPolicy"] = json!("OnFailure");
    let text = &files(spec.clone())["app.container"];
    let mark = mark(&spec, "app", "done");
    let end = format!(
        "then : > {mark}; systemctl stop --no-block {}-p-pod.service; fi'",
        app_id(APP)
    );
    assert!(line(text, "ExecStopPost")[0].ends_with(&end), "{text}");
}

fn in_memory(policy: &str) -> Value {
    let mut spec = one(json!({"volumeMounts": [{"name": "m", "mountPath": "/dev/shm"}]}));
    spec["restartPolicy"] = json!(policy);
    spec["volumes"] = json!([{"name": "m", "emptyDir": {"medium": "Memory", "sizeLimit": "64Mi"}}]);
    spec
}

#[test]
fn a_volume_in_memory_is_held_by_the_podman_pod() {
    let mut spec = in_memory("Always");
    let place = format!("/run/virtual-kubelet/{}/m", super::UID);
    let mount = |mode: &str| {
        format!(
            "/bin/sh -c 'mkdir -p {place} && chmod 0700 /run/virtual-kubelet/{} && {{ mountpoint -q {place} || mount -t tmpfs -o {mode},size=67108864 tmpfs {place}; }}'",
            super::UID
        )
    };
    let files_ = files(spec.clone());
    let text = &files_["p.pod"];
    assert_eq!(line(text, "ExecStartPre"), [mount("mode=1777")]);
    assert_eq!(
        line(text, "ExecStopPost"),
        [format!(
            "-/bin/sh -c 'umount -l {place}; rmdir -p --ignore-fail-on-non-empty {place}'"
        )]
    );
    let text = &files_["app.container"];
    assert_eq!(line(text, "Volume"), [format!("{place}:/dev/shm:z")]);
    assert!(line(text, "ExecStartPre").is_empty());

    spec["securityContext"] = json!({"fsGroup": 77});
    let text = &files(spec.clone())["p.pod"];
    assert_eq!(line(text, "ExecStartPre"), [mount("mode=3777,gid=77")]);

    // Without a limit of its own, what the device has bounds it.
    spec["volumes"][0]["emptyDir"]["sizeLimit"] = Value::Null;
    let place = vk_provider::environment::Placement {
        allocatable: Resources::new().with("memory", Amount::units(1 << 30)),
        ..Default::default()
    };
    let workload = super::workload(&pod(spec), &place, "c").unwrap();
    assert!(workload.app.to_string().contains("size=1073741824"));
}

#[test]
fn a_volume_in_memory_that_nothing_would_hold_is_refused() {
    let path = "spec.volumes[0].emptyDir.medium";
    let mut spec = in_memory("Always");
    spec["hostNetwork"] = json!(true);
    assert_eq!(refused(spec), path);
    for policy in ["Never", "OnFailure"] {
        let mut spec = in_memory(policy);
        let init = json!([{"name": "i", "image": "a.b/c:1"}]);
        spec["initContainers"] = init;
        // Of the others alone it can be.
        assert!(files(spec.clone()).contains_key("p.pod"));
        spec["initContainers"][0]["volumeMounts"] = json!([{"name": "m", "mountPath": "/m"}]);
        assert_eq!(refused(spec), path);
    }
    let mut folder = in_memory("Always");
    folder["volumes"][0]["emptyDir"]["medium"] = json!("");
    assert_eq!(refused(folder), "spec.volumes[0].emptyDir.sizeLimit");
}
