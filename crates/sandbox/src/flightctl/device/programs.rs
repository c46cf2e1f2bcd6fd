//! The few programs of simulated containers that people try, over the files that a
//! container has. Pure.
//!
//! What is not here is not found, as in an image without it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read as _};

use super::files::{Container, DeviceFile};
use super::podman::NO_COMMAND;

const PROGRAMS: [&str; 14] = [
    "cat", "echo", "env", "false", "hostname", "ls", "pwd", "sh", "sleep", "stty", "tar", "test",
    "touch", "true",
];
/// Folders that every image has.
const FOLDERS: [&str; 3] = ["/bin", "/etc", "/tmp"];
/// A command of the shell that it cannot be.
pub(super) const SYNTAX: i32 = 2;

/// What a program printed, and its code.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Done {
    pub(super) out: Vec<u8>,
    pub(super) err: String,
    pub(super) code: i32,
}

pub(super) fn name<'a>(words: &[&'a str]) -> &'a str {
    let first = words.first().copied().unwrap_or_default();
    first.strip_prefix("/bin/").unwrap_or(first)
}

pub(super) fn said(text: String) -> Done {
    Done {
        out: text.into_bytes(),
        ..Done::default()
    }
}

pub(super) fn refused(program: &str, why: &str) -> Done {
    Done {
        err: format!("{program}: {why}\n"),
        code: if program == "sh" { SYNTAX } else { 1 },
        ..Done::default()
    }
}

/// Programs that need no input.
pub(super) fn program(words: &[&str], container: &Container) -> Done {
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
pub(super) fn absolute(folder: &str, path: &str) -> String {
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
pub(super) fn unpacked(archive: &[u8]) -> io::Result<Vec<(String, Vec<u8>)>> {
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
    fn paths_stay_below_the_root() {
        assert_eq!(absolute("/tmp", "a/../b/./c"), "/tmp/b/c");
        assert_eq!(absolute("/tmp", "../../../x"), "/x");
        assert_eq!(absolute("/tmp", "/"), "/");
    }
}
