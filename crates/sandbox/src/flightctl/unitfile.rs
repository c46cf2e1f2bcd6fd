//! Unit files as Flight Control's parser reads them.

/// A physical line must be shorter than this, in bytes.
const MAX_LINE: usize = 2048;

/// A parsed unit file; keys may repeat, their order stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct UnitFile {
    pub(crate) sections: Vec<(String, Vec<(String, String)>)>,
}

impl UnitFile {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut file = Self::default();
        let mut lines = text.split('\n');
        while let Some(line) = lines.next() {
            if line.len() >= MAX_LINE {
                return Err(format!("line too long (max {MAX_LINE} bytes)"));
            }
            let trimmed = line.trim();
            if trimmed.is_empty() || trimmed.starts_with(['#', ';']) {
                continue;
            }
            if let Some(name) = trimmed.strip_prefix('[') {
                let Some(name) = name.strip_suffix(']') else {
                    return Err("unable to find end of section".into());
                };
                file.sections.push((name.into(), Vec::new()));
                continue;
            }
            let Some((key, value)) = line.split_once('=') else {
                return Err("unexpected newline encountered while parsing option name".into());
            };
            let mut value = value.trim().to_owned();
            while let Some(joined) = value.strip_suffix('\\') {
                let Some(next) = lines.next() else {
                    break;
                };
                if next.len() >= MAX_LINE {
                    return Err(format!("line too long (max {MAX_LINE} bytes)"));
                }
                value = format!("{} {}", joined.trim_end(), next.trim());
            }
            match file.sections.last_mut() {
                Some((_, entries)) => entries.push((key.trim().into(), value)),
                None => file
                    .sections
                    .push((String::new(), vec![(key.trim().into(), value)])),
            }
        }
        Ok(file)
    }

    /// An entry more, at the end of a section.
    pub(crate) fn add(&mut self, section: &str, key: &str, value: &str) {
        let entry = (key.to_owned(), value.to_owned());
        match self.sections.iter_mut().find(|(name, _)| name == section) {
            Some((_, entries)) => entries.push(entry),
            None => self.sections.push((section.to_owned(), vec![entry])),
        }
    }

    /// As Flight Control's agent writes it.
    pub(crate) fn text(&self) -> String {
        let sections = self.sections.iter().map(|(name, entries)| {
            let entries = entries
                .iter()
                .map(|(key, value)| format!("{key}={value}\n"));
            format!("[{name}]\n{}", entries.collect::<String>())
        });
        sections.collect::<Vec<_>>().join("\n")
    }

    pub(crate) fn has(&self, section: &str) -> bool {
        self.sections.iter().any(|(name, _)| name == section)
    }

    /// All values of a key, in order.
    pub(crate) fn all<'a>(
        &'a self,
        section: &'a str,
        key: &'a str,
    ) -> impl Iterator<Item = &'a str> {
        self.sections
            .iter()
            .filter(move |(name, _)| name == section)
            .flat_map(|(_, entries)| entries)
            .filter(move |(name, _)| name == key)
            .map(|(_, value)| value.as_str())
    }

    /// The value in force: the last one.
    pub(crate) fn last<'a>(&'a self, section: &'a str, key: &'a str) -> Option<&'a str> {
        self.all(section, key).last()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_repeat_comments_go_and_continued_lines_join_with_a_blank() {
        let text =
            "# note\n[Container]\nImage=a\nEnvironment=A=1\nEnvironment=B=2\nExec=one \\\n  two\n";
        let file = UnitFile::parse(text).unwrap();
        assert_eq!(file.last("Container", "Image"), Some("a"));
        let env: Vec<&str> = file.all("Container", "Environment").collect();
        assert_eq!(env, ["A=1", "B=2"]);
        assert_eq!(file.last("Container", "Exec"), Some("one two"));
    }

    #[test]
    fn a_line_of_2047_bytes_is_the_longest() {
        let line = |bytes: usize| format!("[Container]\nA={}\n", "x".repeat(bytes - 2));
        assert!(UnitFile::parse(&line(2047)).is_ok());
        assert!(UnitFile::parse(&line(2048)).is_err());
    }
}
