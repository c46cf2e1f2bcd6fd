//! A declaration, laid out over the tree of recorded fields.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::OnceLock;

use super::record::{Field, ROOT, bare};
use super::rule::{Handling, Rule};

/// What a backend does with every field of a pod's spec.
///
/// A rule holds for its fields and all below them that have no rule of their
/// own; the nearest one counts. A field without any is refused. Keep it in a
/// `static` and check it in a test with [`Declaration::problems`].
pub struct Declaration {
    rules: &'static [Rule],
    tree: OnceLock<Ruled>,
}

/// A field and the rule that holds for it.
#[derive(Debug, Default)]
pub(super) struct Ruled {
    pub(super) path: &'static str,
    pub(super) rule: Option<&'static Rule>,
    /// A field below has a rule of its own.
    pub(super) split: bool,
    /// Its mere presence says something: it chooses one of several kinds.
    pub(super) chooses: bool,
    pub(super) below: BTreeMap<&'static str, Ruled>,
}

/// Lists whose elements say what they are by which of their fields is there.
const OF_KINDS: [&str; 2] = ["spec.volumes[]", "spec.volumes[].projected.sources[]"];

impl Declaration {
    /// These rules, in any order.
    pub const fn new(rules: &'static [Rule]) -> Self {
        Self {
            rules,
            tree: OnceLock::new(),
        }
    }

    /// The rules.
    pub fn rules(&self) -> &'static [Rule] {
        self.rules
    }

    /// What is done with a field of the record, or with [`super::RESIZE`];
    /// `None` where nobody declared it (or there is no such field).
    pub fn handling(&self, field: &str) -> Option<Handling> {
        let mut at = self.tree();
        for name in field.split('.').map(bare) {
            at = at.below.get(name)?;
        }
        at.rule.map(|rule| rule.handling)
    }

    /// The names of the tests that observe what is honoured.
    pub fn tests(&self) -> impl Iterator<Item = &'static str> {
        self.rules.iter().filter_map(|rule| match rule.handling {
            Handling::Honoured { test, .. } => Some(test),
            _ => None,
        })
    }

    /// Faults of the declaration itself: rules for fields that do not exist,
    /// twice for the same, or with rules below that would blur them; fields without one.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut seen = BTreeMap::new();
        for rule in self.rules {
            for path in expand(rule.fields) {
                match find(&path) {
                    None => problems.push(format!("{path}: there is no such field")),
                    Some(field) => {
                        if seen.insert(field.path, ()).is_some() {
                            problems.push(format!("{path}: declared twice"));
                        }
                    }
                }
            }
        }
        judge(self.tree(), None, &mut problems);
        problems
    }

    pub(super) fn tree(&self) -> &Ruled {
        self.tree.get_or_init(|| {
            let mut rules: BTreeMap<&'static str, &'static Rule> = BTreeMap::new();
            for rule in self.rules {
                for path in expand(rule.fields) {
                    if let Some(field) = find(&path) {
                        rules.insert(field.path, rule);
                    }
                }
            }
            lay_out(&ROOT, None, false, &rules)
        })
    }
}

impl fmt::Debug for Declaration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Declaration").field(&self.rules).finish()
    }
}

impl PartialEq for Declaration {
    fn eq(&self, other: &Self) -> bool {
        self.rules == other.rules
    }
}

impl Eq for Declaration {}

fn lay_out(
    field: &'static Field,
    inherited: Option<&'static Rule>,
    chooses: bool,
    rules: &BTreeMap<&'static str, &'static Rule>,
) -> Ruled {
    let rule = rules.get(field.path).copied().or(inherited);
    let of_kinds = OF_KINDS.contains(&field.path);
    let below: BTreeMap<_, _> = field
        .below
        .iter()
        .map(|(name, field)| (*name, lay_out(field, rule, of_kinds, rules)))
        .collect();
    Ruled {
        path: field.path,
        rule,
        split: below
            .values()
            .any(|f| f.split || rules.contains_key(f.path)),
        chooses,
        below,
    }
}

/// Walks the tree; `rule` is the one of the field above.
fn judge(at: &Ruled, above: Option<&'static Rule>, problems: &mut Vec<String>) {
    let own = at
        .rule
        .filter(|rule| above.is_none_or(|a| !std::ptr::eq(a, *rule)));
    if at.rule.is_none() && !at.split && !at.path.is_empty() {
        problems.push(format!("{}: not declared, so it is refused", at.path));
        return;
    }
    if at.split && own.is_some_and(Rule::is_of_values) {
        problems.push(format!(
            "{}: a rule of single values has rules below it",
            at.path
        ));
    }
    let is_refused = matches!(
        at.rule.map(|rule| rule.handling),
        None | Some(Handling::Refused { .. })
    );
    if at.chooses && at.split && is_refused {
        // Its mere presence says something, but only those below would be asked.
        problems.push(format!(
            "{}: refused, so it can have no rules below it",
            at.path
        ));
    }
    for field in at.below.values() {
        judge(field, at.rule, problems);
    }
}

/// The recorded field of a path.
fn find(path: &str) -> Option<&'static Field> {
    let mut at: &'static Field = &ROOT;
    for name in path.split('.').map(bare) {
        at = at.below.get(name)?;
    }
    // Brackets may be left out at the end, and nowhere else.
    (at.path == path || bare(at.path) == path).then_some(at)
}

/// `a.{b,c}[].d` is `a.b[].d` and `a.c[].d`; `{}` stands for itself.
fn expand(pattern: &str) -> Vec<String> {
    let open = pattern
        .match_indices('{')
        .map(|(index, _)| index)
        .find(|index| !pattern[*index..].starts_with("{}"));
    let Some((head, (choices, tail))) =
        open.and_then(|index| Some((&pattern[..index], pattern[index + 1..].split_once('}')?)))
    else {
        return vec![pattern.to_owned()];
    };
    choices
        .split(',')
        .flat_map(|choice| expand(&format!("{head}{choice}{tail}")))
        .collect()
}
