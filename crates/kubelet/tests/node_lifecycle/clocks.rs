//! Leases of processes whose wall clocks someone sets.

use super::*;
use vk_provider::Clock;

/// Two processes of one node, each with a clock of its own; one is set.
async fn the_holder_stays(seconds: i64, set_the_holders: bool) {
    let (mut world, cluster) = world().await;
    world.stop().await;
    let clocks = [
        Clock::stepped(world.clock.now()),
        Clock::stepped(world.clock.now()),
    ];
    let start = |clock: &Clock, name: &'static str| {
        Process::start(&cluster, &world.remote, clock, true, move |settings| {
            settings.identity = name.into();
        })
    };
    let first = start(&clocks[0], "first");
    world.create(&world.pod("shared", "Always")).await;
    world.running("shared").await;
    let second = start(&clocks[1], "second");
    sleep(minutes(1)).await;
    clocks[usize::from(!set_the_holders)].jump(seconds);
    let ours = Some(format!("{}_first", world.node));
    let renewed = || lease(&cluster, &world.node).spec.unwrap().renew_time;
    let mut before = renewed();
    for second in 0..300 {
        sleep(Duration::from_secs(1)).await;
        assert_eq!(holder(&cluster, &world.node), ours);
        // Kubernetes heeds a renewal only when its time is later.
        if second % 12 == 0 {
            assert!(renewed() > before, "{:?} after {before:?}", renewed());
            before = renewed();
        }
    }
    world.create(&world.pod("more", "Always")).await;
    world.running("more").await;
    assert_eq!(world.remote.ensures("more"), 1);
    let writes = second.line.writes();
    assert!(writes.iter().all(|w| w.contains("/events")), "{writes:?}");
    first.end().await;
    second.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_holder_whose_clock_is_set_back_keeps_its_lease() {
    the_holder_stays(-3600, true).await;
}

#[tokio::test(start_paused = true)]
async fn a_holder_whose_clock_is_set_ahead_keeps_its_lease() {
    the_holder_stays(3600, true).await;
}

#[tokio::test(start_paused = true)]
async fn a_standby_whose_clock_is_set_ahead_takes_nothing_over() {
    the_holder_stays(3600, false).await;
}
