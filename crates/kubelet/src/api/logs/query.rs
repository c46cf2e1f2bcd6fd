//! The query of `containerLogs`, as the kubelet reads it: parameters of
//! `PodLogOptions`, the first of repeated ones, unknown ones ignored. Pure.

use jiff::{SignedDuration, Timestamp};
use vk_provider::LogSource;

use super::super::query::pairs;

/// What of a log is shown, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Options {
    pub(super) follow: bool,
    pub(super) previous: bool,
    pub(super) timestamps: bool,
    pub(super) since: Option<Timestamp>,
    pub(super) tail: Option<u64>,
    /// At least one.
    pub(super) limit: Option<u64>,
    pub(super) source: Option<LogSource>,
}

/// The query is not one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BadQuery {
    /// A parameter is not of its type: 400.
    Undecodable,
    /// A value is not allowed: 422.
    Invalid,
}

pub(super) fn parse(query: &str, now: Timestamp) -> Result<Options, BadQuery> {
    let pairs = pairs(query);
    let first = |name: &str| {
        let mut found = pairs.iter().filter(|(key, _)| key == name);
        found.next().map(|(_, value)| value.as_str())
    };
    let tail = match first("tail").filter(|tail| !tail.is_empty()) {
        None => number(first("tailLines"))?,
        // From before there was `tailLines`.
        Some("all") => None,
        tail => number(tail)?,
    };
    let limit = number(first("limitBytes"))?;
    let seconds = number(first("sinceSeconds"))?;
    let time = first("sinceTime").map(time).transpose()?;
    let source = source(first("stream"))?;
    let bad = tail.is_some_and(|lines| lines < 0)
        || limit.is_some_and(|bytes| bytes < 1)
        || seconds.is_some_and(|seconds| seconds < 1)
        || (seconds.is_some() && time.is_some())
        || (source.is_some() && tail.is_some());
    if bad {
        return Err(BadQuery::Invalid);
    }
    let ago = |seconds| {
        let since = now.checked_sub(SignedDuration::from_secs(seconds));
        since.unwrap_or(Timestamp::MIN)
    };
    Ok(Options {
        follow: flag(first("follow")),
        previous: flag(first("previous")),
        timestamps: flag(first("timestamps")),
        since: time.or(seconds.map(ago)),
        tail: tail.and_then(|lines| lines.try_into().ok()),
        limit: limit.and_then(|bytes| bytes.try_into().ok()),
        source,
    })
}

/// Anything but absence, `0` and `false` is a yes.
fn flag(value: Option<&str>) -> bool {
    value.is_some_and(|value| value != "0" && !value.eq_ignore_ascii_case("false"))
}

fn number(value: Option<&str>) -> Result<Option<i64>, BadQuery> {
    let number = value.map(str::parse).transpose();
    number.map_err(|_| BadQuery::Undecodable)
}

fn time(value: &str) -> Result<Timestamp, BadQuery> {
    match value {
        "" | "null" => Ok(Timestamp::MIN),
        value => value.parse().map_err(|_| BadQuery::Undecodable),
    }
}

fn source(value: Option<&str>) -> Result<Option<LogSource>, BadQuery> {
    match value {
        None | Some("All") => Ok(None),
        Some("Stdout") => Ok(Some(LogSource::Stdout)),
        Some("Stderr") => Ok(Some(LogSource::Stderr)),
        Some(_) => Err(BadQuery::Invalid),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn now() -> Timestamp {
        "2026-03-01T12:00:00Z".parse().unwrap()
    }

    #[test]
    fn every_parameter_is_read() {
        let query = "follow=true&previous=1&timestamps&tailLines=7&limitBytes=100&sinceSeconds=60\
                     &insecureSkipTLSVerifyBackend=true";
        let wanted = Options {
            follow: true,
            previous: true,
            timestamps: true,
            since: Some("2026-03-01T11:59:00Z".parse().unwrap()),
            tail: Some(7),
            limit: Some(100),
            source: None,
        };
        assert_eq!(parse(query, now()), Ok(wanted));
        assert_eq!(parse("", now()), Ok(Options::default()));
        let no = parse("follow=false&previous=0&timestamps=False", now());
        assert_eq!(no, Ok(Options::default()));
        let since = parse("sinceTime=2026-02-28T23%3A00%3A00%2B01%3A00", now()).unwrap();
        assert_eq!(since.since, Some("2026-02-28T22:00:00Z".parse().unwrap()));
        assert_eq!(parse("tailLines=0", now()).unwrap().tail, Some(0));
        assert_eq!(parse("tail=3&tailLines=9", now()).unwrap().tail, Some(3));
        assert_eq!(parse("tail=all&tailLines=9", now()).unwrap().tail, None);
        assert_eq!(
            parse("tailLines=1&tailLines=2", now()).unwrap().tail,
            Some(1)
        );
        let far = parse(&format!("sinceSeconds={}", i64::MAX), now()).unwrap();
        assert_eq!(far.since, Some(Timestamp::MIN));
        let errors = parse("stream=Stderr", now()).unwrap();
        assert_eq!(errors.source, Some(LogSource::Stderr));
    }

    #[test]
    fn what_is_no_number_or_time_is_undecodable_and_what_is_out_of_range_invalid() {
        for query in [
            "tailLines=x",
            "tailLines=",
            "limitBytes=1.5",
            "sinceSeconds=99999999999999999999",
            "sinceTime=yesterday",
        ] {
            assert_eq!(parse(query, now()), Err(BadQuery::Undecodable), "{query}");
        }
        for query in [
            "tailLines=-1",
            "limitBytes=0",
            "sinceSeconds=0",
            "sinceSeconds=5&sinceTime=2026-01-01T00:00:00Z",
            "stream=Both",
            "stream=Stdout&tailLines=1",
        ] {
            assert_eq!(parse(query, now()), Err(BadQuery::Invalid), "{query}");
        }
    }

    proptest! {
        #[test]
        fn no_query_panics(query in ".*") {
            let _ = parse(&query, now());
        }
    }
}
