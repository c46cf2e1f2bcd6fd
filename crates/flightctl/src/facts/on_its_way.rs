//! What a pod shows that its device has not taken yet, or does not take.

use super::{CREATING, Sight, Story, waiting};
use crate::blame::{self, Kind, names, names_image};
use crate::device::DeviceView;
use crate::hold::{
    CONFIG_ERROR, CREATE_ERROR, PULL_BACK_OFF, PULL_ERROR, Why, backing_off, error, turn,
};
use crate::mapping::Member;

impl Story<'_> {
    /// The device has not reached the version that holds the pod.
    pub(super) fn on_its_way(&mut self, sight: &Sight<'_>) {
        let device = sight.device;
        let update = &device.updating;
        if device.app_status.contains_key(sight.app) {
            // An older revision is there and runs on until the new one is taken.
            self.trouble = self.refused(sight);
            return;
        }
        if let Some((reason, message)) = sight.refused {
            self.all(&waiting(reason, message));
            return;
        }
        if let Some(why) = sight.held {
            self.kept_out(why, device);
            return;
        }
        // It may be about what others have there, or about one that gave way since.
        let about_it = |why: &&String| names(why, sight.app);
        if let Some(why) = device.spec_invalid.as_ref().filter(about_it) {
            self.all(&waiting(CONFIG_ERROR, why.as_str()));
            self.trouble = Some(("DeviceSpecInvalid", why.clone()));
            return;
        }
        self.trouble = self.refused(sight);
        let failed = update.failed();
        let retrying = update.message.contains("retrying");
        let said = blame::words(&update.message);
        let ours = names(said, sight.app);
        let members = &self.expected.members;
        let images = members.iter().any(|m| names_image(said, &m.image));
        self.not_started(sight.refusal.map_or("", |(_, sentence)| sentence));
        for (state, member) in self.states.iter_mut().zip(&self.expected.members) {
            let named = names_image(said, &member.image);
            *state = match () {
                () if failed && named => waiting(PULL_ERROR, said),
                () if failed && ours && !images => waiting(CREATE_ERROR, said),
                () if update.active && retrying && named => waiting(PULL_BACK_OFF, said),
                () if update.active && named => waiting(CREATING, said),
                () => continue,
            };
        }
    }

    /// The device does not take it, and it waits for another try.
    fn kept_out(&mut self, why: &Why, device: &DeviceView) {
        match why {
            Why::Refused {
                kind: Kind::Pull,
                words,
            } => {
                self.not_started("");
                let mut named = false;
                for (state, Member { image, .. }) in
                    self.states.iter_mut().zip(&self.expected.members)
                {
                    if names_image(words, image) {
                        let told = backing_off(words, std::slice::from_ref(image));
                        *state = waiting(PULL_BACK_OFF, told);
                        self.trouble = Some(("Failed", pull_failed(image, words)));
                        named = true;
                    }
                }
                if !named {
                    self.all(&waiting(PULL_BACK_OFF, words.as_str()));
                }
            }
            Why::Refused { kind, words } => self.all(&waiting(error(*kind), words.as_str())),
            Why::Turn { words } => self.not_started(&turn(&device.shown(), words)),
        }
    }

    /// What an update that does not get on says, if it is about this pod, or holds it up.
    fn refused(&self, sight: &Sight<'_>) -> Option<(&'static str, String)> {
        let update = &sight.device.updating;
        let failed = update.failed();
        let retrying = update.active && update.message.contains("retrying");
        let said = blame::words(&update.message);
        let mut members = self.expected.members.iter();
        let image = members.find(|m| names_image(said, &m.image));
        match image {
            Some(member) if failed || retrying => {
                Some(("Failed", pull_failed(&member.image, said)))
            }
            None if failed && names(said, sight.app) => {
                Some(("Failed", format!("Error: {CREATE_ERROR}: {said}")))
            }
            _ => {
                let (reason, sentence) = sight.refusal?;
                Some((reason, sentence.to_owned()))
            }
        }
    }
}

/// The kubelet's sentence for the event.
fn pull_failed(image: &str, words: &str) -> String {
    format!("Failed to pull image \"{image}\": {words}")
}
