//! Where pods were that are not looked after any more: their logs may still be
//! asked for. Only this process knows it.

use std::collections::{HashMap, VecDeque};

use vk_provider::Uid;

/// Pods remembered, the newest: some hundred bytes each, and as many as Kubernetes
/// keeps of ended pods on some dozen nodes.
const REMEMBERED: usize = 4096;

/// Device and application of each.
#[derive(Debug, Default)]
pub(super) struct Left {
    places: HashMap<Uid, (String, String)>,
    order: VecDeque<Uid>,
}

impl Left {
    pub(super) fn add(&mut self, uid: &Uid, device: &str, app: &str) {
        let place = (device.to_owned(), app.to_owned());
        if self.places.insert(uid.clone(), place).is_none() {
            self.order.push_back(uid.clone());
        }
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.places.remove(&oldest);
        }
    }

    pub(super) fn place(&self, uid: &Uid) -> Option<(&str, &str)> {
        let (device, app) = self.places.get(uid)?;
        Some((device, app))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_remembered() {
        let mut left = Left::default();
        let uid = |n: usize| Uid::new(&n.to_string());
        for n in 0..=REMEMBERED {
            left.add(&uid(n), "a", "vk");
            left.add(&uid(n), "b", "vk");
        }
        assert_eq!(left.place(&uid(0)), None);
        assert_eq!(left.place(&uid(REMEMBERED)), Some(("b", "vk")));
        assert_eq!(
            (left.places.len(), left.order.len()),
            (REMEMBERED, REMEMBERED)
        );
    }
}
