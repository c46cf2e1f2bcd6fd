//! Variables: in the unit, or in a file that the device's agent keeps for their
//! container alone.
//!
//! A unit and all other files of an application can be read by everyone on the
//! device, and whoever may list its processes' files. What comes from a Secret is
//! therefore in the file, mode 0600, and so is what no line of a unit can carry.

use k8s_openapi::api::core::v1::Container;
use vk_provider::environment::{EnvVar, Origin};
use vk_provider::podspec::Refusal;
use vk_provider::{BackendError, RenderError};
use zeroize::Zeroizing;

use super::shape::Part;
use crate::quadlet::{Key, TextError, Unit, Value};

/// Podman reads the file line by line and gives up at a longer one (Go's
/// `bufio.MaxScanTokenSize`, less the newline).
const FILE_LINE_LIMIT: usize = 64 * 1024 - 1;

const CARRIAGE_RETURN: &str =
    "it holds a carriage return before a newline, which Podman drops; use newlines alone";
/// Behind what is wrong with a value that has to go into the file.
const REMEDY: &str = "mount it as a file";

/// Writes the variables of a container into its unit.
///
/// What it returns is the text of the file; empty if there is none.
pub(super) fn write(part: &Part<'_>, unit: &mut Unit) -> Result<Zeroizing<String>, BackendError> {
    let variables = part.given.environment.variables();
    // Room for all of them: a text that grew would leave copies behind.
    let lines = variables.iter().map(|v| v.name.len() + v.value.len() + 2);
    let mut file = Zeroizing::new(String::with_capacity(lines.sum()));
    for variable in variables {
        let refused = |why: String| refuse(part, variable, why);
        check_name(&variable.name).map_err(|why| refused(why.into()))?;
        if variable.origin < Origin::Secret {
            match line(variable).and_then(|value| unit.set(Key::Environment, value)) {
                Ok(()) => continue,
                Err(TextError::TooLong(_)) if file_line(variable).is_ok() => {}
                Err(why) => return Err(refused(why.to_string())),
            }
        }
        let line = file_line(variable).map_err(|why| refused(format!("{why}; {REMEDY}")))?;
        file.push_str(&line);
        file.push('\n');
    }
    Ok(file)
}

/// A value of a unit.
fn line(variable: &EnvVar) -> Result<Value, TextError> {
    if variable.value.contains("\r\n") {
        return Err(TextError::Form(CARRIAGE_RETURN));
    }
    Value::assignment(&variable.name, &variable.value)
}

/// A line of the file: nothing in it is quoted or escaped, so that some texts
/// cannot be in it.
fn file_line(variable: &EnvVar) -> Result<Zeroizing<String>, String> {
    let EnvVar { name, value, .. } = variable;
    if name.starts_with('#') {
        return Err("a name that begins with # makes its line a comment".into());
    }
    if let Some(odd) = value.chars().find(|c| matches!(c, '\n' | '\0')) {
        return Err(format!("it holds {odd:?}, which a line cannot carry"));
    }
    if value.ends_with('\r') {
        return Err("it ends in a carriage return, which Podman drops".into());
    }
    let line = Zeroizing::new([name, "=", value].concat());
    if line.len() > FILE_LINE_LIMIT {
        let length = line.len();
        return Err(format!(
            "it is {length} bytes with its name, and Podman reads {FILE_LINE_LIMIT}"
        ));
    }
    Ok(line)
}

/// A variable that cannot be: never, if the pod says so itself; otherwise as long
/// as an object is what it is.
fn refuse(part: &Part<'_>, variable: &EnvVar, why: String) -> BackendError {
    let path = path(part.container, &part.path, &variable.name);
    given(part, variable.origin, Refusal::new(path, why))
}

/// The refusal of a text of this origin.
pub(super) fn given(part: &Part<'_>, origin: Origin, refusal: Refusal) -> BackendError {
    match origin {
        Origin::Pod => refusal.into(),
        Origin::Object | Origin::Secret => BackendError::Inputs(RenderError::Container {
            name: part.name().to_owned(),
            why: format!("{}: {}", refusal.path, refusal.message),
        }),
    }
}

/// Where the pod says what a variable is.
fn path(container: &Container, path: &str, name: &str) -> String {
    let declared = container.env.iter().flatten();
    let declared = declared.enumerate().filter(|(_, env)| env.name == name);
    match declared.last() {
        Some((index, env)) if env.value_from.is_some() => format!("{path}.env[{index}].valueFrom"),
        Some((index, _)) => format!("{path}.env[{index}].value"),
        None => format!("{path}.envFrom ({name})"),
    }
}

/// Kubernetes takes every printable ASCII character but `=`; Podman trims blanks.
pub(super) fn check_name(name: &str) -> Result<(), &'static str> {
    if name.is_empty() {
        return Err("it is empty");
    }
    if name.bytes().all(|b| b.is_ascii_graphic() && b != b'=') {
        Ok(())
    } else {
        Err("Podman takes printable ASCII characters other than blanks and = in a name")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn variable(name: &str, value: &str) -> EnvVar {
        EnvVar {
            name: name.into(),
            value: value.into(),
            origin: Origin::Secret,
        }
    }

    /// What Podman 5.4 makes of a file: lines as Go's scanner cuts them, blanks
    /// before a name and comments gone, a name up to the first `=`.
    fn podman(file: &str) -> Vec<(String, String)> {
        let lines = file.split('\n').map(|l| l.strip_suffix('\r').unwrap_or(l));
        lines
            .map(|line| line.trim_start_matches([' ', '\t', '\r', '\n']))
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .map(|line| line.split_once('=').expect("an assignment"))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect()
    }

    #[test]
    fn what_a_line_of_the_file_cannot_carry_is_named() {
        for (name, value, why) in [
            ("A", "a\nb", "'\\n'"),
            ("A", "a\r", "carriage return"),
            ("#A", "a", "comment"),
            ("A", &*"x".repeat(70_000), "65535"),
        ] {
            let error = file_line(&variable(name, value)).unwrap_err();
            assert!(error.contains(why), "{error}");
            assert!(!error.contains("xx"), "{error}");
        }
        let longest = "x".repeat(FILE_LINE_LIMIT - 2);
        assert!(file_line(&variable("A", &longest)).is_ok());
    }

    proptest! {
        #[test]
        fn podman_reads_what_was_written(
            all in prop::collection::vec(("[!-<>-~]{1,8}", "(?s)[ \t\r\"'\\\\$%#=a-c\u{0}-\u{20}é\u{2028}]{0,12}"), 1..4)
        ) {
            let mut file = String::new();
            let mut expected = Vec::new();
            for (name, value) in all {
                if let Ok(line) = file_line(&variable(&name, &value)) {
                    file.push_str(&line);
                    file.push('\n');
                    expected.push((name, value));
                }
            }
            prop_assert_eq!(podman(&file), expected);
        }
    }
}
