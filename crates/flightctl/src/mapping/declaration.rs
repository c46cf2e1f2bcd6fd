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
const NO_CLAIMS: &str = "devices know no resource claims";
const ONE_RUNTIME: &str = "devices have one runtime; leave it out";
const NO_PROFILES: &str = "nobody puts profiles on devices; use RuntimeDefault or Unconfined";
const NO_APP_ARMOR: &str = "nobody here knows whether a device has AppArmor; leave it out, and its Podman does what it does by itself";
const NOT_WINDOWS: &str = "devices run Linux";
const LISTED: &str = "Only in namespaces that `workloads.privileged` lists";
const VOLUMES: &str = "devices have configMap, secret, projected, downwardAPI and emptyDir volumes; use one of those, or put files into the image";
const MOUNTS: &str = "mount without propagation";
const NO_TERMINAL: &str = "containers on a device have no terminal and no input";
const NO_MESSAGES: &str =
    "messages of ended containers do not come back from devices; leave it out";
const NO_PROBES: &str =
    "nobody runs such a probe on a device, Ready means running; use livenessProbe.exec";
const ONE_POLICY: &str = "a device restarts by spec.restartPolicy alone";

/// The test that compares a container with every field with its unit.
const WRITTEN: &str = "a_container_with_everything_is_written_as_measured";
/// The test that looks at what containers on a simulated device have.
const GIVEN: &str = "a_pod_has_everything_it_is_given_and_leaves_nothing_behind";
/// The test that changes objects under a running pod.
const FRESH: &str = "changed_objects_reach_the_files_of_running_containers_and_restart_nothing";
/// The tests of security contexts.
const CONFINED: &str = "a_container_is_confined_as_its_security_contexts_say";
const OWNED: &str = "an_fs_group_owns_the_volumes_and_is_one_of_the_containers_groups";
const BEYOND: &str = "ways_to_the_device_are_open_to_namespaces_that_are_listed_and_to_no_others";
/// The test of what the containers of a pod have in common.
const NETWORK: &str =
    "names_resolver_and_settings_are_of_the_podman_pod_or_of_each_container_without_one";
/// The tests of what happens to containers while they run.
const ALIVE: &str = "a_container_is_ended_whose_command_says_that_it_is_not_alive";
const HOOK: &str = "a_hook_runs_before_the_end_and_within_the_grace_period";
/// The test of volumes in memory.
const MEMORY: &str = "a_volume_in_memory_is_held_by_the_podman_pod";
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
        "spec.{preemptionPolicy,priority,priorityClassName,schedulerName,schedulingGates,schedulingGroup,tolerations}",
        SCHEDULER,
    ),
    honoured(
        "spec.affinity",
        "pods_that_must_not_share_a_device_do_not",
    )
    .note("Required pod anti-affinity with the topology key `flightctl.io/device` holds between the devices of a node, within the pod's namespace; what cannot be kept there is refused by path. All else is for the scheduler, which has decided"),
    honoured(
        "spec.topologySpreadConstraints",
        "a_spread_that_must_be_kept_is_kept_over_the_devices_that_take_pods",
    )
    .note("`DoNotSchedule` with the topology key `flightctl.io/device`, likewise. The scheduler binds no such pod to a node of several devices: use the annotation `flightctl.io/max-skew`"),
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
    honoured("spec.dnsConfig.nameservers", NETWORK).note("With `dnsPolicy: None`"),
    honoured("spec.dnsConfig.searches", NETWORK).note("With `dnsPolicy: None`"),
    honoured("spec.dnsConfig.options", NETWORK)
        .note("In place of those that the device itself has"),
    honoured_only(
        "spec.dnsPolicy",
        NETWORK,
        Values::Words(&["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"]),
        "use Default or None",
    )
    .note("All but `None` are the device's resolver: no pod on a device reaches the cluster's"),
    honoured("spec.hostAliases", NETWORK),
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
    honoured("spec.{hostIPC,hostPID}", BEYOND).note(LISTED),
    honoured(
        "spec.shareProcessNamespace",
        "containers_share_their_processes_through_a_podman_pod",
    )
    .note("Refused with `hostNetwork`"),
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
    honoured("spec.securityContext.{runAsUser,supplementalGroups}", CONFINED),
    honoured("spec.securityContext.runAsGroup", CONFINED)
        .note("With `runAsUser`; the groups that the image gives this user are not added then"),
    honoured("spec.securityContext.runAsNonRoot", CONFINED)
        .note("With a `runAsUser` other than 0: what user an image has is not known"),
    honoured_only(
        "spec.securityContext.supplementalGroupsPolicy",
        CONFINED,
        Values::Words(&["Merge", "Strict"]),
        "use Merge or Strict",
    )
    .note("`Merge` without `runAsGroup`, `Strict` with one of every container"),
    honoured("spec.securityContext.fsGroup", OWNED),
    no_meaning(
        "spec.securityContext.fsGroupChangePolicy",
        "the volumes of a device are new with each pod and made for their group",
    ),
    honoured_only(
        "spec.{securityContext,containers[].securityContext,initContainers[].securityContext}.seccompProfile.type",
        CONFINED,
        Values::Words(&["RuntimeDefault", "Unconfined"]),
        NO_PROFILES,
    )
    .note("What Podman does by itself is its own default; `Unconfined` only in namespaces that `workloads.privileged` lists"),
    refused(
        "spec.{securityContext,containers[].securityContext,initContainers[].securityContext}.seccompProfile.localhostProfile",
        NO_PROFILES,
    ),
    honoured_only(
        "spec.{securityContext,containers[].securityContext,initContainers[].securityContext}.appArmorProfile.type",
        CONFINED,
        Values::Words(&["Unconfined"]),
        NO_APP_ARMOR,
    )
    .note(LISTED),
    refused(
        "spec.{securityContext,containers[].securityContext,initContainers[].securityContext}.appArmorProfile.localhostProfile",
        NO_APP_ARMOR,
    ),
    honoured(
        "spec.{securityContext,containers[].securityContext,initContainers[].securityContext}.seLinuxOptions",
        CONFINED,
    )
    .note("Where the device has SELinux; users, roles, and types other than those of containers only in namespaces that `workloads.privileged` lists"),
    no_meaning(
        "spec.securityContext.seLinuxChangePolicy",
        "no volume of a device is mounted with a label of its own",
    ),
    honoured("spec.securityContext.sysctls", NETWORK)
        .note("Those that a kubelet calls safe; others of a pod's own namespaces only in namespaces that `workloads.privileged` lists"),
    refused(
        "spec.{securityContext,containers[].securityContext,initContainers[].securityContext}.windowsOptions",
        NOT_WINDOWS,
    ),
    // Volumes.
    refused("spec.volumes", VOLUMES),
    honoured("spec.volumes[].name", WRITTEN),
    honoured("spec.volumes[].emptyDir", WRITTEN)
        .note("A folder on the device's disk; empty again after an update"),
    honoured_only(
        "spec.volumes[].emptyDir.medium",
        MEMORY,
        Values::Words(&["Memory"]),
        "devices have no such medium; use Memory, or leave it out",
    )
    .note("Held by the Podman pod: refused with `hostNetwork`, and of init containers of a pod that ends"),
    honoured("spec.volumes[].emptyDir.sizeLimit", MEMORY)
        .note("Of a volume in memory; refused of a folder, whose size nothing watches"),
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
    .note("`cpu` and `memory`; extended resources are counted and nothing is handed to the container; other limits are refused"),
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
    honoured(
        "spec.{containers,initContainers}[].lifecycle.preStop.{exec,sleep}",
        HOOK,
    )
    .note("Within the grace period that is fixed at the start; what becomes of it is in the device's journal alone"),
    honoured("spec.{containers,initContainers}[].lifecycle.stopSignal", HOOK),
    refused(
        "spec.{containers,initContainers}[].lifecycle.preStop.{httpGet,tcpSocket}",
        "nobody on a device sends requests for a hook; use exec",
    ),
    refused(
        "spec.{containers,initContainers}[].lifecycle.postStart",
        "a device would wait for it with every other change; do it in the container's own command",
    ),
    honoured(
        "spec.{containers,initContainers}[].livenessProbe.{exec,failureThreshold,initialDelaySeconds,periodSeconds,successThreshold,timeoutSeconds}",
        ALIVE,
    )
    .note("With an ignored `startupProbe` it begins when that would have been given up, at the earliest; refused beside a `preStop` hook"),
    refused_unless(
        "spec.{containers,initContainers}[].livenessProbe.{grpc,httpGet,tcpSocket,terminationGracePeriodSeconds}",
        NO_PROBES,
        (PROBES_ANNOTATION, "ignore"),
    ),
    refused_unless(
        "spec.{containers,initContainers}[].{readinessProbe,startupProbe}",
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
    honoured(
        "spec.{containers,initContainers}[].securityContext.{allowPrivilegeEscalation,readOnlyRootFilesystem,runAsUser}",
        CONFINED,
    ),
    honoured(
        "spec.{containers,initContainers}[].securityContext.runAsGroup",
        CONFINED,
    )
    .note("With `runAsUser`; the groups that the image gives this user are not added then"),
    honoured(
        "spec.{containers,initContainers}[].securityContext.runAsNonRoot",
        CONFINED,
    )
    .note("With a `runAsUser` other than 0: what user an image has is not known"),
    honoured(
        "spec.{containers,initContainers}[].securityContext.capabilities",
        CONFINED,
    )
    .note("To what Podman gives by itself; what *baseline* does not let a pod add only in namespaces that `workloads.privileged` lists. Users other than root have what is added, too"),
    honoured(
        "spec.{containers,initContainers}[].securityContext.privileged",
        BEYOND,
    )
    .note(LISTED),
    refused_but(
        "spec.{containers,initContainers}[].securityContext.procMount",
        "it needs a user namespace, and devices run pods without",
        Values::Words(&["Default"]),
    ),
]);
