//! Relative links of Markdown pages must lead to a file, and to a heading in it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::root;

/// The broken links of a page, each with its line.
pub(crate) fn broken(path: &str, text: &str, files: &BTreeMap<String, String>) -> Vec<String> {
    let broken = links(text).into_iter().filter_map(|(line, link)| {
        let problem = problem_of_link(path, &link, files)?;
        Some(format!("{path}:{line}: {link}: {problem}"))
    });
    broken.collect()
}

fn problem_of_link(
    path: &str,
    link: &str,
    files: &BTreeMap<String, String>,
) -> Option<&'static str> {
    let (file, heading) = match link.split_once('#') {
        Some((file, heading)) => (file, Some(heading)),
        None => (link, None),
    };
    let folder = Path::new(path).parent().unwrap_or(Path::new(""));
    let target = match file.is_empty() {
        true => PathBuf::from(path),
        false => folder.join(file),
    };
    let Some(target) = normal(&target) else {
        return Some("it leads out of the repository");
    };
    if !root().join(&target).exists() {
        return Some("there is no such file");
    }
    let heading = heading?;
    let known = files.get(&target).map(|text| anchors(text));
    let found = known.is_some_and(|known| known.contains(heading));
    (!found).then_some("there is no such heading")
}

/// The pages that a text names by their path, `docs/….md`, and that do not exist.
pub(crate) fn missing_pages(text: &str, files: &BTreeMap<String, String>) -> Vec<String> {
    const FOLDER: &str = "docs/";
    let of_a_name = |c: char| c.is_ascii_alphanumeric() || "-_/".contains(c);
    text.match_indices(FOLDER)
        // After a slash, the path belongs to another repository or to a URL.
        .filter(|(at, _)| text[..*at].ends_with("../") || !text[..*at].ends_with('/'))
        .filter_map(|(at, _)| {
            let name = text[at + FOLDER.len()..].split(|c| !of_a_name(c)).next()?;
            let path = format!("{FOLDER}{name}.md");
            text[at..].starts_with(&path).then_some(path)
        })
        .filter(|path| !files.contains_key(path))
        .collect()
}

/// A path without `.` and `..`, or `None` if it leads out of the repository.
fn normal(path: &Path) -> Option<String> {
    let mut parts: Vec<&str> = vec![];
    for part in path.to_str()?.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// The relative links of a page with their lines: `[text](link)`, and `[name]: link`.
fn links(text: &str) -> Vec<(usize, String)> {
    let mut found = vec![];
    for (number, line) in prose(text) {
        let inline = line.split("](").skip(1);
        let inline = inline.filter_map(|rest| rest.split([')', ' ']).next());
        let defined = line.strip_prefix('[').and_then(|rest| {
            let (_, link) = rest.split_once("]: ")?;
            link.split_whitespace().next()
        });
        let relative = inline.chain(defined).filter(|link| !is_absolute(link));
        found.extend(relative.map(|link| (number, link.to_owned())));
    }
    found
}

fn is_absolute(link: &str) -> bool {
    link.contains("://") || link.starts_with("mailto:")
}

/// The lines of a page outside of code blocks, with their numbers and without inline code.
fn prose(text: &str) -> Vec<(usize, String)> {
    let mut lines = vec![];
    let mut fenced = false;
    for (number, line) in (1..).zip(text.lines()) {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            let spans = line.split('`').step_by(2);
            lines.push((number, spans.collect::<Vec<_>>().join("``")));
        }
    }
    lines
}

/// The anchors that GitHub gives to the headings of a page.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut known = BTreeSet::new();
    let mut fenced = false;
    for line in text.lines() {
        fenced ^= line.trim_start().starts_with("```");
        let heading = line.trim_start_matches('#');
        if fenced || heading.len() == line.len() || !heading.starts_with(' ') {
            continue;
        }
        let anchor = anchor(heading.trim());
        let again = (1..).map(|n| format!("{anchor}-{n}"));
        let mut names = std::iter::once(anchor.clone()).chain(again);
        known.extend(names.find(|name| !known.contains(name)));
    }
    known
}

fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter_map(|c| match c {
        ' ' => Some('-'),
        '-' | '_' => Some(c),
        c => c.is_alphanumeric().then_some(c),
    });
    kept.flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_read_outside_of_code() {
        let text =
            "[a](b.md#c) and `[x](y)`\n```\n[x](y)\n```\n[d]: e/f.md\n[g](https://h/) ![i](j.png)";
        let links: Vec<String> = links(text).into_iter().map(|(_, link)| link).collect();
        assert_eq!(links, ["b.md#c", "e/f.md", "j.png"]);
    }

    #[test]
    fn a_link_that_leads_nowhere_is_found() {
        let page = "# A page\n## What is `new`, and not?\n```\n# none\n```\n## A page\n";
        let files = BTreeMap::from([("docs/contract.md".to_owned(), page.to_owned())]);
        let problem = |link| problem_of_link("docs/contract.md", link, &files);
        for link in [
            "contract.md",
            "../README.md",
            "#a-page-1",
            "contract.md#what-is-new-and-not",
            "../src",
        ] {
            assert_eq!(problem(link), None, "{link}");
        }
        assert_eq!(problem("nothing.md"), Some("there is no such file"));
        assert_eq!(
            problem("../../README.md"),
            Some("it leads out of the repository")
        );
        for link in ["#none", "contract.md#a-page-2", "../README.md#nothing"] {
            assert_eq!(problem(link), Some("there is no such heading"), "{link}");
        }
    }

    #[test]
    fn a_page_that_is_named_must_exist() {
        let files = BTreeMap::from([("docs/schedule.md".to_owned(), String::new())]);
        let text =
            "docs/schedule.md ../../docs/schedule.md https://x.org/docs/y.md docs/ docs/z.txt";
        assert_eq!(missing_pages(text, &files), [""; 0]);
        assert_eq!(missing_pages("(docs/a-b/c.md)", &files), ["docs/a-b/c.md"]);
    }
}
