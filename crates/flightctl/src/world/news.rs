//! What happened to devices, for the events of their nodes.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::World;
use crate::away::storm::Storm;
use crate::device::{DeviceView, State};

/// News that nobody has taken yet; of more the oldest are dropped: conditions say
/// how things stand.
const KEPT: usize = 256;

/// One event of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct News {
    /// The node.
    pub(crate) node: Arc<str>,
    /// CamelCase.
    pub(crate) reason: &'static str,
    /// One sentence.
    pub(crate) message: String,
    /// `type: Warning`.
    pub(crate) warning: bool,
}

/// What was told of devices, and what is to be told.
#[derive(Debug, Default)]
pub(super) struct Story {
    known: BTreeMap<String, Known>,
    untold: VecDeque<News>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Known {
    node: Option<Arc<str>>,
    states: BTreeMap<State, String>,
}

impl Story {
    fn add(&mut self, node: &Arc<str>, reason: &'static str, message: String, warning: bool) {
        if self.untold.len() == KEPT {
            self.untold.pop_front();
        }
        self.untold.push_back(News {
            node: node.clone(),
            reason,
            message,
            warning,
        });
    }

    /// A device as it is now. `news` is whether a device that is not known is a new
    /// one: at the start none is.
    fn device(&mut self, view: &DeviceView, node: Option<&Arc<str>>, news: bool) {
        let now = Known {
            node: node.cloned(),
            states: view.states(),
        };
        let before = self.known.insert(view.name.clone(), now.clone());
        let known = before.is_some();
        if !known && !news {
            return;
        }
        let before = before.unwrap_or(Known {
            node: None,
            states: BTreeMap::new(),
        });
        let who = view.shown();
        if before.node != now.node {
            if let Some(node) = &before.node {
                let to = match &now.node {
                    Some(now) => format!("is one of node {now} now"),
                    None => "is of no node now".into(),
                };
                self.add(node, "DeviceLeft", format!("Device {who} {to}"), false);
            }
            if let Some(node) = &now.node {
                self.add(node, "DeviceJoined", format!("Device {who} joined"), false);
            }
        }
        let Some(node) = &now.node else { return };
        for state in State::ALL {
            let (names, trouble) = (state.names(), state.is_trouble());
            match (before.states.get(&state), now.states.get(&state)) {
                (None, Some(why)) => {
                    self.add(node, names.begins, format!("Device {who}: {why}"), trouble);
                }
                (Some(why), None) => {
                    let message = format!("Device {who} is no longer: {why}");
                    self.add(node, names.ends, message, false);
                }
                _ => {}
            }
        }
    }
}

impl World {
    /// Notes what these devices are now; `news` is whether unknown ones are new.
    pub(super) fn note_news(&mut self, names: &[String], news: bool) {
        for name in names {
            if let Some(view) = self.devices.get(name) {
                self.story
                    .device(view, self.grouping.node_of.get(name), news);
            }
        }
    }

    /// A device does not exist any more.
    pub(super) fn note_deleted(&mut self, view: &DeviceView) {
        let known = self.story.known.remove(&view.name);
        if let Some(node) = known.and_then(|known| known.node) {
            let message = format!("Device {} was deleted from Flight Control", view.shown());
            self.story.add(&node, "DeviceDeleted", message, true);
        }
    }

    /// What became of storms.
    pub(super) fn note_storms(&mut self, before: &BTreeMap<String, Storm>) {
        let nodes: Vec<Arc<str>> = self
            .grouping
            .nodes
            .keys()
            .map(|n| n.as_str().into())
            .collect();
        for node in nodes {
            let fleet = self.fleet_of_node(&node);
            match (before.get(fleet), self.storms.get(fleet)) {
                (None, Some(storm)) => {
                    let message = format!(
                        "{} of {} devices vanished together: their pods stay where they are",
                        storm.vanished, storm.devices
                    );
                    self.story.add(&node, "ReschedulingPaused", message, true);
                }
                (Some(_), None) => {
                    let message =
                        "Pods of devices that do not come back in time go elsewhere again";
                    self.story
                        .add(&node, "ReschedulingResumed", message.into(), false);
                }
                _ => {}
            }
        }
    }

    /// What is to be told.
    pub(crate) fn take_news(&mut self) -> Vec<News> {
        self.story.untold.drain(..).collect()
    }
}
