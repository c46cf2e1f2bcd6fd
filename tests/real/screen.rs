//! A program on a terminal, as somebody sits before it.

use std::time::Duration;

use pty_process::{Pty, Size};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Child;
use tokio::time::timeout;

/// For whatever is to be seen next.
const PATIENCE: Duration = Duration::from_secs(30);

pub struct Screen {
    pty: Pty,
    child: Child,
    /// And not waited for yet.
    seen: String,
}

impl Screen {
    /// It ends with its handle.
    pub fn of(command: &std::process::Command) -> Self {
        let (pty, pts) = pty_process::open().unwrap();
        pty.resize(Size::new(30, 90)).unwrap();
        let environment = command
            .get_envs()
            .filter_map(|(name, value)| Some((name, value?)));
        let child = pty_process::Command::new(command.get_program())
            .args(command.get_args())
            .envs(environment)
            .kill_on_drop(true)
            .spawn(pts)
            .unwrap();
        Self {
            pty,
            child,
            seen: String::new(),
        }
    }

    pub async fn types(&mut self, text: &str) {
        let typed = timeout(PATIENCE, self.pty.write_all(text.as_bytes()));
        typed.await.expect("it takes no more").unwrap();
    }

    pub fn resize(&self, rows: u16, columns: u16) {
        self.pty.resize(Size::new(rows, columns)).unwrap();
    }

    /// Waits until it shows this, behind what was waited for before.
    pub async fn shows(&mut self, wanted: &str) {
        self.until(wanted).await;
    }

    /// What it shows before this, which it waits for.
    pub async fn until(&mut self, end: &str) -> String {
        loop {
            if let Some(at) = self.seen.find(end) {
                return self.seen.drain(..at + end.len()).take(at).collect();
            }
            assert!(self.reads().await, "{end:?} is not in {:?}", self.seen);
        }
    }

    /// How kubectl ended, and what it showed that was not waited for.
    pub async fn ends(mut self) -> (Option<i32>, String) {
        while self.reads().await {}
        let ended = timeout(PATIENCE, self.child.wait()).await;
        let status = ended.expect("it does not end").unwrap();
        (status.code(), self.seen)
    }

    /// As a terminal that is closed by force.
    pub async fn killed(mut self) {
        self.child.kill().await.unwrap();
    }

    async fn reads(&mut self) -> bool {
        let mut chunk = [0; 4096];
        // Its end is an error.
        let read = timeout(PATIENCE, self.pty.read(&mut chunk)).await;
        let read = read.unwrap_or_else(|_| panic!("no more than {:?}", self.seen));
        let length = read.unwrap_or(0);
        self.seen
            .push_str(&String::from_utf8_lossy(&chunk[..length]));
        length > 0
    }
}
