//! Bindings that share a group, `multiClusterTargetGroup`, and bindings for which registration is turned off.

use serde_json::{Value, json};
use targetgate_core::model::Policies;
use targetgate_core::names::REGISTER_ANNOTATION;

use crate::driver::{Driver, bindings_path};
use crate::facts::{Binding, Key};

impl Driver {
    pub(crate) async fn sharing_step(&mut self) {
        match self.random.below(4) {
            0 | 1 => self.group_is_shared().await,
            2 => self.multi_cluster_is_turned().await,
            _ => self.registration_is_turned().await,
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
