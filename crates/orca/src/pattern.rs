//! Names of instance types with wildcards: `g5.*`, `c7i*.xlarge`.

use std::fmt;

/// A name, in which `*` stands for any text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(String);

impl Pattern {
    /// Reads a list separated by commas, as annotations have it.
    ///
    /// # Errors
    /// The entry that is no name: empty, or with characters that no instance type has.
    pub fn list(text: &str) -> Result<Vec<Self>, String> {
        text.split(',')
            .map(|entry| Self::parse(entry.trim()))
            .collect()
    }

    /// Reads one name.
    ///
    /// # Errors
    /// The text, if it is empty or has characters that no instance type has.
    pub fn parse(text: &str) -> Result<Self, String> {
        let known = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || ".-*".contains(c);
        if text.is_empty() || !text.chars().all(known) {
            return Err(text.into());
        }
        Ok(Self(text.into()))
    }

    /// Whether it is one name, without wildcards.
    pub fn exact(&self) -> bool {
        !self.0.contains('*')
    }

    /// Whether `name` is meant.
    pub fn matches(&self, name: &str) -> bool {
        let mut parts = self.0.split('*');
        let first = parts.next().unwrap_or_default();
        let Some(mut rest) = name.strip_prefix(first) else {
            return false;
        };
        let mut parts = parts.peekable();
        if parts.peek().is_none() {
            return rest.is_empty();
        }
        while let Some(part) = parts.next() {
            if parts.peek().is_none() {
                return rest.ends_with(part);
            }
            match rest.find(part) {
                Some(at) => rest = &rest[at + part.len()..],
                None => return false,
            }
        }
        true
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_text() {
        let is = |pattern: &str, name: &str| Pattern::parse(pattern).unwrap().matches(name);
        assert!(is("g5.*", "g5.xlarge") && is("*", "g5.xlarge") && is("c7*.xl*", "c7i.xlarge"));
        assert!(!is("g5.*", "g5g.xlarge") && !is("g5.xlarge", "g5.xlarge2"));
        assert!(!is("*.xlarge", "g5.2xlarge") && !is("c7*i.*z", "c7i.xlarge"));
    }

    #[test]
    fn what_no_instance_type_is_called_is_refused() {
        assert_eq!(Pattern::list("g5.*, G6"), Err("G6".into()));
        assert_eq!(Pattern::list("g5.*,"), Err(String::new()));
    }
}
