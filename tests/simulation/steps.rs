//! The steps that can happen, each of which is drawn from the seed.

use std::time::Duration;

use serde_json::json;
use targetgate_sandbox::elb::check::CheckOutcome;
use targetgate_sandbox::elb::health::CheckFailure;

use crate::driver::{Driver, bindings_path, pod_path};
use crate::facts::{Key, Pod};
use crate::replica::ORPHAN_AFTER;

/// The resources whose watches can be late.
pub(crate) const WATCHED: [&str; 5] = [
    "pods",
    "services",
    "targetgroupbindings",
    "namespaces",
    "leases",
];

/// The resource whose watch can be late as well where the product registers.
pub(crate) const SLICES: &str = "endpointslices";

impl Driver {
    pub(crate) async fn step(&mut self) {
        let all = if self.world.product_registers {
            162
        } else {
            110
        };
        match self.random.below(all) {
            0..14 => self.pod_comes().await,
            14..22 => self.pod_goes().await,
            22..28 => self.pod_is_replaced().await,
            28..31 => self.rolls_out().await,
            31..34 => self.containers_fail_or_recover().await,
            34..36 => self.address_changes().await,
            36..40 => self.pod_is_relabelled().await,
            40..46 => self.others_write_to_a_pod().await,
            46..51 => self.binding_comes_or_goes().await,
            51..55 => self.service_changes().await,
            55..60 => self.targets_fail_or_recover(),
            60..72 => self.elb_has_trouble(),
            72..76 => self.registrar_pauses(),
            76..84 => self.watches_have_trouble().await,
            84..89 => self.lines_have_trouble(),
            89..91 => self.lease_is_out_of_reach().await,
            91..92 => self.pods_are_out_of_reach().await,
            92..93 => self.clock_jumps(),
            93..99 => self.replica_dies(),
            99..107 => self.policies_change().await,
            107..109 => self.group_is_put_in_or_out_of_use(),
            109 => self.replica_leaves(),
            150..162 => self.slices_step().await,
            _ => self.registration_step().await,
        }
    }

    pub(crate) fn some_namespace(&mut self) -> String {
        self.random
            .pick(&self.namespaces.clone())
            .unwrap_or_default()
    }

    pub(crate) fn some_pod(&mut self) -> Option<(Key, Pod)> {
        let pods: Vec<(Key, Pod)> = {
            let facts = self.world.facts.lock();
            facts
                .pods
                .iter()
                .map(|(key, pod)| (key.clone(), pod.clone()))
                .collect()
        };
        self.random.pick(&pods)
    }

    pub(crate) fn some_app(&mut self) -> String {
        format!("svc-{}", self.random.between(1, 2))
    }

    pub(crate) fn note(&self, what: &str) {
        self.world.trace.note("world", what);
    }

    pub(crate) async fn pod_comes(&mut self) {
        let (namespace, app) = (self.some_namespace(), self.some_app());
        if self.random.percent(15) {
            self.ungated_pod(&namespace, &app, (None, None)).await;
            return;
        }
        self.pod(&namespace, &app, None, None).await;
    }

    /// The sandbox of a pod is made anew, as after a reboot of its node: the same pod has another address.
    async fn address_changes(&mut self) {
        if let Some((key, pod)) = self
            .some_pod()
            .filter(|(_, pod)| pod.ready && !pod.terminating)
        {
            self.change_address(&key, &pod).await;
        }
    }

    pub(crate) async fn change_address(&mut self, key: &Key, pod: &Pod) {
        let Some(ip) = self.free_address(&key.0) else {
            return;
        };
        self.note(&format!("{} moves from {} to {ip}", key.1, pod.ip));
        let nowhere = json!({ "status": {
            "podIP": null, "podIPs": [{ "$patch": "replace" }],
            "conditions": [{ "type": "ContainersReady", "status": "False" }],
        } });
        let path = format!("{}/status", pod_path(key));
        let (code, _) = self.world.call("PATCH", &path, Some(nowhere)).await;
        if code != 200 {
            return;
        }
        if let Some(known) = self.world.facts.lock().pods.get_mut(key) {
            known.ready = false;
        }
        let time = self.random.millis(0, 3_000);
        self.pass(time).await;
        let moved = {
            let mut facts = self.world.facts.lock();
            facts.moved.insert(pod.uid.clone());
            // It is due anew, once it is shown with the other address.
            facts.due.remove(&pod.uid);
            let known = facts.pods.get_mut(key);
            known.filter(|known| known.uid == pod.uid).map(|known| {
                known.ip = ip;
                known.clone()
            })
        };
        if let Some(moved) = moved.filter(|moved| !moved.terminating) {
            self.readiness(key, &moved, true).await;
        }
    }

    async fn pod_goes(&mut self) {
        let Some((key, _)) = self.some_pod() else {
            return;
        };
        if self.random.percent(50) {
            self.remove(&key).await;
            return;
        }
        let grace = json!({ "gracePeriodSeconds": 30 });
        let (code, _) = self
            .world
            .call("DELETE", &pod_path(&key), Some(grace))
            .await;
        let mut facts = self.world.facts.lock();
        if let Some(pod) = facts.pods.get_mut(&key).filter(|_| code == 200) {
            pod.terminating = true;
        }
    }

    /// Deletes a pod without grace.
    pub(crate) async fn remove(&mut self, key: &Key) -> bool {
        let now = json!({ "gracePeriodSeconds": 0 });
        let (code, _) = self.world.call("DELETE", &pod_path(key), Some(now)).await;
        if code == 200 {
            self.world.facts.lock().pods.remove(key);
        }
        code == 200
    }

    /// Replaces a pod as a StatefulSet does: under the same name, and often with the same address.
    async fn pod_is_replaced(&mut self) {
        let Some((key, pod)) = self.some_pod() else {
            return;
        };
        let app = pod.labels.get("app").cloned().unwrap_or_default();
        let same = self.random.percent(60).then_some(pod.ip.as_str());
        if self.remove(&key).await {
            self.pod(&key.0, &app, Some(&key.1), same).await;
        }
    }

    /// Creates new pods of an app, and deletes the old ones.
    async fn rolls_out(&mut self) {
        let (namespace, app) = (self.some_namespace(), self.some_app());
        let old: Vec<Key> = {
            let facts = self.world.facts.lock();
            let old = facts
                .pods
                .iter()
                .filter(|((of, _), pod)| *of == namespace && pod.labels.get("app") == Some(&app));
            old.map(|(key, _)| key.clone()).collect()
        };
        for key in old.into_iter().take(3) {
            self.pod(&namespace, &app, None, None).await;
            self.pass(Duration::from_millis(500)).await;
            self.remove(&key).await;
        }
    }

    async fn containers_fail_or_recover(&mut self) {
        if let Some((key, pod)) = self.some_pod().filter(|(_, pod)| !pod.terminating) {
            self.readiness(&key, &pod, !pod.ready).await;
        }
    }

    async fn pod_is_relabelled(&mut self) {
        let (Some((key, _)), app) = (self.some_pod(), self.some_app()) else {
            return;
        };
        let app = if self.random.percent(50) {
            "parked".to_owned()
        } else {
            app
        };
        let patch = json!({ "metadata": { "labels": { "app": app } } });
        let (code, _) = self.world.call("MERGE", &pod_path(&key), Some(patch)).await;
        let mut facts = self.world.facts.lock();
        if let Some(pod) = facts.pods.get_mut(&key).filter(|_| code == 200) {
            pod.labels.insert("app".to_owned(), app);
            facts.remember();
        }
    }

    async fn others_write_to_a_pod(&mut self) {
        let Some((key, _)) = self.some_pod() else {
            return;
        };
        if self.random.percent(50) {
            let seen = self.random.next().to_string();
            let patch = json!({ "metadata": { "annotations": { "example.com/seen": seen } } });
            self.world.call("MERGE", &pod_path(&key), Some(patch)).await;
        } else {
            let status = if self.random.percent(50) {
                "True"
            } else {
                "False"
            };
            let condition = json!({ "type": "example.com/own", "status": status, "reason": "Own" });
            let patch = json!({ "status": { "conditions": [condition] } });
            let path = format!("{}/status", pod_path(&key));
            self.world.call("PATCH", &path, Some(patch)).await;
        }
    }

    async fn binding_comes_or_goes(&mut self) {
        let namespace = self.some_namespace();
        let name = format!("tgb-{}", self.random.between(1, 4));
        let (key, app) = ((namespace, name), self.some_app());
        let exists = self.world.facts.lock().bindings.contains_key(&key);
        if !exists {
            if self.random.percent(50) {
                return self.gate_is_told_first(&key, &app).await;
            }
            return self.bind(&key, &app).await;
        }
        if self.random.percent(30) {
            return self.begin_to_unbind(&key).await;
        }
        self.unbind(&key).await;
        if self.random.percent(40) {
            let gap = self.random.millis(0, 40_000);
            self.pass(gap).await;
            self.bind(&key, &app).await;
        }
    }

    /// Creates a binding and a pod with its gate, while watches are so late that the binding seems to be
    /// absent. At last one reports it.
    async fn gate_is_told_first(&mut self, binding: &Key, app: &str) {
        let bindings = "targetgroupbindings";
        let late = ORPHAN_AFTER + self.random.millis(5_000, 20_000);
        self.note(&format!("watches of {bindings} are late by {late:?}"));
        self.world.api.faults().delay_watch(bindings, late);
        self.bind(binding, app).await;
        let gate = Some(binding.1.clone());
        self.gated_pod(&binding.0, app, (None, None), gate).await;
        self.pass(late).await;
        let faults = self.world.api.faults();
        faults.delay_watch(bindings, Duration::ZERO);
    }

    /// Deletes a binding whose finalizer nobody takes off.
    pub(crate) async fn begin_to_unbind(&mut self, key: &Key) {
        let path = format!("{}/{}", bindings_path(&key.0), key.1);
        let held = match self.world.product_registers {
            // The product would take the incumbent's finalizer off.
            true => self.world.finalizers(&path, true),
            false => json!(["elbv2.k8s.aws/resources"]),
        };
        let held = json!({ "metadata": { "finalizers": held } });
        let (held, _) = self.world.call("MERGE", &path, Some(held)).await;
        if held != 200 {
            return;
        }
        let (code, _) = self.world.call("DELETE", &path, None).await;
        let mut facts = self.world.facts.lock();
        if let Some(binding) = facts.bindings.get_mut(key).filter(|_| code == 200) {
            binding.terminating = true;
            facts.remember();
        }
    }

    pub(crate) async fn unbind(&mut self, key: &Key) {
        let path = format!("{}/{}", bindings_path(&key.0), key.1);
        let free = match self.world.product_registers {
            true => self.world.finalizers(&path, false),
            false => serde_json::Value::Null,
        };
        let free = json!({ "metadata": { "finalizers": free } });
        let (free, _) = self.world.call("MERGE", &path, Some(free)).await;
        if free != 200 {
            return;
        }
        let (code, _) = self.world.call("DELETE", &path, None).await;
        if self.world.product_registers {
            let mut facts = self.world.facts.lock();
            if let Some(binding) = facts.bindings.get_mut(key).filter(|_| code == 200) {
                binding.terminating = true;
                facts.remember();
            }
            drop(facts);
            return self.world.witness.see_bindings_go();
        }
        // A binding that was being deleted is gone as soon as its finalizer is.
        if matches!(code, 200 | 404) {
            let mut facts = self.world.facts.lock();
            facts.bindings.remove(key);
            facts.remember();
        }
    }

    async fn service_changes(&mut self) {
        let key = (self.some_namespace(), self.some_app());
        let path = format!("/api/v1/namespaces/{}/services/{}", key.0, key.1);
        let exists = self.world.facts.lock().services.contains_key(&key);
        if !exists {
            let app = key.1.clone();
            return self.service(&key, &app).await;
        }
        if self.random.percent(40) {
            let (code, _) = self.world.call("DELETE", &path, None).await;
            if code == 200 {
                let mut facts = self.world.facts.lock();
                facts.services.remove(&key);
                facts.remember();
            }
            return;
        }
        let app = if self.random.percent(40) {
            "parked".to_owned()
        } else {
            key.1.clone()
        };
        let patch = json!({ "spec": { "selector": { "app": app } } });
        let (code, _) = self.world.call("MERGE", &path, Some(patch)).await;
        let mut facts = self.world.facts.lock();
        if let Some(service) = facts.services.get_mut(&key).filter(|_| code == 200) {
            service.selector.insert("app".to_owned(), app);
            facts.remember();
        }
    }

    fn targets_fail_or_recover(&mut self) {
        let Some((_, pod)) = self.some_pod() else {
            return;
        };
        let outcome = match self.random.below(3) {
            0 => Some(CheckOutcome::Failed(CheckFailure::Status(503))),
            1 => None,
            _ => Some(CheckOutcome::Passed),
        };
        self.note(&format!("checks of {} find {outcome:?}", pod.ip));
        self.world.probe.answer(pod.target(), outcome);
    }
}
