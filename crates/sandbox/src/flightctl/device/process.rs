//! A process in a simulated container: a shell of simple commands, and the programs
//! that have to do with its ends.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::time::sleep;

use super::podman::NO_COMMAND;
use super::programs::{Done, SYNTAX, absolute, name, program, refused, said, unpacked};
use super::simulated::Simulated;
use super::statements::statements;
use super::terminal::Terminal;

/// Longest archive that a container takes: it is held in memory.
const ARCHIVE: u64 = 64 << 20;
/// What ends the input of a terminal.
const END_OF_INPUT: u8 = 4;
/// What takes back what was typed.
const INTERRUPT: u8 = 3;
/// What takes back one character.
const ERASE: [u8; 2] = [8, 127];

/// A process in a container, with its ends.
pub(super) struct Process<'a, R, W> {
    pub(super) host: &'a Simulated,
    /// The container, as podman knows it.
    pub(super) container: &'a str,
    /// `None` where the client gave none.
    pub(super) stdin: Option<&'a mut BufReader<R>>,
    pub(super) stdout: &'a mut W,
    pub(super) stderr: &'a mut W,
    /// If it has one.
    pub(super) terminal: Option<Terminal<'a, R>>,
}

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin> Process<'_, R, W> {
    /// Runs a command to its end; its code.
    pub(super) async fn run(&mut self, words: &[&str]) -> io::Result<i32> {
        match name(words) {
            "sh" => match words {
                [_, "-c", script, ..] => Ok(self.script(script).await?.0),
                [_] => self.shell().await,
                _ => self.finish(refused("sh", "is not taken"), None).await,
            },
            _ => self.command(words, None).await,
        }
    }

    /// A command whose output may go to a file.
    async fn command(&mut self, words: &[&str], to: Option<&str>) -> io::Result<i32> {
        match (name(words), &words[1..]) {
            ("cat", [] | ["-"]) => {
                let input = self.input(u64::MAX, to.is_none()).await?;
                let out = Done {
                    out: input,
                    ..Done::default()
                };
                self.finish(out, to).await
            }
            ("sleep", [seconds]) => {
                let seconds = seconds.parse().unwrap_or_default();
                sleep(Duration::from_secs(seconds)).await;
                Ok(0)
            }
            ("stty", ["size"]) => {
                let done = self.size().await?;
                self.finish(done, to).await
            }
            ("touch", files) => {
                for file in files {
                    self.host
                        .write_into(self.container, &absolute("/", file), Vec::new());
                }
                Ok(0)
            }
            ("tar", options)
                if options
                    .iter()
                    .any(|o| o.ends_with("xmf") || o.ends_with("xf")) =>
            {
                let input = self.input(ARCHIVE, false).await?;
                let folder = options.iter().position(|o| *o == "-C");
                let folder = folder.and_then(|at| options.get(at + 1)).unwrap_or(&"/");
                match unpacked(&input) {
                    Ok(files) => {
                        for (path, content) in files {
                            let path = absolute(folder, &path);
                            self.host.write_into(self.container, &path, content);
                        }
                        Ok(0)
                    }
                    Err(why) => self.finish(refused("tar", &why.to_string()), to).await,
                }
            }
            _ => {
                let Some(container) = self.host.inside(self.container) else {
                    return Ok(NO_COMMAND);
                };
                self.finish(program(words, &container), to).await
            }
        }
    }

    /// The input to its end; shown on the way, if it is to be.
    async fn input(&mut self, limit: u64, show: bool) -> io::Result<Vec<u8>> {
        let mut all = Vec::new();
        if self.terminal.is_some() {
            while let Some(line) = self.line().await? {
                let line = format!("{line}\n").into_bytes();
                if show {
                    self.print(&line).await?;
                } else {
                    all.extend(line);
                }
            }
            return Ok(all);
        }
        let Some(stdin) = &mut self.stdin else {
            return Ok(all);
        };
        if show {
            tokio::io::copy_buf(stdin, self.stdout).await?;
        } else {
            stdin.take(limit).read_to_end(&mut all).await?;
        }
        Ok(all)
    }

    async fn size(&mut self) -> io::Result<Done> {
        match &mut self.terminal {
            Some(terminal) => Ok(said(terminal.size().await?)),
            None => Ok(refused("stty", "standard input: Not a tty")),
        }
    }

    /// Lines of the input as commands, up to its end or `exit`.
    async fn shell(&mut self) -> io::Result<i32> {
        let mut code = 0;
        loop {
            if self.terminal.is_some() {
                self.print(b"/ # ").await?;
            }
            let Some(line) = self.line().await? else {
                return Ok(code);
            };
            let ended;
            (code, ended) = self.script(&line).await?;
            if ended {
                return Ok(code);
            }
        }
    }

    /// Runs commands one after the other; the code, and whether `exit` was one.
    async fn script(&mut self, text: &str) -> io::Result<(i32, bool)> {
        let statements = match statements(text) {
            Ok(statements) => statements,
            Err(odd) => {
                let why = format!("{odd:?} is not known to the simulated device's shell");
                return Ok((self.finish(refused("sh", &why), None).await?, false));
            }
        };
        let mut code = 0;
        for statement in statements {
            if statement.if_well && code != 0 {
                continue;
            }
            let words: Vec<&str> = statement.words.iter().map(String::as_str).collect();
            code = match words[..] {
                ["exit"] => return Ok((code, true)),
                ["exit", code] => return Ok((code.parse().unwrap_or(SYNTAX), true)),
                _ => Box::pin(self.command(&words, statement.to.as_deref())).await?,
            };
        }
        Ok((code, false))
    }

    /// The next line of the input; a terminal shows what is typed.
    async fn line(&mut self) -> io::Result<Option<String>> {
        let terminal = self.terminal.is_some();
        let Some(stdin) = &mut self.stdin else {
            return Ok(None);
        };
        let mut line = Vec::new();
        if !terminal {
            let n = stdin.read_until(b'\n', &mut line).await?;
            return Ok((n > 0).then(|| String::from_utf8_lossy(&line).trim_end().to_owned()));
        }
        loop {
            let byte = match stdin.read_u8().await {
                Ok(byte) => byte,
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
                Err(error) => return Err(error),
            };
            let shown: &[u8] = match byte {
                END_OF_INPUT if line.is_empty() => return Ok(None),
                b'\r' | b'\n' => b"\r\n",
                INTERRUPT => b"^C\r\n",
                byte if ERASE.contains(&byte) => {
                    if line.pop().is_none() {
                        continue;
                    }
                    b"\x08 \x08"
                }
                0..32 => continue,
                _ => {
                    line.push(byte);
                    &[byte]
                }
            };
            self.stdout.write_all(shown).await?;
            if byte == INTERRUPT {
                return Ok(Some(String::new()));
            }
            if matches!(byte, b'\r' | b'\n') {
                return Ok(Some(String::from_utf8_lossy(&line).into_owned()));
            }
        }
    }

    /// Prints what a program did.
    async fn finish(&mut self, done: Done, to: Option<&str>) -> io::Result<i32> {
        match to {
            None => self.print(&done.out).await?,
            Some("&2") => self.complain(&done.out).await?,
            Some(file) => {
                let file = absolute("/", file);
                self.host.write_into(self.container, &file, done.out);
            }
        }
        self.complain(done.err.as_bytes()).await?;
        Ok(done.code)
    }

    async fn print(&mut self, bytes: &[u8]) -> io::Result<()> {
        let bytes = shown(bytes, self.terminal.is_some());
        self.stdout.write_all(&bytes).await
    }

    /// On standard error, which a terminal has not.
    async fn complain(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.terminal.is_some() {
            return self.print(bytes).await;
        }
        self.stderr.write_all(bytes).await
    }
}

/// As a terminal shows it.
fn shown(bytes: &[u8], terminal: bool) -> Vec<u8> {
    let ends = bytes.iter().flat_map(|byte| match byte {
        b'\n' if terminal => vec![b'\r', b'\n'],
        byte => vec![*byte],
    });
    ends.collect()
}
