//! The results of all rollouts: a table for people, JSON for programs, and a verdict.

use std::fmt::Write;

use serde::Serialize;

use super::measure::Numbers;
use super::settings::Settings;

/// The results of the three rollouts, in order.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    scale: f64,
    rate: f64,
    connections: usize,
    rollouts: Vec<Numbers>,
    /// The differences from the expected results; empty if there are none.
    pub(super) complaints: Vec<String>,
}

impl Report {
    /// A report on the rollouts (a), (b) and (c).
    pub(super) fn new(settings: &Settings, rollouts: Vec<Numbers>) -> Self {
        Self {
            scale: settings.scale,
            rate: settings.rate,
            connections: settings.connections,
            complaints: complaints(&rollouts),
            rollouts,
        }
    }

    /// The table for people.
    pub(super) fn table(&self) -> String {
        let width = self
            .rollouts
            .iter()
            .map(|numbers| numbers.title.chars().count())
            .max();
        let width = width.unwrap_or(0).max("rollout".len());
        let mut table = format!(
            "{:<width$}  {:>7}  {:>6}  {:>8}  {:>12}  lost because\n",
            "rollout", "sent", "lost", "took", "healthy→open"
        );
        for numbers in &self.rollouts {
            let median = numbers.median().map_or("–".to_owned(), |median| {
                format!("{} ms", median.as_millis())
            });
            // Writing to a `String` cannot fail.
            let _ = writeln!(
                table,
                "{:<width$}  {:>7}  {:>6}  {:>6.1} s  {median:>12}  {}",
                numbers.title,
                numbers.counts.sent,
                numbers.counts.lost(),
                numbers.rollout.as_secs_f64(),
                numbers.counts.causes(),
            );
        }
        table.push_str(
            "took: from the change to the Deployment's completion. healthy→open: the median from \
             ELB's own log\nto an independent watch that sees the gate open.\n",
        );
        table
    }
}

/// One sentence for each difference from the expected results.
fn complaints(rollouts: &[Numbers]) -> Vec<String> {
    let [alone, gates, gates_and_sleep] = rollouts else {
        return vec![format!(
            "{} rollouts were measured, not three.",
            rollouts.len()
        )];
    };
    let mut complaints = Vec::new();
    if alone.counts.lost() == 0 {
        complaints.push(format!(
            "{} lost nothing, so the run proves nothing.",
            alone.title
        ));
    }
    if gates_and_sleep.counts.lost() > 0 {
        let (title, lost) = (gates_and_sleep.title, gates_and_sleep.counts.lost());
        complaints.push(format!(
            "{title} lost {lost} requests: {}.",
            gates_and_sleep.counts.causes()
        ));
    }
    for numbers in [gates, gates_and_sleep] {
        if numbers.without_gate > 0 {
            let (title, count) = (numbers.title, numbers.without_gate);
            complaints.push(format!("{title}: {count} new pods got no gate."));
        }
        if numbers.opened_early > 0 {
            let (title, count) = (numbers.title, numbers.opened_early);
            complaints.push(format!(
                "{title}: {count} gates opened before ELB said healthy."
            ));
        }
    }
    complaints
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rstest::rstest;

    use super::*;
    use crate::traffic::{Cause, Counts};

    fn numbers(title: &'static str, lost: &[(Cause, u64)]) -> Numbers {
        Numbers {
            title,
            counts: Counts {
                sent: 2_000,
                ok: 2_000 - lost.iter().map(|(_, count)| count).sum::<u64>(),
                lost: lost.iter().copied().collect(),
                resent: 0,
            },
            rollout: Duration::from_millis(12_340),
            healthy_to_open: Vec::new(),
            opened_early: 0,
            without_gate: 0,
        }
    }

    fn good_run() -> [Numbers; 3] {
        let mut run = [
            numbers("(a)", &[(Cause::TargetRefused, 7), (Cause::NoTarget, 90)]),
            numbers("(b)", &[(Cause::TargetRefused, 3)]),
            numbers("(c)", &[]),
        ];
        run[0].without_gate = 4;
        run[2].healthy_to_open = [10, 20, 500].map(Duration::from_millis).to_vec();
        run
    }

    #[test]
    fn the_table_has_a_row_for_each_rollout() {
        let report = Report::new(&Settings::scaled(0.1), good_run().to_vec());
        let rows: Vec<String> = report.table().lines().take(4).map(str::to_owned).collect();
        assert_eq!(
            rows,
            [
                "rollout     sent    lost      took  healthy→open  lost because",
                "(a)         2000      97    12.3 s             –  no healthy target (503) 90, refused by the target (502) 7",
                "(b)         2000       3    12.3 s             –  refused by the target (502) 3",
                "(c)         2000       0    12.3 s         20 ms  –",
            ]
        );
        assert_eq!(report.complaints, Vec::<String>::new());
    }

    #[rstest]
    #[case::nothing_to_prove(|run: &mut [Numbers; 3]| run[0].counts.lost.clear(), "(a) lost nothing, so the run proves nothing.")]
    #[case::lost_in_spite_of_all(|run: &mut [Numbers; 3]| { run[2].counts.lost.insert(Cause::Reset, 1); }, "(c) lost 1 requests: connection reset 1.")]
    #[case::no_gate(|run: &mut [Numbers; 3]| run[1].without_gate = 2, "(b): 2 new pods got no gate.")]
    #[case::early(|run: &mut [Numbers; 3]| run[2].opened_early = 1, "(c): 1 gates opened before ELB said healthy.")]
    fn a_run_that_is_not_as_it_should_be_is_complained_about(
        #[case] spoil: fn(&mut [Numbers; 3]),
        #[case] expected: &str,
    ) {
        let mut run = good_run();
        spoil(&mut run);
        assert_eq!(complaints(&run), [expected]);
    }

    #[test]
    fn the_json_has_seconds_and_causes() {
        let report = Report::new(&Settings::scaled(0.1), good_run().to_vec());
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["rollouts"][0]["counts"]["lost"]["no-target"], 90);
        assert_eq!(json["rollouts"][2]["healthy_to_open_seconds"][1], 0.02);
        assert_eq!(json["rollouts"][2]["rollout_seconds"], 12.34);
    }
}
