//! Creating objects, and binding pods to nodes.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::resource::{CONFIG_MAPS, NAMESPACES, PODS, Resource, SERVICE_ACCOUNTS};
use super::status::{ApiError, FieldError};
use super::store::State;
use super::{Cluster, defaults, object, services, validate};

/// The taint of a node that was never seen ready, from the real server's
/// `TaintNodesByCondition` plugin; the controllers take it away.
pub(crate) const NOT_READY_TAINT: &str = "node.kubernetes.io/not-ready";

/// The ConfigMap that shows the cluster's CA in every namespace.
pub(crate) const ROOT_CA: &str = "kube-root-ca.crt";

/// Attempts at a generated name that is not taken.
const NAME_ATTEMPTS: u32 = 8;

impl Cluster {
    pub(crate) fn create_object(
        &self,
        resource: &'static Resource,
        ns: &str,
        body: Value,
    ) -> Result<Arc<Value>, ApiError> {
        let mut object = resource.normalise(body)?;
        let given = object::namespace(&object);
        if resource.namespaced {
            if !given.is_empty() && given != ns {
                return Err(ApiError::bad_request(
                    "the namespace of the provided object does not match the namespace sent on the request",
                ));
            }
            object["metadata"]["namespace"] = json!(ns);
        }
        if object::revision(&object) != 0 {
            return Err(ApiError::bad_request(
                "resourceVersion should not be set on objects to be created",
            ));
        }
        let now = self.now();
        self.store().write(|state| {
            if resource.namespaced {
                may_fill_namespace(state, resource, ns, object::name(&object))?;
            }
            self.name(state, resource, ns, &mut object)?;
            let name = object::name(&object).to_owned();
            if state.get(resource, ns, &name).is_some() {
                return Err(ApiError::already_exists(resource, &name));
            }
            defaults::fill(resource, &mut object);
            begin(resource, &mut object);
            let errors = validate::created(resource, &object);
            if !errors.is_empty() {
                return Err(ApiError::invalid(resource, &name, &errors));
            }
            match resource.plural {
                "pods" => self.admit_pod(state, ns, &name, &mut object)?,
                "services" => services::allocate(state, &mut object)?,
                _ => {}
            }
            let metadata = &mut object["metadata"];
            metadata["uid"] = json!(self.names().uid());
            metadata["creationTimestamp"] = json!(object::seconds(now));
            if resource.generation {
                metadata["generation"] = json!(1);
            }
            if let Some(metadata) = metadata.as_object_mut() {
                metadata.remove("deletionTimestamp");
                metadata.remove("deletionGracePeriodSeconds");
            }
            let made = state.put(resource, object);
            match resource.plural {
                "namespaces" => self.furnish_namespace(state, &name, now),
                "events" => state.expire_events(now, (ns.to_owned(), name)),
                _ => {}
            }
            Ok(made)
        })
    }

    fn name(
        &self,
        state: &State,
        resource: &Resource,
        ns: &str,
        object: &mut Value,
    ) -> Result<(), ApiError> {
        if !object::name(object).is_empty() {
            return Ok(());
        }
        let prefix = object::text(object, "/metadata/generateName").to_owned();
        if prefix.is_empty() {
            let missing = FieldError::required("metadata.name", "name or generateName is required");
            return Err(ApiError::invalid(resource, "", &[missing]));
        }
        for _ in 0..NAME_ATTEMPTS {
            let name = self.names().suffixed(&prefix);
            let free = state.get(resource, ns, &name).is_none();
            object["metadata"]["name"] = json!(name);
            if free {
                break;
            }
        }
        Ok(())
    }

    fn admit_pod(
        &self,
        state: &State,
        ns: &str,
        name: &str,
        pod: &mut Value,
    ) -> Result<(), ApiError> {
        let account = match object::text(pod, "/spec/serviceAccountName") {
            "" => "default",
            name => name,
        };
        let Some(found) = state.get(&SERVICE_ACCOUNTS, ns, account) else {
            let why = format!(
                "error looking up service account {ns}/{account}: serviceaccount \"{account}\" not found"
            );
            return Err(ApiError::forbidden(&PODS, name, &why));
        };
        let automount = pod["spec"]["automountServiceAccountToken"]
            .as_bool()
            .or(found["automountServiceAccountToken"].as_bool())
            .unwrap_or(true);
        let volume = self.names().suffixed("kube-api-access-");
        defaults::admit_pod(pod, &volume, automount);
        Ok(())
    }

    /// What the controller-manager puts into every namespace.
    pub(crate) fn furnish_namespace(&self, state: &mut State, ns: &str, now: Timestamp) {
        let mut put = |resource: &'static Resource, name: &str, data: Value| {
            let mut object = json!({
                "apiVersion": "v1", "kind": resource.kind,
                "metadata": {"name": name, "namespace": ns, "uid": self.names().uid(),
                    "creationTimestamp": object::seconds(now)},
            });
            if !data.is_null() {
                object["data"] = data;
            }
            state.put(resource, object);
        };
        put(&SERVICE_ACCOUNTS, "default", Value::Null);
        let ca = self.ca().unwrap_or_default();
        put(&CONFIG_MAPS, ROOT_CA, json!({"ca.crt": ca}));
    }

    /// `pods/binding`: puts an unbound pod on a node.
    pub(crate) fn bind(&self, ns: &str, name: &str, binding: &Value) -> Result<(), ApiError> {
        let node = object::text(binding, "/target/name").to_owned();
        if node.is_empty() {
            let missing = FieldError::required("target.name", "");
            return Err(ApiError::invalid(&PODS, name, &[missing]));
        }
        let wanted = object::uid(binding);
        let now = object::seconds(self.now());
        self.store().write(|state| {
            let pod = state
                .get(&PODS, ns, name)
                .ok_or_else(|| ApiError::not_found(&PODS, name))?;
            let conflict = |why: String| Err(ApiError::conflict("pods/binding", &PODS, name, &why));
            if !wanted.is_empty() && wanted != object::uid(pod) {
                return conflict(format!(
                    "Precondition failed: UID in precondition: {wanted}, UID in object meta: {}",
                    object::uid(pod)
                ));
            }
            if object::is_deleting(pod) {
                return conflict(format!(
                    "pod {name} is being deleted, cannot be assigned to a host"
                ));
            }
            let bound = object::text(pod, "/spec/nodeName");
            if !bound.is_empty() {
                return conflict(format!(
                    "pod {name} is already assigned to node \"{bound}\""
                ));
            }
            let mut pod = Value::clone(pod);
            pod["spec"]["nodeName"] = json!(node);
            object::set_condition(
                &mut pod,
                json!({"type": "PodScheduled", "status": "True", "lastTransitionTime": now}),
            );
            state.put(&PODS, pod);
            Ok(())
        })
    }
}

fn may_fill_namespace(
    state: &State,
    resource: &Resource,
    ns: &str,
    name: &str,
) -> Result<(), ApiError> {
    match state.get(&NAMESPACES, "", ns) {
        None => Err(ApiError::not_found(&NAMESPACES, ns)),
        Some(found) if object::is_deleting(found) => {
            let why = format!(
                "unable to create new content in namespace {ns} because it is being terminated"
            );
            Err(ApiError::forbidden(resource, name, &why))
        }
        Some(_) => Ok(()),
    }
}

/// The state an object starts in, whatever its creator says.
fn begin(resource: &Resource, object: &mut Value) {
    match resource.plural {
        "pods" => {
            let class = defaults::qos_class(&object["spec"]);
            object["status"] = json!({"phase": "Pending", "qosClass": class});
        }
        "namespaces" => object["status"] = json!({"phase": "Active"}),
        "services" => object["status"] = json!({"loadBalancer": {}}),
        "deployments" | "jobs" => object["status"] = json!({}),
        "daemonsets" => object["status"] = super::daemonsets::nothing_yet(),
        "replicasets" | "statefulsets" => object["status"] = json!({"replicas": 0}),
        "nodes" => {
            let taints = &mut object["spec"]["taints"];
            if !taints.is_array() {
                *taints = json!([]);
            }
            if let Some(taints) = taints.as_array_mut()
                && !taints
                    .iter()
                    .any(|t| t["key"] == NOT_READY_TAINT && t["effect"] == "NoSchedule")
            {
                taints.push(json!({"key": NOT_READY_TAINT, "effect": "NoSchedule"}));
            }
        }
        _ => {}
    }
}
