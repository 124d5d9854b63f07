//! The answer for people.

use crate::doctor::answer::{Answer, Finding, State};
use crate::explain::Page;

/// The answer as text: a line for each hop, with what to do below those that are not sound.
pub fn render(answer: &Answer) -> String {
    let mut page = Page::default();
    for finding in &answer.findings {
        of_finding(&mut page, finding);
    }
    let count = |state| {
        let findings = answer.findings.iter();
        findings.filter(|finding| finding.state == state).count()
    };
    let (broken, unknown) = (count(State::Broken), count(State::Unknown));
    let heading = match (broken, unknown) {
        (0, 0) => "Every hop is sound".to_owned(),
        (0, unknown) => format!("{unknown} hops are not known"),
        (broken, 0) => format!("{broken} hops are broken"),
        (broken, unknown) => format!("{broken} hops are broken, and {unknown} are not known"),
    };
    page.heading(&match count(State::Advice) {
        0 => format!("{heading}."),
        advice => format!("{heading}; there is advice on {advice} (!)."),
    });
    page.text()
}

fn of_finding(page: &mut Page, finding: &Finding) {
    let (check, about, why) = (finding.check, &finding.about, &finding.why);
    match finding.state {
        State::Sound => page.line(0, format!("✓ {check:?} {about}: {}", why.message)),
        State::Advice => not_sound(page, '!', finding),
        State::Unknown => not_sound(page, '?', finding),
        State::Broken => not_sound(page, '✗', finding),
    }
}

fn not_sound(page: &mut Page, mark: char, finding: &Finding) {
    let (check, about, why) = (finding.check, &finding.about, &finding.why);
    page.line(0, format!("{mark} {check:?} {about}: {}", why.reason));
    page.why(4, why);
}
