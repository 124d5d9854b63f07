//! The corpus of the fuzz targets: each of its files must pass, without a fuzzer.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use targetgate_fuzz::TARGETS;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// The file names in a folder, without their extensions.
fn names(folder: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(folder).expect("there is such a folder");
    let stem = |path: PathBuf| {
        path.file_stem()
            .expect("a name")
            .to_string_lossy()
            .into_owned()
    };
    entries
        .map(|entry| stem(entry.expect("an entry").path()))
        .collect()
}

/// Runs a target on each file of its folder.
fn runs(target: &str) {
    let (_, holds) = TARGETS
        .into_iter()
        .find(|(name, _)| *name == target)
        .expect("a target");
    let files = std::fs::read_dir(folder("corpus").join(target)).expect("a corpus");
    let mut count = 0;
    for file in files {
        let file = file.expect("an entry").path();
        // If the target panics, this line shows the file.
        println!("{}", file.display());
        holds(&std::fs::read(&file).expect("a file"));
        count += 1;
    }
    assert!(count > 0, "the corpus of {target} is empty");
}

#[test]
fn each_arn_is_read_as_its_grammar_says() {
    runs("arn");
}

#[test]
fn any_answer_of_elb_is_handled_within_bounds() {
    runs("elb");
}

#[test]
fn each_patch_gives_the_planned_pod() {
    runs("patch");
}

#[test]
fn each_review_is_answered_as_if_it_were_parsed_completely() {
    runs("review");
}

#[test]
fn each_selector_selects_what_kubernetes_says() {
    runs("selector");
}

#[test]
fn each_target_has_a_program_and_a_corpus() {
    let targets: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(names(&folder("targets")), targets);
    assert_eq!(names(&folder("corpus")), targets);
}
