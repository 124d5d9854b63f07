//! Judges what a new pod has for its end (contract 9), and draws pods whose ends differ.

use serde_json::{Value, json};

use crate::driver::{Driver, pod_path};
use crate::facts::Key;

/// The namespace in which drain is on.
pub(crate) const DRAINS: &str = "ns-1";
pub(crate) const DRAINED: &str = "targetgate.dev/drained";
/// The grace periods of new pods. Chosen.
const GRACES: [i64; 4] = [1, 30, 300, i64::MAX];
/// The sleeps of an ALB, and of a load balancer whose kind is not known.
const SLEEPS: [i64; 2] = [20, 100];
/// The seconds that some pods ask for themselves. Chosen.
const OWN_SECONDS: i64 = 45;
/// The percentage of new pods that are copied from a running one. Chosen.
const COPIED: u64 = 25;

/// Whether a created pod has a gate of ours, and by what.
pub(crate) enum Gated {
    Never,
    /// Its owner gave it its gates, and the hook may not have been asked.
    ByHand,
    ByUs,
}

/// What a new pod has before any hook is asked.
pub(crate) struct End {
    pub(crate) containers: Value,
    grace: i64,
    /// The annotation of a pod that was copied from a running one.
    drained: Option<String>,
    /// The grace period that the owner of the pod gave it.
    given: i64,
    /// The annotation of the seconds that it is to sleep.
    seconds: Option<i64>,
}

impl End {
    /// Writes this into a pod that is to be created.
    pub(crate) fn write_into(&self, pod: &mut Value) {
        pod["spec"]["containers"] = self.containers.clone();
        pod["spec"]["terminationGracePeriodSeconds"] = json!(self.grace);
        if let Some(drained) = &self.drained {
            pod["metadata"]["annotations"][DRAINED] = json!(drained);
        }
        if let Some(seconds) = self.seconds {
            let seconds = seconds.to_string();
            pod["metadata"]["annotations"]["targetgate.dev/drain-seconds"] = json!(seconds);
        }
    }
}

fn container(name: &str, lifecycle: &Value) -> Value {
    let env = json!([{ "name": "A", "value": "b" }]);
    json!({ "name": name, "image": name, "env": env, "lifecycle": lifecycle })
}

/// The two numbers of the annotation.
fn numbers(drained: &str) -> Option<(i64, i64)> {
    let (sleep, given) = drained.split_once('/')?;
    Some((sleep.parse().ok()?, given.parse().ok()?))
}

impl Driver {
    /// Draws containers and a grace period, or takes those of a running pod of the app.
    pub(crate) fn some_end(&mut self, namespace: &str, app: &str) -> End {
        if self.random.percent(COPIED)
            && let Some(copy) = self.copied_end(namespace, app)
        {
            return copy;
        }
        let own = json!({ "preStop": { "exec": { "command": ["drain"] } } });
        let lifecycles = [
            Value::Null,
            json!({}),
            json!({ "postStart": { "sleep": { "seconds": 0 } } }),
            own,
        ];
        let names = ["web", "proxy", "log"];
        let number = self.random.between(1, 3) as usize;
        let containers: Vec<Value> = names[..number]
            .iter()
            .map(|name| container(name, &self.random.pick(&lifecycles).unwrap_or_default()))
            .collect();
        let grace = self.random.pick(&GRACES).unwrap_or(30);
        End {
            containers: containers.into(),
            grace,
            drained: None,
            given: grace,
            seconds: self.some_seconds(),
        }
    }

    fn copied_end(&mut self, namespace: &str, app: &str) -> Option<End> {
        let running: Vec<Key> = {
            let facts = self.world.facts.lock();
            let of_app = facts.pods.iter().filter(|((of, _), pod)| {
                of == namespace && pod.labels.get("app").is_some_and(|of| of == app)
            });
            of_app.map(|(key, _)| key.clone()).collect()
        };
        let key = self.random.pick(&running)?;
        let pod = crate::direct::get(&self.world.api, &pod_path(&key))?;
        let grace = pod["spec"]["terminationGracePeriodSeconds"].as_i64()?;
        let drained = pod["metadata"]["annotations"][DRAINED].as_str();
        self.note(&format!("{} is copied, drained {drained:?}", key.1));
        let mut containers = pod["spec"]["containers"].as_array()?.clone();
        // As a webhook after ours does.
        if self.random.percent(50) {
            containers.push(container("late", &Value::Null));
        }
        Some(End {
            containers: containers.into(),
            grace,
            given: drained.and_then(numbers).map_or(grace, |(_, given)| given),
            drained: drained.map(str::to_owned),
            seconds: self.some_seconds(),
        })
    }

    /// The seconds that a pod asks for by its own annotation.
    fn some_seconds(&mut self) -> Option<i64> {
        self.random.percent(30).then_some(OWN_SECONDS)
    }

    /// Judges a created pod: where drain is on and the hook gave it a gate, each main container without a `preStop` of
    /// its own has exactly one sleep, and the grace period is what was given and the sleep.
    pub(crate) fn expect_drained(&self, key: &Key, sent: &End, made: &Value, gated: Gated) {
        let (spec, drained) = (&made["spec"], &made["metadata"]["annotations"][DRAINED]);
        let grace = spec["terminationGracePeriodSeconds"].as_i64();
        let untouched = spec["containers"] == sent.containers
            && grace == Some(sent.grace)
            && drained.as_str() == sent.drained.as_deref();
        let is_right = || self.right_end(sent, made);
        let right = match gated {
            _ if key.0 != DRAINS => untouched,
            Gated::Never => untouched,
            // Without the API server's version, replicas leave the pod as it is.
            Gated::ByUs if self.healed => is_right(),
            Gated::ByUs | Gated::ByHand => untouched || is_right(),
        };
        if !right {
            let what = format!(
                "{key:?} was given {} s: {spec}, drained {drained}",
                sent.given
            );
            self.world.trace.violated("drained once", &what);
        } else if !untouched {
            self.note(&format!("{} is drained", key.1));
        }
    }

    fn right_end(&self, sent: &End, made: &Value) -> bool {
        let has_own = |container: &Value| container["lifecycle"]["preStop"]["exec"].is_object();
        let before: Vec<&Value> = sent.containers.as_array().into_iter().flatten().collect();
        let after: Vec<&Value> = made["spec"]["containers"]
            .as_array()
            .into_iter()
            .flatten()
            .collect();
        let grace = made["spec"]["terminationGracePeriodSeconds"]
            .as_i64()
            .unwrap_or_default();
        if before.iter().all(|container| has_own(container)) {
            return before == after && grace == sent.grace;
        }
        let drained = made["metadata"]["annotations"][DRAINED].as_str();
        let Some((sleep, given)) = drained.and_then(numbers) else {
            return false;
        };
        let least = sent.given.saturating_add(sleep);
        let sleeps = json!({ "sleep": { "seconds": sleep } });
        let each = before
            .iter()
            .zip(&after)
            .all(|(before, after)| match has_own(before) {
                true => before == after,
                false => after["lifecycle"]["preStop"] == sleeps,
            });
        let grows = match sent.drained {
            // A copy has the grace period of the pod that it was copied from at least.
            Some(_) => grace == least.max(sent.grace),
            None => grace == least,
        };
        each && grows
            && before.len() == after.len()
            && given == sent.given
            && match sent.seconds {
                Some(seconds) => sleep == seconds,
                None => SLEEPS.contains(&sleep),
            }
    }
}
