//! How a command on a device ended, as the agent says it on channel 3
//! (internal/agent/device/console/outgoing_streams.go). Pure.

use serde::Deserialize;
use vk_provider::streams::Exit;

/// The part of a `metav1.Status` that says it.
#[derive(Deserialize)]
struct Status {
    #[serde(default)]
    status: String,
    #[serde(default)]
    code: i64,
    #[serde(default)]
    details: Details,
}

#[derive(Default, Deserialize)]
struct Details {
    #[serde(default)]
    causes: Vec<Cause>,
}

#[derive(Deserialize)]
struct Cause {
    #[serde(default)]
    reason: String,
    #[serde(default)]
    message: String,
}

/// How it ended; `None` where nothing was said: the session was lost, or the
/// command could not be started.
pub(super) fn exit(said: &[u8]) -> Option<Exit> {
    let status: Status = serde_json::from_slice(said).ok()?;
    match status.status.as_str() {
        "Success" => Some(Exit::Code(0)),
        // A process that a signal ended has -1, and its cause 1.
        "Failure" if status.code < 0 => Some(Exit::Unknown),
        "Failure" => {
            let cause = status.details.causes.iter();
            let mut codes = cause.filter(|c| c.reason == "ExitCode");
            let code = codes.find_map(|c| c.message.parse().ok());
            let code = code.or_else(|| i32::try_from(status.code).ok());
            Some(
                code.filter(|code| *code != 0)
                    .map_or(Exit::Unknown, Exit::Code),
            )
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recorded_statuses_are_read_and_silence_is_no_success() {
        let of = |text: &str| exit(text.as_bytes());
        assert_eq!(
            of(r#"{"metadata":{},"status":"Success"}"#),
            Some(Exit::Code(0))
        );
        let failure = r#"{"metadata":{},"status":"Failure","reason":"NonZeroExitCode","details":{"causes":[{"reason":"ExitCode","message":"3"}]},"code":3}"#;
        assert_eq!(of(failure), Some(Exit::Code(3)));
        let killed = r#"{"status":"Failure","details":{"causes":[{"reason":"ExitCode","message":"1"}]},"code":-1}"#;
        assert_eq!(of(killed), Some(Exit::Unknown));
        assert_eq!(of(r#"{"status":"Failure"}"#), Some(Exit::Unknown));
        for nothing in ["", "{}", "null", "Success", r#"{"status":"Odd"}"#] {
            assert_eq!(of(nothing), None, "{nothing}");
        }
    }
}
