//! The crate's law, edges → index → rules → crd → model → names, held against its source.

#![allow(clippy::unwrap_used, reason = "a test may")]

use std::fs;
use std::path::{Path, PathBuf};

/// What the inner layers must not name: clients, clocks, logs, timers.
const OUTSIDE: [&str; 10] = [
    "tokio",
    "tracing",
    "kube::",
    "aws_config",
    "aws_sdk",
    "axum",
    "Timestamp::now",
    "Instant::now",
    "SystemTime",
    "crate::metrics",
];

/// The modules in the order of the law: each may use those after it.
const LAYERS: [&[&str]; 5] = [
    &[
        "admission",
        "app",
        "args",
        "cluster",
        "elb",
        "health",
        "pki",
        "serve",
    ],
    &["index"],
    &["rules"],
    &["crd"],
    &["model", "names"],
];

#[test]
fn inner_layers_do_no_io_and_know_no_clock() {
    for layer in &LAYERS[1..] {
        for (path, source) in layer.iter().flat_map(|module| sources(module)) {
            for word in OUTSIDE {
                assert!(!source.contains(word), "{} names {word}", path.display());
            }
        }
    }
}

#[test]
fn no_layer_uses_one_that_stands_before_it() {
    for (depth, layer) in LAYERS.iter().enumerate() {
        for (path, source) in layer.iter().flat_map(|module| sources(module)) {
            for outer in LAYERS[..depth].iter().copied().flatten() {
                let import = format!("crate::{outer}::");
                assert!(!source.contains(&import), "{} uses {outer}", path.display());
            }
        }
    }
}

#[test]
fn nothing_in_the_product_knows_the_sandbox() {
    for (path, source) in sources("") {
        assert!(!source.contains("sandbox"), "{} names it", path.display());
    }
}

/// The source files of a module, or of the whole crate.
fn sources(module: &str) -> Vec<(PathBuf, String)> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let folder = src.join(module);
    let mut found = vec![];
    if folder.is_dir() {
        walk(&folder, &mut found);
    } else {
        found.push(folder.with_extension("rs"));
    }
    assert!(!found.is_empty(), "module {module} has no source");
    let read = |path: PathBuf| {
        let source = fs::read_to_string(&path).unwrap();
        (path, source)
    };
    found.into_iter().map(read).collect()
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            walk(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}
