//! Gates that were opened for another address than the one that their pod has now (contract 5.4).

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::{IpFamily, Pod};
use crate::names::GateName;

/// The open gates of a namespace's pods that have another address of some family since they were opened, as
/// far as this process has seen both.
#[derive(Debug, Default)]
pub(crate) struct MovedGates(BTreeMap<Arc<str>, Vec<MovedGate>>);

#[derive(Debug)]
struct MovedGate {
    uid: Arc<str>,
    gate: GateName,
    family: IpFamily,
}

impl MovedGates {
    /// Takes in a pod with the families of which it has another address than in its former version. A gate
    /// that was closed since is a moved one no longer.
    pub(crate) fn apply(&mut self, pod: &Pod, changed: &[IpFamily]) {
        let mut moved = self.0.remove(&pod.key.name).unwrap_or_default();
        moved.retain(|known| known.uid == pod.uid && is_open(pod, &known.gate));
        for (gate, _) in pod.gates.iter().filter(|(gate, _)| is_open(pod, gate)) {
            for family in changed {
                let known = |known: &MovedGate| (&known.gate, known.family) == (gate, *family);
                if !moved.iter().any(known) {
                    moved.push(MovedGate {
                        uid: pod.uid.clone(),
                        gate: gate.clone(),
                        family: *family,
                    });
                }
            }
        }
        if !moved.is_empty() {
            self.0.insert(pod.key.name.clone(), moved);
        }
    }

    pub(crate) fn delete(&mut self, name: &str) {
        self.0.remove(name);
    }

    /// The families of which a pod has another address since this gate was opened.
    pub(crate) fn families(&self, pod: &str, gate: &GateName) -> Vec<IpFamily> {
        let moved = self.0.get(pod).into_iter().flatten();
        let of_gate = moved.filter(|known| known.gate == *gate);
        of_gate.map(|known| known.family).collect()
    }
}

fn is_open(pod: &Pod, gate: &GateName) -> bool {
    let mut gates = pod.gates.iter();
    gates.any(|(known, condition)| known == gate && condition.as_ref().is_some_and(|c| c.status))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::pod;

    fn moved(seen: &[(Pod, &[IpFamily])]) -> Vec<IpFamily> {
        let mut moved = MovedGates::default();
        seen.iter()
            .for_each(|(pod, changed)| moved.apply(pod, changed));
        moved.families("web-1", &pod("web-1").gate("web").gates[0].0)
    }

    fn web(status: bool) -> Pod {
        pod("web-1").gate("web").condition(status, "", "")
    }

    #[test]
    fn an_open_gate_has_moved_until_it_is_closed() {
        let v4 = [IpFamily::V4];
        assert_eq!(
            moved(&[(web(true), &[]), (web(true), &v4), (web(true), &[])]),
            v4
        );
        assert_eq!(
            moved(&[(web(true), &v4), (web(false), &[]), (web(true), &[])]),
            []
        );
        assert_eq!(moved(&[(web(false), &v4), (web(true), &[])]), []);
        let other = web(true).uid("another");
        assert_eq!(moved(&[(web(true), &v4), (other, &[])]), []);
    }
}
