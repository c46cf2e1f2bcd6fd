//! What credentials are for: a registry, or a part of it.

/// How a location is compared and sorted: `host[:port][/path]` without the rest
/// of a URL. `/v1/` and `/v2/` in front of the path, which are the API's versions,
/// count for nothing (`/v1` without the slash behind it does).
///
/// `None` for what no image name can begin with.
pub(super) fn key(address: &str) -> Option<String> {
    let rest = address
        .strip_prefix("https://")
        .or_else(|| address.strip_prefix("http://"))
        .unwrap_or(address);
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let (authority, path) = split(rest);
    let host = authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host);
    if !is_host(host) || !path.bytes().all(|b| b.is_ascii_graphic() && b != b'%') {
        return None;
    }
    let path = match path.get(..4) {
        Some("/v1/" | "/v2/") => &path[3..],
        _ => path,
    };
    let path = if path == "/" { "" } else { path };
    Some(format!("{host}{path}"))
}

/// A registry's address, with `*` anywhere in its labels.
fn is_host(text: &str) -> bool {
    let (name, port) = host_and_port(text);
    let letter = |b: u8| b.is_ascii_alphanumeric() || b"-.*".contains(&b);
    !name.is_empty() && name.bytes().all(letter) && port.bytes().all(|b| b.is_ascii_digit())
}

/// Whether credentials under this key are for a repository, given in full.
pub(super) fn covers(key: &str, repository: &str) -> bool {
    let (host, path) = split(key);
    let (domain, name) = split(repository);
    let (host, port) = host_and_port(host);
    let (domain, domain_port) = host_and_port(domain);
    // Not part by part: `/team` is also for `/teamwork`.
    port == domain_port
        && name.starts_with(path)
        && host.split('.').count() == domain.split('.').count()
        && host
            .split('.')
            .zip(domain.split('.'))
            .all(|(pattern, label)| matches(pattern, label))
}

/// Host and path, which begins with its slash.
pub(super) fn split(text: &str) -> (&str, &str) {
    text.split_at(text.find('/').unwrap_or(text.len()))
}

/// An empty port is none.
fn host_and_port(text: &str) -> (&str, &str) {
    text.split_once(':').unwrap_or((text, ""))
}

/// Whether a label is of a pattern in which `*` is any text.
fn matches(pattern: &str, label: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else {
        return pattern == label;
    };
    let (middle, last) = rest.rsplit_once('*').unwrap_or(("", rest));
    let between = label
        .strip_prefix(first)
        .and_then(|label| label.strip_suffix(last));
    let Some(mut left) = between else {
        return false;
    };
    // Taking each part where it is first found leaves the most for the others.
    for part in middle.split('*') {
        let Some(at) = left.find(part) else {
            return false;
        };
        left = &left[at + part.len()..];
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn covered(address: &str, repository: &str) -> bool {
        key(address).is_some_and(|key| covers(&key, repository))
    }

    #[test]
    fn an_address_is_host_port_and_path() {
        for (address, expected) in [
            ("quay.io", "quay.io"),
            ("quay.io/", "quay.io"),
            ("https://quay.io/v1/", "quay.io"),
            ("http://quay.io/v2/", "quay.io"),
            ("https://index.docker.io/v1/", "index.docker.io"),
            ("https://index.docker.io/v1", "index.docker.io/v1"),
            ("quay.io/v2/team", "quay.io/team"),
            ("quay.io/v3/team/", "quay.io/v3/team/"),
            ("quay.io:5000/team", "quay.io:5000/team"),
            ("https://me:pw@quay.io/a?x=1#y", "quay.io/a"),
            ("*.quay.io", "*.quay.io"),
        ] {
            assert_eq!(key(address).as_deref(), Some(expected), "{address}");
        }
    }

    #[test]
    fn what_no_image_begins_with_is_no_address() {
        for bad in [
            "",
            "https://",
            "/path",
            "quay.io:port",
            "a:1:2",
            "[::1]:5000",
            "quay .io",
            "quay.io/a%20b",
            "quay.io/a b",
            "[a-z].io",
            "a\\.io",
            "ünix.io",
        ] {
            assert_eq!(key(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn hosts_are_compared_by_label_ports_whole_and_paths_by_their_beginning() {
        for (address, repository) in [
            ("*.example.io", "one.example.io/app"),
            ("one.*.io", "one.example.io/app"),
            ("one.example.*", "one.example.io/app"),
            ("*-good.example.io", "very-good.example.io/app"),
            ("*example.io", "example.io/app"),
            ("*.*.*.example.io", "a.b.c.example.io/app"),
            ("a*b*c.io", "a-b-b-c.io/app"),
            ("a*b*b*c.io", "abbc.io/app"),
            ("*.example.io/team", "one.example.io/team"),
            ("one.*.io/team", "one.example.io/team/app"),
            ("one.*.io:5000/team", "one.example.io:5000/team/app"),
            ("*.example.io:5000", "one.example.io:5000/team/app"),
            ("one.example.io:", "one.example.io/app"),
            ("https://*.example.io/v1/", "one.example.io/team/app"),
            ("https://*.example.io/v2/", "one.example.io/team/app"),
            ("one.example.io/team", "one.example.io/teamwork"),
            ("one.example.io/path:1", "one.example.io/path:1/app"),
        ] {
            assert!(covered(address, repository), "{address} {repository}");
        }
    }

    #[test]
    fn another_host_port_or_path_is_not_covered() {
        for (address, repository) in [
            ("*.example.io", "example.io/app"),
            ("*.*.example.io", "one.example.io/app"),
            ("*example.io", "one.example.io/app"),
            ("*", "example.io/app"),
            ("example.io", "example.com/app"),
            ("k*.io", "quay.io/app"),
            ("a*b*b*c.io", "abc.io/app"),
            ("ab*ba.io", "aba.io/app"),
            ("*.example.io:1234", "one.example.io:1111/app"),
            ("example.io", "example.io:5000/app"),
            ("example.io:443", "example.io/app"),
            ("example.io/team", "example.io/other"),
            ("example.io/team/", "example.io/team"),
            ("example.io/path:1111", "example.io/path/sub:1111"),
            ("Example.io", "example.io/app"),
            ("https://index.docker.io/v1/", "other.example.io/foo/bar"),
        ] {
            assert!(!covered(address, repository), "{address} {repository}");
        }
    }
}
