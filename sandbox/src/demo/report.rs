//! The results of all rollouts: a table for people, JSON for programs, and a verdict.

use std::fmt::Write;

use serde::Serialize;

use super::measure::Numbers;
use super::settings::Settings;

/// The results of the rollouts, in order.
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
    /// A report on these rollouts, each with what was expected of it.
    pub(super) fn new(settings: &Settings, rollouts: Vec<Numbers>) -> Self {
        Self {
            scale: settings.scale,
            rate: settings.rate,
            connections: settings.connections,
            complaints: rollouts.iter().flat_map(complaints).collect(),
            rollouts,
        }
    }

    /// The table for people.
    pub(super) fn table(&self) -> String {
        let width = self
            .rollouts
            .iter()
            .map(|numbers| numbers.variant.title.chars().count())
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
                numbers.variant.title,
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

/// One sentence for each difference from what a rollout should show.
fn complaints(numbers: &Numbers) -> Vec<String> {
    let title = numbers.variant.title;
    let mut complaints = Vec::new();
    match numbers.counts.lost() {
        0 if numbers.variant.loses() => {
            complaints.push(format!("{title} lost nothing, so the run proves nothing."));
        }
        lost if lost > 0 && !numbers.variant.loses() => {
            let causes = numbers.counts.causes();
            complaints.push(format!("{title} lost {lost} requests: {causes}."));
        }
        _ => {}
    }
    let mut none = |count: usize, what: &str| {
        if count > 0 {
            complaints.push(format!("{title}: {count} {what}."));
        }
    };
    if numbers.variant.gates {
        none(numbers.without_gate, "new pods got no gate");
        none(numbers.opened_early, "gates opened before ELB said healthy");
    }
    if numbers.variant.drain {
        none(numbers.without_pre_stop, "new pods got no preStop sleep");
    }
    complaints
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rstest::rstest;

    use super::super::variant::{Variant, variants};
    use super::*;
    use crate::traffic::{Cause, Counts};

    fn numbers(variant: Variant, lost: &[(Cause, u64)]) -> Numbers {
        Numbers {
            variant,
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
            without_pre_stop: 0,
        }
    }

    fn good_run() -> [Numbers; 4] {
        let [alone, gates, sleep, drain] = variants(&settings());
        let mut run = [
            numbers(alone, &[(Cause::TargetRefused, 7), (Cause::NoTarget, 90)]),
            numbers(gates, &[(Cause::TargetRefused, 3)]),
            numbers(sleep, &[]),
            numbers(drain, &[]),
        ];
        run[0].without_gate = 4;
        run[0].without_pre_stop = 4;
        run[1].without_pre_stop = 4;
        run[2].healthy_to_open = [10, 20, 500].map(Duration::from_millis).to_vec();
        run
    }

    fn settings() -> Settings {
        Settings::scaled(0.1)
    }

    #[test]
    fn the_table_has_a_row_for_each_rollout() {
        let report = Report::new(&settings(), good_run().to_vec());
        let rows: Vec<String> = report.table().lines().take(5).map(str::to_owned).collect();
        assert_eq!(
            rows,
            [
                "rollout                              sent    lost      took  healthy→open  lost because",
                "(a) Kubernetes alone                 2000      97    12.3 s             –  no healthy target (503) 90, refused by the target (502) 7",
                "(b) with gates                       2000       3    12.3 s             –  refused by the target (502) 3",
                "(c) with gates and preStop sleep     2000       0    12.3 s         20 ms  –",
                "(d) with gates and drain             2000       0    12.3 s             –  –",
            ]
        );
        assert_eq!(report.complaints, Vec::<String>::new());
    }

    #[rstest]
    #[case::nothing_to_prove(|run: &mut [Numbers; 4]| run[0].counts.lost.clear(), "(a) Kubernetes alone lost nothing, so the run proves nothing.")]
    #[case::gates_were_enough(|run: &mut [Numbers; 4]| run[1].counts.lost.clear(), "(b) with gates lost nothing, so the run proves nothing.")]
    #[case::lost_in_spite_of_a_sleep(|run: &mut [Numbers; 4]| { run[2].counts.lost.insert(Cause::Reset, 1); }, "(c) with gates and preStop sleep lost 1 requests: connection reset 1.")]
    #[case::lost_in_spite_of_drain(|run: &mut [Numbers; 4]| { run[3].counts.lost.insert(Cause::Reset, 1); }, "(d) with gates and drain lost 1 requests: connection reset 1.")]
    #[case::no_gate(|run: &mut [Numbers; 4]| run[1].without_gate = 2, "(b) with gates: 2 new pods got no gate.")]
    #[case::early(|run: &mut [Numbers; 4]| run[2].opened_early = 1, "(c) with gates and preStop sleep: 1 gates opened before ELB said healthy.")]
    #[case::no_sleep(|run: &mut [Numbers; 4]| run[3].without_pre_stop = 3, "(d) with gates and drain: 3 new pods got no preStop sleep.")]
    fn a_run_that_is_not_as_it_should_be_is_complained_about(
        #[case] spoil: fn(&mut [Numbers; 4]),
        #[case] expected: &str,
    ) {
        let mut run = good_run();
        spoil(&mut run);
        let report = Report::new(&settings(), run.to_vec());
        assert_eq!(report.complaints, [expected]);
    }

    #[test]
    fn the_json_has_names_seconds_and_causes() {
        let report = Report::new(&settings(), good_run().to_vec());
        let json = serde_json::to_value(&report).unwrap();
        let rollouts = json["rollouts"].as_array().unwrap();
        let names: Vec<_> = rollouts.iter().map(|rollout| &rollout["name"]).collect();
        let expected = ["alone", "gates", "gates-and-pre-stop", "gates-and-drain"];
        assert_eq!(names, expected);
        assert_eq!(json["rollouts"][0]["counts"]["lost"]["no-target"], 90);
        assert_eq!(json["rollouts"][2]["healthy_to_open_seconds"][1], 0.02);
        assert_eq!(json["rollouts"][2]["pre_stop_seconds"], 1.5);
        assert_eq!(json["rollouts"][2]["rollout_seconds"], 12.34);
    }
}
