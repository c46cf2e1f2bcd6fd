//! The configuration as users write it, right and wrong.

#![allow(clippy::unwrap_used, reason = "a test may fail here")]

#[path = "config/kubelet_api.rs"]
mod kubelet_api;

use std::time::Duration;

use clap::Parser;
use vk_flightctl::client::Tls;
use vk_flightctl::config::cli::Cli;
use vk_flightctl::config::{ClusterAgents, Config, Environment, OnShutdown};

const HEAD: &str = "apiVersion: vk-flightctl.io/v1alpha1\nkind: ProviderConfig\n";

fn environment() -> Environment {
    Environment {
        api_url: Some("https://fc.example.com".into()),
        auth_token: Some("token".into()),
        ..Environment::default()
    }
}

fn load(body: &str, environment: &Environment, flags: &[&str]) -> Result<Config, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.yaml");
    std::fs::write(&path, body).unwrap();
    let file = path.to_str().unwrap();
    let args = ["vk-flightctl-provider", "--config", file]
        .into_iter()
        .chain(flags.iter().copied());
    Config::load(&Cli::parse_from(args), environment).map_err(|e| e.to_string())
}

fn refused(body: &str) -> String {
    load(&format!("{HEAD}{body}"), &environment(), &[]).unwrap_err()
}

#[test]
fn the_environment_alone_is_enough() {
    let config = Config::load(&Cli::parse_from(["vk-flightctl-provider"]), &environment()).unwrap();
    assert_eq!(config.url, "https://fc.example.com/");
    assert_eq!(config.rules.node_name, "vk-flightctl-node");
    assert_eq!(config.rules.taints[0].key, "virtual-kubelet.io/provider");
    assert_eq!(config.poll, Duration::from_secs(30));
    assert_eq!(config.tls, Tls::System);
}

#[test]
fn flag_beats_environment_beats_file() {
    let file = format!(
        "{HEAD}nodeName: from-file\nlogging: {{level: warn}}\nflightctl: {{url: https://file}}\n"
    );
    let mut environment = environment();
    let of_file = load(&file, &environment, &[]).unwrap();
    assert_eq!(
        (of_file.rules.node_name.as_str(), of_file.log_level.as_str()),
        ("from-file", "warn")
    );
    assert_eq!(of_file.url, "https://fc.example.com/");
    environment.node_name = Some("from-env".into());
    environment.log_level = Some("debug".into());
    let of_env = load(&file, &environment, &[]).unwrap();
    assert_eq!(
        (of_env.rules.node_name.as_str(), of_env.log_level.as_str()),
        ("from-env", "debug")
    );
    let of_flag = load(
        &file,
        &environment,
        &["--node-name", "from-flag", "--log-level", "trace"],
    )
    .unwrap();
    assert_eq!(
        (of_flag.rules.node_name.as_str(), of_flag.log_level.as_str()),
        ("from-flag", "trace")
    );
}

#[test]
fn nodes_are_kept_unless_a_drain_is_asked_for_by_flag_environment_or_file() {
    let minutes = |minutes: u64| OnShutdown::Drain {
        within: Duration::from_secs(60 * minutes),
    };
    let load = |body: &str, variable: Option<&str>, flags: &[&str]| {
        let mut environment = environment();
        environment.on_shutdown = variable.map(Into::into);
        load(&format!("{HEAD}{body}"), &environment, flags).map(|config| config.on_shutdown)
    };
    assert_eq!(load("", None, &[]).unwrap(), OnShutdown::Keep);
    assert_eq!(load("onShutdown: drain\n", None, &[]).unwrap(), minutes(5));
    let body = "onShutdown: drain\ndrainTimeout: 20m\n";
    assert_eq!(load(body, None, &[]).unwrap(), minutes(20));
    assert_eq!(load(body, Some("keep"), &[]).unwrap(), OnShutdown::Keep);
    let flags = ["--on-shutdown", "drain"];
    assert_eq!(load(body, Some("keep"), &flags).unwrap(), minutes(20));
    let said = load("", Some("vanish"), &[]).unwrap_err();
    assert!(
        said.contains("ON_SHUTDOWN") && said.contains("keep nor drain"),
        "{said}"
    );
}

#[test]
fn the_files_of_the_repository_are_valid() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../config");
    let quickstart = std::fs::read_to_string(format!("{folder}/quickstart.yaml")).unwrap();
    assert!(
        load(&quickstart, &environment(), &[])
            .unwrap()
            .rules
            .taints
            .is_empty()
    );
    let deployment = std::fs::read_to_string(format!("{folder}/deployment.yaml")).unwrap();
    let (_, tail) = deployment.split_once("config.yaml: |\n").unwrap();
    let (embedded, _) = tail.split_once("---").unwrap();
    let body: String = embedded
        .lines()
        .map(|l| format!("{}\n", l.strip_prefix("    ").unwrap_or(l)))
        .collect();
    load(&body, &environment(), &[]).unwrap();
}

#[test]
fn an_unknown_key_is_told_with_its_line_and_the_likely_one() {
    let said = refused("nodeNaem: x\n");
    assert!(
        said.contains("config.yaml") && said.contains("nodeNaem"),
        "{said}"
    );
    assert!(said.contains("config.yaml:3: "), "{said}");
    assert!(said.contains("did you mean `nodeName`"), "{said}");
}

#[test]
fn what_cannot_be_used_is_named_with_its_remedy() {
    for (body, key) in [
        ("nodeName: Not_A_Name\n", "nodeName"),
        ("taints: [nonsense]\n", "taints"),
        ("capacity: {cpu: many}\n", "capacity.cpu"),
        ("capacity: {cpus: '4'}\n", "did you mean `cpu`"),
        ("capacity: {memory: -1Gi}\n", "capacity.memory"),
        ("reserve: {pods: 500m}\n", "reserve.pods"),
        ("fleetLabel: '-x-'\n", "fleetLabel"),
        (
            "flightctl: {organization: acme}\n",
            "flightctl.organization",
        ),
        ("fleets: [{name: node, selector: x=y}]\n", "nodeName's"),
        ("fleets: [{selector: x=y}]\n", "`name` is missing"),
        ("statusPollInterval: 1s\n", "statusPollInterval"),
        ("statusPollInterval: soon\n", "30s"),
        ("clusterAgents: never\n", "pending"),
        (
            "statusPollInterval: 99999999999999999999h\n",
            "statusPollInterval",
        ),
        ("listen: here\n", "listen"),
        ("onShutdown: vanish\n", "config.yaml:3: onShutdown"),
        ("drainTimeout: 0s\n", "drainTimeout"),
        ("flightctl: {requestsPerMinute: 0}\n", "requestsPerMinute"),
        (
            "fleets: [{name: a, selector: 'x in'}]\n",
            "fleets[0].selector",
        ),
        ("fleets: [{name: a, selector: ''}]\n", "fleets[0].selector"),
        ("fleets: [{name: A_b, selector: x=y}]\n", "fleets[0].name"),
        (
            "fleets: [{name: a, selector: x=y}, {name: a, selector: x=z}]\n",
            "fleets[1].name",
        ),
        (
            "fleets: [{name: a, selector: x=y}, {name: b, selector: x=y}]\n",
            "fleets[1].selector",
        ),
        (
            "fleets: [{name: a, selector: x=y, nodes: perdevice}]\n",
            "fleets[0].nodes: \"perdevice\" is unknown; did you mean perDevice?",
        ),
        ("placement: stack\n", "placement: \"stack\" is unknown"),
        (
            "onLeave: dran\n",
            "onLeave: \"dran\" is unknown; did you mean drain?",
        ),
        (
            "unplaceable: {rejectAfter: soon}\n",
            "unplaceable.rejectAfter: \"soon\" is no time above 0",
        ),
        (
            "fleets: [{name: a, selector: x=y, unplaceable: {rejectAfter: 0s}}]\n",
            "fleets[0].unplaceable.rejectAfter",
        ),
        ("nodeName: [\n", "config.yaml"),
        (
            "nodeName: a\nnodeName: b\n",
            "config.yaml:4: the key `nodeName` is there twice",
        ),
    ] {
        let said = refused(body);
        assert!(said.contains(key), "{body}: {said}");
        assert!(said.contains("config.yaml:"), "a place: {body}: {said}");
    }
    let said = load("kind: ProviderConfig\n", &environment(), &[]).unwrap_err();
    assert!(said.contains("vk-flightctl.io/v1alpha1"), "{said}");
    assert!(
        load("", &environment(), &[])
            .unwrap_err()
            .contains("is empty")
    );
}

#[test]
fn what_is_missing_is_named() {
    let nothing = Environment::default();
    let cli = Cli::parse_from(["vk-flightctl-provider"]);
    let said = Config::load(&cli, &nothing).unwrap_err().to_string();
    assert!(said.contains("FLIGHTCTL_API_URL"), "{said}");
    let url_only = Environment {
        auth_token: None,
        ..environment()
    };
    let said = Config::load(&cli, &url_only).unwrap_err().to_string();
    assert!(said.contains("FLIGHTCTL_AUTH_TOKEN"), "{said}");
    let bad_url = Environment {
        api_url: Some("fc.example.com".into()),
        ..environment()
    };
    let said = Config::load(&cli, &bad_url).unwrap_err().to_string();
    assert!(said.contains("https://flightctl.example.com"), "{said}");
    let said = Config::load(
        &Cli::parse_from(["x", "--config", "/nowhere.yaml"]),
        &environment(),
    )
    .unwrap_err()
    .to_string();
    assert!(said.contains("/nowhere.yaml"), "{said}");
}

#[test]
fn insecure_tls_is_only_ever_asked_for() {
    let asked = Environment {
        insecure_tls: Some("true".into()),
        ..environment()
    };
    let cli = Cli::parse_from(["vk-flightctl-provider"]);
    assert_eq!(Config::load(&cli, &asked).unwrap().tls, Tls::Insecure);
    let odd = Environment {
        insecure_tls: Some("yes please".into()),
        ..environment()
    };
    assert!(
        Config::load(&cli, &odd)
            .unwrap_err()
            .to_string()
            .contains("FLIGHTCTL_INSECURE_TLS")
    );
}

#[test]
fn a_wrong_value_is_told_with_its_line() {
    let said = refused("fleets:\n- name: a\n  selector: x=y\n- name: b\n  selector: x in\n");
    assert!(
        said.contains("config.yaml:7: fleets[1].selector: "),
        "{said}"
    );
    let flag = load(
        &format!("{HEAD}nodeName: fine\n"),
        &environment(),
        &["--node-name", "Not_A_Name"],
    );
    assert!(flag.unwrap_err().starts_with("--node-name: "));
    let variable = Environment {
        node_name: Some("Not_A_Name".into()),
        ..environment()
    };
    assert!(
        load(HEAD, &variable, &[])
            .unwrap_err()
            .starts_with("NODE_NAME: ")
    );
}

#[test]
fn plain_numbers_are_amounts_and_a_port_is_an_address() {
    let config = load(
        &format!("{HEAD}capacity: {{cpu: 2, pods: 20}}\nlisten: ':9000'\n"),
        &environment(),
        &[],
    )
    .unwrap();
    let assumed = &config.rules.defaults.assumed;
    assert_eq!(
        (
            assumed.get("cpu").show("cpu"),
            assumed.get("pods").show("pods")
        ),
        ("2".into(), "20".into())
    );
    assert_eq!(
        assumed.get("memory").show("memory"),
        "8Gi",
        "the rest stays"
    );
    assert_eq!(config.listen.to_string(), "0.0.0.0:9000");
}

#[test]
fn a_token_is_not_sent_in_the_clear_by_accident() {
    let url = |url: &str| Environment {
        api_url: Some(url.into()),
        ..environment()
    };
    let cli = Cli::parse_from(["vk-flightctl-provider"]);
    let said = Config::load(&cli, &url("http://fc.example.com"))
        .unwrap_err()
        .to_string();
    assert!(
        said.contains("FLIGHTCTL_API_URL") && said.contains("in the clear"),
        "{said}"
    );
    for local in [
        "http://localhost:8080",
        "http://127.0.0.1:8080",
        "http://[::1]:8080",
    ] {
        Config::load(&cli, &url(local)).unwrap();
    }
    let asked = Environment {
        insecure_tls: Some("True".into()),
        ..url("http://fc.example.com")
    };
    Config::load(&cli, &asked).unwrap();
    // As `--from-file` makes a Secret of a file that ends with a line.
    assert_eq!(
        Config::load(&cli, &url("https://fc.example.com\n"))
            .unwrap()
            .url,
        "https://fc.example.com/"
    );
}

#[test]
fn the_cli_of_flight_control_may_have_logged_in_already() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("client.yaml");
    let yaml = "service: {server: 'https://fc.example.com:3443', tls-server-name: api.fc, insecureSkipVerify: false}\n\
                authentication: {access-token: very-secret}\norganization: 00000000-0000-0000-0000-000000000000\n";
    std::fs::write(&path, yaml).unwrap();
    let body = format!("{HEAD}flightctl: {{clientConfig: '{}'}}\n", path.display());
    let config = load(&body, &Environment::default(), &[]).unwrap();
    assert_eq!(config.url, "https://fc.example.com:3443/");
    assert_eq!(
        config.organization.as_deref(),
        Some("00000000-0000-0000-0000-000000000000")
    );
    assert_eq!(
        config.tls,
        Tls::Named {
            server_name: "api.fc".into(),
            trust: Box::new(Tls::System)
        }
    );
    assert!(!format!("{config:?}").contains("very-secret"));

    std::fs::write(
        &path,
        yaml.replace("access-token: very-secret", "access-token: ''"),
    )
    .unwrap();
    let said = load(&body, &Environment::default(), &[]).unwrap_err();
    assert!(said.contains("flightctl login"), "{said}");
    std::fs::write(&path, "service: [very-secret\n").unwrap();
    let said = load(&body, &Environment::default(), &[]).unwrap_err();
    assert!(
        said.contains("client.yaml") && !said.contains("very-secret"),
        "{said}"
    );
}

#[test]
fn there_is_one_way_to_the_token_and_two_are_named() {
    let file = |line: &str| format!("{HEAD}flightctl: {{url: 'https://fc', {line}}}\n");
    let oidc = "oidc: {issuer: 'https://issuer.example', clientId: vk, clientSecretFile: /s}";
    let nothing = Environment::default();
    for (line, told) in [
        ("tokenFile: /t", "the file /t"),
        (
            "serviceAccount: true",
            "the file /var/run/secrets/kubernetes.io/serviceaccount/token",
        ),
        (oidc, "client credentials at https://issuer.example"),
    ] {
        let config = load(&file(line), &nothing, &[]).unwrap();
        assert_eq!(config.token.to_string(), told);
        let said = load(&file(line), &environment(), &[]).unwrap_err();
        let key = line.split(':').next().unwrap();
        assert!(
            said.contains(&format!("FLIGHTCTL_AUTH_TOKEN and flightctl.{key}")),
            "{said}"
        );
    }
    let both = file(&format!("serviceAccount: true, {oidc}"));
    let said = load(&both, &nothing, &[]).unwrap_err();
    assert!(
        said.contains("flightctl.serviceAccount and flightctl.oidc"),
        "{said}"
    );
    let none = load(&file("serviceAccount: false"), &nothing, &[]).unwrap_err();
    assert!(none.contains("flightctl.oidc"), "{none}");
}

#[test]
fn an_issuer_that_cannot_be_asked_is_an_error_of_the_configuration() {
    for (oidc, words) in [
        (
            "issuer: 'http://issuer.example', clientId: vk, clientSecretFile: /s",
            "flightctl.oidc.issuer",
        ),
        (
            "issuer: 'https://issuer.example', clientId: '', clientSecretFile: /s",
            "flightctl.oidc.clientId",
        ),
        (
            "issuer: 'https://issuer.example', clientId: vk",
            "clientSecretFile",
        ),
        (
            "issuer: 'https://issuer.example', clientId: vk, clientSecretFile: /s, caFile: /none",
            "/none",
        ),
        (
            "issuer: 'https://issuer.example', clientId: vk, clientSecret: very-secret",
            "unknown key `clientSecret`",
        ),
    ] {
        let body = format!("{HEAD}flightctl: {{url: 'https://fc', oidc: {{{oidc}}}}}\n");
        let said = load(&body, &Environment::default(), &[]).unwrap_err();
        assert!(said.contains(words), "{said}");
        assert!(!said.contains("very-secret"), "{said}");
    }
}

#[test]
fn the_agents_of_the_clusters_machines_stay_pending_unless_they_are_asked_to_run() {
    let read = |line: &str| {
        let config = load(&format!("{HEAD}{line}"), &environment(), &[]);
        config.unwrap().cluster_agents
    };
    assert_eq!(read(""), ClusterAgents::Pending);
    assert_eq!(read("clusterAgents: pending\n"), ClusterAgents::Pending);
    assert_eq!(read("clusterAgents: run\n"), ClusterAgents::Run);
}

#[test]
fn what_workloads_are_told_of_the_cluster_comes_from_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.crt");
    let made = rcgen::generate_simple_self_signed(["api.example.com".to_owned()]).unwrap();
    std::fs::write(&ca, made.cert.pem()).unwrap();
    let body = format!(
        "{HEAD}workloads:\n  apiServer: https://api.example.com:6443\n  apiServerCA: {}\n  serviceAccountTokens: [shop, front-1]\n",
        ca.display()
    );
    let workloads = load(&body, &environment(), &[]).unwrap().workloads;
    let server = workloads.api_server.unwrap();
    assert_eq!(
        (server.host.as_str(), server.port),
        ("api.example.com", 6443)
    );
    assert_eq!(workloads.api_server_ca, Some(made.cert.pem()));
    let namespaces: Vec<_> = workloads.token_namespaces.iter().collect();
    assert_eq!(namespaces, ["front-1", "shop"]);
    assert!(workloads.privileged_namespaces.is_empty());
    let body = format!("{HEAD}workloads: {{privileged: [edge-system]}}\n");
    let workloads = load(&body, &environment(), &[]).unwrap().workloads;
    assert!(workloads.privileged_namespaces.contains("edge-system"));
    let nothing = load(HEAD, &environment(), &[]).unwrap().workloads;
    assert_eq!(nothing, vk_flightctl::config::Workloads::default());
}

#[test]
fn what_workloads_cannot_be_told_is_an_error_that_says_why() {
    let server = "apiServer: https://api.example.com";
    for (body, words) in [
        (
            "serviceAccountTokens: [shop]",
            "config.yaml:3: workloads.serviceAccountTokens: it is of no use without a way to the API server",
        ),
        (
            "apiServerCA: /none",
            "workloads.apiServerCA: it is of no use",
        ),
        ("apiServer: http://x", "is not https"),
        ("apiServer: x", "write for example https://"),
        (
            &*format!("{server}, serviceAccountTokens: ['*']"),
            "list each one by its name",
        ),
        (
            "privileged: ['*']",
            "config.yaml:3: workloads.privileged: \"*\" is no name of a namespace",
        ),
        (
            &*format!("{server}, apiServerCA: /none"),
            "/none: No such file",
        ),
        (
            &*format!("{server}, apiServerCA: /dev/null"),
            "no certificate in PEM",
        ),
        ("apiserver: https://x", "did you mean `apiServer`?"),
    ] {
        let error = refused(&format!("workloads: {{{body}}}\n"));
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn consoles_are_off_unless_the_file_switches_them_on_for_all_or_a_fleet() {
    let none = load(HEAD, &environment(), &[]).unwrap().consoles;
    assert!(!none.any());
    let all = format!("{HEAD}console: {{enabled: true}}\n");
    assert!(load(&all, &environment(), &[]).unwrap().consoles.enabled);
    let one = format!(
        "{HEAD}fleets:\n- {{name: paris, selector: site=paris, console: {{enabled: true}}}}\n- {{name: rome, selector: site=rome}}\n"
    );
    let one = load(&one, &environment(), &[]).unwrap().consoles;
    assert!(!one.enabled && one.any());
    assert_eq!(one.fleets, [("paris".to_owned(), true)].into());
    let error = refused("console: {enable: true}\n");
    assert!(error.contains("did you mean `enabled`?"), "{error}");
}

#[test]
fn how_devices_are_used_is_said_for_all_and_changed_for_a_fleet() {
    use vk_flightctl::fleet::{Eviction, Nodes, OnLeave, Policy};
    use vk_flightctl::place::Strategy;
    let none = load(HEAD, &environment(), &[]).unwrap().rules;
    assert_eq!(none.policy, Policy::default());
    let body = format!(
        "{HEAD}placement: pack\nonLeave: drain\nunplaceable: {{rejectAfter: 10m}}\nfleets:\n- {{name: paris, selector: site=paris, placement: spread, nodes: perDevice}}\n- {{name: rome, selector: site=rome, onLeave: keep, unplaceable: {{rejectAfter: 1h}}}}\n"
    );
    let rules = load(&body, &environment(), &[]).unwrap().rules;
    let all = Policy {
        nodes: Nodes::PerFleet,
        placement: Strategy::Pack,
        on_leave: OnLeave::Drain,
        eviction: Eviction::Provider,
        reject_after: Some(Duration::from_secs(600)),
    };
    assert_eq!(rules.policy, all);
    assert_eq!(
        rules.fleets[0].policy,
        Policy {
            nodes: Nodes::PerDevice,
            placement: Strategy::Spread,
            ..all
        }
    );
    assert_eq!(
        rules.fleets[1].policy,
        Policy {
            on_leave: OnLeave::Keep,
            reject_after: Some(Duration::from_secs(3600)),
            ..all
        }
    );
}
