//! What becomes of every field of a pod on a device, and its table.

#![allow(clippy::unwrap_used, reason = "one test")]

use std::path::Path;

use vk_flightctl::mapping::POD_SPEC;
use vk_provider::podspec::{missing_tests, table};

#[test]
fn every_field_is_declared_and_what_is_honoured_is_tested() {
    assert_eq!(POD_SPEC.problems(), [""; 0]);
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let folders = [
        "flightctl/src",
        "flightctl/tests",
        "kubelet/src",
        "kubelet/tests",
    ]
    .map(|folder| crates.join(folder));
    let folders: Vec<&Path> = folders.iter().map(|f| f.as_path()).collect();
    assert_eq!(missing_tests(&POD_SPEC, &folders).unwrap(), [""; 0]);
}

const INTRODUCTION: &str = "\
# Every field of a pod, by backend

Written from the backends' declarations (`UPDATE_DOCS=1 cargo test -p vk-flightctl --test podspec`);
a test fails when it is stale. The fields are those of the API server's OpenAPI document, recorded
in `crates/provider/src/podspec/fields.txt` and compared with a real API server by `make test-real`.

- **honoured**: it takes effect; the test observes that.
- **refused**: a pod that sets it becomes `Failed` with reason `Unsupported`, and the message names
  the path. A pod of a DaemonSet stays `Pending` with the same words. `\"\"`, `[]`, `{}` and the
  values named behind *but for* say nothing and pass. An ephemeral container cannot be there when a
  pod is admitted: refusing it does not end the pod that it is added to.
- **no meaning**: there is nothing on such a node for it to act on; accepted silently.
- A field that a backend does not declare is refused.

A line stands for a field and all below it; a field of which some parts are treated differently from
others stands as its parts only. What a backend refuses beyond single fields (a name that is none, a
mount without its volume) is on its own page: [Flight Control](flight-control-mapping.md).

`pods/resize` is no field but the subresource that changes the resources of a running pod.

Fields that only a newer Kubernetes than 1.36 knows are dropped while a pod is read: they are
neither honoured nor refused. Upgrade the provider before you use them.

";

#[test]
fn the_table_in_the_documentation_is_what_the_backends_declare() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/podspec.md");
    let text = format!("{INTRODUCTION}{}", table(&[("Flight Control", &POD_SPEC)]));
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == text,
        "docs/podspec.md is stale: UPDATE_DOCS=1 cargo test -p vk-flightctl --test podspec"
    );
}
