//! A log as it is shown: the last lines, from a time on, with timestamps, cut at
//! a number of bytes. Bytes are never decoded. Pure.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use vk_provider::LogChunk;

use super::query::Options;

/// Turns chunks into what the client gets.
#[derive(Debug)]
pub(super) struct Shown {
    options: Options,
    left: Option<u64>,
    at_line_start: bool,
}

impl Shown {
    pub(super) fn new(options: Options) -> Self {
        Self {
            left: options.limit,
            options,
            at_line_start: true,
        }
    }

    /// What is shown of a chunk, if anything.
    pub(super) fn show(&mut self, chunk: &LogChunk) -> Option<Bytes> {
        let older = self.options.since.is_some_and(|since| chunk.at < since);
        let other = self.options.source.is_some_and(|of| chunk.source != of);
        if older || other || chunk.bytes.is_empty() {
            return None;
        }
        let shown = if self.options.timestamps {
            self.stamped(chunk)
        } else {
            chunk.bytes.clone()
        };
        self.at_line_start = chunk.bytes.ends_with(b"\n");
        self.cut(shown)
    }

    /// Nothing more is shown: the limit is reached.
    pub(super) fn is_full(&self) -> bool {
        self.left == Some(0)
    }

    /// Whether what was shown ends within a line.
    pub(super) fn is_within_line(&self) -> bool {
        !self.at_line_start
    }

    /// As the kubelet: nine digits, and one stamp for each line, wherever the
    /// parts of it went to.
    fn stamped(&self, chunk: &LogChunk) -> Bytes {
        let stamp = format!("{:.9} ", chunk.at);
        let mut shown = BytesMut::new();
        let mut starts = self.at_line_start;
        for line in chunk.bytes.split_inclusive(|byte| *byte == b'\n') {
            if starts {
                shown.extend_from_slice(stamp.as_bytes());
            }
            shown.extend_from_slice(line);
            starts = true;
        }
        shown.freeze()
    }

    fn cut(&mut self, mut shown: Bytes) -> Option<Bytes> {
        if let Some(left) = &mut self.left {
            shown.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
            *left -= shown.len() as u64;
        }
        Some(shown).filter(|shown| !shown.is_empty())
    }
}

/// The last lines of what goes through it, in bounded memory.
#[derive(Debug)]
pub(super) struct Tail {
    wanted: u64,
    limit: usize,
    /// Lines and parts of lines.
    held: VecDeque<LogChunk>,
    lines: u64,
    bytes: usize,
}

/// The lines do not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooLong;

/// What one held part takes beside its bytes, about.
const PART: usize = 64;

impl Tail {
    /// The last `wanted` lines, of at most `limit` bytes.
    pub(super) fn new(wanted: u64, limit: usize) -> Self {
        Self {
            wanted,
            limit,
            held: VecDeque::new(),
            lines: 0,
            bytes: 0,
        }
    }

    pub(super) fn push(&mut self, chunk: &LogChunk) -> Result<(), TooLong> {
        if self.wanted == 0 {
            return Ok(());
        }
        let mut start = 0;
        for line in chunk.bytes.split_inclusive(|byte| *byte == b'\n') {
            let end = start + line.len();
            let part = LogChunk {
                bytes: chunk.bytes.slice(start..end),
                ..chunk.clone()
            };
            start = end;
            let continues = self.held.back().is_some_and(|last| !ends(last));
            self.lines += u64::from(!continues);
            self.bytes += part.bytes.len() + PART;
            self.held.push_back(part);
            while self.lines > self.wanted {
                self.drop_line();
            }
            if self.bytes > self.limit {
                return Err(TooLong);
            }
        }
        Ok(())
    }

    /// What it holds, in order.
    pub(super) fn into_chunks(self) -> impl Iterator<Item = LogChunk> {
        self.held.into_iter()
    }

    fn drop_line(&mut self) {
        while let Some(part) = self.held.pop_front() {
            self.bytes -= part.bytes.len() + PART;
            if ends(&part) {
                break;
            }
        }
        self.lines -= 1;
    }
}

fn ends(part: &LogChunk) -> bool {
    part.bytes.ends_with(b"\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;
    use proptest::prelude::*;
    use vk_provider::LogSource;

    fn chunk(second: i64, bytes: &[u8]) -> LogChunk {
        LogChunk {
            at: Timestamp::from_second(second).unwrap(),
            source: LogSource::Stdout,
            bytes: Bytes::copy_from_slice(bytes),
        }
    }

    fn shown(options: Options, chunks: &[LogChunk]) -> Vec<u8> {
        let mut shown = Shown::new(options);
        let parts = chunks.iter().filter_map(|chunk| shown.show(chunk));
        parts.flat_map(|part| part.to_vec()).collect()
    }

    fn text(options: Options, chunks: &[LogChunk]) -> String {
        String::from_utf8(shown(options, chunks)).unwrap()
    }

    fn tailed(lines: u64, chunks: &[LogChunk]) -> Vec<u8> {
        let mut tail = Tail::new(lines, 1 << 20);
        chunks.iter().for_each(|chunk| tail.push(chunk).unwrap());
        let held = tail.into_chunks();
        held.flat_map(|chunk| chunk.bytes.to_vec()).collect()
    }

    #[test]
    fn each_line_has_one_stamp_wherever_its_parts_are() {
        let options = Options {
            timestamps: true,
            ..Options::default()
        };
        let chunks = [
            chunk(1, b"one\ntwo\n"),
            chunk(2, b"thr"),
            chunk(3, b"ee\n"),
            chunk(4, b"\n"),
            chunk(5, b"open"),
        ];
        let wanted = "1970-01-01T00:00:01.000000000Z one\n\
                      1970-01-01T00:00:01.000000000Z two\n\
                      1970-01-01T00:00:02.000000000Z three\n\
                      1970-01-01T00:00:04.000000000Z \n\
                      1970-01-01T00:00:05.000000000Z open";
        assert_eq!(text(options, &chunks), wanted);
    }

    #[test]
    fn what_is_older_is_left_out_and_the_moment_itself_is_not() {
        let options = Options {
            since: Timestamp::from_second(2).ok(),
            ..Options::default()
        };
        let chunks = [chunk(1, b"a\n"), chunk(2, b"b\n"), chunk(3, b"c\n")];
        assert_eq!(text(options, &chunks), "b\nc\n");
    }

    #[test]
    fn a_limit_cuts_at_the_byte_stamps_included_even_within_a_letter() {
        let limited = |limit, timestamps| Options {
            limit: Some(limit),
            timestamps,
            ..Options::default()
        };
        let chunks = [chunk(1, "ä\nö\n".as_bytes()), chunk(1, b"more")];
        assert_eq!(shown(limited(1, false), &chunks), "ä".as_bytes()[..1]);
        assert_eq!(shown(limited(3, false), &chunks), "ä\n".as_bytes());
        let stamp = text(limited(31, true), &chunks[1..]);
        assert_eq!(stamp, "1970-01-01T00:00:01.000000000Z ");
        let mut full = Shown::new(limited(2, false));
        full.show(&chunks[0]);
        assert!(full.is_full());
        assert_eq!(full.show(&chunks[1]), None);
    }

    #[test]
    fn one_stream_can_be_asked_for() {
        let error = LogChunk {
            source: LogSource::Stderr,
            ..chunk(1, b"err\n")
        };
        let chunks = [chunk(1, b"out\n"), error];
        let of = |source| Options {
            source,
            ..Options::default()
        };
        assert_eq!(text(of(Some(LogSource::Stdout)), &chunks), "out\n");
        assert_eq!(text(of(Some(LogSource::Stderr)), &chunks), "err\n");
        assert_eq!(text(of(None), &chunks), "out\nerr\n");
    }

    #[test]
    fn a_tail_counts_lines_and_takes_an_open_one_for_a_line() {
        let chunks = [chunk(1, b"a\nb\nc"), chunk(2, b"c\nd"), chunk(3, b"d")];
        assert_eq!(tailed(0, &chunks), b"");
        assert_eq!(tailed(1, &chunks), b"dd");
        assert_eq!(tailed(2, &chunks), b"cc\ndd");
        assert_eq!(tailed(9, &chunks), b"a\nb\ncc\ndd");
    }

    #[test]
    fn a_tail_that_does_not_fit_says_so_and_a_long_log_before_it_does_not_matter() {
        let line = chunk(1, &[b"x".repeat(99), b"\n".to_vec()].concat());
        let mut few = Tail::new(2, 400);
        for _ in 0..1000 {
            few.push(&line).unwrap();
        }
        let mut many = Tail::new(10, 400);
        let pushed: Vec<_> = (0..3).map(|_| many.push(&line)).collect();
        assert_eq!(pushed, [Ok(()), Ok(()), Err(TooLong)]);
    }

    proptest! {
        #[test]
        fn a_tail_is_the_end_of_the_text_however_it_is_cut_into_chunks(
            text in "[a\n]{0,40}", cuts in proptest::collection::vec(0usize..40, 0..6), lines in 0u64..6,
        ) {
            let mut cuts: Vec<usize> = cuts.into_iter().filter(|cut| *cut < text.len()).collect();
            cuts.sort_unstable();
            cuts.push(text.len());
            let mut start = 0;
            let mut chunks = Vec::new();
            for cut in cuts {
                chunks.push(chunk(1, &text.as_bytes()[start..cut]));
                start = cut;
            }
            let all: Vec<&str> = text.split_inclusive('\n').collect();
            let from = all.len().saturating_sub(usize::try_from(lines).unwrap());
            prop_assert_eq!(tailed(lines, &chunks), all[from..].concat().into_bytes());
        }
    }
}
