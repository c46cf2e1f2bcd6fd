//! What a request asks for: `PodLogOptions`, `PodExecOptions` and the like.

use jiff::Timestamp;
use kubelet_streams::remote;
use serde_json::json;

use super::query::{Query, not_a_number};
use crate::kubernetes::resource::LOG_OPTIONS;
use crate::kubernetes::status::{ApiError, FieldError};

/// What is to be shown of a log.
#[derive(Debug)]
pub(super) struct Log {
    pub(super) container: Option<String>,
    /// The parameters for the node.
    pub(super) query: Vec<(&'static str, String)>,
}

impl Log {
    pub(super) fn read(query: &Query, pod: &str) -> Result<Self, ApiError> {
        let mut passed = Vec::new();
        for flag in ["follow", "previous", "timestamps"] {
            if query.flag(flag) {
                passed.push((flag, "true".to_owned()));
            }
        }
        let mut errors = Vec::new();
        for (name, least, why) in [
            ("sinceSeconds", 1, "must be greater than 0"),
            ("tailLines", 0, "must be greater than or equal to 0"),
            ("limitBytes", 1, "must be greater than 0"),
        ] {
            let Some(number) = query.number(name)? else {
                continue;
            };
            if number < least {
                errors.push(FieldError::invalid(name, &json!(number), why));
            }
            passed.push((name, number.to_string()));
        }
        if let Some(text) = query.text("sinceTime") {
            let time = text.parse::<Timestamp>().map_err(|_| {
                let words = format!("parsing time {text:?} as \"2006-01-02T15:04:05Z07:00\"");
                ApiError::bad_request(format!("{words}: cannot parse it"))
            })?;
            if query.number("sinceSeconds")?.is_some() {
                let why = "at most one of `sinceTime` or `sinceSeconds` may be specified";
                errors.push(FieldError::forbidden("", why));
            }
            passed.push(("sinceTime", format!("{time:.0}")));
        }
        if query.text("stream").is_some() {
            errors.push(FieldError::forbidden("stream", "may not be specified"));
        }
        if !errors.is_empty() {
            return Err(ApiError::invalid(&LOG_OPTIONS, pod, &errors));
        }
        Ok(Self {
            container: query.text("container").map(str::to_owned),
            query: passed,
        })
    }
}

/// An `exec` or `attach`.
#[derive(Debug)]
pub(super) struct Remote {
    pub(super) container: Option<String>,
    pub(super) streams: remote::Options,
    command: Vec<String>,
}

impl Remote {
    pub(super) fn read(query: &Query, has_command: bool) -> Self {
        let command = query.all("command").filter(|_| has_command);
        Self {
            container: query.text("container").map(str::to_owned),
            streams: remote::Options {
                stdin: query.flag("stdin"),
                stdout: query.flag("stdout"),
                stderr: query.flag("stderr"),
                tty: query.flag("tty"),
            },
            command: command.map(str::to_owned).collect(),
        }
    }

    /// The parameters for the node, which has other names for them.
    pub(super) fn query(&self) -> impl Iterator<Item = (&'static str, String)> {
        let flags = [
            ("input", self.streams.stdin),
            ("output", self.streams.stdout),
            ("error", self.streams.stderr),
            ("tty", self.streams.tty),
        ];
        let flags = flags.into_iter().filter(|(_, on)| *on);
        let flags = flags.map(|(name, _)| (name, "1".to_owned()));
        flags.chain(self.command.iter().map(|word| ("command", word.clone())))
    }
}

/// The ports of a port-forward; only the legacy WebSocket form has any.
pub(super) fn ports(query: &Query) -> Result<Vec<i32>, ApiError> {
    let all = query.all("ports").flat_map(|value| value.split(','));
    all.filter(|text| !text.is_empty())
        .map(|text| text.parse().map_err(|_| not_a_number(text)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::query::target;
    use super::*;

    fn query(text: &str) -> Query {
        Query::of(&format!("/x?{text}").parse().unwrap()).unwrap()
    }

    #[test]
    fn a_node_is_asked_for_the_log_that_the_client_wants() {
        let asked = query(
            "container=app&follow=true&previous=false&timestamps&tailLines=5&limitBytes=9\
             &sinceTime=2026-01-02T03%3A04%3A05.678Z",
        );
        let options = Log::read(&asked, "web").unwrap();
        assert_eq!(options.container.as_deref(), Some("app"));
        assert_eq!(
            target("/p", options.query),
            "/p?follow=true&timestamps=true&tailLines=5&limitBytes=9\
             &sinceTime=2026%2D01%2D02T03%3A04%3A05Z"
        );
    }

    #[test]
    fn a_log_that_cannot_be_is_refused_in_the_real_servers_words() {
        let refusal = |text| {
            let error = Log::read(&query(text), "web").unwrap_err();
            (error.code, error.message)
        };
        let (code, words) = refusal("tailLines=-1&limitBytes=0");
        assert_eq!(code, 422);
        assert_eq!(
            words,
            "PodLogOptions \"web\" is invalid: [tailLines: Invalid value: -1: must be greater than \
             or equal to 0, limitBytes: Invalid value: 0: must be greater than 0]"
        );
        let both = refusal("sinceSeconds=1&sinceTime=2026-01-01T00:00:00Z");
        assert!(both.1.contains("at most one of"), "{}", both.1);
        assert!(refusal("stream=Stdout").1.ends_with("may not be specified"));
        let none = (
            400,
            "strconv.ParseInt: parsing \"x\": invalid syntax".to_owned(),
        );
        assert_eq!(refusal("tailLines=x"), none);
    }

    #[test]
    fn an_exec_is_asked_for_under_the_kubelets_names() {
        let asked = query("command=sh&command=-c&command=a%20%26%20b&stdin=true&stdout=1&tty=0");
        let options = Remote::read(&asked, true);
        assert_eq!(
            target("/exec/a/b/c", options.query()),
            "/exec/a/b/c?input=1&output=1&command=sh&command=%2Dc&command=a%20%26%20b"
        );
        assert_eq!(Remote::read(&asked, false).query().count(), 2);
    }
}
