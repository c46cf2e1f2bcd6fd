//! The terminal of a process in a simulated container, as far as it has a size.

use std::future::ready;
use std::io;

use serde_json::{Deserializer, Value};
use tokio::io::{AsyncRead, AsyncReadExt};

/// Longest size that is read; a real one has about thirty bytes.
const LONGEST: usize = 1024;

pub(super) struct Terminal<'a, R> {
    /// Comes with each change, the first at the beginning.
    sizes: &'a mut R,
    /// Of one that has not come whole.
    came: Vec<u8>,
    size: Option<Value>,
}

impl<'a, R: AsyncRead + Unpin> Terminal<'a, R> {
    pub(super) fn new(sizes: &'a mut R) -> Self {
        Self {
            sizes,
            came: Vec::new(),
            size: None,
        }
    }

    /// The present size as `stty size` prints it; the first one is waited for.
    pub(super) async fn size(&mut self) -> io::Result<String> {
        let mut chunk = [0; 64];
        loop {
            let n = tokio::select! {
                biased;
                n = self.sizes.read(&mut chunk) => n?,
                () = ready(()), if self.size.is_some() => 0,
            };
            self.came.extend_from_slice(&chunk[..n]);
            if n == 0 || self.came.len() > LONGEST {
                break;
            }
            let mut sizes = Deserializer::from_slice(&self.came).into_iter::<Value>();
            while let Some(Ok(size)) = sizes.next() {
                self.size = Some(size);
            }
            let read = sizes.byte_offset();
            self.came.drain(..read);
        }
        let size = self.size.clone().unwrap_or_default();
        Ok(format!("{} {}\n", size["Height"], size["Width"]))
    }
}
