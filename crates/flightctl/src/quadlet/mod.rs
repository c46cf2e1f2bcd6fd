//! Text of Podman quadlet units, from a closed list of keys and from values
//! that cannot leave their field.
//!
//! A `Value` is made by a constructor that knows how its field is read:
//! nothing else becomes part of a unit. An unknown key or a broken line makes
//! the device roll back *every* pod's update with an anonymous error, so what
//! cannot be written exactly is refused here.

mod quote;
mod unit;

pub(crate) use quote::{TextError, Value, is_name};
pub(crate) use unit::{Key, Unit};

/// A physical line must be shorter than this in bytes; Flight Control answers
/// 400 `line too long (max 2048 bytes)` otherwise.
pub(crate) const LINE_LIMIT: usize = 2048;
