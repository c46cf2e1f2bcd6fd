//! Logs and processes through the console of a simulated device, on the stepped
//! clock.

#![allow(
    unreachable_pub,
    missing_debug_implementations,
    clippy::unwrap_used,
    dead_code,
    reason = "modules of one test"
)]

#[path = "../inputs/bench.rs"]
mod bench;
mod bytes;
mod rules;

use std::time::Duration;

use futures::{FutureExt, StreamExt};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::time::{sleep, timeout};
use vk_flightctl::mapping::{app_id, app_name};
use vk_provider::streams::{ExecRequest, Exit, ProcessIo};
use vk_provider::{
    Backend, BackendError, Inputs, LogItem, LogQuery, LogSource, PodChange, PodKey, PodRequest,
    TermSize,
};
use vk_sandbox::flightctl::Script;

use bench::{Bench, pod};

fn request(name: &str, policy: &str) -> PodRequest {
    let spec = json!({"restartPolicy": policy, "containers": [{"name": "app", "image": "nginx"}]});
    pod(name, spec, Inputs::default(), PodChange::First)
}

/// A pod that runs.
async fn running(bench: &Bench) -> PodRequest {
    let request = request("web", "Always");
    bench.ensure(&request).await.unwrap();
    bench.runs(&request, "app", 1).await;
    request
}

fn query(pod: &PodRequest) -> LogQuery {
    LogQuery {
        pod: pod.key.clone(),
        labels: Default::default(),
        container: "app".into(),
        previous: false,
        follow: false,
        since: None,
        tail: None,
    }
}

/// A log as lines, each with its stream; an error is the last.
async fn read(bench: &Bench, query: &LogQuery) -> Result<Vec<String>, BackendError> {
    let log = bench.backend.logs().unwrap().open(query).await?;
    let items = log.items.map(|item| match item {
        Ok(LogItem::Written(chunk)) => {
            let from = if chunk.source == LogSource::Stdout {
                "out"
            } else {
                "err"
            };
            format!("{from} {}", String::from_utf8_lossy(&chunk.bytes))
        }
        Ok(LogItem::Present) => "present".into(),
        Err(error) => format!("error {error}"),
    });
    Ok(items.collect().await)
}

struct Ends {
    stdin: Option<DuplexStream>,
    stdout: DuplexStream,
    stderr: DuplexStream,
}

fn io(stdin: bool) -> (ProcessIo, Ends) {
    let pipe = || duplex(1024);
    let (out, stdout) = pipe();
    let (err, stderr) = pipe();
    let (input, end) = if stdin {
        let (a, b) = pipe();
        (Some(a), Some(b))
    } else {
        (None, None)
    };
    let io = ProcessIo {
        stdin: input.map(|input| Box::new(input) as _),
        stdout: Some(Box::new(out)),
        stderr: Some(Box::new(err)),
        sizes: None,
    };
    (
        io,
        Ends {
            stdin: end,
            stdout,
            stderr,
        },
    )
}

fn command(pod: &PodRequest, words: &[&str]) -> ExecRequest {
    ExecRequest {
        pod: pod.key.clone(),
        container: "app".into(),
        command: words.iter().map(|&word| word.to_owned()).collect(),
        tty: false,
    }
}

/// Runs a command: its end, and what it printed.
async fn exec(
    bench: &Bench,
    request: &ExecRequest,
    input: Option<&str>,
) -> (Result<Exit, BackendError>, String, String) {
    let (io, mut ends) = io(input.is_some());
    if let (Some(stdin), Some(input)) = (&mut ends.stdin, input) {
        stdin.write_all(input.as_bytes()).await.unwrap();
    }
    drop(ends.stdin);
    let (mut out, mut err) = (String::new(), String::new());
    let exec = bench.backend.exec().unwrap();
    let (exit, ..) = tokio::join!(
        exec.exec(request, io),
        ends.stdout.read_to_string(&mut out),
        ends.stderr.read_to_string(&mut err),
    );
    (exit, out, err)
}

/// Sessions that Flight Control keeps for the device.
fn noted(bench: &Bench) -> usize {
    let device = bench.device.value().unwrap();
    let text = device["metadata"]["annotations"]["device-controller/console"].as_str();
    let list: Vec<serde_json::Value> = serde_json::from_str(text.unwrap_or("[]")).unwrap();
    list.len()
}

#[tokio::test(start_paused = true)]
async fn a_log_has_both_streams_in_the_order_of_writing_and_no_time_in_its_lines() {
    let bench = Bench::new().await;
    let every = Duration::from_millis(10);
    bench.device.script(
        Script::any()
            .prints(every, &["one", ""])
            .complains(every, "oh")
            .prints(every, &["two  words"]),
    );
    let pod = running(&bench).await;
    let all = ["out one\n", "out \n", "err oh\n", "out two  words\n"];
    assert_eq!(read(&bench, &query(&pod)).await.unwrap(), all);
    let last = LogQuery {
        tail: Some(2),
        ..query(&pod)
    };
    assert_eq!(read(&bench, &last).await.unwrap(), all[2..]);
    let late = LogQuery {
        since: Some(bench.clock.now()),
        ..query(&pod)
    };
    assert_eq!(read(&bench, &late).await.unwrap(), [""; 0]);
    bench.pass(5).await;
    assert_eq!(noted(&bench), 0, "every session was closed");
}

#[tokio::test(start_paused = true)]
async fn a_followed_log_ends_with_its_container_and_then_the_journal_has_it() {
    let mut bench = Bench::new().await;
    let script = Script::any()
        .prints(Duration::from_secs(50), &["early", "late"])
        .exits(Duration::from_secs(130), 3);
    bench.device.script(script);
    let pod = request("job", "Never");
    bench.ensure(&pod).await.unwrap();
    bench.runs(&pod, "app", 1).await;
    let follow = LogQuery {
        follow: true,
        ..query(&pod)
    };
    let begun = bench.clock.now();
    assert_eq!(
        read(&bench, &follow).await.unwrap(),
        ["out early\n", "out late\n"]
    );
    assert!(bench.clock.now().duration_since(begun).as_secs() > 90);
    bench.pass(20).await;
    // Its container is not there any more, and the framework counts the lines.
    let podman = format!(
        "podman logs --timestamps {}-app",
        app_id(&app_name(&pod.key.uid))
    );
    assert_eq!(
        read(&bench, &query(&pod)).await.unwrap(),
        ["out early\n", "out late\n"]
    );
    assert!(!bench.device.commands().contains(&podman));
    let last = LogQuery {
        tail: Some(1),
        ..query(&pod)
    };
    let log = bench.backend.logs().unwrap().open(&last).await.unwrap();
    assert!(!log.tailed);
    assert_eq!(log.items.count().await, 2);
    // Nor is it on the device any more: the pod is not looked after.
    bench.backend.release(&pod.key).await.unwrap();
    bench.pass(20).await;
    assert_eq!(bench.device.applications().len(), 0);
    bench.restart().await;
    assert_eq!(
        read(&bench, &query(&pod)).await,
        Err(BackendError::NotFound)
    );
    let labels = [("flightctl.io/device", "device-1")];
    let left = LogQuery {
        labels: labels.map(|(k, v)| (k.into(), v.into())).into(),
        ..query(&pod)
    };
    assert_eq!(
        read(&bench, &left).await.unwrap(),
        ["out early\n", "out late\n"]
    );
}

#[tokio::test(start_paused = true)]
async fn a_log_that_is_not_there_and_the_one_before_are_refused_in_words() {
    let bench = Bench::new().await;
    let pod = running(&bench).await;
    let other = LogQuery {
        container: "other".into(),
        ..query(&pod)
    };
    assert_eq!(read(&bench, &other).await, Err(BackendError::NotFound));
    let unknown = LogQuery {
        pod: PodKey::new("shop", "no", "no"),
        ..query(&pod)
    };
    assert_eq!(read(&bench, &unknown).await, Err(BackendError::NotFound));
    let previous = LogQuery {
        previous: true,
        ..query(&pod)
    };
    let error = read(&bench, &previous).await.unwrap_err();
    assert!(
        matches!(&error, BackendError::Unsupported { field, .. } if field == "previous"),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_a_followed_log_leaves_nothing_behind() {
    let bench = Bench::new().await;
    let pod = running(&bench).await;
    let follow = LogQuery {
        follow: true,
        ..query(&pod)
    };
    let mut log = bench.backend.logs().unwrap().open(&follow).await.unwrap();
    assert!(log.items.next().now_or_never().is_none(), "it is silent");
    assert_eq!(noted(&bench), 1);
    drop(log);
    bench.pass(5).await;
    assert_eq!(noted(&bench), 0);
    let (exit, ..) = exec(&bench, &command(&pod, &["sh", "-c", "exit 0"]), None).await;
    assert_eq!(exit, Ok(Exit::Code(0)));
}

#[tokio::test(start_paused = true)]
async fn a_command_has_its_words_its_streams_and_its_code() {
    let bench = Bench::new().await;
    let pod = running(&bench).await;
    let words = command(&pod, &["echo", "it's", "a  \"b\" $HOME `x` \\", ";&"]);
    let (plain, text, _) = exec(&bench, &words, None).await;
    assert_eq!(
        (plain, text.as_str()),
        (Ok(Exit::Code(0)), "it's a  \"b\" $HOME `x` \\ ;&\n")
    );
    let (exit, out, err) = exec(
        &bench,
        &command(&pod, &["sh", "-c", "echo careful >&2"]),
        None,
    )
    .await;
    assert_eq!(
        (exit, out.as_str(), err.as_str()),
        (Ok(Exit::Code(0)), "", "careful\n")
    );
    let (exit, ..) = exec(&bench, &command(&pod, &["sh", "-c", "exit 42"]), None).await;
    assert_eq!(exit, Ok(Exit::Code(42)));
    let (exit, _, err) = exec(&bench, &command(&pod, &["nope"]), None).await;
    assert_eq!(exit, Ok(Exit::Code(127)));
    assert!(err.contains("`nope` not found"), "{err}");
    let (exit, out, _) = exec(&bench, &command(&pod, &["cat"]), Some("in\nand out")).await;
    assert_eq!((exit, out.as_str()), (Ok(Exit::Code(0)), "in\nand out"));
}

#[tokio::test(start_paused = true)]
async fn a_container_that_does_not_run_has_no_processes() {
    let bench = Bench::new().await;
    let pod = running(&bench).await;
    let other = ExecRequest {
        container: "other".into(),
        ..command(&pod, &["echo"])
    };
    assert_eq!(
        exec(&bench, &other, None).await.0,
        Err(BackendError::NotFound)
    );
    bench.backend.stop(&pod.key, Duration::ZERO).await.unwrap();
    bench.until(|b| b.device.applications().is_empty()).await;
    let (exit, ..) = exec(&bench, &command(&pod, &["echo"]), None).await;
    assert_eq!(exit, Err(BackendError::NotFound));
}

#[tokio::test(start_paused = true)]
async fn a_terminal_has_a_size_and_one_stream() {
    let bench = Bench::new().await;
    let pod = running(&bench).await;
    let (mut io, mut ends) = io(true);
    let size = TermSize {
        width: 132,
        height: 43,
    };
    io.sizes = Some(futures::stream::iter([size]).boxed());
    let request = ExecRequest {
        tty: true,
        ..command(&pod, &["stty", "size"])
    };
    let mut out = String::new();
    let exec = bench.backend.exec().unwrap();
    let (exit, read) = tokio::join!(
        exec.exec(&request, io),
        ends.stdout.read_to_string(&mut out)
    );
    read.unwrap();
    assert_eq!(exit, Ok(Exit::Code(0)));
    assert_eq!(out, "43 132\r\n");
    let ran = bench.device.commands().pop().unwrap();
    assert!(ran.starts_with("podman exec -i -t "), "{ran}");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_goes_ends_its_command_and_the_session() {
    let bench = Bench::new().await;
    let pod = running(&bench).await;
    let (io, _ends) = io(true);
    let request = command(&pod, &["sleep", "100000"]);
    let running = bench.backend.exec().unwrap();
    let gone = timeout(Duration::from_secs(30), running.exec(&request, io)).await;
    assert!(gone.is_err());
    sleep(Duration::from_secs(5)).await;
    assert_eq!(noted(&bench), 0);
    let (exit, ..) = exec(&bench, &command(&pod, &["sh", "-c", "exit 1"]), None).await;
    assert_eq!(exit, Ok(Exit::Code(1)));
}
