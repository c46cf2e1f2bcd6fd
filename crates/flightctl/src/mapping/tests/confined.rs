//! Who containers run as and what they may do, and what their namespace has to be
//! given for it.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use vk_provider::BackendError;

use super::{APP, check, files, line, one, pod, refused};

/// The unit of the only container.
fn unit(spec: Value) -> String {
    files(spec)["app.container"].clone()
}

/// A container with this context in a pod with that one.
fn contexts(own: Value, pods: Value) -> Value {
    let mut spec = one(json!({}));
    spec["containers"][0]["securityContext"] = own;
    spec["securityContext"] = pods;
    spec
}

#[test]
fn a_container_is_confined_as_its_security_contexts_say() {
    let text = unit(contexts(
        json!({
            "runAsUser": 1000, "runAsNonRoot": true, "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
            "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE", "kill"]},
            "seccompProfile": {"type": "RuntimeDefault"}, "seLinuxOptions": {"type": "container_t", "level": "s0:c1,c2"},
        }),
        json!({"runAsUser": 5, "runAsGroup": 2000, "supplementalGroups": [4000, 3000], "supplementalGroupsPolicy": "Strict",
            "seccompProfile": {"type": "Unconfined"}, "appArmorProfile": {"type": "Unconfined"}}),
    ));
    let expected = "User=1000:2000\nGroupAdd=3000\nGroupAdd=4000\nDropCapability=ALL\nAddCapability=KILL NET_BIND_SERVICE\n\
         NoNewPrivileges=true\nReadOnly=true\nReadOnlyTmpfs=false\nPodmanArgs=--security-opt=apparmor=unconfined\n\
         SecurityLabelType=container_t\nSecurityLabelLevel=s0:c1,c2\n";
    assert!(text.contains(expected), "{text}");
    assert!(line(&text, "SeccompProfile").is_empty());

    // The pod's, where the container says nothing.
    let mut spec = contexts(
        json!({}),
        json!({"runAsUser": 0, "seccompProfile": {"type": "Unconfined"}, "seLinuxOptions": {"user": "u", "role": "r"}}),
    );
    spec["initContainers"] =
        json!([{"name": "i", "image": "a.b/c:1", "securityContext": {"runAsUser": 7}}]);
    let files = files(spec);
    let text = &files["app.container"];
    assert_eq!(line(text, "User"), ["0"]);
    assert_eq!(line(text, "SeccompProfile"), ["unconfined"]);
    assert_eq!(
        line(text, "PodmanArgs"),
        ["--security-opt=label=user:u", "--security-opt=label=role:r"]
    );
    assert_eq!(line(&files["i.container"], "User"), ["7"]);

    // And nothing where nobody does.
    let text = unit(contexts(
        json!({"privileged": false, "allowPrivilegeEscalation": true, "readOnlyRootFilesystem": false, "runAsNonRoot": false, "procMount": "Default"}),
        json!({"supplementalGroupsPolicy": "Merge"}),
    ));
    assert_eq!(text, unit(one(json!({}))));
}

#[test]
fn what_nobody_here_can_hold_to_is_refused_by_the_context_that_asks_for_it() {
    let own = "spec.containers[0].securityContext";
    let pods = "spec.securityContext";
    for (context, field) in [
        (json!({"runAsGroup": 5}), "runAsGroup"),
        (json!({"runAsNonRoot": true}), "runAsNonRoot"),
        (
            json!({"runAsNonRoot": true, "runAsUser": 0}),
            "runAsNonRoot",
        ),
        (json!({"runAsUser": -1}), "runAsUser"),
        (
            json!({"seccompProfile": {"type": "Localhost", "localhostProfile": "p"}}),
            "seccompProfile.localhostProfile",
        ),
        (
            json!({"appArmorProfile": {"type": "RuntimeDefault"}}),
            "appArmorProfile.type",
        ),
        (
            json!({"seLinuxOptions": {"level": "s0 --privileged"}}),
            "seLinuxOptions.level",
        ),
        (
            json!({"windowsOptions": {"runAsUserName": "x"}}),
            "windowsOptions",
        ),
    ] {
        let both = [
            (own, contexts(context.clone(), json!({}))),
            (pods, contexts(json!({}), context)),
        ];
        for (path, spec) in both {
            assert_eq!(refused(spec), format!("{path}.{field}"));
        }
    }
    for (context, field) in [
        (json!({"procMount": "Unmasked"}), "procMount"),
        (
            json!({"capabilities": {"add": ["CAP_KILL"]}}),
            "capabilities.add[0]",
        ),
        (
            json!({"capabilities": {"drop": ["ALL", "x y"]}}),
            "capabilities.drop[1]",
        ),
    ] {
        let spec = contexts(context, json!({}));
        assert_eq!(refused(spec), format!("{own}.{field}"));
    }
    for (context, field) in [
        (
            json!({"supplementalGroupsPolicy": "Strict"}),
            "supplementalGroupsPolicy",
        ),
        (
            json!({"supplementalGroupsPolicy": "Merge", "runAsUser": 1, "runAsGroup": 1}),
            "supplementalGroupsPolicy",
        ),
        (json!({"supplementalGroups": [-5]}), "supplementalGroups"),
        (json!({"fsGroup": -5}), "fsGroup"),
    ] {
        let spec = contexts(json!({}), context);
        assert_eq!(refused(spec), format!("{pods}.{field}"));
    }
    // One field is one refusal, however many containers it is of.
    let mut spec = contexts(json!({}), json!({"runAsNonRoot": true}));
    spec["initContainers"] = json!([{"name": "i", "image": "a.b/c:1"}]);
    let error = check(&pod(spec)).unwrap_err().to_string();
    assert!(!error.contains("also not supported"), "{error}");
}

#[test]
fn an_fs_group_owns_the_volumes_and_is_one_of_the_containers_groups() {
    let mut spec = contexts(json!({}), json!({"fsGroup": 77, "supplementalGroups": [5]}));
    spec["containers"][0]["volumeMounts"] =
        json!([{"name": "data", "mountPath": "/data"}, {"name": "about", "mountPath": "/about"}]);
    spec["volumes"] = json!([{"name": "data", "emptyDir": {}}, {"name": "about", "downwardAPI": {"defaultMode": 0o400, "items": [
        {"path": "name", "fieldRef": {"fieldPath": "metadata.name"}}]}}]);
    let request = pod(spec.clone());
    let text = unit(spec);
    assert_eq!(line(&text, "GroupAdd"), ["5", "77"]);
    let folder = format!("%E/containers/systemd/{APP}/e");
    assert_eq!(
        line(&text, "ExecStartPre")[0],
        format!(
            "/bin/sh -c 'mkdir -p {folder} && cd {folder} && {{ [ -e .data ] || {{ mkdir -p data && chgrp 77 data && chmod 2777 data && : > .data; }}; }}'"
        )
    );
    let files = super::placed(&request, "c").unwrap().volumes.unwrap();
    let file = &files.value()["inline"][0];
    assert_eq!(
        (&file["group"], &file["mode"]),
        (&json!("77"), &json!(0o440))
    );
}

#[test]
fn ways_to_the_device_are_open_to_namespaces_that_are_listed_and_to_no_others() {
    let own = |context: Value| contexts(context, json!({}));
    let pods = |context: Value| contexts(json!({}), context);
    let with = |field: &str| {
        let mut spec = one(json!({}));
        spec[field] = json!(true);
        spec
    };
    for (spec, path, written) in [
        (with("hostPID"), "spec.hostPID", "PodmanArgs=--pid=host\n"),
        (with("hostIPC"), "spec.hostIPC", "PodmanArgs=--ipc=host\n"),
        (
            own(json!({"privileged": true, "capabilities": {"drop": ["KILL"]}})),
            "spec.containers[0].securityContext.privileged",
            "PodmanArgs=--privileged\n",
        ),
        (
            own(json!({"capabilities": {"add": ["KILL", "SYS_ADMIN"]}})),
            "spec.containers[0].securityContext.capabilities.add[1]",
            "AddCapability=KILL SYS_ADMIN\n",
        ),
        (
            own(json!({"capabilities": {"add": ["all"]}})),
            "spec.containers[0].securityContext.capabilities.add[0]",
            "AddCapability=ALL\n",
        ),
        (
            own(json!({"seccompProfile": {"type": "Unconfined"}})),
            "spec.containers[0].securityContext.seccompProfile.type",
            "SeccompProfile=unconfined\n",
        ),
        (
            pods(json!({"appArmorProfile": {"type": "Unconfined"}})),
            "spec.securityContext.appArmorProfile.type",
            "apparmor=unconfined\n",
        ),
        (
            pods(json!({"seLinuxOptions": {"type": "spc_t"}})),
            "spec.securityContext.seLinuxOptions.type",
            "SecurityLabelType=spc_t\n",
        ),
        (
            own(json!({"seLinuxOptions": {"user": "u"}})),
            "spec.containers[0].securityContext.seLinuxOptions.user",
            "label=user:u\n",
        ),
        (
            pods(json!({"sysctls": [{"name": "net.core.somaxconn", "value": "9"}]})),
            "spec.securityContext.sysctls[0].name",
            "Sysctl=\"net.core.somaxconn=9\"\n",
        ),
    ] {
        let request = pod(spec.clone());
        let listed = |namespace: &str| {
            super::super::check(&request, &BTreeSet::from([namespace.to_owned()]))
        };
        assert_eq!(refused(spec.clone()), path);
        let Err(BackendError::Unsupported { message, .. }) = listed("front") else {
            panic!("{path}: another namespace is listed")
        };
        assert!(
            message.contains("namespace shop is not among workloads.privileged"),
            "{message}"
        );
        assert_eq!(listed("shop"), Ok(()), "{path}");
        let text = unit(spec);
        assert!(text.contains(written), "{path}: {text}");
        assert!(!text.contains("DropCapability"), "{text}");
    }
}
