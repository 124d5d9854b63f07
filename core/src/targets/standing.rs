//! Which bindings are ours to register for (contract 8): there are never two registrars.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::binding::allow_list::AllowList;
use crate::index::{BindingKey, Index};
use crate::model::{Binding, TargetType};
use crate::names::{BindingApi, TargetGroupArn};
use crate::reason::Reason;
use crate::targets::record::Record;

/// `--register`, where it is not `none`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Bindings with `targetgate.dev/register: "true"`.
    Annotated,
    /// All bindings but those with `targetgate.dev/register: "false"`.
    All,
}

/// What the operator set.
#[derive(Debug, Clone)]
pub struct Policy {
    pub mode: Mode,
    /// `--allow-arns`; `None` if any namespace may bind any group.
    pub allow_list: Option<Arc<AllowList>>,
    /// `--incumbent-namespaces`; `None` if the incumbent watches all.
    pub incumbent_namespaces: Option<BTreeSet<Arc<str>>>,
    /// The UID of our Deployment, by which a record says that it was released by us.
    pub deployment: Option<Arc<str>>,
}

/// What is known of the incumbent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Incumbent {
    /// Its Lease was renewed within the last minute, cannot be read, or was not read yet.
    Leads,
    /// Its Lease was not renewed for a minute, or there is none.
    Gone,
}

/// What we do about a binding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// We register and deregister its targets.
    Ours,
    /// We neither register nor deregister, and leave finalizer and record as they are. A deletion is still cleaned up
    /// after, unless the incumbent does that.
    Suspended(Reason),
    /// It is not ours: a finalizer of ours goes, and the targets stay.
    NotOurs(Reason),
}

impl Standing {
    /// Whether targets are registered for the binding.
    pub fn is_ours(self) -> bool {
        self == Self::Ours
    }

    /// Whether what the binding wants protects a target from being deregistered.
    pub fn protects(self) -> bool {
        !matches!(
            self,
            Self::NotOurs(Reason::RegistrationOff | Reason::Released)
        )
    }
}

impl Policy {
    /// The standing of a binding. `alone` says that it was ours without the incumbent's finalizer before, so that one
    /// which appears proves that the incumbent is back.
    pub fn standing(
        &self,
        key: &BindingKey,
        index: &Index,
        record: Option<&Record>,
        incumbent: Incumbent,
        alone: bool,
    ) -> Standing {
        let Some(binding) = index.binding(key) else {
            return Standing::NotOurs(Reason::BindingGone);
        };
        if let Some(reason) = self.not_asked(binding, record) {
            return Standing::NotOurs(reason);
        }
        let reason = self
            .held_by_another(key, binding, incumbent, alone)
            .or_else(|| self.refusal(key, binding))
            .or_else(|| older(key, binding, index, self));
        match reason {
            None => Standing::Ours,
            // The incumbent cleans up after what it holds itself, and what was never ours needs no finalizer.
            Some(reason) if !binding.registration.our_finalizer => Standing::NotOurs(reason),
            Some(reason) => Standing::Suspended(reason),
        }
    }

    fn not_asked(&self, binding: &Binding, record: Option<&Record>) -> Option<Reason> {
        if !self.asks(binding) {
            return Some(Reason::RegistrationOff);
        }
        let released = record.and_then(|record| record.released.as_ref());
        // Where our own UID is not known, it may be ours.
        let by_us = released.is_some_and(|by| self.deployment.as_ref().is_none_or(|us| us == by));
        by_us.then_some(Reason::Released)
    }

    /// Whether registration is asked for, whatever else is said of the binding.
    fn asks(&self, binding: &Binding) -> bool {
        let asked = binding.registration.asked;
        binding.api == BindingApi::Elbv2 && asked.unwrap_or(self.mode == Mode::All)
    }

    fn held_by_another(
        &self,
        key: &BindingKey,
        binding: &Binding,
        incumbent: Incumbent,
        alone: bool,
    ) -> Option<Reason> {
        let watched = self.incumbent_namespaces.as_ref();
        let watched = watched.is_none_or(|all| all.contains(&key.object.namespace));
        let leads = watched && incumbent == Incumbent::Leads;
        let is_back = alone && binding.registration.incumbent_finalizer;
        (leads || is_back).then_some(Reason::HeldByAnother)
    }

    fn refusal(&self, key: &BindingKey, binding: &Binding) -> Option<Reason> {
        match binding.target_type {
            Some(TargetType::Ip) => {}
            Some(TargetType::Instance) => return Some(Reason::TargetTypeInstance),
            None => return Some(Reason::TargetTypeUnknown),
        }
        let Some(arn) = &binding.arn else {
            return Some(Reason::GroupUnknown);
        };
        let registration = &binding.registration;
        match () {
            () if registration.quic => Some(Reason::QuicNotSupported),
            () if registration.pod_zone => Some(Reason::PodZoneNotSupported),
            () if !self.allows(key, binding, arn) => Some(Reason::GroupNotAllowed),
            () => None,
        }
    }

    fn allows(&self, key: &BindingKey, binding: &Binding, arn: &TargetGroupArn) -> bool {
        let Some(list) = &self.allow_list else {
            return true;
        };
        let namespace = &key.object.namespace;
        let role = binding.role.as_ref();
        list.check(namespace, arn).is_ok()
            && role.is_none_or(|role| list.check_role(namespace, arn, &role.arn).is_ok())
    }
}

/// Why an older binding of the same group is served instead, if one is.
///
/// Any older binding of ip targets counts that is not our own affair alone, those of EKS Auto Mode included: its
/// registrar would take our targets out. One that is being deleted counts too, since its cleanup is not over.
fn older(key: &BindingKey, binding: &Binding, index: &Index, policy: &Policy) -> Option<Reason> {
    let arn = binding.arn.as_ref()?;
    let mut others = index
        .bindings_of_group(arn)
        .filter(|(other, _)| *other != key);
    let goes_first = |other: (&BindingKey, &Binding)| {
        let (other_key, other) = other;
        let shared = binding.multi_cluster && other.multi_cluster;
        let served = other.target_type != Some(TargetType::Instance)
            && (!policy.asks(other) || policy.refusal(other_key, other).is_none());
        !shared && served && (other.age(), other_key) < (binding.age(), key)
    };
    others.any(goes_first).then_some(Reason::OlderBinding)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use rstest::rstest;

    use super::*;
    use crate::fixtures::{arn, binding};
    use crate::model::Registration;
    use crate::names::{AssumedRole, GroupKey, ObjectKey};

    const ALL: Policy = Policy {
        mode: Mode::All,
        allow_list: None,
        incumbent_namespaces: None,
        deployment: None,
    };

    fn key(name: &str) -> BindingKey {
        BindingKey {
            object: ObjectKey::new("shop", name),
            api: BindingApi::Elbv2,
        }
    }

    fn index(bindings: &[Binding]) -> Index {
        let mut index = Index::default();
        for binding in bindings {
            index.apply_binding(&"shop".into(), binding.clone());
        }
        index
    }

    fn standing(policy: &Policy, binding: &Binding) -> Standing {
        let index = index(std::slice::from_ref(binding));
        policy.standing(&key(&binding.name), &index, None, Incumbent::Gone, false)
    }

    fn with(change: impl FnOnce(&mut Registration)) -> Binding {
        let mut binding = binding("web");
        change(&mut binding.registration);
        binding
    }

    #[rstest]
    #[case::all_without_a_word(Mode::All, None, true)]
    #[case::all_but_this_one(Mode::All, Some(false), false)]
    #[case::annotated_without_a_word(Mode::Annotated, None, false)]
    #[case::annotated(Mode::Annotated, Some(true), true)]
    fn a_binding_is_ours_where_registration_is_asked_for(
        #[case] mode: Mode,
        #[case] asked: Option<bool>,
        #[case] ours: bool,
    ) {
        let binding = with(|registration| registration.asked = asked);
        let expected = match ours {
            true => Standing::Ours,
            false => Standing::NotOurs(Reason::RegistrationOff),
        };
        assert_eq!(standing(&Policy { mode, ..ALL }, &binding), expected);
    }

    #[rstest]
    #[case::of_nodes(binding("web").of_instances(), Reason::TargetTypeInstance)]
    #[case::of_unknown_targets(Binding { target_type: None, ..binding("web") }, Reason::TargetTypeUnknown)]
    #[case::without_an_arn(Binding { arn: None, ..binding("web") }, Reason::GroupUnknown)]
    #[case::of_quic(with(|r| r.quic = true), Reason::QuicNotSupported)]
    #[case::with_zones_of_pods(with(|r| r.pod_zone = true), Reason::PodZoneNotSupported)]
    fn some_bindings_are_refused_by_name(#[case] mut binding: Binding, #[case] reason: Reason) {
        assert_eq!(standing(&ALL, &binding), Standing::NotOurs(reason));
        binding.registration.our_finalizer = true;
        assert_eq!(standing(&ALL, &binding), Standing::Suspended(reason));
    }

    #[test]
    fn a_binding_of_auto_mode_has_a_registrar() {
        let theirs = binding("web").of_api(BindingApi::Eks);
        let key = BindingKey {
            api: BindingApi::Eks,
            ..key("web")
        };
        let standing = ALL.standing(&key, &index(&[theirs]), None, Incumbent::Gone, false);
        assert_eq!(standing, Standing::NotOurs(Reason::RegistrationOff));
    }

    #[test]
    fn the_allow_list_holds_for_group_and_role() {
        let list = "
- name: shop
  namespaces: [shop]
  targetGroupARNs: ['*/web/*']
  roles: ['*/bind']
";
        let allow_list = Some(Arc::new(AllowList::parse(list).unwrap()));
        let policy = Policy { allow_list, ..ALL };
        let role = |name: &str| AssumedRole {
            arn: format!("arn:aws:iam::111122223333:role/{name}").into(),
            external_id: None,
        };
        let refused = Standing::NotOurs(Reason::GroupNotAllowed);
        assert_eq!(standing(&policy, &binding("web")), Standing::Ours);
        assert_eq!(standing(&policy, &binding("api")), refused);
        for (name, expected) in [("bind", Standing::Ours), ("admin", refused)] {
            let role = Some(role(name));
            assert_eq!(
                standing(
                    &policy,
                    &Binding {
                        role,
                        ..binding("web")
                    }
                ),
                expected
            );
        }
    }

    #[test]
    fn a_released_binding_is_left_alone_by_the_deployment_that_released_it() {
        let group = GroupKey {
            arn: arn("web"),
            role: None,
        };
        let mut record = Record::new("uid-web".into(), ObjectKey::new("shop", "web"), group);
        record.released = Some("uid-old".into());
        let index = index(&[binding("web")]);
        let of = |deployment: Option<&str>| {
            let policy = Policy {
                deployment: deployment.map(Into::into),
                ..ALL
            };
            policy.standing(&key("web"), &index, Some(&record), Incumbent::Gone, false)
        };
        assert_eq!(of(Some("uid-old")), Standing::NotOurs(Reason::Released));
        assert_eq!(of(Some("uid-new")), Standing::Ours);
        assert_eq!(of(None), Standing::NotOurs(Reason::Released));
    }

    #[rstest]
    #[case::while_it_leads(Incumbent::Leads, false, false, None, true)]
    #[case::once_it_is_gone(Incumbent::Gone, true, false, None, false)]
    #[case::once_its_finalizer_is_back(Incumbent::Gone, true, true, None, true)]
    #[case::where_it_does_not_watch(Incumbent::Leads, false, false, Some("other"), false)]
    #[case::where_it_watches(Incumbent::Leads, false, false, Some("shop"), true)]
    fn the_incumbent_holds_a_binding(
        #[case] incumbent: Incumbent,
        #[case] incumbent_finalizer: bool,
        #[case] taken_over: bool,
        #[case] namespace: Option<&str>,
        #[case] held: bool,
    ) {
        let binding = with(|r| {
            r.our_finalizer = true;
            r.incumbent_finalizer = incumbent_finalizer;
        });
        let incumbent_namespaces = namespace.map(|name| [name.into()].into());
        let policy = Policy {
            incumbent_namespaces,
            ..ALL
        };
        let index = index(&[binding]);
        let standing = policy.standing(&key("web"), &index, None, incumbent, taken_over);
        let expected = match held {
            true => Standing::Suspended(Reason::HeldByAnother),
            false => Standing::Ours,
        };
        assert_eq!(standing, expected);
    }

    #[test]
    fn of_two_bindings_of_a_group_the_older_is_served_unless_both_are_multi_cluster() {
        let bound = |name: &str, created: i64, multi_cluster: bool| {
            let mut binding = binding(name).of_group("web");
            binding.registration.created = Timestamp::from_second(created).ok();
            binding.multi_cluster = multi_cluster;
            binding
        };
        let of = |bindings: &[Binding], name: &str| {
            ALL.standing(&key(name), &index(bindings), None, Incumbent::Gone, false)
        };
        let younger = Standing::NotOurs(Reason::OlderBinding);
        let two = [bound("old", 1, true), bound("young", 2, false)];
        assert_eq!(
            (of(&two, "old"), of(&two, "young")),
            (Standing::Ours, younger)
        );
        let both = [bound("old", 1, true), bound("young", 2, true)];
        assert_eq!(of(&both, "young"), Standing::Ours);
        // One that we refuse, or that registers nodes, is not served either.
        let mut refused = bound("old", 1, false);
        refused.registration.quic = true;
        assert_eq!(
            of(&[refused, bound("young", 2, false)], "young"),
            Standing::Ours
        );
        // One that was not asked for is served by another registrar.
        let mut others = bound("old", 1, false);
        others.registration.asked = Some(false);
        assert_eq!(of(&[others, bound("young", 2, false)], "young"), younger);
    }
}
