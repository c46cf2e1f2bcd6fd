//! Values, escaped for the field they go to.

use std::fmt::Write as _;

use super::LINE_LIMIT;

/// A text that a unit cannot carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TextError {
    /// No process can be given one.
    #[error("it holds a NUL character, which no process can be given")]
    Nul,
    /// Longer than a line of a unit may be.
    #[error(
        "it needs a line of {0} bytes in a unit file, and Flight Control takes less than {LINE_LIMIT}; put it into the image or shorten it"
    )]
    TooLong(usize),
    /// Outside the alphabet of a field that knows no escapes.
    #[error("it holds {0:?}, which this field of a unit cannot carry")]
    Character(char),
    /// The field cannot be empty, or not begin or end like this.
    #[error("{0}")]
    Form(&'static str),
}

/// The value of one key: physical lines, all but the last ending in ` \`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Value(Vec<String>);

impl Value {
    /// A text of ours.
    pub(crate) fn fixed(text: &'static str) -> Self {
        Self(vec![text.to_owned()])
    }

    /// A text of ours around names and numbers that were checked already
    /// ([`is_name`]). Users' texts never come this way.
    pub(crate) fn ours(text: String) -> Result<Self, TextError> {
        match text.chars().find(|c| c.is_control() || !c.is_ascii()) {
            Some(odd) => Err(TextError::Character(odd)),
            None => Ok(Self(vec![text])),
        }
    }

    /// A word of a field without escapes: image references, names, addresses.
    pub(crate) fn plain(text: &str) -> Result<Self, TextError> {
        if text.is_empty() {
            return Err(TextError::Form("it is empty"));
        }
        let odd = text
            .chars()
            .find(|c| !c.is_ascii_alphanumeric() && !"._:/@[]=,+-".contains(*c));
        match odd {
            Some(odd) => Err(TextError::Character(odd)),
            None => Ok(Self(vec![text.to_owned()])),
        }
    }

    /// An absolute path in the container. The field has no quoting, but systemd
    /// reads `%` and `$` in the line Podman makes of it.
    pub(crate) fn path(text: &str) -> Result<Self, TextError> {
        if !text.starts_with('/') {
            return Err(TextError::Form("it is not an absolute path"));
        }
        if text.trim() != text {
            return Err(TextError::Form("it ends in a blank"));
        }
        let odd = |c: &char| {
            c.is_control()
                || matches!(c, '"' | '\'' | '\\' | '\u{2028}' | '\u{2029}')
                || is_noncharacter(*c)
        };
        match text.chars().find(odd) {
            Some(odd) => Err(TextError::Character(odd)),
            None => Ok(Self(vec![doubled(text)])),
        }
    }

    /// `"NAME=VALUE"`.
    pub(crate) fn assignment(name: &str, value: &str) -> Result<Self, TextError> {
        Ok(Self(vec![quoted(&format!("{name}={value}"))?]))
    }

    /// Words of a command line. On one line if they fit, else one to a line:
    /// each begins with a quote, so none can be taken for a comment.
    ///
    /// Two words cannot be among them: Podman's generator drops an empty one and
    /// everything behind it without a word, and writes a lone `;` without
    /// quotes, so that systemd takes it for the end of the command.
    pub(crate) fn words(words: &[String]) -> Result<Self, (usize, TextError)> {
        let mut lines = Vec::with_capacity(words.len());
        for (index, word) in words.iter().enumerate() {
            if word.is_empty() {
                return Err((index, TextError::Form(EMPTY_WORD)));
            }
            if word == ";" {
                return Err((index, TextError::Form(LONE_SEMICOLON)));
            }
            lines.push(quoted(word).map_err(|why| (index, why))?);
        }
        Self::lines_of(lines, 0)
    }

    /// A command of systemd: a text of ours, and words of a user that follow it. Any
    /// word will do: no generator comes between.
    pub(crate) fn command(ours: String, words: &[String]) -> Result<Self, (usize, TextError)> {
        let Self(mut lines) = Self::ours(ours).map_err(|why| (0, why))?;
        for (index, word) in words.iter().enumerate() {
            lines.push(quoted(word).map_err(|why| (index, why))?);
        }
        Self::lines_of(lines, 1)
    }

    /// One line if it fits, else as many as there are texts; `ours` of them are no
    /// words of a user.
    fn lines_of(mut lines: Vec<String>, ours: usize) -> Result<Self, (usize, TextError)> {
        let line = lines.join(" ");
        // The key, `=` and a continuation fit into what is kept free here.
        if line.len() + KEY_ROOM < LINE_LIMIT {
            return Ok(Self(vec![line]));
        }
        if let Some(index) = lines.iter().position(|l| l.len() + KEY_ROOM >= LINE_LIMIT) {
            let length = lines.get(index).map_or(0, String::len);
            let index = index.saturating_sub(ours);
            return Err((index, TextError::TooLong(length + KEY_ROOM)));
        }
        let last = lines.len().saturating_sub(1);
        for line in lines.iter_mut().take(last) {
            line.push_str(" \\");
        }
        Ok(Self(lines))
    }

    /// A JSON array of strings, in ASCII. `None` where the line would be too long.
    pub(crate) fn json(words: &[String]) -> Result<Option<Self>, (usize, TextError)> {
        if let Some(index) = words.iter().position(|w| w.contains('\0')) {
            return Err((index, TextError::Nul));
        }
        let mut text = String::from("[");
        for (index, word) in words.iter().enumerate() {
            if index > 0 {
                text.push(',');
            }
            json_string(&mut text, word);
        }
        text.push(']');
        let text = doubled(&text);
        Ok((text.len() + KEY_ROOM < LINE_LIMIT).then(|| Self(vec![text])))
    }

    /// The physical lines.
    pub(super) fn lines(&self) -> &[String] {
        &self.0
    }
}

const EMPTY_WORD: &str = "Podman drops an empty argument and all that follow it; set command as well and keep both below 2 KB";
const LONE_SEMICOLON: &str = "systemd takes an argument that is ; alone for the end of the command; set command as well and keep both below 2 KB";

/// Room for the longest key, its `=` and a continuation mark.
const KEY_ROOM: usize = 32;

/// A name that can stand anywhere in a unit: DNS labels, digests, our own.
pub(crate) fn is_name(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    !text.is_empty() && text.bytes().all(inner) && !text.starts_with('-') && !text.ends_with('-')
}

/// systemd's quoting, as Podman's generator reads and writes it again.
fn quoted(text: &str) -> Result<String, TextError> {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '\0' => return Err(TextError::Nul),
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '%' => out.push_str("%%"),
            '$' => out.push_str("$$"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if c < ' ' || c == '\x7f' => {
                let _ = write!(out, "\\x{:02x}", u32::from(c));
            }
            c if is_noncharacter(c) => return Err(TextError::Character(c)),
            c => out.push(c),
        }
    }
    out.push('"');
    Ok(out)
}

/// systemd refuses a whole unit as "not UTF-8 clean" for one of these.
fn is_noncharacter(c: char) -> bool {
    matches!(c, '\u{fdd0}'..='\u{fdef}') || u32::from(c) & 0xfffe == 0xfffe
}

/// `%` and `$` doubled, for the specifiers and variables of systemd.
fn doubled(text: &str) -> String {
    text.replace('%', "%%").replace('$', "$$")
}

fn json_string(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            ' '..='~' => out.push(c),
            c => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_as_measured_on_a_device() {
        let q = |text| quoted(text).unwrap();
        assert_eq!(q("a b"), r#""a b""#);
        assert_eq!(q("\\\"%$"), r#""\\\"%%$$""#);
        assert_eq!(q("\n\t\r\x01\x7f"), r#""\n\t\r\x01\x7f""#);
        assert_eq!(q("ü\u{2028}\u{feff}"), "\"ü\u{2028}\u{feff}\"");
        assert_eq!(quoted("a\0"), Err(TextError::Nul));
        for odd in ['\u{ffff}', '\u{fffe}', '\u{10ffff}', '\u{fdd0}'] {
            assert_eq!(quoted(&odd.to_string()), Err(TextError::Character(odd)));
        }
    }

    #[test]
    fn json_is_ascii() {
        let value = Value::json(&["sh".into(), "é😀$%\u{7f}".into(), String::new()]).unwrap();
        assert_eq!(
            value.unwrap().lines(),
            ["[\"sh\",\"\\u00e9\\ud83d\\ude00$$%%\\u007f\",\"\"]"]
        );
    }

    #[test]
    fn words_that_do_not_fit_one_line_take_one_each() {
        let words: Vec<String> = (0..3).map(|_| "x".repeat(1000)).collect();
        let value = Value::words(&words).unwrap();
        assert_eq!(value.lines().len(), 3);
        assert!(value.lines()[0].ends_with("\" \\") && value.lines()[2].ends_with('"'));
        assert!(Value::words(&["x".repeat(2100)]).is_err());
        assert_eq!(
            Value::words(&["a".into(), String::new()]),
            Err((1, TextError::Form(EMPTY_WORD)))
        );
        assert_eq!(
            Value::words(&[";".into()]),
            Err((0, TextError::Form(LONE_SEMICOLON)))
        );
        assert!(Value::words(&[";a".into(), "\\;".into()]).is_ok());
    }

    #[test]
    fn a_command_takes_any_word_and_as_many_lines_as_it_needs() {
        let value = Value::command("/bin/x -y".into(), &["".into(), ";".into(), "a\"".into()]);
        assert_eq!(value.unwrap().lines(), [r#"/bin/x -y "" ";" "a\"""#]);
        let long = ["x".repeat(1500), "y".repeat(1500)];
        let value = Value::command("/bin/x".into(), &long).unwrap();
        assert_eq!(value.lines().len(), 3);
        assert_eq!(value.lines()[0], "/bin/x \\");
        let longer = ["x".into(), "y".repeat(2100)];
        let error = Value::command("/bin/x".into(), &longer).unwrap_err();
        assert!(matches!(error, (1, TextError::TooLong(_))), "{error:?}");
    }

    #[test]
    fn fields_without_escapes_refuse_what_they_cannot_carry() {
        for bad in [
            "", "a b", "a\nb", "a%n", "a$b", "a\"", "é", "a;b", "a#b", "a\\",
        ] {
            assert!(Value::plain(bad).is_err(), "{bad:?}");
        }
        for bad in [
            "",
            "x",
            "/a\n",
            "/a\"b",
            "/a'",
            "/a\\",
            "/a ",
            "/a\u{a0}",
            "/\u{2028}b",
        ] {
            assert!(Value::path(bad).is_err(), "{bad:?}");
        }
        assert_eq!(Value::path("/a %n $x").unwrap().lines(), ["/a %%n $$x"]);
    }
}
