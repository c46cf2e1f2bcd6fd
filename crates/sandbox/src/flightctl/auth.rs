//! Tokens, roles and organizations.

use std::collections::BTreeMap;
use std::time::Duration;

use http::{HeaderMap, Method, StatusCode, header};
use serde_json::{Value, json};

use super::Organization;
use super::list::Query;
use super::reply::{API_VERSION, Refusal};

/// How long the service takes to refuse an expired token: it tries to refresh
/// its keys first, and that times out.
pub(crate) const EXPIRED_ANSWER_AFTER: Duration = Duration::from_secs(10);

/// What a token allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Reads.
    Viewer,
    /// Reads, writes devices and fleets, stops and starts applications.
    Operator,
    /// All of that, and decommissions.
    OrgAdmin,
    /// The same, for all organizations.
    Admin,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    Valid(Role),
    Expired,
}

/// The tokens the service knows.
#[derive(Debug)]
pub(crate) struct Tokens {
    known: BTreeMap<String, Token>,
    /// No token was configured: any that is not known otherwise is an admin's.
    open: bool,
}

/// What becomes of a request's credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Allowed(Role),
    Refused(Refusal),
    /// Refused, but only after [`EXPIRED_ANSWER_AFTER`].
    RefusedLate,
}

impl Tokens {
    pub(crate) fn new(token: Option<&str>) -> Self {
        let known = token.map(|token| (token.to_owned(), Token::Valid(Role::Admin)));
        Self {
            known: known.into_iter().collect(),
            open: token.is_none(),
        }
    }

    pub(crate) fn accept(&mut self, token: &str, role: Role) {
        self.known.insert(token.into(), Token::Valid(role));
    }

    pub(crate) fn expire(&mut self, token: &str) {
        self.known.insert(token.into(), Token::Expired);
    }

    pub(crate) fn judge(&self, headers: &HeaderMap) -> Verdict {
        let token = headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.strip_prefix("Bearer "))
            .map(str::trim)
            .filter(|token| !token.is_empty());
        let Some(token) = token else {
            return Verdict::Refused(Refusal::bad_request("failed to get auth token"));
        };
        match self.known.get(token) {
            Some(Token::Valid(role)) => Verdict::Allowed(*role),
            Some(Token::Expired) => Verdict::RefusedLate,
            None if self.open => Verdict::Allowed(Role::Admin),
            // A JWT signed by an unknown key is treated like an expired one.
            None if token.split('.').count() == 3 => Verdict::RefusedLate,
            None => Verdict::Refused(Refusal::unauthorized()),
        }
    }
}

/// The least role for a request.
pub(crate) fn needed(method: &Method, path: &[&str]) -> Role {
    if let ["devices", _, "console"] = path {
        return Role::Operator;
    }
    if method == Method::GET {
        return Role::Viewer;
    }
    match path {
        ["devices", _, "decommission" | "status"] => Role::OrgAdmin,
        _ => Role::Operator,
    }
}

/// Checks `org_id`.
pub(crate) fn organization(query: &Query, organizations: &[Organization]) -> Result<(), Refusal> {
    let Some(id) = query.get("org_id").filter(|id| !id.is_empty()) else {
        if organizations.len() > 1 {
            return Err(Refusal::bad_request(
                "organization ID is required: user belongs to multiple organizations",
            ));
        }
        return Ok(());
    };
    if !is_uuid(id) {
        return Err(Refusal::bad_request("invalid organization ID format"));
    }
    match organizations.iter().position(|one| one.id == id) {
        None => Err(Refusal::new(
            StatusCode::FORBIDDEN,
            "access denied to organization",
        )),
        Some(0) => Ok(()),
        Some(_) => Err(Refusal::not_implemented(
            "devices of any organization but the first",
        )),
    }
}

fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.char_indices().all(|(at, c)| match at {
            8 | 13 | 18 | 23 => c == '-',
            _ => c.is_ascii_hexdigit(),
        })
}

/// `GET /organizations`.
pub(crate) fn organizations(organizations: &[Organization]) -> Value {
    let items: Vec<Value> = organizations
        .iter()
        .map(|one| {
            json!({
                "apiVersion": API_VERSION,
                "kind": "Organization",
                "metadata": {"name": one.id},
                "spec": {"displayName": one.display_name, "externalId": one.external_id},
            })
        })
        .collect();
    json!({
        "apiVersion": API_VERSION,
        "kind": "OrganizationList",
        "metadata": {},
        "items": items,
    })
}

/// What an operator may do with devices and fleets.
const WRITES: [&str; 6] = ["create", "delete", "get", "list", "patch", "update"];

/// `GET /auth/permissions`: as far as the sandbox has what is listed
/// (internal/auth/authz/static.go).
pub(crate) fn permissions(role: Role) -> Value {
    let read = json!({"operations": ["get", "list"], "resource": "*"});
    let list = match role {
        // An empty list denies what the one for all would allow.
        Role::Viewer => vec![
            read,
            json!({"operations": [], "resource": "devices/console"}),
        ],
        Role::Operator => vec![
            read,
            json!({"operations": WRITES, "resource": "devices"}),
            json!({"operations": WRITES, "resource": "fleets"}),
        ],
        Role::OrgAdmin | Role::Admin => vec![json!({"operations": ["*"], "resource": "*"})],
    };
    json!({"permissions": list})
}
