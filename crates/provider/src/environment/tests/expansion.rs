//! The cases of `third_party/forked/golang/expansion`, and what must hold of any text.

use super::super::expansion::expand;
use super::super::variables::MAX_STRING;
use proptest::prelude::*;

const KNOWN: [(&str, &str); 5] = [
    ("VAR_A", "A"),
    ("VAR_B", "B"),
    ("VAR_C", "C"),
    ("VAR_REF", "$(VAR_A)"),
    ("VAR_EMPTY", ""),
];

fn known(name: &str) -> Option<&'static str> {
    let found = KNOWN.iter().find(|(known, _)| *known == name)?;
    Some(found.1)
}

fn expanded(text: &str) -> String {
    expand(text, MAX_STRING, known).unwrap()
}

#[test]
fn the_kubelets_table_of_expansion_holds() {
    for (text, wanted) in [
        ("$(VAR_A)", "A"),
        ("$(VAR_A)-$(VAR_A)", "A-A"),
        ("$(VAR_A)-1", "A-1"),
        ("___$(VAR_B)___", "___B___"),
        ("___$(VAR_C)", "___C"),
        ("$(VAR_A)_$(VAR_B)_$(VAR_C)", "A_B_C"),
        ("$$(VAR_B)_$(VAR_A)", "$(VAR_B)_A"),
        ("$$(VAR_A)_$$(VAR_B)", "$(VAR_A)_$(VAR_B)"),
        ("f000-$$VAR_A", "f000-$VAR_A"),
        (r"foo\$(VAR_C)bar", r"foo\Cbar"),
        (r"foo\\$(VAR_C)bar", r"foo\\Cbar"),
        (r"foo\\\\$(VAR_A)bar", r"foo\\\\Abar"),
        ("$(VAR_A$(VAR_B))", "$(VAR_A$(VAR_B))"),
        ("$(VAR_A$(VAR_B)", "$(VAR_A$(VAR_B)"),
        ("$(VAR_REF)", "$(VAR_A)"),
        ("%%$(VAR_REF)--$(VAR_REF)%%", "%%$(VAR_A)--$(VAR_A)%%"),
        ("foo$(VAR_EMPTY)bar", "foobar"),
        ("foo$(VAR_Awhoops!", "foo$(VAR_Awhoops!"),
        ("f00__(VAR_A)__", "f00__(VAR_A)__"),
        ("$?_boo_$!", "$?_boo_$!"),
        ("$VAR_A", "$VAR_A"),
        ("$(VAR_DNE)", "$(VAR_DNE)"),
        ("$$$$$$(BIG_MONEY)", "$$$(BIG_MONEY)"),
        ("$$$$$$(VAR_A)", "$$$(VAR_A)"),
        ("$$$$$$$(GOOD_ODDS)", "$$$$(GOOD_ODDS)"),
        ("$$$$$$$(VAR_A)", "$$$A"),
        ("$VAR_A)", "$VAR_A)"),
        ("${VAR_A}", "${VAR_A}"),
        ("$(VAR_B)_______$(A", "B_______$(A"),
        ("$(VAR_C)_______$(", "C_______$("),
        ("$(VAR_A)foobarzab$", "Afoobarzab$"),
        (r"foo-\$(VAR_A", r"foo-\$(VAR_A"),
        ("--$($($($($--", "--$($($($($--"),
        ("$($($($($--foo$(", "$($($($($--foo$("),
        ("foo0--$($($($(", "foo0--$($($($("),
        ("$(foo$$var)", "$(foo$$var)"),
        ("\n", "\n"),
        ("$£FOO", "$£FOO"),
        ("prefix-$€-suffix", "prefix-$€-suffix"),
        ("$中文", "$中文"),
    ] {
        assert_eq!(expanded(text), wanted, "{text}");
    }
}

#[test]
fn many_openings_that_never_close_take_no_square_of_time() {
    const LENGTH: usize = 1 << 20;
    let text = "$(".repeat(LENGTH / 2);
    let start = std::time::Instant::now();
    assert_eq!(expand(&text, LENGTH, known).unwrap(), text);
    // A part of a second; minutes where each opening looks for its end.
    assert!(start.elapsed().as_secs() < 10);
}

#[test]
fn a_result_past_the_limit_is_none_and_at_the_limit_is_there() {
    assert_eq!(expand("ab$(VAR_A)", 3, known).unwrap(), "abA");
    assert_eq!(expand("ab$(VAR_A)d", 3, known), None);
    assert_eq!(expand("$(VAR_A)$(VAR_A)", 1, known), None);
}

/// Texts that are mostly made of what has a meaning.
fn tricky() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        Just("$".to_owned()),
        Just("(".to_owned()),
        Just(")".to_owned()),
        Just("VAR_A".to_owned()),
        Just("VAR_REF".to_owned()),
        Just("é".to_owned()),
        ".{0,3}",
    ];
    prop::collection::vec(part, 0..24).prop_map(|parts| parts.concat())
}

/// The same rules once more, a character at a time and as they are told.
fn told(text: &[char]) -> String {
    match text {
        [] => String::new(),
        ['$', '$', rest @ ..] => format!("${}", told(rest)),
        ['$', '(', rest @ ..] if rest.contains(&')') => {
            let end = rest.iter().position(|c| *c == ')').unwrap();
            let name: String = rest[..end].iter().collect();
            let value = known(&name).map_or(format!("$({name})"), str::to_owned);
            format!("{value}{}", told(&rest[end + 1..]))
        }
        [first, rest @ ..] => format!("{first}{}", told(rest)),
    }
}

proptest! {
    #[test]
    fn any_text_expands_as_the_rules_are_told(text in tricky()) {
        let chars: Vec<char> = text.chars().collect();
        prop_assert_eq!(expanded(&text), told(&chars));
    }

    #[test]
    fn any_text_escaped_comes_back_as_it_was(text in tricky()) {
        prop_assert_eq!(expanded(&text.replace('$', "$$")), text);
    }

    #[test]
    fn text_without_a_dollar_is_itself(text in "[^$]*") {
        prop_assert_eq!(expanded(&text), text);
    }

    #[test]
    fn no_result_passes_the_limit(text in tricky(), limit in 0usize..32) {
        let whole = expanded(&text);
        match expand(&text, limit, known) {
            Some(out) => prop_assert_eq!(out, whole),
            None => prop_assert!(whole.len() > limit),
        }
    }
}
