//! Bindings that share a group, `multiClusterTargetGroup`, and bindings for which registration is turned off.

use std::time::Duration;

use serde_json::{Value, json};
use targetgate_core::model::Policies;
use targetgate_core::names::REGISTER_ANNOTATION;

use crate::driver::{Driver, bindings_path};
use crate::facts::{Binding, Key};

/// Targets of another cluster.
const OF_ANOTHER_CLUSTER: [&str; 2] = ["10.9.9.1", "10.9.9.2"];
/// The time in which the incumbent has its Lease and its caches, and has worked once. Chosen.
const INCUMBENT_WORKS_WITHIN: Duration = Duration::from_secs(10);

impl Driver {
    pub(crate) async fn sharing_step(&mut self) {
        match self.random.below(10) {
            0..3 => self.group_is_shared().await,
            3 => self.multi_cluster_is_turned().await,
            4 => self.registration_is_turned().await,
            5..8 => self.sharing_ends().await,
            _ => self.another_cluster_shares().await,
        }
    }

    fn some_known_binding(&mut self) -> Option<(Key, Binding)> {
        let all: Vec<(Key, Binding)> = {
            let facts = self.world.facts.lock();
            let all = facts.bindings.iter().filter(|(_, b)| !b.terminating);
            all.map(|(key, b)| (key.clone(), b.clone())).collect()
        };
        self.random.pick(&all)
    }

    /// Another binding names a group, mostly as one that several clusters share.
    async fn group_is_shared(&mut self) {
        let Some((first, binding)) = self.some_known_binding() else {
            return;
        };
        let (namespace, app) = (self.some_namespace(), self.some_app());
        let key = (namespace, format!("shares-{}", self.random.between(1, 2)));
        let taken = self.world.facts.lock().groups.contains_key(&key);
        if taken {
            return;
        }
        let multi = self.random.percent(75);
        if multi {
            self.turn_multi_cluster(&first, true).await;
        }
        self.note(&format!("{key:?} shares the group of {first:?}"));
        self.bind_to(&key, &app, &binding.arn, multi).await;
    }

    /// Two bindings of one Service share a group until both may be served, and then one of them goes.
    async fn sharing_ends(&mut self) {
        let Some((first, binding)) = self.some_known_binding() else {
            return;
        };
        let name = format!("shares-{}", self.random.between(3, 6));
        let second = (first.0.clone(), name);
        let taken = self.world.facts.lock().groups.contains_key(&second);
        if taken {
            return;
        }
        self.turn_multi_cluster(&first, true).await;
        self.note(&format!("{second:?} shares the group of {first:?}"));
        self.bind_to(&second, &binding.service, &binding.arn, true)
            .await;
        let both = self.random.millis(5_000, 40_000);
        self.pass(both).await;
        let goes = match self.random.percent(50) {
            true => first,
            false => second,
        };
        self.note(&format!("{goes:?} leaves the group that it shares"));
        self.unbind(&goes).await;
        let after = self.random.millis(1_000, 20_000);
        self.pass(after).await;
    }

    /// A group has targets of another cluster, and a binding of this one shares it, mostly one that the incumbent serves
    /// until it goes.
    async fn another_cluster_shares(&mut self) {
        let (namespace, app) = (self.some_namespace(), self.some_app());
        let key = (namespace, format!("multi-{}", self.random.between(1, 2)));
        let taken = self.world.facts.lock().groups.contains_key(&key);
        if taken {
            return;
        }
        let theirs = self.random.percent(30);
        let arn = self.world.group(&format!("{}-{}", key.0, key.1), theirs);
        for ip in OF_ANOTHER_CLUSTER {
            self.register_foreign(&arn, ip);
        }
        let is_taken_over = self.random.percent(70);
        if is_taken_over {
            self.incumbent_comes();
            // It leads before the binding is there.
            self.pass(INCUMBENT_WORKS_WITHIN).await;
        }
        self.note(&format!("{key:?} shares a group of another cluster"));
        self.bind_to(&key, &app, &arn, true).await;
        if is_taken_over {
            self.pass(INCUMBENT_WORKS_WITHIN).await;
            self.incumbent_ends();
            self.note("the incumbent goes");
            self.its_lease_gets_old().await;
        }
    }

    async fn multi_cluster_is_turned(&mut self) {
        if let Some((key, binding)) = self.some_known_binding() {
            self.turn_multi_cluster(&key, !binding.multi).await;
        }
    }

    pub(crate) async fn turn_multi_cluster(&mut self, key: &Key, on: bool) {
        let spec = json!({ "spec": { "multiClusterTargetGroup": on } });
        if self.edit(key, spec).await {
            let mut facts = self.world.facts.lock();
            if let Some(binding) = facts.bindings.get_mut(key) {
                binding.multi = on;
            }
        }
    }

    async fn registration_is_turned(&mut self) {
        if let Some((key, binding)) = self.some_known_binding() {
            self.turn_registration(&key, !binding.asked).await;
        }
    }

    async fn turn_registration(&mut self, key: &Key, on: bool) {
        let said = if on { Value::Null } else { json!("false") };
        let annotated = json!({ "metadata": { "annotations": { REGISTER_ANNOTATION: said } } });
        if self.edit(key, annotated).await {
            self.note(&format!("registration is asked for {key:?}: {on}"));
            let mut facts = self.world.facts.lock();
            if let Some(binding) = facts.bindings.get_mut(key) {
                binding.asked = on;
            }
        }
    }

    /// Edits a binding as its owner does.
    async fn edit(&mut self, key: &Key, patch: Value) -> bool {
        let path = format!("{}/{}", bindings_path(&key.0), key.1);
        let (code, _) = self.world.call("MERGE", &path, Some(patch)).await;
        code == 200
    }

    /// Has all bindings served: registration is asked for, and what shares a group says so. Returns whether they are.
    pub(crate) async fn all_are_served(&mut self) -> bool {
        let all: Vec<(Key, Binding)> = {
            let facts = self.world.facts.lock();
            let all = facts.bindings.iter();
            all.map(|(key, b)| (key.clone(), b.clone())).collect()
        };
        for (key, binding) in &all {
            let shares = all.iter().filter(|(_, b)| b.arn == binding.arn).count() > 1;
            if shares && !binding.multi {
                self.turn_multi_cluster(key, true).await;
            }
            if !binding.asked {
                self.turn_registration(key, true).await;
            }
        }
        let facts = self.world.facts.lock();
        facts.bindings.keys().all(|key| facts.is_served(key))
    }

    /// Creates a binding of a Service to a group.
    pub(crate) async fn bind_to(&mut self, key: &Key, service: &str, arn: &str, multi: bool) {
        let (namespace, name) = key;
        let binding = json!({
            "apiVersion": "elbv2.k8s.aws/v1beta1",
            "kind": "TargetGroupBinding",
            "metadata": { "name": name },
            "spec": {
                "targetGroupARN": arn, "targetType": "ip", "multiClusterTargetGroup": multi,
                "serviceRef": { "name": service, "port": 80 },
            },
        });
        let groups = vec![arn.to_owned()];
        self.world.facts.lock().groups.insert(key.clone(), groups);
        let path = bindings_path(namespace);
        let (code, made) = self.world.call("POST", &path, Some(binding)).await;
        if code == 201 {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let metadata = &made["metadata"];
            let binding = Binding {
                service: service.to_owned(),
                arn: arn.to_owned(),
                age: (text(&metadata["creationTimestamp"]), text(&metadata["uid"])),
                multi,
                asked: true,
                terminating: false,
                policies: Policies::default(),
            };
            let mut facts = self.world.facts.lock();
            facts.bindings.insert(key.clone(), binding);
            facts.remember();
        }
    }
}
