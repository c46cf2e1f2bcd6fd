//! The lifecycle suite against the sandbox, on the stepped clock.

#![allow(
    unreachable_pub,
    missing_debug_implementations,
    dead_code,
    clippy::unwrap_used,
    reason = "modules of one test or example"
)]

#[path = "suite/sandboxed.rs"]
mod sandboxed;
mod suite;

macro_rules! sandboxed {
    ($check:ident) => {
        #[tokio::test(start_paused = true)]
        async fn $check() {
            let (mut world, _cluster) = crate::sandboxed::world().await;
            suite::$check(&mut world).await;
            world.stop().await;
        }
    };
}

lifecycle_suite!(sandboxed);
