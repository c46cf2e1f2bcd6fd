use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{LocalObjectReference, Secret};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const PLANTED: &str = "planted-s3cret";
const JSON: &str = "kubernetes.io/dockerconfigjson";
const CFG: &str = "kubernetes.io/dockercfg";

fn secret(kind: &str, key: &str, bytes: impl Into<Vec<u8>>) -> Secret {
    Secret {
        type_: Some(kind.into()),
        data: Some([(key.into(), ByteString(bytes.into()))].into()),
        ..Default::default()
    }
}

/// A Secret with these `auths`.
fn config(auths: &Value) -> Secret {
    let text = json!({"auths": auths}).to_string();
    secret(JSON, ".dockerconfigjson", text)
}

fn spec(names: &[&str]) -> PodSpec {
    let named = |name: &&str| LocalObjectReference {
        name: (*name).into(),
    };
    PodSpec {
        image_pull_secrets: Some(names.iter().map(named).collect()),
        ..Default::default()
    }
}

/// Of a pod that names all of these in this order.
fn gathered<const N: usize>(secrets: [(&str, Secret); N]) -> PullCredentials {
    let names: Vec<_> = secrets.iter().map(|(name, _)| *name).collect();
    let secrets = secrets.map(|(name, secret)| (name.to_owned(), Arc::new(secret.into())));
    let inputs = Inputs {
        secrets: secrets.into(),
        ..Inputs::default()
    };
    PullCredentials::of(&spec(&names), &inputs)
}

/// Users, best first.
fn users<'a>(all: &'a PullCredentials, image: &str) -> Vec<&'a str> {
    let found = all.candidates(image).unwrap();
    found.into_iter().map(Credential::username).collect()
}

fn auth(text: &str) -> String {
    STANDARD.encode(text)
}

/// The one entry for `example.io` as user and password, or the flaw it has.
fn entry(entry: &Value) -> Result<(String, String), Flaw> {
    let all = gathered([("s", config(&json!({"example.io": entry})))]);
    match all.candidates("example.io/app").unwrap()[..] {
        [one] => Ok((one.username().into(), one.password().into())),
        _ => Err(*all.unusable()[0].flaws.first().unwrap()),
    }
}

#[test]
fn an_entry_is_user_and_password_and_auth_wins() {
    for written in [
        json!({"username": "foo", "password": "bar", "email": "foo@example.com"}),
        json!({"Username": "foo", "PASSWORD": "bar"}),
        json!({"auth": "Zm9vOmJhcg==", "email": "foo@example.com"}),
        json!({"username": "ping", "password": "pong", "auth": "Zm9vOmJhcg=="}),
        json!({"username": "foo", "password": "bar", "auth": ""}),
        json!({"username": "foo", "password": "bar", "auth": null}),
        // Without padding, and broken into lines.
        json!({"auth": "Zm9vOmJhcg"}),
        json!({"auth": "Zm9vOm\nJhcg==\n"}),
        json!({"auth": "Zm9vOm\r\nJhcg==\r\n"}),
        // Bits behind the end.
        json!({"auth": "Zm9vOmJhcn=="}),
        json!({"auth": auth("foo:bar"), "identitytoken": "eyJ", "registrytoken": "x"}),
    ] {
        let found = entry(&written).unwrap_or_else(|flaw| panic!("{written}: {flaw}"));
        assert_eq!(found, ("foo".into(), "bar".into()), "{written}");
    }
    let colons = entry(&json!({"auth": auth("_json_key:{\"a\": 1}")})).unwrap();
    assert_eq!(colons, ("_json_key".into(), "{\"a\": 1}".into()));
    let token = entry(&json!({"auth": auth("token:")})).unwrap();
    assert_eq!(token, ("token".into(), String::new()));
}

#[test]
fn an_entry_that_cannot_be_read_says_why() {
    for (written, flaw) in [
        (json!({"auth": "pants"}), Flaw::Auth),
        (json!({"auth": auth("pants")}), Flaw::Auth),
        (json!({"auth": "Zm9vOmJhcg== "}), Flaw::Auth),
        (json!({"auth": STANDARD.encode([0xff, b':'])}), Flaw::Auth),
        (json!({"auth": false}), Flaw::Entry),
        (json!({"username": 7, "password": "x"}), Flaw::Entry),
        (json!("foo:bar"), Flaw::Entry),
        (json!([]), Flaw::Entry),
        (json!(null), Flaw::Nobody),
        (json!({}), Flaw::Nobody),
        (json!({"identitytoken": "eyJ"}), Flaw::Nobody),
        (json!({"auth": auth(":")}), Flaw::Nobody),
    ] {
        assert_eq!(entry(&written), Err(flaw), "{written}");
    }
}

#[test]
fn both_types_of_secret_are_read_and_no_other() {
    let entry = json!({"example.io": {"auth": auth("me:pw")}});
    let auths = json!({"auths": entry, "credsStore": "desktop"}).to_string();
    let entry = entry.to_string();
    for (kind, key, text, expected) in [
        (JSON, ".dockerconfigjson", auths.as_str(), Ok("me")),
        (CFG, ".dockercfg", &entry, Ok("me")),
        (
            JSON,
            ".dockercfg",
            &entry,
            Err(Flaw::Key(".dockerconfigjson")),
        ),
        (CFG, ".dockercfg", "", Err(Flaw::Key(".dockercfg"))),
        (CFG, ".dockercfg", "{", Err(Flaw::Json)),
        (JSON, ".dockerconfigjson", "[]", Err(Flaw::Json)),
        (
            JSON,
            ".dockerconfigjson",
            r#"{"auths":[]}"#,
            Err(Flaw::Json),
        ),
        ("Opaque", ".dockerconfigjson", &auths, Err(Flaw::Type)),
    ] {
        let all = gathered([("s", secret(kind, key, text))]);
        match expected {
            Ok(user) => {
                assert_eq!(users(&all, "example.io/app"), [user], "{kind}");
                assert!(all.warnings().is_empty(), "{:?}", all.warnings());
            }
            Err(flaw) => {
                assert!(users(&all, "example.io/app").is_empty(), "{kind}");
                let unusable = Unusable {
                    secret: "s".into(),
                    flaws: [flaw].into(),
                };
                assert_eq!(all.unusable(), [unusable], "{kind} {text}");
            }
        }
    }
    let empty = gathered([
        ("a", config(&json!({}))),
        ("b", config(&json!(null))),
        ("c", secret(JSON, ".dockerconfigjson", "{}")),
    ]);
    assert!(empty.warnings().is_empty(), "{:?}", empty.warnings());
}

#[test]
fn longer_paths_come_first_and_all_that_cover_an_image_follow() {
    let user = |name: &str| json!({"username": name, "password": "pw"});
    let all = gathered([(
        "s",
        config(&json!({
            "bar.example.com": user("ada"),
            "bar.example.com/pong": user("grace"),
            "https://quay.io/v1/": user("rex"),
            "*.io": user("any"),
            "other.io:5000": user("port"),
        })),
    )]);
    for (image, expected) in [
        ("bar.example.com/pong", &["grace", "ada"][..]),
        ("bar.example.com/pong:1", &["grace", "ada"]),
        ("bar.example.com/ping", &["ada"]),
        ("bar.example.com/pongz", &["grace", "ada"]),
        ("bar.example.com/pong/pang", &["grace", "ada"]),
        ("example.com/pong", &[]),
        ("foo.example.com/pong", &[]),
        ("quay.io/foo/bar", &["rex", "any"]),
        ("other.io:5000/x", &["port"]),
        ("other.io/x", &["any"]),
        // Docker Hub is a host like any other.
        ("pong", &["any"]),
    ] {
        assert_eq!(users(&all, image), expected, "{image}");
    }
    assert!(all.candidates("Not A Name").is_err());
}

#[test]
fn credentials_of_one_registry_come_in_the_order_of_the_pods_list_each_once() {
    let of = |address: &str| {
        let auths = json!({address: {"username": "me", "password": "pw"}});
        Arc::new(config(&auths).into())
    };
    let secrets = [
        ("z".into(), of("https://example.io")),
        ("a".into(), of("example.io/v2/")),
        ("m".into(), of("example.io/team")),
    ];
    let inputs = Inputs {
        secrets: secrets.into(),
        ..Inputs::default()
    };
    let all = PullCredentials::of(&spec(&["z", "a", "m", "z"]), &inputs);
    let found = all.candidates("example.io/team/app").unwrap();
    let names: Vec<_> = found.into_iter().map(Credential::secret).collect();
    assert_eq!(names, ["m", "z", "a"]);
}

#[test]
fn docker_hubs_credentials_are_found_under_their_old_name_if_no_other_covers() {
    let hub =
        |address: &str| gathered([("s", config(&json!({address: {"auth": auth("hub:pw")}})))]);
    let old = hub("https://index.docker.io/v1/");
    for image in [
        "jenkins",
        "google/docker-registry",
        "docker.io/foo/bar",
        "index.docker.io/foo/bar:1",
    ] {
        assert_eq!(users(&old, image), ["hub"], "{image}");
        assert_eq!(users(&hub("docker.io"), image), ["hub"], "{image}");
    }
    for image in [
        "registry.tld/foo/bar",
        "registry:5000/foo/bar",
        "myhostdocker.io/foo/bar",
        "localhost/foo",
    ] {
        assert!(users(&old, image).is_empty(), "{image}");
    }
    // Written without the last slash it is a path, and a path does not count here.
    assert!(users(&hub("https://index.docker.io/v1"), "jenkins").is_empty());
    let both = gathered([(
        "s",
        config(&json!({
            "index.docker.io": {"auth": auth("old:pw")},
            "docker.io/team": {"auth": auth("team:pw")},
        })),
    )]);
    assert_eq!(users(&both, "team/app"), ["team"]);
    assert_eq!(users(&both, "jenkins"), ["old"]);
}

#[test]
fn missing_and_malformed_secrets_are_named_and_stop_nothing() {
    let auths = json!({
        "example.io": {"auth": auth("me:pw")},
        "bad.example.io": {"auth": PLANTED},
        format!("https://me:{PLANTED}@bad host"): {"auth": auth("me:pw")},
    });
    let mut inputs = Inputs::default();
    let mut put = |name: &str, secret: Secret| {
        let secret = Arc::new(secret.into());
        inputs.secrets.insert(name.into(), secret);
    };
    put("half", config(&auths));
    put("tls", secret("kubernetes.io/tls", "tls.key", PLANTED));
    let spec = spec(&["gone", "half", "", "lost", "tls", "gone"]);
    let all = PullCredentials::of(&spec, &inputs);
    assert_eq!(PullCredentials::REASON, "FailedToRetrieveImagePullSecret");
    assert_eq!(all.missing(), ["gone", "lost"]);
    assert_eq!(
        all.warnings(),
        [
            "Unable to retrieve some image pull secrets (gone, lost); attempting to pull the image may not succeed.",
            "Unable to use some image pull secrets (half has an entry for what is no registry address \
             and has an entry whose auth is not base64 of user:password, tls is neither of type \
             kubernetes.io/dockerconfigjson nor kubernetes.io/dockercfg); attempting to pull the image \
             may not succeed.",
        ]
    );
    assert_eq!(users(&all, "example.io/app"), ["me"]);
    assert!(users(&all, "public.example.io/app").is_empty());
}

#[test]
fn nothing_of_a_secret_is_shown() {
    fn wiped<T: ZeroizeOnDrop>(_: &T) {}
    let auths = json!({
        format!("me:{PLANTED}@example.io/{PLANTED}"): {"auth": auth(&format!("{PLANTED}:{PLANTED}"))},
        "bad.io": {"auth": PLANTED},
        PLANTED: {"username": 7},
        "other.io": PLANTED,
        "nobody.io": {"identitytoken": PLANTED},
    });
    let all = gathered([
        ("s", config(&auths)),
        ("t", secret(CFG, ".dockercfg", PLANTED)),
    ]);
    let image = format!("example.io/{PLANTED}");
    let found = all.candidates(&image).unwrap();
    assert_eq!(found[0].password(), PLANTED);
    wiped(found[0]);
    let shown = format!("{all:?} {found:?} {:?}", all.warnings());
    assert!(shown.contains("Credential(of s, hidden)"), "{shown}");
    assert!(!shown.contains("planted"), "{shown}");
    assert!(!shown.contains(&auth(PLANTED)[..12]), "{shown}");
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(
        bytes in prop::collection::vec(any::<u8>(), 0..80),
        json in any::<bool>(),
        image in "[a-z./:*@-]{0,20}|.*",
    ) {
        let of = if json { secret(JSON, ".dockerconfigjson", bytes) } else { secret(CFG, ".dockercfg", bytes) };
        let all = gathered([("s", of)]);
        let _ = (all.candidates(&image), all.warnings(), format!("{all:?}"));
    }

    #[test]
    fn any_address_and_any_entry_are_read_or_refused(
        address in "(https?://)?[a-z0-9.*:@/%?#\\[\\]-]{0,30}|.*",
        auth in "[A-Za-z0-9+/=\r\n]{0,24}|.*",
        user in ".*",
        image in "[a-z0-9.]{1,8}(:[0-9]{1,4})?/[a-z/]{1,12}|.*",
    ) {
        let entry = json!({&address: {"auth": auth, "username": user, "password": user}});
        let all = gathered([("s", config(&entry))]);
        // One entry is either used or named.
        let used = all.by_location.values().flatten().count();
        prop_assert_eq!(used + all.warnings().len(), 1);
        let _ = all.candidates(&image);
    }

    #[test]
    fn what_a_tool_writes_is_what_a_pull_gets(user in "[^:]{1,20}", password in ".{0,40}") {
        let written = json!({"auth": auth(&format!("{user}:{password}"))});
        prop_assert_eq!(entry(&written), Ok((user, password)));
    }
}
