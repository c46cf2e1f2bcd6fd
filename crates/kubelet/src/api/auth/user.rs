//! Who a client is, by its certificate or its token. Pure.

use std::collections::BTreeMap;

use http::{HeaderMap, header};
use rustls::pki_types::CertificateDer;
use serde::Serialize;
use x509_parser::prelude::{FromDer, X509Certificate};

const AUTHENTICATED: &str = "system:authenticated";
const ANONYMOUS: &str = "system:anonymous";

/// A user as Kubernetes knows users.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct User {
    pub(super) name: String,
    pub(super) uid: Option<String>,
    pub(super) groups: Vec<String>,
    pub(super) extra: BTreeMap<String, Vec<String>>,
}

impl User {
    /// The user of a certificate that an authority vouches for: common name and
    /// organizations. `None` where the certificate names nobody.
    pub(super) fn of_certificate(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, read) = X509Certificate::from_der(certificate).ok()?;
        let subject = read.subject();
        // Go takes the last of several.
        let name = subject.iter_common_name().last()?.as_str().ok()?;
        let groups = subject.iter_organization();
        let groups: Result<Vec<String>, _> = groups
            .map(|group| group.as_str().map(str::to_owned))
            .collect();
        let user = Self {
            name: name.into(),
            groups: groups.ok()?,
            ..Self::default()
        };
        user.known()
    }

    /// Everyone who is somebody belongs to one group more.
    pub(super) fn known(mut self) -> Option<Self> {
        if self.name.is_empty() || self.name == ANONYMOUS {
            return None;
        }
        if !self.groups.iter().any(|group| group == AUTHENTICATED) {
            self.groups.push(AUTHENTICATED.into());
        }
        Some(self)
    }
}

/// The token of a request, if it has exactly one.
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut all = headers.get_all(header::AUTHORIZATION).into_iter();
    let (value, None) = (all.next()?, all.next()) else {
        return None;
    };
    let (scheme, token) = value.to_str().ok()?.trim().split_once(' ')?;
    let token = token.trim();
    let is_one = scheme.eq_ignore_ascii_case("bearer") && !token.is_empty();
    (is_one && !token.contains(' ')).then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};

    fn certificate(subject: &[(DnType, &str)]) -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        for (kind, value) in subject {
            params.distinguished_name.push(kind.clone(), *value);
        }
        let key = KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().der().clone()
    }

    #[test]
    fn a_certificate_names_its_user_and_groups() {
        let named = certificate(&[
            (DnType::OrganizationName, "system:masters"),
            (DnType::CommonName, "kube-apiserver-kubelet-client"),
        ]);
        let user = User::of_certificate(&named).unwrap();
        assert_eq!(user.name, "kube-apiserver-kubelet-client");
        assert_eq!(user.groups, ["system:masters", AUTHENTICATED]);
        for subject in [
            vec![(DnType::OrganizationName, "system:masters")],
            vec![(DnType::CommonName, "")],
            vec![(DnType::CommonName, ANONYMOUS)],
        ] {
            assert_eq!(User::of_certificate(&certificate(&subject)), None);
        }
        let garbage = CertificateDer::from(b"not a certificate".to_vec());
        assert_eq!(User::of_certificate(&garbage), None);
    }

    #[test]
    fn a_token_is_one_word_after_bearer_in_the_only_header() {
        let of = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::AUTHORIZATION, value.parse().unwrap());
            }
            bearer(&headers).map(str::to_owned)
        };
        assert_eq!(of(&["Bearer abc"]).as_deref(), Some("abc"));
        assert_eq!(of(&["bearer  abc "]).as_deref(), Some("abc"));
        for none in [
            &[][..],
            &["Bearer"],
            &["Bearer "],
            &["Basic abc"],
            &["Bearer a b"],
            &["Bearer a", "Bearer b"],
        ] {
            assert_eq!(of(none), None, "{none:?}");
        }
    }
}
