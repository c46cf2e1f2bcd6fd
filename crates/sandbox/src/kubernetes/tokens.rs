//! Tokens of ServiceAccounts: `serviceaccounts/token` issues them and
//! `tokenreviews` says whether one is good, by the cluster's clock.
//!
//! They are JWTs with the claims that the real server's have, signed by HMAC
//! with a key of this cluster alone. What was reviewed once is judged anew each
//! time; the real server believes a good token for ten seconds more.
//! The API itself is not opened by them: it knows the token of
//! [`Cluster::with_token`] alone.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use ring::hmac;
use serde_json::{Value, json};

use super::resource::{
    NAMESPACES, NODES, PODS, Resource, SERVICE_ACCOUNTS, TOKEN_REQUESTS, TOKEN_REVIEWS,
};
use super::rights::{GROUPS, USER};
use super::status::{ApiError, FieldError};
use super::store::State;
use super::{Cluster, object};

/// Who issues the tokens, and the API server's own audience.
pub(crate) const ISSUER: &str = "https://kubernetes.default.svc";

/// How long a token is good that asks for nothing.
const DEFAULT_SECONDS: i64 = 3600;
/// The shortest and the longest life that may be asked for.
const SECONDS: std::ops::RangeInclusive<i64> = 600..=1 << 32;
/// The life that the token volume of every pod asks for. The real server has
/// such a token of a pod for its own audience go on for a year, and only marks
/// when it was to end, for the sake of clients that never read it again.
const EXTENDED_FROM: i64 = 3607;
const EXTENDED_TO: i64 = 365 * 24 * 3600;
/// Seconds that clocks may differ: so much longer a token is good, and that of
/// a pod after its deletion was due.
const LEEWAY: i64 = 60;

/// What the real server says of a token that is none.
const INVALID: &str = "invalid bearer token";

impl Cluster {
    /// `serviceaccounts/token`: answers a `TokenRequest` with a token in it.
    pub(crate) fn issue_token(
        &self,
        ns: &str,
        account: &str,
        request: Value,
    ) -> Result<Value, ApiError> {
        let request = TOKEN_REQUESTS.normalise(request)?;
        let given = object::namespace(&request);
        if !given.is_empty() && given != ns {
            return Err(ApiError::bad_request(
                "the namespace of the provided object does not match the namespace sent on the request",
            ));
        }
        let now = self.now();
        self.store().read(|state| {
            let find = |resource: &'static Resource, ns: &str, name: &str| {
                let found = state.get(resource, ns, name).cloned();
                found.ok_or_else(|| ApiError::not_found(resource, name))
            };
            find(&NAMESPACES, "", ns)?;
            let found = find(&SERVICE_ACCOUNTS, ns, account)?;
            let mut spec = checked(&request, account)?;
            let pod = match &spec["boundObjectRef"] {
                Value::Null => None,
                bound => Some(bound_pod(bound, ns, account, find)?),
            };
            let seconds = spec["expirationSeconds"]
                .as_i64()
                .unwrap_or(DEFAULT_SECONDS);
            let begun = now.as_second();
            let mut told = json!({"namespace": ns,
                "serviceaccount": {"name": account, "uid": object::uid(&found)}});
            let mut life = seconds;
            if let Some(pod) = &pod {
                told["pod"] = json!({"name": object::name(pod), "uid": object::uid(pod)});
                let node = object::text(pod, "/spec/nodeName");
                if !node.is_empty() {
                    told["node"] = json!({"name": node});
                    if let Some(node) = state.get(&NODES, "", node) {
                        told["node"]["uid"] = json!(object::uid(node));
                    }
                }
                if seconds == EXTENDED_FROM && spec["audiences"] == json!([ISSUER]) {
                    told["warnafter"] = json!(begun + seconds);
                    life = EXTENDED_TO;
                }
            }
            let claims = json!({"iss": ISSUER, "aud": spec["audiences"],
                "sub": username(ns, account), "jti": self.names().uid(),
                "iat": begun, "nbf": begun, "exp": begun + life, "kubernetes.io": told});
            let ends = Timestamp::from_second(begun + seconds).unwrap_or(Timestamp::MAX);
            if spec["boundObjectRef"].is_null() {
                // The real one writes this null.
                spec["boundObjectRef"] = Value::Null;
            }
            Ok(
                json!({"kind": TOKEN_REQUESTS.kind, "apiVersion": TOKEN_REQUESTS.api_version(),
                "metadata": {"name": account, "namespace": ns, "uid": object::uid(&found),
                    "creationTimestamp": object::seconds(now)},
                "spec": spec,
                "status": {"token": sign(self.signing_key(), &claims),
                    "expirationTimestamp": object::seconds(ends)}}),
            )
        })
    }

    /// `tokenreviews`: answers a `TokenReview` with its status.
    pub(crate) fn review_token(&self, review: Value) -> Result<Value, ApiError> {
        let mut review = TOKEN_REVIEWS.normalise(review)?;
        let token = object::text(&review, "/spec/token").to_owned();
        if token.is_empty() {
            return Err(ApiError::bad_request(
                "token is required for TokenReview in authentication",
            ));
        }
        let wanted: Vec<String> = match object::items(&review, "/spec/audiences") {
            [] => vec![ISSUER.to_owned()],
            some => some
                .iter()
                .filter_map(Value::as_str)
                .map(str::to_owned)
                .collect(),
        };
        // The cluster's own token is for the API alone.
        let for_the_api = wanted.iter().any(|audience| audience == ISSUER);
        let own = for_the_api && self.token().is_some_and(|own| own == token);
        review["status"] = if own {
            json!({"authenticated": true, "audiences": [ISSUER],
                "user": {"username": USER, "groups": GROUPS}})
        } else {
            let now = self.now();
            let judged = claims(self.signing_key(), &token).and_then(|claims| {
                self.store()
                    .read(|state| judge(state, &claims, &wanted, now))
            });
            match judged {
                Ok((user, audiences)) => {
                    json!({"authenticated": true, "user": user, "audiences": audiences})
                }
                Err(why) => json!({"user": {}, "error": why}),
            }
        };
        Ok(review)
    }
}

fn username(ns: &str, account: &str) -> String {
    format!("system:serviceaccount:{ns}:{account}")
}

/// The request's spec with what it leaves out, or what is wrong with it.
fn checked(request: &Value, account: &str) -> Result<Value, ApiError> {
    let given = object::name(request);
    if !given.is_empty() && given != account {
        let detail = "must match the service account name if specified";
        let error = FieldError::invalid("metadata.name", &json!(given), detail);
        return Err(ApiError::invalid(&TOKEN_REQUESTS, account, &[error]));
    }
    let mut spec = request["spec"].clone();
    if object::items(&spec, "/audiences").is_empty() {
        spec["audiences"] = json!([ISSUER]);
    }
    let seconds = spec["expirationSeconds"]
        .as_i64()
        .unwrap_or(DEFAULT_SECONDS);
    spec["expirationSeconds"] = json!(seconds);
    if !SECONDS.contains(&seconds) {
        let detail = if seconds < *SECONDS.start() {
            "may not specify a duration less than 10 minutes"
        } else {
            "may not specify a duration larger than 2^32 seconds"
        };
        let error = FieldError::invalid("spec.expirationSeconds", &json!(seconds), detail);
        return Err(ApiError::invalid(&TOKEN_REQUESTS, "", &[error]));
    }
    Ok(spec)
}

/// The pod that a token is to be bound to.
fn bound_pod(
    bound: &Value,
    ns: &str,
    account: &str,
    find: impl Fn(&'static Resource, &str, &str) -> Result<std::sync::Arc<Value>, ApiError>,
) -> Result<std::sync::Arc<Value>, ApiError> {
    let text = |field| object::text(bound, field);
    let (version, kind, name) = (text("/apiVersion"), text("/kind"), text("/name"));
    match (version.contains('/'), kind) {
        (false, "Pod") => {}
        (false, "Node" | "Secret") => {
            let what = format!("a token bound to a {kind}");
            return Err(ApiError::not_implemented(&what, "serviceaccounts/token"));
        }
        (grouped, _) => {
            let slash = if grouped { "" } else { "/" };
            return Err(ApiError::bad_request(format!(
                "cannot bind token to object of type {slash}{version}, Kind={kind}"
            )));
        }
    }
    if name.is_empty() {
        return Err(ApiError::bad_request("Name parameter required."));
    }
    let pod = find(&PODS, ns, name)?;
    if object::text(&pod, "/spec/serviceAccountName") != account {
        return Err(ApiError::bad_request(format!(
            "cannot bind token for serviceaccount \"{account}\" to pod running with different serviceaccount name."
        )));
    }
    let uid = text("/uid");
    if !uid.is_empty() && uid != object::uid(&pod) {
        let why = format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
        );
        return Err(ApiError::bound_conflict(&PODS, name, &why));
    }
    Ok(pod)
}

fn sign(key: &hmac::Key, claims: &Value) -> String {
    let part = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let header = json!({"alg": "HS256", "kid": "sandbox"}).to_string();
    let text = format!(
        "{}.{}",
        part(header.as_bytes()),
        part(claims.to_string().as_bytes())
    );
    let signature = hmac::sign(key, text.as_bytes());
    format!("{text}.{}", part(signature.as_ref()))
}

/// The claims of a token that this cluster issued.
fn claims(key: &hmac::Key, token: &str) -> Result<Value, String> {
    let read = || {
        let (text, signature) = token.rsplit_once('.')?;
        let (_, claims) = text.split_once('.')?;
        let claims = URL_SAFE_NO_PAD.decode(claims).ok()?;
        let claims: Value = serde_json::from_slice(&claims).ok()?;
        Some((text, URL_SAFE_NO_PAD.decode(signature).ok()?, claims))
    };
    let (text, signature, claims) = read().ok_or(INVALID)?;
    if claims["iss"] != ISSUER {
        return Err(INVALID.to_owned());
    }
    match hmac::verify(key, text.as_bytes(), &signature) {
        Ok(()) => Ok(claims),
        Err(_) => Err(because("go-jose/go-jose: error in cryptographic primitive")),
    }
}

fn because(why: &str) -> String {
    format!("[{INVALID}, {why}]")
}

/// Whom a token stands for, and for which of the wanted audiences.
fn judge(
    state: &State,
    claims: &Value,
    wanted: &[String],
    now: Timestamp,
) -> Result<(Value, Vec<String>), String> {
    let own: Vec<String> = object::items(claims, "/aud")
        .iter()
        .filter_map(|a| a.as_str().map(str::to_owned))
        .collect();
    let both: Vec<String> = own.iter().filter(|a| wanted.contains(a)).cloned().collect();
    if both.is_empty() {
        return Err(because(&format!(
            "token audiences {} is invalid for the target audiences {}",
            quoted(&own),
            quoted(wanted)
        )));
    }
    let earliest = now.as_second() - LEEWAY;
    if object::int(claims, "/exp").is_none_or(|at| at < earliest) {
        return Err(because("service account token has expired"));
    }
    let told = &claims["kubernetes.io"];
    let text = |at: &str| object::text(told, at);
    let (ns, account, uid) = (
        text("/namespace"),
        text("/serviceaccount/name"),
        text("/serviceaccount/uid"),
    );
    let found = state.get(&SERVICE_ACCOUNTS, ns, account);
    let found =
        found.ok_or_else(|| because(&ApiError::not_found(&SERVICE_ACCOUNTS, account).message))?;
    if object::uid(found) != uid {
        return Err(because(&format!(
            "service account UID ({}) does not match claim ({uid})",
            object::uid(found)
        )));
    }
    let pod = text("/pod/name");
    if !pod.is_empty() {
        pod_lives(state, (ns, pod), text("/pod/uid"), earliest)?;
    }
    let mut extra = json!({});
    let mut add = |key: &str, value: &str| {
        if !value.is_empty() {
            extra[format!("authentication.kubernetes.io/{key}")] = json!([value]);
        }
    };
    add(
        "credential-id",
        &format!("JTI={}", object::text(claims, "/jti")),
    );
    add("node-name", text("/node/name"));
    add("node-uid", text("/node/uid"));
    add("pod-name", pod);
    add("pod-uid", text("/pod/uid"));
    let groups = json!([
        "system:serviceaccounts",
        format!("system:serviceaccounts:{ns}"),
        "system:authenticated"
    ]);
    let user =
        json!({"username": username(ns, account), "uid": uid, "groups": groups, "extra": extra});
    Ok((user, both))
}

fn pod_lives(
    state: &State,
    (ns, name): (&str, &str),
    uid: &str,
    earliest: i64,
) -> Result<(), String> {
    let gone = || because("service account token has been invalidated");
    let pod = state.get(&PODS, ns, name).ok_or_else(gone)?;
    let due = object::text(pod, "/metadata/deletionTimestamp").parse::<Timestamp>();
    if due.is_ok_and(|due| due.as_second() < earliest) {
        return Err(gone());
    }
    if object::uid(pod) != uid {
        return Err(because(&format!(
            "pod UID ({}) does not match service account pod ref claim ({uid})",
            object::uid(pod)
        )));
    }
    Ok(())
}

/// As Go prints a list of texts with `%q`.
fn quoted(texts: &[String]) -> String {
    let each: Vec<String> = texts.iter().map(|t| format!("{t:?}")).collect();
    format!("[{}]", each.join(" "))
}
