//! Why a pod has no place, in words.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use vk_provider::PodRequest;
use vk_provider::quantity::{Amount, Resources, pod_requests};

use super::{Against, Candidate, NoPlace, Weighed};

/// How many devices a sentence names; it is read by people.
const NAMED: usize = 5;

/// What is short where `wanted` is to fit, if anything.
pub(super) fn short(wanted: &Resources, there: &Resources) -> Option<String> {
    let lacking: Vec<String> = wanted
        .iter()
        .filter(|(name, amount)| *amount > Amount::ZERO && *amount > there.get(name))
        .map(|(name, amount)| {
            format!(
                "{name} {} of {}",
                there.get(name).show(name),
                amount.show(name)
            )
        })
        .collect();
    (!lacking.is_empty()).then(|| lacking.join(", "))
}

/// Where nothing that was weighed may have the pod.
pub(super) fn no_place(pod: &PodRequest, weighed: &[Weighed<'_>]) -> NoPlace {
    let selected = |w: &&Weighed<'_>| {
        !w.against
            .iter()
            .any(|a| matches!(a, Against::NotSelected(_)))
    };
    let matching: Vec<&Weighed<'_>> = weighed.iter().filter(selected).collect();
    if matching.is_empty() {
        return NoPlace::NoMatch(no_match(weighed));
    }
    let wanted = pod_requests(pod.spec());
    too_big(&wanted, &matching, weighed)
        .unwrap_or_else(|| NoPlace::NotNow(not_now(&wanted, &matching)))
}

fn no_match(all: &[Weighed<'_>]) -> String {
    if all.is_empty() {
        return "The node has no devices".into();
    }
    let asked: BTreeSet<&str> = all
        .iter()
        .flat_map(|w| &w.against)
        .filter_map(|against| match against {
            Against::NotSelected(by) => Some(by.as_str()),
            _ => None,
        })
        .collect();
    let asked: Vec<&str> = asked.into_iter().collect();
    format!(
        "None of the {} devices of the node matches {}",
        all.len(),
        asked.join(" and ")
    )
}

/// Too big for every matching device, whatever runs on it.
fn too_big(wanted: &Resources, matching: &[&Weighed<'_>], all: &[Weighed<'_>]) -> Option<NoPlace> {
    let mut resource = None;
    for candidate in matching.iter().map(|w| w.candidate) {
        if candidate.unheard {
            return None;
        }
        match wanted.exceeds(&candidate.allocatable) {
            None => return None,
            Some(name) => resource = resource.or(Some(name)),
        }
    }
    let resource = resource?.to_owned();
    let largest = |name: &str| {
        let each = matching.iter().map(|w| w.candidate.allocatable.get(name));
        each.max().unwrap_or(Amount::ZERO)
    };
    let sum = |name: &str| {
        all.iter().fold(Amount::ZERO, |sum, w| {
            sum + w.candidate.allocatable.get(name)
        })
    };
    Some(NoPlace::TooBig {
        message: format!(
            "Insufficient resources: requested {}; available {} (largest device; all {} devices together: {})",
            list(wanted, &|n| wanted.get(n)),
            list(wanted, &largest),
            all.len(),
            list(wanted, &sum),
        ),
        resource,
    })
}

/// Amounts of what is wanted: cpu and memory always, others where asked for.
fn list(wanted: &Resources, amount: &dyn Fn(&str) -> Amount) -> String {
    let mut names = vec!["cpu", "memory"];
    let others = wanted.iter().map(|(name, _)| name);
    names.extend(others.filter(|name| !["cpu", "memory", "pods"].contains(name)));
    let parts: Vec<String> = names
        .iter()
        .map(|n| format!("{n}={}", amount(n).show(n)))
        .collect();
    parts.join(", ")
}

fn not_now(wanted: &Resources, matching: &[&Weighed<'_>]) -> String {
    let open: Vec<&&Weighed<'_>> = matching
        .iter()
        .filter(|w| w.candidate.closed.is_none())
        .collect();
    if open.is_empty() {
        let why: Vec<String> = matching
            .iter()
            .filter_map(|w| {
                let closed = w.candidate.closed.as_ref()?;
                Some(format!("{}: {closed}", w.candidate.called()))
            })
            .take(NAMED)
            .collect();
        return format!("No matching device takes pods now ({})", why.join("; "));
    }
    let room: Vec<&&&Weighed<'_>> = open
        .iter()
        .filter(|w| wanted.exceeds(&w.candidate.free).is_none())
        .collect();
    let clash = |w: &Weighed<'_>| {
        w.against.iter().find_map(|against| match against {
            Against::PortTaken(port) => Some(format!("{}: {port}", w.candidate.called())),
            _ => None,
        })
    };
    let clashes: Vec<String> = room.iter().filter_map(|w| clash(w)).take(NAMED).collect();
    if !clashes.is_empty() {
        return format!(
            "A host port of the pod is taken on every device with room ({})",
            clashes.join("; ")
        );
    }
    if !room.is_empty() {
        let apart: Vec<String> = room
            .iter()
            .flat_map(|w| {
                w.against
                    .iter()
                    .map(|a| format!("{}: {a}", w.candidate.called()))
            })
            .take(NAMED)
            .collect();
        return format!("No device with room may have it now ({})", apart.join("; "));
    }
    // Of those that lack least.
    let lacks = |c: &Candidate| {
        let short = wanted
            .iter()
            .filter(|(name, amount)| *amount > c.free.get(name));
        short.count()
    };
    let roomiest = open
        .iter()
        .map(|w| w.candidate)
        .max_by_key(|c| (Reverse(lacks(c)), c.free.get("cpu"), c.free.get("memory")));
    format!(
        "Insufficient resources now: requested {}; largest free slot {} on {}",
        list(wanted, &|n| wanted.get(n)),
        roomiest.map_or_else(String::new, |c| list(wanted, &|n| c.free.get(n))),
        roomiest.map_or("no device", Candidate::called),
    )
}
