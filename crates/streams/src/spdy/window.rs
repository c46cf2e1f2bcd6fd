//! Flow control (SPDY draft 3.1, section 2.6.8): credit in bytes, one count for each
//! direction of each stream and one for each direction of the connection.

use crate::limits::INITIAL_WINDOW;

/// The highest credit there is.
const MAX: i64 = 0x7fff_ffff;

/// The peer gave or took more credit than there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Overrun;

/// Credit to send.
#[derive(Debug)]
pub(super) struct SendWindow(i64);

impl SendWindow {
    pub(super) fn new(initial: u32) -> Self {
        Self(i64::from(initial))
    }

    /// How many bytes may be sent: none while a smaller setting has put it below zero.
    pub(super) fn available(&self) -> usize {
        usize::try_from(self.0).unwrap_or(0)
    }

    pub(super) fn sent(&mut self, bytes: usize) {
        self.0 -= bytes as i64;
    }

    pub(super) fn add(&mut self, delta: i64) -> Result<(), Overrun> {
        self.0 += delta;
        if self.0 > MAX { Err(Overrun) } else { Ok(()) }
    }
}

/// Credit given to the peer.
#[derive(Debug)]
pub(super) struct ReceiveWindow {
    left: i64,
    used: u32,
}

impl Default for ReceiveWindow {
    fn default() -> Self {
        Self {
            left: i64::from(INITIAL_WINDOW),
            used: 0,
        }
    }
}

impl ReceiveWindow {
    pub(super) fn received(&mut self, bytes: usize) -> Result<(), Overrun> {
        self.left -= bytes as i64;
        if self.left < 0 { Err(Overrun) } else { Ok(()) }
    }

    /// Counts bytes that were used up; returns what to give back, once it is worth a
    /// frame: half of the window.
    pub(super) fn consumed(&mut self, bytes: usize) -> Option<u32> {
        self.used = self
            .used
            .saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
        if self.used < INITIAL_WINDOW / 2 {
            return None;
        }
        let delta = std::mem::take(&mut self.used);
        self.left += i64::from(delta);
        Some(delta)
    }
}
