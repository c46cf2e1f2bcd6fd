//! Unit files and command lines as `systemd.syntax(7)` and `systemd.service(5)`
//! describe them.

/// Section, key and value of every assignment, in order.
pub(crate) type Unit = Vec<(String, String, String)>;

/// Reads a unit file: continuation lines are joined by a blank, comments dropped.
pub(crate) fn unit(text: &str) -> Unit {
    let mut unit = Vec::new();
    let mut section = String::new();
    let mut pending = String::new();
    for line in text.split('\n') {
        let start = line.trim_start();
        if start.starts_with('#')
            || start.starts_with(';')
            || (start.is_empty() && pending.is_empty())
        {
            continue;
        }
        if let Some(part) = line.strip_suffix('\\') {
            pending.push_str(part);
            pending.push(' ');
            continue;
        }
        let whole = std::mem::take(&mut pending) + line;
        if let Some(name) = whole
            .strip_prefix('[')
            .and_then(|w| w.trim_end().strip_suffix(']'))
        {
            section = name.to_owned();
            continue;
        }
        let (key, value) = whole
            .split_once('=')
            .unwrap_or_else(|| panic!("no assignment: {whole:?}"));
        unit.push((
            section.clone(),
            key.trim().to_owned(),
            value.trim().to_owned(),
        ));
    }
    unit
}

/// The last value of a key.
#[allow(dead_code, reason = "the judge uses only part of this module")]
pub(crate) fn value<'a>(unit: &'a Unit, section: &str, key: &str) -> Option<&'a str> {
    unit.iter()
        .rev()
        .find(|(s, k, _)| s == section && k == key)
        .map(|(_, _, v)| v.as_str())
}

/// `%%` and `$$` undone; a single one would be a specifier or a variable.
#[allow(dead_code, reason = "the judge uses only part of this module")]
pub(crate) fn undoubled(text: &str) -> String {
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if matches!(c, '%' | '$') {
            assert_eq!(chars.next(), Some(c), "a live {c} in {text:?}");
        }
        out.push(c);
    }
    out
}

/// Words of a command line, unquoted, C escapes and doubled signs undone.
pub(crate) fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<Vec<u8>> = None;
    let mut quote = None;
    // Whether the word so far is exactly what is written: a bare `;` is no word.
    let mut bare = true;
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match (c, quote) {
            (' ' | '\t' | '\n' | '\r', None) => {
                assert!(
                    !bare || word.as_deref() != Some(b";"),
                    "a live ; in {line:?}"
                );
                bare = true;
                words.extend(word.take());
            }
            ('"' | '\'', None) => {
                bare = false;
                quote = Some(c);
                word.get_or_insert_default();
            }
            (c, Some(q)) if c == q => quote = None,
            ('\\', _) => {
                bare = false;
                let out = word.get_or_insert_default();
                let escape = chars.next().expect("an escape is complete");
                let hex = |digits: usize, chars: &mut dyn Iterator<Item = char>| {
                    let text: String = chars.take(digits).collect();
                    u32::from_str_radix(&text, 16)
                        .unwrap_or_else(|_| panic!("escape {text:?} in {line:?}"))
                };
                match escape {
                    'a' => out.push(7),
                    'b' => out.push(8),
                    'f' => out.push(12),
                    'n' => out.push(b'\n'),
                    'r' => out.push(b'\r'),
                    't' => out.push(b'\t'),
                    'v' => out.push(11),
                    's' => out.push(b' '),
                    '\\' | '"' | '\'' => out.push(escape as u8),
                    'x' => {
                        out.push(u8::try_from(hex(2, &mut chars)).expect("two digits are a byte"))
                    }
                    'u' | 'U' => {
                        let digits = if escape == 'u' { 4 } else { 8 };
                        let c = char::from_u32(hex(digits, &mut chars)).expect("a character");
                        out.extend(c.encode_utf8(&mut [0; 4]).bytes());
                    }
                    other => panic!("systemd knows no escape \\{other}: {line:?}"),
                }
            }
            ('%' | '$', _) => {
                assert_eq!(chars.next(), Some(c), "a live {c} in {line:?}");
                word.get_or_insert_default().push(c as u8);
            }
            (c, _) => word
                .get_or_insert_default()
                .extend(c.encode_utf8(&mut [0; 4]).bytes()),
        }
    }
    assert_eq!(quote, None, "an open quote in {line:?}");
    assert!(
        !bare || word.as_deref() != Some(b";"),
        "a live ; in {line:?}"
    );
    words.extend(word);
    words
        .into_iter()
        .map(|w| String::from_utf8(w).expect("UTF-8"))
        .collect()
}
