//! How the devices of a fleet are used: the same keys for all fleets and for one.

use super::file::{At, File, Fleet, Unplaceable, nearest};
use super::{ConfigError, duration, value};
use crate::fleet::{Eviction, Nodes, OnLeave, Policy};
use crate::place::Strategy;

/// The keys, as far as they are written.
pub(super) struct Keys<'a> {
    nodes: Option<&'a At<String>>,
    placement: Option<&'a At<String>>,
    on_leave: Option<&'a At<String>>,
    eviction: Option<&'a At<String>>,
    unplaceable: &'a Unplaceable,
}

impl<'a> Keys<'a> {
    pub(super) fn of_file(file: &'a File) -> Self {
        Self {
            nodes: file.nodes.as_ref(),
            placement: file.placement.as_ref(),
            on_leave: file.on_leave.as_ref(),
            eviction: file.eviction.as_ref(),
            unplaceable: &file.unplaceable,
        }
    }

    pub(super) fn of_fleet(fleet: &'a Fleet) -> Self {
        Self {
            nodes: fleet.nodes.as_ref(),
            placement: fleet.placement.as_ref(),
            on_leave: fleet.on_leave.as_ref(),
            eviction: fleet.eviction.as_ref(),
            unplaceable: &fleet.unplaceable,
        }
    }

    /// The policy; what is not written is as in `base`.
    pub(super) fn policy(
        &self,
        path: &str,
        prefix: &str,
        base: Policy,
    ) -> Result<Policy, ConfigError> {
        let key = |name: &str| format!("{prefix}{name}");
        let reject_after = match &self.unplaceable.reject_after {
            None => base.reject_after,
            Some(text) => match duration::parse(&text.value).filter(|d| !d.is_zero()) {
                Some(after) => Some(after),
                None => {
                    let why = format!("{:?} is no time above 0; write for example 10m", text.value);
                    return Err(value(key("unplaceable.rejectAfter"), why).at(path, text));
                }
            },
        };
        let nodes = [
            ("perFleet", Nodes::PerFleet),
            ("perDevice", Nodes::PerDevice),
        ];
        let nodes = word(path, &key("nodes"), self.nodes, base.nodes, &nodes)?;
        let evictions = [
            ("provider", Eviction::Provider),
            ("kubernetes", Eviction::Kubernetes),
        ];
        let eviction = word(
            path,
            &key("eviction"),
            self.eviction,
            base.eviction,
            &evictions,
        )?;
        if let Some(text) = self.eviction
            && eviction == Eviction::Kubernetes
            && nodes == Nodes::PerFleet
        {
            let why = "\"kubernetes\" evicts all pods of a node, and a node of a fleet is more than the device that is away; write nodes: perDevice, or leave it out";
            return Err(value(key("eviction"), why.to_owned()).at(path, text));
        }
        Ok(Policy {
            nodes,
            eviction,
            placement: word(
                path,
                &key("placement"),
                self.placement,
                base.placement,
                &[("spread", Strategy::Spread), ("pack", Strategy::Pack)],
            )?,
            on_leave: word(
                path,
                &key("onLeave"),
                self.on_leave,
                base.on_leave,
                &[("keep", OnLeave::Keep), ("drain", OnLeave::Drain)],
            )?,
            reject_after,
        })
    }
}

fn word<T: Copy>(
    path: &str,
    key: &str,
    text: Option<&At<String>>,
    base: T,
    words: &[(&str, T)],
) -> Result<T, ConfigError> {
    let Some(text) = text else {
        return Ok(base);
    };
    if let Some((_, meant)) = words.iter().find(|(word, _)| *word == text.value) {
        return Ok(*meant);
    }
    let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
    let why = match nearest(&text.value, &known) {
        Some(like) => format!("{:?} is unknown; did you mean {like}?", text.value),
        None => format!("{:?} is unknown; write {}", text.value, known.join(" or ")),
    };
    Err(value(key, why).at(path, text))
}
