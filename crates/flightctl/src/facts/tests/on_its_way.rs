//! While the device has not reached the version that holds the pod.

use super::*;
use crate::blame::Kind;
use crate::device::tests::updating;

#[test]
fn an_update_that_names_our_image_says_how_the_pull_goes() {
    let two = expected(Policy::Always, &[Role::App, Role::App]);
    let rows = [
        (
            true,
            "Preparing",
            "0/1 images complete, pending: docker.io/library/c0:1",
            "|ContainerCreating ContainerCreating",
            None,
        ),
        (
            true,
            "Preparing",
            "1/2 images complete, retrying: docker.io/library/c1:1: image not found",
            "|ContainerCreating ImagePullBackOff",
            Some("Failed"),
        ),
        (
            false,
            "Error",
            "[2026-11-21 04:38:50] While Preparing: prefetch failed for docker.io/library/c0:1: authentication failed",
            "|ErrImagePull ContainerCreating",
            Some("Failed"),
        ),
        (
            false,
            "Error",
            "While Preparing: prefetch failed for docker.io/library/c0:1.27: x",
            "|ContainerCreating ContainerCreating",
            None,
        ),
        (
            false,
            "Error",
            "While Preparing: prefetch failed for vk-u1: internal error occurred",
            "|CreateContainerError CreateContainerError",
            Some("Failed"),
        ),
        (
            false,
            "Error",
            "While Rebooting: unknown failed: an error occurred",
            "|ContainerCreating ContainerCreating",
            None,
        ),
        (
            true,
            "ApplyingUpdate",
            "Device is applying renderedVersion: 2",
            "|ContainerCreating ContainerCreating",
            None,
        ),
    ];
    for (active, reason, message, want, trouble) in rows {
        let seen = see(&two, &updating(active, reason, message), false, false);
        assert_eq!(told(&seen), want, "{message}");
        assert_eq!(seen.trouble.map(|(reason, _)| reason), trouble, "{message}");
    }
}

#[test]
fn an_invalid_spec_is_the_configuration_error_of_those_it_names_alone() {
    let one = expected(Policy::Always, &[Role::App]);
    let another = APP.replace("u1", "u2");
    for (name, want, trouble) in [
        (
            APP,
            "|CreateContainerConfigError",
            Some("DeviceSpecInvalid"),
        ),
        // Of others, or of one that gave way since: it is said until something else
        // is rendered.
        ("g", "|ContainerCreating", None),
        (&another, "|ContainerCreating", None),
    ] {
        let device = DeviceView {
            spec_invalid: Some(format!("1 invalid configuration: {name}. Error: of {APP}")),
            ..DeviceView::default()
        };
        let seen = see(&one, &device, false, false);
        assert_eq!(told(&seen), want, "{name}");
        assert_eq!(seen.trouble.map(|(reason, _)| reason), trouble, "{name}");
    }
}

#[test]
fn what_the_device_refuses_waits_for_that_reason() {
    let mut device = updating(false, "Updated", "");
    device.app_status.clear();
    let sight = Sight {
        app: APP,
        device: &device,
        applied: false,
        refused: Some(("FleetManaged", "owned")),
        held: None,
        refusal: None,
        settled: true,
        confirmed: false,
        echo: false,
        ended: false,
    };
    let seen = facts(&expected(Policy::Always, &[Role::App]), &sight);
    assert_eq!(told(&seen), "|FleetManaged");
}

#[test]
fn while_a_new_revision_is_on_its_way_the_old_one_is_left_as_it_was() {
    let seen = see(
        &expected(Policy::Always, &[Role::App]),
        &device("Completed", "0/1", 3),
        false,
        true,
    );
    assert_eq!(told(&seen), "|?");
    assert_eq!(seen.containers[0].restarts, None);
}

#[test]
fn what_keeps_its_device_is_said_by_a_pod_that_waits_for_it_and_by_no_other() {
    let device = DeviceView::default();
    let one = expected(Policy::Always, &[Role::App]);
    let sight = |applied| Sight {
        app: APP,
        device: &device,
        applied,
        refused: None,
        held: None,
        refusal: Some(("DeviceUpdateFailed", "Device dev refuses version 3: x")),
        settled: false,
        confirmed: false,
        echo: false,
        ended: false,
    };
    let waits = facts(&one, &sight(false));
    let words = waiting("ContainerCreating", "Device dev refuses version 3: x");
    assert_eq!(waits.containers[0].state, words);
    assert_eq!(
        waits.trouble.map(|(reason, _)| reason),
        Some("DeviceUpdateFailed")
    );
    assert_eq!(facts(&one, &sight(true)).trouble, None);
}

#[test]
fn a_pod_that_is_kept_out_says_so_in_the_kubelets_words() {
    let device = DeviceView::default();
    let two = expected(Policy::Always, &[Role::Init, Role::App]);
    let refused = |kind, words: &str| Why::Refused {
        kind,
        words: words.into(),
    };
    let pull = refused(
        Kind::Pull,
        "0/1 images complete, pending: docker.io/library/c1:1",
    );
    let unnamed = "While Rebooting: unknown failed: an error occurred";
    let turn = Why::Turn {
        words: unnamed.into(),
    };
    for (why, want, message) in [
        (
            pull,
            "ContainerCreating|ImagePullBackOff",
            "Back-off pulling image \"docker.io/library/c1:1\": 0/1 images complete, pending: docker.io/library/c1:1",
        ),
        (
            refused(Kind::Unit, unnamed),
            "CreateContainerError|CreateContainerError",
            unnamed,
        ),
        (
            refused(Kind::Config, "1 invalid configuration: vk-u1. Error: x"),
            "CreateContainerConfigError|CreateContainerConfigError",
            "1 invalid configuration: vk-u1. Error: x",
        ),
        (turn, "ContainerCreating|PodInitializing", ""),
    ] {
        let sight = Sight {
            app: APP,
            device: &device,
            applied: false,
            refused: None,
            held: Some(&why),
            refusal: None,
            settled: false,
            confirmed: false,
            echo: false,
            ended: false,
        };
        let seen = facts(&two, &sight);
        assert_eq!(told(&seen), want);
        let ContainerState::Waiting { message: told, .. } = &seen.containers[0].state else {
            panic!("{seen:?}")
        };
        assert!(told.contains(message), "{told}");
        assert!(!seen.ended);
    }
}
