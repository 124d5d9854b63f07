//! The law of which module may use which.

use std::collections::{BTreeMap, BTreeSet};

use crate::source::{Source, sources};

/// The modules of a crate, each with the modules that it may use, which are all listed above it.
type Law = &'static [(&'static str, &'static [&'static str])];

const CORE: Law = &[
    ("text", &[]),
    ("names", &["text"]),
    ("backoff", &[]),
    ("failure_log", &[]),
    ("reason", &[]),
    ("version", &[]),
    ("packed", &[]),
    ("client_names", &["text"]),
    ("patch", &[]),
    ("drain", &["names", "patch", "reason"]),
    ("model", &["drain", "names"]),
    ("object", &["drain", "model", "names", "text"]),
    ("selector", &["model"]),
    ("elb", &["model", "names"]),
    (
        "binding",
        &["drain", "elb", "model", "names", "object", "patch", "text"],
    ),
    (
        "index",
        &["drain", "model", "names", "packed", "reason", "selector"],
    ),
    ("lint", &["drain", "reason", "text"]),
    ("legacy_gate", &["reason"]),
    ("unbound", &[]),
    ("ungated", &["model", "reason", "selector"]),
    (
        "gates",
        &[
            "backoff", "index", "model", "names", "patch", "reason", "selector", "text", "version",
        ],
    ),
    ("gate_rules", &["backoff", "gates", "index", "model"]),
    ("endings", &["drain", "gates", "lint", "model", "names"]),
    (
        "notices",
        &[
            "drain",
            "gate_rules",
            "gates",
            "index",
            "legacy_gate",
            "lint",
            "model",
            "names",
            "reason",
            "text",
            "unbound",
            "ungated",
        ],
    ),
    (
        "targets",
        &[
            "backoff", "binding", "elb", "gates", "index", "model", "names", "packed", "reason",
            "selector", "text", "version",
        ],
    ),
    (
        "explain",
        &[
            "drain",
            "failure_log",
            "gate_rules",
            "gates",
            "index",
            "legacy_gate",
            "lint",
            "model",
            "names",
            "reason",
            "selector",
            "targets",
            "text",
            "unbound",
            "ungated",
        ],
    ),
    (
        "doctor",
        &[
            "drain",
            "explain",
            "gate_rules",
            "lint",
            "names",
            "reason",
            "targets",
            "text",
        ],
    ),
    ("lease", &["version"]),
    ("rotation", &[]),
];

/// The foundation, what edges share, the edges, which never use each other, and the modules that drive them.
const SERVICE: Law = &[
    ("clock", &[]),
    ("metrics", &[]),
    ("pki", &[]),
    ("args", &[]),
    ("files", &["metrics"]),
    ("telemetry", &["args"]),
    ("state", &[]),
    ("admission", &["files", "metrics", "state", "telemetry"]),
    ("aws", &["clock", "metrics"]),
    ("kubernetes", &["clock", "metrics", "state"]),
    (
        "serve",
        &["clock", "files", "metrics", "pki", "state", "telemetry"],
    ),
    (
        "controllers",
        &[
            "aws",
            "clock",
            "kubernetes",
            "metrics",
            "pki",
            "serve",
            "state",
        ],
    ),
    (
        "compose",
        &[
            "admission",
            "aws",
            "clock",
            "controllers",
            "files",
            "kubernetes",
            "metrics",
            "serve",
            "state",
        ],
    ),
    (
        "commands",
        &[
            "admission",
            "args",
            "aws",
            "clock",
            "compose",
            "controllers",
            "kubernetes",
            "metrics",
            "pki",
            "serve",
        ],
    ),
];

/// Paths that the core must not name. Other crates are kept out by its manifest.
const OUTSIDE: [&[&str]; 5] = [
    &["std", "fs"],
    &["std", "process"],
    &["std", "env"],
    &["std", "thread"],
    &["std", "net"],
];
/// Of `std::net` the core may use addresses only, because they are data.
const ADDRESSES: [&str; 4] = ["IpAddr", "Ipv4Addr", "Ipv6Addr", "SocketAddr"];

#[test]
fn each_module_of_the_core_uses_what_the_law_allows() {
    hold(CORE, "core/src");
}

#[test]
fn each_module_of_the_service_uses_what_the_law_allows_and_no_edge_uses_another() {
    hold(SERVICE, "src");
}

#[test]
fn the_core_touches_no_file_socket_process_or_thread() {
    for source in sources("core/src") {
        for path in source.paths() {
            let outside = OUTSIDE.iter().any(|banned| {
                path.iter()
                    .map(String::as_str)
                    .take(2)
                    .eq(banned.iter().copied())
            });
            let address = path.get(2).is_some_and(|word| ADDRESSES.contains(&&**word));
            assert!(
                !outside || address,
                "{} names {}",
                source.path.display(),
                path.join("::")
            );
        }
    }
}

#[test]
fn nothing_in_the_product_knows_the_sandbox() {
    for source in sources("src").iter().chain(&sources("core/src")) {
        for path in source.paths() {
            let sandbox = path.first().is_some_and(|word| word.contains("sandbox"));
            assert!(
                !sandbox,
                "{} names {}",
                source.path.display(),
                path.join("::")
            );
        }
    }
}

fn hold(law: Law, src: &str) {
    let mut used: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut broken = vec![];
    for source in sources(src) {
        let (top, uses) = (source.top().to_owned(), uses(&source));
        // The root declares the modules, and the program may use all of them.
        if top.is_empty() {
            continue;
        }
        let Some((_, allowed)) = law.iter().find(|(module, _)| *module == top) else {
            broken.push(format!("{top} is not in the law"));
            continue;
        };
        let forbidden = uses.iter().filter(|module| !allowed.contains(&&***module));
        broken.extend(
            forbidden.map(|module| format!("{}: {top} uses {module}", source.path.display())),
        );
        used.entry(top).or_default().extend(uses);
    }
    for (at, (module, allowed)) in law.iter().enumerate() {
        for other in *allowed {
            if !law[..at].iter().any(|(above, _)| above == other) {
                broken.push(format!(
                    "{module} may use {other}, which is not listed above it"
                ));
            }
            if !used.get(*module).is_some_and(|used| used.contains(*other)) {
                broken.push(format!(
                    "{module} may use {other}, but does not use it: remove it"
                ));
            }
        }
    }
    assert!(
        broken.is_empty(),
        "the law of {src}:\n{}",
        broken.join("\n")
    );
}

/// The other modules of the root that a file uses.
fn uses(source: &Source) -> BTreeSet<String> {
    let paths = source.paths().into_iter();
    let own = |path: &Vec<String>| path.first().is_some_and(|head| head == "crate");
    let tops = paths.filter(own).filter_map(|path| path.into_iter().nth(1));
    // A name of the root that is not a module is a macro, or a re-export from a module.
    let modules = tops.filter(|top| top.starts_with(char::is_lowercase) && top != source.top());
    modules.collect()
}
