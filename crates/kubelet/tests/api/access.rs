//! Who is answered.

use crate::rig::Rig;
use crate::wire::Authority;

const PATHS: [&str; 12] = [
    "/healthz",
    "/pods",
    "/runningpods/",
    "/metrics",
    "/metrics/resource",
    "/stats/summary",
    "/configz",
    "/containerLogs/default/web/app",
    "/exec/default/web/app",
    "/portForward/default/web",
    "/debug/pprof/",
    "/nothing",
];

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_told_to_somebody_unknown() {
    let rig = Rig::new().await;
    let before = rig.reviews.asked().len();
    for path in PATHS {
        for header in [
            "",
            "Authorization: Basic Z29vZDo=\r\n",
            "Authorization: Bearer bad\r\n",
        ] {
            let text =
                format!("GET {path} HTTP/1.1\r\nHost: x\r\n{header}Connection: close\r\n\r\n");
            let answer = rig.ask(None, &text).await;
            assert_eq!(
                (answer.status, &*answer.text()),
                (401, "Unauthorized"),
                "{path} {header}"
            );
        }
    }
    assert_eq!(
        rig.reviews.asked().len(),
        before,
        "no rights of nobody are asked"
    );
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_is_refused_in_the_kubelets_words_and_the_finest_right_is_enough() {
    let rig = Rig::new().await;
    rig.reviews.forbid(&["configz"]);
    assert_eq!(
        rig.get("/configz").await.status,
        200,
        "by the right to proxy"
    );
    let asked = rig.reviews.asked();
    assert_eq!(asked[asked.len() - 2..], ["jane configz", "jane proxy"]);
    rig.reviews.forbid(&["metrics"]);
    assert_eq!(rig.get("/pods").await.status, 200);
    assert_eq!(rig.reviews.asked().last().unwrap(), "jane pods");
    let refused = rig.get("/metrics").await;
    let words = "Forbidden (user=jane, verb=get, resource=nodes, subresource(s)=[metrics])\n";
    assert_eq!((refused.status, &*refused.text()), (403, words));
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_counts_if_the_clusters_authority_vouches_for_it() {
    let rig = Rig::new().await;
    let text = "GET /pods HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let known = rig.clients.client("kube-apiserver");
    assert_eq!(rig.ask(Some(&known), text).await.status, 200);
    assert_eq!(rig.reviews.asked().last().unwrap(), "kube-apiserver pods");
    let stranger = Authority::new().client("kube-apiserver");
    assert_eq!(rig.ask(Some(&stranger), text).await.status, 401);
    let with_token = text.replace("Host", "Authorization: Bearer good\r\nHost");
    assert_eq!(rig.ask(Some(&stranger), &with_token).await.status, 200);
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_answer_of_kubernetes_nothing_is_allowed() {
    let rig = Rig::new().await;
    let known = rig.clients.client("kube-apiserver");
    rig.reviews.away(true);
    let text = "GET /pods HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let answer = rig.ask(Some(&known), text).await;
    let words =
        "Authorization error (user=kube-apiserver, verb=get, resource=nodes, subresource=pods)";
    assert_eq!((answer.status, &*answer.text()), (500, words));
    let new = text.replace("Host", "Authorization: Bearer new\r\nHost");
    assert_eq!(rig.ask(None, &new).await.status, 401);
    rig.reviews.away(false);
    assert_eq!(
        rig.ask(Some(&known), text).await.status,
        200,
        "nothing of it stays"
    );
    rig.end().await;
}
