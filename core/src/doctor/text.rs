//! The answer for people.

use crate::doctor::answer::{Answer, Finding, State};
use crate::explain::Page;
use crate::text::{agreeing, counted};

/// The answer as text: a line for each hop, with what to do below those that are not sound.
pub fn render(answer: &Answer) -> String {
    let mut page = Page::default();
    for finding in &answer.findings {
        of_finding(&mut page, finding);
    }
    page.heading(&heading(answer));
    page.text()
}

/// How many hops are not sound.
fn heading(answer: &Answer) -> String {
    let count = |state, advisory| {
        let findings = answer.findings.iter();
        let such = findings.filter(|one| one.state == state && one.advisory == advisory);
        such.count()
    };
    let (broken, unknown) = (count(State::Broken, false), count(State::Unknown, false));
    let are = |number| agreeing(number, "is", "are");
    let mut heading = match (broken, unknown) {
        (0, 0) => "Every hop is sound".to_owned(),
        (0, _) => format!("{} {} not known", counted(unknown, "hop"), are(unknown)),
        (_, 0) => format!("{} {} broken", counted(broken, "hop"), are(broken)),
        (_, _) => format!(
            "{} {} broken, and {unknown} {} not known",
            counted(broken, "hop"),
            are(broken),
            are(unknown)
        ),
    };
    heading.push_str(
        &match (count(State::Advice, true), count(State::Unknown, true)) {
            (0, 0) => String::new(),
            (0, _) => "; whether there is advice is not known (?)".to_owned(),
            (advice, 0) => format!("; there is advice on {advice} (!)"),
            (advice, _) => {
                format!("; there is advice on {advice} (!), and whether on more is not known (?)")
            }
        },
    );
    format!("{heading}.")
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
