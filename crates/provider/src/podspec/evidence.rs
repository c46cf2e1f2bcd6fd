//! *Honoured* names a test; here is whether there is one.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// The tests of a declaration that no Rust source below `folders` has: a
/// function of that name that is a test, or one that is named once more in its
/// file, as the checks of a suite are.
///
/// # Errors
/// A folder or a file cannot be read.
pub fn missing_tests(
    declaration: &super::Declaration,
    folders: &[&Path],
) -> io::Result<Vec<&'static str>> {
    let mut wanted: BTreeMap<&'static str, ()> = declaration.tests().map(|t| (t, ())).collect();
    let mut left: Vec<PathBuf> = folders.iter().map(|f| f.to_path_buf()).collect();
    while let Some(path) = left.pop() {
        if path.is_dir() {
            for entry in std::fs::read_dir(&path)? {
                left.push(entry?.path());
            }
        } else if path.extension().is_some_and(|e| e == "rs") {
            let text = std::fs::read_to_string(&path)?;
            wanted.retain(|name, ()| !is_test(&text, name));
        }
    }
    Ok(wanted.into_keys().collect())
}

fn is_test(text: &str, name: &str) -> bool {
    let Some(place) = text.find(&format!("fn {name}(")) else {
        return false;
    };
    let (before, after) = text.split_at(place);
    let attributes = before
        .lines()
        .rev()
        // The line of the function itself, as far as it stands before its `fn`.
        .skip(usize::from(!before.ends_with('\n')))
        .take_while(|line| line.trim_start().starts_with("#["));
    let marked = attributes
        .into_iter()
        .any(|line| line.contains("test]") || line.contains("test("));
    let named_again = format!("{name},");
    marked || before.contains(&named_again) || after.contains(&named_again)
}

#[cfg(test)]
mod tests {
    use super::is_test;

    #[test]
    fn a_test_is_marked_or_listed_in_a_suite() {
        assert!(is_test("#[test]\nfn rain() {}", "rain"));
        assert!(is_test(
            "    #[tokio::test(start_paused = true)]\n    async fn rain() {}",
            "rain"
        ));
        assert!(is_test(
            "pub async fn rain(w: &World) {}\nsuite!(sun, rain,);",
            "rain"
        ));
        assert!(!is_test("#[test]\nfn sun() {}\nfn rain() {}", "rain"));
        assert!(!is_test("// rain", "rain"));
    }
}
