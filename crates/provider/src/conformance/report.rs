//! How checks end.

use std::fmt;

use super::Trouble;
use super::rule::Rule;

/// How one check ended.
pub type Outcome = Result<(), Halt>;

/// Why a check ended early.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Halt {
    /// The backend breaks a rule.
    #[error("broken: {rule}\n  seen: {seen}")]
    Broken {
        /// Which.
        rule: Rule,
        /// What was seen.
        seen: String,
    },
    /// Nothing is known: the fixture cannot make what the check needs.
    #[error("not run: the fixture cannot make {lacks}")]
    NotRun {
        /// What is missing.
        lacks: &'static str,
    },
}

impl Halt {
    pub(super) fn broken(rule: Rule, seen: impl Into<String>) -> Self {
        Self::Broken {
            rule,
            seen: seen.into(),
        }
    }

    pub(super) fn lacks(trouble: Trouble) -> Self {
        Self::NotRun {
            lacks: match trouble {
                Trouble::Silent => "Trouble::Silent",
                Trouble::PlaceAway => "Trouble::PlaceAway",
                Trouble::AnswersLost => "Trouble::AnswersLost",
            },
        }
    }
}

/// What a run of all checks came to.
#[derive(Clone, Debug, Default)]
pub struct Report {
    outcomes: Vec<(&'static str, Outcome)>,
}

impl Report {
    pub(super) fn add(&mut self, check: &'static str, outcome: Outcome) {
        self.outcomes.push((check, outcome));
    }

    /// Checks that found a broken rule, with the rule.
    pub fn broken(&self) -> Vec<(&'static str, Rule)> {
        self.outcomes
            .iter()
            .filter_map(|(check, outcome)| match outcome {
                Err(Halt::Broken { rule, .. }) => Some((*check, *rule)),
                _ => None,
            })
            .collect()
    }

    /// Checks that found nothing out, because the fixture could not make what
    /// they need.
    pub fn not_run(&self) -> Vec<&'static str> {
        self.outcomes
            .iter()
            .filter(|(_, outcome)| matches!(outcome, Err(Halt::NotRun { .. })))
            .map(|(check, _)| *check)
            .collect()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (check, outcome) in &self.outcomes {
            match outcome {
                Ok(()) => writeln!(f, "{check}: kept")?,
                Err(halt) => writeln!(f, "{check}: {halt}")?,
            }
        }
        Ok(())
    }
}
