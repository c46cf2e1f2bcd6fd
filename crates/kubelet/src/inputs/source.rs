//! What is watched for pods, and what is known of it.

use std::collections::HashMap;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use vk_provider::Uid;
use vk_provider::environment::Read;

use super::gather::DEADLINE;
use super::read::Object;

/// A kind of object that pods refer to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Kind {
    ConfigMap,
    Secret,
    Service,
}

impl Kind {
    /// As the kubelet's messages spell it.
    fn word(self) -> &'static str {
        match self {
            Self::ConfigMap => "configmap",
            Self::Secret => "secret",
            Self::Service => "service",
        }
    }
}

/// One watch: an object, or all services of a namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Source {
    pub(super) kind: Kind,
    pub(super) namespace: Arc<str>,
    /// Never `None` but for services.
    pub(super) name: Option<Arc<str>>,
}

/// Longest name of an object (`IsDNS1123Subdomain`).
const NAME_MAX: usize = 253;

impl Source {
    pub(super) fn new(kind: Kind, namespace: &str, name: Option<&str>) -> Self {
        Self {
            kind,
            namespace: namespace.into(),
            name: name.map(Into::into),
        }
    }

    /// Whether the API server lets an object have this name. What a pod calls its
    /// objects is not always checked, and must not become another selector.
    pub(super) fn can_exist(name: &str) -> bool {
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
        name.len() <= NAME_MAX && name.chars().all(fits)
    }
}

/// What is known of a source.
#[derive(Debug)]
pub(super) enum Known {
    /// Nothing yet.
    Not,
    /// The API server forbids it, in its words.
    Denied(String),
    /// It could not be asked, and never was before.
    Failing(String),
    /// These are there, with their fingerprint; or none.
    Is(Vec<Object>, Option<u64>),
}

/// One watch with those who need it; dropping it ends it.
#[derive(Debug)]
pub(super) struct Watched {
    pub(super) known: Known,
    pub(super) users: HashMap<Uid, Read>,
    /// Cancelled when there is an answer.
    pub(super) answered: CancellationToken,
    _task: AbortOnDropHandle<()>,
}

impl Watched {
    pub(super) fn new(task: AbortOnDropHandle<()>) -> Self {
        Self {
            known: Known::Not,
            users: HashMap::new(),
            answered: CancellationToken::new(),
            _task: task,
        }
    }

    /// Takes news; answers whether something is there that was not so before, or
    /// `None` where that is no news.
    pub(super) fn hear(&mut self, now: Known) -> Option<bool> {
        let news = match (&self.known, &now) {
            // What was known once stays so while nobody answers.
            (Known::Is(..) | Known::Denied(_), Known::Failing(_)) => return None,
            (Known::Is(_, before), Known::Is(_, print)) => before != print,
            (_, Known::Is(..)) => true,
            _ => false,
        };
        let is_there = matches!(now, Known::Is(_, Some(_)));
        if matches!(now, Known::Is(..) | Known::Denied(_)) {
            self.answered.cancel();
        }
        self.known = now;
        news.then_some(is_there)
    }

    pub(super) fn print(&self) -> Option<u64> {
        match self.known {
            Known::Is(_, print) => print,
            _ => None,
        }
    }

    /// What is there.
    ///
    /// # Errors
    /// Why that is not known, in a sentence for people.
    pub(super) fn objects(&self, source: &Source) -> Result<&[Object], String> {
        let word = source.kind.word();
        match &self.known {
            Known::Is(objects, _) => Ok(objects),
            Known::Denied(words) => {
                let right = format!("list and watch {word}s");
                let remedy = missing_binding(&source.namespace, &right);
                Err(format!("{words}; {remedy}"))
            }
            Known::Failing(words) => Err(format!("failed to sync {word} cache: {words}")),
            Known::Not => Err(format!(
                "failed to sync {word} cache: no answer from the API server within {} s",
                DEADLINE.as_secs()
            )),
        }
    }
}

/// What to do about a 403.
pub(super) fn missing_binding(namespace: &str, right: &str) -> String {
    format!("a RoleBinding in namespace {namespace:?} that lets this provider {right} is missing")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watched() -> Watched {
        Watched::new(AbortOnDropHandle::new(tokio::spawn(async {})))
    }

    fn is(print: Option<u64>) -> Known {
        Known::Is(Vec::new(), print)
    }

    #[tokio::test]
    async fn only_what_pods_would_see_is_news() {
        let mut watched = watched();
        assert_eq!(watched.hear(Known::Failing("no".into())), None);
        assert!(!watched.answered.is_cancelled(), "it may still come");
        assert_eq!(watched.hear(is(None)), Some(false));
        assert!(watched.answered.is_cancelled());
        assert_eq!(watched.hear(is(None)), None);
        assert_eq!(watched.hear(is(Some(1))), Some(true));
        assert_eq!(watched.hear(is(Some(1))), None);
        assert_eq!(watched.hear(is(None)), Some(false));
    }

    #[tokio::test]
    async fn an_outage_takes_nothing_away_and_a_denial_does() {
        let source = Source::new(Kind::Secret, "shop", Some("s"));
        let mut watched = watched();
        watched.hear(is(Some(1)));
        watched.hear(Known::Failing("no".into()));
        assert!(watched.objects(&source).is_ok());
        watched.hear(Known::Denied("secrets \"s\" is forbidden".into()));
        let why = watched.objects(&source).unwrap_err();
        assert!(why.contains("RoleBinding in namespace \"shop\""), "{why}");
        assert_eq!(watched.hear(is(Some(1))), Some(true), "granted again");
    }

    #[test]
    fn a_name_that_no_object_can_have_is_told() {
        assert!(Source::can_exist("kube-root-ca.crt"));
        assert!(!Source::can_exist("a,metadata.name!=b"));
        assert!(!Source::can_exist("A"));
    }
}
