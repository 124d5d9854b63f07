//! The state of pods, gates, targets and requests at one moment, and its lines of text.

use crate::elb::{Elb, Health};
use crate::harness::observer::{Gate, PodView, Stage};
use crate::traffic::Counts;

/// The state of everything at one moment.
#[derive(Clone, Debug, Default)]
pub(super) struct Frame {
    pub(super) title: &'static str,
    pub(super) doing: &'static str,
    pub(super) seconds: f64,
    pub(super) counts: Counts,
    pub(super) rows: Vec<Row>,
}

/// One pod and its target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) pod: String,
    /// The hash of the pod's template.
    pub(super) template: String,
    pub(super) address: String,
    pub(super) stage: Stage,
    pub(super) gate: Gate,
    /// `None` while the target is not registered.
    pub(super) target: Option<Health>,
}

pub(super) fn row(pod: &PodView, elb: &Elb, target_group: &str) -> Row {
    let target = pod
        .target
        .and_then(|target| elb.health(target_group, target.ip(), target.port()));
    Row {
        pod: pod.name.clone(),
        template: pod.template.clone(),
        address: pod
            .target
            .map(|target| target.to_string())
            .unwrap_or_default(),
        stage: pod.stage,
        gate: pod.gate,
        target,
    }
}

impl Row {
    fn line(&self) -> String {
        let Self { pod, address, .. } = self;
        let (stage, gate) = (self.stage.as_str(), self.gate.as_str());
        let target = match &self.target {
            None => "no target".to_owned(),
            Some(Health { state, reason, .. }) => match reason {
                Some(reason) => format!("{state} ({reason})"),
                None => state.to_string(),
            },
        };
        format!("{pod:<20} {address:<20} {stage:<12} {gate:<10} {target}")
    }
}

impl Frame {
    fn header(&self) -> String {
        format!("{}: {}; {}", self.title, self.doing, self.traffic())
    }

    fn traffic(&self) -> String {
        let (sent, lost) = (self.counts.sent, self.counts.lost());
        format!("{sent} requests sent, {lost} lost")
    }

    /// The lines of the whole picture. A pod that no longer exists is shown until its target is
    /// gone.
    pub(super) fn picture(&self) -> Vec<String> {
        let rows = self.rows.iter();
        let rows = rows.filter(|row| row.stage != Stage::Gone || row.target.is_some());
        let header = format!("{:>5.1} s  {}", self.seconds, self.header());
        std::iter::once(header).chain(rows.map(Row::line)).collect()
    }

    /// The changes since `former`, one line each.
    pub(super) fn changes(&self, former: &Frame) -> Vec<String> {
        let mut lines = Vec::new();
        if (self.title, self.doing) != (former.title, former.doing) {
            lines.push(self.header());
        }
        let changed = self.rows.iter().filter(|row| !former.rows.contains(row));
        lines.extend(changed.map(Row::line));
        if self.counts.lost() > 0 && self.counts.lost != former.counts.lost {
            lines.push(self.traffic());
        }
        let stamp = |line: String| format!("{:>6.1} s  {line}", self.seconds);
        lines.into_iter().map(stamp).collect()
    }
}
