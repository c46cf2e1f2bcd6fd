//! How devices are grouped, as the file says it.

use k8s_openapi::api::core::v1::Taint;
use vk_provider::quantity::{Amount, Resources};

use super::absence;
use super::file::{Amounts, At, File, Fleet, nearest};
use super::policy::Keys;
use super::{ConfigError, value};
use crate::fleet::{self, AbsenceRule, FleetRule, Policy, Rules, Sizes};
use crate::select;

/// The node of devices that belong to no fleet.
const NODE_NAME: &str = "vk-flightctl-node";
/// The label whose values are fleets.
const FLEET_LABEL: &str = "fleet";
/// Keeps ordinary pods off edge devices.
const TAINT: (&str, &str) = ("virtual-kubelet.io/provider", "flightctl");
/// A node's name is also the value of its label `kubernetes.io/hostname`.
const NODE_NAME_MAX: usize = 63;
/// Resources of devices by their plain names; others have a domain.
const RESOURCES: [&str; 4] = ["cpu", "memory", "pods", "ephemeral-storage"];

/// Grouping without any configuration.
pub fn default_rules() -> Rules {
    Rules {
        node_name: NODE_NAME.into(),
        fleet_label: FLEET_LABEL.into(),
        fleets: Vec::new(),
        defaults: Sizes {
            // What the user's README promises of a device that does not report its size.
            assumed: Resources::new()
                .with("cpu", Amount::units(4))
                .with("memory", Amount::units(8 << 30))
                .with("pods", Amount::units(110)),
            // What its own system keeps.
            reserve: Resources::new()
                .with("cpu", Amount::milli(250))
                .with("memory", Amount::units(512 << 20)),
        },
        absence: AbsenceRule::default(),
        taints: vec![Taint {
            key: TAINT.0.into(),
            value: Some(TAINT.1.into()),
            effect: "NoSchedule".into(),
            time_added: None,
        }],
        policy: Policy::default(),
    }
}

/// Grouping by the file; `node_name` is one that beats the file's, with the
/// flag or variable it stands in.
pub(super) fn rules(file: &File, node_name: Option<(&str, &str)>) -> Result<Rules, ConfigError> {
    let mut rules = default_rules();
    rules.defaults = sizes(
        &file.path,
        "",
        &file.capacity,
        &file.reserve,
        &rules.defaults,
    )?;
    rules.absence = absence::rule(
        &file.path,
        "",
        (&file.disconnect_after, &file.reconnect_timeout),
        rules.absence,
    )?;
    if let Some(list) = &file.taints {
        rules.taints = taints(&file.path, "taints", list)?;
    }
    match (node_name, &file.node_name) {
        (Some((key, text)), _) => rules.node_name = checked_node_name(key, text)?,
        (None, Some(text)) => {
            rules.node_name =
                checked_node_name("nodeName", &text.value).map_err(|e| e.at(&file.path, text))?;
        }
        (None, None) => {}
    }
    if let Some(label) = &file.fleet_label {
        if !select::is_label_key(&label.value) {
            let why = format!(
                "{:?} is no label key; write for example fleet or example.com/site",
                label.value
            );
            return Err(value("fleetLabel", why).at(&file.path, label));
        }
        rules.fleet_label = label.value.clone();
    }
    rules.policy = Keys::of_file(file).policy(&file.path, "", Policy::default())?;
    for (index, one) in file.fleets.iter().enumerate() {
        let rule = fleet_rule(file, index, one, &rules)?;
        rules.fleets.push(rule);
    }
    Ok(rules)
}

fn fleet_rule(
    file: &File,
    index: usize,
    one: &Fleet,
    rules: &Rules,
) -> Result<FleetRule, ConfigError> {
    let key = |name: &str| format!("fleets[{index}].{name}");
    let wrong =
        |name: &str, at: &At<String>, why: String| Err(value(key(name), why).at(&file.path, at));
    let (name, text) = (one.name.value.as_str(), one.selector.value.trim());
    match fleet::node_name(name) {
        None => {
            let why = format!(
                "{name:?} makes no node name; use up to 49 lower-case letters, digits and '-'"
            );
            return wrong("name", &one.name, why);
        }
        Some(node) if node == rules.node_name => {
            let why = format!(
                "{name:?} makes the node {node}, which is nodeName's; give one of them another name"
            );
            return wrong("name", &one.name, why);
        }
        Some(_) => {}
    }
    if rules.fleets.iter().any(|f| f.name == name) {
        return wrong(
            "name",
            &one.name,
            format!("{name:?} is there twice; give each fleet its own name"),
        );
    }
    if text.is_empty() {
        return wrong(
            "selector",
            &one.selector,
            "selects every device; write for example site=paris".into(),
        );
    }
    let parsed = match select::parse(text) {
        Ok(parsed) => parsed,
        Err(error) => return wrong("selector", &one.selector, error.to_string()),
    };
    let plain = |text: &str| text.split_whitespace().collect::<String>();
    if let Some(twin) = file.fleets[..index]
        .iter()
        .find(|f| plain(&f.selector.value) == plain(text))
    {
        let why = format!(
            "is the same as that of the fleet {:?}, and a device belongs to one fleet; make them disjoint",
            twin.name.value
        );
        return wrong("selector", &one.selector, why);
    }
    Ok(FleetRule {
        name: name.into(),
        selector: parsed,
        sizes: sizes(
            &file.path,
            &format!("fleets[{index}]."),
            &one.capacity,
            &one.reserve,
            &rules.defaults,
        )?,
        absence: absence::rule(
            &file.path,
            &format!("fleets[{index}]."),
            (&one.disconnect_after, &one.reconnect_timeout),
            rules.absence,
        )?,
        taints: one
            .taints
            .as_ref()
            .map(|list| taints(&file.path, &key("taints"), list))
            .transpose()?,
        policy: Keys::of_fleet(one).policy(
            &file.path,
            &format!("fleets[{index}]."),
            rules.policy,
        )?,
    })
}

fn checked_node_name(key: &str, text: &str) -> Result<String, ConfigError> {
    let part = |part: &str| {
        !part.is_empty()
            && part
                .chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
            && !part.starts_with('-')
            && !part.ends_with('-')
    };
    if text.len() <= NODE_NAME_MAX && text.split('.').all(part) {
        return Ok(text.into());
    }
    Err(value(
        key,
        format!(
            "{text:?} is no node name; use up to {NODE_NAME_MAX} lower-case letters, digits, '-' and '.'"
        ),
    ))
}

fn sizes(
    path: &str,
    prefix: &str,
    capacity: &Amounts,
    reserve: &Amounts,
    base: &Sizes,
) -> Result<Sizes, ConfigError> {
    let merged = |base: &Resources, own: &Amounts, what: &str| {
        let mut result = base.clone();
        for (name, text) in own {
            let amount = amount(&format!("{prefix}{what}.{name}"), name, &text.value)
                .map_err(|e| e.at(path, text))?;
            result.set(name, amount);
        }
        Ok::<_, ConfigError>(result)
    };
    Ok(Sizes {
        assumed: merged(&base.assumed, capacity, "capacity")?,
        reserve: merged(&base.reserve, reserve, "reserve")?,
    })
}

fn amount(key: &str, resource: &str, text: &str) -> Result<Amount, ConfigError> {
    let extended = resource.contains('/') && select::is_label_key(resource);
    if !extended && !RESOURCES.contains(&resource) {
        let why = match nearest(resource, &RESOURCES) {
            Some(known) => format!("is no resource; did you mean `{known}`?"),
            None => format!(
                "is no resource; write {}, or one with a domain",
                RESOURCES.join(", ")
            ),
        };
        return Err(value(key, why));
    }
    let amount = Amount::parse(text).map_err(|e| value(key, e.to_string()))?;
    if amount < Amount::ZERO {
        return Err(value(
            key,
            format!("{text:?} is less than nothing; write 0 or more"),
        ));
    }
    if resource != "cpu" && amount.ceil_milli() != amount.ceil_units() * 1000 {
        return Err(value(
            key,
            format!("{text:?} is no whole number of {resource}"),
        ));
    }
    Ok(amount)
}

fn taints(path: &str, key: &str, list: &[At<String>]) -> Result<Vec<Taint>, ConfigError> {
    list.iter()
        .map(|text| taint(key, &text.value).map_err(|e| e.at(path, text)))
        .collect()
}

/// `key=value:Effect` or `key:Effect`, as kubectl spells taints.
fn taint(key: &str, text: &str) -> Result<Taint, ConfigError> {
    let wrong = || {
        value(
            key,
            format!("{text:?} is no taint; write key=value:NoSchedule"),
        )
    };
    let (left, effect) = text.rsplit_once(':').ok_or_else(wrong)?;
    let (name, label) = match left.split_once('=') {
        Some((name, label)) => (name, Some(label)),
        None => (left, None),
    };
    let known = ["NoSchedule", "PreferNoSchedule", "NoExecute"].contains(&effect);
    if !known || !select::is_label_key(name) || !label.is_none_or(select::is_label_value) {
        return Err(wrong());
    }
    Ok(Taint {
        key: name.into(),
        value: label.map(str::to_owned),
        effect: effect.into(),
        time_added: None,
    })
}
