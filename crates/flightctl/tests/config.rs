//! The configuration as users write it, right and wrong.

use std::time::Duration;

use clap::Parser;
use vk_flightctl::client::Tls;
use vk_flightctl::config::cli::Cli;
use vk_flightctl::config::{Config, Environment};

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
    let args = ["vk-flightctl-provider", "--config", file].into_iter().chain(flags.iter().copied());
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
    let file = format!("{HEAD}nodeName: from-file\nlogging: {{level: warn}}\nflightctl: {{url: https://file}}\n");
    let mut environment = environment();
    let of_file = load(&file, &environment, &[]).unwrap();
    assert_eq!((of_file.rules.node_name.as_str(), of_file.log_level.as_str()), ("from-file", "warn"));
    assert_eq!(of_file.url, "https://fc.example.com/");
    environment.node_name = Some("from-env".into());
    environment.log_level = Some("debug".into());
    let of_env = load(&file, &environment, &[]).unwrap();
    assert_eq!((of_env.rules.node_name.as_str(), of_env.log_level.as_str()), ("from-env", "debug"));
    let of_flag = load(&file, &environment, &["--node-name", "from-flag", "--log-level", "trace"]).unwrap();
    assert_eq!((of_flag.rules.node_name.as_str(), of_flag.log_level.as_str()), ("from-flag", "trace"));
}

#[test]
fn the_files_of_the_repository_are_valid() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../config");
    let quickstart = std::fs::read_to_string(format!("{folder}/quickstart.yaml")).unwrap();
    assert!(load(&quickstart, &environment(), &[]).unwrap().rules.taints.is_empty());
    let deployment = std::fs::read_to_string(format!("{folder}/deployment.yaml")).unwrap();
    let (_, tail) = deployment.split_once("config.yaml: |\n").unwrap();
    let (embedded, _) = tail.split_once("---").unwrap();
    let body: String = embedded.lines().map(|l| format!("{}\n", l.strip_prefix("    ").unwrap_or(l))).collect();
    load(&body, &environment(), &[]).unwrap();
}

#[test]
fn an_unknown_key_is_told_with_its_line_and_the_likely_one() {
    let said = refused("nodeNaem: x\n");
    assert!(said.contains("config.yaml") && said.contains("nodeNaem"), "{said}");
    assert!(said.contains("line 3") || said.contains(":3"), "{said}");
    assert!(said.contains("did you mean `nodeName`"), "{said}");
}

#[test]
fn what_cannot_be_used_is_named_with_its_remedy() {
    for (body, key) in [
        ("nodeName: Not_A_Name\n", "nodeName"),
        ("taints: [nonsense]\n", "taints"),
        ("capacity: {cpu: many}\n", "capacity.cpu"),
        ("statusPollInterval: 1s\n", "statusPollInterval"),
        ("statusPollInterval: soon\n", "30s"),
        ("listen: here\n", "listen"),
        ("flightctl: {requestsPerMinute: 0}\n", "requestsPerMinute"),
        ("fleets: [{name: a, selector: 'x in'}]\n", "fleets[0].selector"),
        ("fleets: [{name: a, selector: ''}]\n", "fleets[0].selector"),
        ("fleets: [{name: A_b, selector: x=y}]\n", "fleets[0].name"),
        ("fleets: [{name: a, selector: x=y}, {name: a, selector: x=z}]\n", "fleets[1].name"),
        ("fleets: [{name: a, selector: x=y}, {name: b, selector: x=y}]\n", "fleets[1].selector"),
        ("fleets: [{name: a, selector: x=y, nodes: perDevice}]\n", "fleets[0].nodes"),
        ("nodeName: [\n", "config.yaml"),
        ("nodeName: a\nnodeName: b\n", "config.yaml"),
    ] {
        let said = refused(body);
        assert!(said.contains(key), "{body}: {said}");
    }
    let said = load("kind: ProviderConfig\n", &environment(), &[]).unwrap_err();
    assert!(said.contains("vk-flightctl.io/v1alpha1"), "{said}");
    assert!(load("", &environment(), &[]).unwrap_err().contains("is empty"));
}

#[test]
fn what_is_missing_is_named() {
    let nothing = Environment::default();
    let cli = Cli::parse_from(["vk-flightctl-provider"]);
    let said = Config::load(&cli, &nothing).unwrap_err().to_string();
    assert!(said.contains("FLIGHTCTL_API_URL"), "{said}");
    let url_only = Environment { auth_token: None, ..environment() };
    let said = Config::load(&cli, &url_only).unwrap_err().to_string();
    assert!(said.contains("FLIGHTCTL_AUTH_TOKEN"), "{said}");
    let bad_url = Environment { api_url: Some("fc.example.com".into()), ..environment() };
    let said = Config::load(&cli, &bad_url).unwrap_err().to_string();
    assert!(said.contains("https://flightctl.example.com"), "{said}");
    let said = Config::load(&Cli::parse_from(["x", "--config", "/nowhere.yaml"]), &environment())
        .unwrap_err()
        .to_string();
    assert!(said.contains("/nowhere.yaml"), "{said}");
}

#[test]
fn insecure_tls_is_only_ever_asked_for() {
    let asked = Environment { insecure_tls: Some("true".into()), ..environment() };
    let cli = Cli::parse_from(["vk-flightctl-provider"]);
    assert_eq!(Config::load(&cli, &asked).unwrap().tls, Tls::Insecure);
    let odd = Environment { insecure_tls: Some("yes please".into()), ..environment() };
    assert!(Config::load(&cli, &odd).unwrap_err().to_string().contains("FLIGHTCTL_INSECURE_TLS"));
}
