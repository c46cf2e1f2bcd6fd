//! Query parameters, paging and continue tokens.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::Uri;
use serde_json::{Value, json};

use super::reply::Refusal;

/// Most objects of one list answer, as in the service.
const MAX_LIMIT: i64 = 1000;

/// A request's query; unknown parameters are carried and ignored.
#[derive(Debug, Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub(crate) fn of(uri: &Uri) -> Result<Self, Refusal> {
        axum::extract::Query::<Vec<(String, String)>>::try_from_uri(uri)
            .map(|query| Self(query.0))
            .map_err(|error| Refusal::bad_request(format!("API Error: {error}")))
    }

    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(name, _)| name == key)
            .map(|(_, value)| value.as_str())
    }
}

/// Which part of a list is asked for.
#[derive(Debug)]
pub(crate) struct Page {
    limit: usize,
    from: Option<Vec<String>>,
}

impl Page {
    pub(crate) fn parse(query: &Query) -> Result<Self, Refusal> {
        let limit = match query.get("limit").filter(|text| !text.is_empty()) {
            None => 0,
            Some(text) => text.parse::<i64>().map_err(|_| {
                out_of_range(&format!("value {text}: an invalid integer: invalid syntax"))
            })?,
        };
        if limit < 0 {
            return Err(out_of_range("number must be at least 0"));
        }
        if limit > MAX_LIMIT {
            return Err(out_of_range("number must be at most 1000"));
        }
        let limit = if limit == 0 { MAX_LIMIT } else { limit };
        let from = query
            .get("continue")
            .filter(|token| !token.is_empty())
            .map(decode)
            .transpose()?;
        Ok(Self {
            limit: usize::try_from(limit).unwrap_or(usize::MAX),
            from,
        })
    }

    /// The page's items of a sorted list, and the list's metadata. `key` is
    /// what a token names: the first object of the next page.
    pub(crate) fn cut<'a, T>(
        &self,
        sorted: &'a [T],
        key: impl Fn(&T) -> Vec<String>,
    ) -> (&'a [T], Value) {
        let start = match &self.from {
            None => 0,
            // Gone meanwhile: what follows it, in an ascending list.
            Some(from) => sorted
                .iter()
                .position(|item| key(item) == *from)
                .or_else(|| sorted.iter().position(|item| key(item) > *from))
                .unwrap_or(sorted.len()),
        };
        let end = sorted.len().min(start.saturating_add(self.limit));
        let items = &sorted[start..end];
        let metadata = match sorted.get(end) {
            None => json!({}),
            Some(next) => {
                let left = sorted.len() - end;
                json!({"continue": encode(&key(next), left), "remainingItemCount": left})
            }
        };
        (items, metadata)
    }
}

fn out_of_range(what: &str) -> Refusal {
    Refusal::bad_request(format!(
        "API Error: parameter \"limit\" in query has an error: {what}"
    ))
}

fn encode(names: &[String], count: usize) -> String {
    STANDARD.encode(json!({"Version": 1, "Names": names, "Count": count}).to_string())
}

fn decode(token: &str) -> Result<Vec<String>, Refusal> {
    let bad =
        |why: String| Refusal::bad_request(format!("failed to parse continue parameter: {why}"));
    let bytes = STANDARD.decode(token).map_err(|e| bad(e.to_string()))?;
    let value: Value = serde_json::from_slice(&bytes).map_err(|e| bad(e.to_string()))?;
    let names = value["Names"]
        .as_array()
        .ok_or_else(|| bad("no names".into()))?;
    Ok(names
        .iter()
        .filter_map(|name| name.as_str().map(ToOwned::to_owned))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(query: &str) -> Result<Page, Refusal> {
        let uri: Uri = format!("/x?{query}").parse().unwrap();
        Page::parse(&Query::of(&uri)?)
    }

    #[test]
    fn a_token_names_the_first_object_of_the_next_page() {
        let names = ["a", "b", "c", "d", "e"];
        let key = |name: &&str| vec![(*name).to_owned()];
        let (first, metadata) = page("limit=2").unwrap().cut(&names, key);
        assert_eq!(first, ["a", "b"]);
        assert_eq!(metadata["remainingItemCount"], 3);
        let token = metadata["continue"].as_str().unwrap().replace('=', "%3D");
        assert_eq!(
            decode(metadata["continue"].as_str().unwrap()).unwrap(),
            ["c"]
        );
        let rest = page(&format!("limit=3&continue={token}")).unwrap();
        let (rest, metadata) = rest.cut(&names, key);
        assert_eq!(rest, ["c", "d", "e"]);
        assert_eq!(metadata, json!({}));
    }

    #[test]
    fn limits_outside_the_range_and_bad_tokens_are_refused() {
        assert!(page("limit=1001").is_err());
        assert!(page("limit=-1").is_err());
        assert!(page("limit=0").is_ok());
        let refusal = page("continue=zzz").unwrap_err();
        assert!(
            refusal
                .message
                .starts_with("failed to parse continue parameter: ")
        );
    }
}
