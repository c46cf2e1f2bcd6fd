//! Exec, attach and port-forward.

use std::time::Duration;

use futures::StreamExt;
use futures::channel::mpsc;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::net::TcpListener;
use vk_provider::streams::{AttachRequest, ExecRequest, Exit, ProcessIo};
use vk_provider::{Attach, BackendError, Exec, PodKey, PortForward, TermSize};

use super::processes::Processes;
use super::rig::{Death, backend, in_time, pod, script};

/// A client's ends of a process.
struct Client {
    stdin: DuplexStream,
    stdout: DuplexStream,
    stderr: DuplexStream,
}

/// All three; the sizes are another's matter.
fn io() -> (ProcessIo, Client) {
    let [
        (stdin, to_stdin),
        (from_stdout, stdout),
        (from_stderr, stderr),
    ] = [duplex(4096), duplex(4096), duplex(4096)];
    let io = ProcessIo {
        stdin: Some(Box::new(stdin)),
        stdout: Some(Box::new(stdout)),
        stderr: Some(Box::new(stderr)),
        sizes: None,
    };
    let client = Client {
        stdin: to_stdin,
        stdout: from_stdout,
        stderr: from_stderr,
    };
    (io, client)
}

async fn all(mut from: DuplexStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    from.read_to_end(&mut bytes).await.unwrap();
    bytes
}

async fn line(from: &mut DuplexStream) -> String {
    let mut line = String::new();
    while !line.ends_with('\n') {
        line.push(in_time(from.read_u8()).await.unwrap().into());
    }
    line.trim_end().to_owned()
}

fn exec(pod: &PodKey, command: &[&str], tty: bool) -> ExecRequest {
    ExecRequest {
        pod: pod.clone(),
        container: "main".into(),
        command: command.iter().map(|word| (*word).into()).collect(),
        tty,
    }
}

fn attach(pod: &PodKey, tty: bool) -> AttachRequest {
    AttachRequest {
        pod: pod.clone(),
        container: "main".into(),
        tty,
    }
}

impl Processes {
    /// As a client who joins and says nothing.
    pub async fn close_input(&self, pod: &PodKey) {
        let io = ProcessIo {
            stdin: Some(Box::new(tokio::io::empty())),
            ..ProcessIo::default()
        };
        let request = attach(pod, false);
        in_time(self.attach(&request, io)).await.unwrap();
    }
}

/// Something to run commands in.
async fn sleeper(backend: &Processes) -> PodKey {
    backend.starts(&script("exec sleep 100000")).await
}

#[tokio::test]
async fn a_command_has_an_exit_code_and_outputs_of_its_own() {
    let Some(backend) = backend().await else {
        return;
    };
    let pod = sleeper(&backend).await;
    let (io, client) = io();
    let request = exec(
        &pod,
        &["sh", "-c", "echo out; echo err >&2; exit 42"],
        false,
    );
    let (exit, out, err) = in_time(async {
        tokio::join!(
            backend.exec(&request, io),
            all(client.stdout),
            all(client.stderr)
        )
    })
    .await;
    assert_eq!(exit, Ok(Exit::Code(42)));
    assert_eq!((&*out, &*err), (&b"out\n"[..], &b"err\n"[..]));
    let killed = exec(&pod, &["sh", "-c", "kill -KILL $$"], false);
    let exit = in_time(backend.exec(&killed, ProcessIo::default())).await;
    assert_eq!(exit, Ok(Exit::Code(137)));
    let missing = exec(&pod, &["no-such-program"], false);
    let error = backend.exec(&missing, ProcessIo::default()).await;
    assert!(error.unwrap_err().to_string().contains("no-such-program"));
    let elsewhere = ExecRequest {
        container: "other".into(),
        ..missing
    };
    let error = backend.exec(&elsewhere, ProcessIo::default()).await;
    assert_eq!(error, Err(BackendError::NotFound));
}

#[tokio::test]
async fn ten_megabytes_pass_both_ways_unchanged_and_end() {
    let Some(backend) = backend().await else {
        return;
    };
    let pod = sleeper(&backend).await;
    // Every byte there is, in no short period.
    let bytes: Vec<u8> = (0_u32..10 << 20)
        .map(|n| (n ^ (n >> 8) ^ (n >> 16)) as u8)
        .collect();
    let (io, client) = io();
    let mut stdin = client.stdin;
    let say = async {
        stdin.write_all(&bytes).await.unwrap();
        drop(stdin);
    };
    let request = exec(&pod, &["cat"], false);
    let (exit, (), back) =
        in_time(async { tokio::join!(backend.exec(&request, io), say, all(client.stdout)) }).await;
    assert_eq!(exit, Ok(Exit::Code(0)));
    assert!(back == bytes, "{} bytes came back", back.len());
}

#[tokio::test]
async fn a_client_who_goes_ends_the_command_and_all_it_started() {
    let Some(backend) = backend().await else {
        return;
    };
    let pod = sleeper(&backend).await;
    for tty in [false, true] {
        let (io, mut client) = io();
        let text = "trap '' HUP; echo $$; setsid sh -c 'echo $$; exec sleep 100000' & wait";
        let request = exec(&pod, &["sh", "-c", text], tty);
        let deaths = {
            let mut command = std::pin::pin!(backend.exec(&request, io));
            let mut read = std::pin::pin!(async {
                [
                    Death::of(&line(&mut client.stdout).await),
                    Death::of(&line(&mut client.stdout).await),
                ]
            });
            tokio::select! {
                exit = &mut command => panic!("{exit:?}"),
                deaths = &mut read => deaths,
            }
        };
        for death in deaths {
            death.comes().await;
        }
    }
}

#[tokio::test]
async fn commands_end_with_their_container() {
    let Some(backend) = backend().await else {
        return;
    };
    let pod = sleeper(&backend).await;
    let (io, mut client) = io();
    let request = exec(
        &pod,
        &["sh", "-c", "trap '' TERM; echo; sleep 100000"],
        false,
    );
    let end = async {
        line(&mut client.stdout).await;
        vk_provider::Backend::stop(&backend, &pod, Duration::from_secs(60)).await
    };
    let (exit, stopped) = in_time(async { tokio::join!(backend.exec(&request, io), end) }).await;
    assert_eq!((exit, stopped), (Ok(Exit::Code(137)), Ok(())));
    backend.end_of(&pod).await;
    let gone = backend.exec(&request, ProcessIo::default()).await;
    assert_eq!(gone, Err(BackendError::NotFound));
}

#[tokio::test]
async fn a_terminal_has_the_sizes_that_the_client_says() {
    let Some(backend) = backend().await else {
        return;
    };
    let main = pod(&["sleep", "100000"], json!({"tty": true, "stdin": true}));
    let pod = backend.starts(&main).await;
    let (mut io, mut client) = io();
    let (say, sizes) = mpsc::unbounded();
    io.sizes = Some(sizes.boxed());
    let size = |width, height| say.unbounded_send(TermSize { width, height }).unwrap();
    let text = "trap 'stty size; exit 5' WINCH; stty size; sleep 100000 & wait";
    let request = exec(&pod, &["sh", "-c", text], true);
    size(100, 40);
    let talk = async {
        assert_eq!(line(&mut client.stdout).await, "40 100");
        size(120, 50);
        assert_eq!(line(&mut client.stdout).await, "50 120");
    };
    let (exit, ()) = in_time(async { tokio::join!(backend.exec(&request, io), talk) }).await;
    assert_eq!(exit, Ok(Exit::Code(5)));
}

#[tokio::test]
async fn a_terminal_passes_on_interrupts_and_the_end() {
    let Some(backend) = backend().await else {
        return;
    };
    let pod = sleeper(&backend).await;
    for (last, code) in [("\u{3}", 130), ("half a line", 0)] {
        let (io, mut client) = io();
        let talk = async {
            client.stdin.write_all(b"hello\n").await.unwrap();
            // The terminal's echo, and what the command makes of it.
            for _ in 0..2 {
                assert_eq!(line(&mut client.stdout).await, "hello");
            }
            client.stdin.write_all(last.as_bytes()).await.unwrap();
            drop(client.stdin);
            all(client.stdout).await
        };
        let request = exec(&pod, &["cat"], true);
        let (exit, _) = in_time(async { tokio::join!(backend.exec(&request, io), talk) }).await;
        assert_eq!(exit, Ok(Exit::Code(code)), "{last:?}");
    }
}

#[tokio::test]
async fn a_terminal_does_not_wait_for_what_stays_on_it() {
    let Some(backend) = backend().await else {
        return;
    };
    let pod = sleeper(&backend).await;
    let (io, client) = io();
    let text = "trap '' HUP; sleep 100000 & echo said; exit 5";
    let request = exec(&pod, &["sh", "-c", text], true);
    let talk = async { tokio::join!(backend.exec(&request, io), all(client.stdout)) };
    let (exit, out) = in_time(talk).await;
    assert_eq!((exit, &*out), (Ok(Exit::Code(5)), &b"said\r\n"[..]));
}

#[tokio::test]
async fn attach_joins_output_and_input_and_once_closes_it() {
    let Some(backend) = backend().await else {
        return;
    };
    let text = "echo ready; while read line; do echo \"got $line\"; done; echo bye >&2; exit 4";
    for (once, clients) in [(true, 1), (false, 2)] {
        let fields = json!({"stdin": true, "stdinOnce": once});
        let pod = backend.starts(&pod(&["sh", "-c", text], fields)).await;
        backend.first_line(&pod).await;
        for number in 1..=clients {
            let (io, mut client) = io();
            let request = attach(&pod, false);
            let mut joined = std::pin::pin!(backend.attach(&request, io));
            let talk = async {
                client.stdin.write_all(b"word\n").await.unwrap();
                line(&mut client.stdout).await
            };
            tokio::select! {
                exit = &mut joined => panic!("{exit:?}"),
                got = in_time(talk) => assert_eq!(got, "got word", "client {number}"),
            }
            if once {
                drop(client.stdin);
                let (exit, err) = in_time(async { tokio::join!(joined, all(client.stderr)) }).await;
                assert_eq!((exit, &*err), (Ok(Exit::Code(4)), &b"bye\n"[..]));
            }
        }
        if once {
            backend.end_of(&pod).await;
            let gone = backend
                .attach(&attach(&pod, false), ProcessIo::default())
                .await;
            assert_eq!(gone, Err(BackendError::NotFound));
        } else {
            // Nobody's going has ended it.
            let facts = backend.until(&pod, |_| true).await;
            assert!(!facts.ended);
        }
    }
}

#[tokio::test]
async fn attach_reaches_the_terminal_of_a_container() {
    let Some(backend) = backend().await else {
        return;
    };
    let text = "echo ready; read line; stty size; exit 6";
    let main = pod(&["sh", "-c", text], json!({"stdin": true, "tty": true}));
    let pod = backend.starts(&main).await;
    backend.first_line(&pod).await;
    let (mut io, mut client) = io();
    let (say, sizes) = mpsc::unbounded();
    io.sizes = Some(sizes.boxed());
    let size = TermSize {
        width: 77,
        height: 33,
    };
    say.unbounded_send(size).unwrap();
    let talk = async {
        client.stdin.write_all(b"x\n").await.unwrap();
        all(client.stdout).await
    };
    let request = attach(&pod, true);
    let (exit, out) = in_time(async { tokio::join!(backend.attach(&request, io), talk) }).await;
    assert_eq!(exit, Ok(Exit::Code(6)));
    assert_eq!(String::from_utf8(out).unwrap(), "x\r\n33 77\r\n");
    let plain = sleeper(&backend).await;
    let error = backend
        .attach(&attach(&plain, true), ProcessIo::default())
        .await;
    assert!(matches!(error, Err(BackendError::Unsupported { field, .. }) if field == "tty"));
}

#[tokio::test]
async fn ports_are_those_of_this_machine_and_a_closed_one_is_told() {
    let Some(backend) = backend().await else {
        return;
    };
    let pod = sleeper(&backend).await;
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (connection, accepted) = tokio::join!(backend.connect(&pod, port), listener.accept());
    let (mut ours, (mut theirs, _)) = (connection.unwrap(), accepted.unwrap());
    ours.write_all(b"ping").await.unwrap();
    ours.shutdown().await.unwrap();
    let mut heard = Vec::new();
    theirs.read_to_end(&mut heard).await.unwrap();
    assert_eq!(heard, b"ping");
    drop(listener);
    let refused = backend.connect(&pod, port).await.err();
    let told = matches!(&refused, Some(BackendError::Unavailable { message, .. })
        if message.contains(&port.to_string()));
    assert!(told, "{refused:?}");
    let stranger = PodKey::new("default", "nobody", "nobody");
    let error = backend.connect(&stranger, port).await.err();
    assert_eq!(error, Some(BackendError::NotFound));
}
