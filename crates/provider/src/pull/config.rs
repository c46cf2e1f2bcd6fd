//! What a pull secret holds.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use k8s_openapi::api::core::v1::Secret;
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use super::{Credential, Flaw, location};

/// A type of Secret and the key that its data is under.
pub(super) struct Form {
    pub(super) kind: &'static str,
    key: &'static str,
}

/// `~/.docker/config.json`.
pub(super) const CONFIG_JSON: Form = Form {
    kind: "kubernetes.io/dockerconfigjson",
    key: ".dockerconfigjson",
};

/// `~/.dockercfg`: the same without what is around it.
pub(super) const CONFIG: Form = Form {
    kind: "kubernetes.io/dockercfg",
    key: ".dockercfg",
};

/// With or without padding, and with bits behind the end, as Go's decoder.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

type Object<'a> = BTreeMap<String, &'a RawValue>;
type Entries = Vec<(String, Credential)>;

/// The credentials in a secret with the location that each is for, in the order
/// of the addresses as they are written; and what is wrong with the rest.
pub(super) fn read(name: &str, secret: &Secret) -> (Entries, BTreeSet<Flaw>) {
    let object = match entries(secret) {
        Ok(object) => object,
        Err(flaw) => return (Entries::new(), [flaw].into()),
    };
    let mut good = Entries::new();
    let mut flaws = BTreeSet::new();
    for (address, entry) in object {
        match one(name, &address, entry) {
            Ok(entry) => good.push(entry),
            Err(flaw) => _ = flaws.insert(flaw),
        }
    }
    (good, flaws)
}

fn entries(secret: &Secret) -> Result<Object<'_>, Flaw> {
    let form = match secret.type_.as_deref() {
        Some(kind) if kind == CONFIG_JSON.kind => CONFIG_JSON,
        Some(kind) if kind == CONFIG.kind => CONFIG,
        _ => return Err(Flaw::Type),
    };
    let bytes = secret.data.as_ref().and_then(|data| data.get(form.key));
    let bytes = bytes.map_or(&[][..], |bytes| &bytes.0);
    if bytes.is_empty() {
        return Err(Flaw::Key(form.key));
    }
    let text = std::str::from_utf8(bytes).map_err(|_| Flaw::Json)?;
    let outer = object(text).ok_or(Flaw::Json)?;
    if form.kind == CONFIG.kind {
        return Ok(outer);
    }
    match field(&outer, "auths") {
        Some(auths) => object(auths.get()).ok_or(Flaw::Json),
        None => Ok(Object::new()),
    }
}

fn one(secret: &str, address: &str, entry: &RawValue) -> Result<(String, Credential), Flaw> {
    let location = location::key(address).ok_or(Flaw::Address)?;
    let entry = object(entry.get()).ok_or(Flaw::Entry)?;
    let auth = text(&entry, "auth")?;
    let (username, password) = if auth.is_empty() {
        (text(&entry, "username")?, text(&entry, "password")?)
    } else {
        decoded(&auth).ok_or(Flaw::Auth)?
    };
    if username.is_empty() && password.is_empty() {
        return Err(Flaw::Nobody);
    }
    let credential = Credential {
        secret: secret.to_owned(),
        username,
        password,
    };
    Ok((location, credential))
}

/// A JSON object; `null` is an empty one, as in Go.
fn object(text: &str) -> Option<Object<'_>> {
    serde_json::from_str::<Option<Object<'_>>>(text)
        .ok()
        .map(Option::unwrap_or_default)
}

/// Go finds fields whatever their case; the exact name sorts last.
fn field<'a>(object: &Object<'a>, name: &str) -> Option<&'a RawValue> {
    let mut all = object.iter().rev();
    let found = all.find(|(key, _)| key.eq_ignore_ascii_case(name))?;
    Some(found.1)
}

/// A field's text, empty where there is none.
fn text(object: &Object<'_>, name: &str) -> Result<Zeroizing<String>, Flaw> {
    let text = match field(object, name) {
        Some(value) => serde_json::from_str::<Option<String>>(value.get()),
        None => Ok(None),
    };
    let text = text.map_err(|_| Flaw::Entry)?;
    Ok(Zeroizing::new(text.unwrap_or_default()))
}

/// User and password of an `auth`. Line breaks in it count for nothing.
fn decoded(auth: &str) -> Option<(Zeroizing<String>, Zeroizing<String>)> {
    let mut one_line = Zeroizing::new(String::with_capacity(auth.len()));
    one_line.extend(auth.split(['\r', '\n']));
    let mut bytes = Zeroizing::new(Vec::new());
    BASE64.decode_vec(one_line.as_bytes(), &mut bytes).ok()?;
    let (username, password) = std::str::from_utf8(&bytes).ok()?.split_once(':')?;
    Some((
        Zeroizing::new(username.to_owned()),
        Zeroizing::new(password.to_owned()),
    ))
}
