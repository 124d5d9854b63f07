//! Makes each fault of the table about `doctor` in `docs/troubleshooting.md`, and reads what it says.

use std::time::Instant;

use serde_json::Value;

use crate::doctor::faults::{WORDS, make, mend};
use crate::doctor::{DEADLINE, Said, doctor, installed};
use crate::explain::scene::Scene;
use crate::install::Installed;

/// A row of the table.
struct Row {
    fault: String,
    check: String,
    reason: String,
    remedy: String,
}

fn rows() -> Vec<Row> {
    let page = include_str!("../../../docs/troubleshooting.md");
    let (_, table) = page.split_once("## Which hop is broken").unwrap();
    let rows = table.lines().filter(|line| line.starts_with("| ")).skip(2);
    let rows = rows.map(|line| {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let [fault, check, reason, remedy] = cells[..] else {
            panic!("a row has four cells, not {cells:?}");
        };
        Row {
            fault: fault.to_owned(),
            check: check.trim_matches('`').to_owned(),
            reason: reason.trim_matches('`').to_owned(),
            remedy: remedy.replace("\\|", "|"),
        }
    });
    rows.collect()
}

#[tokio::test]
async fn each_fault_of_the_page_is_named_at_its_hop_with_what_to_do() {
    let installed = installed().await;
    let (rows, mut wrong) = (rows(), vec![]);
    assert!(rows.len() >= 20, "{} rows", rows.len());
    for (number, row) in rows.iter().enumerate() {
        let before = doctor(&installed, &[]).await;
        assert!(!is_told(&before, row), "{} at once", row.fault);
        let scene = Scene::new(&installed, &format!("d{number}")).await;
        make(&row.fault, &scene).await;
        wrong.extend(problem(&installed, row, &scene).await);
        mend(&scene).await;
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// What `doctor` says otherwise than the row, by the deadline: an API server takes a moment to take changes in.
async fn problem(installed: &Installed, row: &Row, scene: &Scene<'_>) -> Option<String> {
    let words = WORDS.iter().find(|(fault, _)| *fault == row.fault);
    let words = words.map_or(&[][..], |(_, words)| words);
    let words: Vec<String> = words
        .iter()
        .map(|word| word.replace("NAMESPACE", &scene.namespace))
        .collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let begun = Instant::now();
    loop {
        let said = doctor(installed, &words).await;
        if is_told(&said, row) {
            return None;
        }
        if begun.elapsed() > DEADLINE {
            let Row { fault, reason, .. } = row;
            return Some(format!("{fault}: not {reason}, but {:#}", said.json));
        }
    }
}

/// Whether a finding is what the row says, and the exit status follows from it.
fn is_told(said: &Said, row: &Row) -> bool {
    let mut findings = said.json["findings"].as_array().unwrap().iter();
    let is = |finding: &Value, place: &str, word: &str| finding.pointer(place).unwrap() == word;
    let told = findings.find(|finding| {
        is(finding, "/check", &row.check) && is(finding, "/why/reason", &row.reason)
    });
    told.is_some_and(|told| {
        let is_broken = told["state"] == "Broken" && said.status == 1;
        told["why"]["remedy"] == *row.remedy && (told["state"] == "Advice" || is_broken)
    })
}
