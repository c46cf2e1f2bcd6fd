//! The user's scenarios, a module each: what is typed, and what has to come of
//! it. `README.md` beside this says what was asked for and what was decided.

mod s1_deploy;
mod s2_fleet;
mod s3_too_big;
mod s4_update;
mod s6_delete;

use std::time::Duration;

/// What a busy machine of two cores adds to the times that the user named.
const BUSY: Duration = Duration::from_secs(5);

/// The nodes that the user names.
pub const NODE: &str = "vk-flightctl-node";
pub const FLEET: &str = "vk-flightctl-edge-fleet-1";
