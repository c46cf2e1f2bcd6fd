//! When many devices of a fleet vanish together it is their site's uplink that is
//! gone, not they: what they run goes on, and must not be started again elsewhere.
//!
//! A function of when each was last seen, which Flight Control keeps: a restart of
//! the provider changes nothing of it.

use std::time::Duration;

use jiff::Timestamp;

/// Those that were last seen within this of each other vanished together. Heartbeats
/// are up to 2 min 15 s apart, so one cut shows over as long.
const TOGETHER: Duration = Duration::from_secs(300);
/// This share of a fleet, in percent …
const SHARE: usize = 30;
/// … and at least so many devices.
pub(crate) const LEAST: usize = 3;

/// On a node, by a human: devices that were last seen up to this time are lost.
pub const RESUME_ANNOTATION: &str = "flightctl.io/resume-rescheduling";

/// Why nothing of a fleet is rescheduled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Storm {
    /// Devices that vanished together.
    pub vanished: usize,
    /// Of so many.
    pub devices: usize,
    /// When the last of them was last seen.
    pub until: Timestamp,
}

/// Whether devices of a fleet of `devices` vanished together: those that are away now
/// were last seen at `vanished`. What vanished up to `resumed` a human has looked
/// into.
pub fn storm(
    devices: usize,
    mut vanished: Vec<Timestamp>,
    resumed: Option<Timestamp>,
) -> Option<Storm> {
    let whole = !vanished.is_empty() && vanished.len() >= devices;
    vanished.retain(|at| resumed.is_none_or(|resumed| *at > resumed));
    vanished.sort();
    let together = |first: usize| {
        let from = vanished.get(first).copied().unwrap_or_default();
        vanished.iter().skip(first).take_while(move |at| {
            Duration::try_from(at.duration_since(from)).is_ok_and(|span| span <= TOGETHER)
        })
    };
    let (count, until) = (0..vanished.len())
        .filter_map(|first| Some((together(first).count(), *together(first).last()?)))
        .max()?;
    let share = (devices * SHARE).div_ceil(100);
    (whole || (count >= LEAST && count >= share)).then_some(Storm {
        vanished: if whole { vanished.len() } else { count },
        devices,
        until: if whole {
            vanished.last().copied().unwrap_or(until)
        } else {
            until
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn of(devices: usize, seconds: &[i64], resumed: Option<i64>) -> Option<usize> {
        let vanished = seconds.iter().map(|s| at(*s)).collect();
        storm(devices, vanished, resumed.map(at)).map(|s| s.vanished)
    }

    #[test]
    fn a_share_of_the_fleet_that_vanishes_together_is_a_storm() {
        assert_eq!(of(10, &[0, 60], None), None, "two are two");
        assert_eq!(of(10, &[0, 60, 120], None), Some(3));
        assert_eq!(of(20, &[0, 60, 120], None), None, "15 % of the fleet");
        assert_eq!(of(20, &[0, 1, 2, 3, 4, 5], None), Some(6));
        assert_eq!(of(10, &[0, 1000, 2000], None), None, "one after the other");
        assert_eq!(
            of(10, &[-90_000, 0, 60, 120], None),
            Some(3),
            "one is long gone"
        );
    }

    #[test]
    fn a_whole_fleet_that_is_gone_moves_nothing() {
        assert_eq!(of(1, &[0], None), Some(1));
        assert_eq!(of(2, &[0, 9000], None), Some(2));
        assert_eq!(of(0, &[], None), None);
    }

    #[test]
    fn a_humans_word_holds_for_what_vanished_before_it() {
        assert_eq!(of(10, &[0, 60, 120], Some(121)), None);
        assert_eq!(of(10, &[0, 60, 120], Some(60)), None, "one is left");
        assert_eq!(of(10, &[0, 60, 120, 400, 401, 402], Some(121)), Some(3));
        assert_eq!(of(2, &[0, 60], Some(61)), None, "even for all of it");
    }

    proptest! {
        #[test]
        fn more_that_vanish_never_end_a_storm(
            devices in 1_usize..40,
            mut seconds in proptest::collection::vec(0_i64..2000, 0..20),
            another in 0_i64..2000,
        ) {
            let before = of(devices, &seconds, None).is_some();
            seconds.push(another);
            prop_assert!(!before || of(devices, &seconds, None).is_some());
        }
    }
}
