//! How pods end: what of their workloads' settings loses requests, and whether the cluster admits what drain gives them.

use crate::doctor::answer::{Check, Finding};
use crate::doctor::facts::{End, Facts, GraceOutcome, GraceTrial, Unread};
use crate::lint::lint;
use crate::reason::Reason;
use crate::text::{agreeing, counted};

/// At most this many findings about ends are told. Chosen: a page of them is as much as anyone reads.
const TOLD: usize = 50;

/// What of the workloads' settings loses requests when their pods end, although gates guard their beginning.
pub(super) fn ends(facts: &Facts) -> Vec<Finding> {
    const ABOUT: &str = "ends of pods";
    let ends = match &facts.ends {
        Ok(ends) => ends,
        Err(why) => return vec![Finding::unknown(Check::End, ABOUT, why)],
    };
    let mut found: Vec<Finding> = ends.iter().flat_map(of_workload).collect();
    if found.is_empty() {
        let workloads = agreeing(
            ends.len(),
            "workload with gates ends as its load balancers need, as far as its settings tell",
            "workloads with gates end as their load balancers need, as far as their settings tell",
        );
        let message = match ends.len() {
            0 => "No workload has gates.".to_owned(),
            number => format!("{number} {workloads}."),
        };
        found.push(Finding::sound(Check::End, ABOUT, message));
    }
    let more = found.len().saturating_sub(TOLD);
    found.truncate(TOLD);
    if more > 0 {
        let findings = agreeing(more, "finding is", "findings are");
        let message = format!("{more} more {findings} left out.");
        found.push(Finding::unknown_advice(Check::End, ABOUT, message));
    }
    let more = facts.ends_left_out;
    if more > 0 {
        // More than advice would come of a binding that pods there have lost.
        let namespaces = agreeing(more, "namespace is", "namespaces are");
        let message = format!("{more} more {namespaces} left out.");
        found.push(Finding::unknown(Check::End, ABOUT, message));
    }
    found.extend(facts.ends_unread.iter().map(unread));
    found
}

/// A read that failed, for which some of the lints keep silent. It serves nothing else.
fn unread(Unread { what, why }: &Unread) -> Finding {
    let message = format!("Not all that can lose requests is known: {why}");
    Finding::unknown_advice(Check::End, what, message)
}

fn of_workload(end: &End) -> Vec<Finding> {
    let End {
        workload,
        pods,
        settings,
    } = end;
    let findings = lint(settings).into_iter();
    findings
        .map(|finding| {
            let message = format!("{} ({}).", finding.message, counted(*pods, "pod"));
            Finding::advice(Check::End, workload, finding.reason, message)
        })
        .collect()
}

/// Each namespace with drain admits the grace period that drain gives.
pub(super) fn graces(facts: &Facts) -> Vec<Finding> {
    facts.graces.iter().map(grace).collect()
}

fn grace(trial: &GraceTrial) -> Finding {
    let GraceTrial {
        namespace, seconds, ..
    } = trial;
    let about = format!("namespace {namespace}");
    let pod = format!("a dry-run pod with a grace period of {seconds} s");
    match &trial.outcome {
        GraceOutcome::Admitted => Finding::sound(Check::Grace, &about, format!("It admits {pod}.")),
        GraceOutcome::Refused(words) => {
            let message = format!("It refuses {pod}, and admits one with 30 s: {words}.");
            Finding::broken(Check::Grace, &about, Reason::GraceRefused, message)
        }
        GraceOutcome::Unknown(words) => {
            let message = format!("It refuses {pod}, and one with 30 s as well: {words}.");
            Finding::unknown(Check::Grace, &about, message)
        }
    }
}
