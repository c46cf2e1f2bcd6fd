//! One unit's life under systemd: conditions, start, end, commands around it,
//! restarts and their limit.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::files::Started;
use super::host::{Phase, Seen};
use super::journal::Occurrence;
use super::quadlet::{Kind, Restart, Unit};
use super::script::Stop;
use super::shell::{self, Shell};
use super::simulated::Inner;

/// systemd's default start limit: this many starts within this time.
const START_LIMIT: (usize, Duration) = (5, Duration::from_secs(10));

/// A pod's infra container starts at once.
const INFRA_START: Duration = Duration::from_millis(50);

/// Code of a container that KILL has ended.
const KILLED: i32 = 137;

/// Podman's own code when it cannot create a container.
const NOT_CREATED: i32 = 125;

/// The same when it cannot start one: a port of the device is in use.
const NOT_STARTED: i32 = 126;

/// The task of one unit, from a start job to inactivity.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) inner: Arc<Inner>,
    pub(super) app: String,
    pub(super) unit: Arc<Unit>,
    pub(super) stop: CancellationToken,
    /// Cancelled when the device loses its power: nothing more is run.
    pub(super) power: CancellationToken,
    pub(super) phase: watch::Sender<Phase>,
}

impl Task {
    pub(super) async fn run(self) {
        let unit = Arc::clone(&self.unit);
        let success = match &unit.kind {
            Kind::Pod { name, .. } => {
                self.pod(name).await;
                false
            }
            Kind::Container { name, image, pod } => {
                self.container(name, image, pod.as_deref()).await
            }
        };
        self.phase.send_replace(Phase::Ended);
        if success {
            for follower in &unit.on_success {
                self.inner.start_unit(&self.app, follower);
            }
        }
    }

    fn over(&self) -> bool {
        self.stop.is_cancelled() || self.power.is_cancelled()
    }

    /// Sleeps unless the unit is told to stop; false if it was.
    async fn pause(&self, time: Duration) -> bool {
        tokio::select! {
            biased;
            () = self.power.cancelled() => false,
            () = self.stop.cancelled() => false,
            () = sleep(time) => true,
        }
    }

    fn conditions_hold(&self) -> bool {
        shell::conditions_hold(&self.unit.conditions, &self.inner.host().files)
    }

    fn exec(&self, lines: &[String], success: bool, code: i32) {
        let mut host = self.inner.host();
        let mut files: BTreeSet<String> = std::mem::take(&mut host.files);
        let mut folders = Vec::new();
        let mut shell = Shell {
            files: &mut files,
            folders: &mut folders,
            service_result: if success { "success" } else { "exit-code" },
            exit_status: code,
            stops: Vec::new(),
        };
        for line in lines {
            shell.exec(line);
        }
        let stops = std::mem::take(&mut shell.stops);
        host.files = files;
        for folder in folders {
            host.disk.make_folder(&folder);
        }
        for unit in stops {
            host.stop_unit(&self.app, &unit);
        }
    }

    fn event(&self, container: &str, seen: Seen) {
        let mut host = self.inner.host();
        host.event(&self.app, container, seen);
        if let Some(run) = host.unit(&self.app, &self.unit.file) {
            run.up = matches!(seen, Seen::Created | Seen::Running);
            run.bound &= run.up;
        }
    }

    async fn pod(&self, name: &str) {
        if !self.conditions_hold() {
            return;
        }
        self.exec(&self.unit.start_pre, true, 0);
        let infra = format!("{name}-infra");
        self.event(&infra, Seen::Created);
        let bound = self.inner.host().bind(&self.app, &self.unit);
        if !bound {
            self.event(&infra, Seen::Died);
            return;
        }
        if self.pause(INFRA_START).await {
            self.event(&infra, Seen::Running);
            self.phase.send_replace(Phase::Started);
            for member in self.inner.members(&self.app, &self.unit.file) {
                self.inner.start_unit(&self.app, &member);
            }
            tokio::select! {
                () = self.stop.cancelled() => {}
                () = self.power.cancelled() => {}
            }
        }
        let file = self.unit.file.as_str();
        let inside = |unit: &Unit| unit.pod() == Some(file);
        self.inner.stop_units(&self.app, inside).await;
        self.event(&infra, Seen::Exited);
        if !self.power.is_cancelled() {
            self.exec(&self.unit.stop_post, true, 0);
        }
    }

    /// Whether it ended well and by itself.
    async fn container(&self, name: &str, image: &str, pod: Option<&str>) -> bool {
        loop {
            if self.over() || !self.conditions_hold() || !self.pod_is_up(pod).await {
                return false;
            }
            self.exec(&self.unit.start_pre, true, 0);
            let Some(code) = self.one_run(name, image).await else {
                return false;
            };
            let success = code == 0;
            self.exec(&self.unit.stop_post, success, code);
            if let Some(pod) = pod {
                self.leave_pod(pod);
            }
            if self.over() {
                return false;
            }
            let again = match self.unit.restart {
                Restart::Always => true,
                Restart::OnFailure => !success,
                Restart::No => false,
            };
            if !again {
                return success;
            }
            if self.limit_hit() || !self.pause(self.unit.restart_sec).await {
                return false;
            }
            if let Some(run) = self.inner.host().unit(&self.app, &self.unit.file) {
                run.restarts += 1;
            }
        }
    }

    /// Starts the pod if need be; false if it will not run.
    async fn pod_is_up(&self, pod: Option<&str>) -> bool {
        let Some(pod) = pod else {
            return true;
        };
        let Some(mut phase) = self.inner.start_unit(&self.app, pod) else {
            return false;
        };
        tokio::select! {
            biased;
            () = self.stop.cancelled() => false,
            () = self.power.cancelled() => false,
            phase = phase.wait_for(|phase| *phase != Phase::Starting) => {
                phase.is_ok_and(|phase| *phase == Phase::Started)
            }
        }
    }

    /// With the default exit policy, a pod ends with its last container.
    fn leave_pod(&self, pod: &str) {
        let host = self.inner.host();
        if !host.pod_in_use(&self.app, pod) && !host.outlives(&self.app, pod) {
            host.stop_unit(&self.app, pod);
        }
    }

    /// The container's code; None if it was never started or the power went.
    async fn one_run(&self, name: &str, image: &str) -> Option<i32> {
        let run = {
            let mut host = self.inner.host();
            let unit = host.unit(&self.app, &self.unit.file)?;
            unit.starts.push_back(Instant::now());
            unit.runs += 1;
            unit.runs - 1
        };
        let how = self.inner.scripts.behaviour(&self.app, name, image, run);
        if how.never_created || !self.create(name) {
            let waited = self.pause(how.start_delay).await;
            self.phase.send_replace(Phase::Started);
            return waited.then_some(NOT_CREATED);
        }
        self.event(name, Seen::Created);
        if !self.pause(how.start_delay).await {
            self.event(name, Seen::Died);
            return None;
        }
        let bound = self.inner.host().bind(&self.app, &self.unit);
        if !bound {
            self.event(name, Seen::Died);
            self.phase.send_replace(Phase::Started);
            return Some(NOT_STARTED);
        }
        let write = |event| self.inner.journal.write(&self.app, name, image, event);
        self.event(name, Seen::Running);
        write(Occurrence::Start);
        self.phase.send_replace(Phase::Started);
        let end = async {
            match how.exit {
                Some((after, code)) => {
                    sleep(after).await;
                    code
                }
                None => std::future::pending().await,
            }
        };
        let told = async {
            self.stop.cancelled().await;
            write(Occurrence::Stop);
            match how.stop {
                Stop::Heeded(after, code) if after <= self.unit.stop_timeout => {
                    sleep(after).await;
                    code
                }
                _ => {
                    sleep(self.unit.stop_timeout).await;
                    KILLED
                }
            }
        };
        let writing = async {
            for line in &how.prints {
                sleep(line.after).await;
                self.inner
                    .print(&self.app, name, run, line.stderr, &line.text);
            }
            std::future::pending().await
        };
        let (code, powered) = tokio::select! {
            biased;
            () = self.power.cancelled() => (KILLED, false),
            code = told => (code, true),
            code = end => (code, true),
            code = writing => (code, true),
        };
        let seen = if code == 0 { Seen::Exited } else { Seen::Died };
        self.event(name, seen);
        write(Occurrence::Exit(code));
        self.inner.stirred();
        powered.then_some(code)
    }

    /// Creates the container with what it is given; false if that is not there.
    fn create(&self, name: &str) -> bool {
        let mut host = self.inner.host();
        let hostname = host.hostname(&self.app, &self.unit, name);
        let Some(started) = Started::create(&self.unit, hostname, &host.disk) else {
            return false;
        };
        if let Some(app) = host.apps.get_mut(&self.app) {
            app.started.insert(name.to_owned(), started);
        }
        true
    }

    fn limit_hit(&self) -> bool {
        if self.unit.unlimited_starts {
            return false;
        }
        let (count, within) = START_LIMIT;
        let mut host = self.inner.host();
        let Some(run) = host.unit(&self.app, &self.unit.file) else {
            return true;
        };
        while run.starts.front().is_some_and(|at| at.elapsed() > within) {
            run.starts.pop_front();
        }
        run.starts.len() >= count
    }
}
