//! Why a container cannot have its environment.

/// A kind of object that pods take values from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// `ConfigMap`
    ConfigMap,
    /// `Secret`
    Secret,
}

impl Kind {
    /// As the API server's "not found" spells it.
    fn resource(self) -> &'static str {
        match self {
            Self::ConfigMap => "configmap",
            Self::Secret => "secret",
        }
    }
}

/// Why a container cannot be started. Names things and never says what they
/// hold. Where the kubelet has words for it, these are the kubelet's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvironmentError {
    /// An object that must be there is not.
    #[error("{} {name:?} not found", kind.resource())]
    NotFound {
        /// What kind of object.
        kind: Kind,
        /// Its name.
        name: String,
    },
    /// The object is there, without the key.
    #[error("couldn't find key {key} in {kind:?} {namespace}/{name}")]
    KeyNotFound {
        /// What kind of object.
        kind: Kind,
        /// The pod's namespace.
        namespace: String,
        /// The object's name.
        name: String,
        /// The key.
        key: String,
    },
    /// `fieldRef` of another version than `v1`.
    #[error("unsupported pod version: {0}")]
    Version(String),
    /// A field that has no value for a container.
    #[error("unsupported fieldPath: {0}")]
    Field(String),
    /// A resource that has no value for a container.
    #[error("unsupported container resource : {0}")]
    Resource(String),
    /// `divisor` is no quantity.
    #[error("{0}")]
    Divisor(#[from] crate::quantity::QuantityError),
    /// `resourceFieldRef` names a container that the pod has not.
    #[error("container {0} not found")]
    Container(String),
    /// A field of the place, asked for before the place is known.
    #[error("{0} is not known yet")]
    NotKnownYet(&'static str),
    /// `fileKeyRef`, which reads what an init container left on a disk.
    #[error(
        "environment variable {0}: fileKeyRef is not supported, the file is out of reach; \
         use a configMapKeyRef or a secretKeyRef"
    )]
    FileKeyRef(String),
    /// Bytes that no environment can hold.
    #[error("{0} is not text: it has a NUL or is not UTF-8")]
    NotText(String),
    /// More than Linux takes for one string.
    #[error("{0} is longer than the {max} bytes that Linux hands to a process", max = super::variables::MAX_STRING)]
    TooLong(String),
    /// More than Linux takes together.
    #[error("{0} take more than the {max} bytes that Linux hands to a process", max = super::variables::MAX_TOTAL)]
    TooMuch(&'static str),
    /// `subPathExpr` with variables that are empty or unknown.
    #[error("missing value for {0}")]
    NoValue(String),
}

impl EnvironmentError {
    /// Reason of the waiting state that the message goes with.
    pub const REASON: &str = "CreateContainerConfigError";
}
