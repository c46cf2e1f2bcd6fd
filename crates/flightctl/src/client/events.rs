//! Reading the event log on from a point: the end of a listing has no token, so
//! the time of the newest event is the cursor, with some overlap.

use std::collections::{BTreeMap, BTreeSet};

use http::Method;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::{Client, ClientError, PAGE, encode, items};

/// Several processes of the service write events: one may be late by this.
const OVERLAP: SignedDuration = SignedDuration::from_secs(5);
/// Pages read in one call. What is beyond them is read by the next call, so that
/// a flood cannot use up the request budget at once.
const PAGES: usize = 10;

/// Where the reading of events stands.
#[derive(Debug, Default)]
pub struct EventCursor {
    since: Option<Timestamp>,
    /// Events of the overlap that were told already.
    told: BTreeMap<String, Timestamp>,
    /// Where the last call left a listing that was longer than it reads.
    rest: Option<String>,
}

impl Client {
    /// Names of the devices that events since the cursor are about. The first
    /// call only finds the end of the log.
    ///
    /// # Errors
    /// See [`ClientError`]; the cursor stays where it was.
    pub async fn devices_in_events(
        &self,
        cursor: &mut EventCursor,
    ) -> Result<BTreeSet<String>, ClientError> {
        let Some(since) = cursor.since else {
            let page = self
                .call(
                    "events",
                    Method::GET,
                    "/events?limit=1&order=desc",
                    None,
                    "events",
                )
                .await?;
            let newest = items(&page, "events")?.iter().filter_map(time).max();
            cursor.since = newest.or(Some(Timestamp::UNIX_EPOCH));
            return Ok(BTreeSet::new());
        };
        let from = since.saturating_sub(OVERLAP).unwrap_or(since);
        let selector = format!("involvedObject.kind=Device,metadata.creationTimestamp>={from}");
        let path = format!(
            "/events?order=asc&limit={PAGE}&fieldSelector={}",
            encode(&selector)
        );
        let (mut newest, mut names) = (since, BTreeSet::new());
        // What a longer listing has told already is told only once, too.
        let mut told = match cursor.rest {
            Some(_) => cursor.told.clone(),
            None => BTreeMap::new(),
        };
        let mut rest = cursor.rest.take();
        for _ in 0..PAGES {
            let page_path = match &rest {
                Some(token) => format!("{path}&continue={token}"),
                None => path.clone(),
            };
            let page = self
                .call("events", Method::GET, &page_path, None, "events")
                .await?;
            for event in items(&page, "events")? {
                let (Some(id), Some(at)) = (event["metadata"]["name"].as_str(), time(event)) else {
                    continue;
                };
                newest = newest.max(at);
                told.insert(id.to_owned(), at);
                if !cursor.told.contains_key(id)
                    && let Some(device) = event["involvedObject"]["name"].as_str()
                {
                    names.insert(device.to_owned());
                }
            }
            rest = super::next_page(&page).map(encode);
            if rest.is_none() {
                break;
            }
        }
        // Only what the next call reads again has to be known then.
        let again = newest.saturating_sub(OVERLAP).unwrap_or(newest);
        told.retain(|_, at| *at >= again);
        if rest.is_some() {
            // More than one call reads, perhaps all of one moment: the next one
            // goes on here, from the same time.
            *cursor = EventCursor {
                since: Some(since),
                told,
                rest,
            };
            return Ok(names);
        }
        *cursor = EventCursor {
            since: Some(newest),
            told,
            rest: None,
        };
        Ok(names)
    }
}

fn time(event: &Value) -> Option<Timestamp> {
    event["metadata"]["creationTimestamp"]
        .as_str()?
        .parse()
        .ok()
}
