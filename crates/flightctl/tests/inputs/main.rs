//! What pods are given, seen in the containers of simulated devices: the backend
//! alone, on the stepped clock, with objects as values; what the configuration says
//! of it, with the whole provider.

#![allow(
    clippy::unwrap_used,
    dead_code,
    unreachable_pub,
    missing_debug_implementations,
    reason = "modules of one test"
)]

mod api_server;
mod bench;
mod leaving;
mod objects;
#[path = "../stage/mod.rs"]
mod stage;

use bench::{Bench, pod};
use objects::{PLANTED, changed, everything, foreign, inputs, map, watching};
use serde_json::json;
use vk_flightctl::items::{DEVICE_LIMIT, ROOT};
use vk_flightctl::mapping::app_name;
use vk_provider::{Backend, BackendError, Inputs, PodChange, PodRequest};

fn app(request: &PodRequest) -> String {
    app_name(&request.key.uid)
}

#[tokio::test(start_paused = true)]
async fn a_pod_has_everything_it_is_given_and_leaves_nothing_behind() {
    let bench = Bench::new().await;
    bench
        .edit(json!([{"op": "add", "path": "/spec/config", "value": [foreign()]}]))
        .await;
    let request = pod("web", everything(), inputs(), PodChange::First);
    bench.ensure(&request).await.unwrap();
    bench.runs(&request, "app", 1).await;
    let container = bench.device.container(&app(&request), "app").unwrap();
    let expected = [
        ("ACCOUNT", "robot"),
        ("CPU", "2"),
        ("HOST", "10.42.0.1"),
        ("LITERAL", " a \"b\" %n $x "),
        ("M_other", "more"),
        ("M_plain", "of the map"),
        ("POD", "10.42.0.1"),
        ("S_word", PLANTED),
        ("URL", "u:planted-s3cret@$(HOST)"),
        ("WORD", PLANTED),
    ];
    let environment: Vec<_> = container.environment.iter().collect();
    let environment: Vec<_> = environment
        .iter()
        .map(|(n, v)| (n.as_str(), v.as_str()))
        .collect();
    assert_eq!(environment, expected);
    let files: Vec<_> = container.files.iter().collect();
    let files: Vec<_> = files
        .iter()
        .map(|(path, file)| {
            (
                path.as_str(),
                String::from_utf8_lossy(&file.content).into_owned(),
                file.mode,
            )
        })
        .collect();
    let file = |path, content: &str, mode| (path, content.to_owned(), mode);
    assert_eq!(
        files,
        [
            file("/about/labels", "tier=\"front\"", 0o644),
            file("/all/ca.crt", "pem", 0o444),
            file("/all/cpu", "2", 0o444),
            file("/all/of/secret", PLANTED, 0o444),
            file("/all/token", &format!("{PLANTED}-token"), 0o444),
            file("/hush/word", PLANTED, 0o400),
            file("/map/deep/plain", "of the map", 0o400),
            file("/map/other", "more", 0o440),
            file("/part", "more", 0o440),
        ]
    );
    assert!(container.files.values().all(|f| f.user == "root"));
    assert!(container.mounts.iter().any(|m| m == "/none"));
    let variables: Vec<_> = bench
        .device
        .files()
        .into_iter()
        .filter(|(p, _)| p.contains("/.env/"))
        .collect();
    assert_eq!((variables.len(), variables[0].1.mode), (1, 0o600));

    bench
        .backend
        .stop(&request.key, std::time::Duration::ZERO)
        .await
        .unwrap();
    bench
        .until(|b| b.device.container(&app(&request), "app").is_none())
        .await;
    bench.backend.release(&request.key).await.unwrap();
    bench.until(|b| b.device.applications().is_empty()).await;
    bench
        .until(|b| b.device.files().into_keys().eq(["/etc/motd"]))
        .await;
    let spec = bench.spec();
    assert_eq!(spec["config"], json!([foreign()]));
    assert_eq!(spec["applications"], json!([]));
}

#[tokio::test(start_paused = true)]
async fn keys_that_are_no_names_of_variables_are_told_once_and_left_out() {
    let mut bench = Bench::new().await;
    let spec = json!({"containers": [{"name": "app", "image": "nginx:1",
        "envFrom": [{"configMapRef": {"name": "odd"}}]}]});
    let odd = map(&json!({"GOOD": "1", "a=b": "2"}));
    let given = Inputs {
        config_maps: [("odd".to_owned(), odd)].into(),
        ..Inputs::default()
    };
    let first = pod("odd", spec.clone(), given.clone(), PodChange::First);
    bench.ensure(&first).await.unwrap();
    bench.runs(&first, "app", 1).await;
    let environment = bench.device.container(&app(&first), "app").unwrap();
    assert_eq!(environment.environment.keys().collect::<Vec<_>>(), ["GOOD"]);
    bench.restart().await;
    bench.ensure(&first).await.unwrap();
    let told = bench.told.all();
    let told: Vec<_> = told
        .iter()
        .filter(|t| t.starts_with("InvalidEnvironmentVariableNames "))
        .collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("Keys [a=b] from the EnvFrom configMap shop/odd were skipped"));
}

fn content(bench: &Bench, request: &PodRequest, path: &str) -> Option<String> {
    let container = bench.device.container(&app(request), "app")?;
    let file = container.files.get(path)?;
    Some(String::from_utf8_lossy(&file.content).into_owned())
}

#[tokio::test(start_paused = true)]
async fn changed_objects_reach_the_files_of_running_containers_and_restart_nothing() {
    let mut bench = Bench::new().await;
    let first = pod("web", watching(), inputs(), PodChange::First);
    bench.ensure(&first).await.unwrap();
    bench.runs(&first, "app", 1).await;
    let before = bench.spec();
    for restarted in [false, true] {
        let (now, change) = match restarted {
            false => (changed(), PodChange::Payload),
            // The process was away while the objects changed back.
            true => (inputs(), PodChange::First),
        };
        if restarted {
            bench.restart().await;
        }
        let plain = now.config_maps["map"].data.as_ref().unwrap()["plain"].clone();
        let fresh = pod("web", watching(), now, change);
        bench.ensure(&fresh).await.unwrap();
        bench
            .until(|b| content(b, &first, "/map/plain") == Some(plain.clone()))
            .await;
        assert_eq!(content(&bench, &first, "/map/added").is_some(), !restarted);
        let part = content(&bench, &first, "/part");
        assert_eq!(
            part.as_deref(),
            Some("of the map"),
            "a part is not refreshed"
        );
        let container = bench.device.container(&app(&first), "app").unwrap();
        assert_eq!(container.environment["PLAIN"], "of the map");
        assert_eq!(container.environment["WORD"], PLANTED);
        let spec = bench.spec();
        assert_eq!(spec["applications"], before["applications"]);
        assert_eq!(spec["config"][1], before["config"][1], "variables stay");
        assert_eq!(bench.starts(&first), 1);
        let facts = bench.facts(&first).await;
        assert_eq!(facts.applied.as_ref(), Some(&first.spec_revision));
        assert_eq!(facts.accepted.as_ref(), Some(&first.spec_revision));
        // Nothing is left to write.
        let generation = bench.generation();
        bench.ensure(&fresh).await.unwrap();
        assert_eq!(bench.generation(), generation);
    }
    // What is written anew takes what there is now.
    let mut spec = watching();
    spec["containers"][0]["image"] = json!("nginx:2");
    let update = pod("web", spec, changed(), PodChange::Image);
    bench.ensure(&update).await.unwrap();
    bench.runs(&update, "app", 2).await;
    let container = bench.device.container(&app(&first), "app").unwrap();
    assert_eq!(container.environment["WORD"], "rotated");
    assert_eq!(content(&bench, &first, "/part").as_deref(), Some("newer"));
}

#[tokio::test(start_paused = true)]
async fn a_deleted_object_leaves_a_running_pod_and_its_files_alone() {
    let mut bench = Bench::new().await;
    let first = pod("web", watching(), inputs(), PodChange::First);
    bench.ensure(&first).await.unwrap();
    bench.runs(&first, "app", 1).await;
    let spec = bench.spec();
    for change in [PodChange::Payload, PodChange::First] {
        let orphaned = pod("web", watching(), Inputs::default(), change);
        let answer = bench.ensure(&orphaned).await;
        match change {
            // What was asked for did not happen, and nothing else either.
            PodChange::Payload => assert!(matches!(answer, Err(BackendError::Inputs(_)))),
            _ => answer.unwrap(),
        }
        assert_eq!(bench.spec(), spec);
        bench.restart().await;
    }
    assert_eq!(bench.starts(&first), 1);
    let told = bench.told.all();
    let words =
        r#"FailedMount MountVolume.SetUp failed for volume "map" : configmap "map" not found"#;
    assert!(told.iter().any(|t| t == words), "{told:?}");
    // Neither does what is refused by now: its token may not leave the cluster any more.
    let mut spec = watching();
    let token = json!({"serviceAccountToken": {"audience": "vault", "path": "token"}});
    spec["volumes"][0] =
        json!({"name": "map", "projected": {"sources": [{"configMap": {"name": "map"}}, token]}});
    let first = pod("token", spec.clone(), inputs(), PodChange::First);
    bench.ensure(&first).await.unwrap();
    bench.runs(&first, "app", 1).await;
    let withheld = Inputs {
        tokens: None,
        ..inputs()
    };
    let spec_now = bench.spec();
    bench
        .ensure(&pod("token", spec, withheld, PodChange::Payload))
        .await
        .unwrap();
    assert_eq!(bench.spec(), spec_now);
    let spec = spec_now;
    // A variable's object alone is of no account at all.
    let mut without = inputs();
    without.secrets.clear();
    bench
        .ensure(&pod("web", watching(), without, PodChange::Payload))
        .await
        .unwrap();
    assert_eq!(bench.spec(), spec);
}

#[tokio::test(start_paused = true)]
async fn a_pod_waits_for_what_is_missing_and_for_an_address_and_nothing_is_sent() {
    let bench = Bench::new().await;
    let generation = bench.generation();
    let request = pod("web", watching(), Inputs::default(), PodChange::First);
    let error = bench.ensure(&request).await.unwrap_err();
    assert!(matches!(error, BackendError::Inputs(_)), "{error:?}");
    assert_eq!(bench.generation(), generation);
    let request = pod("web", watching(), inputs(), PodChange::First);
    bench.ensure(&request).await.unwrap();
    bench.runs(&request, "app", 1).await;

    let nowhere = Bench::without_address().await;
    let generation = nowhere.generation();
    let error = nowhere
        .ensure(&pod("web", everything(), inputs(), PodChange::First))
        .await
        .unwrap_err();
    assert_eq!(error.to_string(), "status.hostIP is not known yet");
    assert_eq!(nowhere.generation(), generation);
}

#[tokio::test(start_paused = true)]
async fn files_that_someone_edits_are_put_back_without_a_restart() {
    let bench = Bench::new().await;
    let request = pod("web", watching(), inputs(), PodChange::First);
    bench.ensure(&request).await.unwrap();
    bench.runs(&request, "app", 1).await;
    let ours = bench.spec();
    let again = pod("web", watching(), inputs(), PodChange::Repeat);
    for edit in [
        json!({"op": "replace", "path": "/spec/config/0/inline/0/content", "value": "ZXZpbA=="}),
        json!({"op": "replace", "path": "/spec/config/1/inline/0/content", "value": "ZXZpbA=="}),
        json!({"op": "remove", "path": "/spec/config/1"}),
        json!({"op": "replace", "path": "/spec/config", "value": []}),
    ] {
        bench.edit(json!([edit])).await;
        bench
            .until_facts(&request, |facts| facts.accepted.is_none())
            .await;
        bench.ensure_after_a_while(&again).await;
        assert_eq!(bench.spec(), ours, "{edit}");
        bench
            .until_facts(&request, |facts| facts.accepted.is_some())
            .await;
    }
    bench.pass(60).await;
    assert_eq!(bench.starts(&request), 1);
}

#[tokio::test(start_paused = true)]
async fn an_edit_is_noticed_by_a_successor_that_misses_the_object() {
    let mut bench = Bench::new().await;
    let request = pod("web", watching(), inputs(), PodChange::First);
    bench.ensure(&request).await.unwrap();
    bench.runs(&request, "app", 1).await;
    let ours = bench.spec();
    bench.restart().await;
    let missing = pod("web", watching(), Inputs::default(), PodChange::First);
    bench.ensure(&missing).await.unwrap();
    let edit = json!({"op": "replace", "path": "/spec/config/0/inline/0/content", "value": "evil"});
    bench.edit(json!([edit])).await;
    bench
        .until_facts(&request, |facts| facts.accepted.is_none())
        .await;
    let missing = pod("web", watching(), Inputs::default(), PodChange::Repeat);
    let error = bench.ensure(&missing).await.unwrap_err();
    assert!(matches!(error, BackendError::Inputs(_)), "{error:?}");
    let again = pod("web", watching(), inputs(), PodChange::Repeat);
    bench.ensure_after_a_while(&again).await;
    assert_eq!(bench.spec(), ours);
    assert_eq!(bench.starts(&request), 1);
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_is_too_much_for_a_device_waits_and_its_neighbours_do_not() {
    let bench = Bench::new().await;
    let spec = |names: &[String]| {
        let volumes: Vec<_> = names
            .iter()
            .map(|n| json!({"name": n, "configMap": {"name": n}}))
            .collect();
        let mounts: Vec<_> = names
            .iter()
            .map(|n| json!({"name": n, "mountPath": format!("/{n}")}))
            .collect();
        json!({"volumes": volumes, "containers": [{"name": "app", "image": "nginx:1", "volumeMounts": mounts}]})
    };
    let names: Vec<String> = (0..17).map(|n| format!("m{n}")).collect();
    let of_size = |size: usize| Inputs {
        config_maps: names
            .iter()
            .map(|n| (n.clone(), map(&json!({"key": "x".repeat(size)}))))
            .collect(),
        ..Inputs::default()
    };
    let large = pod("large", spec(&names), of_size(1 << 20), PodChange::First);
    let small = pod("small", watching(), inputs(), PodChange::First);
    let (refused, fine) = tokio::join!(bench.ensure(&large), bench.ensure(&small));
    fine.unwrap();
    let Err(BackendError::Waiting {
        reason, message, ..
    }) = refused
    else {
        panic!("{refused:?}")
    };
    assert_eq!(reason, "DeviceFilesFull");
    assert!(
        message.contains(&DEVICE_LIMIT.to_string()) && message.contains("device-1"),
        "{message}"
    );
    bench.runs(&small, "app", 1).await;
    assert!(bench.device.container(&app(&large), "app").is_none());
    let shrunk = pod("large", spec(&names), of_size(10), PodChange::First);
    bench.ensure(&shrunk).await.unwrap();
    bench.runs(&shrunk, "app", 1).await;
}

#[tokio::test(start_paused = true)]
async fn variables_that_make_a_unit_too_large_wait_with_the_numbers_and_nothing_is_sent() {
    let bench = Bench::new().await;
    let generation = bench.generation();
    let of_size = |size: usize| {
        let data: serde_json::Map<_, _> = (0..600)
            .map(|n| (format!("K{n}"), json!("x".repeat(size))))
            .collect();
        Inputs {
            config_maps: [("big".to_owned(), map(&data.into()))].into(),
            ..Inputs::default()
        }
    };
    let spec = json!({"containers": [{"name": "app", "image": "nginx:1",
        "envFrom": [{"configMapRef": {"name": "big"}}, {"prefix": "B_", "configMapRef": {"name": "big"}}]}]});
    let large = pod("large", spec.clone(), of_size(1000), PodChange::First);
    let Err(BackendError::Waiting {
        reason, message, ..
    }) = bench.ensure(&large).await
    else {
        panic!("it is sent")
    };
    assert_eq!(reason, "UnitTooLarge");
    assert!(message.contains("takes 1048576 in a file"), "{message}");
    assert_eq!(bench.generation(), generation);
    let shrunk = pod("large", spec, of_size(100), PodChange::First);
    bench.ensure(&shrunk).await.unwrap();
    bench.runs(&shrunk, "app", 1).await;
}

#[tokio::test(start_paused = true)]
async fn a_secret_is_nowhere_but_in_the_files_of_its_pod() {
    let log = bench::Log::default();
    let _guard = log.collect();
    let mut bench = Bench::new().await;
    let request = pod("web", everything(), inputs(), PodChange::First);
    bench.ensure(&request).await.unwrap();
    bench.runs(&request, "app", 1).await;
    let mut fresh = inputs();
    fresh
        .config_maps
        .insert("map".into(), map(&json!({"plain": "newer", "other": "x"})));
    bench
        .ensure(&pod("web", everything(), fresh, PodChange::Payload))
        .await
        .unwrap();
    // Refusals and failures, and a process that finds all of it again.
    let mut wrong = watching();
    wrong["containers"][0]["args"] = json!(["$(WORD)"]);
    let refused = bench
        .ensure(&pod("wrong", wrong, inputs(), PodChange::First))
        .await;
    bench.restart().await;
    let facts = bench.facts(&request).await;
    let base64 = [
        "cGxhbnRlZC1zM2NyZXQ",
        "BsYW50ZWQtczNjcmV0",
        "wbGFudGVkLXMzY3JldA",
    ];
    let printed = log.text();
    assert!(
        printed.contains("files of volumes written anew"),
        "it listens"
    );
    for (place, text) in [
        ("the log", printed),
        ("events", bench.told.all().join("\n")),
        ("errors", format!("{refused:?}")),
        ("facts", format!("{facts:?}")),
        ("requests", format!("{request:?}")),
        ("the application", bench.spec()["applications"].to_string()),
        (
            "the status",
            bench.device.value().unwrap()["status"].to_string(),
        ),
        (
            "events of Flight Control",
            format!("{:?}", bench.service.events()),
        ),
    ] {
        assert!(!text.contains(PLANTED), "{place}: {text}");
        assert!(base64.iter().all(|b| !text.contains(b)), "{place}: {text}");
    }
    let holders: Vec<_> = bench
        .device
        .files()
        .into_iter()
        .filter(|(_, file)| String::from_utf8_lossy(&file.content).contains(PLANTED))
        .collect();
    assert!(holders.len() >= 4);
    for (path, _) in holders {
        assert!(
            path.starts_with(&format!("{ROOT}/{}/", request.key.uid)),
            "{path}"
        );
    }
}
