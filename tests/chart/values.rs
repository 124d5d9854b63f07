//! Each value stands in values.yaml with a sentence, in values.schema.json, and in the table of the chart's README.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::helm::chart;

fn read(file: &str) -> String {
    std::fs::read_to_string(chart().join(file)).unwrap()
}

/// The paths of the values in the schema, down to the objects that it leaves open.
fn of_schema(schema: &Value, path: &str, found: &mut BTreeSet<String>) {
    match schema["properties"].as_object() {
        Some(properties) if !["settings", "certificates.issuerRef"].contains(&path) => {
            for (name, schema) in properties {
                let dot = if path.is_empty() { "" } else { "." };
                of_schema(schema, &format!("{path}{dot}{name}"), found);
            }
        }
        _ => {
            found.insert(path.to_owned());
        }
    }
}

/// The values of the schema, without Helm's own.
pub(crate) fn known() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let schema = serde_json::from_str(&read("values.schema.json")).unwrap();
    of_schema(&schema, "", &mut found);
    found.remove("global");
    found
}

fn pointer(path: &str) -> String {
    format!("/{}", path.replace('.', "/"))
}

/// The rows of the README's table: the default of each value as JSON, and what it is.
fn rows() -> BTreeMap<String, (String, String)> {
    let readme = read("README.md");
    let rows = readme.lines().filter_map(|line| line.strip_prefix("| `"));
    let row = |row: &str| {
        let mut cells = row.trim_end_matches(" |").splitn(3, " | ");
        let mut cell = || {
            cells
                .next()
                .unwrap_or_default()
                .trim_matches('`')
                .to_owned()
        };
        (cell(), (cell(), cell()))
    };
    rows.map(row).collect()
}

#[test]
fn every_value_has_a_row_with_its_default_in_the_readme() {
    let defaults: Value = serde_saphyr::from_str(&read("values.yaml")).unwrap();
    let rows = rows();
    let named: BTreeSet<String> = rows.keys().cloned().collect();
    assert_eq!(named, known());
    for (path, (default, what)) in rows {
        let found = defaults.pointer(&pointer(&path));
        let found = found.unwrap_or_else(|| panic!("values.yaml has no {path}"));
        // A default of several lines is not repeated.
        if default != "[values.yaml](values.yaml)" {
            assert_eq!(default, found.to_string(), "{path}");
        }
        assert!(!what.is_empty(), "{path}");
    }
}

/// The text of the comment above each key of values.yaml, or above the first key of its group.
#[test]
fn every_value_stands_below_a_sentence() {
    let text = read("values.yaml");
    // The comment of each level, which holds for the keys below it until a blank line or another comment.
    let mut said: Vec<(usize, bool)> = Vec::new();
    let mut above = false;
    for line in text.lines() {
        let indent = line.len() - line.trim_start().len();
        if line.trim_start().starts_with("# ") {
            above = true;
        } else if line.trim().is_empty() {
            said.clear();
            above = false;
        } else if line.contains(':') && !line.trim_start().starts_with("- ") {
            said.retain(|(level, _)| *level <= indent);
            let group = said.iter().any(|(_, commented)| *commented);
            assert!(above || group, "no sentence above '{}'", line.trim());
            said.retain(|(level, _)| *level < indent);
            said.push((indent, above || group));
            above = false;
        }
    }
}
