//! The folder that everything happens in, and the warden: a process that outlives
//! this one, however it ends, kills what it has started and removes the folder.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::Mutex;
use tokio::time::timeout;
use tracing::warn;
use vk_provider::Uid;

use super::family::{Mark, VARIABLE};

/// Folder of links to busybox's applets.
const APPLETS: &str = "bin";

/// Its input ends when this process does. `$1` is what the environment of each
/// process of ours has in it, `$2` the folder. It looks more than once, for what
/// was just being started.
const WARDEN: &str = r#"
cat >/dev/null
for round in 1 2 3; do
  for file in /proc/[0-9]*/environ; do
    if grep -qzs "^$1" "$file"; then
      pid=${file#/proc/}
      kill -KILL "${pid%/environ}"
    fi
  done
done
rm -rf "$2"
"#;

/// The warden takes moments; on a busy machine more.
const WARDEN_TIME: Duration = Duration::from_secs(30);

/// The folder and its warden.
pub(super) struct Home {
    folder: PathBuf,
    mark: Mark,
    warden: Mutex<Option<(Child, ChildStdin)>>,
}

impl Home {
    /// Makes a folder with all of busybox's applets in it.
    ///
    /// # Errors
    /// There is no busybox, or no folder can be made.
    pub(super) async fn make() -> io::Result<Self> {
        let folder = tempfile::Builder::new().prefix("vk-mock-").tempdir()?;
        let applets = folder.path().join(APPLETS);
        fs::create_dir(&applets)?;
        let mut install = Command::new("busybox");
        let installed = install.args(["--install", "-s"]).arg(&applets).output();
        let installed = installed.await.map_err(|error| {
            let text = format!("busybox: {error} (apt-get install busybox-static)");
            io::Error::new(error.kind(), text)
        })?;
        if !installed.status.success() {
            let text = String::from_utf8_lossy(&installed.stderr);
            return Err(io::Error::other(format!("busybox --install: {text}")));
        }
        // From here on it is the warden's to remove.
        let folder = folder.keep();
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        let mark = Mark::new(&name);
        Ok(Self {
            warden: Mutex::new(Some(watch(&folder, &mark)?)),
            folder,
            mark,
        })
    }

    /// Of all that is started here.
    pub(super) fn mark(&self) -> &Mark {
        &self.mark
    }

    /// Where programs are looked for.
    pub(super) fn applets(&self) -> PathBuf {
        self.folder.join(APPLETS)
    }

    /// A pod's own folder.
    pub(super) fn folder(&self, pod: &Uid) -> io::Result<PathBuf> {
        let folder = self.folder.join("pods").join(file_name(pod)?);
        fs::create_dir_all(&folder)?;
        Ok(folder)
    }

    /// Everything ends, and the folder is gone.
    pub(super) async fn end(&self) {
        let Some((mut warden, input)) = self.warden.lock().await.take() else {
            return;
        };
        drop(input);
        match timeout(WARDEN_TIME, warden.wait()).await {
            Ok(Ok(status)) if status.success() => {}
            other => warn!(?other, "processes of pods may be left over"),
        }
    }
}

/// A UID is chosen by the API server; it is no way out of the folder.
fn file_name(uid: &Uid) -> io::Result<&str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
    match uid.as_str() {
        text if !text.is_empty() && text.chars().all(plain) => Ok(text),
        text => Err(io::Error::other(format!("{text:?} is no UID"))),
    }
}

fn watch(folder: &Path, mark: &Mark) -> io::Result<(Child, ChildStdin)> {
    let applets = folder.join(APPLETS);
    let mut warden = Command::new(applets.join("sh"))
        .args(["-c", WARDEN, "warden"])
        .arg(format!("{VARIABLE}={}/", mark.as_str()))
        .arg(folder)
        .env_clear()
        .env("PATH", applets)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // Ctrl-C is for this process alone.
        .process_group(0)
        .spawn()?;
    let input = warden.stdin.take();
    let input = input.ok_or_else(|| io::Error::other("the warden has no input"))?;
    Ok((warden, input))
}
