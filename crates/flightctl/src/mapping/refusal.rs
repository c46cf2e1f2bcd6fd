//! Fields that cannot be honoured, by path.

use std::fmt::Display;

use vk_provider::BackendError;

/// One field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// `spec.containers[0].tty`.
    pub(crate) path: String,
    /// Why, and what to use instead.
    pub(crate) message: String,
}

impl Refusal {
    pub(crate) fn new(path: impl Into<String>, message: impl Display) -> Self {
        Self {
            path: path.into(),
            message: message.to_string(),
        }
    }
}

impl From<Refusal> for BackendError {
    fn from(refusal: Refusal) -> Self {
        Self::Unsupported {
            field: refusal.path,
            message: refusal.message,
        }
    }
}

/// All fields of a pod that cannot be honoured.
#[derive(Debug, Default)]
pub(crate) struct Refusals(pub(crate) Vec<Refusal>);

/// Further fields named in one message: enough to fix a manifest, short enough
/// for a status.
const NAMED: usize = 12;

impl Refusals {
    pub(crate) fn add(&mut self, path: impl Into<String>, message: impl Display) {
        self.0.push(Refusal::new(path, message));
    }

    /// Refuses a field that is set to anything but nothing.
    pub(crate) fn unless(&mut self, fine: bool, path: impl Into<String>, message: impl Display) {
        if !fine {
            self.add(path, message);
        }
    }

    /// The first as an error, the others named in it.
    pub(crate) fn into_result(self) -> Result<(), Refusal> {
        let mut all = self.0.into_iter();
        let Some(mut first) = all.next() else {
            return Ok(());
        };
        let others: Vec<String> = all.map(|r| r.path).collect();
        if !others.is_empty() {
            let more = if others.len() > NAMED { ", …" } else { "" };
            let named = others.get(..NAMED).unwrap_or(&others).join(", ");
            first
                .message
                .push_str(&format!("; also not supported: {named}{more}"));
        }
        Err(first)
    }
}
