//! Every field of a pod: honoured, refused by path, or without meaning here.
//!
//! `docs/podspec.md` shows it as a table. What depends on more than one field is
//! looked at in [`super::fields`], once this lets a pod pass.

use vk_provider::podspec::{
    Declaration, Values, honoured, honoured_only, no_meaning, refused, refused_but, refused_unless,
};

/// `ignore` accepts probes that nobody runs: Ready then means *application running*.
pub const PROBES_ANNOTATION: &str = "flightctl.io/probes";

/// A day: a device's agent does nothing else while it stops containers.
const MAX_GRACE: i64 = 24 * 60 * 60;

const SCHEDULER: &str = "for the scheduler, which has decided";
const RESOLVER: &str = "containers use the device's resolver";
const NO_SHARING: &str = "containers of a device share the network of their pod and nothing else";
const NO_CLAIMS: &str = "devices know no resource claims";
const ONE_RUNTIME: &str = "devices have one runtime; leave it out";
const SECURITY: &str = "security settings are not passed to devices yet; set them in the image";
const VOLUMES: &str = "devices have configMap, secret, projected, downwardAPI and emptyDir volumes; use one of those, or put files into the image";
const MOUNTS: &str = "mount without propagation";
const NO_TERMINAL: &str = "containers on a device have no terminal and no input";
const NO_MESSAGES: &str =
    "messages of ended containers do not come back from devices; leave it out";
const NO_PROBES: &str = "nobody runs probes on a device, Ready means running";
const ONE_POLICY: &str = "a device restarts by spec.restartPolicy alone";

/// The test that compares a container with every field with its unit.
const WRITTEN: &str = "a_container_with_everything_is_written_as_measured";
/// The test that looks at what containers on a simulated device have.
const GIVEN: &str = "a_pod_has_everything_it_is_given_and_leaves_nothing_behind";
/// The test that changes objects under a running pod.
const FRESH: &str = "changed_objects_reach_the_files_of_running_containers_and_restart_nothing";
/// The test of what can be mounted.
const PARTS: &str =
    "a_part_of_a_volume_is_mounted_as_it_is_and_nothing_in_place_of_what_is_not_there";

/// What becomes of a pod's fields on a device.
pub static POD_SPEC: Declaration = Declaration::new(&[
    // Kept by the framework.
    honoured(
        "spec.activeDeadlineSeconds",
        "a_pod_past_its_active_deadline_fails_and_is_stopped",
    ),
    honoured(
        "spec.readinessGates",
        "a_running_pod_is_ready_unless_the_remote_or_a_gate_says_otherwise",
    ),
    honoured(
        "spec.nodeName",
        "s1_a_pod_reaches_a_device_and_tells_its_story",
    ),
    // Where it runs.
    no_meaning(
        "spec.{affinity,preemptionPolicy,priority,priorityClassName,schedulerName,schedulingGates,schedulingGroup,tolerations,topologySpreadConstraints}",
        SCHEDULER,
    ),
    honoured(
        "spec.nodeSelector",
        "devices_are_chosen_by_name_alias_or_label",
    )
    .note("Entries that are no labels of the node choose among its devices"),
    honoured_only(
        "spec.restartPolicy",
        "never_runs_once",
        Values::Words(&["Always", "OnFailure", "Never"]),
        "use Always, OnFailure or Never",
    ),
    honoured_only(
        "spec.terminationGracePeriodSeconds",
        WRITTEN,
        Values::Range(0, MAX_GRACE),
        "use 0 to 86400 seconds: the device applies no other change while it waits",
    )
    .note("Fixed when the pod starts"),
    refused_but(
        "spec.os.name",
        "devices run Linux",
        Values::Words(&["linux"]),
    ),
    // The network.
    honoured(
        "spec.hostNetwork",
        "host_network_needs_no_podman_pod_and_publishes_nothing",
    ),
    honoured("spec.hostname", WRITTEN),
    refused("spec.hostnameOverride", "use spec.hostname"),
    refused_but(
        "spec.setHostnameAsFQDN",
        "a device does not know the cluster's domain; use spec.hostname",
        Values::Bool(false),
    ),
    no_meaning(
        "spec.subdomain",
        "for the cluster's DNS, which nothing on a device asks",
    ),
    no_meaning(
        "spec.enableServiceLinks",
        "no Service works on a device, so none is put into the environment; the API server is, where workloads.apiServer is set",
    ),
    refused("spec.dnsConfig", RESOLVER),
    refused_but(
        "spec.dnsPolicy",
        "containers use the device's resolver; leave the policy out",
        Values::Words(&["ClusterFirst", "ClusterFirstWithHostNet", "Default"]),
    ),
    refused("spec.hostAliases", "not passed to devices yet"),
    // The pod's identity.
    honoured("spec.serviceAccountName", GIVEN)
        .note("Its tokens reach devices only from namespaces that the configuration lists"),
    no_meaning(
        "spec.{automountServiceAccountToken,serviceAccount}",
        "the API server has already turned it into a volume, or none, and into serviceAccountName",
    ),
    refused(
        "spec.imagePullSecrets",
        "put the registry's credentials on the device (/root/.config/containers/auth.json) and leave them out here and in the ServiceAccount",
    ),
    // What it shares and may do.
    refused_but(
        "spec.{hostIPC,hostPID,shareProcessNamespace}",
        NO_SHARING,
        Values::Bool(false),
    ),
    refused_but(
        "spec.hostUsers",
        "devices run pods without user namespaces",
        Values::Bool(true),
    ),
    refused(
        "spec.overhead",
        "devices have one runtime, without overhead",
    ),
    refused("spec.runtimeClassName", ONE_RUNTIME),
    refused("spec.resourceClaims", NO_CLAIMS),
    refused("spec.resources", "set the resources of each container"),
    refused("spec.securityContext", SECURITY),
    no_meaning(
        "spec.securityContext.fsGroupChangePolicy",
        "says nothing without fsGroup, which is refused",
    ),
    refused_but(
        "spec.securityContext.runAsNonRoot",
        SECURITY,
        Values::Bool(false),
    ),
    // What Podman does by itself.
    refused_but(
        "spec.securityContext.seccompProfile.type",
        SECURITY,
        Values::Words(&["RuntimeDefault"]),
    ),
    refused_but(
        "spec.securityContext.supplementalGroupsPolicy",
        SECURITY,
        Values::Words(&["Merge"]),
    ),
    // Volumes.
    refused("spec.volumes", VOLUMES),
    honoured("spec.volumes[].name", WRITTEN),
    honoured("spec.volumes[].emptyDir", WRITTEN)
        .note("A folder on the device's disk; empty again after an update"),
    refused(
        "spec.volumes[].emptyDir.medium",
        "an emptyDir is a folder on the device's disk; leave the medium out",
    ),
    refused_but(
        "spec.volumes[].emptyDir.sizeLimit",
        "nothing on a device watches the size of a folder; leave the limit out",
        Values::Words(&["0"]),
    ),
    honoured("spec.volumes[].configMap", FRESH),
    honoured("spec.volumes[].{downwardAPI,secret}", GIVEN),
    honoured("spec.volumes[].projected", GIVEN)
        .note("Tokens of namespaces that the configuration lists; others are refused, and the volume that the API server adds is left out"),
    refused(
        "spec.volumes[].projected.sources[].{clusterTrustBundle,podCertificate}",
        "not projected on devices; use configMap, secret, downwardAPI or serviceAccountToken",
    ),
    // Containers.
    refused(
        "spec.ephemeralContainers",
        "nothing can be started beside an application that runs",
    )
    .note("The pod goes on; its status and a warning event say so"),
    honoured(
        "spec.{containers,initContainers}[].{name,image,args,command,workingDir}",
        WRITTEN,
    ),
    honoured_only(
        "spec.{containers,initContainers}[].imagePullPolicy",
        WRITTEN,
        Values::Words(&["Always", "IfNotPresent", "Never"]),
        "use Always, IfNotPresent or Never",
    )
    .note("`Always` is taken for `IfNotPresent`, with a warning event"),
    honoured(
        "spec.{containers,initContainers}[].env[].{name,value}",
        WRITTEN,
    ),
    honoured(
        "spec.{containers,initContainers}[].env[].valueFrom.{configMapKeyRef,fieldRef,resourceFieldRef,secretKeyRef}",
        GIVEN,
    )
    .note("As it was when the container's unit was written"),
    refused(
        "spec.{containers,initContainers}[].env[].valueFrom.fileKeyRef",
        "the file is out of reach; use a configMapKeyRef or a secretKeyRef",
    ),
    honoured("spec.{containers,initContainers}[].envFrom", GIVEN),
    honoured(
        "spec.{containers,initContainers}[].ports[].{containerPort,hostIP,hostPort,protocol}",
        WRITTEN,
    )
    .note("Published where `hostPort` is set, TCP and UDP"),
    no_meaning(
        "spec.{containers,initContainers}[].ports[].name",
        "for the cluster's objects only",
    ),
    honoured(
        "spec.{containers,initContainers}[].resources.{limits,requests}",
        "quantities_become_bytes_cores_and_shares_exactly",
    )
    .note("`cpu` and `memory`; other limits are refused"),
    refused(
        "spec.{containers,initContainers}[].resources.claims",
        NO_CLAIMS,
    ),
    no_meaning(
        "spec.{containers,initContainers}[].resizePolicy",
        "nothing is resized in place, so nothing restarts for it",
    ),
    refused(
        "pods/resize",
        "limits of an application that runs cannot be changed",
    ),
    honoured(
        "spec.{containers,initContainers}[].volumeMounts[].{name,mountPath,readOnly}",
        WRITTEN,
    ),
    refused_but(
        "spec.{containers,initContainers}[].volumeMounts[].mountPropagation",
        MOUNTS,
        Values::Words(&["None"]),
    ),
    refused_but(
        "spec.{containers,initContainers}[].volumeMounts[].recursiveReadOnly",
        MOUNTS,
        Values::Words(&["Disabled"]),
    ),
    honoured(
        "spec.{containers,initContainers}[].volumeMounts[].{subPath,subPathExpr}",
        PARTS,
    )
    .note("Of volumes of files, and as they were when the container started; refused of emptyDir"),
    refused(
        "spec.{containers,initContainers}[].volumeDevices",
        "devices have no block volumes",
    ),
    refused("spec.containers[].restartPolicy", ONE_POLICY),
    honoured_only(
        "spec.initContainers[].restartPolicy",
        "a_sidecar_runs_beside_the_containers_behind_it",
        Values::Words(&["Always"]),
        ONE_POLICY,
    ),
    refused(
        "spec.{containers,initContainers}[].restartPolicyRules",
        ONE_POLICY,
    ),
    refused(
        "spec.{containers,initContainers}[].lifecycle",
        "devices run no hooks; do it in the container's own command",
    ),
    refused_unless(
        "spec.{containers,initContainers}[].{livenessProbe,readinessProbe,startupProbe}",
        NO_PROBES,
        (PROBES_ANNOTATION, "ignore"),
    ),
    refused_but(
        "spec.{containers,initContainers}[].{stdin,tty}",
        NO_TERMINAL,
        Values::Bool(false),
    ),
    no_meaning(
        "spec.{containers,initContainers}[].stdinOnce",
        "there is no input that could end",
    ),
    refused_but(
        "spec.{containers,initContainers}[].terminationMessagePath",
        NO_MESSAGES,
        Values::Words(&["/dev/termination-log"]),
    ),
    refused_but(
        "spec.{containers,initContainers}[].terminationMessagePolicy",
        NO_MESSAGES,
        Values::Words(&["File"]),
    ),
    refused(
        "spec.{containers,initContainers}[].securityContext",
        SECURITY,
    ),
    refused_but(
        "spec.{containers,initContainers}[].securityContext.allowPrivilegeEscalation",
        SECURITY,
        Values::Bool(true),
    ),
    refused_but(
        "spec.{containers,initContainers}[].securityContext.{privileged,readOnlyRootFilesystem,runAsNonRoot}",
        SECURITY,
        Values::Bool(false),
    ),
    refused_but(
        "spec.{containers,initContainers}[].securityContext.procMount",
        SECURITY,
        Values::Words(&["Default"]),
    ),
    refused_but(
        "spec.{containers,initContainers}[].securityContext.seccompProfile.type",
        SECURITY,
        Values::Words(&["RuntimeDefault"]),
    ),
]);
