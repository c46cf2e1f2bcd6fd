//! Bytes and terminals, through to the device and back.

use futures::channel::mpsc;
use sha2::{Digest, Sha256};
use tokio::io::AsyncRead;

use super::*;

/// Longest wait for what is to be shown, on the stepped clock.
const PATIENCE: Duration = Duration::from_secs(60);

/// A MiB of every value, in no order that a text would have.
fn blob() -> Vec<u8> {
    let all = (0..1_u32 << 20).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8);
    all.collect()
}

#[tokio::test(start_paused = true)]
async fn a_mebibyte_of_every_byte_comes_back_from_the_device_as_it_went() {
    let bench = Bench::new().await;
    let pod = running(&bench).await;
    let sent = blob();
    assert!((0..=u8::MAX).all(|byte| sent.contains(&byte)));
    let (io, mut ends) = io(true);
    let mut stdin = ends.stdin.take().unwrap();
    let typing = async {
        stdin.write_all(&sent).await.unwrap();
        drop(stdin);
    };
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let request = command(&pod, &["cat"]);
    let exec = bench.backend.exec().unwrap();
    let (exit, (), ..) = tokio::join!(
        exec.exec(&request, io),
        typing,
        ends.stdout.read_to_end(&mut out),
        ends.stderr.read_to_end(&mut err),
    );
    assert_eq!(exit, Ok(Exit::Code(0)));
    let sum = |bytes: &[u8]| (bytes.len(), Sha256::digest(bytes));
    assert_eq!(sum(&out), sum(&sent));
    assert_eq!(err, b"");
}

/// Waits until it is shown.
async fn shows(screen: &mut (impl AsyncRead + Unpin), wanted: &str) {
    let mut seen = Vec::new();
    let seeing = async {
        while !String::from_utf8_lossy(&seen).contains(wanted) {
            assert!(screen.read_buf(&mut seen).await.unwrap() > 0, "{seen:?}");
        }
    };
    let seeing = timeout(PATIENCE, seeing).await;
    assert!(
        seeing.is_ok(),
        "{wanted:?} is not in {:?}",
        String::from_utf8_lossy(&seen)
    );
}

#[tokio::test(start_paused = true)]
async fn a_terminal_that_gets_another_size_has_it_on_the_device() {
    let bench = Bench::new().await;
    let pod = running(&bench).await;
    let (mut io, mut ends) = io(true);
    let (resized, sizes) = mpsc::unbounded();
    io.sizes = Some(sizes.boxed());
    let resize = |width, height| {
        let size = TermSize { width, height };
        resized.unbounded_send(size).unwrap();
    };
    resize(90, 30);
    let request = ExecRequest {
        tty: true,
        ..command(&pod, &["sh"])
    };
    let mut stdin = ends.stdin.take().unwrap();
    let using = async {
        stdin.write_all(b"stty size\r").await.unwrap();
        shows(&mut ends.stdout, "stty size\r\n30 90\r\n").await;
        stdin.write_all(b"stty size\r").await.unwrap();
        shows(&mut ends.stdout, "stty size\r\n30 90\r\n").await;
        resize(120, 40);
        // It goes its own way to the device.
        bench.pass(1).await;
        stdin.write_all(b"stty size\r").await.unwrap();
        shows(&mut ends.stdout, "stty size\r\n40 120\r\n").await;
        stdin.write_all(b"exit 3\r").await.unwrap();
        let mut rest = Vec::new();
        ends.stdout.read_to_end(&mut rest).await.unwrap();
    };
    let exec = bench.backend.exec().unwrap();
    let (exit, ()) = tokio::join!(exec.exec(&request, io), using);
    assert_eq!(exit, Ok(Exit::Code(3)));
}
