//! Keeps one `GateRules` object in each namespace with gates as its bindings say: which is written next, and which is
//! removed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::backoff::Backoff;
use crate::gate_rules::{GateRules, TooLarge};

/// Pause after a write that failed. Chosen: an API server that restarts is back within seconds.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(30));

/// The objects as the leader knows them. A replica that begins to lead makes a new one.
#[derive(Debug, Default)]
pub struct Reconciler {
    objects: BTreeMap<Arc<str>, Object>,
    due: BTreeMap<Arc<str>, Due>,
    too_large: BTreeMap<Arc<str>, TooLarge>,
}

/// An object as the API server has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Object {
    Rules(GateRules),
    /// It is not of the shape that is written, so that it differs from whatever is wanted.
    Unreadable,
}

/// A namespace whose object has to be compared.
#[derive(Debug)]
struct Due {
    since: Instant,
    failures: u32,
    not_before: Instant,
}

/// What to do about the object of a namespace.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    Write(Arc<str>, GateRules),
    Remove(Arc<str>),
}

impl Step {
    /// The namespace of the object.
    pub fn namespace(&self) -> &Arc<str> {
        let (Self::Write(namespace, _) | Self::Remove(namespace)) = self;
        namespace
    }
}

impl Reconciler {
    /// Takes in a list of all objects. Each namespace of it is compared anew.
    pub fn listed(&mut self, objects: BTreeMap<Arc<str>, Object>, now: Instant) {
        let former = std::mem::replace(&mut self.objects, objects);
        let listed = self.objects.keys().cloned().collect::<Vec<_>>();
        for namespace in former.into_keys().chain(listed) {
            self.changed(namespace, now);
        }
    }

    /// Takes in what a watch says of one object; `None` once it is gone.
    pub fn saw(&mut self, namespace: Arc<str>, object: Option<Object>, now: Instant) {
        self.set(&namespace, object);
        self.changed(namespace, now);
    }

    /// Notes that the bindings or Services of a namespace may have changed.
    pub fn changed(&mut self, namespace: Arc<str>, now: Instant) {
        let due = self.due.entry(namespace).or_insert(Due {
            since: now,
            failures: 0,
            not_before: now,
        });
        due.not_before = due.not_before.min(now);
    }

    /// What to do next, where `wanted` says what the rules of a namespace are now. Namespaces without a step are
    /// done; each step is to be answered by [`Self::done`] or [`Self::failed`].
    pub fn next(
        &mut self,
        wanted: impl Fn(&str) -> Result<GateRules, TooLarge>,
        now: Instant,
    ) -> Option<Step> {
        loop {
            let mut ready = self.due.iter().filter(|(_, due)| due.not_before <= now);
            let namespace = ready.next()?.0.clone();
            let step = self.step(&namespace, wanted(&namespace));
            if step.is_some() {
                return step;
            }
            self.due.remove(&namespace);
        }
    }

    fn step(&mut self, namespace: &Arc<str>, wanted: Result<GateRules, TooLarge>) -> Option<Step> {
        let wanted = match wanted {
            Ok(rules) => {
                self.too_large.remove(namespace);
                rules
            }
            Err(why) => {
                self.too_large.insert(namespace.clone(), why);
                GateRules::default()
            }
        };
        match (self.objects.get(namespace), wanted.is_empty()) {
            (None, true) => None,
            (Some(_), true) => Some(Step::Remove(namespace.clone())),
            (Some(Object::Rules(rules)), false) if *rules == wanted => None,
            (_, false) => Some(Step::Write(namespace.clone(), wanted)),
        }
    }

    /// Takes in that a step was carried out.
    pub fn done(&mut self, step: Step) {
        let (namespace, object) = match step {
            Step::Write(namespace, rules) => (namespace, Some(Object::Rules(rules))),
            Step::Remove(namespace) => (namespace, None),
        };
        self.set(&namespace, object);
        self.due.remove(&namespace);
    }

    /// Takes in that the step of a namespace failed: it is taken again after a while.
    pub fn failed(&mut self, namespace: &Arc<str>, now: Instant) {
        if let Some(due) = self.due.get_mut(namespace) {
            due.failures = due.failures.saturating_add(1);
            due.not_before = now + BACKOFF.after(due.failures);
        }
    }

    /// Takes in that a namespace cannot hold an object, because it is going or gone.
    pub fn leave(&mut self, namespace: &Arc<str>) {
        self.due.remove(namespace);
    }

    /// When [`Self::next`] has a step to take again.
    pub fn next_try(&self) -> Option<Instant> {
        self.due.values().map(|due| due.not_before).min()
    }

    /// For how long the object that is behind longest has not held what its bindings say.
    pub fn age(&self, now: Instant) -> Duration {
        let since = self.due.values().map(|due| due.since).min();
        since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }

    /// The namespaces whose objects hold rules.
    pub fn written(&self) -> usize {
        self.objects.len()
    }

    /// The namespaces that are left to the hook.
    pub fn too_large(&self) -> &BTreeMap<Arc<str>, TooLarge> {
        &self.too_large
    }

    fn set(&mut self, namespace: &Arc<str>, object: Option<Object>) {
        match object {
            Some(object) => self.objects.insert(namespace.clone(), object),
            None => self.objects.remove(namespace),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{binding, epoch, service};
    use crate::gates::inject::GatePolicy;
    use crate::index::services::ServiceIndex;

    const S: Duration = Duration::from_secs(1);

    fn rules(name: &str) -> GateRules {
        let mut routes = ServiceIndex::default();
        routes.apply_service(&"web".into(), service().selecting("app", "web"));
        routes.apply_binding(binding(name));
        GateRules::of(&routes, &GatePolicy::default()).unwrap()
    }

    /// A leader who has listed the object of `shop`.
    fn holding(object: Option<Object>, now: Instant) -> Reconciler {
        let mut reconciler = Reconciler::default();
        let objects = object.map(|object| (Arc::from("shop"), object));
        reconciler.listed(objects.into_iter().collect(), now);
        reconciler
    }

    fn write(name: &str) -> Option<Step> {
        Some(Step::Write("shop".into(), rules(name)))
    }

    #[test]
    fn an_object_is_written_only_where_it_differs() {
        let now = epoch();
        let mut reconciler = holding(Some(Object::Rules(rules("web"))), now);
        assert_eq!(reconciler.next(|_| Ok(rules("web")), now), None);
        assert_eq!(
            (reconciler.age(now + S), reconciler.next_try()),
            (Duration::ZERO, None)
        );
        reconciler.changed("shop".into(), now);
        assert_eq!(reconciler.next(|_| Ok(rules("api")), now), write("api"));
    }

    #[test]
    fn what_another_writes_is_put_back() {
        let now = epoch();
        let mut reconciler = holding(Some(Object::Rules(rules("web"))), now);
        assert_eq!(reconciler.next(|_| Ok(rules("web")), now), None);
        for foreign in [
            Some(Object::Rules(rules("evil"))),
            Some(Object::Unreadable),
            None,
        ] {
            reconciler.saw("shop".into(), foreign, now);
            let step = reconciler.next(|_| Ok(rules("web")), now);
            assert_eq!(step, write("web"));
            reconciler.done(step.unwrap());
            // Our own write comes back by the watch.
            reconciler.saw("shop".into(), Some(Object::Rules(rules("web"))), now);
            assert_eq!(reconciler.next(|_| Ok(rules("web")), now), None);
        }
    }

    #[test]
    fn an_object_goes_with_the_last_binding_or_when_the_rules_are_too_large() {
        let now = epoch();
        for wanted in [
            Ok(GateRules::default()),
            Err(TooLarge::Bytes { bytes: 1 << 20 }),
        ] {
            let mut reconciler = holding(Some(Object::Rules(rules("web"))), now);
            let step = reconciler.next(|_| wanted.clone(), now).unwrap();
            assert_eq!(step, Step::Remove("shop".into()));
            reconciler.done(step);
            assert_eq!(reconciler.written(), 0);
            assert_eq!(reconciler.too_large().len(), usize::from(wanted.is_err()));
            reconciler.changed("shop".into(), now);
            assert_eq!(reconciler.next(|_| Ok(rules("web")), now), write("web"));
            assert!(reconciler.too_large().is_empty());
        }
    }

    #[test]
    fn a_write_that_fails_is_taken_again_and_the_object_ages_meanwhile() {
        let now = epoch();
        let mut reconciler = holding(None, now);
        reconciler.changed("shop".into(), now);
        reconciler.changed("blog".into(), now);
        let first = reconciler.next(|_| Ok(rules("web")), now).unwrap();
        reconciler.failed(first.namespace(), now);
        let second = reconciler.next(|_| Ok(rules("web")), now).unwrap();
        assert_eq!(
            (&**first.namespace(), &**second.namespace()),
            ("blog", "shop")
        );
        reconciler.done(second);
        assert_eq!(reconciler.next(|_| Ok(rules("web")), now), None);
        assert_eq!(reconciler.age(now + 5 * S), 5 * S);
        let again = reconciler.next_try().unwrap();
        assert!(again > now && again < now + S);
        assert!(reconciler.next(|_| Ok(rules("web")), again).is_some());
        reconciler.leave(&"blog".into());
        assert_eq!(reconciler.age(now + 5 * S), Duration::ZERO);
    }

    #[test]
    fn a_list_shows_what_has_gone_while_nobody_watched() {
        let now = epoch();
        let mut reconciler = holding(Some(Object::Rules(rules("web"))), now);
        assert_eq!(reconciler.next(|_| Ok(rules("web")), now), None);
        reconciler.listed(BTreeMap::new(), now);
        assert_eq!(reconciler.next(|_| Ok(rules("web")), now), write("web"));
    }
}
