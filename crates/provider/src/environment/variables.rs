//! Variables as they gather, within what a process can be given.

use std::collections::{BTreeMap, HashMap};

use zeroize::Zeroizing;

use super::expansion::expand;
use super::{EnvVar, EnvironmentError, Origin};

/// `MAX_ARG_STRLEN` of Linux: no `NAME=value` and no argument is longer, its
/// NUL included. <https://man7.org/linux/man-pages/man2/execve.2.html>
pub(super) const MAX_STRING: usize = 128 * 1024;
/// No process gets more of them together, whatever its stack may be (three
/// quarters of `_STK_LIM`). It also keeps values made of values from growing
/// until memory ends.
pub(super) const MAX_TOTAL: usize = 6 * 1024 * 1024;

/// What a container declares so far, over what services say.
pub(super) struct Variables {
    order: Vec<String>,
    values: HashMap<String, (Zeroizing<String>, Origin)>,
    services: BTreeMap<String, String>,
    bytes: usize,
}

impl Variables {
    pub(super) fn over(services: BTreeMap<String, String>) -> Self {
        Self {
            order: Vec::new(),
            values: HashMap::new(),
            services,
            bytes: 0,
        }
    }

    /// Sets a variable; the later of two with one name counts.
    pub(super) fn set(
        &mut self,
        name: &str,
        value: Zeroizing<String>,
        origin: Origin,
    ) -> Result<(), EnvironmentError> {
        if value.contains('\0') {
            return Err(EnvironmentError::NotText(variable(name)));
        }
        let size = size(name, &value);
        if size > MAX_STRING {
            return Err(EnvironmentError::TooLong(variable(name)));
        }
        self.bytes += size;
        match self.values.insert(name.into(), (value, origin)) {
            Some((old, _)) => self.bytes -= self::size(name, &old),
            None => self.order.push(name.into()),
        }
        if self.bytes > MAX_TOTAL {
            return Err(EnvironmentError::TooMuch("environment variables"));
        }
        Ok(())
    }

    /// A value with its references replaced by what is set so far.
    pub(super) fn expand(
        &self,
        name: &str,
        text: &str,
    ) -> Result<(Zeroizing<String>, Origin), EnvironmentError> {
        let mut origin = Origin::Pod;
        let expanded = expand(text, MAX_STRING, |reference| {
            let own = self.values.get(reference);
            let own = own.map(|(value, origin)| (value.as_str(), *origin));
            let of_services = || {
                let value = self.services.get(reference)?;
                Some((value.as_str(), Origin::Object))
            };
            let (value, of_value) = own.or_else(of_services)?;
            origin = origin.max(of_value);
            Some(value)
        });
        match expanded {
            Some(value) => Ok((value.into(), origin)),
            None => Err(EnvironmentError::TooLong(variable(name))),
        }
    }

    /// All of them: as declared, then the services' where the name is free.
    pub(super) fn finish(mut self) -> Result<Zeroizing<Vec<EnvVar>>, EnvironmentError> {
        let free = std::mem::take(&mut self.services);
        for (name, value) in free {
            if !self.values.contains_key(&name) {
                self.set(&name, value.into(), Origin::Object)?;
            }
        }
        let Self {
            order, mut values, ..
        } = self;
        let take = |name: String| {
            let (mut value, origin) = values.remove(&name)?;
            Some(EnvVar {
                name,
                value: std::mem::take(&mut *value),
                origin,
            })
        };
        Ok(order
            .into_iter()
            .filter_map(take)
            .collect::<Vec<_>>()
            .into())
    }
}

/// Bytes of `NAME=value` with its NUL.
fn size(name: &str, value: &str) -> usize {
    name.len() + value.len() + 2
}

pub(super) fn variable(name: &str) -> String {
    format!("environment variable {name}")
}

/// One word of a command line, counted into `total`.
pub(super) fn word(
    field: &'static str,
    text: &str,
    known: &HashMap<&str, &str>,
    total: &mut usize,
) -> Result<String, EnvironmentError> {
    let word = expand(text, MAX_STRING - 1, |name| known.get(name).copied())
        .ok_or_else(|| EnvironmentError::TooLong(field.into()))?;
    if word.contains('\0') {
        return Err(EnvironmentError::NotText(field.into()));
    }
    *total += word.len() + 1;
    if *total > MAX_TOTAL {
        return Err(EnvironmentError::TooMuch("command and args"));
    }
    Ok(word)
}
