//! The kit itself, proven: backends that each break one rule, and the check
//! that has to find it. They differ from the example in that one thing alone.

#![allow(
    unreachable_pub,
    missing_debug_implementations,
    missing_docs,
    clippy::unwrap_used,
    dead_code,
    reason = "modules of one test"
)]

#[path = "../../examples/memory/backend.rs"]
mod backend;
mod faulty;
#[path = "../../examples/memory/fixture.rs"]
mod fixture;
#[path = "../../examples/memory/remote.rs"]
mod remote;
mod shelf;

use std::sync::Arc;

use faulty::{Fault, Faulty};
use fixture::World;
use shelf::Shelved;
use vk_provider::conformance::{CHECKS, Halt, Outcome, Rule, check};

fn world(fault: Fault) -> World {
    World::with(Box::new(move |remote| Arc::new(Faulty::new(remote, fault))))
}

#[tokio::test(start_paused = true)]
async fn without_a_fault_the_wrapper_keeps_every_rule() {
    let report = check(&world(Fault::None)).await;
    assert!(report.broken().is_empty(), "{report}");
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_wants_what_pods_refer_to_keeps_every_rule_too() {
    let report = check(&Shelved::new(Fault::None)).await;
    assert!(report.broken().is_empty(), "{report}");
    assert!(report.not_run().is_empty(), "{report}");
}

#[tokio::test(start_paused = true)]
async fn a_report_names_the_check_the_rule_and_what_was_seen() {
    let report = check(&world(Fault::ReleaseDoesNothing)).await;
    assert!(
        report
            .broken()
            .contains(&("stop::release_frees", Rule::ReleaseFrees)),
        "{report}"
    );
    let text = report.to_string();
    let line = "stop::release_frees: broken: ReleaseFrees (after release the pod is gone";
    assert!(text.contains(line), "{text}");
    assert!(
        text.contains("seen: the listing shows a pod that was released"),
        "{text}"
    );
}

/// Runs one check alone.
async fn outcome(fault: Fault, name: &str) -> Outcome {
    let check = CHECKS.iter().find(|check| check.name == name).unwrap();
    match name.starts_with("inputs::") {
        true => (check.run)(&Shelved::new(fault)).await,
        false => (check.run)(&world(fault)).await,
    }
}

macro_rules! caught {
    ($($test:ident: $fault:ident breaks $rule:ident, found by $check:literal;)*) => {
        $(
            #[tokio::test(start_paused = true)]
            async fn $test() {
                match outcome(Fault::$fault, $check).await {
                    Err(Halt::Broken { rule: Rule::$rule, .. }) => {}
                    other => panic!("{} came to {other:?}", $check),
                }
            }
        )*

        /// The kit names no rule that it cannot catch anyone breaking.
        #[test]
        fn every_rule_has_a_backend_that_breaks_it() {
            let proven = [$(Rule::$rule),*];
            let unproven: Vec<_> = Rule::ALL
                .iter()
                .filter(|rule| **rule != Rule::FixtureKeepsItsWord && !proven.contains(rule))
                .collect();
            assert!(unproven.is_empty(), "{unproven:?}");
        }
    };
}

caught! {
    no_node_is_ever_published: NoNodes breaks NodesArePublished,
        found by "admission::nodes_are_published";
    admission_books_what_it_is_asked_about: AdmitReserves breaks AdmitIsPure,
        found by "admission::asking_changes_nothing";
    what_is_annotated_on_a_node_starts_pods_again: HeedStartsAgain breaks HeedIsNoted,
        found by "admission::annotations_of_a_node_change_nothing_that_runs";
    ensure_says_ok_and_does_nothing: EnsureDoesNothing breaks EnsureTakesEffect,
        found by "ensure::it_takes_effect";
    every_ensure_starts_the_pod_again: EnsureStartsAgain breaks EnsureIsIdempotent,
        found by "ensure::repeating_it_does_nothing";
    a_new_label_starts_the_pod_again: LabelsStartAgain breaks EnsureIsIdempotent,
        found by "ensure::metadata_restarts_nothing";
    what_people_say_of_a_pod_starts_it_again: MetadataStartsAgain breaks EnsureIsIdempotent,
        found by "ensure::metadata_restarts_nothing";
    ensure_answers_before_anything_is_written: OkBeforeWriting breaks EnsureIsDurable,
        found by "ensure::it_outlives_the_process";
    ensure_waits_until_the_pod_runs: WaitsForRunning breaks CallsReturn,
        found by "ensure::it_does_not_wait_for_the_workload";
    another_image_runs_beside_the_old_one: NewBesideOld breaks OldEndsBeforeNew,
        found by "ensure::another_image_takes_the_place_of_the_first";
    another_image_is_passed_over: KeepsFirstImage breaks OldEndsBeforeNew,
        found by "ensure::another_image_takes_the_place_of_the_first";
    an_ended_pod_is_started_unasked: StartsEndedPods breaks RestartIsAskedFor,
        found by "ensure::an_ended_pod_starts_again_only_when_asked";
    a_restart_is_passed_over: IgnoresRestart breaks RestartIsAskedFor,
        found by "ensure::an_ended_pod_starts_again_only_when_asked";
    stop_of_a_stranger_is_ok: UnknownIsOk breaks UnknownIsNotFound,
        found by "stop::an_unknown_pod_is_not_found";
    stop_says_not_found_while_it_still_ends: NotFoundAtOnce breaks NotFoundIsCertain,
        found by "stop::it_ends_what_runs";
    stop_says_ok_and_does_nothing: StopDoesNothing breaks StopEnds,
        found by "stop::it_ends_what_runs";
    stop_kills_at_once: NoGrace breaks GraceIsKept,
        found by "stop::less_grace_hurries";
    only_the_first_grace_counts: FirstGraceOnly breaks GraceIsKept,
        found by "stop::less_grace_hurries";
    facts_say_ended_as_soon_as_it_was_asked: EndedWhenAsked breaks EndedIsTrue,
        found by "stop::it_ends_what_runs";
    release_says_ok_and_does_nothing: ReleaseDoesNothing breaks ReleaseFrees,
        found by "stop::release_frees";
    stop_goes_by_the_name: StopsByName breaks UidIsIdentity,
        found by "identity::a_name_comes_back_with_another_uid";
    a_stranger_with_a_known_name_is_taken_for_it: StopsByName breaks UidIsIdentity,
        found by "identity::a_stranger_with_a_known_name_is_not_found";
    a_listing_shows_pods_twice: ListsTwice breaks ListingIsWhole,
        found by "listing::it_is_whole_and_fresh";
    a_listing_is_dated_with_the_start: DatedAtStart breaks ListingIsFresh,
        found by "listing::it_is_whole_and_fresh";
    a_cache_confirms_itself: CacheConfirmsItself breaks ListingIsFresh,
        found by "outage::silence_is_no_answer";
    a_room_that_does_not_answer_is_empty: SilentRoomIsEmpty breaks PartialIsDeclared,
        found by "listing::a_missing_place_is_declared";
    a_listing_shows_what_was_told: ListsWhatWasTold breaks ListingHeals,
        found by "listing::a_lost_notification_is_healed";
    seq_falls: SeqFalls breaks SeqRises,
        found by "listing::it_is_whole_and_fresh";
    seq_stays: SeqStays breaks SeqRises,
        found by "ensure::it_takes_effect";
    nothing_is_ever_told: TellsNothing breaks ChangesAgree,
        found by "news::changes_and_listing_agree";
    only_the_first_news_of_a_pod_is_told: TellsOnce breaks ChangesAgree,
        found by "news::changes_and_listing_agree";
    the_news_end: NewsEnd breaks ChangesAgree,
        found by "news::changes_and_listing_agree";
    a_pod_is_noted_before_it_is_written: NotedBeforeWritten breaks RepeatIsSafe,
        found by "cancel::a_dropped_ensure_is_repeated";
    each_attempt_has_a_name_of_its_own: NameOfItsOwn breaks RepeatIsSafe,
        found by "cancel::a_dropped_ensure_is_repeated";
    a_lost_answer_is_written_again_elsewhere: NameOfItsOwn breaks RepeatIsSafe,
        found by "outage::a_lost_answer_is_repeated";
    a_dropped_stop_counts_as_done: StopNotedFirst breaks RepeatIsSafe,
        found by "cancel::a_dropped_stop_is_repeated";
    a_dropped_call_leaves_the_door_locked: DoorStaysLocked breaks RepeatIsSafe,
        found by "cancel::a_dropped_ensure_is_repeated";
    silence_is_taken_for_consent: SilenceIsOk breaks OutageIsUnavailable,
        found by "outage::silence_is_no_answer";
    silence_is_the_pods_fault: SilenceRejects breaks OutageIsUnavailable,
        found by "outage::silence_is_no_answer";
    a_new_process_takes_silence_for_absence: SilenceIsAbsence breaks OutageIsUnavailable,
        found by "outage::a_start_in_silence_knows_nothing";
    new_files_start_the_pod_again: NewFilesStartAgain breaks PayloadRestartsNothing,
        found by "inputs::a_change_reaches_files_and_restarts_nothing";
    the_first_files_stay_for_ever: FirstFilesStay breaks PayloadRestartsNothing,
        found by "inputs::a_change_reaches_files_and_restarts_nothing";
    a_pod_starts_without_what_it_refers_to: StartsWithoutInputs breaks MissingInputsAreNamed,
        found by "inputs::a_pod_waits_for_what_is_missing";
    a_pod_ends_with_what_it_refers_to: GoneInputsEnd breaks GoneInputsStopNothing,
        found by "inputs::an_object_that_goes_stops_nothing";
    only_pods_of_this_process_are_listed: OwnPodsOnly breaks RestartFindsAll,
        found by "restart::everything_is_found_again";
    a_crowd_is_turned_away: TurnsCrowdAway breaks CrowdIsServed,
        found by "crowd::hundreds_are_served_at_once";
}
