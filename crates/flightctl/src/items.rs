//! Items of `Device.spec.config`: the files that a device's agent keeps, beside
//! its applications. Pure.
//!
//! A pod has up to two of them, named after its application: the files of its
//! volumes, which follow the objects they are made from, and the environment of
//! its containers, which stays as it was at their start. A change of either
//! restarts nothing. They hold Secrets, so nothing here shows what is in a file,
//! and of what a device holds only a seal and the size are kept.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::mapping::folder;
use crate::private::{Private, length};

/// Where the files of pods are on a device: a folder per pod, and in it one per
/// volume.
pub const ROOT: &str = "/var/lib/virtual-kubelet";

/// Largest file; Flight Control refuses a longer one with 400 (`Too long: may not
/// be more than 1048576 bytes`).
pub const FILE_LIMIT: usize = 1024 * 1024;

/// What all items of a device's `spec.config` may take together as JSON, those of
/// others included.
///
/// Flight Control takes 20 MiB of files in one request, and cuts the connection
/// for 60 (both measured); between them nothing is known. What is left of the 20
/// is for the applications, which travel in the same document.
pub const DEVICE_LIMIT: usize = 16 * 1024 * 1024;

/// The agent's own defaults (`FileSpec` of Flight Control's API).
const DEFAULT_MODE: u64 = 0o644;
const DEFAULT_USER: &str = "root";

/// What the name of an item of variables ends with.
const ENVIRONMENT: &str = "-env";

/// The item with the files of a pod's volumes.
pub fn volumes_item(app: &str) -> String {
    app.to_owned()
}

/// The item with the environment of a pod's containers.
pub fn environment_item(app: &str) -> String {
    format!("{app}{ENVIRONMENT}")
}

/// One file of an item.
pub(crate) struct File {
    /// Absolute.
    pub(crate) path: String,
    pub(crate) content: vk_provider::volumes::Content,
    pub(crate) mode: u32,
    pub(crate) uid: i64,
    pub(crate) gid: i64,
}

/// An item to be written. `Debug` shows its name and its size.
#[derive(Clone, PartialEq)]
pub struct Item {
    value: Private,
    seen: Seen,
}

impl fmt::Debug for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Item({}, {} bytes, hidden)", self.name(), self.bytes())
    }
}

impl Item {
    /// An item of these files.
    pub(crate) fn new(name: &str, files: &[File]) -> Self {
        let inline: Vec<Value> = files.iter().map(file).collect();
        let value = Private::from(json!({"name": name, "inline": inline}));
        let seen = Seen::of(&value);
        Self { value, seen }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.seen.name
    }

    /// What it takes as JSON.
    pub fn bytes(&self) -> usize {
        self.seen.bytes
    }

    /// The seal of what is in it.
    pub fn seal(&self) -> &Seal {
        &self.seen.seal
    }

    /// As Flight Control takes it.
    pub fn value(&self) -> &Value {
        &self.value
    }

    pub(crate) fn seen(&self) -> &Seen {
        &self.seen
    }
}

fn file(file: &File) -> Value {
    let mut value = json!({
        "path": file.path,
        "mode": file.mode,
        "user": owner(file.uid),
        "group": owner(file.gid),
    });
    if let Some(text) = as_text(file.content.bytes()) {
        value["content"] = text.into();
    } else {
        value["content"] = BASE64.encode(file.content.bytes()).into();
        value["contentEncoding"] = "base64".into();
    }
    value
}

/// A content that travels as it is: PostgreSQL's JSON has no NUL.
fn as_text(content: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(content).ok()?;
    (!text.contains('\0')).then_some(text)
}

/// Whether a content reaches a device as it is. All text does, and hardly any
/// bytes: of what comes as base64 Flight Control 1.3 sends each `+`, `/` and `=`
/// on as `%2B`, `%2F` and `%3D` (`SetFile` in its `pkg/ignition`), which no agent
/// can read, and then the device takes nothing else of that version either.
pub(crate) fn travels(content: &[u8]) -> bool {
    let survives = |byte: u8| byte.is_ascii_alphanumeric();
    as_text(content).is_some() || BASE64.encode(content).bytes().all(survives)
}

fn owner(id: i64) -> String {
    match id {
        0 => DEFAULT_USER.to_owned(),
        id => id.to_string(),
    }
}

/// Tells whether two items hold the same. It lives in memory only: who reads it
/// and knows the pod can try guesses at a short secret.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Seal([u8; 32]);

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

/// An item as a device's spec holds it, without what is in it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Seen {
    /// Its name.
    pub name: String,
    /// What it takes as JSON.
    pub bytes: usize,
    /// Of its files.
    pub seal: Seal,
    /// The application of ours whose item it is, by its name and where its files
    /// are. Whose cluster's is not to be seen.
    pub of: Option<String>,
}

impl Seen {
    /// Reads an item of any kind; what is odd or missing is empty.
    pub fn of(item: &Value) -> Self {
        Self {
            name: item["name"].as_str().unwrap_or_default().to_owned(),
            bytes: length(item),
            seal: seal(item),
            of: application(item),
        }
    }
}

fn application(item: &Value) -> Option<String> {
    let name = item["name"].as_str()?;
    let app = name.strip_suffix(ENVIRONMENT).unwrap_or(name);
    if !app.starts_with("vk-") {
        return None;
    }
    let folder = format!("{}/", folder(app));
    let ours = |file: &Value| {
        file["path"]
            .as_str()
            .is_some_and(|path| path.starts_with(&folder))
    };
    let files = item["inline"].as_array()?;
    files.iter().all(ours).then(|| app.to_owned())
}

fn seal(item: &Value) -> Seal {
    let mut hash = Sha256::new();
    let files = item["inline"].as_array();
    if files.is_none() {
        // Another kind of item: as it stands.
        put(&mut hash, item.to_string().as_bytes());
    }
    for file in files.into_iter().flatten() {
        let text = |key: &str| file[key].as_str();
        put(&mut hash, text("path").unwrap_or_default().as_bytes());
        let content = text("content").unwrap_or_default();
        match text("contentEncoding") {
            Some("base64") => match BASE64.decode(content) {
                Ok(bytes) => put(&mut hash, &Zeroizing::new(bytes)),
                Err(_) => put(&mut hash, content.as_bytes()),
            },
            _ => put(&mut hash, content.as_bytes()),
        }
        let mode = file["mode"].as_u64().unwrap_or(DEFAULT_MODE);
        hash.update(mode.to_be_bytes());
        for key in ["user", "group"] {
            let owner = text(key).filter(|o| !o.is_empty());
            put(&mut hash, owner.unwrap_or(DEFAULT_USER).as_bytes());
        }
    }
    Seal(hash.finalize().into())
}

/// The length in front keeps neighbours apart.
fn put(hash: &mut Sha256, bytes: &[u8]) {
    hash.update((bytes.len() as u64).to_be_bytes());
    hash.update(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(content: &str, mode: u32) -> Item {
        let file = File {
            path: format!("{ROOT}/u/v/key"),
            content: content.into(),
            mode,
            uid: 0,
            gid: 0,
        };
        Item::new("vk-u", &[file])
    }

    #[test]
    fn text_travels_as_it_is_and_bytes_only_where_nothing_of_them_is_escaped() {
        for text in ["", "a+b/c==", "naïve\n\u{2028}\u{7f}"] {
            assert!(travels(text.as_bytes()), "{text:?}");
            let file = item(text, 0o644);
            assert_eq!(file.value()["inline"][0]["content"], text);
        }
        // `AP8=`, `//79` and `gIGC`.
        assert!(!travels(&[0, 255]));
        assert!(!travels(&[255, 254, 253]));
        assert!(travels(&[128, 129, 130]));
    }

    #[test]
    fn an_item_is_what_flight_control_takes_and_shows_nothing_of_its_content() {
        let item = item("s3cret", 0o400);
        assert_eq!(
            item.value(),
            &json!({"name": "vk-u", "inline": [{
                "path": "/var/lib/virtual-kubelet/u/v/key", "content": "s3cret",
                "mode": 256, "user": "root", "group": "root",
            }]})
        );
        assert_eq!(item.bytes(), item.value().to_string().len());
        let shown = format!("{item:?} {:?}", item.seen());
        assert!(
            !shown.contains("s3cret") && !shown.contains("czNj"),
            "{shown}"
        );
    }

    #[test]
    fn what_the_service_fills_in_or_spells_otherwise_is_the_same_item() {
        let ours = item("text", 0o644);
        let stored = json!({"name": "vk-u", "inline": [
            {"path": "/var/lib/virtual-kubelet/u/v/key", "content": "text"}]});
        assert_eq!(Seen::of(&stored).seal, *ours.seal());
        for (key, value) in [
            ("content", json!("other")),
            ("mode", json!(420 - 4)),
            ("user", json!("nobody")),
            ("path", json!("/elsewhere")),
        ] {
            let mut edited = stored.clone();
            edited["inline"][0][key] = value;
            assert_ne!(Seen::of(&edited).seal, *ours.seal(), "{key}");
        }
        for odd in [json!(null), json!({"inline": 5}), json!({"gitRef": {}})] {
            assert_ne!(Seen::of(&odd).seal, *ours.seal());
        }
    }
}
