//! Prices: US dollars an hour, exact to a millionth.

use std::fmt;

const MICRO: u64 = 1_000_000;
/// Digits after the point.
const DIGITS: usize = 6;

/// US dollars an hour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Price(u64);

impl Price {
    /// From millionths of a dollar.
    pub const fn micro(micro: u64) -> Self {
        Self(micro)
    }

    /// Dearer by so many millionths of a dollar.
    #[must_use]
    pub const fn plus(self, micro: u64) -> Self {
        Self(self.0.saturating_add(micro))
    }

    /// Reads `0.526`, `$3` or `1.50`; `None` for everything else, amounts below
    /// a millionth and signs included.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let text = text.strip_prefix('$').unwrap_or(text);
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
        if whole.is_empty() || !digits(whole) || !digits(fraction) || fraction.len() > DIGITS {
            return None;
        }
        let whole: u64 = whole.parse().ok()?;
        let fraction: u64 = format!("{fraction:0<DIGITS$}").parse().ok()?;
        Some(Self(whole.checked_mul(MICRO)?.checked_add(fraction)?))
    }
}

impl fmt::Display for Price {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "${}.{:04}", self.0 / MICRO, self.0 % MICRO / 100)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_dollars_and_nothing_else() {
        assert_eq!(Price::parse("0.526"), Some(Price(526_000)));
        assert_eq!(Price::parse("$3"), Some(Price(3_000_000)));
        for text in [
            "",
            "-1",
            "1.2.3",
            "1e3",
            ".5",
            "0.0000001",
            "free",
            "99999999999999999999",
        ] {
            assert_eq!(Price::parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused_without_panic(text in ".*") {
            let _ = Price::parse(&text);
        }
    }
}
