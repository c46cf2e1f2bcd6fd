//! Applications as they stand in `Device.spec.applications`.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// One application. Fields we do not know are kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Application {
    /// Unique in its device.
    pub name: String,
    /// `quadlet` for ours.
    pub app_type: String,
    /// Its files.
    #[serde(default)]
    pub inline: Vec<InlineFile>,
    /// Everything else.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// One file of an application.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InlineFile {
    /// Relative to the application's folder.
    pub path: String,
    /// Text, or base64 where the encoding says so.
    #[serde(default)]
    pub content: String,
    /// `plain` or `base64`; absent is plain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_encoding: Option<String>,
}

impl InlineFile {
    /// A text file.
    pub(crate) fn new(path: impl Into<String>, content: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            content: content.into(),
            content_encoding: None,
        }
    }
}
