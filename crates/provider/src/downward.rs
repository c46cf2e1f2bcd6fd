//! What `fieldRef` and `resourceFieldRef` mean, in variables and in files alike.

use k8s_openapi::api::core::v1::{ResourceFieldSelector, ResourceRequirements};

use crate::quantity::{Amount, QuantityError, Resources};

/// `metadata.labels['a']` is `metadata.labels` and `a`.
pub(crate) fn subscript(path: &str) -> Option<(&str, &str)> {
    path.strip_suffix("']")?
        .split_once("['")
        .filter(|(map, _)| !map.is_empty())
}

/// The list that a selector names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum List {
    Limits,
    Requests,
}

/// What a selector names: a list, and a resource that both lists may have.
pub(crate) struct Wanted<'a> {
    pub(crate) list: List,
    pub(crate) resource: &'a str,
}

impl<'a> Wanted<'a> {
    /// `None` for what no container has a value of.
    pub(crate) fn of(selector: &'a ResourceFieldSelector) -> Option<Self> {
        let (list, resource) = selector.resource.split_once('.')?;
        let list = match list {
            "limits" => List::Limits,
            "requests" => List::Requests,
            _ => return None,
        };
        let wanted = Self { list, resource };
        let known = wanted.may_lack_limit() || resource.starts_with("hugepages-");
        known.then_some(wanted)
    }

    /// Whether a container without a limit has what the node has. Huge pages are
    /// never overcommitted: a limit is always there.
    pub(crate) fn may_lack_limit(&self) -> bool {
        matches!(self.resource, "cpu" | "memory" | "ephemeral-storage")
    }

    /// What a container says, zero where it says nothing.
    pub(crate) fn declared(&self, resources: Option<&ResourceRequirements>) -> Amount {
        let list = resources.and_then(|r| match self.list {
            List::Limits => r.limits.as_ref(),
            List::Requests => r.requests.as_ref(),
        });
        Resources::from_quantities(list).get(self.resource)
    }

    /// An amount and the selector's divisor as whole numbers of one unit: CPUs in
    /// thousandths, everything else in ones.
    pub(crate) fn numbers(
        &self,
        amount: Amount,
        selector: &ResourceFieldSelector,
    ) -> Result<(i128, i128), QuantityError> {
        let divisor = match &selector.divisor {
            Some(text) => Amount::parse(&text.0)?,
            None => Amount::ZERO,
        };
        let divisor = if divisor == Amount::ZERO {
            Amount::units(1)
        } else {
            divisor
        };
        let number = |amount: Amount| match self.resource {
            "cpu" => amount.ceil_milli(),
            _ => amount.ceil_units(),
        };
        Ok((number(amount), number(divisor)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subscript_is_what_stands_between_the_outermost_brackets() {
        for (path, found) in [
            ("metadata.labels['key']", Some(("metadata.labels", "key"))),
            (
                "metadata.labels['a[b]c']",
                Some(("metadata.labels", "a[b]c")),
            ),
            ("metadata.labels['']", Some(("metadata.labels", ""))),
            ("metadata.labels", None),
            ("metadata.labels['key", None),
            ("['key']", None),
        ] {
            assert_eq!(subscript(path), found, "{path}");
        }
    }
}
