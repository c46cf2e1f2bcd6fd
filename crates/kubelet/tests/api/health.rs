//! Whether the node is well.

use std::time::Duration;

use crate::rig::Rig;
use crate::standing::Standing;
use crate::suite::world::eventually;

/// Without a renewal of its lease a process writes nothing after so long.
const WRITING: Duration = Duration::from_secs(30);

const WHOLE: &str = "[+]ping ok\n[+]log ok\n[-]syncloop failed: reason withheld\n\
                     healthz check failed\n";

async fn told(rig: &Rig, path: &str) -> (u16, String) {
    let answer = rig.get(path).await;
    (answer.status, answer.text())
}

async fn is_ill(rig: &Rig, why: &str) {
    let why = format!("internal server error: {why}\n");
    assert_eq!(told(rig, "/healthz/syncloop").await, (500, why));
    assert_eq!(told(rig, "/healthz").await, (500, WHOLE.into()));
    for alive in ["/healthz/ping", "/healthz/log"] {
        assert_eq!(told(rig, alive).await, (200, "ok".into()), "{alive}");
    }
}

#[tokio::test]
async fn a_loop_that_may_act_no_longer_is_ill_until_it_may_again() {
    let rig = Rig::new().await;
    let standing = Standing::new();
    rig.reviews.withhold(&["/leases/"]);
    standing.pass(WRITING - Duration::from_secs(1)).await;
    assert_eq!(told(&rig, "/healthz/syncloop").await, (200, "ok".into()));
    standing.pass(Duration::from_secs(1)).await;
    is_ill(&rig, "the node's lease is not held by this process").await;
    rig.reviews.withhold(&[]);
    drop(standing);
    let well = async || (rig.get("/healthz").await.status == 200).then_some(());
    eventually("the lease is renewed", well).await;
    assert_eq!(told(&rig, "/healthz/syncloop").await, (200, "ok".into()));
    rig.end().await;
}

#[tokio::test]
async fn a_loop_that_does_not_know_its_pods_is_ill_until_they_are_listed() {
    let mut rig = Rig::new().await;
    rig.reviews.withhold(&["/pods"]);
    rig.restart().await;
    rig.address = eventually("it answers", async || {
        let address = rig.told(crate::rig::NODE).await?;
        std::net::TcpStream::connect(address).ok()?;
        Some(address)
    })
    .await;
    let asked = async || {
        let (code, text) = told(&rig, "/healthz/syncloop").await;
        text.contains("are not listed yet").then_some(code)
    };
    let code = eventually("it leads, and its pods are not listed", asked).await;
    assert_eq!(code, 500);
    is_ill(&rig, "the node's pods are not listed yet").await;
    rig.reviews.withhold(&[]);
    let well = async || (rig.get("/healthz").await.status == 200).then_some(());
    eventually("the pods are listed", well).await;
    rig.end().await;
}
