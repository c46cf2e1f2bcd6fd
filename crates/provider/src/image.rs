//! Image names in full, as containerd spells them. A remote may refuse short ones
//! or look for them elsewhere, and credentials are looked up by the full name.

/// Longest repository name that registries take.
const NAME_LIMIT: usize = 255;
/// Where a name without a registry is.
pub(crate) const DOCKER_HUB: &str = "docker.io";
const TAG_LIMIT: usize = 128;
/// Hex digits a digest has at least (`sha256` has 64).
const DIGEST_DIGITS: usize = 32;

/// `nginx` → `docker.io/library/nginx:latest`. With tag and digest only the
/// digest is kept: it alone decides what runs.
///
/// # Errors
/// What is wrong with the name, as a sentence.
pub fn normalized(text: &str) -> Result<String, String> {
    let name = Name::parse(text)?;
    let repository = name.repository();
    Ok(match (name.digest, name.tag) {
        (Some(digest), _) => format!("{repository}@{digest}"),
        (None, tag) => format!("{repository}:{}", tag.unwrap_or("latest")),
    })
}

/// `nginx:1` → `docker.io/library/nginx`: what credentials are looked up for.
///
/// # Errors
/// As [`normalized`].
pub fn repository(text: &str) -> Result<String, String> {
    Ok(Name::parse(text)?.repository())
}

/// A name that registries take, with what short ones leave out.
struct Name<'a> {
    domain: &'a str,
    path: String,
    tag: Option<&'a str>,
    digest: Option<&'a str>,
}

impl<'a> Name<'a> {
    fn parse(text: &'a str) -> Result<Self, String> {
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest)),
            None => (text, None),
        };
        // A colon behind the last slash is a tag's; one before it a port's.
        let slash = rest.rfind('/').map_or(0, |at| at + 1);
        let (name, tag) = match rest.get(slash..).and_then(|last| last.find(':')) {
            Some(colon) => (&rest[..slash + colon], Some(&rest[slash + colon + 1..])),
            None => (rest, None),
        };
        let (domain, path) = match name.split_once('/') {
            Some((first, path)) if is_registry(first) => (first, path.to_owned()),
            _ if name.contains('/') => (DOCKER_HUB, name.to_owned()),
            _ => (DOCKER_HUB, format!("library/{name}")),
        };
        let (domain, path) = match domain {
            DOCKER_HUB | "index.docker.io" if !path.contains('/') => {
                (DOCKER_HUB, format!("library/{path}"))
            }
            "index.docker.io" => (DOCKER_HUB, path),
            _ => (domain, path),
        };
        if !is_domain(domain) {
            return Err(format!("image {text:?}: {domain:?} is no registry address"));
        }
        if let Some(part) = path.split('/').find(|part| !is_component(part)) {
            return Err(format!(
                "image {text:?}: {part:?} is no part of a repository name (lower-case letters and digits, single separators)"
            ));
        }
        if domain.len() + 1 + path.len() > NAME_LIMIT {
            return Err(format!(
                "image {text:?}: the repository name is longer than {NAME_LIMIT} characters"
            ));
        }
        if let Some(tag) = tag.filter(|tag| !is_tag(tag)) {
            return Err(format!("image {text:?}: {tag:?} is no tag"));
        }
        if let Some(digest) = digest.filter(|digest| !is_digest(digest)) {
            return Err(format!("image {text:?}: {digest:?} is no digest"));
        }
        Ok(Self {
            domain,
            path,
            tag,
            digest,
        })
    }

    fn repository(&self) -> String {
        format!("{}/{}", self.domain, self.path)
    }
}

/// Whether the first part of a name is a registry and not a user of Docker Hub.
fn is_registry(first: &str) -> bool {
    first == "localhost"
        || first.contains(['.', ':'])
        || first.bytes().any(|b| b.is_ascii_uppercase())
}

fn is_domain(text: &str) -> bool {
    let (host, port) = match text.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    };
    let label = |label: &str| {
        !label.is_empty()
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    host.split('.').all(label)
        && port.is_none_or(|port| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()))
}

/// Runs of letters and digits, between them one `.`, `_`, `__` or any number of `-`.
fn is_component(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else {
        return false;
    };
    word(*first)
        && word(*last)
        && bytes.iter().all(|b| word(*b) || b"._-".contains(b))
        && bytes
            .split(|b| word(*b))
            .all(|gap| matches!(gap, b"" | b"." | b"_" | b"__") || gap.iter().all(|b| *b == b'-'))
}

fn is_tag(text: &str) -> bool {
    let start = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    text.len() <= TAG_LIMIT
        && text.bytes().next().is_some_and(start)
        && text.bytes().all(|b| start(b) || b == b'.' || b == b'-')
}

fn is_digest(text: &str) -> bool {
    let Some((algorithm, digits)) = text.split_once(':') else {
        return false;
    };
    let part = |part: &str| {
        part.bytes().next().is_some_and(|b| b.is_ascii_alphabetic())
            && part.bytes().all(|b| b.is_ascii_alphanumeric())
    };
    algorithm.split(['-', '_', '+', '.']).all(part)
        && digits.len() >= DIGEST_DIGITS
        && digits.bytes().all(|b| b.is_ascii_hexdigit())
        && (algorithm != "sha256" || digits.len() == 64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_completed_as_containerd_completes_them() {
        let hex = "0123456789abcdef".repeat(4);
        for (short, long) in [
            ("nginx", "docker.io/library/nginx:latest"),
            ("nginx:1.27", "docker.io/library/nginx:1.27"),
            ("team/app", "docker.io/team/app:latest"),
            ("docker.io/nginx", "docker.io/library/nginx:latest"),
            ("index.docker.io/nginx:1", "docker.io/library/nginx:1"),
            ("localhost/app:1", "localhost/app:1"),
            ("localhost:5000/x/y", "localhost:5000/x/y:latest"),
            ("127.0.0.1:5000/team/app:1", "127.0.0.1:5000/team/app:1"),
            (
                "quay.io/a-b/c__d/e--f:v1.0-rc_1",
                "quay.io/a-b/c__d/e--f:v1.0-rc_1",
            ),
            (
                &format!("nginx@sha256:{hex}"),
                &format!("docker.io/library/nginx@sha256:{hex}"),
            ),
            (
                &format!("a.b/c:1@sha256:{hex}"),
                &format!("a.b/c@sha256:{hex}"),
            ),
        ] {
            assert_eq!(normalized(short).as_deref(), Ok(long));
            let repository = repository(short).unwrap();
            assert!(
                long[repository.len()..].starts_with([':', '@']),
                "{repository}"
            );
            assert!(long.starts_with(&repository), "{repository}");
        }
    }

    #[test]
    fn what_registries_refuse_is_refused() {
        for bad in [
            "",
            " nginx",
            "nginx ",
            "Nginx",
            "a/B",
            "nginx:",
            "nginx:-x",
            "a//b",
            "/a",
            "a/",
            "nginx@",
            "nginx@sha256:12",
            "a..b",
            "a.-b",
            "a___b",
            "_a",
            "a\nImage=b",
            "nginx:1%n",
            "$A",
            "a.b:x/c",
            "[::1]:5000/a",
            "nginx:1 --privileged",
            "ünix",
            "a\"b",
            "a\\b",
            "nginx;x",
            "nginx#x",
            "nginx.build\n",
            "http://a.b/c",
        ] {
            assert!(normalized(bad).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn a_full_name_stays_as_it_is_and_is_one_plain_word(text in "[a-zA-Z0-9._:/@-]{0,40}|.*") {
            if let Ok(full) = normalized(&text) {
                prop_assert_eq!(normalized(&full), Ok(full.clone()));
                prop_assert!(full.bytes().all(|b| b.is_ascii_graphic() && !b"\"'\\%$#;".contains(&b)));
                prop_assert!(full.contains('/'));
            }
        }
    }
}
