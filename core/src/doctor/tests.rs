use jiff::{SignedDuration, Timestamp};
use rstest::rstest;

use super::*;
use crate::names::{BindingApi, ObjectKey};
use crate::reason::Reason;

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
        bundle: Bundle::Cas {
            expires: now() + SignedDuration::from_hours(1),
            verifies: Ok(true),
        },
    }
}

fn binding(name: &str, age: i64) -> Binding {
    Binding {
        created: Some(now() - SignedDuration::from_secs(age)),
        key: ObjectKey::new("shop", name),
        api: BindingApi::Elbv2,
        arn: Some("arn".into()),
        multi_cluster: false,
    }
}

/// An installation without a fault.
fn sound() -> Facts {
    Facts {
        now: now(),
        crd: Ok(Some(Crd {
            served: true,
            prunes: vec![],
        })),
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
        lease: (
            ObjectKey::new("targetgate-system", "targetgate"),
            Ok(Some(Lease {
                holder: "targetgate-0".to_owned(),
                renewed: Some(now()),
                seconds: 15,
            })),
        ),
        groups: Ok(vec![]),
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

type Break = fn(&mut Facts);

#[rstest]
#[case(|f: &mut Facts| f.crd = Ok(None), Check::Crd, Reason::BindingsNotServed)]
#[case(|f: &mut Facts| f.crd = Ok(Some(Crd { served: false, prunes: vec![] })), Check::Crd, Reason::BindingsNotServed)]
#[case(|f: &mut Facts| f.crd = Ok(Some(Crd { served: true, prunes: vec!["spec.vpcID".into()] })), Check::Crd, Reason::FieldsPruned)]
#[case(|f: &mut Facts| _ = hooks(f).pop(), Check::Hook, Reason::HookNotRegistered)]
#[case(|f: &mut Facts| hooks(f)[0].fails = true, Check::Hook, Reason::HookRefusesPods)]
#[case(|f: &mut Facts| hooks(f)[0].bundle = Bundle::Empty, Check::Trust, Reason::BundleEmpty)]
#[case(|f: &mut Facts| hooks(f)[0].bundle = Bundle::Unsound, Check::Trust, Reason::BundleUnsound)]
#[case(|f: &mut Facts| hooks(f)[0].bundle = Bundle::Cas { expires: now(), verifies: Ok(true) }, Check::Trust, Reason::CertificateExpired)]
#[case(|f: &mut Facts| hooks(f)[0].bundle = Bundle::Cas { expires: Timestamp::MAX, verifies: Ok(false) }, Check::Trust, Reason::CertificateUntrusted)]
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
        hook.bundle = Bundle::Cas {
            expires: Timestamp::MAX,
            verifies: Err("no Secret".to_owned()),
        };
    }
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
