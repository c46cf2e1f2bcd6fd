use super::*;
use crate::device::tests::updating as says;
use proptest::prelude::*;

const UID: &str = "0f8fad5b-d9cb-469f-a165-70867728950e";
const LONG: &str = "registry.example/a/very/long/path/of/a/team/with/many/parts/and/an/image:1.27";

fn app() -> String {
    format!("vk-{UID}")
}

fn invalid(message: &str) -> DeviceView {
    DeviceView {
        spec_invalid: Some(message.into()),
        ..DeviceView::default()
    }
}

/// Of three on their way, the last one tried again: who is to blame, and for what.
fn verdict(device: &DeviceView, stood: u64) -> (Judgement, Option<Kind>) {
    let Some(obstacle) = Obstacle::of(device) else {
        return (Judgement::Wait, None);
    };
    let apps = [app(), "vk-u2".into(), "vk-u3".into()];
    let images = [
        vec!["docker.io/library/one:1".to_owned(), LONG.to_owned()],
        vec!["docker.io/library/two:1".to_owned()],
        vec!["docker.io/library/three:1".to_owned()],
    ];
    let on_their_way: Vec<OnItsWay<'_>> = apps
        .iter()
        .zip(&images)
        .map(|(app, images)| OnItsWay {
            app,
            images,
            again: app == "vk-u3",
        })
        .collect();
    let judgement = judge(&obstacle, &on_their_way, Duration::from_secs(stood));
    let kind = match &judgement {
        Judgement::Named(who) => Some(obstacle.kind_for(&images[who[0]])),
        _ => None,
    };
    (judgement, kind)
}

fn named(who: &[usize], kind: Kind) -> (Judgement, Option<Kind>) {
    (Judgement::Named(who.to_vec()), Some(kind))
}

#[test]
fn the_words_of_a_device_tell_who_is_to_blame_and_for_what() {
    let error = |text: &str| says(false, "Error", &format!("[2026-11-21 04:38:50] {text}"));
    let preparing = |text: &str| says(true, "Preparing", text);
    let others = (Judgement::Others, None);
    let unnamed = (Judgement::Unnamed, None);
    let id = app_id(&app());
    let cut = &LONG[LONG.len() - 64..];
    for (device, expected) in [
        // Recorded.
        (
            error(
                "While Preparing: prefetch failed for docker.io/library/two:1: service unavailable (network issue)",
            ),
            named(&[1], Kind::Pull),
        ),
        (
            error(
                "While Preparing: prefetch failed for docker.io/library/two:1: authentication failed",
            ),
            named(&[1], Kind::Pull),
        ),
        (
            error(&format!(
                "While Preparing: prefetch failed for {}: internal error occurred",
                app()
            )),
            named(&[0], Kind::Unit),
        ),
        (
            error(
                "While Preparing: prefetch failed for quay.io/theirs/app:1: authentication failed",
            ),
            others.clone(),
        ),
        (
            error(
                "While Preparing: prefetch failed for docker.io/library/two:1.27: authentication failed",
            ),
            others.clone(),
        ),
        (
            error("While Rebooting: unknown failed: an error occurred"),
            unnamed.clone(),
        ),
        (
            preparing("0/1 images complete, retrying: docker.io/library/one:1: image not found"),
            named(&[0], Kind::Pull),
        ),
        (
            preparing(
                "0/2 images complete, retrying: quay.io/theirs/app:1: image not found, and 1 more pending",
            ),
            others.clone(),
        ),
        (
            invalid(
                "1 invalid configuration: g. Error: failed fetching specified Repository definition r: not found",
            ),
            others.clone(),
        ),
        // As the agent's source makes them.
        (
            error(&format!(
                "While Preparing: prefetch failed for ...{cut}: authentication failed"
            )),
            named(&[0], Kind::Pull),
        ),
        (
            error(&format!(
                "While Rebooting: unknown failed for {id}-app.service: an error occurred"
            )),
            named(&[0], Kind::Unit),
        ),
        (
            error(&format!(
                "While ApplyingUpdate: config failed for /var/lib/virtual-kubelet/{UID}/v/key: an error occurred"
            )),
            named(&[0], Kind::Unit),
        ),
        (
            error("While Preparing: applications failed for vk-u2: invalid configuration or input"),
            named(&[1], Kind::Unit),
        ),
        (
            error("While ApplyingUpdate: config failed: internal error occurred"),
            unnamed.clone(),
        ),
        (
            error(
                "While Preparing: resources failed for CPU: resource limit exceeded (CPU, memory, or disk)",
            ),
            others.clone(),
        ),
        (
            error("While Preparing: update policy failed: internal error occurred"),
            others.clone(),
        ),
        (
            says(
                true,
                "ApplyingUpdate",
                "[2026-11-21 04:38:50] While Rebooting: unknown failed: an error occurred",
            ),
            unnamed.clone(),
        ),
        (
            error("Failed to update to renderedVersion: 3: something about vk-u2: odd"),
            named(&[1], Kind::Unit),
        ),
        (error(""), unnamed),
        (
            invalid(&format!(
                "1 invalid configuration: {}-env. Error: odd",
                app()
            )),
            named(&[0], Kind::Config),
        ),
        // Nothing is wrong, or nothing yet.
        (
            preparing("Device is preparing an update to renderedVersion: 3"),
            (Judgement::Wait, None),
        ),
        (
            preparing("1/3 images complete, pending: docker.io/library/one:1"),
            (Judgement::Wait, None),
        ),
        (
            says(false, "Updated", "Updated to desired renderedVersion: 3"),
            (Judgement::Wait, None),
        ),
    ] {
        assert_eq!(verdict(&device, 0), expected, "{device:?}");
    }
}

#[test]
fn an_image_that_does_not_come_makes_room_after_a_minute_and_one_that_failed_before_at_once() {
    let pending = |images: &str| {
        says(
            true,
            "Preparing",
            &format!("0/3 images complete, pending: {images}"),
        )
    };
    let one = pending("docker.io/library/one:1");
    assert_eq!(verdict(&one, 59).0, Judgement::Wait);
    assert_eq!(verdict(&one, 60), named(&[0], Kind::Pull));
    let again = pending("docker.io/library/one:1, docker.io/library/three:1");
    assert_eq!(verdict(&again, 0), named(&[2], Kind::Pull));
    // Nobody would be helped.
    let all =
        pending("docker.io/library/one:1, docker.io/library/two:1, docker.io/library/three:1");
    assert_eq!(verdict(&all, 600).0, Judgement::Wait);
    assert_eq!(
        verdict(&pending("quay.io/theirs/app:1"), 600).0,
        Judgement::Wait
    );
}

#[test]
fn a_unit_or_file_whose_name_was_cut_is_known_by_what_is_left() {
    let id = app_id(&app());
    let unit = format!("{id}-a-container-of-a-long-name-for-once.service");
    let file = format!("/var/lib/virtual-kubelet/{UID}/volume/some/deep/folder/key");
    for whole in [unit, file] {
        let end = &whole[whole.len() - 64..];
        let words = format!("While Rebooting: unknown failed for ...{end}: an error occurred");
        assert!(names(&words, &app()), "{words}");
        assert!(
            !names(&words, "vk-9b2f3c1e-d9cb-469f-a165-708677289501"),
            "{words}"
        );
    }
}

#[test]
fn nobody_is_blamed_for_what_others_call_their_images_and_files() {
    let id = app_id(&app());
    let evil = format!("docker.io/evil/{id}-x:1");
    for words in [
        format!("While Preparing: prefetch failed for {evil}: authentication failed"),
        format!("0/2 images complete, retrying: {evil}: image not found, and 1 more pending"),
        format!(
            "While Preparing: prefetch failed for {evil}: no docker.io/library/one:1 for {id}-app.service"
        ),
        format!(
            "0/2 images complete, retrying: {evil}: no docker.io/library/one:1 for {id}-app.service"
        ),
    ] {
        let error = says(words.starts_with('0'), "Error", &words);
        let of = |app: &str, image: &str| (app.to_owned(), vec![image.to_owned()]);
        let both = [of(&app(), "docker.io/library/one:1"), of("vk-u2", &evil)];
        let on_their_way = both.iter().map(|(app, images)| OnItsWay {
            app,
            images,
            again: false,
        });
        let on_their_way: Vec<_> = on_their_way.collect();
        let obstacle = Obstacle::of(&error).unwrap();
        let judged = judge(&obstacle, &on_their_way, Duration::ZERO);
        assert_eq!(judged, Judgement::Named(vec![1]), "{words}");
    }
    for words in [
        format!("1 invalid configuration: g. Error: no {id}-app.service"),
        format!(
            "While ApplyingUpdate: config failed for /var/lib/virtual-kubelet/u2/v/{id}-x: odd"
        ),
        format!("While Preparing: prefetch failed for quay.io/theirs/{id}-x:1: odd"),
    ] {
        assert!(!names(&words, &app()), "{words}");
    }
}

#[test]
fn the_time_is_no_part_of_the_words() {
    assert_eq!(words("[2026-11-21 04:38:50] While x"), "While x");
    assert_eq!(
        words("0/1 images complete, pending: x"),
        "0/1 images complete, pending: x"
    );
    assert_eq!(words("[odd"), "[odd");
}

proptest! {
    #[test]
    fn any_words_are_read_without_panic(message in ".*", reason in "Error|Preparing|.*", active in any::<bool>()) {
        let device = says(active, &reason, &message);
        let _ = verdict(&device, 100);
        let text = format!("While Preparing: prefetch failed for ...{message}: x");
        let _ = verdict(&says(false, "Error", &text), 0);
    }
}
