//! What the API of a process's nodes is made of.

use std::net::{IpAddr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::path::PathBuf;

use super::limits::CONNECTIONS;

/// The kubelet API of all nodes of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiSettings {
    /// Where to listen.
    pub bind: IpAddr,
    /// One port for each node; 10250 is the kubelet's. `0..=0` takes any that is
    /// free.
    pub ports: RangeInclusive<u16>,
    /// At which address the API server reaches this process: every node tells it
    /// as its `InternalIP`, before the backend's addresses, and tells no name that
    /// the API server would try first. Without it the backend's addresses stand,
    /// and must lead here.
    pub address: Option<IpAddr>,
    /// What the listeners show.
    pub certificate: ServingCertificate,
    /// Whose certificates clients may show; others need a token.
    pub client_ca: ClientCa,
    /// Connections at once, of all nodes; when they are taken, the quietest one
    /// is closed. 2048 by default.
    pub connections: usize,
}

impl ApiSettings {
    /// On all addresses, self-signed, with the cluster's client CA.
    pub fn new(ports: RangeInclusive<u16>) -> Self {
        Self {
            bind: Ipv6Addr::UNSPECIFIED.into(),
            ports,
            address: None,
            certificate: ServingCertificate::SelfSigned,
            client_ca: ClientCa::Cluster,
            connections: CONNECTIONS,
        }
    }
}

/// A listener's certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServingCertificate {
    /// One of the process's own making, for the node's addresses: enough where
    /// the API server has no `--kubelet-certificate-authority`.
    SelfSigned,
    /// PEM files, read again every minute. Shown by all nodes: it has to be good
    /// for every address they tell.
    Files {
        /// The certificate, then those of its issuers.
        certificate: PathBuf,
        /// Its key.
        key: PathBuf,
    },
    /// Asked for at the signer `kubernetes.io/kubelet-serving`, one for each node
    /// and its addresses; renewed before it runs out. Someone has to approve it
    /// (`kubectl certificate approve`), and the process must be the user
    /// `system:node:NAME`: the signer serves no other.
    Requested,
}

/// Certificate authorities of clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientCa {
    /// The cluster's, from the ConfigMap
    /// `kube-system/extension-apiserver-authentication`, which the role of the
    /// same name lets read.
    Cluster,
    /// A PEM file.
    File(PathBuf),
    /// None: tokens alone.
    Nobody,
}
