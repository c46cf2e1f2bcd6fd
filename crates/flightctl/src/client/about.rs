//! What the service says of itself and of who asks: for people who set it up.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, header};
use http_body_util::Full;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{API, Client, ClientError, DEADLINE, encode};

/// The version of the API that is spoken here, and the header that asks for it: the
/// service answers 406 where it has that one no more.
const API_VERSION: &str = "v1beta1";
const VERSION_HEADER: HeaderName = HeaderName::from_static("flightctl-api-version");
/// No device has this name: `_` is in none.
const NO_DEVICE: &str = "no_device";

/// What it says to anybody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Greeting {
    /// Its release.
    pub version: String,
    /// Its clock, to the second.
    pub date: Option<Timestamp>,
    /// How long it took to say so.
    pub took: Duration,
}

/// An organization of this user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Organization {
    /// Its UUID.
    pub id: String,
    /// For people.
    pub name: String,
}

impl Client {
    /// Its version. Needs no token, and is within no limit.
    ///
    /// # Errors
    /// It cannot be reached, or is no Flight Control.
    pub async fn greet(&self) -> Result<Greeting, ClientError> {
        let request = Request::builder()
            .method(Method::GET)
            .uri(format!("{}/api/version", self.base))
            .header(header::ACCEPT, "application/json")
            .body(Full::new(Bytes::new()))
            .map_err(|e| self.no_request(&e))?;
        let begun = tokio::time::Instant::now();
        let answer = self
            .send("version", request, "/api/version", DEADLINE)
            .await?;
        let took = begun.elapsed();
        let said: Option<Value> = serde_json::from_slice(&answer.body).ok();
        match said.as_ref().and_then(|json| json["version"].as_str()) {
            Some(version) => Ok(Greeting {
                version: version.into(),
                date: answer.date,
                took,
            }),
            None => Err(ClientError::Decode {
                object: "/api/version".into(),
                why: "it is not Flight Control's; is the URL that of its API?".into(),
            }),
        }
    }

    /// Whether it has the version of the API that is spoken here.
    ///
    /// # Errors
    /// `Server` with 406 where it has not.
    pub async fn speaks_our_version(&self) -> Result<(), ClientError> {
        let request = self
            .authorized(Method::GET, &format!("{API}/devices?limit=1"))
            .await?
            .header(header::ACCEPT, "application/json")
            .header(VERSION_HEADER, HeaderValue::from_static(API_VERSION))
            .body(Full::new(Bytes::new()))
            .map_err(|e| self.no_request(&e))?;
        let object = format!("API version {API_VERSION}");
        self.send("version", request, &object, DEADLINE).await?;
        Ok(())
    }

    /// The organizations that this user belongs to; asked of no particular one.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn organizations(&self) -> Result<Vec<Organization>, ClientError> {
        let of_none = self.clone().with_organization(None);
        let list = of_none
            .call(
                "organizations",
                Method::GET,
                "/organizations",
                None,
                "organizations",
            )
            .await?;
        let one = |item: &Value| {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            Organization {
                id: text(&item["metadata"]["name"]),
                name: text(&item["spec"]["displayName"]),
            }
        };
        Ok(super::items(&list, "organizations")?
            .iter()
            .map(one)
            .collect())
    }

    /// Whether this user may do something, as the service lists it: what is said of
    /// a resource itself goes before what is said of all (internal/auth/authz/static.go).
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn may(&self, operation: &str, resource: &str) -> Result<bool, ClientError> {
        let path = "/auth/permissions";
        let list = self
            .call("permissions", Method::GET, path, None, "permissions")
            .await?;
        let all = list["permissions"].as_array();
        let of = |resource: &str| {
            let mut all = all.into_iter().flatten();
            all.find(|one| one["resource"] == resource)
        };
        let operations = of(resource).or_else(|| of("*"));
        let operations = operations.and_then(|one| one["operations"].as_array());
        Ok(operations
            .into_iter()
            .flatten()
            .any(|one| one == "*" || one == operation))
    }

    /// Whether this user may write devices, tried on one that cannot exist, with a
    /// patch that holds for none. Writes nothing.
    ///
    /// # Errors
    /// `Forbidden` where that is not allowed.
    pub async fn may_write_devices(&self) -> Result<(), ClientError> {
        let path = format!("/devices/{}", encode(NO_DEVICE));
        let never = json!([{"op": "test", "path": "/metadata/name", "value": ""}]);
        let tried = self
            .call(
                "patch_device",
                Method::PATCH,
                &path,
                Some(&never),
                "devices",
            )
            .await;
        match tried {
            // The right was looked at first, then the device was looked for.
            Ok(_) | Err(ClientError::NotFound { .. } | ClientError::TestFailed { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}
