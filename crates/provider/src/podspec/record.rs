//! Every field of a pod's spec, as the API server's OpenAPI document lists them.
//!
//! `fields.txt` has one line per field, sorted: its path (`[]` behind a list,
//! `{}` behind a map) and its type. The tests on real parts compare it with a
//! running API server and, asked to, write it anew.

use std::collections::BTreeMap;
use std::sync::LazyLock;

/// The recorded list, as text.
pub const FIELDS: &str = include_str!("fields.txt");

/// Stands for the subresource that changes resources of a running pod: what a
/// backend does with it is declared like a field.
pub const RESIZE: &str = "pods/resize";

/// One field and those below it.
#[derive(Clone, Debug, Default)]
pub(super) struct Field {
    /// Path as in the record.
    pub(super) path: &'static str,
    pub(super) below: BTreeMap<&'static str, Field>,
}

impl Field {
    /// How many fields there are below.
    pub(super) fn count(&self) -> usize {
        self.below.values().map(|field| 1 + field.count()).sum()
    }
}

/// All fields, from a root without a name.
pub(super) static ROOT: LazyLock<Field> = LazyLock::new(|| {
    let mut root = Field::default();
    let paths = FIELDS.lines().filter_map(|line| line.split(' ').next());
    for path in paths.chain([RESIZE]) {
        let mut at = &mut root;
        for name in path.split('.').map(bare) {
            at = at.below.entry(name).or_default();
        }
        at.path = path;
    }
    root
});

/// The name of a field without what says that it is a list or a map.
pub(super) fn bare(segment: &str) -> &str {
    segment
        .strip_suffix("[]")
        .or_else(|| segment.strip_suffix("{}"))
        .unwrap_or(segment)
}
