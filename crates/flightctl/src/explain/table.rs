//! How an explanation reads.

use vk_provider::PodRequest;
use vk_provider::quantity::{Resources, pod_requests};

use crate::place::{Candidate, NoPlace, Weighed};

/// The first lines: the pod and what it asks for.
pub(super) fn head(pod: &PodRequest, node: Option<&str>) -> String {
    let wanted = pod_requests(pod.spec());
    let bound = match node {
        Some(node) => format!("is bound to node {node}"),
        None => "is bound to no node yet; this is what each node's devices have for it".into(),
    };
    format!(
        "Pod {}/{} {bound}\nIt asks for {}\n",
        pod.key.namespace,
        pod.key.name,
        amounts(&wanted, &wanted)
    )
}

/// The devices of one node.
pub(super) fn of(
    node: &str,
    pod: &PodRequest,
    weighed: &[Weighed<'_>],
    chosen: &Result<String, NoPlace>,
    here: Option<&str>,
) -> String {
    let wanted = pod_requests(pod.spec());
    let mut rows = vec![["DEVICE", "PODS", "FREE", "ANSWER"].map(str::to_owned)];
    for one in weighed {
        let candidate = one.candidate;
        rows.push([
            shown(candidate),
            candidate.pods.to_string(),
            amounts(&wanted, &candidate.free),
            said(one, chosen, here),
        ]);
    }
    let end = match chosen {
        Ok(name) => {
            let device = weighed.iter().find(|w| w.candidate.name == *name);
            let device = device.map_or_else(|| name.clone(), |w| shown(w.candidate));
            format!("It would go to {device}.")
        }
        Err(no) => why(no).to_owned(),
    };
    format!("\nNode {node}\n{}{end}\n", aligned(&rows))
}

/// Why there is none, as the pod's event says it.
pub(super) fn why(no: &NoPlace) -> &str {
    match no {
        NoPlace::BadSelector(message)
        | NoPlace::NoMatch(message)
        | NoPlace::NotNow(message)
        | NoPlace::Earlier(message)
        | NoPlace::Overdue(message)
        | NoPlace::TooBig { message, .. }
        | NoPlace::Unsupported { message, .. } => message,
    }
}

fn shown(candidate: &Candidate) -> String {
    match &candidate.alias {
        Some(alias) => format!("{alias} ({})", candidate.name),
        None => candidate.name.clone(),
    }
}

/// What one device is told to be.
fn said(one: &Weighed<'_>, chosen: &Result<String, NoPlace>, here: Option<&str>) -> String {
    let name = &one.candidate.name;
    let mut parts: Vec<String> = one.against.iter().map(ToString::to_string).collect();
    if parts.is_empty() {
        let best = chosen.as_ref().is_ok_and(|chosen| chosen == name);
        parts.push(if best { "the best" } else { "fits" }.to_owned());
        parts.extend(one.candidate.hindered.clone());
    }
    if here == Some(name) {
        parts.insert(0, "has it now".into());
    }
    parts.join("; ")
}

/// Of everything that is wanted; pods have a column of their own.
fn amounts(wanted: &Resources, there: &Resources) -> String {
    let names = wanted.iter().map(|(name, _)| name).filter(|n| *n != "pods");
    let parts: Vec<String> = names
        .map(|name| format!("{name}={}", there.get(name).show(name)))
        .collect();
    if parts.is_empty() {
        return "nothing".into();
    }
    parts.join(", ")
}

fn aligned(rows: &[[String; 4]]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or_default()
    };
    let [first, second, third] = [width(0), width(1), width(2)];
    let lines = rows.iter().map(|[device, pods, free, answer]| {
        format!("{device:first$}  {pods:second$}  {free:third$}  {answer}\n")
    });
    lines.collect()
}
