//! Header blocks (SPDY draft 3.1, section 2.6.10): name and value pairs, compressed
//! with zlib, one stream per direction for the whole life of the connection.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::dictionary::{DICTIONARY, DICTIONARY_ID};
use crate::limits::{MAX_HEADER_BLOCK, MAX_HEADERS};

/// The headers of a stream. Names are lower case on the wire; [`Headers::get`] takes
/// them as Kubernetes writes them (`streamType`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Headers(Vec<(String, String)>);

impl Headers {
    /// The first value of `name`, whatever its case.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        let (_, value) = self.0.iter().find(|(n, _)| n.eq_ignore_ascii_case(name))?;
        value.split('\0').next()
    }

    /// All names and values, in order; NUL stands between several values of one name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(n, v)| (&**n, &**v))
    }

    fn parse(mut block: Bytes) -> Result<Self, MalformedHeaders> {
        let count = word(&mut block)? as usize;
        if count > MAX_HEADERS {
            return Err(MalformedHeaders::TooMany(count));
        }
        let mut headers = Self::default();
        for _ in 0..count {
            let (name, value) = (text(&mut block)?, text(&mut block)?);
            if name.is_empty() || name.bytes().any(|b| b.is_ascii_uppercase()) {
                return Err(MalformedHeaders::Name(name));
            }
            if headers.0.iter().any(|(n, _)| *n == name) {
                return Err(MalformedHeaders::Duplicate(name));
            }
            headers.0.push((name, value));
        }
        if block.is_empty() {
            Ok(headers)
        } else {
            Err(MalformedHeaders::Length)
        }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        let mut put = |text: &str| {
            out.put_u32(text.len() as u32);
            out.put_slice(text.as_bytes());
        };
        for (name, value) in &self.0 {
            put(&name.to_ascii_lowercase());
            put(value);
        }
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Headers {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        Self(
            pairs
                .into_iter()
                .map(|(n, v)| (n.into(), v.into()))
                .collect(),
        )
    }
}

fn word(block: &mut Bytes) -> Result<u32, MalformedHeaders> {
    block.try_get_u32().map_err(|_| MalformedHeaders::Length)
}

fn text(block: &mut Bytes) -> Result<String, MalformedHeaders> {
    let len = word(block)? as usize;
    if len > block.len() {
        return Err(MalformedHeaders::Length);
    }
    String::from_utf8(block.split_to(len).into()).map_err(|_| MalformedHeaders::Encoding)
}

/// Why a block that was decompressed holds no headers. The compression state is sound:
/// only the stream is lost.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MalformedHeaders {
    /// Lengths and bytes disagree.
    #[error("header block ends in the middle of a header, or after it")]
    Length,
    /// Over [`MAX_HEADERS`].
    #[error("{0} headers in one block, at most {MAX_HEADERS} are taken")]
    TooMany(usize),
    /// Empty or not lower case.
    #[error("header name {0:?} is empty or not lower case")]
    Name(String),
    /// The same name twice.
    #[error("header {0:?} comes twice")]
    Duplicate(String),
    /// Not UTF-8.
    #[error("header that is not UTF-8")]
    Encoding,
}

/// Why a block cannot be decompressed. The state is lost, and the connection with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecompressError {
    /// Not the zlib stream that the blocks before it began.
    #[error("header block is no continuation of the connection's zlib stream")]
    Corrupt,
    /// Another dictionary is asked for than the one of SPDY/3.
    #[error("header block asks for dictionary {0:#010x}, SPDY/3 has {DICTIONARY_ID:#010x}")]
    Dictionary(u32),
    /// Over [`MAX_HEADER_BLOCK`].
    #[error("header block of more than {MAX_HEADER_BLOCK} bytes when decompressed")]
    TooLarge,
}

/// Reads the header blocks of one direction of a connection.
#[derive(Debug)]
pub struct Decompressor(Decompress);

impl Default for Decompressor {
    fn default() -> Self {
        Self(Decompress::new(true))
    }
}

impl Decompressor {
    /// Decompresses the next block. Every block of the connection has to pass through
    /// here, in order, whether its stream is wanted or not.
    ///
    /// # Errors
    /// [`DecompressError`] loses the connection; the inner [`MalformedHeaders`] only
    /// the stream.
    pub fn read(
        &mut self,
        block: &[u8],
    ) -> Result<Result<Headers, MalformedHeaders>, DecompressError> {
        let mut out = BytesMut::new();
        let mut chunk = [0; 1024];
        let mut input = block;
        loop {
            let (taken, given) = (self.0.total_in(), self.0.total_out());
            let status = match self.0.decompress(input, &mut chunk, FlushDecompress::Sync) {
                Ok(status) => status,
                Err(error) => match error.needs_dictionary() {
                    Some(DICTIONARY_ID) => {
                        self.0
                            .set_dictionary(DICTIONARY)
                            .map_err(|_| DecompressError::Corrupt)?;
                        Status::Ok
                    }
                    Some(other) => return Err(DecompressError::Dictionary(other)),
                    None => return Err(DecompressError::Corrupt),
                },
            };
            let (taken, given) = (self.0.total_in() - taken, self.0.total_out() - given);
            input = input.get(taken as usize..).unwrap_or_default();
            out.extend_from_slice(chunk.get(..given as usize).unwrap_or_default());
            if out.len() > MAX_HEADER_BLOCK {
                return Err(DecompressError::TooLarge);
            }
            match status {
                // The stream ends with the connection and not before it.
                Status::StreamEnd => return Err(DecompressError::Corrupt),
                _ if input.is_empty() && (given as usize) < chunk.len() => break,
                // Neither took nor gave with input left: it would not the next time either.
                Status::BufError if taken == 0 && given == 0 => {
                    return Err(DecompressError::Corrupt);
                }
                _ => {}
            }
        }
        Ok(Headers::parse(out.freeze()))
    }
}

/// Writes the header blocks of one direction of a connection.
#[derive(Debug)]
pub struct Compressor(Compress);

/// Log2 of the compressor's window. The blocks are short, the dictionary fits, and the
/// memory of a connection stays small.
const WINDOW_BITS: u8 = 11;

impl Default for Compressor {
    fn default() -> Self {
        let mut compress = Compress::new_with_window_bits(Compression::fast(), true, WINDOW_BITS);
        let dictionary = compress.set_dictionary(DICTIONARY);
        debug_assert_eq!(dictionary.ok(), Some(DICTIONARY_ID));
        Self(compress)
    }
}

impl Compressor {
    /// Compresses the next block, to be sent before the block of the next call.
    pub fn write(&mut self, headers: &Headers) -> Bytes {
        let mut plain = Vec::with_capacity(64);
        plain.put_u32(headers.0.len() as u32);
        headers.encode(&mut plain);

        let (mut out, mut chunk) = (BytesMut::new(), [0; 1024]);
        let mut input = &plain[..];
        loop {
            let (taken, given) = (self.0.total_in(), self.0.total_out());
            let status = self.0.compress(input, &mut chunk, FlushCompress::Sync);
            let (taken, given) = (self.0.total_in() - taken, self.0.total_out() - given);
            input = input.get(taken as usize..).unwrap_or_default();
            out.extend_from_slice(chunk.get(..given as usize).unwrap_or_default());
            // A chunk that is not full is the end of the flush.
            if status.is_err() || (input.is_empty() && (given as usize) < chunk.len()) {
                return out.freeze();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> Headers {
        pairs.iter().copied().collect()
    }

    #[test]
    fn blocks_share_one_zlib_stream() {
        let (mut compressor, mut decompressor) = (Compressor::default(), Decompressor::default());
        let stdin = headers(&[("streamtype", "stdin")]);
        let first = compressor.write(&stdin);
        let second = compressor.write(&stdin);
        assert_eq!(
            first[2..6],
            DICTIONARY_ID.to_be_bytes(),
            "the stream names its dictionary"
        );
        assert!(
            second.len() < first.len(),
            "the second block leans on the first"
        );
        for block in [first, second.clone()] {
            assert_eq!(decompressor.read(&block), Ok(Ok(stdin.clone())));
        }
        assert_eq!(
            Decompressor::default().read(&second),
            Err(DecompressError::Corrupt)
        );
    }

    #[test]
    fn names_go_out_in_lower_case_and_are_found_in_any() {
        let block =
            Compressor::default().write(&headers(&[("streamType", "error"), ("requestID", "7")]));
        let got = Decompressor::default().read(&block).unwrap().unwrap();
        assert_eq!(got, headers(&[("streamtype", "error"), ("requestid", "7")]));
        assert_eq!(
            (got.get("streamType"), got.get("port")),
            (Some("error"), None)
        );
    }

    #[test]
    fn the_first_of_several_values_counts() {
        assert_eq!(headers(&[("port", "80\u{0}81")]).get("port"), Some("80"));
    }

    #[test]
    fn a_small_block_cannot_blow_up() {
        let block = Compressor::default().write(&headers(&[("a", &"x".repeat(MAX_HEADER_BLOCK))]));
        assert!(block.len() < 1000);
        assert_eq!(
            Decompressor::default().read(&block),
            Err(DecompressError::TooLarge)
        );
    }

    #[test]
    fn another_dictionary_is_refused() {
        let mut compress = Compress::new(Compression::fast(), true);
        let other = compress.set_dictionary(b"other").unwrap();
        let mut out = Vec::with_capacity(100);
        compress
            .compress_vec(b"\0\0\0\0", &mut out, FlushCompress::Sync)
            .unwrap();
        assert_eq!(
            Decompressor::default().read(&out),
            Err(DecompressError::Dictionary(other))
        );
    }

    #[test]
    fn a_stream_that_ends_is_refused() {
        let mut compress = Compress::new(Compression::fast(), true);
        let mut out = Vec::with_capacity(100);
        compress
            .compress_vec(b"\0\0\0\0", &mut out, FlushCompress::Finish)
            .unwrap();
        assert_eq!(
            Decompressor::default().read(&out),
            Err(DecompressError::Corrupt)
        );
    }

    /// A block with these plain bytes.
    fn read_plain(plain: &[u8]) -> Result<Headers, MalformedHeaders> {
        let mut compress = Compress::new(Compression::fast(), true);
        let mut out = Vec::with_capacity(plain.len() + 100);
        compress
            .compress_vec(plain, &mut out, FlushCompress::Sync)
            .unwrap();
        Decompressor::default().read(&out).unwrap()
    }

    #[test]
    fn malformed_headers_lose_their_stream_only() {
        let case = |plain: &[u8]| read_plain(plain).unwrap_err();
        assert_eq!(case(b""), MalformedHeaders::Length);
        assert_eq!(case(b"\0\0\0\x01\0\0\0\x09a"), MalformedHeaders::Length);
        assert_eq!(
            case(b"\0\0\0\x01\xff\xff\xff\xffa"),
            MalformedHeaders::Length
        );
        assert_eq!(case(b"\0\0\0\0trailing"), MalformedHeaders::Length);
        assert_eq!(case(b"\x7f\0\0\0"), MalformedHeaders::TooMany(0x7f00_0000));
        assert_eq!(
            case(b"\0\0\0\x01\0\0\0\x01A\0\0\0\0"),
            MalformedHeaders::Name("A".into())
        );
        assert_eq!(
            case(b"\0\0\0\x01\0\0\0\0\0\0\0\0"),
            MalformedHeaders::Name(String::new())
        );
        assert_eq!(
            case(b"\0\0\0\x01\0\0\0\x01\xff\0\0\0\0"),
            MalformedHeaders::Encoding
        );
        let twice = b"\0\0\0\x02\0\0\0\x01a\0\0\0\0\0\0\0\x01a\0\0\0\0";
        assert_eq!(case(twice), MalformedHeaders::Duplicate("a".into()));
    }

    proptest! {
        #[test]
        fn headers_come_back_as_they_were(
            blocks in proptest::collection::vec(
                proptest::collection::btree_map("[a-z-]{1,20}", "[ -~]{0,2000}", 0..5), 1..6),
        ) {
            let (mut compressor, mut decompressor) = (Compressor::default(), Decompressor::default());
            for block in blocks {
                let headers: Headers = block.into_iter().collect();
                let wire = compressor.write(&headers);
                prop_assert_eq!(decompressor.read(&wire), Ok(Ok(headers)));
            }
        }

        #[test]
        fn any_bytes_give_headers_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Decompressor::default().read(&bytes);
        }

        #[test]
        fn any_bytes_behind_a_real_start_give_headers_or_an_error(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let mut block = Compressor::default().write(&headers(&[("streamtype", "stdin")])).to_vec();
            block.extend(bytes);
            let _ = Decompressor::default().read(&block);
        }
    }
}
