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
    page.heading(
        match (broken, unknown) {
            (0, 0) => "Every hop is sound.".to_owned(),
            (0, unknown) => format!("{unknown} hops are not known."),
            (broken, 0) => format!("{broken} hops are broken."),
            (broken, unknown) => format!("{broken} hops are broken, and {unknown} are not known."),
        }
        .as_str(),
    );
    page.text()
}

fn of_finding(page: &mut Page, finding: &Finding) {
    let (check, about, why) = (finding.check, &finding.about, &finding.why);
    match finding.state {
        State::Sound => page.line(0, format!("✓ {check:?} {about}: {}", why.message)),
        State::Unknown => {
            page.line(0, format!("? {check:?} {about}: {}", why.reason));
            page.why(4, why);
        }
        State::Broken => {
            page.line(0, format!("✗ {check:?} {about}: {}", why.reason));
            page.why(4, why);
        }
    }
}
