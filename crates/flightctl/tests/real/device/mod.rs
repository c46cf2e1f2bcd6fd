//! The same provider with a device that nobody here wrote: Flight Control's own
//! agent on Debian with systemd and Podman, enrolled at the real service.
//!
//! What a pod is given is compared with what its containers' processes see.

mod bad;
mod confined;
mod given;
mod life;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::Method;
use serde_json::{Value, json};
use tokio::net::{TcpStream, UnixListener};
use tokio::runtime::Handle;
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
/// A device enrols within this: its agent asks every 2 s.
const ENROLMENT: Duration = Duration::from_secs(60);

/// Everything that runs, the device last to go: what it holds is of others.
pub struct Edge {
    pub world: World,
    /// Its way to the service: it reaches nothing else of this machine.
    _link: AbortOnDropHandle<()>,
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
        edge.a_device_that_boots_again_has_its_pods_and_their_files();
        edge.a_pod_that_goes_leaves_nothing_and_its_neighbour_alone();
        edge.containers_are_confined_connected_and_ended_as_they_ask();
        edge.logs_and_processes();
    })
    .await
    .unwrap();
}

/// What it takes, or why it is not there.
fn parts(bin: &Path) -> Result<PathBuf, String> {
    if !bin.join("flightctl-agent").exists() {
        return Err(format!("{} holds no flightctl-agent", bin.display()));
    }
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
        let root = match parts(&bin) {
            Ok(root) => root,
            Err(why) => {
                println!("SKIPPED: real device: {why}");
                return None;
            }
        };
        let flightctl = Service::without_devices(&bin).await;
        let service = flightctl.service().unwrap();
        let files = files(service);
        let files: Vec<_> = files.iter().map(|(p, t, m)| (*p, t.as_str(), *m)).collect();
        let agent = bin.join("flightctl-agent");
        let agent = format!("--bind-ro={}:/usr/bin/flightctl-agent", agent.display());
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
        let world = tokio::task::block_in_place(|| {
            let more = format!("{WORKLOADS}{}", console::ENABLED);
            let mut world = World::start(&tools, flightctl, &more);
            world.may_use_nodes();
            world.until("the device's node is Ready", |w| {
                let nodes = w.plane.kubectl(&["get", "nodes"]).text;
                nodes.contains("vk-flightctl-node") && nodes.contains(" Ready ")
            });
            world
        });
        Some(Self {
            world,
            _link: link,
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
        let user = self.world.flightctl.service().unwrap().user();
        let path = format!("/api/v1/devices/{}", self.device);
        let answer = Handle::current().block_on(user.call(Method::GET, &path, None));
        answer.unwrap().1["status"].take()
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

    /// Tells one run of a container from another.
    pub fn run_of(&self, app: &str, container: &str) -> String {
        let name = format!("{}-{container}", app_id(app));
        let format = "{{.Id}} {{.State.StartedAt}}";
        self.machine
            .ok(&["podman", "container", "inspect", "--format", format, &name])
    }
}

/// Pods of this namespace may have tokens, and their devices.
const WORKLOADS: &str = "workloads:\n  apiServer: https://api.example:6443\n  \
    serviceAccountTokens: [default]\n  privileged: [default]\n";

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
    vec![
        ("/etc/flightctl/config.yaml", config.to_string(), 0o600),
        ("/etc/hostname", "edge-device\n".into(), 0o644),
        // sudo looks for it.
        (
            "/etc/hosts",
            "127.0.0.1 localhost edge-device\n".into(),
            0o644,
        ),
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
    ]
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

/// A shell with everything around it, as images of the device's own storage.
fn images(machine: &Machine) {
    let script = format!(
        "mkdir -p /tmp/image/bin && cd /tmp/image && cp /usr/bin/busybox bin
         for name in $(bin/busybox --list); do ln bin/busybox bin/$name 2>/dev/null || :; done
         tar -c . | podman import - {IMAGE}
         tar -c . | podman import --change 'USER 1000:1000' - {USER_IMAGE}"
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
