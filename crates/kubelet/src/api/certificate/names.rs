//! What a node's certificate is for: its addresses. Pure, but for the waiting.

use std::collections::BTreeSet;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::NodeAddress;
use rcgen::{CertificateParams, DnType, SanType};
use tokio::sync::watch;
use vk_provider::NodeFacts;

use crate::node::NodeSettings;

/// Names and addresses by which clients come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Names {
    pub(super) dns: BTreeSet<String>,
    pub(super) ips: BTreeSet<IpAddr>,
}

impl Names {
    /// As the kubelet reads them (pkg/kubelet/certificate/kubelet.go).
    pub(super) fn of(addresses: &[NodeAddress]) -> Self {
        let mut names = Self::default();
        for NodeAddress { address, type_ } in addresses {
            match (address.parse(), type_.as_str()) {
                (Ok(ip), "Hostname" | "InternalIP" | "ExternalIP") => {
                    names.ips.insert(ip);
                }
                (Err(_), "Hostname") | (_, "InternalDNS" | "ExternalDNS") => {
                    names.dns.insert(address.clone());
                }
                _ => {}
            }
        }
        names.dns.remove("");
        names
    }

    pub(super) fn is_empty(&self) -> bool {
        self.dns.is_empty() && self.ips.is_empty()
    }

    /// A certificate for them, of this node.
    ///
    /// # Errors
    /// A name is none that a certificate can hold.
    pub(super) fn params(&self, node: &str) -> Result<CertificateParams, rcgen::Error> {
        let names: Vec<String> = self.dns.iter().cloned().collect();
        let mut params = CertificateParams::new(names)?;
        let ips = self.ips.iter().copied().map(SanType::IpAddress);
        params.subject_alt_names.extend(ips);
        params.distinguished_name = rcgen::DistinguishedName::new();
        let (group, user) = ("system:nodes", format!("system:node:{node}"));
        params
            .distinguished_name
            .push(DnType::OrganizationName, group);
        params.distinguished_name.push(DnType::CommonName, user);
        Ok(params)
    }
}

/// A node's names as they change.
pub(super) struct Named {
    settings: NodeSettings,
    facts: watch::Receiver<NodeFacts>,
}

impl Named {
    pub(super) fn new(settings: NodeSettings, facts: watch::Receiver<NodeFacts>) -> Self {
        Self { settings, facts }
    }

    /// The present ones.
    pub(super) fn names(&mut self) -> Names {
        let facts = self.facts.borrow_and_update();
        Names::of(&self.settings.addresses(&facts))
    }

    /// Waits until they are others. Cancel-safe.
    pub(super) async fn change(&mut self, from: &Names) {
        while self.names() == *from {
            if self.facts.changed().await.is_err() {
                // The node ends.
                std::future::pending().await
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses_are_told_apart_as_the_kubelet_does() {
        let address = |kind: &str, address: &str| NodeAddress {
            type_: kind.into(),
            address: address.into(),
        };
        let names = Names::of(&[
            address("Hostname", "vk-1"),
            address("Hostname", "192.0.2.7"),
            address("InternalIP", "10.0.0.1"),
            address("InternalIP", "10.0.0.1"),
            address("ExternalIP", "not an address"),
            address("ExternalDNS", "vk.example.com"),
            address("InternalDNS", ""),
        ]);
        let dns: Vec<&str> = names.dns.iter().map(String::as_str).collect();
        assert_eq!(dns, ["vk-1", "vk.example.com"]);
        let ips: Vec<String> = names.ips.iter().map(IpAddr::to_string).collect();
        assert_eq!(ips, ["10.0.0.1", "192.0.2.7"]);
        assert!(Names::of(&[address("InternalDNS", "")]).is_empty());
    }
}
