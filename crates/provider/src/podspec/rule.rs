//! One line of a declaration, and the values it speaks of.

use std::fmt;

use serde_json::Value;

/// What a backend does with some fields and everything below them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Paths as in the record, `{a,b}` for alternatives:
    /// `spec.{containers,initContainers}[].env[].value`.
    pub fields: &'static str,
    /// What is done with them.
    pub handling: Handling,
    /// Where it differs from a kubelet's, for the reader of the table.
    pub note: &'static str,
}

/// What a backend does with a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handling {
    /// It takes effect.
    Honoured {
        /// Name of the test that observes the effect.
        test: &'static str,
        /// The only values that do, and why others are refused.
        only: Option<(Values, &'static str)>,
    },
    /// The pod is Failed where this is set.
    Refused {
        /// Why, and what to use instead.
        reason: &'static str,
        /// What passes because it asks for what is the case anyway.
        except: Values,
        /// An annotation and its value, by which the author of a pod accepts
        /// that the field is ignored.
        waived_by: Option<(&'static str, &'static str)>,
    },
    /// There is nothing on such a node for it to act on: accepted silently.
    NoMeaning {
        /// Why.
        why: &'static str,
    },
}

/// Some values of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Values {
    /// None.
    None,
    /// This one.
    Bool(bool),
    /// These words.
    Words(&'static [&'static str]),
    /// Numbers from the first to the second.
    Range(i64, i64),
}

/// Fields that take effect; `test` observes it.
pub const fn honoured(fields: &'static str, test: &'static str) -> Rule {
    let only = None;
    Rule::new(fields, Handling::Honoured { test, only })
}

/// Fields of which only some values take effect; the others are refused.
pub const fn honoured_only(
    fields: &'static str,
    test: &'static str,
    values: Values,
    otherwise: &'static str,
) -> Rule {
    let only = Some((values, otherwise));
    Rule::new(fields, Handling::Honoured { test, only })
}

/// Fields that are refused wherever they say something.
pub const fn refused(fields: &'static str, reason: &'static str) -> Rule {
    refused_but(fields, reason, Values::None)
}

/// Fields that are refused but for values that ask for what is the case anyway.
pub const fn refused_but(fields: &'static str, reason: &'static str, except: Values) -> Rule {
    let waived_by = None;
    Rule::new(
        fields,
        Handling::Refused {
            reason,
            except,
            waived_by,
        },
    )
}

/// Fields that are refused unless the pod has an annotation of this value.
pub const fn refused_unless(
    fields: &'static str,
    reason: &'static str,
    annotation: (&'static str, &'static str),
) -> Rule {
    let (except, waived_by) = (Values::None, Some(annotation));
    Rule::new(
        fields,
        Handling::Refused {
            reason,
            except,
            waived_by,
        },
    )
}

/// Fields that have nothing to act on.
pub const fn no_meaning(fields: &'static str, why: &'static str) -> Rule {
    Rule::new(fields, Handling::NoMeaning { why })
}

impl Rule {
    const fn new(fields: &'static str, handling: Handling) -> Self {
        Self {
            fields,
            handling,
            note: "",
        }
    }

    /// With a sentence for the reader of the table.
    #[must_use]
    pub const fn note(mut self, note: &'static str) -> Self {
        self.note = note;
        self
    }

    /// Whether it speaks of single values, which fields below would blur.
    pub(super) fn is_of_values(&self) -> bool {
        match self.handling {
            Handling::Honoured { only, .. } => only.is_some(),
            Handling::Refused { except, .. } => except != Values::None,
            Handling::NoMeaning { .. } => false,
        }
    }
}

impl Values {
    /// Whether a value is one of these.
    pub(super) fn hold(self, value: &Value) -> bool {
        match self {
            Self::None => false,
            Self::Bool(one) => value.as_bool() == Some(one),
            Self::Words(all) => value.as_str().is_some_and(|text| all.contains(&text)),
            Self::Range(least, most) => value.as_i64().is_some_and(|n| (least..=most).contains(&n)),
        }
    }
}

impl fmt::Display for Values {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("nothing"),
            Self::Bool(one) => write!(f, "`{one}`"),
            Self::Words(all) => {
                for (index, word) in all.iter().enumerate() {
                    let comma = if index > 0 { ", " } else { "" };
                    write!(f, "{comma}`{word}`")?;
                }
                Ok(())
            }
            Self::Range(least, most) => write!(f, "{least} to {most}"),
        }
    }
}
