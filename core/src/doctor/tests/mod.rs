use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use rstest::rstest;

use super::*;
use crate::drain::LoadBalancerKind;
use crate::lint;
use crate::names::{BindingApi, ObjectKey};
use crate::reason::Reason;

mod ends;
mod foreign;
mod policy;

fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

fn hook(kind: HookKind) -> Hook {
    Hook {
        configuration: "mutatingwebhookconfiguration/targetgate".to_owned(),
        name: kind.webhook().to_owned(),
        kind,
        fails: kind != HookKind::Pods,
        seconds: 2,
        updates: kind == HookKind::BindingRules,
        bundle: Bundle::Cas {
            validity: valid_until(3600),
            verifies: Ok(true),
        },
    }
}

/// Valid since an hour ago, and for so many seconds from now on.
fn valid_until(seconds: i64) -> Validity {
    Validity {
        begins: now() - SignedDuration::from_hours(1),
        expires: now() + SignedDuration::from_secs(seconds),
    }
}

fn cas(seconds: i64, verifies: Known<bool>) -> Bundle {
    let validity = valid_until(seconds);
    Bundle::Cas { validity, verifies }
}

fn binding(name: &str, age: i64) -> Binding {
    Binding {
        created: Some(now() - SignedDuration::from_secs(age)),
        key: ObjectKey::new("shop", name),
        api: BindingApi::Elbv2,
        arn: Some("arn".into()),
        multi_cluster: false,
        service: Some("web".into()),
        our_finalizer: false,
        of_stack: false,
    }
}

fn group(described: Described) -> Group {
    let arn =
        "arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup/web/0123456789abcdef";
    Group {
        arn: arn.parse().unwrap(),
        targets: Ok(Targets {
            all: 2,
            ..Targets::default()
        }),
        described: Ok(described),
    }
}

/// A group with a load balancer.
fn attached() -> Described {
    Described {
        load_balancers: 1,
        ..Described::default()
    }
}

fn lease(age: i64) -> Option<Lease> {
    Some(Lease {
        holder: "holder".to_owned(),
        renewed: Some(now() - SignedDuration::from_secs(age)),
        seconds: 15,
    })
}

fn right(granted: bool) -> Right {
    Right {
        verb: "patch".to_owned(),
        resource: "pods/status".to_owned(),
        name: None,
        namespace: None,
        granted,
    }
}

/// A workload behind an ALB, whose container sleeps for so many seconds.
fn end(sleep: u64) -> End {
    let container = lint::Container {
        name: "web".to_owned(),
        pre_stop: lint::PreStop::Sleep(sleep),
        ..lint::Container::default()
    };
    let mut settings = lint::Workload::default();
    settings.pod.containers = vec![container];
    settings.groups = vec![lint::Group {
        binding: "web".to_owned(),
        kind: Some(LoadBalancerKind::Alb),
        ..lint::Group::default()
    }];
    End {
        workload: "Deployment shop/web".to_owned(),
        pods: 3,
        settings,
    }
}

fn grace(outcome: GraceOutcome) -> GraceTrial {
    GraceTrial {
        namespace: "shop".to_owned(),
        seconds: 130,
        outcome,
    }
}

/// An installation without a fault.
fn sound() -> Facts {
    Facts {
        now: now(),
        installation: (
            ObjectKey::new("targetgate-system", "targetgate"),
            Ok(Some(Installation {
                account: "system:serviceaccount:targetgate-system:targetgate".to_owned(),
                ..Installation::default()
            })),
        ),
        rights: Ok(vec![right(true)]),
        incumbent: Incumbent {
            deployments: Ok(vec![]),
            hooks: Ok(vec![]),
            lease: (ObjectKey::new("kube-system", "leader"), Ok(None)),
        },
        certificate: Ok(valid_until(3600)),
        crd: Ok(Some(Crd {
            served: true,
            prunes: vec![],
        })),
        records_crd: None,
        hooks: Ok(HookKind::ALL.map(hook).to_vec()),
        services: vec![HookService {
            key: ObjectKey::new("targetgate-system", "targetgate"),
            ready: Ok(Some(2)),
        }],
        pod_trial: Ok(PodTrial::Gated {
            namespace: "shop".to_owned(),
            gate: "target-health.elbv2.k8s.aws/web".to_owned(),
        }),
        binding_trial: Ok(BindingTrial::Denied),
        injection: Some(policy::injection()),
        immutability: Ok(None),
        lease: (
            ObjectKey::new("targetgate-system", "targetgate"),
            Ok(Some(Lease {
                holder: "targetgate-0".to_owned(),
                renewed: Some(now()),
                seconds: 15,
            })),
        ),
        identity: Some(Identity {
            arn: Ok("arn:aws:iam::123456789012:role/targetgate".to_owned()),
            region: Some("eu-west-1".to_owned()),
        }),
        groups: Ok(vec![group(attached())]),
        groups_left_out: 0,
        changes: vec![],
        ends: Ok(vec![end(20)]),
        ends_unread: vec![],
        pods: BTreeMap::new(),
        lost: vec![],
        ends_left_out: 0,
        graces: vec![grace(GraceOutcome::Admitted)],
        bindings: Ok(vec![binding("web", 60)]),
        namespaces: Ok(vec![Namespace {
            name: "shop".to_owned(),
            selected: Ok(true),
        }]),
    }
}

fn hooks(facts: &mut Facts) -> &mut Vec<Hook> {
    facts.hooks.as_mut().unwrap()
}

#[test]
fn an_installation_without_a_fault_is_sound_hop_by_hop() {
    let answer = diagnose(&sound());
    assert_eq!(answer.state, State::Sound, "{}", render(&answer));
    assert!(render(&answer).lines().all(|line| !line.starts_with('✗')));
}

fn group_of(facts: &mut Facts) -> &mut Group {
    &mut facts.groups.as_mut().unwrap()[0]
}

/// Turns registration on.
fn registers(facts: &mut Facts) {
    let installation = facts.installation.1.as_mut().unwrap();
    installation.as_mut().unwrap().registers = true;
}

fn incumbent_hooks(ready: Option<usize>) -> IncumbentHooks {
    IncumbentHooks {
        configuration: "mutatingwebhookconfiguration/aws-load-balancer-webhook".to_owned(),
        names: vec!["mpod.elbv2.k8s.aws".to_owned()],
        ready: Ok(ready),
    }
}

fn change(outcome: ChangeOutcome) -> ChangeTrial {
    ChangeTrial {
        action: "RegisterTargets",
        place: "account 123456789012, eu-west-1".to_owned(),
        outcome,
    }
}

type Break = fn(&mut Facts);

#[rstest]
#[case(|f: &mut Facts| f.crd = Ok(None), Check::Crd, Reason::BindingsNotServed)]
#[case(|f: &mut Facts| f.crd = Ok(Some(Crd { served: false, prunes: vec![] })), Check::Crd, Reason::BindingsNotServed)]
#[case(|f: &mut Facts| f.crd = Ok(Some(Crd { served: true, prunes: vec!["spec.vpcID".into()] })), Check::Crd, Reason::FieldsPruned)]
#[case(|f: &mut Facts| f.records_crd = Some(Ok(None)), Check::Crd, Reason::RecordsNotServed)]
#[case(|f: &mut Facts| f.records_crd = Some(Ok(Some(Crd { served: true, prunes: vec!["spec.targets".into()] }))), Check::Crd, Reason::RecordsNotServed)]
#[case(|f: &mut Facts| _ = hooks(f).pop(), Check::Hook, Reason::HookNotRegistered)]
#[case(|f: &mut Facts| hooks(f)[0].fails = true, Check::Hook, Reason::HookRefusesPods)]
#[case(|f: &mut Facts| hooks(f)[0].bundle = Bundle::Empty, Check::Trust, Reason::BundleEmpty)]
#[case(|f: &mut Facts| hooks(f)[0].bundle = Bundle::Unsound, Check::Trust, Reason::BundleUnsound)]
#[case(|f: &mut Facts| hooks(f)[0].bundle = cas(0, Ok(true)), Check::Trust, Reason::CertificateExpired)]
#[case(|f: &mut Facts| hooks(f)[0].bundle = cas(3600, Ok(false)), Check::Trust, Reason::CertificateUntrusted)]
#[case(|f: &mut Facts| f.services[0].ready = Ok(None), Check::Service, Reason::HookServiceMissing)]
#[case(|f: &mut Facts| f.services[0].ready = Ok(Some(0)), Check::Service, Reason::HookServiceEmpty)]
#[case(|f: &mut Facts| f.pod_trial = Ok(PodTrial::Ungated { namespace: "shop".into(), binding: "web".into() }), Check::PodTrial, Reason::HookNotReached)]
#[case(|f: &mut Facts| f.binding_trial = Ok(BindingTrial::Admitted), Check::BindingTrial, Reason::HookNotReached)]
#[case(|f: &mut Facts| f.binding_trial = Ok(BindingTrial::NotReached("x509".into())), Check::BindingTrial, Reason::HookNotReached)]
#[case(|f: &mut Facts| f.lease.1 = Ok(None), Check::Lease, Reason::LeaseNotHeld)]
#[case(|f: &mut Facts| f.lease.1 = Ok(Some(Lease::default())), Check::Lease, Reason::LeaseNotHeld)]
#[case(|f: &mut Facts| f.lease.1.as_mut().unwrap().as_mut().unwrap().renewed = Some(now() - SignedDuration::from_secs(76)), Check::Lease, Reason::LeaseNotHeld)]
#[case(|f: &mut Facts| f.bindings.as_mut().unwrap().push(binding("young", 30)), Check::Binding, Reason::OlderBinding)]
#[case(|f: &mut Facts| f.bindings = Ok(vec![]), Check::Namespace, Reason::NoBinding)]
#[case(|f: &mut Facts| f.namespaces.as_mut().unwrap()[0].selected = Ok(false), Check::Namespace, Reason::NamespaceExcluded)]
#[case(|f: &mut Facts| f.installation.1 = Ok(None), Check::Installation, Reason::InstallationMissing)]
#[case(|f: &mut Facts| f.rights = Ok(vec![right(true), right(false)]), Check::Right, Reason::RightMissing)]
#[case(|f: &mut Facts| f.certificate = Ok(valid_until(0)), Check::Certificate, Reason::CertificateExpired)]
#[case(|f: &mut Facts| f.certificate = Ok(valid_until(600)), Check::Certificate, Reason::CertificateExpiresSoon)]
#[case(|f: &mut Facts| hooks(f)[0].bundle = cas(600, Ok(true)), Check::Trust, Reason::CertificateExpiresSoon)]
#[case(|f: &mut Facts| f.bindings.as_mut().unwrap()[0].our_finalizer = true, Check::Finalizer, Reason::FinalizerLeft)]
#[case(|f: &mut Facts| { registers(f); f.incumbent.deployments = Ok(vec![ObjectKey::new("kube-system", "lbc")]) }, Check::Incumbent, Reason::TwoRegistrars)]
#[case(|f: &mut Facts| { registers(f); f.incumbent.lease.1 = Ok(lease(110)) }, Check::Incumbent, Reason::HeldByAnother)]
#[case(|f: &mut Facts| f.incumbent.hooks = Ok(vec![incumbent_hooks(None)]), Check::Incumbent, Reason::IncumbentHooksLeft)]
#[case(|f: &mut Facts| f.groups = Ok(vec![group(Described::default())]), Check::Group, Reason::GroupNotAttached)]
#[case(|f: &mut Facts| f.groups = Ok(vec![group(Described { differs: vec!["web".into()], ..attached() })]), Check::Group, Reason::BindingDiffers)]
#[case(|f: &mut Facts| group_of(f).targets = Ok(Targets { all: 2, zone_not_enabled: 1, ..Targets::default() }), Check::Group, Reason::ZoneNotEnabled)]
#[case(|f: &mut Facts| group_of(f).described = Err((Reason::AwsDenied, "AccessDenied".into())), Check::Group, Reason::AwsDenied)]
#[case(|f: &mut Facts| f.changes = vec![change(ChangeOutcome::Denied("AccessDenied".into()))], Check::Registration, Reason::CallRefused)]
#[case(|f: &mut Facts| f.graces = vec![grace(GraceOutcome::Refused("policy".into()))], Check::Grace, Reason::GraceRefused)]
fn each_fault_breaks_its_own_hop(
    #[case] make: Break,
    #[case] check: Check,
    #[case] reason: Reason,
) {
    let mut facts = sound();
    make(&mut facts);
    let answer = diagnose(&facts);
    let broken = answer.findings.iter();
    let broken: Vec<_> = broken.filter(|hop| hop.state == State::Broken).collect();
    let [only] = broken[..] else {
        panic!("{}", render(&answer));
    };
    assert_eq!((only.check, only.why.reason), (check, reason));
    assert_eq!(answer.state, State::Broken);
    assert!(!only.why.remedy.is_empty());
}

#[rstest]
#[case(|f: &mut Facts| f.crd = Err("denied".into()))]
#[case(|f: &mut Facts| f.hooks = Err("denied".into()))]
#[case(|f: &mut Facts| f.installation.1 = Err("denied".into()))]
#[case(|f: &mut Facts| f.rights = Err("denied".into()))]
#[case(|f: &mut Facts| f.incumbent.deployments = Err("denied".into()))]
#[case(|f: &mut Facts| f.incumbent.hooks = Err("denied".into()))]
#[case(|f: &mut Facts| { registers(f); f.incumbent.lease.1 = Err("denied".into()) })]
#[case(|f: &mut Facts| f.groups_left_out = 1)]
#[case(|f: &mut Facts| f.ends = Err("denied".into()))]
#[case(|f: &mut Facts| f.ends_left_out = 1)]
#[case(|f: &mut Facts| f.graces = vec![grace(GraceOutcome::Unknown("forbidden".into()))])]
#[case(|f: &mut Facts| { f.groups = Ok(vec![]); f.identity.as_mut().unwrap().arn = Err("no answer".into()) })]
#[case(|f: &mut Facts| f.changes = vec![change(ChangeOutcome::Unknown("Throttling".into()))])]
#[case(|f: &mut Facts| f.services[0].ready = Err("denied".into()))]
#[case(|f: &mut Facts| f.pod_trial = Err("denied".into()))]
#[case(|f: &mut Facts| f.binding_trial = Err("denied".into()))]
#[case(|f: &mut Facts| f.lease.1 = Err("denied".into()))]
#[case(|f: &mut Facts| f.groups = Err("no credentials".into()))]
#[case(|f: &mut Facts| f.bindings = Err("denied".into()))]
#[case(|f: &mut Facts| f.namespaces = Err("denied".into()))]
fn what_is_not_known_is_not_sound(#[case] make: Break) {
    let mut facts = sound();
    make(&mut facts);
    let answer = diagnose(&facts);
    assert_eq!(answer.state, State::Unknown, "{}", render(&answer));
}

#[test]
fn a_review_that_came_through_proves_trust_where_the_certificate_cannot_be_read() {
    let mut facts = sound();
    for hook in hooks(&mut facts) {
        hook.bundle = cas(3600, Err("no Secret".to_owned()));
    }
    facts.certificate = Err("no Secret".to_owned());
    assert_eq!(diagnose(&facts).state, State::Sound);
    facts.pod_trial = Err("no binding".to_owned());
    let answer = diagnose(&facts);
    let unknown = |check| {
        let mut findings = answer.findings.iter();
        findings.any(|hop| hop.check == check && hop.state == State::Unknown)
    };
    assert!(unknown(Check::Trust) && unknown(Check::PodTrial));
}

#[test]
fn a_trial_in_vain_names_the_first_hop_that_is_broken() {
    let mut facts = sound();
    facts.pod_trial = Ok(PodTrial::Ungated {
        namespace: "shop".to_owned(),
        binding: "web".to_owned(),
    });
    hooks(&mut facts)[0].bundle = Bundle::Empty;
    facts.services[0].ready = Ok(Some(0));
    let text = render(&diagnose(&facts));
    let told = "gets no gate of binding web: BundleEmpty of mpod.elbv2.k8s.aws.";
    assert!(text.contains(told), "{text}");
}

#[test]
fn a_trial_in_a_namespace_that_has_not_opted_in_says_so() {
    let mut facts = sound();
    facts.pod_trial = Ok(PodTrial::Ungated {
        namespace: "other".to_owned(),
        binding: "web".to_owned(),
    });
    let answer = diagnose(&facts);
    let mut broken = answer.findings.iter();
    let broken = broken.find(|hop| hop.state == State::Broken).unwrap();
    assert_eq!(broken.why.reason, Reason::NamespaceNotOptedIn);
}

#[test]
fn bindings_that_are_all_multi_cluster_share_a_group() {
    let mut facts = sound();
    let both = [binding("web", 60), binding("young", 30)].map(|binding| Binding {
        multi_cluster: true,
        ..binding
    });
    facts.bindings = Ok(both.to_vec());
    assert_eq!(diagnose(&facts).state, State::Sound);
}

#[test]
fn advice_is_told_and_the_hops_are_sound_all_the_same() {
    let mut facts = sound();
    facts.incumbent.deployments = Ok(vec![ObjectKey::new("kube-system", "lbc")]);
    facts.incumbent.hooks = Ok(vec![incumbent_hooks(Some(2))]);
    facts.bindings.as_mut().unwrap()[0].of_stack = true;
    let answer = diagnose(&facts);
    let advice = answer.findings.iter();
    let advice = advice.filter(|hop| hop.state == State::Advice);
    let reasons: Vec<Reason> = advice.map(|hop| hop.why.reason).collect();
    assert_eq!(reasons, [Reason::IncumbentInjects, Reason::ListenerManaged]);
    let text = render(&answer);
    assert_eq!(answer.state, State::Advice);
    assert!(
        text.contains("Every hop is sound; there is advice on 2"),
        "{text}"
    );
}

#[test]
fn an_answer_about_a_group_proves_credentials_of_which_nothing_else_is_known() {
    let mut facts = sound();
    facts.identity.as_mut().unwrap().arn = Err("no answer".to_owned());
    assert_eq!(diagnose(&facts).state, State::Sound);
}

#[test]
fn a_group_that_may_be_unused_is_sound_without_a_load_balancer() {
    let mut facts = sound();
    facts.groups = Ok(vec![group(Described {
        may_be_unused: true,
        ..Described::default()
    })]);
    assert_eq!(diagnose(&facts).state, State::Sound);
}

#[test]
fn registration_beside_an_incumbent_of_other_namespaces_is_sound() {
    let mut facts = sound();
    facts.incumbent.deployments = Ok(vec![ObjectKey::new("kube-system", "lbc")]);
    facts.incumbent.lease.1 = Ok(lease(5));
    let installation = facts.installation.1.as_mut().unwrap().as_mut().unwrap();
    installation.registers = true;
    installation.incumbent_namespaces = vec!["legacy".to_owned()];
    assert_eq!(diagnose(&facts).state, State::Sound);
}

#[test]
fn a_finalizer_is_left_behind_by_an_installation_that_is_gone() {
    let mut facts = sound();
    facts.bindings.as_mut().unwrap()[0].our_finalizer = true;
    registers(&mut facts);
    assert_eq!(diagnose(&facts).state, State::Sound);
    facts.installation.1 = Ok(None);
    let text = render(&diagnose(&facts));
    let command =
        "$ targetgate release --all --namespace targetgate-system --deployment targetgate";
    assert!(text.contains(command), "{text}");
    assert!(
        text.contains("no targetgate is installed: shop/web."),
        "{text}"
    );
}

#[test]
fn a_certificate_of_a_year_expires_soon_a_week_before() {
    let mut facts = sound();
    let day = 24 * 3600;
    for (days, state) in [(8, State::Sound), (6, State::Broken)] {
        let begins = now() - SignedDuration::from_hours(365 * 24);
        let expires = now() + SignedDuration::from_secs(days * day);
        facts.certificate = Ok(Validity { begins, expires });
        assert_eq!(diagnose(&facts).state, state, "{days} days");
    }
}
