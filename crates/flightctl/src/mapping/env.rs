//! Environment and `$(VAR)`, by the kubelet's rules.
//! <https://kubernetes.io/docs/tasks/inject-data-application/define-interdependent-environment-variables/>

use std::collections::HashMap;

use k8s_openapi::api::core::v1::{Container, EnvVar};

use crate::quadlet::{LINE_LIMIT, TextError};
use vk_provider::podspec::Refusal;

/// Variables in order, each name once.
pub(super) struct Environment {
    order: Vec<String>,
    values: HashMap<String, String>,
}

impl Environment {
    /// The literal variables of a container. A value sees those before it; of
    /// two with one name the later counts.
    pub(super) fn of(container: &Container, path: &str) -> Result<Self, Refusal> {
        let mut all = Self {
            order: Vec::new(),
            values: HashMap::new(),
        };
        for (
            index,
            EnvVar {
                name,
                value,
                value_from: _,
            },
        ) in container.env.iter().flatten().enumerate()
        {
            let path = format!("{path}.env[{index}]");
            if let Err(why) = check_name(name) {
                return Err(Refusal::new(format!("{path}.name"), why));
            }
            let value = all
                .expand(value.as_deref().unwrap_or_default())
                .map_err(|why| Refusal::new(format!("{path}.value"), why))?;
            if value.contains("\r\n") {
                return Err(Refusal::new(
                    format!("{path}.value"),
                    "it holds a carriage return before a newline, which Podman drops; use newlines alone",
                ));
            }
            if all.values.insert(name.clone(), value).is_none() {
                all.order.push(name.clone());
            }
        }
        Ok(all)
    }

    /// Names and values.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.order
            .iter()
            .filter_map(|name| Some((name.as_str(), self.values.get(name)?.as_str())))
    }

    /// `$(NAME)` becomes the value, `$$(NAME)` becomes `$(NAME)`, an unknown
    /// name stays as it is.
    pub(super) fn expand(&self, text: &str) -> Result<String, TextError> {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            let (before, dollar) = rest.split_at(at);
            out.push_str(before);
            let after = dollar.get(1..).unwrap_or_default();
            if let Some(after) = after.strip_prefix('$') {
                out.push('$');
                rest = after;
            } else if let Some((name, tail)) =
                after.strip_prefix('(').and_then(|a| a.split_once(')'))
            {
                match self.values.get(name) {
                    Some(value) => out.push_str(value),
                    None => out.push_str(&format!("$({name})")),
                }
                rest = tail;
            } else {
                out.push('$');
                rest = after;
            }
            // A few variables that name each other could fill the memory.
            if out.len() > EXPANSION_LIMIT.max(text.len()) {
                return Err(TextError::TooLong(out.len()));
            }
        }
        out.push_str(rest);
        Ok(out)
    }
}

/// Longer results cannot be written in a line of a unit anyway.
const EXPANSION_LIMIT: usize = LINE_LIMIT;

/// Kubernetes takes every printable ASCII character but `=`; Podman trims blanks.
fn check_name(name: &str) -> Result<(), &'static str> {
    if name.is_empty() {
        return Err("it is empty");
    }
    if name.bytes().all(|b| b.is_ascii_graphic() && b != b'=') {
        Ok(())
    } else {
        Err("Podman takes printable ASCII characters other than blanks and = in a name")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn environment(pairs: &[(&str, &str)]) -> Environment {
        let container = Container {
            env: Some(
                pairs
                    .iter()
                    .map(|(name, value)| EnvVar {
                        name: (*name).to_owned(),
                        value: Some((*value).to_owned()),
                        value_from: None,
                    })
                    .collect(),
            ),
            ..Container::default()
        };
        Environment::of(&container, "c").unwrap_or_else(|r| panic!("{r:?}"))
    }

    #[test]
    fn expands_as_the_kubelet_does() {
        let env = environment(&[
            ("A", "1"),
            ("B", "$(A)2"),
            ("C", "$(D)"),
            ("D", "4"),
            ("a b".trim_end_matches(" b"), "x"),
        ]);
        // From the kubelet's own table (k8s.io/kubernetes/third_party/forked/golang/expansion).
        for (text, result) in [
            ("$(A)", "1"),
            ("___$(B)___", "___12___"),
            ("$(C)", "$(D)"),
            ("$$(A)", "$(A)"),
            ("$$$(A)", "$1"),
            ("$$$$(A)", "$$(A)"),
            ("$(A)$(B)", "112"),
            ("$(Z)", "$(Z)"),
            ("$A", "$A"),
            ("$", "$"),
            ("$(", "$("),
            ("$(A", "$(A"),
            ("$()", "$()"),
            ("$(A$(B)", "$(A$(B)"),
            ("foo$$var", "foo$var"),
            ("$é$(A)", "$é1"),
        ] {
            assert_eq!(env.expand(text).as_deref(), Ok(result), "{text}");
        }
    }

    #[test]
    fn the_later_of_two_with_one_name_counts() {
        let env = environment(&[("A", "1"), ("B", "x"), ("A", "$(A)2")]);
        assert_eq!(env.iter().collect::<Vec<_>>(), [("A", "12"), ("B", "x")]);
    }

    #[test]
    fn growth_without_end_is_refused() {
        let mut pairs = vec![("A".to_owned(), "x".repeat(1000))];
        for n in 0..64u8 {
            let last = pairs
                .last()
                .map(|(name, _)| name.clone())
                .unwrap_or_default();
            pairs.push((format!("A{n}"), format!("$({last})$({last})")));
        }
        let container = Container {
            env: Some(
                pairs
                    .into_iter()
                    .map(|(name, value)| EnvVar {
                        name,
                        value: Some(value),
                        value_from: None,
                    })
                    .collect(),
            ),
            ..Container::default()
        };
        assert!(Environment::of(&container, "c").is_err());
    }

    proptest! {
        #[test]
        fn text_without_variables_stays(text in "[^$]*") {
            prop_assert_eq!(environment(&[("A", "1")]).expand(&text), Ok(text));
        }

        #[test]
        fn any_text_expands_or_is_refused(text in r"(\$|\(|\)|A|é|x)*") {
            let _ = environment(&[("A", "1")]).expand(&text);
        }
    }
}
