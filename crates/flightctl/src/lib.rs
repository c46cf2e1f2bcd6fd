//! crate
pub mod device;
pub mod facts;
pub mod image;
pub mod mapping;
pub mod marker;
mod quadlet;
pub mod types;
