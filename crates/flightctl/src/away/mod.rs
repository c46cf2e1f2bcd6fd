//! Devices that go away: who is gone ([`silence`]), what becomes of its pods
//! ([`outcome`]), when that has to wait because it is the site's uplink that is gone
//! ([`storm`]), and what a device is remembered by that may still run something
//! ([`tomb`]). Pure.

pub mod outcome;
pub mod silence;
pub mod storm;
pub mod tomb;
