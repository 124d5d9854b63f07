use super::super::super::variant::{Variant, variants};
use super::*;
use crate::elb::Health;
use crate::traffic::{Cause, Counts};

fn picture() -> Picture {
    Picture::new(&Settings::scaled(0.1), ["(a)", "(b)"])
}

fn row(pod: &str, template: &str, stage: Stage, target: Option<Health>) -> Row {
    Row {
        pod: pod.to_owned(),
        template: template.to_owned(),
        address: "127.1.0.2:80".to_owned(),
        stage,
        gate: Gate::Shut,
        target,
    }
}

fn frame(title: &'static str, seconds: f64, sent: u64, rows: &[Row]) -> Frame {
    let counts = Counts {
        sent,
        ok: sent,
        ..Counts::default()
    };
    Frame {
        title,
        doing: "rolling",
        seconds,
        counts,
        rows: rows.to_vec(),
    }
}

#[test]
fn a_pod_of_another_template_than_the_first_is_new() {
    let mut picture = picture();
    picture.take_in(&frame("(a)", 0.0, 0, &[]));
    let rows = [
        row("web-1", "old", Stage::Ready, None),
        row("web-2", "old", Stage::Ready, None),
        row("web-3", "next", Stage::Starting, None),
    ];
    picture.take_in(&frame("(a)", 0.1, 0, &rows));
    let new: Vec<bool> = picture.rollouts[0].pods.iter().map(|pod| pod.new).collect();
    assert_eq!(new, [false, false, true]);
}

#[test]
fn the_pods_that_a_rollout_begins_with_belong_to_the_one_before() {
    let mut picture = picture();
    let former = row("web-1", "old", Stage::Terminating, None);
    let own = row("web-2", "old", Stage::Starting, None);
    picture.take_in(&frame("(a)", 0.0, 0, &[]));
    picture.take_in(&frame("(a)", 0.1, 0, std::slice::from_ref(&former)));
    let change = picture.take_in(&frame("(b)", 0.0, 0, std::slice::from_ref(&former)));
    assert_eq!((change.anything, change.rollout), (true, true));
    picture.take_in(&frame("(b)", 0.1, 0, &[former, own]));
    let names = |rollout: &Rollout| -> Vec<String> {
        rollout.pods.iter().map(|pod| pod.name.clone()).collect()
    };
    assert_eq!(names(&picture.rollouts[0]), ["web-1"]);
    assert_eq!(names(&picture.rollouts[1]), ["web-2"]);
}

#[test]
fn a_pod_that_is_gone_is_astray_while_the_load_balancer_sends_requests_to_it() {
    let mut picture = picture();
    picture.take_in(&frame("(a)", 0.0, 0, &[]));
    let mut see = |seconds, stage, target| {
        picture.take_in(&frame(
            "(a)",
            seconds,
            0,
            &[row("web-1", "old", stage, target)],
        ));
        picture.rollouts[0].pods[0].moments.last().unwrap().astray
    };
    let healthy = || Some(Health::healthy());
    assert!(!see(0.1, Stage::Ready, healthy()));
    assert!(see(0.2, Stage::Gone, healthy()));
    // The lag is half a second at this scale.
    assert!(see(0.3, Stage::Gone, Some(Health::draining())));
    assert!(see(0.7, Stage::Gone, Some(Health::draining())));
    assert!(!see(0.8, Stage::Gone, Some(Health::draining())));
    assert!(!see(0.9, Stage::Gone, None));
}

#[test]
fn a_frame_that_changes_nothing_says_so() {
    let mut picture = picture();
    let rows = [row("web-1", "old", Stage::Ready, Some(Health::draining()))];
    picture.take_in(&frame("(a)", 0.0, 0, &[]));
    assert!(picture.take_in(&frame("(a)", 0.1, 5, &rows)).anything);
    assert_eq!(
        picture.take_in(&frame("(a)", 0.2, 5, &rows)),
        Change::default()
    );
    assert_eq!(
        picture.take_in(&frame("(z)", 0.2, 9, &rows)),
        Change::default()
    );
    assert!(picture.take_in(&frame("(a)", 0.3, 6, &rows)).anything);
}

#[test]
fn traffic_begins_at_zero_with_the_pods_as_they_are() {
    let mut picture = picture();
    picture.take_in(&frame("(a)", 0.0, 0, &[]));
    for (seconds, stage) in [(1.0, Stage::Starting), (2.0, Stage::Ready)] {
        picture.take_in(&frame(
            "(a)",
            seconds,
            0,
            &[row("web-1", "old", stage, None)],
        ));
    }
    picture.take_in(&frame(
        "(a)",
        0.0,
        0,
        &[row("web-1", "old", Stage::Ready, None)],
    ));
    let rollout = &picture.rollouts[0];
    assert_eq!(rollout.marks, [Mark(0, "rolling")]);
    let moments = &rollout.pods[0].moments;
    assert_eq!(
        (moments.len(), moments[0].at, moments[0].stage),
        (1, 0, Stage::Ready)
    );
}

#[test]
fn a_long_rollout_keeps_its_last_point_and_a_bounded_number_of_others() {
    let mut picture = picture();
    for number in 0..50_000_u32 {
        picture.take_in(&frame(
            "(a)",
            f64::from(number) / 10.0,
            u64::from(number),
            &[],
        ));
    }
    let points = &picture.rollouts[0].requests;
    assert!(points.len() <= POINTS, "{}", points.len());
    assert!(points.len() > POINTS / 4, "{}", points.len());
    assert!(points.is_sorted_by_key(|point| point.0));
}

#[test]
fn results_are_the_numbers_of_the_table_and_stay() {
    let mut picture = picture();
    picture.take_in(&frame("(a)", 0.5, 100, &[]));
    picture.measured(&Numbers {
        variant: Variant {
            title: "(a)",
            ..variants(&Settings::scaled(0.1))[0].clone()
        },
        counts: Counts {
            sent: 120,
            ok: 117,
            lost: [(Cause::TargetRefused, 3)].into(),
            resent: 0,
        },
        rollout: Duration::from_millis(2_200),
        healthy_to_open: vec![Duration::from_millis(30)],
        opened_early: 0,
        without_gate: 0,
        without_pre_stop: 0,
    });
    assert_eq!(
        picture.take_in(&frame("(a)", 9.0, 500, &[])),
        Change::default()
    );
    let shown = serde_json::to_value(&picture).unwrap();
    let rollout = &shown["rollouts"][0];
    assert_eq!(
        (&rollout["sent"], &rollout["lost"]),
        (&120.into(), &3.into())
    );
    assert_eq!(rollout["requests"][1], serde_json::json!([500, 120, 3]));
    assert_eq!(rollout["results"]["healthy_to_open"], 30);
    assert_eq!(rollout["causes"], "refused by the target (502) 3");
}
