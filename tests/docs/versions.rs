//! A file that has to repeat a version of docs/versions.md repeats it exactly.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::fs;

use serde_json::Value;
use targetgate_sandbox::versions::Version;

use super::{root, texts};

const PAGE: &str = "docs/versions.md";

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn chart(file: &str) -> Value {
    serde_saphyr::from_str(&read(&format!("deploy/chart/{file}"))).unwrap()
}

/// The versions of the modules that a go.mod requires. A replaced module has the version of its replacement.
fn modules(path: &str) -> BTreeMap<String, String> {
    let text = read(path);
    let (replaced, required): (Vec<&str>, Vec<&str>) =
        text.lines().partition(|line| line.contains(" => "));
    let modules = required.iter().chain(&replaced).filter_map(|line| {
        let line = line.trim().split(" //").next()?;
        let (module, version) = line.rsplit_once(" v")?;
        let module = module.rsplit(' ').next()?;
        Some((module.to_owned(), format!("v{version}")))
    });
    modules.collect()
}

/// The modules that a go.mod replaces.
fn replaced(path: &str) -> BTreeSet<String> {
    let text = read(path);
    let replaced = text.lines().filter_map(|line| line.split_once(" => "));
    replaced.map(|(old, _)| old.trim().to_owned()).collect()
}

/// The version of Kubernetes' Go libraries that was released with this version of Kubernetes.
fn of_library(version: Version) -> String {
    let number = version.to_string();
    // The major version of these libraries is 0.
    format!("v0{}", number.strip_prefix('1').unwrap())
}

/// Fails unless the go.mod has each of these modules in this version.
fn assert_pinned(path: &str, names: &BTreeSet<String>, expected: &str) {
    let modules = modules(path);
    for name in names {
        let pinned = modules.get(name).map(String::as_str);
        assert_eq!(pinned, Some(expected), "{path}: {name} differs from {PAGE}");
    }
}

#[test]
fn the_control_plane_is_the_one_that_is_tested() {
    let path = "tests/controlplane/go.mod";
    let kubernetes = BTreeSet::from(["k8s.io/kubernetes".to_owned()]);
    assert_pinned(path, &kubernetes, &format!("v{}", Version::tested()));
    let libraries = replaced(path);
    assert!(libraries.contains("k8s.io/apiserver"), "{libraries:?}");
    assert_pinned(path, &libraries, &of_library(Version::tested()));
}

#[test]
fn kubectl_is_the_client() {
    let names = ["k8s.io/kubectl", "k8s.io/component-base"].map(str::to_owned);
    let expected = of_library(Version::client());
    assert_pinned("tests/chart/go.mod", &names.into(), &expected);
}

#[test]
fn every_crate_is_compiled_for_the_same_version() {
    let expected = format!("v1_{}", Version::compiled_for().minor);
    let mut found = 0;
    for (path, text) in texts() {
        let manifest = path.ends_with("Cargo.toml");
        let quoted = text.split('"').filter(|word| word.starts_with("v1_"));
        for feature in quoted.filter(|_| manifest) {
            assert_eq!(feature, expected, "{path} differs from {PAGE}");
            found += 1;
        }
    }
    assert!(found > 0, "no Cargo.toml has a feature of k8s-openapi");
}

#[test]
fn the_chart_refuses_what_is_older_than_the_oldest() {
    let expected = format!(">={}.0-0", Version::oldest());
    let required = &chart("Chart.yaml")["kubeVersion"];
    assert_eq!(required, &expected, "Chart.yaml differs from {PAGE}");
}

#[test]
fn helm_test_runs_its_own_kubectl() {
    let image = &chart("values.yaml")["test"]["image"];
    let expected = format!("registry.k8s.io/kubectl:v{}", Version::helm_test());
    assert_eq!(image, &expected, "values.yaml differs from {PAGE}");
}

#[test]
fn the_chart_asks_for_the_versions_of_what_it_renders() {
    let asked = [
        ("webhooks.yaml", Version::match_conditions()),
        ("admission-policies.yaml", Version::admission_policies()),
        ("immutability.yaml", Version::admission_policies()),
        ("doctor.yaml", Version::admission_policies()),
        ("poddisruptionbudget.yaml", Version::unready_eviction()),
        ("gate-rules.yaml", Version::gates_by_policy()),
        ("NOTES.txt", Version::gates_by_policy()),
    ];
    let base = format!("Kubernetes {} or later", Version::admission_policies());
    assert!(read("README.md").contains(&base), "README.md: {base}");
    let expected = asked.map(|(template, version)| {
        let path = format!("deploy/chart/templates/{template}");
        (path, format!(">={version}.0-0"))
    });
    let mut found = BTreeSet::new();
    for (path, text) in texts() {
        if !path.starts_with("deploy/chart/templates/") {
            continue;
        }
        let conditions = text.split("semverCompare").skip(1);
        let constraints = conditions.filter_map(|condition| condition.split('"').nth(1));
        found.extend(constraints.map(|constraint| (path.clone(), constraint.to_owned())));
    }
    assert_eq!(found, expected.into(), "the chart differs from {PAGE}");
}

/// Fails unless a page has these words with this version, however its lines are wrapped.
fn assert_says(path: &str, begin: &str, version: impl Display) {
    let words: Vec<String> = read(path).split_whitespace().map(str::to_owned).collect();
    let said = format!("{begin} {version}");
    let words = words.join(" ");
    let found = words.match_indices(&said).any(|(at, _)| {
        let rest = &words[at + said.len()..];
        !rest.starts_with(|c: char| c.is_ascii_digit())
    });
    assert!(found, "{path} does not say '{said}', as {PAGE} does");
}

#[test]
fn contract_and_designs_name_the_same_minimums() {
    let sleep = Version::pre_stop_sleep();
    assert_says("docs/design/drain.md", "on by default since", sleep);
    let drain = Version::drain();
    assert_says("docs/contract.md", "on servers before", drain);
    assert_says("docs/design/drain.md", "On servers before", drain);
    let policy = Version::gates_by_policy();
    assert_says("docs/design/policy.md", "a version of at least", policy);
}

/// Code and manifests read these versions from the page. A page may report a trial, and a go.mod pins versions,
/// so both are exempt.
#[test]
fn no_program_or_manifest_repeats_the_version_that_is_tested_or_the_clients() {
    const EXEMPT: [&str; 4] = [".md", "go.mod", "go.sum", "Cargo.lock"];
    let versions = [Version::tested(), Version::client()].map(|version| version.to_string());
    let files = texts().into_iter();
    for (path, text) in files.filter(|(path, _)| !EXEMPT.iter().any(|end| path.ends_with(end))) {
        let repeated = versions.iter().find(|version| text.contains(*version));
        assert_eq!(repeated, None, "{path} repeats what {PAGE} has");
    }
}
