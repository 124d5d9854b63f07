//! The CRD, the Lease, the bindings and the Namespaces.

use std::collections::{BTreeMap, BTreeSet};

use crate::doctor::answer::{Check, Finding};
use crate::doctor::facts::{Binding, Crd, Facts, Known, Lease, Namespace};
use crate::names::ObjectKey;
use crate::reason::Reason;
use crate::text::counted;

const BINDINGS: &str = "targetgroupbindings.elbv2.k8s.aws";
const RECORDS: &str = "targetrecords.targetgate.dev";
/// By so much the clock of this machine may differ from that of the holder. Chosen.
pub(super) const SKEW_SECONDS: i64 = 60;

/// The CRDs are served, and keep what targetgate reads and writes.
pub(super) fn crds(facts: &Facts) -> Vec<Finding> {
    let bindings = of_crd(
        BINDINGS,
        &facts.crd,
        Reason::BindingsNotServed,
        Reason::FieldsPruned,
    );
    let of_records = |crd| {
        let reason = Reason::RecordsNotServed;
        of_crd(RECORDS, crd, reason, reason)
    };
    let records = facts.records_crd.as_ref().map(of_records);
    [bindings].into_iter().chain(records).collect()
}

fn of_crd(name: &str, crd: &Known<Option<Crd>>, not_served: Reason, pruned: Reason) -> Finding {
    match crd {
        Err(why) => Finding::unknown(Check::Crd, name, why),
        Ok(Some(crd)) if crd.served && crd.prunes.is_empty() => {
            Finding::sound(Check::Crd, name, "It is served, and drops no field.")
        }
        Ok(Some(crd)) if crd.served => {
            let message = format!("It drops {}.", crd.prunes.join(", "));
            Finding::broken(Check::Crd, name, pruned, message)
        }
        Ok(_) => Finding::broken(Check::Crd, name, not_served, not_served.sentence()),
    }
}

/// A replica holds the Lease, and renews it.
pub(super) fn lease(facts: &Facts) -> Vec<Finding> {
    let (key, lease) = &facts.lease;
    let about = format!("Lease {key}");
    let broken =
        |message: String| Finding::broken(Check::Lease, &about, Reason::LeaseNotHeld, message);
    vec![match lease {
        Err(why) => Finding::unknown(Check::Lease, &about, why),
        Ok(None) => broken("It does not exist: no replica has been leader.".to_owned()),
        Ok(Some(lease)) if lease.holder.is_empty() => broken("No replica holds it.".to_owned()),
        Ok(Some(lease)) => match age(facts, lease) {
            Some(age) if age <= i64::from(lease.seconds) + SKEW_SECONDS => {
                let message = format!("{} holds it, renewed {} s ago.", lease.holder, age.max(0));
                Finding::sound(Check::Lease, &about, message)
            }
            Some(age) => broken(format!("{} has not renewed it for {age} s.", lease.holder)),
            None => broken(format!("{} has never renewed it.", lease.holder)),
        },
    }]
}

/// The seconds since a Lease was renewed.
pub(super) fn age(facts: &Facts, lease: &Lease) -> Option<i64> {
    Some(facts.now.as_second() - lease.renewed?.as_second())
}

/// Each group has one binding, unless all that share it are multi-cluster.
pub(super) fn bindings(facts: &Facts) -> Vec<Finding> {
    let all = match &facts.bindings {
        Err(why) => return vec![Finding::unknown(Check::Binding, "bindings", why)],
        Ok(all) => all,
    };
    let mut by_group: BTreeMap<&str, BTreeSet<&Binding>> = BTreeMap::new();
    for binding in all {
        let Some(arn) = &binding.arn else { continue };
        by_group.entry(arn).or_default().insert(binding);
    }
    let shared = by_group.values().filter(|bindings| {
        let mut of_group = bindings.iter();
        bindings.len() > 1 && !of_group.all(|binding| binding.multi_cluster)
    });
    let shared: Vec<Finding> = shared.flat_map(younger).collect();
    match shared.is_empty() {
        true => {
            let bindings = counted(all.len(), "binding");
            let message =
                format!("Of {bindings}, none shares its group without `multiClusterTargetGroup`.");
            vec![Finding::sound(Check::Binding, "bindings", message)]
        }
        false => shared,
    }
}

/// No living pods have lost their binding.
pub(super) fn lost(facts: &Facts) -> Vec<Finding> {
    let lost = facts.lost.iter().map(|lost| {
        let (about, why) = (format!("namespace {}", lost.namespace), &lost.why);
        Finding::broken(Check::Binding, &about, why.reason, why.message.as_str())
    });
    lost.collect()
}

/// The bindings of one group that an older one precedes.
fn younger(bindings: &BTreeSet<&Binding>) -> Vec<Finding> {
    let mut of_group = bindings.iter();
    let Some(oldest) = of_group.next() else {
        return vec![];
    };
    let younger = of_group.map(|binding| {
        let message = format!("{} names the same target group.", name(oldest));
        Finding::broken(
            Check::Binding,
            &name(binding),
            Reason::OlderBinding,
            message,
        )
    });
    younger.collect()
}

fn name(binding: &Binding) -> String {
    let ObjectKey { namespace, name } = &binding.key;
    let group = binding.api.group();
    format!("targetgroupbinding.{group} {namespace}/{name}")
}

/// Each Namespace that has opted in has a binding, and is selected by the hook for pods.
pub(super) fn namespaces(facts: &Facts) -> Vec<Finding> {
    let all = match &facts.namespaces {
        Err(why) => return vec![Finding::unknown(Check::Namespace, "namespaces", why)],
        Ok(all) => all,
    };
    all.iter()
        .map(|namespace| of_namespace(facts, namespace))
        .collect()
}

fn of_namespace(facts: &Facts, namespace: &Namespace) -> Finding {
    let about = format!("namespace {}", namespace.name);
    let broken =
        |reason: Reason| Finding::broken(Check::Namespace, &about, reason, reason.sentence());
    let bindings = facts.bindings.iter().flatten();
    let bindings = bindings.filter(|binding| *binding.key.namespace == *namespace.name);
    match (&namespace.selected, bindings.count()) {
        (Ok(false), _) => broken(Reason::NamespaceExcluded),
        _ if facts.bindings.is_err() => {
            Finding::unknown(Check::Namespace, &about, "Its bindings are not known.")
        }
        (_, 0) => broken(Reason::NoBinding),
        (Err(why), _) => Finding::unknown(Check::Namespace, &about, why),
        (Ok(true), bindings) => {
            let bindings = counted(bindings, "binding");
            let message = format!("It has opted in, and has {bindings}.");
            Finding::sound(Check::Namespace, &about, message)
        }
    }
}
