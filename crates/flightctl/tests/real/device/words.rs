//! Every text of the corpus as a word and as a variable, seen in the process that was
//! given it; what is refused is refused by its path.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, PodSpec};
use serde_json::{Value, json};
use vk_flightctl::mapping::workload;
use vk_provider::environment::Placement;
use vk_provider::{BackendError, PodChange, PodKey, PodRequest, Revision};

use super::confined::pod;
use super::{ENTRY_IMAGE, Edge, IMAGE};
use crate::corpus;

const WORDS: &str = "words";
/// Longer words and variables have a container of their own: so much fits a line.
const SHORT: usize = 1000;
/// A container runs this with words behind it: they stay its first process's own.
const HOLDS: [&str; 4] = ["sh", "-c", "trap exit TERM; sleep 86400 & wait", "sh"];

/// A way to be given texts.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// All in one line of JSON.
    Line,
    /// Words on lines of their own, behind a long one.
    Lines,
    /// `args` alone, behind the image's own command.
    Args,
    Variables,
}

const WAYS: [Way; 4] = [Way::Line, Way::Lines, Way::Args, Way::Variables];

impl Way {
    /// The container that gets these texts.
    fn container(self, name: &str, texts: &[String]) -> Value {
        let holds = HOLDS.map(str::to_owned);
        let image = IMAGE;
        match self {
            Self::Line => {
                let words = [&holds, texts].concat();
                json!({"name": name, "image": image, "command": words})
            }
            Self::Lines => {
                let long = ["x".repeat(SHORT), "y".repeat(SHORT)];
                let words = [&holds, &long[..], texts].concat();
                json!({"name": name, "image": image, "command": words})
            }
            Self::Args => json!({"name": name, "image": ENTRY_IMAGE, "args": texts}),
            Self::Variables => {
                let env = texts.iter().enumerate();
                let env = env.map(|(n, text)| json!({"name": format!("T{n}"), "value": text}));
                let command = HOLDS.map(Value::from);
                json!({"name": name, "image": image, "command": command, "env": env.collect::<Vec<_>>()})
            }
        }
    }

    /// Where in a container with one text the text stands.
    fn path(self) -> String {
        let at = match self {
            Self::Line => "command[4]",
            Self::Lines => "command[6]",
            Self::Args => "args[0]",
            Self::Variables => "env[0]",
        };
        format!("spec.containers[0].{at}")
    }
}

impl Edge {
    /// Completes when every text has come out or was refused.
    pub fn every_text_of_the_corpus_comes_out_as_it_went_in(&mut self) {
        let mut containers = Vec::new();
        let mut refused = Vec::new();
        for way in WAYS {
            let (good, bad): (Vec<_>, Vec<_>) = corpus::strings()
                .into_iter()
                .partition(|text| is_taken(&way.container("c", std::slice::from_ref(text))));
            assert!(good.len() > 150, "{way:?}: {}", good.len());
            for text in &bad {
                assert!(
                    text.is_empty() || corpus::refusable(text),
                    "{way:?}: {text:?}"
                );
            }
            refused.extend(bad.into_iter().map(|text| (way, text)));
            for texts in chunks(way, good) {
                containers.push((way, format!("c{}", containers.len()), texts));
            }
        }
        println!(
            "{} containers, {} refusals",
            containers.len(),
            refused.len()
        );
        let all: Vec<_> = containers
            .iter()
            .map(|(way, name, texts)| way.container(name, texts))
            .collect();
        self.world
            .apply(&pod(WORDS, all.into(), json!({})).to_string());
        self.refusals_name_the_field(&refused);
        self.is_ready(WORDS);
        let app = self.app(WORDS);
        for (way, name, texts) in &containers {
            let file = match way {
                Way::Variables => "environ",
                _ => "cmdline",
            };
            let seen = self.exec(&app, name, &["cat", &format!("/proc/1/{file}")]);
            assert!(seen.success, "{}", seen.stderr);
            let texts = texts.iter().map(|text| corpus::expanded(text, &[]));
            if matches!(way, Way::Variables) {
                let all: Vec<_> = seen.stdout.split(|byte| *byte == 0).collect();
                for (n, text) in texts.enumerate() {
                    let own = format!("T{n}={text}");
                    assert!(all.contains(&own.as_bytes()), "{own:?}");
                }
            } else {
                let behind: String = texts.map(|text| format!("{text}\0")).collect();
                let seen = String::from_utf8(seen.stdout).unwrap();
                let before = seen.strip_suffix(&behind);
                // The last word before them is `sh`, or the end of a long one.
                let whole = before.is_some_and(|b| b.ends_with("\0sh\0") || b.ends_with("yy\0"));
                assert!(whole, "{way:?}: asked {behind:?}, seen {seen:?}");
            }
        }
        self.world
            .plane
            .ok(&["delete", "pod", WORDS, "--timeout=60s"]);
    }

    /// A pod for each, through Kubernetes.
    fn refusals_name_the_field(&mut self, refused: &[(Way, String)]) {
        let pods = refused.iter().enumerate().map(|(n, (way, text))| {
            let container = way.container("c", std::slice::from_ref(text));
            pod(&format!("refused-{n}"), json!([container]), json!({}))
        });
        let list = json!({"apiVersion": "v1", "kind": "List", "items": pods.collect::<Vec<_>>()});
        self.world.apply(&list.to_string());
        for (n, (way, text)) in refused.iter().enumerate() {
            let name = format!("refused-{n}");
            let status = "{.status.phase} {.status.reason} {.status.message}";
            self.until(
                &format!("{way:?} of {} bytes is refused", text.len()),
                |e| {
                    let said = e.world.jsonpath("default", &name, status);
                    said.starts_with("Failed Unsupported") && said.contains(&way.path())
                },
            );
        }
        let names: Vec<_> = (0..refused.len()).map(|n| format!("refused-{n}")).collect();
        let mut delete = vec!["delete", "pod", "--wait=false"];
        delete.extend(names.iter().map(String::as_str));
        self.world.plane.ok(&delete);
    }
}

/// As many at once as a line takes; a long one alone.
fn chunks(way: Way, texts: Vec<String>) -> Vec<Vec<String>> {
    if !matches!(way, Way::Line) {
        return vec![texts];
    }
    let mut chunks: Vec<Vec<String>> = Vec::new();
    for text in texts {
        let together = chunks
            .last()
            .map(|last| [last.as_slice(), std::slice::from_ref(&text)].concat());
        match together.filter(|all| is_one_line(all)) {
            Some(all) => *chunks.last_mut().expect("there is one") = all,
            None => chunks.push(vec![text]),
        }
    }
    chunks
}

fn is_one_line(texts: &[String]) -> bool {
    let all = [&HOLDS.map(str::to_owned), texts].concat();
    serde_json::to_string(&all).is_ok_and(|json| json.len() < SHORT)
}

/// Whether the product takes a container with one text.
fn is_taken(container: &Value) -> bool {
    let spec: PodSpec = serde_json::from_value(json!({"containers": [container]})).unwrap();
    let request = PodRequest {
        key: PodKey::new("default", "one", "00000000-0000-4000-8000-000000000000"),
        node: "node".into(),
        spec_revision: Revision::of(&spec),
        pod: Arc::new(Pod {
            spec: Some(spec),
            ..Pod::default()
        }),
        change: PodChange::First,
        journal: None,
        inputs: Default::default(),
    };
    match workload(&request, &Placement::default(), "cluster") {
        Ok(_) => true,
        Err(BackendError::Unsupported { .. }) => false,
        Err(other) => panic!("{container}: {other}"),
    }
}
