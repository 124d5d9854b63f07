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
