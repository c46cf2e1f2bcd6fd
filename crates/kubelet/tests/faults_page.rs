//! `docs/faults.md` names tests that exist.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Text of all Rust sources under a folder.
fn sources(folder: &Path, text: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, text);
        } else if path.extension().is_some_and(|e| e == "rs") {
            text.push_str(&fs::read_to_string(path).unwrap());
        }
    }
}

/// The last cell of each row of the tables whose last column names tests.
fn last_cells(page: &str) -> Vec<&str> {
    let tables = page.split("\n\n").filter(|part| part.starts_with("| "));
    let of_tests = tables.filter(|table| {
        let heads = table.lines().next().unwrap_or_default();
        heads.ends_with("| test |")
    });
    let rows = of_tests.flat_map(|table| table.lines().skip(2));
    let cells = rows.filter_map(|row| row.trim_end_matches([' ', '|']).rsplit(" | ").next());
    cells.collect()
}

#[test]
fn every_row_of_the_page_of_faults_names_tests_that_exist() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let page = fs::read_to_string(crates.join("../docs/faults.md")).unwrap();
    let mut code = String::new();
    sources(&crates, &mut code);
    let cells = last_cells(&page);
    assert!(cells.len() > 60, "the tables are there");
    let mut missing = BTreeSet::new();
    for cell in cells {
        let names: Vec<&str> = cell.split('`').skip(1).step_by(2).collect();
        assert!(!names.is_empty(), "a row without a test: {cell}");
        missing.extend(
            names
                .into_iter()
                .filter(|name| !code.contains(&format!("fn {name}("))),
        );
    }
    assert!(missing.is_empty(), "no such tests: {missing:#?}");
}
