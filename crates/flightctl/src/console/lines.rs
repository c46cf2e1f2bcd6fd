//! A log as podman prints it with `--timestamps`, or the journal as JSON. Pure.

use bytes::{Buf, Bytes, BytesMut};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;
use vk_provider::{LogChunk, LogSource};

/// Longest line that is held until its end comes; a longer one is told in parts.
/// The engine cuts lines at 8 KiB, or at 48 KiB in the journal.
const LINE_LIMIT: usize = 1 << 20;

/// One of the two streams that a log comes on.
#[derive(Debug)]
pub(super) struct Lines {
    source: LogSource,
    open: BytesMut,
    /// The time of the line of which the beginning was told already.
    within: Option<Timestamp>,
    /// What podman itself said last, in place of a line.
    complaint: Option<String>,
}

/// An entry of the journal, as conmon writes it.
#[derive(Deserialize)]
struct Entry {
    #[serde(rename = "MESSAGE", default)]
    message: Value,
    /// 3 is standard error, 6 standard output.
    #[serde(rename = "PRIORITY", default)]
    priority: Value,
    #[serde(rename = "__REALTIME_TIMESTAMP", default)]
    micros: String,
    #[serde(rename = "CONTAINER_PARTIAL_MESSAGE", default)]
    partial: Value,
}

impl Lines {
    pub(super) fn new(source: LogSource) -> Self {
        Self {
            source,
            open: BytesMut::new(),
            within: None,
            complaint: None,
        }
    }

    /// Takes what came, and tells what is whole.
    pub(super) fn push(&mut self, bytes: &[u8], told: &mut Vec<LogChunk>) {
        self.open.extend_from_slice(bytes);
        while let Some(end) = self.open.iter().position(|byte| *byte == b'\n') {
            let line = self.open.split_to(end + 1).freeze();
            self.line(line, told);
        }
        if self.open.len() > LINE_LIMIT {
            let part = self.open.split().freeze();
            let at = self.line(part, told);
            self.within = at;
        }
    }

    /// The stream is at its end.
    pub(super) fn finish(&mut self, told: &mut Vec<LogChunk>) {
        if !self.open.is_empty() {
            let rest = self.open.split().freeze();
            self.line(rest, told);
        }
    }

    /// What podman said that was no line of a log, such as why there is none.
    pub(super) fn complaint(&self) -> Option<&str> {
        self.complaint.as_deref()
    }

    /// One line, or a part of one; its time.
    fn line(&mut self, mut line: Bytes, told: &mut Vec<LogChunk>) -> Option<Timestamp> {
        if let Some(at) = self.within {
            if line.ends_with(b"\n") {
                self.within = None;
            }
            told.push(self.chunk(at, line));
            return Some(at);
        }
        if line.starts_with(b"{")
            && let Some(chunk) = entry(&line)
        {
            told.push(chunk);
            return None;
        }
        let Some((at, after)) = stamp(&line) else {
            let text = String::from_utf8_lossy(&line);
            self.complaint = Some(text.trim().chars().take(300).collect());
            return None;
        };
        line.advance(after);
        told.push(self.chunk(at, line));
        Some(at)
    }

    fn chunk(&self, at: Timestamp, bytes: Bytes) -> LogChunk {
        LogChunk {
            at,
            source: self.source,
            bytes,
        }
    }
}

/// The time that a line begins with, and where the line goes on.
fn stamp(line: &[u8]) -> Option<(Timestamp, usize)> {
    let end = line.iter().position(|byte| matches!(byte, b' ' | b'\n'))?;
    let at = std::str::from_utf8(&line[..end]).ok()?.parse().ok()?;
    // The line's own end stays where nothing else is in it.
    let after = if line[end] == b' ' { end + 1 } else { end };
    Some((at, after))
}

fn entry(line: &[u8]) -> Option<LogChunk> {
    let entry: Entry = serde_json::from_slice(line).ok()?;
    let micros = entry.micros.parse().ok()?;
    let mut bytes = match entry.message {
        Value::String(text) => text.into_bytes(),
        // Of what is no text the journal gives the numbers of its bytes.
        Value::Array(numbers) => numbers
            .iter()
            .map(|n| n.as_u64().and_then(|n| u8::try_from(n).ok()))
            .collect::<Option<_>>()?,
        _ => return None,
    };
    if entry.partial != "true" {
        bytes.push(b'\n');
    }
    Some(LogChunk {
        at: Timestamp::from_microsecond(micros).ok()?,
        source: if entry.priority == "3" {
            LogSource::Stderr
        } else {
            LogSource::Stdout
        },
        bytes: bytes.into(),
    })
}

/// Puts what came on two streams at about the same time into the order in which
/// it was written. The lines of one stream stay as they are, whatever the
/// device's clock did.
pub(super) fn in_order(mut told: Vec<LogChunk>) -> Vec<LogChunk> {
    let mut newest = [Timestamp::MIN; 2];
    let mut keyed: Vec<(Timestamp, LogChunk)> = told
        .drain(..)
        .map(|chunk| {
            let newest = &mut newest[usize::from(chunk.source == LogSource::Stderr)];
            *newest = chunk.at.max(*newest);
            (*newest, chunk)
        })
        .collect();
    keyed.sort_by_key(|(at, _)| *at);
    keyed.into_iter().map(|(_, chunk)| chunk).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn told(parts: &[&[u8]]) -> (Vec<LogChunk>, Lines) {
        let mut lines = Lines::new(LogSource::Stderr);
        let mut told = Vec::new();
        parts.iter().for_each(|part| lines.push(part, &mut told));
        lines.finish(&mut told);
        (told, lines)
    }

    fn shown(chunks: &[LogChunk]) -> Vec<(String, String)> {
        let show = |c: &LogChunk| {
            let text = String::from_utf8_lossy(&c.bytes).into_owned();
            (c.at.to_string(), text)
        };
        chunks.iter().map(show).collect()
    }

    #[test]
    fn podmans_lines_lose_their_times_and_keep_everything_else() {
        let text = "2026-11-30T20:21:05.123456789Z hello\n\
                    2026-11-30T21:21:06.000000000+01:00 \n\
                    2026-11-30T20:21:07.000000000Z  two blanks\r\n\
                    2026-11-30T20:21:08.000000000Z open";
        let wanted = [
            ("2026-11-30T20:21:05.123456789Z", "hello\n"),
            ("2026-11-30T20:21:06Z", "\n"),
            ("2026-11-30T20:21:07Z", " two blanks\r\n"),
            ("2026-11-30T20:21:08Z", "open"),
        ];
        let wanted = wanted.map(|(at, text)| (at.to_owned(), text.to_owned()));
        assert_eq!(shown(&told(&[text.as_bytes()]).0), wanted);
    }

    #[test]
    fn what_is_no_line_of_a_log_is_podmans_own_word() {
        let (lines, podman) = told(&[b"2026-11-30T20:21:05Z a\n", b"Error: no such container\n"]);
        assert_eq!(lines.len(), 1);
        assert_eq!(podman.complaint(), Some("Error: no such container"));
    }

    #[test]
    fn the_journals_entries_are_lines_of_either_stream() {
        let text = concat!(
            r#"{"MESSAGE":"out","PRIORITY":"6","__REALTIME_TIMESTAMP":"1700000000000001"}"#,
            "\n",
            r#"{"MESSAGE":[255,10],"PRIORITY":"3","__REALTIME_TIMESTAMP":"1700000000000002"}"#,
            "\n",
            r#"{"MESSAGE":"part","CONTAINER_PARTIAL_MESSAGE":"true","__REALTIME_TIMESTAMP":"1700000000000003"}"#,
            "\n",
        );
        let (told, _) = told(&[text.as_bytes()]);
        let bytes: Vec<&[u8]> = told.iter().map(|c| &c.bytes[..]).collect();
        assert_eq!(bytes, [b"out\n".as_slice(), &[255, 10, 10], b"part"]);
        let sources: Vec<LogSource> = told.iter().map(|c| c.source).collect();
        use LogSource::{Stderr, Stdout};
        assert_eq!(sources, [Stdout, Stderr, Stdout]);
        assert_eq!(told[0].at.as_microsecond(), 1_700_000_000_000_001);
    }

    #[test]
    fn a_line_without_end_is_told_in_parts_and_takes_bounded_memory() {
        let mut lines = Lines::new(LogSource::Stdout);
        let mut told = Vec::new();
        lines.push(b"2026-11-30T20:21:05Z ", &mut told);
        for _ in 0..3 {
            lines.push(&vec![b'x'; LINE_LIMIT], &mut told);
        }
        assert!(lines.open.len() <= LINE_LIMIT && !told.is_empty());
        lines.push(b"end\n2026-11-30T20:21:06Z next\n", &mut told);
        let all: usize = told.iter().map(|c| c.bytes.len()).sum();
        assert_eq!(all, 3 * LINE_LIMIT + "end\n".len() + "next\n".len());
        assert_eq!(&told.last().unwrap().bytes[..], b"next\n");
    }

    #[test]
    fn two_streams_become_one_in_the_order_of_writing() {
        let chunk = |second, source, text: &str| LogChunk {
            at: Timestamp::from_second(second).unwrap(),
            source,
            bytes: Bytes::copy_from_slice(text.as_bytes()),
        };
        use LogSource::{Stderr, Stdout};
        let told = vec![
            chunk(1, Stdout, "a"),
            chunk(5, Stdout, "d"),
            chunk(2, Stderr, "b"),
            chunk(3, Stderr, "c"),
            // The clock was set back: it was written after `d` all the same.
            chunk(4, Stdout, "e"),
        ];
        let text: Vec<u8> = in_order(told)
            .iter()
            .flat_map(|c| c.bytes.to_vec())
            .collect();
        assert_eq!(text, b"abcde");
    }

    proptest! {
        #[test]
        fn it_does_not_matter_where_a_stream_is_cut(cuts in proptest::collection::vec(0usize..80, 0..6)) {
            let text = b"2026-11-30T20:21:05Z one\n2026-11-30T20:21:06Z two\n2026-11-30T20:21:07Z three".as_slice();
            let mut cuts: Vec<usize> = cuts.into_iter().filter(|cut| *cut < text.len()).collect();
            cuts.sort_unstable();
            cuts.push(text.len());
            let mut start = 0;
            let parts: Vec<&[u8]> = cuts.iter().map(|cut| {
                let part = &text[start..*cut];
                start = *cut;
                part
            }).collect();
            prop_assert_eq!(shown(&told(&parts).0), shown(&told(&[text]).0));
        }

        #[test]
        fn nothing_that_comes_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            told(&[&bytes]);
            told(&[b"{", &bytes]);
        }
    }
}
