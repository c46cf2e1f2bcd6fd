//! When a console is opened, and what that must not do.

use http::Uri;
use hyper_util::client::legacy::Client as Http;
use hyper_util::rt::TokioExecutor;
use vk_flightctl::client::{Client, TokenSource};
use vk_flightctl::console::Consoles;
use vk_flightctl::world::World;
use vk_provider::Clock;
use vk_sandbox::flightctl as service;
use vk_sandbox::flightctl::{DeviceSpec, Role};

use super::*;

fn says(error: &BackendError, what: &str) {
    let text = error.to_string();
    assert!(text.contains(what), "{text}");
    assert!(matches!(error, BackendError::Unavailable { .. }), "{text}");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_opened_on_a_device_that_is_away() {
    let bench = Bench::new().await;
    let pod = running(&bench).await;
    bench.device.disconnect();
    // Flight Control calls it Online for five minutes.
    bench.pass(270).await;
    let error = read(&bench, &query(&pod)).await.unwrap_err();
    says(&error, "last heard of");
    bench.pass(300).await;
    let (exit, ..) = exec(&bench, &command(&pod, &["echo"]), None).await;
    says(&exit.unwrap_err(), "Unknown");
    assert_eq!(noted(&bench), 0);
}

#[tokio::test(start_paused = true)]
async fn a_device_that_does_not_come_runs_nothing_when_it_is_back() {
    let bench = Bench::new().await;
    let pod = running(&bench).await;
    bench.device.disconnect();
    let begun = bench.clock.now();
    let (exit, ..) = exec(&bench, &command(&pod, &["sh", "-c", "exit 1"]), None).await;
    says(&exit.unwrap_err(), "within 20 s");
    assert_eq!(bench.clock.now().duration_since(begun).as_secs(), 20);
    bench.pass(50).await;
    let error = read(&bench, &query(&pod)).await.unwrap_err();
    says(&error, "leaves something behind");
    assert_eq!(noted(&bench), 1, "Flight Control keeps it for ever");
    bench.device.reconnect();
    bench.pass(400).await;
    assert_eq!(bench.device.commands(), [""; 0]);
    // Nor is it in what Flight Control keeps.
    let device = bench.device.value().unwrap().to_string();
    assert!(!device.contains("podman exec"), "{device}");
    assert_eq!(read(&bench, &query(&pod)).await.unwrap(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn an_opening_that_nobody_waits_for_is_closed_in_the_end() {
    let bench = Bench::new().await;
    let pod = running(&bench).await;
    // Shortly after a poll the device takes up to 5 s to come.
    assert_eq!(read(&bench, &query(&pod)).await.unwrap(), [""; 0]);
    let ran = bench.device.commands().len();
    let log = query(&pod);
    let opening = bench.backend.logs().unwrap().open(&log);
    timeout(Duration::from_secs(1), opening).await.unwrap_err();
    bench.pass(20).await;
    assert_eq!(noted(&bench), 0);
    assert_eq!(bench.device.commands().len(), ran, "nothing was run");
}

#[tokio::test(start_paused = true)]
async fn openings_at_once_come_one_after_the_other() {
    let bench = Bench::new().await;
    let pod = running(&bench).await;
    let request = command(&pod, &["sh", "-c", "exit 5"]);
    let (a, b) = tokio::join!(exec(&bench, &request, None), exec(&bench, &request, None));
    assert_eq!((a.0, b.0), (Ok(Exit::Code(5)), Ok(Exit::Code(5))));
}

#[tokio::test(start_paused = true)]
async fn a_followed_log_gives_way_to_a_command_and_says_so() {
    let bench = Bench::new().await;
    let pod = running(&bench).await;
    let follow = LogQuery {
        follow: true,
        ..query(&pod)
    };
    let logs = bench.backend.logs().unwrap();
    let log = logs.open(&follow).await.unwrap();
    let error = logs.open(&follow).await.unwrap_err();
    says(&error, "kubectl logs of shop/web");
    let request = command(&pod, &["sh", "-c", "exit 5"]);
    let (told, exit) = tokio::join!(log.items.collect::<Vec<_>>(), exec(&bench, &request, None));
    says(told[0].as_ref().unwrap_err(), "needed for something else");
    assert_eq!(told.len(), 1);
    assert_eq!(exit.0, Ok(Exit::Code(5)));
}

#[tokio::test(start_paused = true)]
async fn writes_wait_while_flight_control_would_undo_them() {
    let bench = Bench::new().await;
    let pod = running(&bench).await;
    bench.service.set_console_gap(Duration::from_secs(1));
    let log = query(&pod);
    let second = request("second", "Always");
    let (log, written) = tokio::join!(read(&bench, &log), async {
        sleep(Duration::from_millis(500)).await;
        bench.ensure(&second).await
    });
    assert_eq!((log.map(|lines| lines.len()), written), (Ok(0), Ok(())));
    bench.pass(30).await;
    assert_eq!(bench.starts(&second), 1);
    let apps = bench.spec()["applications"].as_array().unwrap().len();
    assert_eq!(apps, 2);
}

#[tokio::test(start_paused = true)]
async fn a_write_that_was_undone_all_the_same_is_missed_at_once() {
    let bench = Bench::new().await;
    let pod = running(&bench).await;
    // Longer than writes are held back, and not by whole seconds: the follower looks
    // once a second at a pod that was just written.
    bench.service.set_console_gap(Duration::from_millis(7500));
    let second = request("second", "Always");
    let follow = LogQuery {
        follow: true,
        ..query(&pod)
    };
    let logs = bench.backend.logs().unwrap();
    let (log, ()) = tokio::join!(logs.open(&follow), async {
        sleep(Duration::from_secs(1)).await;
        bench.ensure(&second).await.unwrap();
    });
    let _log = log.unwrap();
    let apps = |bench: &Bench| bench.spec()["applications"].as_array().unwrap().len();
    assert_eq!(apps(&bench), 1, "undone");
    // Before the follower looks again the backend knows, and says so: whoever asks it for
    // the pod again, as the framework does then, gets it written.
    sleep(Duration::from_millis(50)).await;
    bench.service.set_console_gap(Duration::from_millis(10));
    bench.ensure(&second).await.unwrap();
    assert_eq!(apps(&bench), 2);
}

#[tokio::test(start_paused = true)]
async fn a_device_without_sudo_is_a_failure_in_words() {
    let bench = Bench::new().await;
    let pod = running(&bench).await;
    bench.device.without_sudo();
    let (exit, ..) = exec(&bench, &command(&pod, &["sh", "-c", "exit 0"]), None).await;
    says(
        &exit.unwrap_err(),
        "user flightctl-console with a home directory",
    );
}

#[tokio::test(start_paused = true)]
async fn consoles_are_off_unless_the_configuration_says_otherwise() {
    let start: jiff::Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    let clock = vk_sandbox::clock::Clock::stepped(start);
    let service = service::FlightControl::new(clock, service::Options::default());
    service.accept_token_as("viewer", Role::Viewer);
    service.add_device(DeviceSpec::new("device-1"));
    sleep(Duration::from_secs(30)).await;
    let client = |token: &str| {
        let http = Http::builder(TokioExecutor::new()).build(service.endpoint().connector());
        let base = Uri::from_static("http://flightctl.test/");
        Client::new(http, &base, TokenSource::fixed(token))
    };
    let backend = || {
        vk_flightctl::backend::FlightControl::new(
            client("any"),
            World::new("cluster", vk_flightctl::config::default_rules()),
            Clock::stepped(start),
            Duration::from_secs(30),
        )
    };
    assert!(backend().logs().is_none() && backend().exec().is_none());
    assert!(backend().attach().is_none() && backend().port_forward().is_none());
    // kubectl top: nobody measures, with a console or without.
    let everywhere = Consoles {
        enabled: true,
        ..Consoles::default()
    };
    assert!(backend().stats().is_none());
    assert!(backend().with_consoles(everywhere).stats().is_none());
    let of_fleet = Consoles {
        enabled: false,
        fleets: [("paris".to_owned(), true)].into(),
    };
    let backend = backend().with_consoles(of_fleet);
    let pod = request("web", "Always");
    let cx = vk_provider::PodCx {
        events: std::sync::Arc::new(bench::Told::default()),
        journal: std::sync::Arc::new(bench::Told::default()),
        cancel: tokio_util::sync::CancellationToken::new(),
    };
    let following = tokio::spawn({
        let backend = backend.clone();
        async move { backend.follow().await }
    });
    sleep(Duration::from_secs(5)).await;
    backend.ensure(&pod, &cx).await.unwrap();
    let refused = backend
        .logs()
        .unwrap()
        .open(&query(&pod))
        .await
        .unwrap_err();
    assert!(
        matches!(refused, BackendError::Unsupported { .. }),
        "{refused}"
    );
    assert!(
        refused.to_string().contains("devices without a fleet"),
        "{refused}"
    );
    following.abort();
    let forbidden = client("viewer")
        .console("device-1", &json!({}))
        .await
        .unwrap_err();
    assert!(
        forbidden.to_string().contains("forbids device-1"),
        "{forbidden}"
    );
}
