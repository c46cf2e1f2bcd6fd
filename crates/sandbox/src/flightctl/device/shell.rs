//! The few commands that generated units run around their containers: marker
//! files are made, looked for and removed.

use std::collections::BTreeSet;

/// What a unit's command is run with.
#[derive(Debug)]
pub(crate) struct Shell<'a> {
    /// Marker files of the device, absolute.
    pub(crate) files: &'a mut BTreeSet<String>,
    /// Folders that were made.
    pub(crate) folders: &'a mut Vec<String>,
    pub(crate) service_result: &'a str,
    pub(crate) exit_status: i32,
    /// Services that were told to stop.
    pub(crate) stops: Vec<String>,
}

/// Expands the specifiers of a unit of the system manager.
pub(crate) fn path(text: &str) -> String {
    text.replace("%E", "/etc")
        .replace("%t", "/run")
        .replace("%%", "%")
}

/// Whether all `ConditionPathExists=` hold.
pub(crate) fn conditions_hold(conditions: &[String], files: &BTreeSet<String>) -> bool {
    conditions
        .iter()
        .all(|condition| match condition.strip_prefix('!') {
            Some(absent) => !files.contains(&path(absent)),
            None => files.contains(&path(condition)),
        })
}

impl Shell<'_> {
    /// Runs one `Exec…=` line.
    pub(crate) fn exec(&mut self, line: &str) {
        let line = path(line).replace("$$", "$");
        let words = words(line.trim_start_matches('-'));
        match words.split_first() {
            Some((shell, rest)) if shell.ends_with("/sh") => {
                if let [_, script, ..] = rest {
                    let tokens = tokens(script);
                    self.statements(&tokens, 0, true);
                }
            }
            _ => self.command(&words),
        }
    }

    fn command(&mut self, words: &[String]) {
        let Some((program, rest)) = words.split_first() else {
            return;
        };
        let operands = || rest.iter().filter(|word| !word.starts_with('-'));
        match program.rsplit('/').next().unwrap_or_default() {
            "touch" => self.files.extend(operands().cloned()),
            "mkdir" => self.folders.extend(operands().cloned()),
            "rm" => operands().for_each(|file| {
                self.files.remove(file);
            }),
            ":" => {
                if let [arrow, file, ..] = rest
                    && arrow == ">"
                {
                    self.files.insert(file.clone());
                }
            }
            "systemctl" => {
                let mut operands = operands();
                if operands.next().map(String::as_str) == Some("stop") {
                    self.stops.extend(operands.cloned());
                }
            }
            _ => {}
        }
    }

    /// Runs statements up to `fi`, `else` or the end; answers where it stopped.
    fn statements(&mut self, tokens: &[String], mut at: usize, run: bool) -> usize {
        while let Some(token) = tokens.get(at) {
            match token.as_str() {
                "fi" | "else" => return at,
                ";" => at += 1,
                "if" => {
                    let then = position(tokens, at, "then");
                    let holds = run && self.condition(&tokens[at + 1..then]);
                    at = self.statements(tokens, then + 1, holds);
                    if tokens.get(at).map(String::as_str) == Some("else") {
                        at = self.statements(tokens, at + 1, run && !holds);
                    }
                    at += 1;
                }
                _ => {
                    let end = position(tokens, at, ";");
                    if run {
                        self.command(&tokens[at..end]);
                    }
                    at = end;
                }
            }
        }
        at
    }

    fn condition(&self, tokens: &[String]) -> bool {
        tokens
            .split(|token| token == "&&" || token == ";")
            .filter(|test| !test.is_empty())
            .all(|test| {
                let words: Vec<String> = test
                    .iter()
                    .filter(|word| !matches!(word.as_str(), "[" | "]"))
                    .map(|word| self.expand(word))
                    .collect();
                let words: Vec<&str> = words.iter().map(String::as_str).collect();
                match words.as_slice() {
                    ["-e", file] => self.files.contains(*file),
                    ["!", "-e", file] => !self.files.contains(*file),
                    [a, "=", b] => a == b,
                    [a, "!=", b] => a != b,
                    _ => false,
                }
            })
    }

    fn expand(&self, word: &str) -> String {
        match word {
            "$SERVICE_RESULT" => self.service_result.to_owned(),
            "$EXIT_STATUS" => self.exit_status.to_string(),
            other => other.to_owned(),
        }
    }
}

fn position(tokens: &[String], from: usize, what: &str) -> usize {
    tokens[from..]
        .iter()
        .position(|token| token == what)
        .map_or(tokens.len(), |offset| from + offset)
}

/// Words with quotes taken off.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for c in line.chars() {
        match (quote, c) {
            (Some(q), c) if c == q => quote = None,
            (None, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// Words, with `;` as a word of its own.
fn tokens(script: &str) -> Vec<String> {
    words(&script.replace(';', " ; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(line: &str, files: &[&str], result: &str, code: i32) -> (Vec<String>, Vec<String>) {
        let mut files = files.iter().map(|file| (*file).to_owned()).collect();
        let mut folders = Vec::new();
        let mut shell = Shell {
            files: &mut files,
            folders: &mut folders,
            service_result: result,
            exit_status: code,
            stops: Vec::new(),
        };
        shell.exec(line);
        let stops = shell.stops;
        (files.into_iter().collect(), stops)
    }

    #[test]
    fn the_marker_of_a_success_is_written_on_success_only() {
        let line = r#"/bin/sh -c 'if [ "$$SERVICE_RESULT" = success ] && [ "$$EXIT_STATUS" = 0 ]; then : > %t/x.i1; fi'"#;
        assert_eq!(run(line, &[], "success", 0).0, ["/run/x.i1"]);
        assert!(run(line, &[], "exit-code", 3).0.is_empty());
    }

    #[test]
    fn the_last_container_to_end_stops_the_pod() {
        let line = r#"/bin/sh -c 'if [ "$$SERVICE_RESULT" = success ] && [ "$$EXIT_STATUS" = 0 ]; then : > /m/.a.done; if [ -e /m/.a.done ] && [ -e /m/.b.done ]; then : > /m/.pod.done; systemctl stop --no-block ID-p-pod.service; fi; fi'"#;
        let (files, stops) = run(line, &[], "success", 0);
        assert_eq!((files.len(), stops.len()), (1, 0));
        let (files, stops) = run(line, &["/m/.b.done"], "success", 0);
        assert_eq!(files.len(), 3);
        assert_eq!(stops, ["ID-p-pod.service"]);
        assert!(
            run("/bin/rm -f %t/a %t/b", &["/run/a", "/run/b"], "", 0)
                .0
                .is_empty()
        );
    }
}
