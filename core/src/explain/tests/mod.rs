//! Each answer follows from what hook and health loop decide about the same objects.

use jiff::{SignedDuration, Timestamp};
use rstest::rstest;

use super::*;
use crate::drain::inject::{Annotations, NewPod, PreStop};
use crate::drain::{DrainAnnotations, DrainLabel, DrainMode, LoadBalancerKind, ServerVersion};
use crate::fixtures::{arn, binding, pod, service};
use crate::gates::requirements::Resolution;
use crate::index::Index;
use crate::lint;
use crate::model::{
    Binding, Namespace, Pod, PodRemarks, Policies, PortRef, Service, TargetHealth, TargetState,
};
use crate::names::{ConditionPrefix, GroupKey, NamedGroup, ObjectKey};
use crate::reason::Reason;

mod gates;
mod leader;
mod lost;
mod mode;
mod registration;
mod selection;
mod whole;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_000 + seconds).unwrap()
}

/// A namespace `shop` that has opted in, with Service `web` of `app=web`, looked at 600 s after [`at`] 0.
fn shop(bindings: impl IntoIterator<Item = Binding>) -> Facts {
    let mut index = Index::default();
    let namespace = Namespace {
        opted_in: true,
        ..Namespace::default()
    };
    index.apply_namespace(&"shop".into(), namespace);
    index.apply_service(&ObjectKey::new("shop", "web"), web_service());
    for mut binding in bindings {
        binding.registration.created = Some(at(0));
        index.apply_binding(&"shop".into(), binding);
    }
    Facts {
        namespace: "shop".into(),
        index,
        opted_in: None,
        not_served: [].into(),
        server: ServerVersion::of("1", "33"),
        settings: Settings {
            prefixes: vec![ConditionPrefix::default()],
            ..Settings::default()
        },
        elb: Elb::NotAsked("--no-aws".to_owned()),
        leader: Err("--no-leader".to_owned()),
        registration: None,
        policy: None,
        now: at(600),
    }
}

fn web_service() -> Service {
    service().selecting("app", "web").port("http", 80, None)
}

/// A pod of a Deployment `web`, created at [`at`] 10 with ready containers since [`at`] 60.
fn web() -> Pod {
    let pod = pod("web-1").label("app", "web").ip("10.0.0.1");
    let pod = pod.label("pod-template-hash", "5d4f8");
    Pod {
        containers_ready: Some(at(60)),
        ..pod.controlled_by("web-5d4f8")
    }
}

fn seen(pod: Pod) -> PodFacts {
    let gates = pod.gates.iter().map(|(gate, condition)| ReadinessGate {
        condition_type: gate.as_str().into(),
        status: condition.as_ref().map(|condition| condition.status),
        since: condition.as_ref().map(|_| at(70)),
    });
    PodFacts {
        gates: gates.collect(),
        pod,
        created: Some(at(10)),
        end: EndFacts {
            annotations: DrainAnnotations::default(),
            new: NewPod {
                containers: vec![PreStop::NoLifecycle],
                grace: Some(30),
                of_job: false,
                annotations: Annotations::Absent,
                drained: None,
            },
            template: lint::PodTemplate {
                containers: vec![lint::Container {
                    name: "main".to_owned(),
                    ..lint::Container::default()
                }],
                ..lint::PodTemplate::default()
            },
        },
    }
}

fn told(facts: &Facts, pod: Pod) -> PodAnswer {
    crate::explain::pod(facts, &seen(pod))
}

/// What ELB says of target 10.0.0.1:80 of group `web`.
fn elb(look: GroupLook) -> Elb {
    let key = GroupKey {
        arn: arn("web"),
        role: None,
    };
    Elb::Asked(Looks {
        groups: [(key, look)].into(),
        ..Looks::default()
    })
}

fn health(state: TargetState, reason: &str) -> GroupLook {
    GroupLook::Healths(vec![TargetHealth {
        target: ([10, 0, 0, 1].into(), 80),
        state,
        reason: reason.into(),
        description: "as ELB describes it".into(),
        zone: None,
    }])
}

fn waiting() -> Pod {
    let words = [
        "Elb.RegistrationInProgress",
        "Target registration is in progress",
    ];
    web().gate("web").condition(false, words[0], words[1])
}

fn of(change: impl FnOnce(&mut Binding)) -> Binding {
    let mut binding = binding("web");
    change(&mut binding);
    binding
}

/// Pods of Deployment `web`: one that waits, two that slipped through, an open one, and one that ends.
fn crowd() -> Vec<PodFacts> {
    let named = |name: &str, pod: Pod| Pod {
        key: ObjectKey::new("shop", name),
        ..pod
    };
    let open = web().gate("web").condition(true, "", "");
    let ending = Pod {
        terminating: true,
        ..waiting()
    };
    let pods = [
        named("web-1", waiting()),
        named("web-2", web()),
        named("web-3", web()),
        named("web-4", open),
        named("web-5", ending),
    ];
    pods.into_iter().map(seen).collect()
}
