//! What a backend does with every field of a pod, as data.
//!
//! A [`Declaration`] in the backend's [`crate::Capabilities`] says of each field
//! that it is *honoured* (and which test observes the effect), *refused*, or has
//! *no meaning* there. The framework holds each pod against it before the
//! backend's own `admit`: a refused field that says something fails the pod with
//! its path. What says nothing passes: a field that is left out, `""`, `[]`,
//! `{}`, and what the API server defaults where the declaration excepts it.
//! `docs/podspec.md` is written from the declarations.
//!
//! # What nobody can see
//! The fields are those of the Kubernetes version that `k8s-openapi` is built
//! for. A field that only a newer API server knows is dropped while the pod is
//! read, before anything here sees it: it is neither honoured nor refused. That
//! is why the list of fields is recorded (`fields.txt`) and compared with a real
//! API server by the tests on real parts, and why the version of Kubernetes that
//! is supported is stated. A field that `k8s-openapi` knows and the record does
//! not is refused.

mod check;
mod declaration;
mod evidence;
mod injected;
mod record;
mod refusal;
mod rule;
mod table;
#[cfg(test)]
mod tests;

pub use declaration::Declaration;
pub use evidence::missing_tests;
pub use injected::is_service_account_volume;
pub use record::{FIELDS, RESIZE};
pub use refusal::{Refusal, Refusals};
pub use rule::{
    Handling, Rule, Values, honoured, honoured_only, no_meaning, refused, refused_but,
    refused_unless,
};
pub use table::table;
