//! What a shell is told, as commands.

/// A simple command of the shell.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Statement {
    pub(super) words: Vec<String>,
    /// Only if the one before ended well.
    pub(super) if_well: bool,
    /// Where its output goes; `&2` is standard error.
    pub(super) to: Option<String>,
}

/// Commands with `;`, `&&`, `>` and quotes between them; or what else there was.
pub(super) fn statements(text: &str) -> Result<Vec<Statement>, char> {
    let mut all = vec![Statement::default()];
    let mut word: Option<String> = None;
    let (mut quote, mut redirected) = (None, false);
    let mut chars = text.chars().chain(['\n']).peekable();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some('"') | None, '$' | '`') => return Err(c),
            (Some(_), c) => word.get_or_insert_default().push(c),
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, '\\') => word.get_or_insert_default().extend(chars.next()),
            (None, '&') if redirected && word.is_none() => word = Some("&".into()),
            (None, c) if c.is_whitespace() || matches!(c, ';' | '&' | '>') => {
                let Some(now) = all.last_mut() else { break };
                match word.take() {
                    // `1>` is `>`.
                    Some(word) if c == '>' && word == "1" => {}
                    Some(word) if redirected => {
                        now.to = Some(word);
                        redirected = false;
                    }
                    Some(word) => now.words.push(word),
                    None => {}
                }
                redirected |= c == '>';
                let and = c == '&';
                if and && chars.next() != Some('&') {
                    return Err(c);
                }
                if and || matches!(c, ';' | '\n') {
                    all.push(Statement {
                        if_well: and,
                        ..Statement::default()
                    });
                }
            }
            (None, '|' | '<' | '(' | ')' | '*' | '?' | '{' | '}') => return Err(c),
            (None, c) => word.get_or_insert_default().push(c),
        }
    }
    if let Some(open) = quote {
        return Err(open);
    }
    all.retain(|statement| !statement.words.is_empty());
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_told_apart_as_a_shell_does_and_what_is_more_is_refused() {
        let of = |words: &[&str], if_well, to: Option<&str>| Statement {
            words: words.iter().map(|&word| word.to_owned()).collect(),
            if_well,
            to: to.map(str::to_owned),
        };
        assert_eq!(
            statements("echo 'a; b' \"c\" >&2; true && exit 3\necho x 1> /tmp/y"),
            Ok(vec![
                of(&["echo", "a; b", "c"], false, Some("&2")),
                of(&["true"], false, None),
                of(&["exit", "3"], true, None),
                of(&["echo", "x"], false, Some("/tmp/y")),
            ])
        );
        for (text, odd) in [("a | b", '|'), ("echo $A", '$'), ("a &", '&'), ("'a", '\'')] {
            assert_eq!(statements(text), Err(odd), "{text}");
        }
    }
}
