//! The Kubernetes API, as far as nodes, pods and what makes them need it.
//!
//! A [`Cluster`] is the store and its rules; [`Cluster::endpoint`] serves it
//! over HTTP, [`Cluster::start_controllers`] adds a small scheduler,
//! Deployments, StatefulSets, DaemonSets, Jobs and garbage collection. It refuses what the real server refuses
//! where clients here touch it (preconditions, conflicts, immutable fields,
//! invalid status transitions), in the real server's words; what it does not
//! do is answered 501 by name. [`Cluster::forbid`] makes it refuse more;
//! [`Cluster::open_watches`] and [`Cluster::unnamed_reads`] say what was read.
//!
//! Objects live as JSON in `store`; a write normalises them through their
//! typed form, fills in `defaults`, and passes `validate`. `create`,
//! `update` and `delete` are the operations; `list` and `watch` the
//! readings; `routes` is the way from HTTP to both, and `proxy` the way on to a
//! node.
//!
//! Not here, though a real cluster has it: node leases that expire, pod garbage
//! collection after a node is gone, NoExecute evictions, server-side apply, RBAC
//! (reviews of rights know what was forbidden here, and nothing else); and tokens
//! of ServiceAccounts are issued and reviewed, but do not open the API.

mod access;
mod controllers;
mod create;
mod daemonsets;
mod defaults;
mod delete;
mod discovery;
mod events;
mod jobs;
pub mod kubeconfig;
mod list;
mod names;
mod object;
mod patch;
mod proxy;
mod quantity;
mod reads;
mod resource;
mod reviews;
mod rights;
mod routes;
mod scheduler;
mod selector;
mod services;
mod statefulsets;
mod status;
mod store;
mod strict;
mod table;
mod tokens;
mod update;
mod validate;
mod view;
mod watch;
mod workloads;

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use jiff::Timestamp;
use ring::hmac;
use serde_json::{Value, json};

pub use access::Object;
pub use controllers::Controllers;
pub use reads::{OpenWatch, UnnamedReads};
pub use status::ApiError;

use crate::clock::Clock;
use crate::faults::Faults;
use crate::tls::TlsError;
use crate::transport::Endpoint;
use names::Names;
use proxy::Dialer;
use reads::Reads;
use resource::{CONFIG_MAPS, EVENTS, NAMESPACES, Resource, SERVICES};
use rights::Denials;
use store::Store;

/// Where nodes find the authority of the API server's client certificate.
const CLIENT_CA: &str = "extension-apiserver-authentication";

/// A Kubernetes API with everything in memory; clones share it.
#[derive(Clone, Debug)]
pub struct Cluster {
    shared: Arc<Shared>,
    token: Option<Arc<Mutex<String>>>,
}

#[derive(Debug)]
struct Shared {
    store: Store,
    clock: Clock,
    faults: Faults,
    names: Names,
    reads: Reads,
    denials: Denials,
    signing_key: hmac::Key,
    ca: OnceLock<String>,
    /// Towards nodes; an error where no certificate could be made.
    dialer: Result<Dialer, TlsError>,
}

impl Cluster {
    /// An empty cluster with the namespaces every cluster has and the Service
    /// `kubernetes`, which leads nowhere. Nothing runs.
    pub fn new(clock: Clock) -> Self {
        let names = Names::default();
        let signing_key = hmac::Key::new(hmac::HMAC_SHA256, &names.bytes());
        let cluster = Self {
            shared: Arc::new(Shared {
                store: Store::default(),
                clock,
                faults: Faults::default(),
                names,
                reads: Reads::default(),
                denials: Denials::default(),
                signing_key,
                ca: OnceLock::new(),
                dialer: Dialer::new(),
            }),
            token: None,
        };
        for name in ["default", "kube-system", "kube-public", "kube-node-lease"] {
            let namespace = json!({"metadata": {"name": name}});
            // Cannot be refused: the names are valid and nothing is there yet.
            let _ = cluster.create_object(&NAMESPACES, "", namespace);
        }
        let _ = cluster.create_object(&SERVICES, "default", services::of_the_api());
        if let Ok(dialer) = cluster.dialer() {
            let map = json!({"metadata": {"name": CLIENT_CA}, "data": {"client-ca-file": dialer.ca_pem()}});
            let _ = cluster.create_object(&CONFIG_MAPS, "kube-system", map);
        }
        cluster
    }

    /// The same cluster, answering 401 to whoever has not this bearer token.
    #[must_use]
    pub fn with_token(mut self, token: &str) -> Self {
        self.token = Some(Arc::new(Mutex::new(token.into())));
        self
    }

    /// From now on only this bearer token is good; without effect on a cluster
    /// that asks for none.
    pub fn rotate_token(&self, token: &str) {
        if let Some(known) = &self.token {
            *known.lock().unwrap_or_else(PoisonError::into_inner) = token.into();
        }
    }

    /// The CA that `kube-root-ca.crt` shows in every namespace; the first one
    /// set stays.
    pub fn set_ca(&self, pem: &str) {
        if self.shared.ca.set(pem.to_owned()).is_err() {
            return;
        }
        for map in self.list_values(CONFIG_MAPS.plural, None) {
            if object::name(&map) == create::ROOT_CA {
                let at = (object::namespace(&map), create::ROOT_CA);
                // It may have been deleted this moment; then it shows nothing.
                let _ = self.revise(&CONFIG_MAPS, at, update::Part::Main, |old| {
                    let mut new = old.clone();
                    new["data"] = json!({"ca.crt": pem});
                    Ok(new)
                });
            }
        }
    }

    /// The switchboard of faults.
    pub fn faults(&self) -> &Faults {
        &self.shared.faults
    }

    /// This API, to be served.
    pub fn endpoint(&self) -> Endpoint {
        Endpoint::new(
            routes::router(self.clone()),
            self.faults().clone(),
            status::fault_body,
        )
    }

    /// Forgets the history of changes, as etcd's compaction does: watches from
    /// an older revision get 410 Gone.
    pub fn compact(&self) {
        self.store().compact();
    }

    pub(crate) fn store(&self) -> &Store {
        &self.shared.store
    }

    pub(crate) fn names(&self) -> &Names {
        &self.shared.names
    }

    pub(crate) fn reads(&self) -> &Reads {
        &self.shared.reads
    }

    pub(crate) fn denials(&self) -> &Denials {
        &self.shared.denials
    }

    pub(crate) fn signing_key(&self) -> &hmac::Key {
        &self.shared.signing_key
    }

    pub(crate) fn ca(&self) -> Option<&str> {
        self.shared.ca.get().map(String::as_str)
    }

    pub(crate) fn token(&self) -> Option<String> {
        let token = self.token.as_ref()?.lock();
        Some(token.unwrap_or_else(PoisonError::into_inner).clone())
    }

    /// By which nodes are reached.
    pub(crate) fn dialer(&self) -> Result<&Dialer, ApiError> {
        let dialer = self.shared.dialer.as_ref();
        dialer.map_err(|error| ApiError::internal(&error.to_string()))
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.shared.clock
    }

    /// The present, by the cluster's clock.
    pub(crate) fn now(&self) -> Timestamp {
        self.shared.clock.now()
    }

    /// Records an event about an object.
    pub(crate) fn event(
        &self,
        resource: &Resource,
        about: &Value,
        (kind, reason): (&str, &str),
        message: &str,
        component: &str,
    ) {
        let ns = match object::namespace(about) {
            "" => "default",
            ns => ns,
        };
        let now = self.now();
        let event = json!({
            "metadata": {"generateName": format!("{}.", object::name(about))},
            "involvedObject": {"apiVersion": resource.api_version(), "kind": resource.kind,
                "namespace": object::namespace(about), "name": object::name(about), "uid": object::uid(about)},
            "type": kind, "reason": reason, "message": message, "count": 1,
            "source": {"component": component}, "reportingComponent": component,
            "firstTimestamp": object::seconds(now), "lastTimestamp": object::seconds(now),
            "eventTime": object::micros(now),
        });
        // An event that cannot be kept (its namespace is ending) is lost, as
        // events are in a real cluster.
        let _ = self.create_object(&EVENTS, ns, event);
    }
}
