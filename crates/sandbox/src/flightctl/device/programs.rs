//! What runs in a simulated container: a shell of simple commands, and the few
//! programs that people try, over the files that the container has.
//!
//! What is not here is not found, as in an image without it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read as _};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::time::sleep;

use super::files::{Container, DeviceFile};
use super::podman::NO_COMMAND;
use super::simulated::Simulated;

const PROGRAMS: [&str; 14] = [
    "cat", "echo", "env", "false", "hostname", "ls", "pwd", "sh", "sleep", "stty", "tar", "test",
    "touch", "true",
];
/// Folders that every image has.
const FOLDERS: [&str; 3] = ["/bin", "/etc", "/tmp"];
/// A command of the shell that it cannot be.
const SYNTAX: i32 = 2;
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
    /// Its terminal's sizes, if it has one.
    pub(super) terminal: Option<&'a mut R>,
}

/// What a program printed, and its code.
#[derive(Debug, Default, PartialEq, Eq)]
struct Done {
    out: Vec<u8>,
    err: String,
    code: i32,
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
        let Some(sizes) = &mut self.terminal else {
            return Ok(refused("stty", "standard input: Not a tty"));
        };
        let mut size = [0; 64];
        let n = sizes.read(&mut size).await?;
        let mut sizes = serde_json::Deserializer::from_slice(&size[..n]).into_iter::<Value>();
        let size = sizes.next().and_then(Result::ok).unwrap_or_default();
        let text = format!("{} {}\n", size["Height"], size["Width"]);
        Ok(said(text))
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

fn name<'a>(words: &[&'a str]) -> &'a str {
    let first = words.first().copied().unwrap_or_default();
    first.strip_prefix("/bin/").unwrap_or(first)
}

fn said(text: String) -> Done {
    Done {
        out: text.into_bytes(),
        ..Done::default()
    }
}

fn refused(program: &str, why: &str) -> Done {
    Done {
        err: format!("{program}: {why}\n"),
        code: if program == "sh" { SYNTAX } else { 1 },
        ..Done::default()
    }
}

/// Programs that need no input.
fn program(words: &[&str], container: &Container) -> Done {
    let rest = words.get(1..).unwrap_or_default();
    let operands: Vec<&str> = rest
        .iter()
        .copied()
        .filter(|w| !w.starts_with('-'))
        .collect();
    match name(words) {
        "true" => Done::default(),
        "false" => Done {
            code: 1,
            ..Done::default()
        },
        "echo" => said(format!("{}\n", rest.join(" "))),
        "pwd" => said("/\n".into()),
        "hostname" => said(format!("{}\n", container.hostname)),
        "env" => said(variables(container)),
        "cat" => cat(&operands, container),
        "ls" => ls(&operands, rest.contains(&"-l"), container),
        "test" => test(rest, container),
        "tar" => match operands.last() {
            Some(path) => packed(path, container),
            None => refused("tar", "nothing is named"),
        },
        other => Done {
            err: format!(
                "Error: crun: executable file `{other}` not found in $PATH: No such file or directory: OCI runtime attempted to invoke a command that was not found\n"
            ),
            code: NO_COMMAND,
            ..Done::default()
        },
    }
}

fn variables(container: &Container) -> String {
    let mut all: BTreeMap<&str, &str> = BTreeMap::from([
        ("HOME", "/root"),
        ("HOSTNAME", container.hostname.as_str()),
        ("PATH", "/bin"),
        ("container", "podman"),
    ]);
    let own = container.environment.iter();
    all.extend(own.map(|(name, value)| (name.as_str(), value.as_str())));
    let lines = all.iter().map(|(name, value)| format!("{name}={value}\n"));
    lines.collect()
}

/// All files, by path.
fn files(container: &Container) -> BTreeMap<String, Vec<u8>> {
    let programs = PROGRAMS.map(|name| (format!("/bin/{name}"), Vec::new()));
    let mut all = BTreeMap::from(programs);
    let hostname = format!("{}\n", container.hostname);
    all.insert("/etc/hostname".into(), hostname.into_bytes());
    let own = container.files.iter();
    all.extend(own.map(|(path, file): (_, &DeviceFile)| (path.clone(), file.content.clone())));
    all
}

/// Whether a path is a folder: of a file, a mount or the image.
fn is_folder(path: &str, container: &Container) -> bool {
    let below = format!("{}/", path.trim_end_matches('/'));
    let mounts = container.mounts.iter().map(String::as_str);
    let known = files(container);
    let mut all = mounts
        .chain(FOLDERS)
        .chain(known.keys().map(String::as_str));
    FOLDERS.contains(&path)
        || (container.mounts.iter().any(|m| m == path) && !known.contains_key(path))
        || all.any(|other| other.starts_with(&below))
}

fn cat(paths: &[&str], container: &Container) -> Done {
    let known = files(container);
    let mut done = Done::default();
    for path in paths {
        let whole = absolute("/", path);
        match known.get(&whole) {
            Some(content) => done.out.extend(content),
            None => {
                let why = if is_folder(&whole, container) {
                    "Is a directory"
                } else {
                    "No such file or directory"
                };
                done.err += &format!("cat: {path}: {why}\n");
                done.code = 1;
            }
        }
    }
    done
}

fn ls(paths: &[&str], long: bool, container: &Container) -> Done {
    let known = files(container);
    let path = paths.first().copied().unwrap_or("/");
    let whole = absolute("/", path);
    let mut names = BTreeSet::new();
    if known.contains_key(&whole) {
        names.insert(path.to_owned());
    } else if is_folder(&whole, container) {
        let below = format!("{}/", whole.trim_end_matches('/'));
        let mounts = container.mounts.iter().map(String::as_str);
        let all = known
            .keys()
            .map(String::as_str)
            .chain(mounts)
            .chain(FOLDERS);
        let inside = all.filter_map(|other| other.strip_prefix(&below)?.split('/').next());
        names.extend(inside.filter(|name| !name.is_empty()).map(str::to_owned));
    } else {
        return refused("ls", &format!("{path}: No such file or directory"));
    }
    let lines = names.iter().map(|name| {
        let file = known.get(&absolute(&whole, name)).or(known.get(&whole));
        match (long, file) {
            (false, _) => format!("{name}\n"),
            (true, Some(file)) => format!("-rw-r--r-- root root {:>8} {name}\n", file.len()),
            (true, None) => format!("drwxr-xr-x root root {:>8} {name}\n", 0),
        }
    });
    said(lines.collect())
}

fn test(words: &[&str], container: &Container) -> Done {
    let holds = match words {
        ["-d", path] => is_folder(&absolute("/", path), container),
        ["-e", path] => {
            let path = absolute("/", path);
            is_folder(&path, container) || files(container).contains_key(&path)
        }
        ["-f", path] => files(container).contains_key(&absolute("/", path)),
        _ => false,
    };
    Done {
        code: i32::from(!holds),
        ..Done::default()
    }
}

/// A path from the root.
fn absolute(folder: &str, path: &str) -> String {
    let whole = if path.starts_with('/') {
        path.to_owned()
    } else {
        format!("{folder}/{path}")
    };
    let mut parts = Vec::new();
    for part in whole.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// The files of an archive.
fn unpacked(archive: &[u8]) -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut files = Vec::new();
    for entry in tar::Archive::new(archive).entries()? {
        let mut entry = entry?;
        if entry.header().entry_type().is_file() {
            let path = entry.path()?.to_string_lossy().into_owned();
            let mut content = Vec::new();
            entry.read_to_end(&mut content)?;
            files.push((path, content));
        }
    }
    Ok(files)
}

/// An archive of a file, or of all files in a folder.
fn packed(path: &str, container: &Container) -> Done {
    let path = absolute("/", path);
    let below = format!("{}/", path.trim_end_matches('/'));
    let mut archive = tar::Builder::new(Vec::new());
    let mut some = false;
    for (file, content) in files(container) {
        if file != path && !file.starts_with(&below) {
            continue;
        }
        some = true;
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        let name = file.trim_start_matches('/');
        if let Err(why) = archive.append_data(&mut header, name, content.as_slice()) {
            return refused("tar", &why.to_string());
        }
    }
    match archive.into_inner() {
        Ok(out) if some => Done {
            out,
            ..Done::default()
        },
        Ok(_) => refused("tar", &format!("{path}: No such file or directory")),
        Err(why) => refused("tar", &why.to_string()),
    }
}

/// A simple command of the shell.
#[derive(Debug, Default, PartialEq, Eq)]
struct Statement {
    words: Vec<String>,
    /// Only if the one before ended well.
    if_well: bool,
    /// Where its output goes; `&2` is standard error.
    to: Option<String>,
}

/// Commands with `;`, `&&`, `>` and quotes between them; or what else there was.
fn statements(text: &str) -> Result<Vec<Statement>, char> {
    let mut all = vec![Statement::default()];
    let mut word: Option<String> = None;
    let (mut quote, mut redirected) = (None, false);
    let mut chars = text.chars().chain(['\n']).peekable();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some('"') | None, '$' | '`') => return Err(c),
            (Some(_), c) => word.get_or_insert_default().push(c),
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, '\\') => word.get_or_insert_default().extend(chars.next()),
            (None, '&') if redirected && word.is_none() => word = Some("&".into()),
            (None, c) if c.is_whitespace() || matches!(c, ';' | '&' | '>') => {
                let Some(now) = all.last_mut() else { break };
                match word.take() {
                    // `1>` is `>`.
                    Some(word) if c == '>' && word == "1" => {}
                    Some(word) if redirected => {
                        now.to = Some(word);
                        redirected = false;
                    }
                    Some(word) => now.words.push(word),
                    None => {}
                }
                redirected |= c == '>';
                let and = c == '&';
                if and && chars.next() != Some('&') {
                    return Err(c);
                }
                if and || matches!(c, ';' | '\n') {
                    all.push(Statement {
                        if_well: and,
                        ..Statement::default()
                    });
                }
            }
            (None, '|' | '<' | '(' | ')' | '*' | '?' | '{' | '}') => return Err(c),
            (None, c) => word.get_or_insert_default().push(c),
        }
    }
    if let Some(open) = quote {
        return Err(open);
    }
    all.retain(|statement| !statement.words.is_empty());
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container() -> Container {
        let file = DeviceFile {
            content: b"hello".to_vec(),
            mode: 0o644,
            user: "root".into(),
            group: "root".into(),
        };
        Container {
            hostname: "web".into(),
            files: BTreeMap::from([("/given/greeting".into(), file)]),
            mounts: vec!["/given".into(), "/scratch".into()],
            ..Container::default()
        }
    }

    fn ran(words: &[&str]) -> (String, i32) {
        let done = program(words, &container());
        let out = String::from_utf8_lossy(&done.out).into_owned() + &done.err;
        (out, done.code)
    }

    #[test]
    fn programs_show_what_the_container_has_and_nothing_else() {
        for (words, out, code) in [
            (&["ls"] as &[&str], "bin\netc\ngiven\nscratch\ntmp\n", 0),
            (&["ls", "/given"], "greeting\n", 0),
            (&["ls", "/scratch"], "", 0),
            (&["ls", "nope"], "ls: nope: No such file or directory\n", 1),
            (&["cat", "/etc/hostname", "given/greeting"], "web\nhello", 0),
            (&["cat", "/given"], "cat: /given: Is a directory\n", 1),
            (&["test", "-d", "/tmp"], "", 0),
            (&["test", "-d", "/given/greeting"], "", 1),
            (&["/bin/hostname"], "web\n", 0),
        ] {
            assert_eq!(ran(words), (out.to_owned(), code), "{words:?}");
        }
        let (why, code) = ran(&["bash"]);
        assert!(
            code == NO_COMMAND && why.contains("`bash` not found"),
            "{why}"
        );
    }

    #[test]
    fn what_is_packed_can_be_unpacked() {
        let done = packed("/given", &container());
        let files = unpacked(&done.out).unwrap();
        assert_eq!(files, [("given/greeting".into(), b"hello".to_vec())]);
        assert_eq!(packed("/nope", &container()).code, 1);
    }

    #[test]
    fn commands_are_told_apart_as_a_shell_does_and_what_is_more_is_refused() {
        let of = |words: &[&str], if_well, to: Option<&str>| Statement {
            words: words.iter().map(|&word| word.to_owned()).collect(),
            if_well,
            to: to.map(str::to_owned),
        };
        assert_eq!(
            statements("echo 'a; b' \"c\" >&2; true && exit 3\necho x 1> /tmp/y"),
            Ok(vec![
                of(&["echo", "a; b", "c"], false, Some("&2")),
                of(&["true"], false, None),
                of(&["exit", "3"], true, None),
                of(&["echo", "x"], false, Some("/tmp/y")),
            ])
        );
        for (text, odd) in [("a | b", '|'), ("echo $A", '$'), ("a &", '&'), ("'a", '\'')] {
            assert_eq!(statements(text), Err(odd), "{text}");
        }
    }

    #[test]
    fn paths_stay_below_the_root() {
        assert_eq!(absolute("/tmp", "a/../b/./c"), "/tmp/b/c");
        assert_eq!(absolute("/tmp", "../../../x"), "/x");
        assert_eq!(absolute("/tmp", "/"), "/");
    }
}
