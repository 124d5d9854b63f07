//! Why a gate is closed, by what the leader knows of it.

use std::net::SocketAddr;

use crate::explain::answer::{FailingAnswer, Why};
use crate::explain::elb_codes;
use crate::explain::facts::Facts;
use crate::explain::leader::{AnswerView, FailingView, GateView, TargetView};
use crate::explain::text::age;
use crate::gates::requirements::{GateRequirements, TargetQuery};
use crate::model::Pod;
use crate::names::TargetGroupArn;
use crate::reason::Reason;
use crate::text::counted;

/// Why a gate is closed; `None` where the pod, its binding or Service say it already.
pub(super) fn why(
    facts: &Facts,
    pod: &Pod,
    requirements: &GateRequirements,
    known: &GateView,
) -> Option<Why> {
    if !pod.is_live() || !pod.is_due() || requirements.closed.is_some() {
        return None;
    }
    let why = of_what_is_known(facts, known)?;
    let mut targets = known.targets.iter();
    let failing = targets.find_map(|target| target.failing.as_ref());
    Some(match failing {
        Some(failing) => and_fails(facts, why, failing),
        None => why,
    })
}

/// The same, as if all calls were answered.
fn of_what_is_known(facts: &Facts, known: &GateView) -> Option<Why> {
    let reason = Reason::of_word(&known.reason)?;
    let mut answered = known
        .targets
        .iter()
        .filter_map(|target| Some((target, target.answer.as_ref()?)));
    let said = answered.find(|(_, said)| !said.healthy && said.reason == known.reason);
    if let Some((target, said)) = said {
        return Some(of_answer(facts, reason, target, said));
    }
    let next = known.targets.iter().filter_map(|target| target.next_look);
    let next = next.min().map(|next| {
        let seconds = next.duration_since(facts.now).as_secs();
        match seconds {
            ..=0 => " ELB is asked next as soon as the budget allows.".to_owned(),
            seconds => format!(" ELB is asked next in {seconds} s."),
        }
    });
    let next = next.unwrap_or_default();
    Some(match reason {
        Reason::Healthy => Why::saying(
            Reason::HealthyNotOpened,
            "ELB called the target healthy, and the leader writes the condition next.",
        ),
        Reason::PodNotDue => Why::saying(
            Reason::NotPolled,
            "The leader has not seen yet that the pod is due.",
        ),
        reason => Why::saying(reason, format!("{}{next}", reason.sentence())),
    })
}

/// Adds that the calls fail, without which nothing moves.
fn and_fails(facts: &Facts, why: Why, failing: &FailingView) -> Why {
    let FailingView { code, since, calls } = failing;
    let (lasting, times) = (age(*since, facts.now), counted(*calls, "time"));
    let message = format!(
        "{} DescribeTargetHealth has failed for {lasting}, {times} in a row: {code}.",
        why.message
    );
    Why {
        message,
        remedy: "Look at the log of the leader: it has AWS's own words, and what to do.".to_owned(),
        ..why
    }
}

/// The calls that fail, as they are told.
pub(super) fn failing(failing: &FailingView) -> FailingAnswer {
    let FailingView { code, since, calls } = failing.clone();
    FailingAnswer { code, since, calls }
}

fn of_answer(facts: &Facts, reason: Reason, target: &TargetView, said: &AnswerView) -> Why {
    let when = age(said.asked, facts.now);
    let at = SocketAddr::new(target.address, target.port);
    let arn: Option<TargetGroupArn> = target.target_group_arn.parse().ok();
    let group = arn
        .as_ref()
        .map_or(&*target.target_group_arn, TargetGroupArn::name);
    let message = match reason {
        Reason::NotRegistered => format!(
            "{when} ago target group {group} did not have the target {at}, or was deregistering it."
        ),
        Reason::TargetGroupNotFound => {
            format!("{when} ago AWS did not have {}.", target.target_group_arn)
        }
        _ => {
            let words = elb_codes::words(&said.code, &said.message);
            format!("{when} ago ELB said that {at} of target group {group} is not healthy{words}.")
        }
    };
    Why::saying(reason, message).with_remedy(elb_codes::remedy(&said.code))
}

/// What the leader knows of the target of a query.
pub(super) fn target<'a>(known: &'a GateView, query: &TargetQuery) -> Option<&'a TargetView> {
    let mut targets = known.targets.iter();
    targets.find(|target| {
        let at = (target.address, target.port);
        at == query.target && target.target_group_arn == query.group.arn.as_str()
    })
}

/// What ELB said, in short.
pub(super) fn said(answer: &AnswerView) -> String {
    match (answer.healthy, Reason::of_word(&answer.reason)) {
        (true, _) => "healthy".to_owned(),
        (false, Some(Reason::NotRegistered)) => "not registered".to_owned(),
        (false, Some(Reason::TargetGroupNotFound)) => "the group does not exist".to_owned(),
        (false, _) => format!(
            "not healthy{}",
            elb_codes::words(&answer.code, &answer.message)
        ),
    }
}
