//! README.md shows the output of programs exactly as they print it.

use std::fs;
use std::process::Command;

use targetgate_sandbox::demo::Settings;

use super::{root, texts};

const PAGE: &str = "README.md";
/// The environment variable that makes this test rewrite README.md.
const UPDATE: &str = "UPDATE_DOCS";
/// The width at which README.md shows help, the most at which the program wraps.
const COLUMNS: &str = "100";
/// The default scale of the delays in `make demo`.
const SCALE: f64 = 0.1;

/// A part of the page that is the output of a program.
struct Pasted {
    /// The line of the page before the output.
    after: &'static str,
    /// The line of the page after the output.
    before: &'static str,
    printed: String,
}

#[test]
fn the_readme_shows_what_the_programs_print() {
    let file = root().join(PAGE);
    let page = fs::read_to_string(&file).unwrap();
    let anew = anew(&page, &all_pasted());
    if std::env::var_os(UPDATE).is_some() {
        fs::write(&file, anew).unwrap();
        return;
    }
    if let Some((number, shown, printed)) = first_difference(&page, &anew) {
        panic!(
            "{PAGE}:{number} is not what the program prints; `make docs` writes it anew\n\
             README:  {shown}\nprogram: {printed}"
        );
    }
}

fn all_pasted() -> [Pasted; 2] {
    [
        Pasted {
            after: "$ targetgate serve -h",
            before: "```",
            printed: help(&["serve", "-h"]),
        },
        Pasted {
            after: "$ make demo",
            before: "…",
            printed: Settings::scaled(SCALE).describe().join("\n"),
        },
    ]
}

/// The help of the program in an empty environment, because help shows the values of variables.
fn help(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_targetgate"))
        .args(arguments)
        .env_clear()
        .env("COLUMNS", COLUMNS)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The page with the present output in place of the old.
fn anew(page: &str, all: &[Pasted]) -> String {
    all.iter().fold(page.to_owned(), |page, pasted| {
        let begin = format!("\n{}\n", pasted.after);
        let end = format!("\n{}\n", pasted.before);
        let [before, rest] = page.split(&begin).collect::<Vec<_>>()[..] else {
            panic!("{PAGE} has '{}' not exactly once", pasted.after);
        };
        let Some((_, after)) = rest.split_once(&end) else {
            panic!("{PAGE}: no '{}' after '{}'", pasted.before, pasted.after);
        };
        let printed = pasted.printed.trim_end();
        format!("{before}{begin}{printed}{end}{after}")
    })
}

/// The number of the first line that differs, and this line of both texts.
fn first_difference<'a>(shown: &'a str, printed: &'a str) -> Option<(usize, &'a str, &'a str)> {
    let end = std::iter::repeat("");
    let mut pairs = (1..)
        .zip(shown.lines().chain(end.clone()))
        .zip(printed.lines().chain(end))
        .map(|((number, shown), printed)| (number, shown, printed))
        .take(shown.lines().count().max(printed.lines().count()));
    pairs.find(|(_, shown, printed)| shown != printed)
}

#[test]
fn no_page_keeps_count_of_tests() {
    let files = texts().into_iter();
    for (path, text) in files.filter(|(path, _)| path.ends_with(".md")) {
        let words: Vec<&str> = text.split_whitespace().collect();
        let count = words
            .windows(2)
            .find(|pair| pair[0].parse::<u32>().is_ok() && pair[1].starts_with("passed"));
        assert_eq!(count, None, "{path}: the next test makes it wrong");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pasted(printed: &str) -> [Pasted; 1] {
        [Pasted {
            after: "$ a",
            before: "```",
            printed: printed.to_owned(),
        }]
    }

    const SHOWN: &str = "x\n```\n$ a\nold\nolder\n```\ny\n```\n$ b\n```\n";

    #[test]
    fn what_is_pasted_is_replaced_and_nothing_else() {
        let new = anew(SHOWN, &pasted("new\n"));
        assert_eq!(new, "x\n```\n$ a\nnew\n```\ny\n```\n$ b\n```\n");
        assert_eq!(anew(&new, &pasted("new\n")), new);
    }

    #[test]
    fn the_first_line_that_differs_is_told() {
        let new = anew(SHOWN, &pasted("old"));
        assert_eq!(first_difference(SHOWN, &new), Some((5, "older", "```")));
        assert_eq!(first_difference(SHOWN, SHOWN), None);
        assert_eq!(first_difference("a\n", "a\nb\n"), Some((2, "", "b")));
    }
}
