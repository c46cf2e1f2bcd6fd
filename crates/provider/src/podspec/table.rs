//! Declarations as a table for people, one column per backend.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::declaration::{Declaration, Ruled};
use super::record::{Field, ROOT};
use super::rule::{Handling, Rule, Values};

/// Lists of containers, whose equal rows become one.
const CONTAINERS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

/// One line: a field, with those below it where all backends treat them alike.
struct Row {
    path: &'static str,
    below: usize,
    cells: Vec<String>,
}

/// A Markdown table of all recorded fields.
pub fn table(backends: &[(&str, &Declaration)]) -> String {
    let trees: Vec<&Ruled> = backends.iter().map(|(_, d)| d.tree()).collect();
    let mut rows = Vec::new();
    collect(&ROOT, &trees, &mut rows);
    let mut text = String::from("| field |");
    for (name, _) in backends {
        let _ = write!(text, " {name} |");
    }
    text.push_str("\n|---|");
    text.push_str(&"---|".repeat(backends.len()));
    text.push('\n');
    for (path, row) in merged(&rows) {
        let below = match row.below {
            0 => String::new(),
            n => format!(" and the {n} below"),
        };
        let _ = writeln!(text, "| `{path}`{below} | {} |", row.cells.join(" | "));
    }
    text
}

fn collect(field: &'static Field, trees: &[&Ruled], rows: &mut Vec<Row>) {
    if !field.path.is_empty() && trees.iter().all(|tree| !tree.split) {
        rows.push(Row {
            path: field.path,
            below: field.count(),
            cells: trees.iter().map(|tree| cell(tree.rule)).collect(),
        });
        return;
    }
    if trees.iter().any(|tree| tree.chooses) {
        rows.push(Row {
            path: field.path,
            below: 0,
            cells: trees.iter().map(|tree| cell(tree.rule)).collect(),
        });
    }
    for (name, inner) in &field.below {
        let inners: Vec<&Ruled> = trees.iter().filter_map(|t| t.below.get(name)).collect();
        collect(inner, &inners, rows);
    }
}

/// Rows with their names; those of a container's field stand once for all kinds
/// of containers that are alike.
fn merged(rows: &[Row]) -> Vec<(String, &Row)> {
    let mut own = Vec::new();
    let mut of_containers: BTreeMap<&str, Vec<(&str, &Row)>> = BTreeMap::new();
    for row in rows {
        let container = CONTAINERS.iter().find_map(|list| {
            let rest = row.path.strip_prefix("spec.")?.strip_prefix(list)?;
            Some((*list, rest.strip_prefix("[].")?))
        });
        match container {
            None => own.push((row.path.to_owned(), row)),
            Some((list, rest)) => of_containers.entry(rest).or_default().push((list, row)),
        }
    }
    for (rest, mut alike) in of_containers {
        while let Some((_, first)) = alike.first().copied() {
            let (same, others): (Vec<_>, Vec<_>) = alike
                .into_iter()
                .partition(|(_, row)| row.cells == first.cells && row.below == first.below);
            let lists: Vec<&str> = CONTAINERS
                .into_iter()
                .filter(|list| same.iter().any(|(name, _)| name == list))
                .collect();
            let lists = match lists.as_slice() {
                [one] => (*one).to_owned(),
                several => format!("{{{}}}", several.join(",")),
            };
            own.push((format!("spec.{lists}[].{rest}"), first));
            alike = others;
        }
    }
    own
}

fn cell(rule: Option<&'static Rule>) -> String {
    let Some(rule) = rule else {
        return "refused: not declared".to_owned();
    };
    let mut text = match rule.handling {
        Handling::Honoured { test, only } => {
            let only = match only {
                None => String::new(),
                Some((values, otherwise)) => format!(", only {values} ({otherwise})"),
            };
            format!("**honoured**{only}; test `{test}`")
        }
        Handling::Refused {
            reason,
            except,
            waived_by,
        } => {
            let except = match except {
                Values::None => String::new(),
                values => format!(" but for {values}"),
            };
            let waived = waived_by
                .map(|(name, value)| format!("; ignored with the annotation `{name}: {value}`"));
            format!("refused{except}: {reason}{}", waived.unwrap_or_default())
        }
        Handling::NoMeaning { why } => format!("no meaning: {why}"),
    };
    if !rule.note.is_empty() {
        let _ = write!(text, ". {}", rule.note);
    }
    text
}
