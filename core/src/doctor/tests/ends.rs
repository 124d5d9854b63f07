//! What is told of the ends of pods.

use super::*;

#[test]
fn what_loses_requests_at_the_end_of_pods_is_advice_about_their_workload() {
    let mut facts = sound();
    facts.ends = Ok(vec![end(5), end(20)]);
    let text = render(&diagnose(&facts));
    let told = "! End Deployment shop/web: PreStopTooShort\n    Container web sleeps 5 s before SIGTERM, and its ALB needs 20 s (3 pods).";
    assert!(text.contains(told), "{text}");
    facts.ends = Ok(vec![end(5); 60]);
    let answer = diagnose(&facts);
    let ends = answer.findings.iter();
    let ends = ends.filter(|hop| hop.check == Check::End);
    assert_eq!(ends.count(), 51);
    assert!(render(&answer).contains("10 more findings are left out."));
}

#[test]
fn a_read_that_fails_is_told_once_beside_what_is_known_of_the_ends() {
    let mut facts = sound();
    facts.ends = Ok(vec![end(5)]);
    facts.ends_unread = vec![Unread {
        what: "elasticloadbalancing:DescribeLoadBalancers".to_owned(),
        why: "DescribeLoadBalancers for lb failed: AccessDenied.".to_owned(),
    }];
    let text = render(&diagnose(&facts));
    assert!(
        text.contains("! End Deployment shop/web: PreStopTooShort"),
        "{text}"
    );
    let told = "? End elasticloadbalancing:DescribeLoadBalancers: NotKnown\n    Not all that can lose requests is \
                known: DescribeLoadBalancers for lb failed: AccessDenied.";
    assert!(text.contains(told), "{text}");
}

#[test]
fn what_is_not_known_makes_no_exit_status_where_it_would_be_advice() {
    let mut facts = sound();
    facts.ends_unread = vec![Unread {
        what: "nodes".to_owned(),
        why: "Cannot list nodes: forbidden.".to_owned(),
    }];
    let answer = diagnose(&facts);
    assert_eq!(answer.state, State::Advice);
    let heading = "Every hop is sound; whether there is advice is not known (?).";
    assert!(render(&answer).contains(heading), "{}", render(&answer));

    facts.ends = Ok(vec![end(5)]);
    let text = render(&diagnose(&facts));
    let heading =
        "Every hop is sound; there is advice on 1 (!), and whether on more is not known (?).";
    assert!(text.contains(heading), "{text}");

    // Pods there may have lost their binding, which breaks them.
    facts.ends_left_out = 1;
    let answer = diagnose(&facts);
    assert_eq!(answer.state, State::Unknown);
    let text = render(&answer);
    assert!(text.contains("1 more namespace is left out."), "{text}");
    assert!(text.contains("1 hop is not known; there is"), "{text}");
}

#[test]
fn one_thing_is_told_in_the_singular() {
    let mut facts = sound();
    facts.services[0].ready = Ok(Some(1));
    facts.bindings.as_mut().unwrap().truncate(1);
    group_of(&mut facts).targets.as_mut().unwrap().all = 1;
    facts.ends = Ok(vec![End { pods: 1, ..end(5) }]);
    let text = render(&diagnose(&facts));
    for told in [
        "It has 1 endpoint that is ready.",
        "It has 1 target, and 1 load balancer uses it.",
        "Of 1 binding, none shares its group without `multiClusterTargetGroup`.",
        "It has opted in, and has 1 binding.",
        "needs 20 s (1 pod).",
    ] {
        assert!(text.contains(told), "{told}\n{text}");
    }
}
