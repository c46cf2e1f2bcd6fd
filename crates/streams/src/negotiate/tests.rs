use super::*;

fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
    let pair = |(name, value): &(&'static str, &'static str)| {
        (
            HeaderName::from_bytes(name.as_bytes()).unwrap(),
            HeaderValue::from_static(value),
        )
    };
    let mut map = HeaderMap::new();
    lines
        .iter()
        .map(pair)
        .for_each(|(name, value)| _ = map.append(name, value));
    map
}

fn spdy_request(versions: &[&'static str]) -> HeaderMap {
    let mut lines = vec![
        ("Connection", "keep-alive, Upgrade"),
        ("Upgrade", "SPDY/3.1"),
    ];
    lines.extend(versions.iter().map(|v| ("X-Stream-Protocol-Version", *v)));
    headers(&lines)
}

fn websocket_request(protocols: &[&'static str]) -> HeaderMap {
    let mut lines = vec![
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        // The key and the answer to it are RFC 6455's own example.
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    lines.extend(protocols.iter().map(|p| ("Sec-WebSocket-Protocol", *p)));
    headers(&lines)
}

#[test]
fn spdy_takes_the_clients_first_version_that_is_spoken_here_over_all_header_lines() {
    let kubectl = [
        "v5.channel.k8s.io",
        "v4.channel.k8s.io",
        "v3.channel.k8s.io",
        "channel.k8s.io",
    ];
    let accepted = remote(&spdy_request(&kubectl)).unwrap();
    assert_eq!(accepted.protocol, Remote::Spdy(Version::V4));
    let response = accepted.response;
    assert_eq!(response.status(), 101);
    assert_eq!(response.headers()["upgrade"], "SPDY/3.1");
    assert_eq!(response.headers()["connection"], "Upgrade");
    assert_eq!(
        response.headers()["x-stream-protocol-version"],
        "v4.channel.k8s.io"
    );

    let one_line = remote(&spdy_request(&["v2.channel.k8s.io, v4.channel.k8s.io"])).unwrap();
    assert_eq!(
        one_line.protocol,
        Remote::Spdy(Version::V2),
        "the client's order counts"
    );
}

#[test]
fn an_unknown_spdy_version_is_told_what_is_spoken() {
    let response = remote(&spdy_request(&["v9.channel.k8s.io"]))
        .unwrap_err()
        .response();
    assert_eq!(response.status(), 403);
    let accepted: Vec<_> = response
        .headers()
        .get_all("x-accepted-stream-protocol-versions")
        .iter()
        .collect();
    assert_eq!(
        accepted,
        [
            "v4.channel.k8s.io",
            "v3.channel.k8s.io",
            "v2.channel.k8s.io",
            "channel.k8s.io"
        ]
    );
    assert!(response.body().contains("v9.channel.k8s.io"));
}

#[test]
fn a_request_that_is_no_upgrade_is_a_bad_one() {
    let cases = [
        headers(&[]),
        headers(&[("Connection", "Upgrade"), ("Upgrade", "h2c")]),
        headers(&[
            ("Upgrade", "SPDY/3.1"),
            ("X-Stream-Protocol-Version", "v4.channel.k8s.io"),
        ]),
        spdy_request(&[]),
        spdy_request(&[" , "]),
    ];
    for case in cases {
        assert_eq!(remote(&case).unwrap_err().status, 400, "{case:?}");
        assert_eq!(port_forward(&case).unwrap_err().status, 400, "{case:?}");
    }
}

#[test]
fn websocket_names_its_protocol_and_proves_itself() {
    let accepted = remote(&websocket_request(&["v5.channel.k8s.io"])).unwrap();
    assert_eq!(
        accepted.protocol,
        Remote::WebSocket(Version::V5, Encoding::Binary)
    );
    let headers = accepted.response.headers();
    assert_eq!(
        headers["sec-websocket-accept"],
        "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    );
    assert_eq!(headers["sec-websocket-protocol"], "v5.channel.k8s.io");
    assert_eq!(headers["upgrade"], "websocket");
}

#[test]
fn every_websocket_protocol_of_the_kubelet_is_spoken() {
    let cases = [
        ("v5.channel.k8s.io", Version::V5, Encoding::Binary),
        ("v4.channel.k8s.io", Version::V4, Encoding::Binary),
        ("v4.base64.channel.k8s.io", Version::V4, Encoding::Base64),
        ("channel.k8s.io", Version::V1, Encoding::Binary),
        (
            "base64.channel.k8s.io, v4.channel.k8s.io",
            Version::V1,
            Encoding::Base64,
        ),
        (
            "v4.channel.k8s.io, v5.channel.k8s.io",
            Version::V5,
            Encoding::Binary,
        ),
    ];
    for (offer, version, encoding) in cases {
        let accepted = remote(&websocket_request(&[offer])).unwrap();
        assert_eq!(
            accepted.protocol,
            Remote::WebSocket(version, encoding),
            "{offer}"
        );
    }
    let none = remote(&websocket_request(&[])).unwrap();
    assert_eq!(
        none.protocol,
        Remote::WebSocket(Version::V1, Encoding::Binary)
    );
    assert!(
        !none
            .response
            .headers()
            .contains_key("sec-websocket-protocol")
    );
    assert_eq!(
        remote(&websocket_request(&["v3.channel.k8s.io"]))
            .unwrap_err()
            .status,
        403
    );
}

#[test]
fn port_forward_speaks_its_three_forms() {
    let spdy = port_forward(&spdy_request(&["portforward.k8s.io"])).unwrap();
    assert_eq!(spdy.protocol, Forward::Spdy);
    assert_eq!(
        spdy.response.headers()["x-stream-protocol-version"],
        "portforward.k8s.io"
    );
    let cases = [
        (
            &["v4.channel.k8s.io", "SPDY/3.1+portforward.k8s.io"][..],
            Forward::Tunnel,
        ),
        (&["v4.channel.k8s.io"], Forward::WebSocket(Encoding::Binary)),
        (
            &["v4.base64.channel.k8s.io"],
            Forward::WebSocket(Encoding::Base64),
        ),
        (&[], Forward::WebSocket(Encoding::Binary)),
    ];
    for (offer, protocol) in cases {
        assert_eq!(
            port_forward(&websocket_request(offer)).unwrap().protocol,
            protocol,
            "{offer:?}"
        );
    }
    assert_eq!(
        port_forward(&websocket_request(&["channel.k8s.io"]))
            .unwrap_err()
            .status,
        403
    );
    assert_eq!(
        port_forward(&spdy_request(&["v4.channel.k8s.io"]))
            .unwrap_err()
            .status,
        403
    );
}

#[test]
fn a_broken_websocket_handshake_is_a_bad_request() {
    let mut no_key = websocket_request(&["v5.channel.k8s.io"]);
    no_key.remove(SEC_WEBSOCKET_KEY);
    let mut short_key = no_key.clone();
    short_key.insert(SEC_WEBSOCKET_KEY, HeaderValue::from_static("c2hvcnQ="));
    let mut old = websocket_request(&["v5.channel.k8s.io"]);
    old.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("8"));
    for case in [&no_key, &short_key, &old] {
        assert_eq!(remote(case).unwrap_err().status, 400);
    }
    assert_eq!(
        remote(&old).unwrap_err().response().headers()["sec-websocket-version"],
        "13"
    );
}
