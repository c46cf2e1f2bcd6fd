//! What the service checks in the quadlets of an inline application. Unknown
//! keys and sections pass: the device's generator is the judge of those.

use std::collections::BTreeMap;

use super::unitfile::UnitFile;
use super::validate::Place;

const SUPPORTED: [(&str, &str); 6] = [
    ("Container", "container"),
    ("Volume", "volume"),
    ("Network", "network"),
    ("Image", "image"),
    ("Pod", "pod"),
    ("Kube", "kube"),
];
const UNSUPPORTED: [(&str, &str); 2] = [("Build", "build"), ("Artifact", "artifact")];

const DOMAIN: &str = "(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])";
const PART: &str = "[a-z0-9]+(?:(?:(?:[._]|__|[-]*)[a-z0-9]+)+)?";
const TAG: &str = "[\\w][\\w.-]{0,127}";
const DIGEST: &str = "[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*[:][[:xdigit:]]{32,}";

fn extension(path: &str) -> &str {
    path.rsplit_once('.').map_or("", |(_, extension)| extension)
}

/// A file that is parsed as a unit.
pub(crate) fn is_unit(path: &str) -> bool {
    SUPPORTED
        .iter()
        .chain(&UNSUPPORTED)
        .any(|(_, known)| *known == extension(path))
}

/// Checks the paths of an application and the texts of its units.
pub(crate) fn check(
    paths: &[&str],
    units: &[(&str, String)],
    place: Place,
    errors: &mut Vec<String>,
) {
    let mut files = BTreeMap::new();
    for (path, text) in units {
        match UnitFile::parse(text) {
            Err(why) => errors.push(format!("parse quadlet spec \"{path}\": {why}")),
            Ok(file) => match unit_type(&file) {
                Err(why) => errors.push(format!("parse quadlet spec \"{path}\": {why}")),
                Ok(section) => {
                    unit(path, section, &file, place, errors);
                    files.insert(*path, (section, file));
                }
            },
        }
    }
    check_paths(paths, errors);
    for (path, (_, file)) in &files {
        for reference in references(file) {
            if !files.contains_key(reference.as_str()) {
                errors.push(format!(
                    "quadlet file \"{path}\" references \"{reference}\" which is not defined in the application"
                ));
            }
        }
    }
    let mut names: BTreeMap<(&str, &str), &str> = BTreeMap::new();
    for (path, (section, file)) in &files {
        let key = match *section {
            "Container" => "ContainerName",
            "Volume" => "VolumeName",
            "Network" => "NetworkName",
            "Pod" => "PodName",
            _ => continue,
        };
        let Some(name) = file.last(section, key).filter(|name| !name.is_empty()) else {
            continue;
        };
        if let Some(first) = names.insert((key, name), path) {
            errors.push(format!(
                "duplicate {key} \"{name}\" found in {first} and {path}"
            ));
        }
    }
}

fn check_paths(paths: &[&str], errors: &mut Vec<String>) {
    if paths.is_empty() {
        errors.push("no paths provided".into());
        return;
    }
    let mut supported = false;
    let mut workload = false;
    for path in paths {
        let extension = extension(path);
        if SUPPORTED.iter().any(|(_, known)| *known == extension) {
            if path.contains('/') {
                errors.push(format!("quadlet file must be at root level: \"{path}\""));
            }
            supported = true;
            workload |= matches!(extension, "container" | "kube");
        } else if UNSUPPORTED.iter().any(|(_, known)| *known == extension) {
            errors.push(format!(
                "unsupported quadlet type \".{extension}\" in path: {path}"
            ));
        }
    }
    if !supported {
        errors.push("no supported quadlet types supplied".into());
    }
    if !workload {
        errors.push("at least one quadlet workload must be supplied".into());
    }
}

fn unit_type(file: &UnitFile) -> Result<&'static str, String> {
    if let Some((section, _)) = UNSUPPORTED.iter().find(|(section, _)| file.has(section)) {
        return Err(format!("unsupported quadlet type: type: {section}"));
    }
    let mut found = SUPPORTED.iter().filter(|(section, _)| file.has(section));
    match (found.next(), found.next()) {
        (None, _) => Err("non quadlet type".into()),
        (Some(_), Some(_)) => Err("multiple quadlet type sections found".into()),
        (Some((section, _)), None) => Ok(section),
    }
}

fn unit(path: &str, section: &str, file: &UnitFile, place: Place, errors: &mut Vec<String>) {
    let kind = section.to_ascii_lowercase();
    let extension = extension(path);
    if kind != extension {
        errors.push(format!(
            "quadlet type \"{kind}\" does not match file extension \".{extension}\" (expected \".{kind}\")"
        ));
    }
    let image = file.last(section, "Image");
    match (section, image) {
        ("Container" | "Image", None) => {
            errors.push(format!(".{kind} quadlet must have an Image key"));
        }
        ("Container" | "Image" | "Volume", Some(image)) => {
            if image.ends_with(".build") {
                errors.push(format!(".build quadlet types are unsupported: {image}"));
            } else if !image.ends_with(".image") && !is_image(image, place) {
                errors.push(format!(
                    "{kind}.image: Invalid value: \"{image}\": Invalidpattern (e.g. 'quay.io/flightctl/flightctl:latest', regex used for validation is '({DOMAIN}(?:[.]{DOMAIN})*(?::[0-9]+)?\\/{PART}(?:\\/{PART})*)(?:\\:({TAG}))?(?:\\@({DIGEST}))?')"
                ));
            }
        }
        _ => {}
    }
}

fn references(file: &UnitFile) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let mut add = |value: &str, extension: &str| {
        if value.ends_with(extension) {
            found.push(value.to_owned());
        }
    };
    for section in ["Container", "Volume", "Pod"] {
        for image in file.all(section, "Image") {
            add(image, ".image");
        }
        for volume in file.all(section, "Volume") {
            add(volume.split(':').next().unwrap_or_default(), ".volume");
        }
        for network in file.all(section, "Network") {
            add(network.split(':').next().unwrap_or_default(), ".network");
        }
        for pod in file.all(section, "Pod") {
            add(pod, ".pod");
        }
        for mount in file.all(section, "Mount") {
            for part in mount.split(',') {
                let source = part.strip_prefix("source=").or(part.strip_prefix("src="));
                add(source.unwrap_or_default(), ".volume");
            }
        }
    }
    found
}

/// The strict reference: with a registry, or something that looks like one.
/// In a template the tag alone may hold parameters.
fn is_image(image: &str, place: Place) -> bool {
    let (name, digest) = match image.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (image, None),
    };
    let digest_ok = digest.is_none_or(|digest| {
        digest.split_once(':').is_some_and(|(algorithm, hex)| {
            algorithm.starts_with(|c: char| c.is_ascii_alphabetic())
                && hex.len() >= 32
                && hex.bytes().all(|byte| byte.is_ascii_hexdigit())
        })
    });
    let Some((domain, path)) = name.split_once('/') else {
        return false;
    };
    let (path, tag) = match path.split_once(':') {
        Some((path, tag)) => (path, Some(tag)),
        None => (path, None),
    };
    let tag_ok = tag.is_none_or(|tag| {
        if place == Place::Template && tag.starts_with("{{") {
            return tag.ends_with("}}");
        }
        let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        (1..=128).contains(&tag.len())
            && tag.starts_with(word)
            && tag.chars().all(|c| word(c) || ".-".contains(c))
    });
    digest_ok && tag_ok && is_domain(domain) && path.split('/').all(is_path_part)
}

fn is_domain(domain: &str) -> bool {
    let (host, port) = match domain.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (domain, None),
    };
    port.is_none_or(|port| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()))
        && host.split('.').all(|label| {
            !label.is_empty()
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        })
}

fn is_path_part(part: &str) -> bool {
    let alnum = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    if !part.starts_with(alnum) || !part.ends_with(alnum) {
        return false;
    }
    part.split(alnum)
        .filter(|separator| !separator.is_empty())
        .all(|separator| {
            matches!(separator, "." | "_" | "__") || separator.bytes().all(|byte| byte == b'-')
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_images_and_upper_case_paths_are_refused() {
        for (image, ok) in [
            ("nginx", false),
            ("nginx:1.27", false),
            ("library/nginx:1", true),
            ("localhost:5000/x/y:1", true),
            ("docker.io/library/Nginx:1", false),
            (
                "docker.io/library/nginx@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
                true,
            ),
            ("docker.io/a__b/c-d.e:1_2", true),
            ("docker.io/a..b", false),
            ("quay.io/x:", false),
        ] {
            assert_eq!(is_image(image, Place::Device), ok, "{image}");
        }
        assert!(is_image(
            "quay.io/x:{{ .metadata.labels.tag }}",
            Place::Template
        ));
        assert!(!is_image("{{ .metadata.labels.img }}", Place::Template));
    }
}
