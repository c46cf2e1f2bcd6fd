//! The kubelet API of the nodes.

use virtual_kubelet::{ApiSettings, ClientCa, ServingCertificate};
use vk_flightctl::config::Environment;

use super::{HEAD, environment, load, refused};

/// The environment of a pod that is told its address.
fn in_a_pod() -> Environment {
    Environment {
        pod_ip: Some("10.0.0.7".into()),
        ..environment()
    }
}

fn api(body: &str, environment: &Environment) -> Option<ApiSettings> {
    let config = load(&format!("{HEAD}{body}"), environment, &[]);
    config.unwrap().kubelet_api
}

#[test]
fn nodes_have_an_api_where_the_process_knows_its_address_and_nobody_turned_it_off() {
    let pod = Some([10, 0, 0, 7].into());
    let api_at = |body: &str, environment: &Environment| api(body, environment)?.address;
    assert_eq!(api("", &environment()), None, "outside");
    assert_eq!(api_at("", &in_a_pod()), pod);
    assert_eq!(api("kubeletApi: {enabled: false}\n", &in_a_pod()), None);
    assert_eq!(api_at("kubeletApi: {enabled: true}\n", &in_a_pod()), pod);
    let named = "kubeletApi: {address: 192.0.2.1}\n";
    let address = Some([192, 0, 2, 1].into());
    assert_eq!(api_at(named, &environment()), address);
    assert_eq!(api_at(named, &in_a_pod()), address, "another way in");
    let asked = refused("kubeletApi: {enabled: true}\n");
    assert!(
        asked.contains("config.yaml:3: kubeletApi.enabled: ") && asked.contains("POD_IP"),
        "{asked}"
    );
    let odd = Environment {
        pod_ip: Some("here".into()),
        ..environment()
    };
    let said = load(HEAD, &odd, &[]).unwrap_err();
    assert!(
        said.starts_with("POD_IP: \"here\" is no IP address"),
        "{said}"
    );
}

#[test]
fn the_api_listens_everywhere_self_signed_for_the_clusters_clients_unless_told_otherwise() {
    let given = api("", &in_a_pod()).unwrap();
    let all = ApiSettings {
        bind: [0, 0, 0, 0].into(),
        address: given.address,
        ..ApiSettings::new(10_250..=10_349)
    };
    assert_eq!(given, all);
    let six = api("kubeletApi: {address: 'fd00::1'}\n", &environment());
    assert_eq!(six.unwrap().bind.to_string(), "::");

    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["10.0.0.7".to_owned()]).unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let certificate = write("tls.crt", &made.cert.pem());
    let key = write("tls.key", &made.signing_key.serialize_pem());
    let body = format!(
        "kubeletApi:\n  bindAddress: 127.0.0.1\n  ports: 11000\n  maxConnections: 7\n  certFile: {0}\n  keyFile: {1}\n  clientCA: {0}\n",
        certificate.display(),
        key.display()
    );
    let given = api(&body, &in_a_pod()).unwrap();
    let all = ApiSettings {
        bind: [127, 0, 0, 1].into(),
        address: Some([10, 0, 0, 7].into()),
        client_ca: ClientCa::File(certificate.clone()),
        certificate: ServingCertificate::Files { certificate, key },
        connections: 7,
        ..ApiSettings::new(11_000..=11_000)
    };
    assert_eq!(given, all);
    let body = "kubeletApi: {certificate: requested, clientCA: none, ports: 0}\n";
    let given = api(body, &in_a_pod()).unwrap();
    assert_eq!(given.certificate, ServingCertificate::Requested);
    assert_eq!(given.client_ca, ClientCa::Nobody);
    assert_eq!(given.ports, 0..=0);
}

#[test]
fn an_api_that_cannot_be_is_told_with_its_line_and_remedy_even_while_it_is_off() {
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["x".to_owned()]).unwrap();
    let certificate = folder.path().join("tls.crt");
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    let certificate = certificate.display();
    let wrong_key = format!("certFile: {certificate}, keyFile: {certificate}");
    for (body, words) in [
        ("enabeld: true", "did you mean `enabled`?"),
        (
            "address: 0.0.0.0",
            "no address that the API server can dial",
        ),
        (
            "address: node-1",
            "kubeletApi.address: \"node-1\" is no IP address",
        ),
        ("bindAddress: all", "kubeletApi.bindAddress"),
        ("ports: many", "write for example \"10250-10349\""),
        ("ports: 10300-10250", "is no range of ports"),
        (
            "certificate: selfsigned",
            "neither selfSigned nor requested",
        ),
        ("certFile: /none", "set kubeletApi.keyFile as well"),
        ("keyFile: /none", "set kubeletApi.certFile as well"),
        ("certFile: /none, keyFile: /none", "/none: No such file"),
        (&*wrong_key, "holds no private key in PEM"),
        (
            "certFile: /none, keyFile: /none, certificate: requested",
            "exclude each other",
        ),
        ("clientCA: clutser", "did you mean `cluster`?"),
        ("clientCA: /dev/null", "no certificate in PEM"),
        ("maxConnections: 0", "write at least 1"),
    ] {
        let said = refused(&format!("kubeletApi: {{enabled: false, {body}}}\n"));
        assert!(said.contains(words), "{body}: {said}");
        assert!(said.contains("config.yaml:3"), "a place: {body}: {said}");
    }
}

#[test]
fn ports_that_are_too_few_for_the_nodes_are_told() {
    let fleets = "fleets: [{name: a, selector: x=y}, {name: b, selector: x=z}]\n";
    let of = |ports: &str| format!("{fleets}kubeletApi: {{ports: {ports}}}\n");
    let said = refused(&of("10250-10251"));
    assert!(
        said.contains("config.yaml:4: kubeletApi.ports: ")
            && said.contains("has room for 2, and nodeName and fleets make 3 nodes"),
        "{said}"
    );
    for enough in ["10250-10252", "0"] {
        assert!(api(&of(enough), &in_a_pod()).is_some(), "{enough}");
    }
}
