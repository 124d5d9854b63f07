//! Finds the citations in a text, and checks that the sections which they name exist.
//!
//! A citation of the contract is the word `contract` and its sections, separated by commas. A citation of a
//! design is the path of its file and the section. In Markdown the section is enough, as sections of designs
//! begin with a letter. In code, the word `contract` always has to cite a section.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use super::root;

const CONTRACT: &str = "docs/contract.md";
const DESIGNS: &str = "docs/design/";
const WORD: &str = "contract";

/// The sections that can be cited.
pub(crate) struct Sections {
    contract: BTreeSet<String>,
    /// The sections of each design, by the path of its file.
    designs: BTreeMap<String, BTreeSet<String>>,
}

impl Sections {
    pub(crate) fn of_the_repository() -> Self {
        let read = |path: &str| fs::read_to_string(root().join(path)).unwrap();
        let designs = fs::read_dir(root().join(DESIGNS)).unwrap().map(|entry| {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let path = format!("{DESIGNS}{name}");
            let sections = design_sections(&read(&path));
            (path, sections)
        });
        Self {
            contract: contract_sections(&read(CONTRACT)),
            designs: designs.collect(),
        }
    }

    /// The problems of the citations in a file, each with its line.
    pub(crate) fn wrong(&self, path: &str, text: &str) -> Vec<String> {
        let joined = Joined::new(text);
        let is_page = path.ends_with(".md");
        let mut wrong = self.wrong_of_contract(&joined.text, !is_page);
        wrong.extend(self.wrong_of_designs(&joined.text, is_page));
        if path == CONTRACT {
            wrong.extend(self.wrong_of_itself(&joined.text));
        }
        let told = |(at, problem)| format!("{path}:{}: {problem}", joined.line(at));
        wrong.into_iter().map(told).collect()
    }

    fn wrong_of_contract(&self, text: &str, always: bool) -> Vec<(usize, String)> {
        contract_citations(text, always)
            .into_iter()
            .filter_map(|(at, cited)| Some((at, self.problem_of_contract(&cited)?)))
            .collect()
    }

    fn wrong_of_designs(&self, text: &str, is_page: bool) -> Vec<(usize, String)> {
        design_citations(text)
            .into_iter()
            .filter_map(|(at, cited)| Some((at, self.problem_of_design(&cited, is_page)?)))
            .collect()
    }

    fn wrong_of_itself(&self, text: &str) -> Vec<(usize, String)> {
        own_citations(text)
            .into_iter()
            .filter(|(_, section)| self.is_numbered_otherwise(section))
            .map(|(at, section)| (at, format!("contract {section} does not exist")))
            .collect()
    }

    fn problem_of_contract(&self, cited: &Cited) -> Option<String> {
        match cited {
            Cited::Unfit(words) => Some(format!(
                "{words:?} is not a citation: write `contract 5.2, 5.3`"
            )),
            Cited::Sections(sections) => sections
                .iter()
                .find(|section| !self.contract.contains(*section))
                .map(|missing| format!("contract {missing} does not exist")),
        }
    }

    /// Whether a number in the contract looks like one of its numbered items, although no item has this number.
    fn is_numbered_otherwise(&self, section: &str) -> bool {
        let whole = section.split('.').next().unwrap_or_default();
        self.contract.contains(&format!("{whole}.1")) && !self.contract.contains(section)
    }

    fn problem_of_design(&self, cited: &DesignCitation, is_page: bool) -> Option<String> {
        let DesignCitation { file, section } = cited;
        match (file, section) {
            (Some(file), _) if !self.designs.contains_key(file) => {
                Some(format!("{file} does not exist"))
            }
            (Some(file), Some(section)) if !self.designs[file].contains(section) => {
                Some(format!("{file} has no section {section}"))
            }
            (None, Some(section)) if !is_page => Some(format!(
                "{section} is cited without its file: write `{DESIGNS}….md {section}`"
            )),
            (None, Some(section)) => {
                let mut all = self.designs.values().flatten();
                let unknown = !all.any(|known| known == section);
                unknown.then(|| format!("no design has a section {section}"))
            }
            _ => None,
        }
    }
}

/// Returns `5` for `## 5. The health loop`, and `5.2` for a numbered item below it.
fn contract_sections(text: &str) -> BTreeSet<String> {
    let mut sections = BTreeSet::new();
    let mut section = None;
    for line in text.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            section = number_before(heading, ". ");
            sections.extend(section.clone());
        } else if let (Some(section), Some(item)) = (&section, number_before(line, ". ")) {
            sections.insert(format!("{section}.{item}"));
        }
    }
    sections
}

fn number_before(line: &str, end: &str) -> Option<String> {
    let (number, _) = line.split_once(end)?;
    let is_number = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
    is_number.then(|| number.to_owned())
}

/// Returns `A.11` for `## A.11 What we do`.
fn design_sections(text: &str) -> BTreeSet<String> {
    text.lines()
        .filter(|line| line.starts_with('#'))
        .filter_map(|line| line.trim_start_matches('#').split_whitespace().next())
        .filter(|word| lettered(word) == Some(word))
        .map(str::to_owned)
        .collect()
}

/// A citation of the contract.
#[derive(Debug, PartialEq)]
enum Cited {
    Sections(Vec<String>),
    /// Words that are meant as a citation, in a form that cannot be checked.
    Unfit(String),
}

/// Where a text cites the contract. With `always`, each mention of the contract has to cite a section.
fn contract_citations(text: &str, always: bool) -> Vec<(usize, Cited)> {
    let lower = text.to_ascii_lowercase();
    lower
        .match_indices(WORD)
        .filter(|(at, _)| is_word(text, *at, at + WORD.len()))
        .filter_map(|(at, _)| Some((at, contract_citation(&text[at..], always)?)))
        .collect()
}

/// The citation at the start of a text that begins with the word.
fn contract_citation(text: &str, always: bool) -> Option<Cited> {
    let after = &text[WORD.len()..];
    let (sections, rest) = listed(after);
    let means_to = after.starts_with(" §") || goes_on(rest);
    // With another spelling, the word may be a name in code.
    let has_to = always && text.starts_with(WORD);
    match sections.is_empty() {
        _ if means_to => Some(Cited::Unfit(text.chars().take(24).collect())),
        true if has_to => Some(Cited::Unfit(text.chars().take(24).collect())),
        true => None,
        false => Some(Cited::Sections(sections)),
    }
}

/// The sections at the start of a text, and the text after them.
fn listed(text: &str) -> (Vec<String>, &str) {
    let (mut sections, mut rest) = (vec![], text);
    loop {
        let separator = if sections.is_empty() { " " } else { ", " };
        let next = rest.strip_prefix(separator).and_then(dotted);
        let Some((section, after)) = next else {
            return (sections, rest);
        };
        sections.push(section.to_owned());
        rest = after;
    }
}

/// A number such as `5` or `5.2` at the start of a text, and the text after it.
fn dotted(text: &str) -> Option<(&str, &str)> {
    let is_part = |c: char| c.is_ascii_digit() || c == '.';
    let end = text.find(|c| !is_part(c)).unwrap_or(text.len());
    // A dot at the end belongs to the sentence.
    let number = text[..end].trim_end_matches('.');
    let after = &text[number.len()..];
    let is_number = number.starts_with(|c: char| c.is_ascii_digit());
    (is_number && !after.starts_with(char::is_alphanumeric)).then_some((number, after))
}

/// Whether a list of sections continues with a separator other than a comma.
fn goes_on(rest: &str) -> bool {
    [" and ", " or ", "–", "-"].iter().any(|separator| {
        let after = rest.strip_prefix(separator);
        after.is_some_and(|after| after.starts_with(|c: char| c.is_ascii_digit()))
    })
}

/// Numbers such as `5.2` in the contract itself.
fn own_citations(text: &str) -> Vec<(usize, String)> {
    text.char_indices()
        .filter(|(at, c)| c.is_ascii_digit() && begins(text, *at, "."))
        .filter_map(|(at, _)| Some((at, dotted(&text[at..])?.0.to_owned())))
        .filter(|(_, number)| number.matches('.').count() == 1)
        .collect()
}

/// Whether a word can begin at `at`: not after a letter, a digit or one of `joins`.
fn begins(text: &str, at: usize, joins: &str) -> bool {
    !text[..at].ends_with(|c: char| c.is_alphanumeric() || joins.contains(c))
}

/// A citation of a design: the path of its file, a section, or both.
#[derive(Debug, PartialEq)]
struct DesignCitation {
    file: Option<String>,
    section: Option<String>,
}

fn design_citations(text: &str) -> Vec<(usize, DesignCitation)> {
    let mut found = vec![];
    // Positions of the sections that are checked together with the path before them.
    let mut checked = BTreeSet::new();
    for (at, _) in text.match_indices(DESIGNS) {
        let name = &text[at + DESIGNS.len()..];
        let of_a_name = |c: char| c.is_ascii_alphanumeric() || c == '-';
        let (name, rest) = name.split_at(name.find(|c| !of_a_name(c)).unwrap_or(name.len()));
        // The folder alone is not a citation.
        let Some(rest) = rest.strip_prefix(".md") else {
            continue;
        };
        let between = rest.trim_start_matches(['`', ')', ' ']);
        checked.insert(text.len() - between.len());
        let citation = DesignCitation {
            file: Some(format!("{DESIGNS}{name}.md")),
            section: lettered(between).map(str::to_owned),
        };
        found.push((at, citation));
    }
    let alone = text
        .char_indices()
        .filter(|(at, _)| !checked.contains(at) && begins(text, *at, "._-/"))
        .filter_map(|(at, _)| Some((at, lettered(&text[at..])?.to_owned())));
    found.extend(alone.map(|(at, section)| {
        let section = Some(section);
        (
            at,
            DesignCitation {
                file: None,
                section,
            },
        )
    }));
    found
}

/// A section such as `A.11` at the start of a text.
fn lettered(text: &str) -> Option<&str> {
    let number = text.strip_prefix(|c: char| c.is_ascii_uppercase())?;
    let (number, _) = dotted(number.strip_prefix('.')?)?;
    // X.509 is not a section of ours.
    (number.len() <= 2).then(|| &text[..number.len() + 2])
}

fn is_word(text: &str, start: usize, end: usize) -> bool {
    let joins = |c: char| c.is_alphanumeric() || "_-/`".contains(c);
    let (before, after) = (&text[..start], &text[end..]);
    !before.ends_with(joins) && !after.starts_with(joins) && !after.starts_with(".md")
}

/// A text whose lines are joined by one space, without comment markers.
struct Joined {
    text: String,
    /// The position in `text` at which each line begins.
    lines: Vec<usize>,
}

impl Joined {
    fn new(text: &str) -> Self {
        let mut joined = Self {
            text: String::new(),
            lines: vec![],
        };
        for line in text.lines() {
            joined.lines.push(joined.text.len());
            joined.text.push_str(unmarked(line));
            joined.text.push(' ');
        }
        joined
    }

    fn line(&self, at: usize) -> usize {
        self.lines.partition_point(|begins| *begins <= at)
    }
}

fn unmarked(line: &str) -> &str {
    let line = line.trim();
    let marks = ["//!", "///", "//", "#", "*", ">", "--"];
    let mut unmarked = marks.iter().filter_map(|mark| line.strip_prefix(mark));
    unmarked.next().unwrap_or(line).trim_start()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The problems of a file of this path, when the contract has 5, 5.1 and 5.2, and one design has A.11.
    fn wrong(path: &str, text: &str) -> Vec<String> {
        let contract =
            contract_sections("## 5. Loop\n1. **Who.**\n2. **What.**\n## Not built yet\n3. x\n");
        let targets = design_sections("# Targets\n## A.11 What we do\n### A word\n");
        let sections = Sections {
            contract,
            designs: [(format!("{DESIGNS}targets.md"), targets)].into(),
        };
        sections.wrong(path, text)
    }

    #[test]
    fn a_section_that_exists_may_be_cited() {
        assert_eq!(wrong("a.rs", "//! The loop (contract 5)."), [""; 0]);
        assert_eq!(wrong("a.rs", "// As contract 5.1, 5.2 have it."), [""; 0]);
        assert_eq!(wrong("a.rs", "// In contract 5.2."), [""; 0]);
        assert_eq!(
            wrong("a.md", "The contract is ours. **Contract 5.2:** x"),
            [""; 0]
        );
    }

    #[test]
    fn a_section_of_the_contract_that_does_not_exist_fails() {
        let missing = |section: &str| vec![format!("a.rs:1: contract {section} does not exist")];
        assert_eq!(wrong("a.rs", "// (contract 6)"), missing("6"));
        assert_eq!(wrong("a.rs", "// (contract 5.3)"), missing("5.3"));
        assert_eq!(wrong("a.rs", "// (contract 5.2, 5.11)"), missing("5.11"));
        assert_eq!(wrong("a.rs", "// (contract 5.2.1)"), missing("5.2.1"));
        assert_eq!(wrong("a.md", "See contract 7.").len(), 1);
    }

    #[test]
    fn a_citation_may_be_broken_over_two_lines() {
        let broken = "/// It opens (contract\n    /// 5.9), and\n";
        assert_eq!(
            wrong("a.rs", broken),
            ["a.rs:1: contract 5.9 does not exist"]
        );
        assert_eq!(
            wrong("a.rs", "x\n//! It opens (contract 5.1,\n//! 5.2).\n"),
            [""; 0]
        );
        let second = "# The rule\n# of contract 5.1,\n# 5.8 and more\n";
        assert_eq!(
            wrong("a.yaml", second),
            ["a.yaml:2: contract 5.8 does not exist"]
        );
        let design = "// See docs/design/targets.md\n// A.12.\n";
        let problem = "a.rs:1: docs/design/targets.md has no section A.12";
        assert_eq!(wrong("a.rs", design), [problem]);
    }

    #[test]
    fn a_citation_in_another_form_fails() {
        for text in [
            "contract §5.1",
            "contract 5.1 and 5.2",
            "contract 5.1–5.2",
            "contract 5.1 or 5",
        ] {
            assert_eq!(wrong("a.md", text).len(), 1, "{text}");
        }
        assert_eq!(wrong("a.rs", "// What the contract asks for.").len(), 1);
        assert_eq!(wrong("a.rs", "// The contract's fifth part.").len(), 1);
    }

    #[test]
    fn a_word_that_only_begins_like_a_citation_is_not_one() {
        let text = "fn contract_of() {} // docs/contract.md, contracts 9, subcontract 9";
        assert_eq!(wrong("a.rs", text), [""; 0]);
    }

    #[test]
    fn the_contract_cites_itself_by_number() {
        assert_eq!(
            wrong(CONTRACT, "See 5.2 (5.1, 5), v3.5.0, 1.36.3, 2.5 s."),
            [""; 0]
        );
        assert_eq!(
            wrong(CONTRACT, "x\nSee (5.2, 5.3)."),
            ["docs/contract.md:2: contract 5.3 does not exist"]
        );
    }

    #[test]
    fn a_design_is_cited_by_file_and_section() {
        assert_eq!(wrong("a.rs", "// docs/design/targets.md A.11"), [""; 0]);
        assert_eq!(wrong("a.rs", "// see docs/design/targets.md"), [""; 0]);
        assert_eq!(wrong("a.rs", "// docs/design/ has it, see x.md"), [""; 0]);
        assert_eq!(wrong("a.rs", "// docs/design/targets.md A.1").len(), 1);
        assert_eq!(wrong("a.rs", "// docs/design/other.md A.11").len(), 1);
        assert_eq!(wrong("a.rs", "// as A.11 says").len(), 1);
        assert_eq!(wrong("a.md", "A.11 (`docs/design/targets.md`)"), [""; 0]);
        assert_eq!(wrong("a.md", "`docs/design/targets.md` A.12").len(), 1);
        assert_eq!(wrong("a.md", "As in B.3, says A.11.").len(), 1);
        assert_eq!(wrong("a.rs", "// X.509"), [""; 0]);
    }
}
