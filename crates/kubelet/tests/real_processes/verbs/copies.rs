//! `kubectl cp`.

use std::fs;
use std::path::Path;

use serde_json::json;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::kubectl::{Kubectl, container};

/// Of the large file, unless `VK_LARGE=1`: then a thousand.
const MEBIBYTES: u32 = 64;
const LARGE: u32 = 1024;

fn path(folder: &TempDir, name: &str) -> String {
    folder.path().join(name).to_str().unwrap().to_owned()
}

/// Writes a file that repeats nothing; its checksum.
fn large(path: &str) -> String {
    use std::io::Write as _;
    let large = std::env::var("VK_LARGE").is_ok_and(|large| large == "1");
    let mut file = fs::File::create(path).unwrap();
    let mut block: Vec<u8> = (0_u32..1 << 20)
        .map(|n| (n.wrapping_mul(0x9E37_79B1) >> 24) as u8)
        .collect();
    for number in 0..if large { LARGE } else { MEBIBYTES } {
        block[..4].copy_from_slice(&number.to_be_bytes());
        file.write_all(&block).unwrap();
    }
    drop(file);
    checksum(Path::new(path))
}

fn checksum(path: &Path) -> String {
    let mut hash = Sha256::new();
    std::io::copy(&mut fs::File::open(path).unwrap(), &mut hash).unwrap();
    hash.finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

async fn pod(kubectl: &Kubectl, name: &str) {
    let containers = json!([container("app", "exec sleep 100000", json!({}))]);
    kubectl.starts(name, "Always", containers).await;
}

async fn cp(kubectl: &Kubectl, from: &str, to: &str) {
    let copied = kubectl.run(&["cp", from, to], b"").await;
    assert_eq!(copied.code, Some(0), "{copied:?}");
}

pub async fn both_ways(kubectl: &Kubectl) {
    pod(kubectl, "copies").await;
    let folder = tempfile::tempdir().unwrap();
    let (up, down) = (path(&folder, "up"), path(&folder, "down"));
    let wanted = tokio::task::spawn_blocking({
        let up = up.clone();
        move || large(&up)
    });
    let wanted = wanted.await.unwrap();
    cp(kubectl, &up, "copies:blob").await;
    let there = kubectl
        .exec("copies", &[], &["sha256sum", "blob"], b"")
        .await;
    assert_eq!(there.text(), format!("{wanted}  blob\n"), "{there:?}");
    fs::remove_file(&up).unwrap();
    cp(kubectl, "copies:blob", &down).await;
    let back = tokio::task::spawn_blocking(move || checksum(Path::new(&down)));
    assert_eq!(back.await.unwrap(), wanted);
}

pub async fn folders_and_refusals(kubectl: &Kubectl) {
    pod(kubectl, "folders").await;
    let folder = tempfile::tempdir().unwrap();
    let (up, down) = (path(&folder, "up"), path(&folder, "down"));
    fs::create_dir_all(Path::new(&up).join("in it")).unwrap();
    fs::write(Path::new(&up).join("in it/zwölf"), b"\0\xff\r\n").unwrap();
    fs::write(Path::new(&up).join("empty"), b"").unwrap();
    cp(kubectl, &up, "folders:there").await;
    cp(kubectl, "folders:there", &down).await;
    let read = |name: &str| fs::read(Path::new(&down).join(name)).unwrap();
    assert_eq!(read("in it/zwölf"), b"\0\xff\r\n");
    assert_eq!(read("empty"), b"");
    let args = ["cp", &path(&folder, "up/empty"), "folders:/no/such/x"];
    let refused = kubectl.run(&args, b"").await;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(
        refused
            .stderr
            .contains("'/no/such': No such file or directory\n"),
        "{refused:?}"
    );
}
