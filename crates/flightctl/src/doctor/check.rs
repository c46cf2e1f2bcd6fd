//! What was looked at and how it was found: values, and how they are printed.

use std::fmt;

/// How something was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// As it should be.
    Ok,
    /// It works, and probably not as it was meant.
    Warning,
    /// It does not work.
    Problem,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Problem => "problem",
        })
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What, in a word or two.
    pub name: &'static str,
    /// How it was found.
    pub outcome: Outcome,
    /// In a sentence.
    pub said: String,
    /// What to do; nothing where it is as it should be.
    pub remedy: String,
}

impl Check {
    pub(super) fn ok(name: &'static str, said: impl Into<String>) -> Self {
        Self {
            name,
            outcome: Outcome::Ok,
            said: said.into(),
            remedy: String::new(),
        }
    }

    pub(super) fn warning(
        name: &'static str,
        said: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            name,
            outcome: Outcome::Warning,
            said: said.into(),
            remedy: remedy.into(),
        }
    }

    pub(super) fn problem(
        name: &'static str,
        said: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            outcome: Outcome::Problem,
            ..Self::warning(name, said, remedy)
        }
    }
}

/// All of it, in the order in which it is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report(pub Vec<Check>);

impl Report {
    /// The worst of all.
    pub fn outcome(&self) -> Outcome {
        let outcomes = self.0.iter().map(|check| check.outcome);
        outcomes.max().unwrap_or(Outcome::Ok)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for check in &self.0 {
            writeln!(f, "{:<8} {}: {}", check.outcome, check.name, check.said)?;
            if !check.remedy.is_empty() {
                writeln!(f, "{:<8} -> {}", "", check.remedy)?;
            }
        }
        let count = |outcome| self.0.iter().filter(|c| c.outcome == outcome).count();
        let (problems, warnings) = (count(Outcome::Problem), count(Outcome::Warning));
        write!(f, "problems: {problems}, warnings: {warnings}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_check_is_a_line_and_its_remedy_another() {
        let report = Report(vec![
            Check::ok("clocks", "1 s apart"),
            Check::warning("fleets", "no device", "label one"),
            Check::problem("token", "expired", "log in"),
        ]);
        assert_eq!(
            report.to_string(),
            "ok       clocks: 1 s apart\n\
             warning  fleets: no device\n\
             \x20        -> label one\n\
             problem  token: expired\n\
             \x20        -> log in\n\
             problems: 1, warnings: 1"
        );
        assert_eq!(report.outcome(), Outcome::Problem);
        assert_eq!(Report(report.0[..2].to_vec()).outcome(), Outcome::Warning);
        assert_eq!(Report::default().outcome(), Outcome::Ok);
    }
}
