//! `exec` and `attach`, whatever carries them: which streams there are, how the terminal's
//! size comes in and how the outcome goes out (k8s.io/cri-streaming, `remotecommand`).

use serde::{Deserialize, Serialize};

use crate::limits::MAX_RESIZE_OBJECT;
use crate::negotiate::{Remote, Version};
use crate::protocol::Protocol;
use crate::spdy::{self, Connection, FlowControl};
use crate::websocket::{Channels, Direction, Encoding, Role};

/// The streams a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Input of the process.
    pub stdin: bool,
    /// Its output.
    pub stdout: bool,
    /// Its error output; never together with `tty`.
    pub stderr: bool,
    /// A terminal, with a size.
    pub tty: bool,
}

/// A request that asks for no stream at all: status 400.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("at least one of the query parameters input, output and error must be 1")]
pub struct NoStreams;

impl Options {
    /// Reads the (decoded) query: `input`, `output`, `error` and `tty`, each `1` or absent.
    /// A terminal has no error output of its own, so that `tty` takes `error` away.
    ///
    /// # Errors
    /// When nothing is asked for.
    pub fn from_query<'a>(
        query: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, NoStreams> {
        let mut values: [Option<bool>; 4] = [None; 4];
        for (name, value) in query {
            if let Some(i) = ["input", "output", "error", "tty"]
                .iter()
                .position(|n| *n == name)
            {
                // Of several the first counts, as in Go.
                values[i].get_or_insert(value == "1");
            }
        }
        let [stdin, stdout, stderr, tty] = values.map(Option::unwrap_or_default);
        let options = Self {
            stdin,
            stdout,
            stderr: stderr && !tty,
            tty,
        };
        if stdin || stdout || stderr {
            Ok(options)
        } else {
            Err(NoStreams)
        }
    }

    /// Whether this stream is part of the session. The size of a terminal has one over SPDY
    /// from version 3 on, over WebSocket always.
    #[must_use]
    pub fn expects(&self, kind: Kind, protocol: Remote) -> bool {
        match kind {
            Kind::Stdin => self.stdin,
            Kind::Stdout => self.stdout,
            Kind::Stderr => self.stderr,
            Kind::Error => true,
            Kind::Resize => match protocol {
                Remote::Spdy(version) => self.tty && version >= Version::V3,
                Remote::WebSocket(..) => self.tty,
            },
        }
    }

    /// The connection right behind the upgrade.
    #[must_use]
    pub fn connection(&self, protocol: Remote) -> Box<dyn Protocol> {
        match protocol {
            Remote::Spdy(_) => Box::new(Connection::new(spdy::Role::Server, FlowControl::Ignored)),
            Remote::WebSocket(version, encoding) => Box::new(self.channels(version, encoding)),
        }
    }

    /// The channels of a WebSocket server, the first message to the client included: an
    /// empty one on the lowest channel it reads.
    #[must_use]
    pub fn channels(&self, version: Version, encoding: Encoding) -> Channels {
        let direction = |kind: Kind| match (
            kind,
            self.expects(kind, Remote::WebSocket(version, encoding)),
        ) {
            (_, false) => Direction::Ignored,
            (Kind::Stdin | Kind::Resize, true) => Direction::Read,
            (Kind::Stdout | Kind::Stderr | Kind::Error, true) => Direction::Write,
        };
        let directions = Kind::ALL.map(direction);
        let mut channels =
            Channels::new(Role::Server, encoding, version == Version::V5, &directions);
        let first = Kind::ALL
            .into_iter()
            .find(|kind| direction(*kind) == Direction::Write);
        if let Some(kind) = first {
            channels.announce(kind as u8);
        }
        channels
    }
}

/// What a stream is for; the number is that of its WebSocket channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Input of the process.
    Stdin = 0,
    /// Output.
    Stdout = 1,
    /// Error output.
    Stderr = 2,
    /// The outcome.
    Error = 3,
    /// Sizes of the terminal.
    Resize = 4,
}

impl Kind {
    /// All of them, by number.
    pub const ALL: [Self; 5] = [
        Self::Stdin,
        Self::Stdout,
        Self::Stderr,
        Self::Error,
        Self::Resize,
    ];

    /// The header by which a SPDY client says what a stream is for.
    pub const HEADER: &str = "streamType";

    /// The header's value.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Stdin => "stdin",
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
            Self::Error => "error",
            Self::Resize => "resize",
        }
    }

    /// The kind of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It ended with this code; 0 is success. Clients take 0 to 255 and call anything
    /// else a protocol error.
    Exited(i32),
    /// It could not be run, or what became of it is not known.
    Failed(String),
}

impl Outcome {
    /// What goes out on the error stream: JSON from version 4 on; before that text, and
    /// nothing for success.
    #[must_use]
    pub fn encode(&self, version: Version) -> Vec<u8> {
        let status = self.status();
        if version < Version::V4 {
            return status.message.into_bytes();
        }
        // Strings and numbers alone: it cannot fail. A client reads nothing as success,
        // so that there is something in any case.
        serde_json::to_vec(&status).unwrap_or_else(|_| br#"{"status":"Failure"}"#.to_vec())
    }

    fn status(&self) -> Status {
        match self {
            Self::Exited(0) => Status {
                status: "Success",
                ..Status::default()
            },
            Self::Exited(code) => Status {
                status: "Failure",
                message: format!("command terminated with non-zero exit code: {code}"),
                reason: "NonZeroExitCode",
                details: Some(Details {
                    causes: [Cause {
                        reason: "ExitCode",
                        message: code.to_string(),
                    }],
                }),
                code: None,
            },
            Self::Failed(message) => Status {
                status: "Failure",
                message: message.clone(),
                reason: "InternalError",
                details: None,
                code: Some(500),
            },
        }
    }
}

/// The part of a `metav1.Status` that the kubelet sends.
#[derive(Debug, Default, Serialize)]
struct Status {
    status: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    message: String,
    #[serde(skip_serializing_if = "str::is_empty")]
    reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<Details>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<u16>,
}

#[derive(Debug, Serialize)]
struct Details {
    causes: [Cause; 1],
}

#[derive(Debug, Serialize)]
struct Cause {
    reason: &'static str,
    message: String,
}

/// Size of a terminal, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub struct TerminalSize {
    /// Columns.
    #[serde(rename = "Width", alias = "width")]
    pub width: u16,
    /// Lines.
    #[serde(rename = "Height", alias = "height")]
    pub height: u16,
}

/// The resize stream holds something else than sizes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadResize {
    /// Not the JSON of a size. The text is serde's.
    #[error("resize stream: {0}")]
    Json(String),
    /// Over [`MAX_RESIZE_OBJECT`].
    #[error("resize stream: object of more than {MAX_RESIZE_OBJECT} bytes")]
    TooLarge,
}

/// Reads the resize stream: JSON objects one after the other.
#[derive(Debug, Default)]
pub struct Resizes {
    buffer: Vec<u8>,
}

impl Resizes {
    /// Takes more of the stream and returns the last size that is whole by now: only the
    /// newest matters.
    ///
    /// # Errors
    /// When the stream holds something else. It is of no use afterwards.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Option<TerminalSize>, BadResize> {
        self.buffer.extend_from_slice(bytes);
        let mut sizes =
            serde_json::Deserializer::from_slice(&self.buffer).into_iter::<TerminalSize>();
        let mut newest = None;
        for size in sizes.by_ref() {
            match size {
                Ok(size) => newest = Some(size),
                Err(error) if error.is_eof() => break,
                Err(error) => return Err(BadResize::Json(error.to_string())),
            }
        }
        let used = sizes.byte_offset();
        self.buffer.drain(..used);
        if self.buffer.len() > MAX_RESIZE_OBJECT {
            return Err(BadResize::TooLarge);
        }
        Ok(newest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_has_no_error_output_of_its_own() {
        let query = [
            ("output", "1"),
            ("error", "1"),
            ("tty", "1"),
            ("input", "true"),
        ];
        let options = Options::from_query(query).unwrap();
        assert_eq!(
            options,
            Options {
                stdin: false,
                stdout: true,
                stderr: false,
                tty: true
            }
        );
    }

    #[test]
    fn no_stream_at_all_is_refused() {
        assert_eq!(
            Options::from_query([("tty", "1"), ("output", "0"), ("output", "1")]),
            Err(NoStreams)
        );
    }

    #[test]
    fn a_resize_stream_comes_with_a_terminal_over_spdy_from_version_3_on() {
        let terminal = Options {
            stdin: true,
            stdout: true,
            stderr: false,
            tty: true,
        };
        let expects = |tty, protocol| Options { tty, ..terminal }.expects(Kind::Resize, protocol);
        assert!(expects(true, Remote::Spdy(Version::V3)));
        assert!(!expects(true, Remote::Spdy(Version::V2)));
        assert!(expects(
            true,
            Remote::WebSocket(Version::V1, Encoding::Binary)
        ));
        assert!(!expects(false, Remote::Spdy(Version::V4)));
    }

    #[test]
    fn kinds_have_the_names_and_numbers_of_kubernetes() {
        let all = Kind::ALL.map(|kind| (kind as u8, kind.name()));
        assert_eq!(
            all,
            [
                (0, "stdin"),
                (1, "stdout"),
                (2, "stderr"),
                (3, "error"),
                (4, "resize")
            ]
        );
        assert_eq!(Kind::from_name("stderr"), Some(Kind::Stderr));
        assert_eq!(Kind::from_name("Stderr"), None);
    }

    #[test]
    fn the_exit_code_is_told_from_version_4_on() {
        let status =
            |outcome: Outcome, version| String::from_utf8(outcome.encode(version)).unwrap();
        assert_eq!(
            status(Outcome::Exited(0), Version::V4),
            r#"{"status":"Success"}"#
        );
        let expected = concat!(
            r#"{"status":"Failure","message":"command terminated with non-zero exit code: 42","#,
            r#""reason":"NonZeroExitCode","details":{"causes":[{"reason":"ExitCode","message":"42"}]}}"#
        );
        assert_eq!(status(Outcome::Exited(42), Version::V5), expected);
        let failed = Outcome::Failed("no such container".into());
        let expected = r#"{"status":"Failure","message":"no such container","reason":"InternalError","code":500}"#;
        assert_eq!(status(failed.clone(), Version::V4), expected);

        assert_eq!(status(failed, Version::V3), "no such container");
        assert_eq!(status(Outcome::Exited(0), Version::V1), "");
        assert_eq!(
            status(Outcome::Exited(7), Version::V2),
            "command terminated with non-zero exit code: 7"
        );
    }

    #[test]
    fn sizes_come_through_whatever_the_cuts() {
        let stream = b"{\"Width\":80,\"Height\":24}\n{\"width\":100,\"height\":30}\n{}";
        for cut in 0..=stream.len() {
            let mut resizes = Resizes::default();
            let (first, second) = stream.split_at(cut);
            let sizes = [resizes.push(first).unwrap(), resizes.push(second).unwrap()];
            let newest = sizes.into_iter().flatten().last();
            assert_eq!(newest, Some(TerminalSize::default()), "cut at {cut}");
        }
        let mut resizes = Resizes::default();
        assert_eq!(
            resizes.push(&stream[..30]),
            Ok(Some(TerminalSize {
                width: 80,
                height: 24
            }))
        );
        assert_eq!(
            resizes.push(&stream[30..51]),
            Ok(Some(TerminalSize {
                width: 100,
                height: 30
            }))
        );
    }

    #[test]
    fn what_is_no_size_is_refused() {
        assert!(matches!(
            Resizes::default().push(b"hello"),
            Err(BadResize::Json(_))
        ));
        assert!(matches!(
            Resizes::default().push(b"{\"Width\":-1}"),
            Err(BadResize::Json(_))
        ));
        let mut endless = Resizes::default();
        assert_eq!(endless.push(b"{\"Width\":"), Ok(None));
        assert_eq!(
            endless.push(&[b' '; MAX_RESIZE_OBJECT]),
            Err(BadResize::TooLarge)
        );
    }
}
