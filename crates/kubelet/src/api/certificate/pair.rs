//! A certificate with its key.

use rcgen::{ExtendedKeyUsagePurpose, KeyPair};
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;

use super::names::Names;

/// Of PEM texts.
///
/// # Errors
/// One is not what it should be, or they do not belong together; no error holds
/// anything of the key.
pub(super) fn of_pem(certificates: &[u8], key: &[u8]) -> Result<CertifiedKey, String> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(certificates).collect();
    let chain = chain.map_err(|error| format!("the certificate is not PEM: {error}"))?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| "the key is not PEM".to_owned())?;
    pair(chain, &key)
}

/// Of a chain and a key of our own making.
pub(super) fn of_key(
    chain: Vec<CertificateDer<'static>>,
    key: &KeyPair,
) -> Result<CertifiedKey, String> {
    let key = PrivatePkcs8KeyDer::from(key.serialize_der());
    pair(chain, &PrivateKeyDer::Pkcs8(key))
}

/// One that nobody vouches for.
pub(super) fn self_signed(names: &Names, node: &str) -> Result<CertifiedKey, String> {
    let make = || {
        let key = KeyPair::generate()?;
        let mut params = names.params(node)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        Ok((params.self_signed(&key)?, key))
    };
    let (certificate, key) = make().map_err(|error: rcgen::Error| error.to_string())?;
    of_key(vec![certificate.der().clone()], &key)
}

fn pair(
    chain: Vec<CertificateDer<'static>>,
    key: &PrivateKeyDer<'static>,
) -> Result<CertifiedKey, String> {
    if chain.is_empty() {
        return Err("there is no certificate in it".into());
    }
    let key = any_supported_type(key).map_err(|_| "the key is of an unknown kind".to_owned())?;
    let pair = CertifiedKey::new(chain, key);
    match pair.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {
            Ok(pair)
        }
        Err(error) => Err(format!("certificate and key: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_another_certificate_is_refused_and_not_told() {
        let key = || KeyPair::generate().unwrap();
        let (own, other) = (key(), key());
        let params = rcgen::CertificateParams::new(vec!["vk".into()]).unwrap();
        let certificate = params.self_signed(&own).unwrap().pem();
        let of = |key: &str| of_pem(certificate.as_bytes(), key.as_bytes());
        assert!(of(&own.serialize_pem()).is_ok());
        for bad in [other.serialize_pem(), "nonsense".into()] {
            let error = of(&bad).unwrap_err();
            assert!(!error.contains(bad.lines().nth(1).unwrap_or("nonsense")));
        }
        let none = of_pem(b"", own.serialize_pem().as_bytes());
        assert_eq!(none.unwrap_err(), "there is no certificate in it");
    }
}
