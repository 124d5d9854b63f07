//! What becomes of targets, by the flags, the binding and its condition, where the leader was not asked.

use std::collections::BTreeMap;

use super::*;
use crate::targets::record::Record;
use crate::targets::standing::{Incumbent, Mode};

/// The same facts, where targetgate registers the targets of bindings that ask for it.
pub(super) fn registering(facts: Facts) -> Facts {
    let registration = Registration {
        mode: Mode::Annotated,
        incumbent_namespaces: None,
        incumbent: Incumbent::Gone,
        told: BTreeMap::new(),
        records: BTreeMap::new(),
    };
    Facts {
        registration: Some(registration),
        ..facts
    }
}

/// A binding that asks for registration, and that we hold.
fn ours() -> Binding {
    of(|binding| {
        binding.registration.asked = Some(true);
        binding.registration.our_finalizer = true;
        binding.uid = Some("uid-web".into());
    })
}

fn ready(facts: &mut Facts, ready: bool, reason: Reason, message: &str) {
    let told = Told {
        ready,
        reason: reason.as_str().to_owned(),
        message: message.to_owned(),
        since: None,
    };
    if let Some(registration) = &mut facts.registration {
        registration.told.insert("web".into(), told);
    }
}

fn of_web(facts: &Facts) -> BindingAnswer {
    crate::explain::binding(facts, &ours(), &[])
}

#[test]
fn without_register_nothing_is_said_of_registration() {
    assert_eq!(of_web(&shop([ours()])).registration, None);
}

#[rstest]
#[case::not_asked(of(|_| {}), Reason::RegistrationOff, "lacks the annotation")]
#[case::asked_not_to(of(|b| b.registration.asked = Some(false)), Reason::RegistrationOff, "register: \"false\"")]
#[case::quic(of(|b| { b.registration.asked = Some(true); b.registration.quic = true; }), Reason::QuicNotSupported, "QUIC")]
#[case::not_taken_yet(of(|b| b.registration.asked = Some(true)), Reason::Registering, "lacks the finalizer")]
fn a_gate_of_a_target_that_is_not_registered_says_why(
    #[case] binding: Binding,
    #[case] reason: Reason,
    #[case] words: &str,
) {
    let mut facts = registering(shop([binding]));
    facts.elb = elb(GroupLook::Healths(vec![]));
    let why = told(&facts, waiting()).why;
    assert_eq!(why.reason, reason);
    assert!(why.message.contains(words), "{}", why.message);
}

#[test]
fn the_incumbent_holds_a_binding_while_its_lease_is_fresh() {
    let mut facts = registering(shop([ours()]));
    if let Some(registration) = &mut facts.registration {
        registration.incumbent = Incumbent::Leads;
    }
    facts.elb = elb(GroupLook::Healths(vec![]));
    assert_eq!(told(&facts, waiting()).why.reason, Reason::HeldByAnother);
    let all = namespace(&facts, &[]);
    assert_eq!((all.verdict, all.unregistered.len()), (Verdict::Yes, 1));
}

#[test]
fn the_condition_of_the_binding_tells_elbs_words() {
    let mut facts = registering(shop([ours()]));
    facts.elb = elb(GroupLook::Healths(vec![]));
    let words = "RegisterTargets of 10.0.0.1 port 80 failed: InvalidTarget: not in the VPC";
    ready(&mut facts, false, Reason::TargetRefused, words);
    let why = told(&facts, waiting()).why;
    assert_eq!(why.reason, Reason::TargetRefused);
    assert!(
        why.message.contains("InvalidTarget: not in the VPC."),
        "{}",
        why.message
    );
    // What is told of another target, or of targets that stay, does not keep this one out.
    let other = words.replace("10.0.0.1", "10.0.0.77");
    for (reason, words) in [
        (Reason::TargetRefused, &*other),
        (Reason::HeldByFloor, "3 stay"),
    ] {
        ready(&mut facts, false, reason, words);
        assert_eq!(told(&facts, waiting()).why.reason, Reason::NotRegistered);
    }
    let answer = of_web(&facts);
    assert_eq!(
        (answer.verdict, answer.why.reason),
        (Verdict::No, Reason::HeldByFloor)
    );
    let all = namespace(&facts, &[]);
    assert_eq!(all.unregistered.len(), 1);
    assert_eq!(
        (all.verdict, all.why.reason),
        (Verdict::No, Reason::HeldByFloor)
    );
}

#[test]
fn all_is_well_where_the_condition_says_so_and_a_foreign_target_is_told_all_the_same() {
    let mut facts = registering(shop([ours()]));
    ready(&mut facts, true, Reason::Registered, "");
    let group = GroupKey {
        arn: arn("web"),
        role: None,
    };
    let record = Record::new("uid-web".into(), ObjectKey::new("shop", "web"), group);
    let record = record.with([([10, 0, 0, 1].into(), 80)]);
    if let Some(registration) = &mut facts.registration {
        registration.records.insert("uid-web".into(), record);
    }
    let answer = of_web(&facts);
    assert_eq!(answer.verdict, Verdict::Yes);
    let registration = answer.registration.unwrap();
    assert!(registration.ready);
    assert_eq!(registration.recorded, Some(1));
    assert!(namespace(&facts, &[]).unregistered.is_empty());
    ready(
        &mut facts,
        true,
        Reason::AddressOfAnotherPod,
        "target 10.0.0.9 port 80 is another's",
    );
    assert_eq!(of_web(&facts).verdict, Verdict::Yes);
    assert_eq!(namespace(&facts, &[]).unregistered.len(), 1);
}

#[test]
fn a_binding_that_was_released_is_left_alone() {
    let mut facts = registering(shop([ours()]));
    let group = GroupKey {
        arn: arn("web"),
        role: None,
    };
    let mut record = Record::new("uid-web".into(), ObjectKey::new("shop", "web"), group);
    record.released = Some("uid-deployment".into());
    if let Some(registration) = &mut facts.registration {
        registration.records.insert("uid-web".into(), record);
    }
    let registration = of_web(&facts).registration.unwrap();
    assert_eq!(registration.why.reason, Reason::Released);
    let command = "targetgate release --undo shop/web";
    assert_eq!(registration.why.command.as_deref(), Some(command));
}
