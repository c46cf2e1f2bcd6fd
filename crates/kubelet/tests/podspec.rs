//! The record of a pod's fields against a real API server, and the declaration
//! of the in-memory backend.

#![allow(
    unreachable_pub,
    missing_debug_implementations,
    dead_code,
    unused_macros,
    clippy::unwrap_used,
    reason = "modules of one test"
)]

#[path = "../../../tests/real/harness/mod.rs"]
mod harness;
#[path = "suite/memory.rs"]
mod memory;
#[path = "podspec/openapi.rs"]
mod openapi;

use std::collections::BTreeSet;
use std::path::Path;

use harness::control_plane::ControlPlane;
use vk_provider::podspec::{FIELDS, missing_tests};

/// The record, as the tests write it when asked to.
const RECORD: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../provider/src/podspec/fields.txt"
);

#[test]
fn real_api_server_has_the_fields_that_are_recorded() {
    let Some(tools) = harness::tools() else {
        return;
    };
    let plane = ControlPlane::start(&tools);
    let document = plane.ok(&["get", "--raw", "/openapi/v3/api/v1"]);
    let fields = openapi::pod_spec(&serde_json::from_str(&document).unwrap());
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(RECORD, fields.join("\n") + "\n").unwrap();
        return;
    }
    let there: BTreeSet<&str> = fields.iter().map(String::as_str).collect();
    let recorded: BTreeSet<&str> = FIELDS.lines().collect();
    let new: Vec<_> = there.difference(&recorded).collect();
    let vanished: Vec<_> = recorded.difference(&there).collect();
    assert!(
        new.is_empty() && vanished.is_empty(),
        "new fields: {new:#?}\nvanished fields: {vanished:#?}\nDeclare them; UPDATE_DOCS=1 records them."
    );
    println!("{} fields of a pod's spec, as recorded", fields.len());
}

#[test]
fn the_in_memory_backend_declares_every_field_and_its_tests_exist() {
    assert_eq!(memory::POD_SPEC.problems(), [""; 0]);
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let missing = missing_tests(&memory::POD_SPEC, &[&tests]).unwrap();
    assert_eq!(missing, [""; 0]);
}
