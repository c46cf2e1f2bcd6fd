//! Variables of services: the cases of `pkg/kubelet/envvars` and of
//! `TestMakeEnvironmentVariables`.

use super::super::services::variables;
use super::*;

fn all(case: Case) -> Case {
    case.service("default", "kubernetes", "1.2.3.1", 8081)
        .service("test1", "test", "1.2.3.3", 8083)
        .service("test2", "kubernetes", "1.2.3.4", 8084)
        .service("test2", "test", "1.2.3.5", 8085)
        .service("test2", "test", "None", 8085)
        .service("test2", "test", "", 8085)
        .service("default", "not-special", "1.2.3.8", 8088)
        .service("default", "not-special", "None", 8088)
        .service("default", "not-special", "", 8088)
}

/// The seven variables of a service with one TCP port.
fn seven(name: &str, address: &str, port: u16) -> Vec<(String, String)> {
    let link = format!("{name}_PORT_{port}_TCP");
    let url = format!("tcp://{address}:{port}");
    vec![
        (format!("{name}_PORT"), url.clone()),
        (link.clone(), url),
        (format!("{link}_ADDR"), address.into()),
        (format!("{link}_PORT"), port.to_string()),
        (format!("{link}_PROTO"), "tcp".into()),
        (format!("{name}_SERVICE_HOST"), address.into()),
        (format!("{name}_SERVICE_PORT"), port.to_string()),
    ]
}

#[test]
fn a_pod_sees_the_master_always_and_its_namespace_with_links() {
    let master = seven("KUBERNETES", "1.2.3.1", 8081);
    let linked = |name, address, port| [master.clone(), seven(name, address, port)].concat();
    for (namespace, links, wanted) in [
        ("test1", false, master.clone()),
        ("test1", true, linked("TEST", "1.2.3.3", 8083)),
        ("test2", false, master.clone()),
        (
            "test2",
            true,
            [
                seven("KUBERNETES", "1.2.3.4", 8084),
                seven("TEST", "1.2.3.5", 8085),
            ]
            .concat(),
        ),
        ("default", false, master.clone()),
        ("default", true, linked("NOT_SPECIAL", "1.2.3.8", 8088)),
    ] {
        let mut case = all(case(namespace, links, json!({})));
        assert_eq!(case.pairs(), wanted, "{namespace}, {links}");
        case.inputs.services.reverse();
        assert_eq!(
            case.pairs(),
            wanted,
            "{namespace}, {links}, other way round"
        );
        if links {
            case.pod.spec.as_mut().unwrap().enable_service_links = None;
            assert_eq!(case.pairs(), wanted, "{namespace}, links by default");
        }
    }
}

#[test]
fn every_port_protocol_and_family_makes_the_kubelets_variables() {
    let service = |name: &str, address: &str, ports: Value| {
        read(json!({
            "metadata": {"namespace": "n", "name": name},
            "spec": {"clusterIP": address, "ports": ports},
        }))
    };
    let services = [
        service(
            "foo-bar",
            "1.2.3.4",
            json!([{"port": 8080, "protocol": "TCP"}]),
        ),
        service(
            "abc-123",
            "5.6.7.8",
            json!([{"name": "u-d-p", "port": 8081, "protocol": "UDP"},
                   {"name": "t-c-p", "port": 8081, "protocol": "TCP"}]),
        ),
        service(
            "q-u-u-x",
            "9.8.7.6",
            json!([{"port": 8082}, {"name": "8083", "port": 8083}]),
        ),
        service("none", "None", json!([{"port": 8082}])),
        service("empty", "", json!([{"port": 8082}])),
        service(
            "super-ipv6",
            "2001:DB8::",
            json!([{"name": "u-d-p", "port": 8084, "protocol": "UDP"}]),
        ),
        service(
            "sctp-1",
            "1.2.3.4",
            json!([{"port": 777, "protocol": "SCTP"}]),
        ),
    ];
    let made: Vec<_> = variables(&services, "n", true, None).into_iter().collect();
    let mut wanted = owned(&[
        ("FOO_BAR_SERVICE_HOST", "1.2.3.4"),
        ("FOO_BAR_SERVICE_PORT", "8080"),
        ("FOO_BAR_PORT", "tcp://1.2.3.4:8080"),
        ("FOO_BAR_PORT_8080_TCP", "tcp://1.2.3.4:8080"),
        ("FOO_BAR_PORT_8080_TCP_PROTO", "tcp"),
        ("FOO_BAR_PORT_8080_TCP_PORT", "8080"),
        ("FOO_BAR_PORT_8080_TCP_ADDR", "1.2.3.4"),
        ("ABC_123_SERVICE_HOST", "5.6.7.8"),
        ("ABC_123_SERVICE_PORT", "8081"),
        ("ABC_123_SERVICE_PORT_U_D_P", "8081"),
        ("ABC_123_SERVICE_PORT_T_C_P", "8081"),
        ("ABC_123_PORT", "udp://5.6.7.8:8081"),
        ("ABC_123_PORT_8081_UDP", "udp://5.6.7.8:8081"),
        ("ABC_123_PORT_8081_UDP_PROTO", "udp"),
        ("ABC_123_PORT_8081_UDP_PORT", "8081"),
        ("ABC_123_PORT_8081_UDP_ADDR", "5.6.7.8"),
        ("ABC_123_PORT_8081_TCP", "tcp://5.6.7.8:8081"),
        ("ABC_123_PORT_8081_TCP_PROTO", "tcp"),
        ("ABC_123_PORT_8081_TCP_PORT", "8081"),
        ("ABC_123_PORT_8081_TCP_ADDR", "5.6.7.8"),
        ("Q_U_U_X_SERVICE_HOST", "9.8.7.6"),
        ("Q_U_U_X_SERVICE_PORT", "8082"),
        ("Q_U_U_X_SERVICE_PORT_8083", "8083"),
        ("Q_U_U_X_PORT", "tcp://9.8.7.6:8082"),
        ("Q_U_U_X_PORT_8082_TCP", "tcp://9.8.7.6:8082"),
        ("Q_U_U_X_PORT_8082_TCP_PROTO", "tcp"),
        ("Q_U_U_X_PORT_8082_TCP_PORT", "8082"),
        ("Q_U_U_X_PORT_8082_TCP_ADDR", "9.8.7.6"),
        ("Q_U_U_X_PORT_8083_TCP", "tcp://9.8.7.6:8083"),
        ("Q_U_U_X_PORT_8083_TCP_PROTO", "tcp"),
        ("Q_U_U_X_PORT_8083_TCP_PORT", "8083"),
        ("Q_U_U_X_PORT_8083_TCP_ADDR", "9.8.7.6"),
        ("SUPER_IPV6_SERVICE_HOST", "2001:DB8::"),
        ("SUPER_IPV6_SERVICE_PORT", "8084"),
        ("SUPER_IPV6_SERVICE_PORT_U_D_P", "8084"),
        ("SUPER_IPV6_PORT", "udp://[2001:DB8::]:8084"),
        ("SUPER_IPV6_PORT_8084_UDP", "udp://[2001:DB8::]:8084"),
        ("SUPER_IPV6_PORT_8084_UDP_PROTO", "udp"),
        ("SUPER_IPV6_PORT_8084_UDP_PORT", "8084"),
        ("SUPER_IPV6_PORT_8084_UDP_ADDR", "2001:DB8::"),
        ("SCTP_1_SERVICE_HOST", "1.2.3.4"),
        ("SCTP_1_SERVICE_PORT", "777"),
        ("SCTP_1_PORT", "sctp://1.2.3.4:777"),
        ("SCTP_1_PORT_777_SCTP", "sctp://1.2.3.4:777"),
        ("SCTP_1_PORT_777_SCTP_PROTO", "sctp"),
        ("SCTP_1_PORT_777_SCTP_PORT", "777"),
        ("SCTP_1_PORT_777_SCTP_ADDR", "1.2.3.4"),
    ]);
    wanted.sort();
    assert_eq!(made, wanted);
}

#[test]
fn outside_the_cluster_the_api_server_is_where_configuration_says() {
    let mut case = all(case(
        "test1",
        false,
        json!({"env": [
            {"name": "URL", "value": "https://$(KUBERNETES_SERVICE_HOST):$(KUBERNETES_SERVICE_PORT)"},
        ]}),
    ));
    case.inputs.api_server = Some(ApiServer {
        host: "api.example.com".into(),
        port: 6443,
    });
    let mut wanted = owned(&[("URL", "https://api.example.com:6443")]);
    wanted.extend(seven("KUBERNETES", "api.example.com", 6443));
    wanted.extend(owned(&[("KUBERNETES_SERVICE_PORT_HTTPS", "6443")]));
    assert_eq!(case.pairs(), wanted);
    case.inputs.services.clear();
    assert_eq!(case.pairs(), wanted, "with no service known");
}

#[test]
fn what_a_container_declares_goes_before_its_services() {
    let case = all(case(
        "test1",
        true,
        json!({"env": [
            {"name": "TEST_SERVICE_HOST", "value": "mine"},
            {"name": "SEEN", "value": "$(TEST_SERVICE_HOST):$(TEST_SERVICE_PORT)"},
        ]}),
    ));
    let got = case.run().unwrap();
    assert_eq!(got.get("TEST_SERVICE_HOST"), Some("mine"));
    assert_eq!(got.get("SEEN"), Some("mine:8083"));
    let named = got
        .variables()
        .iter()
        .filter(|v| v.name == "TEST_SERVICE_HOST");
    assert_eq!(named.count(), 1);
}
