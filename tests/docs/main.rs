//! Cited sections of the contract and of the designs exist, and so do the files and headings behind links. What
//! is repeated agrees with its source: versions of Kubernetes, and the output of programs.

#![allow(clippy::unwrap_used, reason = "a test may")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

mod citations;
mod generated;
mod links;
mod pasted;
mod versions;

use citations::Sections;

/// Paths that are built, fetched or foreign, or full of examples of bad citations.
const LEFT_OUT: [&str; 5] = [
    "target",
    "fuzz/artifacts",
    "fuzz/corpus",
    "LICENSE",
    "tests/docs",
];

#[test]
fn every_citation_names_a_section_that_exists() {
    let sections = Sections::of_the_repository();
    let wrong: Vec<String> = texts()
        .iter()
        .flat_map(|(path, text)| sections.wrong(path, text))
        .collect();
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

#[test]
fn every_relative_link_leads_to_a_file_and_a_heading() {
    let files = texts();
    let pages = files.iter().filter(|(path, _)| path.ends_with(".md"));
    let broken: Vec<String> = pages
        .flat_map(|(path, text)| links::broken(path, text, &files))
        .collect();
    assert!(broken.is_empty(), "\n{}\n", broken.join("\n"));
}

#[test]
fn every_page_that_is_named_exists() {
    let files = texts();
    for (path, text) in &files {
        let missing = links::missing_pages(text, &files);
        assert!(missing.is_empty(), "{path} names {missing:?}");
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All text files of the repository, by path.
fn texts() -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    walk("", &mut found);
    assert!(found.contains_key("README.md") && found.contains_key("Cargo.toml"));
    found
}

fn walk(folder: &str, found: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(root().join(folder)).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let path = match folder {
            "" => name.clone(),
            _ => format!("{folder}/{name}"),
        };
        let hidden = name.starts_with('.') && name != ".ci";
        if hidden || LEFT_OUT.contains(&path.as_str()) || name.starts_with("mutants.out") {
            continue;
        }
        // A symbolic link is skipped: its target is read under the target's own path.
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            walk(&path, found);
        } else if kind.is_file()
            && let Ok(text) = fs::read_to_string(entry.path())
        {
            found.insert(path, text);
        }
    }
}
