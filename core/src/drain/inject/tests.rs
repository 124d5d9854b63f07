//! The cases of a pod's end, each with what becomes of it, and properties that hold for any.

use json_patch::Patch;
use proptest::prelude::*;
use proptest::sample::select;
use rstest::rstest;
use serde_json::{Value, json};

use super::*;

fn seconds(seconds: u16) -> SleepSeconds {
    SleepSeconds::new(seconds).unwrap()
}

/// The pod as the hook reads it.
fn read(pod: &Value) -> NewPod {
    let containers = pod["spec"]["containers"].as_array().unwrap().iter();
    let annotations = &pod["metadata"]["annotations"];
    let drained = annotations[DRAINED_ANNOTATION].as_str();
    NewPod {
        containers: containers.map(|c| pre_stop(&c["lifecycle"])).collect(),
        grace: pod["spec"]["terminationGracePeriodSeconds"].as_i64(),
        of_job: false,
        annotations: match (&pod["metadata"], annotations) {
            (Value::Null, _) => Annotations::NoMetadata,
            (_, Value::Null) => Annotations::Absent,
            _ => Annotations::Present,
        },
        drained: drained.and_then(|text| text.parse().ok()),
    }
}

fn pre_stop(lifecycle: &Value) -> PreStop {
    match (lifecycle, &lifecycle["preStop"]) {
        (Value::Null, _) => PreStop::NoLifecycle,
        (_, Value::Null) => PreStop::Absent,
        (_, handler) => match handler["sleep"]["seconds"].as_i64() {
            Some(seconds) => PreStop::Sleep(seconds),
            None => PreStop::Other,
        },
    }
}

/// The reason, and the pod afterwards.
fn injected(pod: &Value, sleep: u16) -> (Reason, Value) {
    let injection = inject(&read(pod), seconds(sleep));
    let mut after = pod.clone();
    json_patch::patch(&mut after, &Patch(injection.operations)).unwrap();
    (injection.reason, after)
}

fn sleeps(seconds: i64) -> Value {
    json!({ "lifecycle": { "preStop": { "sleep": { "seconds": seconds } } } })
}

/// A pod of these containers, with this grace period and annotation.
fn pod(containers: &[Value], grace: i64, drained: Option<&str>) -> Value {
    let annotations = drained.map(|text| json!({ DRAINED_ANNOTATION: text }));
    json!({
        "metadata": { "name": "web", "annotations": annotations },
        "spec": { "containers": containers, "terminationGracePeriodSeconds": grace },
    })
}

fn bare() -> Value {
    json!({ "name": "web" })
}

fn own() -> Value {
    json!({ "lifecycle": { "preStop": { "exec": { "command": ["drain"] } } } })
}

/// What becomes of a pod that may have been copied from a running one. Sleeps are 100 s where the pod runs now.
#[rstest]
#[case::new(&[bare()], 30, None,
    Reason::Injected, &[sleeps(100)], 130, Some("100/30"))]
#[case::what_we_made_is_left(&[sleeps(100)], 130, Some("100/30"),
    Reason::AlreadyInjected, &[sleeps(100)], 130, Some("100/30"))]
#[case::a_container_that_came_later_gets_its_sleep(&[sleeps(100), bare()], 130, Some("100/30"),
    Reason::Injected, &[sleeps(100), sleeps(100)], 130, Some("100/30"))]
#[case::copied_from_behind_another_load_balancer(&[sleeps(20)], 50, Some("20/30"),
    Reason::Injected, &[sleeps(100)], 130, Some("100/30"))]
#[case::copied_from_a_longer_sleep(&[sleeps(300)], 330, Some("300/30"),
    Reason::Injected, &[sleeps(100)], 330, Some("100/30"))]
#[case::copied_with_a_longer_grace(&[sleeps(100)], 500, Some("100/30"),
    Reason::AlreadyInjected, &[sleeps(100)], 500, Some("100/30"))]
#[case::copied_without_the_sleep(&[bare()], 130, Some("100/30"),
    Reason::Injected, &[sleeps(100)], 230, Some("100/130"))]
#[case::copied_without_sleep_and_grace(&[bare()], 30, Some("100/30"),
    Reason::Injected, &[sleeps(100)], 130, Some("100/30"))]
#[case::copied_with_a_shorter_grace(&[sleeps(100)], 110, Some("100/30"),
    Reason::HasPreStop, &[sleeps(100)], 110, Some("100/30"))]
#[case::copied_with_a_shorter_grace_and_one_container_more(&[sleeps(100), bare()], 110, Some("100/30"),
    Reason::Injected, &[sleeps(100), sleeps(100)], 210, Some("100/110"))]
#[case::copied_with_another_sleep(&[sleeps(50)], 130, Some("100/30"),
    Reason::HasPreStop, &[sleeps(50)], 130, Some("100/30"))]
#[case::copied_with_one_sleep_changed(&[sleeps(20), sleeps(5)], 50, Some("20/30"),
    Reason::Injected, &[sleeps(100), sleeps(5)], 130, Some("100/30"))]
#[case::an_annotation_that_is_not_ours(&[bare()], 30, Some("done"),
    Reason::Injected, &[sleeps(100)], 130, Some("100/30"))]
#[case::an_own_handler(&[own()], 30, None,
    Reason::HasPreStop, &[own()], 30, None)]
#[case::an_own_sleep(&[sleeps(5)], 30, None,
    Reason::HasPreStop, &[sleeps(5)], 30, None)]
#[case::an_own_sleep_of_our_length(&[sleeps(100), bare()], 130, None,
    Reason::Injected, &[sleeps(100), sleeps(100)], 230, Some("100/130"))]
#[case::an_own_handler_beside(&[own(), bare()], 30, None,
    Reason::Injected, &[own(), sleeps(100)], 130, Some("100/30"))]
#[case::an_empty_handler_is_left_to_the_api_server(
    &[json!({ "lifecycle": { "preStop": {} } })], 30, None,
    Reason::HasPreStop, &[json!({ "lifecycle": { "preStop": {} } })], 30, None)]
#[case::no_pre_stop(&[json!({ "lifecycle": { "preStop": null } })], 30, None,
    Reason::Injected, &[sleeps(100)], 130, Some("100/30"))]
#[case::no_lifecycle(&[json!({ "lifecycle": null })], 30, None,
    Reason::Injected, &[sleeps(100)], 130, Some("100/30"))]
#[case::an_empty_lifecycle(&[json!({ "lifecycle": {} })], 30, None,
    Reason::Injected, &[sleeps(100)], 130, Some("100/30"))]
#[case::no_grace(&[bare()], 0, None,
    Reason::GraceZero, &[bare()], 0, None)]
#[case::a_second_of_grace(&[bare()], 1, None,
    Reason::Injected, &[sleeps(100)], 101, Some("100/1"))]
#[case::an_hour_of_grace(&[bare()], 3600, None,
    Reason::Injected, &[sleeps(100)], 3700, Some("100/3600"))]
#[case::the_longest_grace(&[bare()], i64::MAX, None,
    Reason::Injected, &[sleeps(100)], i64::MAX, Some("100/9223372036854775807"))]
#[case::the_longest_grace_again(&[sleeps(100)], i64::MAX, Some("100/9223372036854775807"),
    Reason::AlreadyInjected, &[sleeps(100)], i64::MAX, Some("100/9223372036854775807"))]
#[case::a_negative_grace_is_a_second(&[bare()], -5, None,
    Reason::Injected, &[sleeps(100)], 101, Some("100/1"))]
fn what_becomes_of_a_pod(
    #[case] containers: &[Value],
    #[case] grace: i64,
    #[case] annotation: Option<&str>,
    #[case] reason: Reason,
    #[case] expected_containers: &[Value],
    #[case] expected_grace: i64,
    #[case] expected_annotation: Option<&str>,
) {
    let before = pod(containers, grace, annotation);
    let (said, after) = injected(&before, 100);
    let mut lifecycles = vec![];
    for container in after["spec"]["containers"].as_array().unwrap() {
        lifecycles.push(container["lifecycle"].clone());
    }
    let expected = expected_containers.iter().map(|c| c["lifecycle"].clone());
    assert_eq!((said, lifecycles), (reason, expected.collect()));
    let grace = &after["spec"]["terminationGracePeriodSeconds"];
    let drained = &after["metadata"]["annotations"][DRAINED_ANNOTATION];
    assert_eq!(*grace, expected_grace);
    assert_eq!(drained.as_str(), expected_annotation);
    if reason != Reason::Injected {
        assert_eq!(after, before);
    }
}

#[test]
fn what_a_container_does_after_its_start_stays() {
    let post_start = json!({ "exec": { "command": ["warm"] } });
    let container = json!({ "lifecycle": { "postStart": post_start, "stopSignal": "SIGUSR1" } });
    let (_, after) = injected(&pod(&[container], 30, None), 20);
    let lifecycle = &after["spec"]["containers"][0]["lifecycle"];
    let sleep = json!({ "sleep": { "seconds": 20 } });
    let expected = json!({ "postStart": post_start, "stopSignal": "SIGUSR1", "preStop": sleep });
    assert_eq!(*lifecycle, expected);
}

#[test]
fn a_pod_of_a_job_is_left_alone() {
    let mut of_job = read(&pod(&[bare()], 30, None));
    of_job.of_job = true;
    let injection = inject(&of_job, seconds(20));
    assert_eq!(injection.reason, Reason::Job);
    assert!(injection.operations.is_empty());
}

#[test]
fn a_pod_without_grace_or_metadata_gets_both() {
    let before = json!({ "metadata": null, "spec": { "containers": [{}] } });
    let (_, after) = injected(&before, 20);
    assert_eq!(after["spec"]["terminationGracePeriodSeconds"], 50);
    assert_eq!(
        after["metadata"],
        json!({ "annotations": { "targetgate.dev/drained": "20/30" } })
    );
}

#[test]
fn other_annotations_stay() {
    let mut before = pod(&[bare()], 30, None);
    before["metadata"]["annotations"] = json!({ "a": "b" });
    let (_, after) = injected(&before, 20);
    let expected = json!({ "a": "b", "targetgate.dev/drained": "20/30" });
    assert_eq!(after["metadata"]["annotations"], expected);
}

fn some_container() -> impl Strategy<Value = Value> {
    let of_sleep = select(vec![0, 1, 5, 20, 100, 600]).prop_map(sleeps);
    let lifecycles = vec![
        json!({}),
        json!({ "lifecycle": null }),
        json!({ "lifecycle": {} }),
        json!({ "lifecycle": { "preStop": null } }),
        json!({ "lifecycle": { "preStop": {} } }),
        json!({ "lifecycle": { "postStart": { "sleep": { "seconds": 1 } } } }),
        own(),
    ];
    prop_oneof![2 => select(lifecycles), 1 => of_sleep]
}

fn some_pod() -> impl Strategy<Value = Value> {
    let edges = vec![i64::MIN, -5, 0, 1, 20, 30, 50, 130, i64::MAX - 1, i64::MAX];
    let grace = prop_oneof![
        Just(Value::Null),
        select(edges).prop_map(Value::from),
        (0..1000_i64).prop_map(Value::from),
    ];
    let drained = (select(vec![1, 20, 100]), select(vec![1, 30, i64::MAX]));
    let drained = prop::option::of(drained.prop_map(|(sleep, given)| format!("{sleep}/{given}")));
    let containers = prop::collection::vec(some_container(), 0..4);
    (containers, grace, drained).prop_map(|(containers, grace, drained)| {
        let mut pod = pod(&containers, 0, drained.as_deref());
        pod["spec"]["terminationGracePeriodSeconds"] = grace;
        pod
    })
}

fn grace(pod: &Value) -> i64 {
    let grace = &pod["spec"]["terminationGracePeriodSeconds"];
    grace.as_i64().unwrap_or(30)
}

proptest! {
    #[test]
    fn a_second_run_changes_nothing_whatever_the_pod(pod in some_pod(), sleep in 1..=600_u16) {
        let (reason, after) = injected(&pod, sleep);
        let (again, same) = injected(&after, sleep);
        prop_assert_eq!(&same, &after);
        let expected = match reason {
            Reason::Injected => Reason::AlreadyInjected,
            other => other,
        };
        prop_assert_eq!(again, expected);
    }

    #[test]
    fn each_operation_changes_the_pod(pod in some_pod(), sleep in 1..=600_u16) {
        let mut now = pod.clone();
        for operation in inject(&read(&pod), seconds(sleep)).operations {
            let before = now.clone();
            json_patch::patch(&mut now, &Patch(vec![operation])).unwrap();
            prop_assert_ne!(&now, &before);
        }
    }

    #[test]
    fn no_sleep_of_ours_is_longer_than_the_grace_which_is_never_lowered(
        pod in some_pod(),
        sleep in 1..=600_u16,
    ) {
        let (reason, after) = injected(&pod, sleep);
        if reason == Reason::Injected {
            prop_assert!(grace(&after) >= grace(&pod));
            let least = grace(&pod).max(1).min(read(&after).drained.unwrap().given);
            prop_assert!(grace(&after) >= least.saturating_add(i64::from(sleep)));
            for container in after["spec"]["containers"].as_array().unwrap() {
                prop_assert!(!container["lifecycle"]["preStop"].is_null());
            }
        }
    }

    #[test]
    fn a_run_for_another_load_balancer_ends_as_if_it_were_the_first(
        containers in prop::collection::vec(Just(bare()), 1..4),
        given in 1..1000_i64,
        (first, second) in (1..=600_u16, 1..=600_u16),
    ) {
        let before = pod(&containers, given, None);
        let (_, once) = injected(&before, first);
        let (_, twice) = injected(&once, second);
        let (_, mut alone) = injected(&before, second);
        // The grace period is never lowered.
        alone["spec"]["terminationGracePeriodSeconds"] = json!(grace(&once).max(grace(&alone)));
        prop_assert_eq!(twice, alone);
    }
}
