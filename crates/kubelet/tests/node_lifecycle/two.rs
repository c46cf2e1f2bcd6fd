//! Two processes with the same node.

use super::*;
use jiff::Timestamp;

async fn two() -> (World, Cluster, Process, Process) {
    let (mut world, cluster) = world().await;
    world.stop().await;
    let start = |name: &'static str| {
        Process::start(
            &cluster,
            &world.remote,
            &world.clock,
            true,
            move |settings| {
                settings.identity = name.into();
            },
        )
    };
    let first = start("first");
    world.create(&world.pod("shared", "Always")).await;
    world.running("shared").await;
    let second = start("second");
    (world, cluster, first, second)
}

async fn runs(cluster: &Cluster, pod: &str) {
    let look = |c: &Cluster| {
        let pod = c.get::<Pod>("default", pod)?;
        (phase(&pod) == "Running").then_some(())
    };
    until(cluster, "the pod runs", look).await;
}

#[tokio::test(start_paused = true)]
async fn the_second_process_of_a_node_says_so_and_writes_nothing() {
    let (world, cluster, first, second) = two().await;
    sleep(minutes(10)).await;
    world.create(&world.pod("more", "Always")).await;
    world.running("more").await;
    sleep(minutes(2)).await;
    let ours = format!("{}_first", world.node);
    assert_eq!(holder(&cluster, &world.node), Some(ours.clone()));
    let writes = second.line.writes();
    assert_eq!(writes.len(), 1, "its one event: {writes:?}");
    assert!(writes[0].contains("/events"), "{writes:?}");
    assert_eq!(told(&cluster, "Standby"), 1);
    let standby = second.leadership.standby();
    assert_eq!(standby, [(world.node.as_str().into(), ours)]);
    assert_eq!(world.remote.ensures("more"), 1);
    first.end().await;
    second.end().await;
}

#[tokio::test(start_paused = true)]
async fn an_orderly_end_hands_the_node_over_at_once() {
    let (world, cluster, first, second) = two().await;
    sleep(minutes(1)).await;
    first.end().await;
    let begun = tokio::time::Instant::now();
    world.create(&world.pod("next", "Always")).await;
    world.running("next").await;
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );
    let holder = holder(&cluster, &world.node);
    assert_eq!(holder, Some(format!("{}_second", world.node)));
    nothing_stopped(&world);
    second.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_process_that_was_cut_off_writes_nothing_after_another_took_over() {
    let (world, cluster, first, second) = two().await;
    sleep(minutes(1)).await;
    let before = first.line.writes().len();
    first.line.hold(true);
    let cut: Timestamp = world.clock.now();
    let look = |c: &Cluster| {
        let spec = lease(c, &world.node).spec.unwrap();
        let taken = spec.holder_identity == Some(format!("{}_second", world.node));
        taken.then_some(spec.lease_transitions)
    };
    let transitions = until(&cluster, "the second takes over", look).await;
    let took = world.clock.now().duration_since(cut).as_secs();
    assert!((25..=45).contains(&took), "after {took} s");
    assert!(transitions >= Some(1));
    world.create(&world.pod("after", "Always")).await;
    world.running("after").await;
    world.delete("shared", Some(5)).await;
    sleep(Duration::from_secs(20)).await;
    // What the first learns now would have it write a lot.
    first.line.hold(false);
    sleep(minutes(3)).await;
    let writes = first.line.writes().split_off(before);
    let news: Vec<_> = writes.iter().filter(|w| !w.contains("/events")).collect();
    assert!(news.is_empty(), "{news:?}");
    assert_eq!(
        told(&cluster, "Standby"),
        2,
        "both have said so, and no more"
    );
    assert!(writes.len() <= 1, "{writes:?}");
    assert_eq!(world.remote.ensures("after"), 1);
    assert_eq!(first.leadership.standby().len(), 1);
    // And back again.
    second.end().await;
    runs(&cluster, "after").await;
    world.create(&world.pod("again", "Always")).await;
    world.running("again").await;
    first.end().await;
}
