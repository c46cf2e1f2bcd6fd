//! *Honoured* names a test; here is whether there is one.

use std::io;
use std::path::{Path, PathBuf};

/// The tests of a declaration that no Rust source below `folders` has: a
/// function of that name that is a test, or one that some source names once
/// more, as the checks of a suite are.
///
/// # Errors
/// A folder or a file cannot be read.
pub fn missing_tests(
    declaration: &super::Declaration,
    folders: &[&Path],
) -> io::Result<Vec<&'static str>> {
    let mut left: Vec<PathBuf> = folders.iter().map(|f| f.to_path_buf()).collect();
    let mut sources = Vec::new();
    while let Some(path) = left.pop() {
        if path.is_dir() {
            for entry in std::fs::read_dir(&path)? {
                left.push(entry?.path());
            }
        } else if path.extension().is_some_and(|e| e == "rs") {
            sources.push(std::fs::read_to_string(&path)?);
        }
    }
    let mut missing: Vec<_> = declaration.tests().collect();
    missing.sort_unstable();
    missing.dedup();
    missing.retain(|name| !is_test(&sources, name));
    Ok(missing)
}

fn is_test(sources: &[String], name: &str) -> bool {
    let function = format!("fn {name}(");
    let Some(before) = sources
        .iter()
        .find_map(|s| Some(s.split_once(&function)?.0))
    else {
        return false;
    };
    let attributes = before
        .lines()
        .rev()
        // The line of the function itself, as far as it stands before its `fn`.
        .skip(usize::from(!before.ends_with('\n')))
        .take_while(|line| line.trim_start().starts_with("#["));
    let marked = attributes
        .into_iter()
        .any(|line| line.contains("test]") || line.contains("test("));
    let listed = format!("{name},");
    marked || sources.iter().any(|source| source.contains(&listed))
}

#[cfg(test)]
mod tests {
    use super::is_test;

    #[test]
    fn a_test_is_marked_or_listed_in_a_suite() {
        let rain = |sources: &[&str]| {
            let sources: Vec<String> = sources.iter().map(|s| (*s).into()).collect();
            is_test(&sources, "rain")
        };
        assert!(rain(&["#[test]\nfn rain() {}"]));
        assert!(rain(&[
            "    #[tokio::test(start_paused = true)]\n    async fn rain() {}"
        ]));
        let check = "pub async fn rain(w: &World) {}";
        assert!(rain(&[check, "suite!(sun, rain,);"]), "in another file");
        assert!(!rain(&[check, "suite!(sun,);"]));
        assert!(!rain(&["#[test]\nfn sun() {}\nfn rain() {}"]));
        assert!(!rain(&["// rain"]));
    }
}
