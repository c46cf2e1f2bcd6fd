//! What is asked and answered, and never stored: who a token is (in `tokens`),
//! who the client is, and what one or the other may do.

use serde_json::{Value, json};

use super::resource::{
    Resource, SELF_SUBJECT_ACCESS_REVIEWS, SELF_SUBJECT_REVIEWS, SUBJECT_ACCESS_REVIEWS,
    TOKEN_REVIEWS,
};
use super::rights::{GROUPS, USER};
use super::status::{ApiError, FieldError};
use super::{Cluster, object};

/// Who is nobody, and may do nothing.
const ANONYMOUS: &str = "system:anonymous";

impl Cluster {
    /// Answers a review with its status.
    pub(crate) fn review(
        &self,
        resource: &'static Resource,
        review: Value,
    ) -> Result<Value, ApiError> {
        match resource.kind {
            kind if kind == TOKEN_REVIEWS.kind => self.review_token(review),
            kind if kind == SUBJECT_ACCESS_REVIEWS.kind => {
                self.review_access(&SUBJECT_ACCESS_REVIEWS, review)
            }
            kind if kind == SELF_SUBJECT_ACCESS_REVIEWS.kind => {
                self.review_access(&SELF_SUBJECT_ACCESS_REVIEWS, review)
            }
            _ => {
                let mut review = SELF_SUBJECT_REVIEWS.normalise(review)?;
                review["status"] = json!({"userInfo": {"username": USER, "groups": GROUPS}});
                Ok(review)
            }
        }
    }

    /// Everybody who is known may do what was not forbidden.
    fn review_access(&self, resource: &'static Resource, review: Value) -> Result<Value, ApiError> {
        let mut review = resource.normalise(review)?;
        let spec = &review["spec"];
        let named = resource.kind == SUBJECT_ACCESS_REVIEWS.kind;
        let errors = incomplete(spec, named);
        if !errors.is_empty() {
            return Err(ApiError::invalid(resource, "", &errors));
        }
        let asked = |at: &str| object::text(spec, &format!("/resourceAttributes/{at}"));
        let what = match (asked("resource"), asked("subresource")) {
            (what, "") => what.to_owned(),
            (what, sub) => format!("{what}/{sub}"),
        };
        let namespace = Some(asked("namespace")).filter(|ns| !ns.is_empty());
        let known = object::text(spec, "/user") != ANONYMOUS;
        let allowed = known && !self.denies(asked("verb"), &what, namespace);
        review["status"] = json!({"allowed": allowed});
        Ok(review)
    }
}

/// What a review does not say, in the real server's words.
fn incomplete(spec: &Value, named: bool) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let absent = |field: &str| spec.get(field).is_none_or(Value::is_null);
    match (
        absent("resourceAttributes"),
        absent("nonResourceAttributes"),
    ) {
        (false, false) => {
            let why = "cannot be specified in combination with resourceAttributes";
            let given = &spec["nonResourceAttributes"];
            errors.push(FieldError::invalid(
                "spec.nonResourceAttributes",
                given,
                why,
            ));
        }
        (true, true) => {
            let why =
                "exactly one of nonResourceAttributes or resourceAttributes must be specified";
            let given = &spec["resourceAttributes"];
            errors.push(FieldError::invalid("spec.resourceAttributes", given, why));
        }
        _ => {}
    }
    let nobody =
        object::text(spec, "/user").is_empty() && object::items(spec, "/groups").is_empty();
    if named && nobody {
        let why = "at least one of user or group must be specified";
        errors.push(FieldError::invalid("spec.user", &json!(""), why));
    }
    errors
}
