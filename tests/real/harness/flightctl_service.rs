//! Flight Control itself on loopback: its API, worker and periodic tasks with
//! `PostgreSQL`, Redis and an issuer of tokens. Its metrics of the database are
//! the exception: the service opens `*:15691` and cannot be told otherwise.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::{Method, StatusCode};
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use serde_json::json;
use tempfile::TempDir;
use tokio::runtime::Handle;

use crate::harness::process::{Process, free_port};
use crate::https::{Https, Identity};
use crate::oidc::Oidc;

/// Three processes of 100 MB and a database need some seconds to start.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where Debian has it, a folder for each version; it is not in `PATH`.
const POSTGRES: &str = "/usr/lib/postgresql";

const PASSWORD: &str = "adminpass";
const CLIENT_ID: &str = "flightctl";
const DEFAULT_ORGANIZATION: &str = "00000000-0000-0000-0000-000000000000";

/// Extensions of the certificate that agents enrol with.
const SIGNER_NAME: [u64; 9] = [1, 3, 6, 1, 4, 1, 99999, 1, 1];
const ORGANIZATION: [u64; 9] = [1, 3, 6, 1, 4, 1, 99999, 1, 2];

/// The running service. All of it ends with this handle, by process id, the
/// ones that need the others first.
pub struct FlightControlService {
    services: Vec<Process>,
    stores: Vec<Process>,
    issuer: Oidc,
    ports: Ports,
    ca: String,
    folder: TempDir,
    // Apart: it belongs to another user, and the keys are none of its business.
    database: TempDir,
}

/// What someone may, in the words of the identity provider.
#[derive(Clone, Copy, Debug)]
pub enum Role {
    /// Everything.
    Admin,
    /// Devices and fleets; not, for one, to take a device out of service.
    Operator,
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Self::Admin => "flightctl-admin",
            Self::Operator => "flightctl-operator",
        }
    }
}

struct Ports {
    user: u16,
    agent: u16,
    postgres: u16,
    redis: u16,
}

impl FlightControlService {
    /// Brings everything up; returns when the API is ready. Blocks, and must
    /// be called in a Tokio runtime.
    pub fn start(bin: &Path) -> Self {
        let mut service = Self {
            services: Vec::new(),
            stores: Vec::new(),
            issuer: Oidc::start(),
            ports: Ports {
                user: free_port(),
                agent: free_port(),
                postgres: free_port(),
                redis: free_port(),
            },
            ca: String::new(),
            folder: tempfile::tempdir().expect("a temporary folder can be made"),
            database: tempfile::tempdir().expect("a temporary folder can be made"),
        };
        fs::create_dir_all(service.path("certs")).expect("written");
        fs::create_dir_all(service.path("encryption")).expect("written");
        service.write_certificates();
        service.write_config();
        service.start_redis();
        service.start_postgres();
        let mut migrate = service.command(&bin.join("flightctl-db-migrate"));
        run("flightctl-db-migrate", &mut migrate);
        for name in ["flightctl-api", "flightctl-worker", "flightctl-periodic"] {
            let mut command = service.command(&bin.join(name));
            let process = Process::start(service.folder.path(), name, &mut command);
            service.services.push(process);
        }
        let user = service.user();
        service.wait("the API is ready", || {
            let ready = user.call(Method::GET, "/readyz", None);
            let devices = user.call(Method::GET, "/api/v1/devices", None);
            Handle::current().block_on(async {
                matches!(ready.await, Ok((StatusCode::OK, _)))
                    && matches!(devices.await, Ok((StatusCode::OK, _)))
            })
        });
        service
    }

    /// The user API.
    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.ports.user)
    }

    /// The port of the agent API.
    pub fn agent_port(&self) -> u16 {
        self.ports.agent
    }

    /// The authority that the service's certificate is under.
    pub fn ca_pem(&self) -> &str {
        &self.ca
    }

    /// A token of someone with this role.
    pub fn token(&self, role: Role) -> String {
        self.issuer.token(CLIENT_ID, role.name())
    }

    /// The issuer that it trusts.
    pub fn issuer(&self) -> &Oidc {
        &self.issuer
    }

    /// Waits until a device's first sign of life is saved, some 15 s after it has
    /// enrolled: until then every write makes it read as disconnected.
    pub async fn has_seen(&self, device: &str) {
        let path = format!("/api/v1/devices/{device}/lastseen");
        let (user, begun) = (self.user(), Instant::now());
        loop {
            let answer = user.call(Method::GET, &path, None).await;
            let (_, seen) = answer.expect("Flight Control answers");
            if seen["lastSeen"].is_string() {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "{device} is never seen: {seen}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// A client of the user API, as the administrator.
    pub fn user(&self) -> Https {
        self.user_as(Role::Admin)
    }

    /// A client of the user API.
    pub fn user_as(&self, role: Role) -> Https {
        Https::new(&self.url(), &self.ca, None).token(&self.token(role))
    }

    /// A client of the agent API.
    pub fn agent(&self, identity: &Identity) -> Https {
        let url = format!("https://127.0.0.1:{}", self.ports.agent);
        Https::new(&url, &self.ca, Some(identity))
    }

    /// What agents enrol with.
    pub fn enrollment(&self) -> Identity {
        let read = |name| fs::read_to_string(self.path(name)).expect("written at the start");
        Identity {
            certificate: read("certs/client-enrollment.crt"),
            key: read("certs/client-enrollment.key"),
        }
    }

    /// Panics, with its last words, if one of the processes has ended.
    pub fn assert_alive(&mut self) {
        let all = self.services.iter_mut().chain(&mut self.stores);
        all.for_each(Process::assert_alive);
    }

    /// A path in the service's own folder, `~/.flightctl`.
    fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(".flightctl").join(file)
    }

    fn write(&self, file: &str, text: &str) {
        fs::write(self.path(file), text).expect("the temporary folder can be written to");
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .env("HOME", self.folder.path())
            .current_dir(self.folder.path());
        command
    }

    fn wait(&mut self, what: &str, condition: impl Fn() -> bool) {
        let begun = Instant::now();
        while !condition() {
            self.assert_alive();
            let log = || self.services.first().map(Process::log);
            assert!(begun.elapsed() < PATIENCE, "never: {what}\n{:?}", log());
            std::thread::sleep(Duration::from_millis(100));
        }
        println!("{what} ({:.1} s)", begun.elapsed().as_secs_f64());
    }

    fn start_redis(&mut self) {
        // In a file: a command line can be read by anyone.
        let config = format!(
            "bind 127.0.0.1\nport {}\nrequirepass {PASSWORD}\nsave \"\"\nappendonly no\n",
            self.ports.redis
        );
        self.write("redis.conf", &config);
        let mut command = self.command(Path::new("redis-server"));
        command.arg(self.path("redis.conf"));
        let process = Process::start(self.folder.path(), "redis", &mut command);
        self.stores.push(process);
    }

    fn start_postgres(&mut self) {
        let folder = self.database.path();
        let password = folder.join("password");
        fs::write(&password, PASSWORD).expect("written");
        let user = Database::of(folder);
        user.give(folder);
        user.give(&password);
        run(
            "initdb",
            user.command("initdb")
                .args(["--username=postgres", "--no-sync", "--auth-local=trust"])
                .arg("--auth-host=scram-sha-256")
                .arg(format!("--pwfile={}", password.display()))
                .arg(format!("--pgdata={}", folder.join("data").display())),
        );
        let mut command = user.command("postgres");
        command
            .arg("-D")
            .arg(folder.join("data"))
            .args(["-p", &self.ports.postgres.to_string()]);
        for setting in [
            "listen_addresses=127.0.0.1",
            &format!("unix_socket_directories={}", folder.display()),
            // The data dies with the test: no need to wait for the disk.
            "fsync=off",
            "full_page_writes=off",
            "synchronous_commit=off",
        ] {
            command.args(["-c", setting]);
        }
        let process = Process::start(self.folder.path(), "postgres", &mut command);
        self.stores.push(process);
        let psql = |sql: &[&str]| {
            let mut command = user.command("psql");
            command
                .args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-U", "postgres"])
                .arg("-h")
                .arg(folder)
                .args(["-p", &self.ports.postgres.to_string(), "-d", sql[0]]);
            sql[1..].iter().for_each(|sql| {
                command.args(["-c", sql]);
            });
            command
        };
        let mut ready = psql(&["postgres", "select 1"]);
        let begun = Instant::now();
        while !ready.output().is_ok_and(|output| output.status.success()) {
            assert!(begun.elapsed() < PATIENCE, "PostgreSQL never was ready");
            std::thread::sleep(Duration::from_millis(50));
        }
        let roles = ["flightctl_migrator", "flightctl_app"]
            .map(|role| format!("create role {role} login password '{PASSWORD}'"));
        run(
            "psql",
            &mut psql(&[
                "postgres",
                &roles[0],
                &roles[1],
                "create database flightctl owner flightctl_migrator",
            ]),
        );
        run(
            "psql",
            &mut psql(&[
                "flightctl",
                "grant all on schema public to flightctl_migrator",
                "grant usage on schema public to flightctl_app",
                "alter default privileges for role flightctl_migrator in schema public \
                 grant select, insert, update, delete on tables to flightctl_app",
                "alter default privileges for role flightctl_migrator in schema public \
                 grant usage, select on sequences to flightctl_app",
            ]),
        );
    }

    fn write_config(&self) {
        let Ports {
            user,
            agent,
            postgres,
            redis,
        } = self.ports;
        // JSON is YAML.
        let config = json!({
            "database": {
                "type": "pgsql", "hostname": "127.0.0.1", "port": postgres, "name": "flightctl",
                "user": "flightctl_app", "password": PASSWORD,
                "migrationUser": "flightctl_migrator", "migrationPassword": PASSWORD,
                "sslmode": "disable",
            },
            "kv": {"hostname": "127.0.0.1", "port": redis, "password": PASSWORD},
            "service": {
                "address": format!("127.0.0.1:{user}"),
                "agentEndpointAddress": format!("127.0.0.1:{agent}"),
                "baseUrl": format!("https://127.0.0.1:{user}"),
                "baseAgentEndpointUrl": format!("https://127.0.0.1:{agent}"),
                "logLevel": "info",
            },
            // Three processes would share one port.
            "metrics": {"enabled": false},
            "auth": {"oidc": {
                "providerType": "oidc",
                "issuer": self.issuer.url(),
                "clientId": CLIENT_ID,
                "clientSecret": "unused",
                "enabled": true,
                "organizationAssignment": {"type": "static", "organizationName": "default"},
                "roleAssignment": {"type": "dynamic", "claimPath": ["roles"]},
                "usernameClaim": ["preferred_username"],
            }},
        });
        self.write("config.yaml", &config.to_string());
        let random = ring::rand::SystemRandom::new();
        let mut key = [0; 32];
        ring::rand::SecureRandom::fill(&random, &mut key).expect("the system has random numbers");
        self.write("encryption/key", &BASE64.encode(key));
        let private = fs::Permissions::from_mode(0o600);
        fs::set_permissions(self.path("encryption/key"), private).expect("it is ours");
    }

    fn write_certificates(&mut self) {
        let ca_key = key();
        let ca = authority("virtual-kubelet test CA");
        self.ca = ca.self_signed(&ca_key).expect("a CA can be made").pem();
        let ca = Issuer::new(ca, ca_key);

        let signer_key = key();
        let signer = authority("client-signer");
        let signer_pem = signer.signed_by(&signer_key, &ca).expect("signed").pem();
        self.write("certs/ca-bundle.crt", &self.ca);
        self.write("certs/client-signer.crt", &signer_pem);
        self.write("certs/client-signer.key", &signer_key.serialize_pem());
        let signer = Issuer::new(signer, signer_key);

        let mut server = CertificateParams::new(vec!["localhost".into(), "127.0.0.1".into()])
            .expect("names are valid");
        server.distinguished_name = named("server");
        server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.write_signed("server", &server, &ca);

        let mut enrollment = CertificateParams::default();
        enrollment.distinguished_name = named("client-enrollment");
        enrollment.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        enrollment.custom_extensions = vec![
            utf8(&SIGNER_NAME, "flightctl.io/enrollment"),
            utf8(&ORGANIZATION, DEFAULT_ORGANIZATION),
        ];
        self.write_signed("client-enrollment", &enrollment, &signer);
    }

    fn write_signed(&self, name: &str, params: &CertificateParams, issuer: &Issuer<'_, KeyPair>) {
        let key = key();
        let certificate = params.signed_by(&key, issuer).expect("signed");
        self.write(&format!("certs/{name}.crt"), &certificate.pem());
        self.write(&format!("certs/{name}.key"), &key.serialize_pem());
    }
}

impl Drop for FlightControlService {
    fn drop(&mut self) {
        self.services.clear();
        // Killed, PostgreSQL would leave its shared memory behind.
        for mut store in self.stores.drain(..) {
            store.end("-INT");
        }
    }
}

/// Who runs `PostgreSQL`: it refuses to be root.
struct Database {
    root: bool,
    folder: PathBuf,
    programs: PathBuf,
}

/// The programs of the newest version that is installed.
fn postgres() -> PathBuf {
    let version = |path: &Path| path.file_name()?.to_str()?.parse::<u32>().ok();
    let newest = fs::read_dir(POSTGRES)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|folder| folder.join("bin/postgres").exists())
        .max_by_key(|folder| version(folder));
    let newest = newest.expect("PostgreSQL is installed: apt-get install postgresql");
    newest.join("bin")
}

impl Database {
    fn of(folder: &Path) -> Self {
        // Ours, as whoever made it.
        let owner = fs::metadata(folder).expect("it was just made").uid();
        Self {
            root: owner == 0,
            folder: folder.into(),
            programs: postgres(),
        }
    }

    fn give(&self, path: &Path) {
        if self.root {
            run("chown", Command::new("chown").arg("postgres:").arg(path));
        }
    }

    /// `setpriv` becomes the program, so the process id is the program's.
    fn command(&self, program: &str) -> Command {
        let program = self.programs.join(program);
        let mut command = if self.root {
            let mut command = Command::new("setpriv");
            command
                .args(["--reuid=postgres", "--regid=postgres", "--clear-groups"])
                .arg(program);
            command
        } else {
            Command::new(program)
        };
        command.current_dir(&self.folder);
        command
    }
}

fn run(name: &str, command: &mut Command) {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{name} cannot be started: {error}"));
    assert!(
        output.status.success(),
        "{name} ended {}:\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

fn key() -> KeyPair {
    KeyPair::generate().expect("a key can be made")
}

fn named(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name = named(name);
    params.key_usages = vec![
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::CrlSign,
    ];
    params
}

/// An extension with a `UTF8String` of less than 128 bytes.
fn utf8(oid: &[u64], text: &str) -> CustomExtension {
    const UTF8_STRING: u8 = 0x0c;
    let length = u8::try_from(text.len()).expect("the text is short");
    let content = [&[UTF8_STRING, length], text.as_bytes()].concat();
    CustomExtension::from_oid_content(oid, content)
}
