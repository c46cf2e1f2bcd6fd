//! Paths that cannot leave where they belong.
//!
//! The rules are the kubelet's on Linux and on Windows together: a backslash is
//! part of a name, as on Linux, but nothing passes that would climb or begin at
//! a root if it separated, whatever the system that lays the files out thinks.

/// What a file system takes, and the kubelet.
const MAX_NAME: usize = 255;
/// As above, for the whole.
const MAX_PATH: usize = 4096;

/// The path of a file inside its volume, cleaned.
///
/// # Errors
/// The path is not one of a file that a volume of files can have; in the
/// kubelet's words.
pub(super) fn file_path(raw: &str) -> Result<String, String> {
    let cleaned = descend(raw).map_err(|why| format!("invalid path: {why}"))?;
    if cleaned.starts_with("..") {
        return Err(format!("invalid path: must not start with '..': {raw}"));
    }
    if cleaned.is_empty() {
        return Err(format!("invalid path: must not be empty: {raw:?}"));
    }
    Ok(cleaned)
}

/// The path inside a volume that is mounted in its place, cleaned; `None` is
/// the volume itself. `reserved`: names that begin with `..` are the kubelet's
/// own there, and not part of what is laid out.
///
/// # Errors
/// The path leaves the volume; in the kubelet's words.
pub(super) fn sub_path(raw: &str, reserved: bool) -> Result<Option<String>, String> {
    if raw.is_empty() {
        return Ok(None);
    }
    if raw.starts_with(['/', '\\']) {
        return Err(format!(
            "error SubPath `{raw}` must not be an absolute path"
        ));
    }
    let fault = |why: String| format!("unable to provision SubPath `{raw}`: {why}");
    if climbs(raw) {
        return Err(fault("must not contain '..'".into()));
    }
    let cleaned = descend(raw).map_err(fault)?;
    if reserved && cleaned.starts_with("..") {
        return Err(fault("must not start with '..'".into()));
    }
    Ok(Some(cleaned).filter(|path| !path.is_empty()))
}

/// Where a volume appears in a container: absolute and cleaned.
///
/// # Errors
/// The path is none, or leaves the container's root.
pub(super) fn mount_path(raw: &str) -> Result<String, String> {
    let invalid = || format!("invalid container mount point {raw}");
    if raw.is_empty() || raw.contains('\0') || raw.len() > MAX_PATH {
        return Err(invalid());
    }
    let mut names: Vec<&str> = Vec::new();
    for name in raw.split('/') {
        match name {
            "" | "." => {}
            ".." => {
                let had_parent = names.pop().is_some();
                // At the root there is nothing above; a relative path climbs out.
                if !had_parent && !raw.starts_with('/') {
                    return Err(invalid());
                }
            }
            name if climbs(name) => return Err(invalid()),
            name => names.push(name),
        }
    }
    Ok(format!("/{}", names.join("/")))
}

/// A relative path that only goes down, without what says nothing.
fn descend(raw: &str) -> Result<String, String> {
    if raw.is_empty() {
        return Err(format!("must not be empty: {raw:?}"));
    }
    if raw.starts_with(['/', '\\']) {
        return Err(format!("must be relative path: {raw}"));
    }
    if raw.contains('\0') {
        return Err("must not contain a NUL".into());
    }
    if raw.len() > MAX_PATH {
        return Err(format!(
            "must be less than or equal to {MAX_PATH} characters"
        ));
    }
    if climbs(raw) {
        return Err(format!("must not contain '..': {raw}"));
    }
    let names: Vec<&str> = raw
        .split('/')
        .filter(|name| !matches!(*name, "" | "."))
        .collect();
    if names.iter().any(|name| name.len() > MAX_NAME) {
        return Err(format!(
            "filenames must be less than or equal to {MAX_NAME} characters"
        ));
    }
    let cleaned = names.join("/");
    // `./\x` begins at a root once it is cleaned, `.\` names nothing.
    let names_nothing = !cleaned.is_empty()
        && cleaned
            .split(['/', '\\'])
            .all(|name| matches!(name, "" | "."));
    if cleaned.starts_with('\\') || names_nothing {
        return Err(format!("must be relative path: {raw}"));
    }
    Ok(cleaned)
}

fn climbs(raw: &str) -> bool {
    raw.split(['/', '\\']).any(|name| name == "..")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn paths_of_files_are_judged_as_the_kubelets_writer_judges_them() {
        for (raw, cleaned) in [
            ("a", "a"),
            ("a/b.c/d", "a/b.c/d"),
            ("a//b/./c/", "a/b/c"),
            ("a/..b", "a/..b"),
            ("a\\b", "a\\b"),
            (".hidden", ".hidden"),
        ] {
            assert_eq!(file_path(raw).as_deref(), Ok(cleaned), "{raw}");
        }
        let long = "n".repeat(256);
        let deep = "d/".repeat(2049);
        for (raw, words) in [
            ("", "invalid path: must not be empty: \"\""),
            (".", "invalid path: must not be empty: \".\""),
            ("/a", "invalid path: must be relative path: /a"),
            ("\\a", "invalid path: must be relative path: \\a"),
            ("./\\a", "invalid path: must be relative path: ./\\a"),
            ("..", "invalid path: must not contain '..': .."),
            ("a/../b", "invalid path: must not contain '..': a/../b"),
            (
                "a\\..\\..",
                "invalid path: must not contain '..': a\\..\\..",
            ),
            (".\\", "invalid path: must be relative path: .\\"),
            ("...", "invalid path: must not start with '..': ..."),
            ("..data", "invalid path: must not start with '..': ..data"),
            (
                "./..data",
                "invalid path: must not start with '..': ./..data",
            ),
            (
                "..2026/x",
                "invalid path: must not start with '..': ..2026/x",
            ),
            ("a\0b", "invalid path: must not contain a NUL"),
            (
                &long,
                "invalid path: filenames must be less than or equal to 255 characters",
            ),
            (
                &deep,
                "invalid path: must be less than or equal to 4096 characters",
            ),
        ] {
            assert_eq!(file_path(raw), Err(words.into()), "{raw}");
        }
    }

    #[test]
    fn sub_paths_are_judged_as_the_kubelet_judges_them() {
        let fine = |path: &str| Ok(Some(path.to_owned()));
        assert_eq!(sub_path("", true), Ok(None));
        assert_eq!(sub_path("./", true), Ok(None));
        assert_eq!(sub_path("a/./b/", true), fine("a/b"));
        assert_eq!(sub_path("..work", false), fine("..work"));
        let wrong = |raw: &str| sub_path(raw, true).unwrap_err();
        assert_eq!(
            wrong("/a"),
            "error SubPath `/a` must not be an absolute path"
        );
        assert_eq!(
            wrong("a/../../b"),
            "unable to provision SubPath `a/../../b`: must not contain '..'"
        );
        assert!(wrong("..data/key").ends_with("must not start with '..'"));
        assert!(wrong("a\0").ends_with("must not contain a NUL"));
    }

    #[test]
    fn mount_paths_are_made_absolute_and_stay_below_the_root() {
        for (raw, path) in [
            ("/etc/config", "/etc/config"),
            ("etc/config/", "/etc/config"),
            ("/a/../../b", "/b"),
            ("a/../b", "/b"),
            ("/", "/"),
        ] {
            assert_eq!(mount_path(raw).as_deref(), Ok(path), "{raw}");
        }
        for raw in ["", "..", "../a", "a/../../b", "/a\0b", "/a\\..\\..\\b"] {
            assert!(mount_path(raw).is_err(), "{raw:?}");
        }
    }

    /// Walks a path under either separator; `None` once it has left.
    fn walk(path: &str, separators: &[char]) -> Option<Vec<String>> {
        let mut at = Vec::new();
        for name in path.split(separators) {
            match name {
                "" | "." => {}
                ".." => {
                    at.pop()?;
                }
                name => at.push(name.to_owned()),
            }
        }
        Some(at)
    }

    fn crafted() -> impl Strategy<Value = String> {
        let part = prop_oneof![
            Just("..".to_owned()),
            Just(".".to_owned()),
            Just("/".to_owned()),
            Just("\\".to_owned()),
            Just("\0".to_owned()),
            Just("..data".to_owned()),
            Just("a".to_owned()),
            "[.a/\\\\]{0,4}",
        ];
        proptest::collection::vec(part, 0..8).prop_map(|parts| parts.concat())
    }

    proptest! {
        #[test]
        fn no_path_of_a_file_or_sub_path_leaves_its_volume(raw in crafted()) {
            let passed = [file_path(&raw).ok(), sub_path(&raw, false).ok().flatten()];
            for path in passed.into_iter().flatten() {
                prop_assert!(!path.starts_with(['/', '\\']) && !path.contains('\0'), "{}", path);
                for separators in [&['/'][..], &['/', '\\'][..]] {
                    let walked = walk(&path, separators);
                    prop_assert!(walked.is_some_and(|at| !at.is_empty()), "{}", path);
                }
            }
        }

        #[test]
        fn no_file_takes_a_name_that_the_atomic_swap_needs(raw in crafted()) {
            if let Ok(path) = file_path(&raw) {
                prop_assert!(!path.starts_with(".."), "{}", path);
            }
        }

        #[test]
        fn what_passed_once_is_clean(raw in crafted()) {
            if let Ok(path) = file_path(&raw) {
                prop_assert_eq!(file_path(&path), Ok(path));
            }
            if let Ok(path) = mount_path(&raw) {
                prop_assert_eq!(mount_path(&path), Ok(path));
            }
        }

        #[test]
        fn no_mount_path_leaves_the_root_of_its_container(raw in crafted()) {
            if let Ok(path) = mount_path(&raw) {
                prop_assert!(path.starts_with('/') && !path.contains('\0'), "{}", path);
                for separators in [&['/'][..], &['/', '\\'][..]] {
                    prop_assert!(walk(&path, separators).is_some(), "{}", path);
                }
            }
        }

        #[test]
        fn any_text_is_judged_without_panic(raw in ".*") {
            let _ = (file_path(&raw), sub_path(&raw, true), mount_path(&raw));
        }
    }
}
