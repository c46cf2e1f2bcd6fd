//! Bytes that may be secret.

use std::fmt;
use std::sync::Arc;

use zeroize::{ZeroizeOnDrop, Zeroizing};

/// The bytes of one file.
///
/// A clone is the same bytes; the last one wipes them. `Debug` shows how many
/// there are: whether they are secret is not known here, so none are shown.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Content(Arc<Zeroizing<Vec<u8>>>);

impl Content {
    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl From<Vec<u8>> for Content {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Arc::new(Zeroizing::new(bytes)))
    }
}

impl From<&[u8]> for Content {
    fn from(bytes: &[u8]) -> Self {
        bytes.to_vec().into()
    }
}

impl From<&str> for Content {
    fn from(text: &str) -> Self {
        text.as_bytes().into()
    }
}

impl From<String> for Content {
    fn from(text: String) -> Self {
        text.into_bytes().into()
    }
}

impl From<Zeroizing<String>> for Content {
    fn from(mut text: Zeroizing<String>) -> Self {
        std::mem::take(&mut *text).into()
    }
}

impl ZeroizeOnDrop for Content {}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{} bytes]", self.0.len())
    }
}
