//! What is done with the fields of a pod: little, and the rest is refused.

use vk_provider::podspec::{
    Declaration, Refusals, Values, honoured, is_service_account_volume, no_meaning, refused,
    refused_but,
};
use vk_provider::{Capabilities, Grace, Heeds, InputNeeds, PodRequest};

const RUNS: &str = "a_container_is_its_command_and_its_output_the_log";
const GIVEN: &str = "the_environment_is_of_values_fields_and_objects";
const JOINED: &str = "attach_joins_output_and_input_and_once_closes_it";
const NO_ISOLATION: &str = "processes of this machine are not isolated";
const SCHEDULER: &str = "the scheduler has acted on it";
const NO_TOKENS: &str =
    "only the volume that the API server adds for its token, which is left out; others are refused";

pub(crate) static CAPABILITIES: Capabilities = Capabilities {
    name: "mock",
    grace: Grace::Exact,
    restarts: false,
    heeds: Heeds::NOTHING,
    pod_spec: &POD_SPEC,
    inputs: InputNeeds {
        objects: true,
        services: false,
    },
};

/// See [`refusals`] for what depends on more than one field.
pub(crate) static POD_SPEC: Declaration = Declaration::new(&[
    refused(
        "spec",
        "a test aid runs a command and nothing else; leave it out",
    ),
    honoured("spec.nodeName", "a_pod_runs_and_goes"),
    honoured("spec.restartPolicy", "a_job_like_pod_ends_and_stays_ended"),
    honoured(
        "spec.terminationGracePeriodSeconds",
        "a_stop_is_term_and_kill_when_the_grace_is_over",
    ),
    honoured(
        "spec.activeDeadlineSeconds",
        "a_pod_past_its_active_deadline_fails_and_is_stopped",
    ),
    honoured(
        "spec.readinessGates",
        "a_running_pod_is_ready_unless_the_remote_or_a_gate_says_otherwise",
    ),
    honoured(
        "spec.{nodeSelector,affinity.nodeAffinity}",
        "a_selector_counts_labels_of_others_too",
    ),
    no_meaning(
        "spec.{affinity.podAffinity,affinity.podAntiAffinity,preemptionPolicy,priority,priorityClassName,schedulerName,schedulingGates,schedulingGroup,tolerations,topologySpreadConstraints}",
        SCHEDULER,
    ),
    no_meaning(
        "spec.{hostNetwork,hostPID,hostIPC}",
        "all pods share those of this machine",
    ),
    no_meaning(
        "spec.{automountServiceAccountToken,serviceAccount,serviceAccountName}",
        "no token is given",
    ),
    no_meaning("spec.enableServiceLinks", "no services are given"),
    refused_but(
        "spec.dnsPolicy",
        "processes use this machine's resolver",
        Values::Words(&["ClusterFirst", "ClusterFirstWithHostNet", "Default"]),
    ),
    refused_but(
        "spec.os.name",
        "this machine runs Linux",
        Values::Words(&["linux"]),
    ),
    refused_but(
        "spec.shareProcessNamespace",
        NO_ISOLATION,
        Values::Bool(false),
    ),
    refused_but("spec.setHostnameAsFQDN", NO_ISOLATION, Values::Bool(false)),
    refused("spec.volumes", "there is nothing to mount them into"),
    no_meaning("spec.volumes[].{name,projected}", NO_TOKENS),
    refused(
        "spec.ephemeralContainers",
        "use exec: there is no isolation to join",
    ),
    refused("pods/resize", "nothing limits a process"),
    honoured("spec.containers[].{name,command,args}", RUNS),
    no_meaning(
        "spec.containers[].{image,imagePullPolicy}",
        "nothing is pulled: the command runs on this machine, and an event says so",
    ),
    no_meaning("spec.imagePullSecrets", "nothing is pulled"),
    honoured("spec.containers[].env[].{name,value}", GIVEN),
    honoured(
        "spec.containers[].env[].valueFrom.{configMapKeyRef,fieldRef,resourceFieldRef,secretKeyRef}",
        GIVEN,
    ),
    honoured("spec.containers[].envFrom", GIVEN),
    no_meaning(
        "spec.containers[].ports[].{containerPort,name,protocol}",
        "a process listens where it likes",
    ),
    honoured(
        "spec.containers[].resources.requests",
        "what_does_not_fit_is_rejected_as_a_kubelet_rejects",
    ),
    no_meaning("spec.containers[].resizePolicy", "nothing is resized"),
    honoured("spec.containers[].{stdin,stdinOnce}", JOINED),
    honoured(
        "spec.containers[].tty",
        "a_terminal_has_the_sizes_that_the_client_says",
    ),
    refused_but(
        "spec.containers[].terminationMessagePath",
        "no such file is read",
        Values::Words(&["/dev/termination-log"]),
    ),
    refused_but(
        "spec.containers[].terminationMessagePolicy",
        "no such file is read",
        Values::Words(&["File"]),
    ),
    no_meaning("spec.containers[].volumeMounts", NO_TOKENS),
]);

/// What the declaration cannot say.
pub(super) fn refusals(pod: &PodRequest) -> Refusals {
    let mut refusals = Refusals::default();
    for (index, volume) in pod.spec().volumes.iter().flatten().enumerate() {
        refusals.unless(
            is_service_account_volume(volume),
            format!("spec.volumes[{index}]"),
            "there is nothing to mount it into",
        );
    }
    for (index, container) in pod.spec().containers.iter().enumerate() {
        refusals.unless(
            container
                .command
                .as_ref()
                .is_some_and(|words| !words.is_empty()),
            format!("spec.containers[{index}].command"),
            "no image is pulled that could have one; say which program of this machine to run",
        );
    }
    refusals
}
