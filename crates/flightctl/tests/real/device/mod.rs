//! The same provider with devices on which containers run: Debian with systemd and
//! Podman. Either nobody here wrote its agent: it is Flight Control's own, enrolled at
//! the real service; or it is the sandbox's, outside of the machine, with the same
//! commands.
//!
//! What a pod is given is compared with what its containers' processes see, and what
//! is shown of it with what systemd and Podman tell.

mod bad;
mod confined;
mod given;
mod life;
mod order;
mod words;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::Method;
use serde_json::{Value, json};
use tokio::net::{TcpStream, UnixListener};
use tokio_util::task::AbortOnDropHandle;
use vk_flightctl::mapping::{app_id, app_name};
use vk_provider::Uid;

use crate::flightctl_service::FlightControlService;
use crate::machine::{Machine, SHARED};
use crate::service::{Service, binaries};
use crate::{World, console, harness};

/// Ours on the device alone: it has a network of its own.
const AGENT_PORT: u16 = 7443;
/// Of the device, and of its pods.
const ADDRESS: &str = "10.99.0.2";
/// Images that no registry has; the second is of a user that is not root.
const IMAGE: &str = "localhost/busybox:1";
const USER_IMAGE: &str = "localhost/busybox:user";
/// The first under another name.
const OTHER_IMAGE: &str = "localhost/busybox:2";
/// One with a command that keeps its arguments.
const ENTRY_IMAGE: &str = "localhost/busybox:entry";
/// What the scenarios ask for.
const SCENARIO_IMAGES: [&str; 3] = [
    "docker.io/library/nginx:alpine",
    "gcr.io/google-samples/hello-app:1.0",
    "gcr.io/google-samples/hello-app:2.0",
];
/// A device enrols within this: its agent asks every 2 s.
const ENROLMENT: Duration = Duration::from_secs(60);

/// Everything that runs, the device last to go: what it holds is of others.
pub struct Edge {
    pub world: World,
    /// The agent's way to the service, where it is in the machine: it reaches nothing
    /// else of this one.
    _link: Option<AbortOnDropHandle<()>>,
    pub machine: Machine,
    /// The device's name.
    pub device: String,
}

#[tokio::test(flavor = "multi_thread")]
async fn what_pods_are_given_on_a_real_device() {
    let Some(mut edge) = Edge::start().await else {
        return;
    };
    tokio::task::spawn_blocking(move || {
        edge.pods_see_exactly_what_they_ask_for();
        edge.others_of_the_device_see_no_secret();
        edge.changed_objects_reach_the_files_and_restart_nothing();
        edge.an_agent_that_restarts_touches_nothing();
        edge.a_device_that_boots_again_has_its_pods_and_their_files("good night");
        edge.a_pod_that_goes_leaves_nothing_and_its_neighbour_alone();
        edge.containers_are_confined_connected_and_ended_as_they_ask();
        edge.logs_and_processes();
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_users_scenarios_and_every_kind_of_pod_in_real_containers() {
    let Some(mut edge) = Edge::backed().await else {
        return;
    };
    tokio::task::spawn_blocking(move || {
        edge.world.s1_deploy();
        edge.podman_is_told_what_it_requests();
        edge.world.s6_delete();
        // The pod of S4 has a token.
        let binding = given::inputs_binding();
        edge.world.plane.ok(&["apply", "-k", &binding]);
        edge.world.s4_update();
        let delete = ["delete", "pod", "update-test", "--timeout=60s"];
        edge.world.plane.ok(&delete);
        edge.containers_begin_and_end_in_order_and_are_counted();
        edge.every_text_of_the_corpus_comes_out_as_it_went_in();
        edge.pods_see_exactly_what_they_ask_for();
        edge.changed_objects_reach_the_files_and_restart_nothing();
        edge.world.talker_is_ready(IMAGE);
        edge.world.logs_are_there();
        edge.world.processes_have_streams_and_codes();
        edge.a_device_that_boots_again_has_its_pods_and_their_files("good evening");
    })
    .await
    .unwrap();
}

/// The agent, or why it is not there.
fn agent(bin: &Path) -> Result<String, String> {
    let agent = bin.join("flightctl-agent");
    if !agent.exists() {
        return Err(format!("{} holds no flightctl-agent", bin.display()));
    }
    Ok(format!(
        "--bind-ro={}:/usr/bin/flightctl-agent",
        agent.display()
    ))
}

/// What a machine is made from, or why there is none.
fn root() -> Result<PathBuf, String> {
    let root = std::env::var_os("VK_DEVICE_ROOT");
    let root = root.ok_or("no device root (make test-real makes one as root)")?;
    let root = PathBuf::from(root);
    match Machine::impossible(&root) {
        Some(why) => Err(format!("no machine can be booted here: {why}")),
        None => Ok(root),
    }
}

impl Edge {
    pub async fn start() -> Option<Self> {
        let (bin, tools) = (binaries()?, harness::tools()?);
        let (agent, root) = match agent(&bin).and_then(|agent| Ok((agent, root()?))) {
            Ok(parts) => parts,
            Err(why) => {
                println!("SKIPPED: real device: {why}");
                return None;
            }
        };
        let flightctl = Service::without_devices(&bin).await;
        let service = flightctl.service().unwrap();
        let files = files(service);
        let files: Vec<_> = files.iter().map(|(p, t, m)| (*p, t.as_str(), *m)).collect();
        let begun = Instant::now();
        let machine = tokio::task::block_in_place(|| Machine::boot(&root, &files, vec![agent]));
        println!("the device is up ({:.1} s)", begun.elapsed().as_secs_f64());
        let socket = machine.shared().join("flightctl.sock");
        let listener = UnixListener::bind(socket).unwrap();
        let link = AbortOnDropHandle::new(tokio::spawn(link(listener, service.agent_port())));
        tokio::task::block_in_place(|| {
            images(&machine);
            machine.ok(&["sh", "-ec", CONSOLE_USER]);
            let agent = [
                "systemctl",
                "enable",
                "--now",
                "--no-block",
                "flightctl-agent",
            ];
            machine.ok(&agent);
        });
        let device = enrolled(service).await;
        println!("it has enrolled ({:.1} s)", begun.elapsed().as_secs_f64());
        Some(Self {
            world: tokio::task::block_in_place(|| world(&tools, flightctl)),
            _link: Some(link),
            machine,
            device,
        })
    }

    /// Without anything of Flight Control's.
    pub async fn backed() -> Option<Self> {
        let tools = harness::tools()?;
        let root = match root() {
            Ok(root) => root,
            Err(why) => {
                println!("SKIPPED: real containers: {why}");
                return None;
            }
        };
        let begun = Instant::now();
        let machine = tokio::task::block_in_place(|| {
            let machine = Machine::boot(&root, &OWN, Vec::new());
            images(&machine);
            machine
        });
        println!("the machine is up ({:.1} s)", begun.elapsed().as_secs_f64());
        let flightctl = Service::backed(&machine, ADDRESS).await;
        let device = flightctl.device(1).to_owned();
        Some(Self {
            world: tokio::task::block_in_place(|| world(&tools, flightctl)),
            _link: None,
            machine,
            device,
        })
    }

    /// The last: the session for a device that is away stays in its annotations.
    fn logs_and_processes(&mut self) {
        self.world.talker_is_ready(IMAGE);
        self.world.the_console_answers();
        let left = "ps -eo args | grep -c '[p]odman \\(logs\\|exec\\)' || :";
        self.until("no session has left a process", |e| {
            e.machine.ok(&["sh", "-c", left]) == "0"
        });
        self.machine.ok(&["systemctl", "stop", "flightctl-agent"]);
        self.world
            .a_device_that_is_away_runs_nothing_and_is_left_alone();
    }

    /// The pod of S1: a tenth of a processor's weight.
    fn podman_is_told_what_it_requests(&self) {
        let uid = self
            .world
            .jsonpath("codeco", "nginx-edge", "{.metadata.uid}");
        let name = format!("{}-nginx", app_id(&app_name(&Uid::new(&uid))));
        let format = "{{.Config.CreateCommand}}";
        let command = ["podman", "container", "inspect", "--format", format, &name];
        let command = self.machine.ok(&command);
        assert!(command.contains(" --cpu-shares=102 "), "{command}");
    }

    /// Waits, and says what the device and Flight Control say if it never comes.
    pub fn until(&mut self, what: &str, condition: impl Fn(&Self) -> bool) -> Duration {
        self.within(crate::PATIENCE, what, condition)
    }

    /// The same with another patience.
    pub fn within(
        &mut self,
        patience: Duration,
        what: &str,
        condition: impl Fn(&Self) -> bool,
    ) -> Duration {
        let begun = Instant::now();
        while !condition(self) {
            self.world.provider.assert_alive();
            if begun.elapsed() > patience {
                panic!("never: {what}\n{}", self.story());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        println!("{what} ({:.1} s)", begun.elapsed().as_secs_f64());
        begun.elapsed()
    }

    fn story(&self) -> String {
        let say = |command: &[&str]| {
            String::from_utf8_lossy(&self.machine.run(command).stdout).into_owned()
        };
        let pods = ["get", "pods,events", "-A", "-o", "wide"];
        format!(
            "{}\n{}\n{}\n{}",
            self.world.plane.kubectl(&pods).text,
            say(&["podman", "ps", "-a"]),
            say(&["journalctl", "-b", "-n", "80", "--no-pager"]),
            self.status(),
        )
    }

    /// The device's status in Flight Control.
    pub fn status(&self) -> Value {
        self.world.flightctl.document(&self.device)["status"].take()
    }

    /// The application of a pod of the default namespace.
    pub fn app(&self, pod: &str) -> String {
        app_name(&self.uid(pod))
    }

    pub fn uid(&self, pod: &str) -> Uid {
        Uid::new(&self.world.jsonpath("default", pod, "{.metadata.uid}"))
    }

    /// Runs a command in a container of an application, as its user.
    pub fn exec(&self, app: &str, container: &str, command: &[&str]) -> crate::machine::Said {
        let name = format!("{}-{container}", app_id(app));
        let mut whole = vec!["podman", "exec", &name];
        whole.extend(command);
        self.machine.run(&whole)
    }

    /// Boots the machine anew, and with it the agent.
    pub fn reboot(&mut self) {
        match &self.world.flightctl.backed {
            Some(backed) => {
                backed.reboot();
                self.machine.boot_again();
            }
            None => self.machine.reboot(),
        }
    }

    /// The agent alone starts anew.
    pub fn restart_agent(&self) {
        match &self.world.flightctl.backed {
            Some(backed) => backed.restart_agent(),
            None => drop(
                self.machine
                    .ok(&["systemctl", "restart", "flightctl-agent"]),
            ),
        }
    }

    /// Tells one run of a container from another.
    pub fn run_of(&self, app: &str, container: &str) -> String {
        let name = format!("{}-{container}", app_id(app));
        let format = "{{.Id}} {{.State.StartedAt}}";
        self.machine
            .ok(&["podman", "container", "inspect", "--format", format, &name])
    }
}

/// Devices are listed often, so that what happens by itself is soon seen; pods of this
/// namespace may have tokens, and their devices.
const SETTINGS: &str = "statusPollInterval: 5s\nworkloads:\n  apiServer: https://api.example:6443\n  \
    serviceAccountTokens: [default]\n  privileged: [default]\n";

/// The provider with a device that has no name for the scheduler but its node's.
fn world(tools: &Path, flightctl: Service) -> World {
    let more = format!("{SETTINGS}{}", console::ENABLED);
    let mut world = World::start(tools, flightctl, &more);
    world.may_use_nodes();
    world.until("the device's node is Ready", |w| {
        let nodes = w.plane.kubectl(&["get", "nodes"]).text;
        nodes.contains("vk-flightctl-node") && nodes.contains(" Ready ")
    });
    world
}

/// What a machine has beside Debian.
const OWN: [(&str, &str, u32); 4] = [
    ("/etc/hostname", "edge-device\n", 0o644),
    // sudo looks for it.
    ("/etc/hosts", "127.0.0.1 localhost edge-device\n", 0o644),
    (
        "/etc/containers/containers.conf.d/limits.conf",
        "[engine]\nruntime=\"limits\"\n[engine.runtimes]\nlimits=[\"/usr/local/bin/crun-limits\"]\n",
        0o644,
    ),
    ("/usr/local/bin/crun-limits", LIMITS, 0o755),
];

/// Where the kernel has given its controllers to cgroup v1, crun starts nothing that
/// has a limit or a weight: there it is not told of any.
const LIMITS: &str = r#"#!/bin/sh
grep -qw cpu /sys/fs/cgroup/cgroup.controllers && exec /usr/bin/crun "$@"
for word in "$@"; do
  [ "$last" != --bundle ] ||
    sed -i -E 's/,"(cpu|memory)":\{[^{}]*\}//g; s/"(cpu|memory)":\{[^{}]*\},?//g' "$word/config.json"
  last=$word
done
exec /usr/bin/crun "$@"
"#;

/// What the device has beside Debian: the agent with its configuration, a network
/// and a way to the service.
fn files(service: &FlightControlService) -> Vec<(&'static str, String, u32)> {
    let enrollment = service.enrollment();
    let base64 = |text: &str| BASE64.encode(text);
    let server = format!("https://127.0.0.1:{AGENT_PORT}");
    // JSON is YAML.
    let config = json!({
        "enrollment-service": {
            "service": {"server": server, "certificate-authority-data": base64(service.ca_pem())},
            "authentication": {
                "client-certificate-data": base64(&enrollment.certificate),
                "client-key-data": base64(&enrollment.key),
            },
            "enrollment-ui-endpoint": server,
        },
        "enrollment-verify-interval": "2s",
        "status-update-interval": "2s",
    });
    let own = [
        ("/etc/flightctl/config.yaml", config.to_string(), 0o600),
        (
            "/etc/systemd/system/flightctl-agent.service",
            AGENT.into(),
            0o644,
        ),
        ("/etc/systemd/system/uplink.service", UPLINK.into(), 0o644),
        (
            "/etc/systemd/system/link.socket",
            format!("[Socket]\nListenStream=127.0.0.1:{AGENT_PORT}\n"),
            0o644,
        ),
        (
            "/etc/systemd/system/link.service",
            format!(
                "[Service]\nExecStart=/usr/lib/systemd/systemd-socket-proxyd {SHARED}/flightctl.sock\n"
            ),
            0o644,
        ),
    ];
    let more = OWN.map(|(path, text, mode)| (path, text.to_owned(), mode));
    own.into_iter().chain(more).collect()
}

/// As its packages run it.
const AGENT: &str = "[Unit]
StartLimitIntervalSec=0
Requires=uplink.service link.socket
After=uplink.service link.socket
[Service]
Type=notify
ExecStart=/usr/bin/flightctl-agent
Restart=always
RestartSec=1
KillMode=process
KillSignal=SIGINT
[Install]
WantedBy=multi-user.target
";

/// As Flight Control's RPM makes it.
const CONSOLE_USER: &str =
    "useradd --system --create-home -d /var/lib/flightctl-console -s /bin/bash flightctl-console
echo 'flightctl-console ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/flightctl-console
chmod 0440 /etc/sudoers.d/flightctl-console";

/// A way out that ends at once: agents tell the address of the way out.
const UPLINK: &str = "[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -ec 'ip link add uplink type veth peer name beyond; ip link set beyond up; \
  ip link set uplink up; ip address add 10.99.0.2/24 dev uplink; ip route add default via 10.99.0.1'
";

/// Runs until it is told to end.
const HOLD: &str = "trap exit TERM; sleep 86400 & wait";

/// A shell with everything around it, as images of the device's own storage.
fn images(machine: &Machine) {
    let script = format!(
        "mkdir -p /tmp/image/bin && cd /tmp/image && cp /usr/bin/busybox bin
         for name in $(bin/busybox --list); do ln bin/busybox bin/$name 2>/dev/null || :; done
         tar -c . | podman import - {IMAGE}
         tar -c . | podman import --change 'USER 1000:1000' - {USER_IMAGE}
         podman tag {IMAGE} {OTHER_IMAGE}
         tar -c . | podman import --change 'ENTRYPOINT [\"sh\", \"-c\", \"{HOLD}\", \"sh\"]' - {ENTRY_IMAGE}
         tar -c . | podman import --change 'CMD [\"sh\", \"-c\", \"{HOLD}\"]' - {first}
         for other in {others}; do podman tag {first} $other; done",
        first = SCENARIO_IMAGES[0],
        others = SCENARIO_IMAGES[1..].join(" "),
    );
    machine.ok(&["sh", "-ec", &script]);
}

/// Carries what comes from the device to the service.
async fn link(listener: UnixListener, port: u16) {
    while let Ok((mut inside, _)) = listener.accept().await {
        tokio::spawn(async move {
            if let Ok(mut outside) = TcpStream::connect(("127.0.0.1", port)).await {
                // Either end may close it.
                let _ = tokio::io::copy_bidirectional(&mut inside, &mut outside).await;
            }
        });
    }
}

/// Approves the one device that asks, and answers its name.
async fn enrolled(service: &FlightControlService) -> String {
    let user = service.user();
    let path = "/api/v1/enrollmentrequests";
    let begun = Instant::now();
    loop {
        assert!(
            begun.elapsed() < ENROLMENT,
            "the agent never asked for enrolment"
        );
        let (_, all) = user.call(Method::GET, path, None).await.unwrap();
        if let Some(name) = all["items"][0]["metadata"]["name"].as_str() {
            let approval = json!({"approved": true, "labels": {}});
            let approve = format!("{path}/{name}/approval");
            let answer = user.call(Method::PUT, &approve, Some(&approval)).await;
            let (status, body) = answer.unwrap();
            assert!(status.is_success(), "{status} {body}");
            break name.to_owned();
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
