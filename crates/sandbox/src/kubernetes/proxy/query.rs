//! Query parameters, as the API server's codec reads them
//! (apimachinery `runtime/conversion.go`).

use axum::extract::Query as Decoded;
use http::Uri;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::kubernetes::status::ApiError;

/// Decoded names and values, in order.
#[derive(Debug)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    pub(super) fn of(uri: &Uri) -> Result<Self, ApiError> {
        let Decoded(pairs) =
            Decoded::try_from_uri(uri).map_err(|error| ApiError::bad_request(error.body_text()))?;
        Ok(Self(pairs))
    }

    /// All values of a name.
    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let named = self.0.iter().filter(move |(n, _)| n == name);
        named.map(|(_, value)| value.as_str())
    }

    /// The first value, which is the one that counts; none where it is empty.
    pub(super) fn text<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        self.all(name).next().filter(|text| !text.is_empty())
    }

    /// Anything but nothing, `0` and `false` is a yes.
    pub(super) fn flag(&self, name: &str) -> bool {
        let value = self.all(name).next();
        value.is_some_and(|v| v != "0" && !v.eq_ignore_ascii_case("false"))
    }

    pub(super) fn number(&self, name: &str) -> Result<Option<i64>, ApiError> {
        let number = |text: &str| text.parse().map_err(|_| not_a_number(text));
        self.all(name).next().map(number).transpose()
    }
}

/// In the words of Go's `strconv`.
pub(super) fn not_a_number(text: &str) -> ApiError {
    ApiError::bad_request(format!(
        "strconv.ParseInt: parsing {text:?}: invalid syntax"
    ))
}

/// `path` with these parameters.
pub(super) fn target<'a>(path: &str, query: impl IntoIterator<Item = (&'a str, String)>) -> String {
    let mut target = path.to_owned();
    for (name, value) in query {
        target.push(if target.contains('?') { '&' } else { '?' });
        target.push_str(name);
        target.push('=');
        target.extend(utf8_percent_encode(&value, NON_ALPHANUMERIC));
    }
    target
}
