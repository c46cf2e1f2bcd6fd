//! What pods refer to: only of backends that want it
//! ([`crate::InputNeeds::objects`]).

use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, ConfigMapVolumeSource, Volume, VolumeMount};

use super::Fixture;
use super::call::again;
use super::report::{Halt, Outcome};
use super::rule::Rule;
use super::run::{PATIENCE, QUIET, Run};
use crate::error::BackendError;
use crate::inputs::Inputs;
use crate::request::{PodChange, PodRequest};

/// The ConfigMap that pods of these checks refer to, and their volume of it.
const NAME: &str = "conformance";
/// Its only key.
const KEY: &str = "key";
/// Where the container has that as a file.
const FILE: &str = "/conformance/key";

/// A ConfigMap that changes while the pod runs, and changes again.
pub async fn a_change_reaches_files_and_restarts_nothing(fixture: &dyn Fixture) -> Outcome {
    let run = Run::begin(fixture).await;
    if !run.backend.capabilities().inputs.objects {
        return Ok(());
    }
    let rule = Rule::PayloadRestartsNothing;
    let pod = given(&run.pod("payload")?, Some("first"));
    run.running(&pod, rule).await?;
    shows(&run, &pod, "first", rule).await?;
    for text in ["second", "third"] {
        let changed = given(&again(&pod, PodChange::Payload), Some(text));
        run.ensure(&changed, rule).await?;
        shows(&run, &pod, text, rule).await?;
        for change in [PodChange::Payload, PodChange::First, PodChange::Repeat] {
            run.ensure(&again(&changed, change), rule).await?;
        }
        run.pass(QUIET).await;
        run.started(&pod.key, 1, rule)?;
        shows(&run, &pod, text, rule).await?;
        run.applied(&pod, rule).await?;
    }
    run.finish(&pod.key).await
}

/// It is asked for without its ConfigMap, and then with it.
pub async fn a_pod_waits_for_what_is_missing(fixture: &dyn Fixture) -> Outcome {
    let run = Run::begin(fixture).await;
    if !run.backend.capabilities().inputs.objects {
        return Ok(());
    }
    let rule = Rule::MissingInputsAreNamed;
    let pod = run.pod("missing")?;
    let without = given(&pod, None);
    let mut answer = Ok(());
    for _ in 0..PATIENCE {
        answer = run.try_ensure(&without).await?;
        match &answer {
            Err(BackendError::Unavailable { .. } | BackendError::Waiting { .. }) => {}
            _ => break,
        }
        fixture.pass().await;
    }
    if !matches!(answer, Err(BackendError::Inputs(_))) {
        let seen = format!("ensure of a pod whose ConfigMap is missing answers {answer:?}");
        return Err(Halt::broken(rule, seen));
    }
    run.pass(QUIET).await;
    let record = fixture.record(&pod.key.uid);
    if record.starts > 0 {
        let seen = format!("a pod whose ConfigMap is missing was started: {record:?}");
        return Err(Halt::broken(rule, seen));
    }
    let pod = given(&pod, Some("there"));
    run.running(&pod, rule).await?;
    run.started(&pod.key, 1, rule)?;
    shows(&run, &pod, "there", rule).await?;
    run.finish(&pod.key).await
}

/// Its ConfigMap is deleted while the pod runs, and the process restarts.
pub async fn an_object_that_goes_stops_nothing(fixture: &dyn Fixture) -> Outcome {
    let mut run = Run::begin(fixture).await;
    if !run.backend.capabilities().inputs.objects {
        return Ok(());
    }
    let rule = Rule::GoneInputsStopNothing;
    let pod = given(&run.pod("gone")?, Some("kept"));
    run.running(&pod, rule).await?;
    for restarts in [false, true] {
        if restarts {
            run.restart().await;
            run.facts(&pod.key).await?;
        }
        for change in [PodChange::Payload, PodChange::First, PodChange::Repeat] {
            let answer = run.try_ensure(&given(&again(&pod, change), None)).await?;
            match answer {
                Ok(()) | Err(BackendError::Inputs(_) | BackendError::Unavailable { .. }) => {}
                Err(error) => {
                    let seen = format!(
                        "of a pod that runs, ensure ({change:?}) without its ConfigMap answers {error:?}"
                    );
                    return Err(Halt::broken(rule, seen));
                }
            }
        }
        run.pass(QUIET).await;
        run.started(&pod.key, 1, rule)?;
        shows(&run, &pod, "kept", rule).await?;
    }
    run.finish(&pod.key).await
}

/// The pod with a volume of files, whose ConfigMap says so, or is not there.
fn given(pod: &PodRequest, text: Option<&str>) -> PodRequest {
    let mut object = (*pod.pod).clone();
    let spec = object.spec.get_or_insert_default();
    spec.volumes = Some(vec![Volume {
        name: NAME.into(),
        config_map: Some(ConfigMapVolumeSource {
            name: NAME.into(),
            ..ConfigMapVolumeSource::default()
        }),
        ..Volume::default()
    }]);
    for container in &mut spec.containers {
        container.volume_mounts = Some(vec![VolumeMount {
            name: NAME.into(),
            mount_path: "/conformance".into(),
            ..VolumeMount::default()
        }]);
    }
    let map = text.map(|text| {
        let map = ConfigMap {
            data: Some([(KEY.to_owned(), text.to_owned())].into()),
            ..ConfigMap::default()
        };
        (NAME.to_owned(), Arc::new(map))
    });
    PodRequest {
        pod: Arc::new(object),
        inputs: Arc::new(Inputs {
            config_maps: map.into_iter().collect(),
            ..Inputs::default()
        }),
        ..pod.clone()
    }
}

/// Its container comes to read so.
async fn shows(run: &Run<'_>, pod: &PodRequest, text: &str, rule: Rule) -> Outcome {
    let mut read = None;
    for _ in 0..PATIENCE {
        read = run.fixture.reads(&pod.key.uid, FILE);
        match &read {
            None => {
                return Err(Halt::NotRun {
                    lacks: "a look at the files of a container",
                });
            }
            Some(Some(bytes)) if bytes == text.as_bytes() => return Ok(()),
            Some(_) => {}
        }
        run.fixture.pass().await;
    }
    let seen = format!(
        "the container of {:?} never reads {text:?} in {FILE}: {:?}",
        pod.key,
        read.flatten()
            .map(|b| String::from_utf8_lossy(&b).into_owned())
    );
    Err(Halt::broken(rule, seen))
}
