//! Texts that try to leave their field, and a reader of unit files that shares
//! nothing with the writer. Used by the crate's own tests and by the judge.

pub(crate) mod systemd;

/// The texts of `strings.json`.
pub(crate) fn strings() -> Vec<String> {
    serde_json::from_str(include_str!("strings.json"))
        .expect("the corpus is a JSON list of strings")
}

/// Whether a text may be refused: empty words, a lone `;`, NUL, characters that
/// systemd calls unclean, a carriage return before a newline, and what does not
/// fit a line.
#[allow(dead_code, reason = "the judge uses only part of this module")]
pub(crate) fn refusable(text: &str) -> bool {
    let unclean = |c: char| {
        c == '\0' || u32::from(c) & 0xfffe == 0xfffe || ('\u{fdd0}'..='\u{fdef}').contains(&c)
    };
    text.is_empty()
        || text == ";"
        || text.contains(unclean)
        || text.contains("\r\n")
        || text.len() > 300
}

/// `$(VAR)` and `$$` as Kubernetes documents them.
pub(crate) fn expanded(text: &str, variables: &[(&str, &str)]) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::new();
    let mut at = 0;
    while at < chars.len() {
        match (chars[at], chars.get(at + 1)) {
            ('$', Some('$')) => {
                out.push('$');
                at += 2;
            }
            ('$', Some('(')) => match chars[at..].iter().position(|c| *c == ')') {
                Some(end) => {
                    let name: String = chars[at + 2..at + end].iter().collect();
                    match variables.iter().find(|(n, _)| *n == name) {
                        Some((_, value)) => out.push_str(value),
                        None => out.push_str(&format!("$({name})")),
                    }
                    at += end + 1;
                }
                None => {
                    out.push_str("$(");
                    at += 2;
                }
            },
            (c, _) => {
                out.push(c);
                at += 1;
            }
        }
    }
    out
}
