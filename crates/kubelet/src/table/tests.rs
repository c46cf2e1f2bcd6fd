use super::*;
use crate::plan::{Failure, Step};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, PodStatus, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use std::sync::LazyLock;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use vk_provider::quantity::Amount;
use vk_provider::{ContainerFact, ContainerState, PodChange, PodKey, Revision, Verdict};

pub(crate) fn pod(name: &str, uid: &str) -> Pod {
    Pod {
        metadata: ObjectMeta {
            name: Some(name.into()),
            namespace: Some("default".into()),
            uid: Some(uid.into()),
            resource_version: Some("1".into()),
            ..Default::default()
        },
        spec: Some(PodSpec {
            node_name: Some("node".into()),
            containers: vec![Container {
                name: "app".into(),
                image: Some("app:1".into()),
                resources: Some(ResourceRequirements {
                    requests: Some([("cpu".to_owned(), Quantity("1".into()))].into()),
                    ..Default::default()
                }),
                ..Default::default()
            }],
            ..Default::default()
        }),
        status: None,
    }
}

fn lean(pod: &Pod) -> LeanPod {
    LeanPod::of(pod)
}

fn facts(uid: &str, seq: u64) -> PodFacts {
    let mut facts = PodFacts::new(PodKey::new("default", "a", uid), "node".into(), seq);
    facts.accepted = Some(Revision::of(pod("a", uid).spec.as_ref().unwrap()));
    facts
}

/// Seconds of the clock that nobody sets.
fn at(second: u64) -> Instant {
    static ORIGIN: LazyLock<Instant> = LazyLock::new(Instant::now);
    *ORIGIN + Duration::from_secs(second)
}

fn listing(pods: Vec<PodFacts>, as_of: u64) -> Listing {
    Listing {
        pods,
        complete: true,
        as_of: at(as_of),
    }
}

fn uid(text: &str) -> Uid {
    Uid::new(text)
}

#[test]
fn a_delete_missed_in_a_watch_gap_is_found_at_the_next_list() {
    let table = Table::default();
    table.apply(lean(&pod("a", "1")));
    table.apply(lean(&pod("b", "2")));
    let gone = table.synced("node", &HashSet::from([uid("1")]));
    assert_eq!(gone, [uid("2")]);
    assert!(table.view(&uid("2")).unwrap().desired.is_none());
    assert!(table.view(&uid("1")).unwrap().desired.is_some());
}

#[test]
fn the_same_name_with_a_new_uid_is_another_pod() {
    let table = Table::default();
    table.apply(lean(&pod("a", "1")));
    table.apply(lean(&pod("a", "2")));
    table.gone(&uid("1"));
    assert!(table.view(&uid("1")).unwrap().desired.is_none());
    assert!(table.view(&uid("2")).unwrap().desired.is_some());
}

#[test]
fn older_facts_and_older_objects_are_ignored() {
    let table = Table::default();
    table.observe(facts("1", 5), at(0));
    assert!(table.observe(facts("1", 4), at(0)).is_none());
    let mut new = pod("a", "1");
    new.metadata.resource_version = Some("10".into());
    table.apply(lean(&new));
    let mut old = pod("a", "1");
    old.metadata.resource_version = Some("9".into());
    assert!(table.apply(lean(&old)).is_none());
}

#[test]
fn an_orphan_needs_two_listings_and_synced_pods() {
    let table = Table::default();
    table.serve("node");
    let confirmed = || {
        matches!(
            table.view(&uid("1")).unwrap().absence,
            Absence::Orphan { confirmed: true }
        )
    };
    table.listing(listing(vec![facts("1", 1)], 10));
    table.listing(listing(vec![facts("1", 2)], 20));
    assert!(!confirmed(), "pods are not synced");
    table.synced("node", &HashSet::new());
    assert!(!confirmed());
    table.listing(listing(vec![facts("1", 3)], 30));
    assert!(!confirmed(), "the first listing since the pods are synced");
    table.listing(listing(vec![facts("1", 4)], 30));
    assert!(!confirmed(), "not a later one");
    table.listing(listing(vec![facts("1", 5)], 31));
    assert!(confirmed());
}

#[test]
fn a_listing_older_than_the_acceptance_does_not_deny_it() {
    let table = Table::default();
    table.listing(listing(vec![], 1));
    table.apply(lean(&pod("a", "1")));
    let revision = Revision::from_text("r");
    table.with(&uid("1"), |r| {
        r.accepted = Some(revision);
        r.seen = Some(at(10));
    });
    table.listing(listing(vec![], 9));
    assert!(table.view(&uid("1")).unwrap().accepted.is_some());
    assert_eq!(table.listing(listing(vec![], 11)), [uid("1")]);
    assert!(table.view(&uid("1")).unwrap().accepted.is_none());
}

#[test]
fn an_incomplete_listing_denies_nothing() {
    let table = Table::default();
    table.listing(listing(vec![facts("1", 1)], 1));
    let partial = Listing {
        complete: false,
        ..listing(vec![], 5)
    };
    table.listing(partial);
    assert!(table.view(&uid("1")).unwrap().present);
}

#[test]
fn the_ledger_returns_to_nothing() {
    let table = Table::default();
    table.apply(lean(&pod("a", "1")));
    assert_eq!(table.requested("node"), Resources::new());
    table.with(&uid("1"), |r| r.admitted = true);
    assert_eq!(table.requested("node").get("cpu"), Amount::units(1));
    table.gone(&uid("1"));
    assert_eq!(table.requested("node").get("cpu"), Amount::ZERO);
    table.forget(&uid("1"));
    assert!(table.is_empty());
}

#[test]
fn what_ended_or_failed_leaves_room_in_the_ledger() {
    let full = || {
        let table = Table::default();
        table.apply(lean(&pod("a", "1")));
        table.with(&uid("1"), |r| r.admitted = true);
        assert_ne!(table.requested("node").get("cpu"), Amount::ZERO);
        table
    };
    let failed = full();
    failed.with(&uid("1"), |r| r.verdict = Some(Failed::default()));
    assert_eq!(failed.requested("node").get("cpu"), Amount::ZERO);
    let ended = full();
    let mut pod = pod("a", "1");
    pod.metadata.resource_version = Some("2".into());
    pod.status.get_or_insert_default().phase = Some("Succeeded".into());
    ended.apply(lean(&pod));
    assert_eq!(ended.requested("node").get("cpu"), Amount::ZERO);
}

#[test]
fn a_node_that_is_left_before_its_pods_were_listed_holds_no_orphan_back() {
    let table = Table::default();
    table.serve("node");
    table.serve("left");
    table.synced("node", &HashSet::new());
    table.listing(listing(vec![facts("1", 1)], 10));
    table.listing(listing(vec![facts("1", 2)], 20));
    let absence = || table.view(&uid("1")).unwrap().absence;
    assert_eq!(absence(), Absence::Orphan { confirmed: false });
    table.leave("left");
    table.listing(listing(vec![facts("1", 3)], 30));
    table.listing(listing(vec![facts("1", 4)], 40));
    assert_eq!(absence(), Absence::Orphan { confirmed: true });
}

#[test]
fn a_node_that_is_left_keeps_no_ghosts() {
    let table = Table::default();
    table.apply(lean(&pod("a", "1")));
    table.gone(&uid("1"));
    table.forget(&uid("1"));
    assert_eq!(table.lock().ghosts.len(), 1);
    table.leave("node");
    assert!(table.lock().ghosts.is_empty());
}

#[tokio::test]
async fn back_off_doubles_from_ten_seconds_to_five_minutes() {
    let mut record = Record::new(PodKey::new("default", "a", "1"));
    let waits: Vec<u64> = (0..8)
        .map(|_| {
            record.failed(None);
            (record.retry_at.unwrap() - Instant::now())
                .as_secs_f64()
                .ceil() as u64
        })
        .collect();
    assert_eq!(waits, [10, 20, 40, 80, 160, 300, 300, 300]);
}

#[test]
fn a_deletion_cancels_the_ensure_in_flight() {
    let table = Table::default();
    table.apply(lean(&pod("a", "1")));
    let token = CancellationToken::new();
    table.with(&uid("1"), |r| r.in_flight = Some(token.clone()));
    table.gone(&uid("1"));
    assert!(token.is_cancelled());
}

#[test]
fn before_any_node_is_served_nothing_is_an_orphan() {
    let table = Table::default();
    for second in 1..4 {
        table.observe(facts("1", second), at(0));
        table.listing(listing(vec![facts("1", second + 10)], second));
    }
    let absence = table.view(&uid("1")).unwrap().absence;
    assert_eq!(absence, Absence::Orphan { confirmed: false });
}

#[test]
fn an_answer_that_the_delete_overtook_brings_nothing_back() {
    let version = |text: &str| {
        let mut pod = pod("a", "1");
        pod.metadata.resource_version = Some(text.into());
        lean(&pod)
    };
    let table = Table::default();
    table.apply(version("9"));
    table.gone(&uid("1"));
    table.refresh(version("10"));
    table.adopt(version("10"));
    assert!(table.view(&uid("1")).unwrap().desired.is_none());
}

#[test]
fn a_pod_that_only_the_remote_showed_is_adopted() {
    let table = Table::default();
    table.observe(facts("1", 1), at(0));
    assert!(table.refresh(lean(&pod("a", "1"))).is_none());
    assert!(table.adopt(lean(&pod("a", "1"))).is_some());
    assert!(table.view(&uid("1")).unwrap().desired.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_listing_that_began_before_the_stop_does_not_confirm_it() {
    let table = Table::default();
    table.apply(lean(&pod("a", "1")));
    table.with(&uid("1"), |r| r.stop_taken(Duration::ZERO));
    let taken = Instant::now();
    let listing = |as_of| Listing {
        as_of,
        ..listing(vec![], 0)
    };
    table.listing(listing(taken));
    assert!(!table.view(&uid("1")).unwrap().stopped);
    assert_eq!(
        table.listing(listing(taken + Duration::from_nanos(1))),
        [uid("1")]
    );
    assert!(table.view(&uid("1")).unwrap().stopped);
}

#[tokio::test]
async fn what_runs_again_after_its_stop_is_stopped_again() {
    let table = Table::default();
    table.apply(lean(&pod("a", "1")));
    let mut ended = facts("1", 1);
    ended.ended = true;
    table.observe(ended, at(0));
    table.with(&uid("1"), |r| r.stop_taken(Duration::ZERO));
    assert!(table.view(&uid("1")).unwrap().stopped);
    table.observe(facts("1", 2), at(0));
    let view = table.view(&uid("1")).unwrap();
    assert!(!view.stopped);
    assert_eq!(view.stopping, None);
}

#[tokio::test]
async fn a_wait_that_a_backend_names_is_kept_within_bounds() {
    let mut record = Record::new(PodKey::new("default", "a", "1"));
    for (named, waits) in [(Duration::ZERO, 1), (Duration::MAX, 300)] {
        record.failed(Some(named));
        let wait = record.retry_at.unwrap() - Instant::now();
        assert_eq!(wait.as_secs_f64().ceil() as u64, waits);
    }
}

#[tokio::test(start_paused = true)]
async fn writes_that_are_not_kept_become_rare() {
    let mut writes = Writes::default();
    let pauses: Vec<_> = (0..14)
        .map(|_| {
            writes.taken();
            writes
                .unkept_until
                .map(|at| (at - Instant::now()).as_secs())
        })
        .collect();
    assert_eq!(pauses[..4], [None; 4]);
    let later: Vec<_> = pauses[4..].iter().flatten().copied().collect();
    assert_eq!(later, [1, 2, 4, 8, 16, 32, 64, 64, 64, 64]);
    writes.nothing_left();
    assert!(writes.unkept_until.is_none());
}

#[test]
fn what_is_known_already_marks_nothing() {
    let table = Table::default();
    let api = lean(&pod("a", "u"));
    assert!(table.apply(api.clone()).is_some());
    assert_eq!(table.apply(lean(&pod("a", "u"))), None, "an echo");
    assert_eq!(table.listing(listing(vec![facts("u", 1)], 5)), [uid("u")]);
    assert!(table.listing(listing(vec![facts("u", 2)], 6)).is_empty());
    let mut other = facts("u", 3);
    other.ended = true;
    assert_eq!(table.listing(listing(vec![other], 7)), [uid("u")]);
}

#[test]
fn the_final_delete_of_ours_is_no_news() {
    let table = Table::default();
    let deleting = |grace, version: &str| {
        let mut pod = pod("a", "u");
        pod.metadata.resource_version = Some(version.into());
        pod.metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
        pod.metadata.deletion_grace_period_seconds = Some(grace);
        lean(&pod)
    };
    let waits = || table.view(&uid("u")).unwrap().back_off.is_some();
    table.apply(deleting(30, "2"));
    table.with(&uid("u"), |record| record.failed(None));
    table.apply(deleting(5, "3"));
    assert!(!waits(), "less grace does not wait");
    table.with(&uid("u"), |record| {
        record.stopped = true;
        record.failed(None);
    });
    table.apply(deleting(0, "4"));
    assert!(waits(), "nothing is left to hurry");
}

#[test]
fn a_listing_older_than_what_was_heard_does_not_deny_it() {
    let table = Table::default();
    table.observe(facts("1", 1), at(10));
    table.listing(listing(vec![], 9));
    assert!(table.view(&uid("1")).unwrap().present);
    table.listing(listing(vec![], 11));
    assert!(!table.view(&uid("1")).unwrap().present);
}

#[test]
fn a_forgotten_pod_is_not_begun_again_by_a_watch_that_lags() {
    let table = Table::default();
    table.apply(lean(&pod("a", "1")));
    table.gone(&uid("1"));
    table.forget(&uid("1"));
    assert!(table.apply(lean(&pod("a", "1"))).is_none());
    assert!(table.is_empty());
    table.deleted(&uid("1"));
    assert!(table.lock().ghosts.is_empty(), "nothing is kept for ever");
    table.apply(lean(&pod("a", "2")));
    table.gone(&uid("2"));
    table.forget(&uid("2"));
    table.synced("node", &HashSet::new());
    assert!(table.lock().ghosts.is_empty());
}

#[test]
fn only_the_last_that_changed_stay_open_and_all_can_be_opened() {
    let table = Table::default();
    for number in 0..OPEN + 10 {
        table.apply(lean(&pod("a", &number.to_string())));
    }
    let inner = table.lock();
    let open = inner.records.values().filter(|r| r.open.is_some()).count();
    assert_eq!(open, OPEN);
    assert_eq!(inner.opened.len(), OPEN);
    for (uid, record) in &inner.records {
        assert_eq!(*record.pod().unwrap(), pod("a", uid.as_str()));
    }
}

#[test]
fn a_version_that_cannot_be_read_leaves_the_pod_as_it_was() {
    let table = Table::default();
    table.apply(lean(&pod("a", "1")));
    let broken = r#"{"metadata":{"namespace":"default","name":"a","uid":"1",
        "resourceVersion":"2"},"spec":{"nodeName":"node","containers":7}}"#;
    assert!(table.apply(serde_json::from_str(broken).unwrap()).is_none());
    let kept = table.with(&uid("1"), |record| record.pod()).flatten();
    assert_eq!(*kept.unwrap(), pod("a", "1"));
}

/// Kubernetes does not take statuses for a while; the remote runs the pod, says
/// so, and loses it.
#[test]
fn a_pod_that_may_run_once_and_was_seen_to_run_is_lost_though_kubernetes_was_not_told() {
    let table = Table::default();
    let mut once = pod("a", "1");
    once.spec.as_mut().unwrap().restart_policy = Some("Never".into());
    table.apply(lean(&once));
    table.serve("node");
    table.synced("node", &HashSet::from([uid("1")]));
    table.with(&uid("1"), |record| record.admitted = true);
    let next = || crate::plan::plan(&table.view(&uid("1")).unwrap());
    table.listing(listing(vec![], 1));
    assert_eq!(next(), Step::Ensure(PodChange::First));
    let mut told = facts("1", 1);
    let running = ContainerState::Running { started_at: None };
    told.containers.push(ContainerFact::new("app", running));
    table.observe(told, at(2));
    table.serve("node");
    assert_eq!(next(), Step::Idle, "known from before we served the node");
    table.listing(listing(vec![], 3));
    assert_eq!(next(), Step::Fail(Failure::Lost));
}

#[test]
fn pods_are_looked_up_by_name_on_their_node_alone() {
    let table = Table::default();
    for name in ["b", "a"] {
        table.apply(lean(&pod(name, &format!("u-{name}"))));
    }
    let mut known = facts("u-a", 1);
    known.containers = vec![ContainerFact::new(
        "app",
        ContainerState::Running { started_at: None },
    )];
    table.observe(known, at(1));
    let uid = |pod: Option<Arc<Pod>>| pod.and_then(|pod| pod.metadata.uid.clone());
    let found = uid(table.named("node", "default", "a"));
    assert_eq!(found.as_deref(), Some("u-a"));
    assert_eq!(table.named("other", "default", "a"), None);
    assert_eq!(table.named("node", "other", "a"), None);
    let texts = table.texts("node");
    let names = texts.iter().map(|text| text.open().unwrap().metadata.name);
    assert_eq!(names.flatten().collect::<Vec<_>>(), ["a", "b"]);
    let running = table.running("node");
    assert_eq!(running.len(), 1);
    assert_eq!(running[0].facts.key.uid, Uid::new("u-a"));
    // The remote may have what Kubernetes has no longer.
    table.gone(&Uid::new("u-a"));
    assert_eq!(table.named("node", "default", "a"), None);
    assert_eq!(table.texts("node").len(), 1);
    assert!(table.running("node")[0].pod.is_none());
}

fn to_replace(uid: &str, seq: u64) -> PodFacts {
    let mut facts = facts(uid, seq);
    facts.verdict = Some(Verdict::Fail {
        reason: "DeviceTimeout".into(),
        message: "d1 has not answered for 5 min".into(),
        disruption: Some("DeviceTimeout".into()),
        replace: true,
    });
    facts
}

/// The pod as it is shown when it has failed for this reason.
fn failed(uid: &str, version: &str, reason: &str) -> LeanPod {
    let mut failed = pod("a", uid);
    failed.metadata.resource_version = Some(version.into());
    failed.status = Some(PodStatus {
        phase: Some("Failed".into()),
        reason: Some(reason.into()),
        ..PodStatus::default()
    });
    lean(&failed)
}

#[test]
fn a_replacement_is_not_announced_before_the_remote_has_taken_the_stop() {
    let table = Table::default();
    table.apply(lean(&pod("a", "1")));
    table.observe(to_replace("1", 1), at(1));
    let withheld = || {
        table
            .with(&uid("1"), |record| record.is_withheld())
            .unwrap()
    };
    assert!(withheld());
    table.with(&uid("1"), |record| record.stop_taken(Duration::ZERO));
    assert!(!withheld());
    assert!(!table.view(&uid("1")).unwrap().replaced, "not shown yet");
    table.apply(failed("1", "2", "DeviceTimeout"));
    assert!(table.view(&uid("1")).unwrap().replaced);
}

#[test]
fn a_pod_that_ended_by_itself_before_it_was_stopped_is_shown_as_it_ended() {
    for (policy, withheld) in [("OnFailure", true), ("Always", false)] {
        let table = Table::default();
        let mut job = pod("a", "1");
        job.spec.as_mut().unwrap().restart_policy = Some(policy.into());
        table.apply(lean(&job));
        let mut ended = to_replace("1", 1);
        ended.ended = true;
        table.observe(ended, at(1));
        let shown = table.with(&uid("1"), |record| record.is_withheld());
        assert_eq!(shown, Some(withheld), "{policy}");
    }
}

#[test]
fn only_what_failed_for_the_verdicts_reason_is_replaced() {
    for (reason, replaced) in [("DeviceTimeout", true), ("Evicted", false), ("", false)] {
        let table = Table::default();
        table.apply(failed("1", "2", reason));
        table.observe(to_replace("1", 1), at(1));
        assert_eq!(
            table.view(&uid("1")).unwrap().replaced,
            replaced,
            "{reason}"
        );
    }
}

/// Whoever deletes a pod has it replaced already, and waits for its end.
#[test]
fn a_pod_that_someone_deletes_is_not_replaced_before_its_end_is_confirmed() {
    let table = Table::default();
    let mut deleted = pod("a", "1");
    deleted.metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
    table.apply(lean(&deleted));
    table.with(&uid("1"), |record| record.stop_taken(Duration::ZERO));
    table.observe(to_replace("1", 1), at(1));
    assert_eq!(
        table.with(&uid("1"), |record| record.is_withheld()),
        Some(true)
    );
}

#[test]
fn metadata_that_the_backend_reads_is_news_and_cuts_a_wait_short() {
    let table = Table::heeding(Heeds {
        labels: &["l"],
        annotations: &["a"],
        replaced: &[],
    });
    let marked = |version: &str, label: Option<&str>, annotation: Option<&str>| {
        let mut marked = pod("a", "1");
        let one = |name: &str, value: Option<&str>| {
            let value = value.map(|value| (name.to_owned(), value.to_owned()));
            value
                .into_iter()
                .chain([("of-another".to_owned(), version.to_owned())])
        };
        marked.metadata.labels = Some(one("l", label).collect());
        marked.metadata.annotations = Some(one("a", annotation).collect());
        marked.metadata.resource_version = Some(version.into());
        lean(&marked)
    };
    let told = || {
        table.with(&uid("1"), |record| {
            let unheeded = record.desired.as_ref().unwrap().heeded != record.heeded;
            record.heeded = record.desired.as_ref().unwrap().heeded;
            let waits = record.retry_at.is_some();
            record.failed(None);
            (unheeded, waits)
        })
    };
    table.apply(marked("1", None, None));
    assert_eq!(told(), Some((false, false)), "nothing is said");
    table.apply(marked("2", None, None));
    assert_eq!(told(), Some((false, true)), "names of others are none");
    for (version, label, annotation) in [
        ("3", Some("x"), None),
        ("4", Some("y"), None),
        ("5", None, Some("y")),
        ("6", None, None),
    ] {
        table.apply(marked(version, label, annotation));
        assert!(table.view(&uid("1")).unwrap().unheeded, "{version}");
        assert_eq!(told(), Some((true, false)), "{version}");
    }
}

/// The process begins while the remote already runs it: one listing from before
/// its pods were known, one from after.
#[test]
fn a_pod_that_may_run_once_is_looked_at_when_it_was_seen_anew() {
    let table = Table::default();
    let mut once = pod("a", "1");
    once.spec.as_mut().unwrap().restart_policy = Some("Never".into());
    let mut runs = facts("1", 1);
    let running = ContainerState::Running { started_at: None };
    runs.containers.push(ContainerFact::new("app", running));
    table.listing(listing(vec![runs.clone()], 1));
    table.serve("node");
    table.apply(lean(&once));
    table.synced("node", &HashSet::from([uid("1")]));
    let next = || crate::plan::plan(&table.view(&uid("1")).unwrap());
    assert_eq!(next(), Step::Idle);
    assert_eq!(table.listing(listing(vec![runs.clone()], 2)), [uid("1")]);
    assert_eq!(next(), Step::Ensure(PodChange::First));
    table.with(&uid("1"), |record| record.ensured = true);
    assert!(table.listing(listing(vec![runs], 3)).is_empty());
}
