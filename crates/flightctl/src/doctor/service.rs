//! What Flight Control answers, and what that means: pure.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::check::Check;
use crate::client::{ClientError, Greeting, Organization};

/// Clocks this far apart are told of. Tokens are judged by both: issuers commonly
/// allow for a minute, and what is at hand of a Date is the second.
const SKEW: SignedDuration = SignedDuration::from_secs(5);

/// What to do where the first answers were good and a later one was not.
const AGAIN: &str =
    "run doctor again; if it stays so, look at Flight Control's own log (flightctl-api)";

/// A failed call, with what the error itself says to do about it, or else this.
pub(super) fn failed(name: &'static str, error: &ClientError, remedy: &str) -> Check {
    let text = error.to_string();
    let (said, remedy) = text.rsplit_once("; ").unwrap_or((&text, remedy));
    Check::problem(name, said, remedy)
}

pub(super) fn reached(base: &str, greeting: &Greeting) -> Check {
    let version = &greeting.version;
    Check::ok("reachable", format!("Flight Control {version} at {base}"))
}

/// `now` is when the answer came.
pub(super) fn clocks(greeting: &Greeting, now: Timestamp) -> Check {
    const NAME: &str = "clocks";
    let Some(date) = greeting.date else {
        return Check::warning(
            NAME,
            "Flight Control's answer has no Date",
            "have what stands in front of it pass that header on; until then compare the clocks yourself",
        );
    };
    // The Date is of some moment of the request, with its fraction of a second cut.
    let uncertain = greeting.took + Duration::from_secs(1);
    let uncertain = SignedDuration::try_from(uncertain).unwrap_or(SignedDuration::MAX);
    let apart = now.duration_since(date);
    if apart.abs() <= uncertain.saturating_add(SKEW) {
        return Check::ok(NAME, "this machine's and Flight Control's agree");
    }
    let which = if apart.is_negative() {
        "behind"
    } else {
        "ahead of"
    };
    Check::warning(
        NAME,
        format!(
            "this machine's is {} s {which} Flight Control's",
            apart.abs().as_secs()
        ),
        "set both by NTP: tokens are taken for expired or for not yet good",
    )
}

pub(super) fn version(answer: Result<(), ClientError>) -> Check {
    const NAME: &str = "API version";
    match answer {
        Ok(()) => Check::ok(NAME, "v1beta1"),
        Err(ClientError::Server {
            status: 406,
            message,
            ..
        }) => Check::problem(
            NAME,
            format!("Flight Control has no v1beta1 ({message})"),
            "use a release of vk-flightctl-provider that speaks what it has",
        ),
        Err(error) => failed(NAME, &error, AGAIN),
    }
}

/// Whether what is asked is asked of an organization that is the user's.
pub(super) fn organization(asked: Option<&str>, mine: &[Organization]) -> Check {
    const NAME: &str = "organization";
    let all = mine.iter().map(|one| format!("{} ({})", one.id, one.name));
    let all = all.collect::<Vec<_>>().join(", ");
    match (asked, mine) {
        (_, []) => Check::problem(
            NAME,
            "this user belongs to none",
            "give the user an organization: organizationAssignment of Flight Control's AuthProvider",
        ),
        (Some(id), _) => match mine.iter().find(|one| one.id == id) {
            Some(one) => Check::ok(NAME, format!("{} ({})", one.id, one.name)),
            None => Check::problem(
                NAME,
                format!("{id} is none of this user's: {all}"),
                "write one of them as flightctl.organization",
            ),
        },
        (None, [one]) => Check::ok(NAME, format!("{} ({}), the only one", one.id, one.name)),
        (None, _) => Check::problem(
            NAME,
            format!("this user belongs to several, and none is named: {all}"),
            "write one of them as flightctl.organization",
        ),
    }
}

/// What was tried, and whether it may be done.
pub(super) fn right<T>(name: &'static str, what: &str, answer: &Result<T, ClientError>) -> Check {
    match answer {
        Ok(_) => Check::ok(name, what),
        Err(error @ ClientError::Forbidden { .. }) => Check::problem(
            name,
            error.to_string(),
            "give the token's user the role flightctl-operator in this organization",
        ),
        Err(error) => failed(name, error, AGAIN),
    }
}

/// The console of devices, where the configuration enables it.
pub(super) fn console(answer: &Result<bool, ClientError>) -> Check {
    const NAME: &str = "consoles";
    match answer {
        Ok(true) => Check::ok(NAME, "may be opened, for kubectl logs and exec"),
        Ok(false) => Check::problem(
            NAME,
            "console.enabled, and this user may not open any",
            "give the user get on devices/console (the role flightctl-operator has it), or leave console.enabled out",
        ),
        Err(error) => failed(NAME, error, AGAIN),
    }
}
