//! What containers may do, what they share, and how they are ended.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{Edge, IMAGE};
use vk_flightctl::mapping::app_id;

/// One container, as confined as can be.
const STRICT: &str = "strict";
/// Two containers with their processes and a volume in memory in common.
const JOINT: &str = "joint";
/// One that is given its device.
const HOSTED: &str = "hosted";
/// One that is ended as soon as a file is gone.
const ALIVE: &str = "alive";
/// One that succeeds, with a Podman pod around it.
const ONCE: &str = "once";

impl Edge {
    pub fn containers_are_confined_connected_and_ended_as_they_ask(&mut self) {
        for pod in [strict(), joint(), hosted(), alive(), once()] {
            self.world.apply(&pod.to_string());
        }
        for pod in [STRICT, JOINT, HOSTED, ALIVE] {
            self.is_ready(pod);
        }
        self.strict_is_confined();
        self.joint_shares();
        self.hosted_has_the_device();
        self.until("what succeeds has ended, and its Podman pod with it", |e| {
            let phase = e.world.jsonpath("default", ONCE, "{.status.phase}");
            let pods = e
                .machine
                .ok(&["podman", "pod", "ls", "--format", "{{.Name}}"]);
            phase == "Succeeded" && !pods.contains(&app_id(&e.app(ONCE)))
        });
        self.what_is_not_alive_is_ended_and_starts_again();
        self.reboot();
        self.until(
            "the device has booted, and what it holds in memory is new",
            |e| e.said(JOINT, "a", "cat /dev/shm/runs") == "run",
        );
        assert_eq!(self.journal("ran to its end"), 0, "it does not run again");
        self.world
            .plane
            .ok(&["delete", "pod", STRICT, "--timeout=60s"]);
        assert_eq!(
            self.order(&["hooked as 1000", "goodbye"]),
            [1, 1],
            "its hook ran, and then it was told to end"
        );
        for pod in [JOINT, HOSTED, ALIVE, ONCE] {
            self.world
                .plane
                .ok(&["delete", "pod", pod, "--timeout=60s"]);
        }
        self.until("nothing in memory is left", |e| {
            let look =
                "ls -A /run/virtual-kubelet 2>/dev/null; grep /run/virtual-kubelet /proc/mounts || :";
            e.machine.ok(&["sh", "-c", look]).is_empty()
        });
    }

    pub fn is_ready(&mut self, pod: &str) {
        self.until(&format!("{pod} is Ready"), |e| {
            let ready = "{.status.conditions[?(@.type=='Ready')].status}";
            e.world.jsonpath("default", pod, ready) == "True"
        });
    }

    /// What a shell in a container prints; nothing where it does not run.
    fn said(&self, pod: &str, container: &str, command: &str) -> String {
        let said = self.exec(&self.app(pod), container, &["sh", "-c", command]);
        String::from_utf8(said.stdout).unwrap().trim().to_owned()
    }

    /// How often a line is in the journal of this boot.
    pub fn journal(&self, line: &str) -> usize {
        let count = format!("journalctl -b -o cat --no-pager | grep -cx '{line}' || :");
        self.machine.ok(&["sh", "-c", &count]).parse().unwrap()
    }

    /// The same of lines that come one after the other; each must be after the one
    /// before it.
    pub fn order(&self, lines: &[&str]) -> Vec<usize> {
        let all = self
            .machine
            .ok(&["journalctl", "-b", "-o", "cat", "--no-pager"]);
        let at = |line: &&str| all.lines().position(|seen| seen == *line);
        let at: Vec<_> = lines.iter().map(at).collect();
        assert!(at.is_sorted() && at[0].is_some(), "{at:?}");
        lines.iter().map(|line| self.journal(line)).collect()
    }

    fn strict_is_confined(&self) {
        let said = |command: &str| self.said(STRICT, "app", command);
        assert_eq!(said("id -u; id -g"), "1000\n2000");
        let groups = said("id -G");
        let groups: BTreeSet<_> = groups.split(' ').collect();
        assert_eq!(groups, ["77", "2000", "3000"].into());
        let status = said("grep -E 'CapEff|NoNewPrivs' /proc/1/status");
        assert_eq!(status, "CapEff:\t0000000000000400\nNoNewPrivs:\t1");
        let root = said("grep ' / ' /proc/mounts");
        assert!(root.contains(" ro,"), "{root}");
        assert!(said("touch /x 2>&1").contains("Read-only file system"));
        assert_eq!(said("grep ' /run ' /proc/mounts"), "");
        // Volumes are its group's, and what it makes in them.
        assert_eq!(said("stat -c '%g %a' /data"), "77 2777");
        let made = said("touch /data/made; ls -A /data; stat -c '%u %g' /data/made");
        assert_eq!(made, "made\n1000 77");
        assert_eq!(
            said("stat -c '%g %a' /about/name; cat /about/name"),
            "77 440\nstrict"
        );
        let hosts = said("grep -c '^fd00::1[[:blank:]]a.example$' /etc/hosts");
        assert_eq!(hosts, "1");
        assert_eq!(
            said("cat /etc/resolv.conf"),
            "nameserver 192.0.2.53\noptions ndots:1"
        );
        let range = said("cat /proc/sys/net/ipv4/ip_local_port_range");
        assert_eq!(
            range.split_whitespace().collect::<Vec<_>>(),
            ["1024", "60000"]
        );
    }

    fn joint_shares(&mut self) {
        let said = |e: &Self, command: &str| e.said(JOINT, "a", command);
        assert_eq!(said(self, "hostname"), JOINT);
        let hosts = said(self, "grep -c '^192.0.2.1[[:blank:]]b.example$' /etc/hosts");
        assert_eq!(hosts, "1");
        assert_eq!(said(self, "cat /proc/1/comm"), "catatonit");
        assert_eq!(said(self, "df -k /dev/shm | tail -1 | cut -c1-5"), "tmpfs");
        assert_eq!(
            said(self, "df -k /dev/shm | tail -1 | tr -s ' ' | cut -d' ' -f2"),
            "1024"
        );
        assert!(
            said(self, "ps -o args").contains("sleep 86401"),
            "they see each other"
        );
        assert_eq!(said(self, "cat /dev/shm/runs"), "run");
        let other = format!("{}-b", app_id(&self.app(JOINT)));
        self.machine.ok(&["podman", "kill", &other]);
        self.until(
            "a container that starts again finds what is in memory",
            |e| said(e, "cat /dev/shm/runs") == "run\nrun",
        );
    }

    fn hosted_has_the_device(&self) {
        let said = |command: &str| self.said(HOSTED, "app", command);
        assert_eq!(said("cat /proc/1/comm"), "systemd");
        let device = self.machine.ok(&["readlink", "/proc/1/ns/ipc"]);
        assert_eq!(said("readlink /proc/self/ns/ipc"), device);
        // Of its first process: those of `podman exec` come from outside the device.
        let main = self.machine.ok(&[
            "podman",
            "inspect",
            "--format",
            "{{.State.Pid}}",
            &format!("{}-app", app_id(&self.app(HOSTED))),
        ]);
        let status = self.machine.ok(&["cat", &format!("/proc/{main}/status")]);
        let caps = status
            .lines()
            .find(|line| line.starts_with("CapEff"))
            .unwrap();
        assert!(
            caps.ends_with("1fffeffffff") || caps.ends_with("1ffffffffff"),
            "{caps}"
        );
    }

    fn what_is_not_alive_is_ended_and_starts_again(&mut self) {
        let app = self.app(ALIVE);
        let first = self.run_of(&app, "app");
        let restarts = "{.status.containerStatuses[0].restartCount}";
        assert_eq!(self.world.jsonpath("default", ALIVE, restarts), "0");
        assert_eq!(self.journal("told to end"), 0);
        self.said(ALIVE, "app", "rm /ok");
        self.until("it was told to end, and is started again", |e| {
            e.journal("told to end") == 1
                && e.said(ALIVE, "app", "ls /ok") == "/ok"
                && e.run_of(&app, "app") != first
        });
        self.until("and that is counted", |e| {
            e.world.jsonpath("default", ALIVE, restarts) == "1"
        });
    }
}

pub fn pod(name: &str, containers: Value, more: Value) -> Value {
    let mut spec = more;
    spec["nodeName"] = json!("vk-flightctl-node");
    spec["terminationGracePeriodSeconds"] = json!(5);
    spec["automountServiceAccountToken"] = json!(false);
    spec["containers"] = containers;
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec})
}

fn strict() -> Value {
    let farewell = "trap 'echo goodbye; exit' TERM; sleep 86400 & wait";
    let container = json!({
        "name": "app", "image": IMAGE, "command": ["sh", "-c", farewell],
        "securityContext": {
            "runAsUser": 1000, "runAsGroup": 2000, "runAsNonRoot": true, "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]},
            "seccompProfile": {"type": "RuntimeDefault"}, "seLinuxOptions": {"level": "s0:c1,c2"},
        },
        "lifecycle": {"preStop": {"exec": {"command": ["sh", "-c", "sleep 1; echo hooked as $(id -u)"]}}},
        "volumeMounts": [{"name": "data", "mountPath": "/data"}, {"name": "about", "mountPath": "/about"}],
    });
    let about = json!({"items": [{"path": "name", "fieldRef": {"fieldPath": "metadata.name"}}], "defaultMode": 0o400});
    let more = json!({
        "securityContext": {
            "fsGroup": 77, "supplementalGroups": [3000],
            "sysctls": [{"name": "net.ipv4.ip_local_port_range", "value": "1024 60000"}],
        },
        "hostAliases": [{"ip": "fd00::1", "hostnames": ["a.example"]}],
        "dnsPolicy": "None", "dnsConfig": {"nameservers": ["192.0.2.53"]},
        "volumes": [{"name": "data", "emptyDir": {}}, {"name": "about", "downwardAPI": about}],
    });
    pod(STRICT, json!([container]), more)
}

fn joint() -> Value {
    let mounts = json!([{"name": "memory", "mountPath": "/dev/shm"}]);
    let containers = json!([
        {"name": "a", "image": IMAGE, "command": ["sleep", "86400"], "volumeMounts": mounts},
        {"name": "b", "image": IMAGE, "volumeMounts": mounts,
         "command": ["sh", "-c", "echo run >>/dev/shm/runs; exec sleep 86401"]},
    ]);
    let more = json!({
        "shareProcessNamespace": true,
        "hostAliases": [{"ip": "192.0.2.1", "hostnames": ["b.example"]}],
        "volumes": [{"name": "memory", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}],
    });
    pod(JOINT, containers, more)
}

fn hosted() -> Value {
    let container = json!({
        "name": "app", "image": IMAGE, "command": ["sleep", "86400"],
        "securityContext": {"privileged": true},
    });
    let more = json!({"hostPID": true, "hostIPC": true});
    pod(HOSTED, json!([container]), more)
}

/// Hangs where it would fail.
const HANGS: &str = "[ -f /ok ] || sleep 86400";

fn alive() -> Value {
    let lives = "touch /ok; trap 'echo told to end; exit 0' TERM; sleep 86400 & wait";
    let container = json!({
        "name": "app", "image": IMAGE, "command": ["sh", "-c", lives],
        "livenessProbe": {"exec": {"command": ["sh", "-c", HANGS]}, "periodSeconds": 1, "failureThreshold": 2},
    });
    pod(ALIVE, json!([container]), json!({}))
}

fn once() -> Value {
    let container = json!({"name": "app", "image": IMAGE, "command": ["sh", "-c", "sleep 1; echo ran to its end"]});
    let more = json!({"restartPolicy": "OnFailure", "shareProcessNamespace": true});
    pod(ONCE, json!([container]), more)
}
