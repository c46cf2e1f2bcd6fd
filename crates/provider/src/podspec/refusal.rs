//! Fields that cannot be honoured, by path.

use std::fmt::Display;

use crate::error::BackendError;

/// One field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// `spec.containers[0].tty`.
    pub path: String,
    /// Why, and what to use instead.
    pub message: String,
}

impl Refusal {
    /// Of a field.
    pub fn new(path: impl Into<String>, message: impl Display) -> Self {
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
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refusals(pub Vec<Refusal>);

/// Further fields named in one message: enough to fix a manifest, short enough
/// for a status.
const NAMED: usize = 12;

impl Refusals {
    /// One more field.
    pub fn add(&mut self, path: impl Into<String>, message: impl Display) {
        self.0.push(Refusal::new(path, message));
    }

    /// One more field, unless all is well with it.
    pub fn unless(&mut self, fine: bool, path: impl Into<String>, message: impl Display) {
        if !fine {
            self.add(path, message);
        }
    }

    /// The pod's own fields before those of its containers, each as they came.
    pub(super) fn sort(&mut self) {
        self.0.sort_by_key(|refusal| {
            let begins = |prefix| refusal.path.starts_with(prefix);
            (begins("spec.containers["), begins("spec.initContainers["))
        });
    }

    /// The first as an error, the others named in it.
    ///
    /// # Errors
    /// There is one.
    pub fn into_result(self) -> Result<(), Refusal> {
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
