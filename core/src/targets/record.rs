//! The record of what we registered for a binding, a `TargetRecord` named by the binding's UID: nothing else is ever
//! deregistered (contract 8).
//!
//! A record names at least what we put into the group: it is written before `RegisterTargets`, and reduced after
//! `DeregisterTargets`. It may name more, for a while or after a crash.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::names::{AssumedRole, GroupKey, ObjectKey};
use crate::targets::Target;

/// A record names at most this many targets. Chosen: above ELB's quotas of 1,000 and 3,000 targets a group, and half of
/// the 1.5 MiB that etcd takes of an object.
pub const MOST_TARGETS: usize = 10_000;

/// What we registered for one binding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The binding's `metadata.uid`, which is the record's name.
    pub uid: Arc<str>,
    /// The binding, for people and for the binding's Events.
    pub binding: ObjectKey,
    /// The group in which the targets are.
    pub group: GroupKey,
    pub targets: BTreeSet<Target>,
    /// The UID of the Deployment whose registrar let go of the binding (`targetgate release`).
    pub released: Option<Arc<str>>,
    /// Whether the binding was let go with targets left in the group (`targetgate.dev/abandon`).
    pub abandoned: bool,
}

impl Record {
    /// A record without targets.
    pub fn new(uid: Arc<str>, binding: ObjectKey, group: GroupKey) -> Self {
        Self {
            uid,
            binding,
            group,
            targets: BTreeSet::new(),
            released: None,
            abandoned: false,
        }
    }

    /// With as many of these targets as a record holds; the others are not to be registered.
    #[must_use]
    pub fn with(mut self, targets: impl IntoIterator<Item = Target>) -> Self {
        for target in targets {
            if self.targets.len() < MOST_TARGETS {
                self.targets.insert(target);
            }
        }
        self
    }

    /// Without these targets.
    #[must_use]
    pub fn without(mut self, targets: &BTreeSet<Target>) -> Self {
        self.targets.retain(|target| !targets.contains(target));
        self
    }

    /// The `spec` and `status` of the object.
    pub fn written(&self) -> Written {
        let role = self.group.role.as_ref();
        Written {
            spec: Spec {
                binding: Bound {
                    namespace: self.binding.namespace.to_string(),
                    name: self.binding.name.to_string(),
                },
                target_group_arn: self.group.arn.as_str().to_owned(),
                iam_role_arn_to_assume: role.map(|role| role.arn.to_string()),
                assume_role_external_id: role
                    .and_then(|role| Some(role.external_id.as_ref()?.to_string())),
                released_by: self.released.as_deref().map(str::to_owned),
                abandoned: self.abandoned,
            },
            status: Status {
                count: self.targets.len(),
                targets: self.targets.iter().map(shown).collect(),
            },
        }
    }

    /// Reads the object of this name. Entries that are no targets are left out, and so are those beyond
    /// [`MOST_TARGETS`].
    ///
    /// # Errors
    /// The object does not name a target group, so that it cannot say where its targets are.
    pub fn read(uid: Arc<str>, written: &Written) -> Result<Self, Unreadable> {
        let Written { spec, status } = written;
        let arn = spec.target_group_arn.parse();
        let arn = arn.map_err(|_| Unreadable { uid: uid.clone() })?;
        let role = spec
            .iam_role_arn_to_assume
            .as_deref()
            .map(|arn| AssumedRole {
                arn: arn.into(),
                external_id: spec.assume_role_external_id.as_deref().map(Into::into),
            });
        let binding = ObjectKey::new(&*spec.binding.namespace, &*spec.binding.name);
        let record = Self {
            released: spec.released_by.as_deref().map(Into::into),
            abandoned: spec.abandoned,
            ..Self::new(uid, binding, GroupKey { arn, role })
        };
        Ok(record.with(status.targets.iter().filter_map(|target| parsed(target))))
    }
}

/// A record that names no target group.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "TargetRecord {uid} is passed over: its spec.targetGroupARN is not a target group's ARN; restore it, or delete the record, and nothing is deregistered for it"
)]
pub struct Unreadable {
    uid: Arc<str>,
}

/// A `TargetRecord` as the API server keeps it, without its metadata. It has no subresource, so that one write under
/// one resourceVersion replaces both parts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    pub spec: Spec,
    #[serde(default)]
    pub status: Status,
}

/// Which binding and group a record is about, and the marks on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Spec {
    pub binding: Bound,
    #[serde(rename = "targetGroupARN")]
    pub target_group_arn: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iam_role_arn_to_assume: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assume_role_external_id: Option<String>,
    /// The UID of the Deployment whose registrar let go of the binding.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub released_by: Option<String>,
    /// Whether targets were left in the group on purpose.
    #[serde(default, skip_serializing_if = "is_false")]
    pub abandoned: bool,
}

/// The binding's namespace and name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bound {
    pub namespace: String,
    pub name: String,
}

/// What is registered.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The number of targets, for `kubectl get`.
    #[serde(default)]
    pub count: usize,
    /// Address and port of each target; an IPv6 address in brackets.
    #[serde(default)]
    pub targets: Vec<String>,
}

fn is_false(value: &bool) -> bool {
    !value
}

fn shown(target: &Target) -> String {
    SocketAddr::from(*target).to_string()
}

fn parsed(text: &str) -> Option<Target> {
    let address: SocketAddr = text.parse().ok()?;
    Some((address.ip(), address.port())).filter(|(_, port)| *port != 0)
}

#[cfg(test)]
mod tests {
    use fastrand::Rng;
    use serde_json::json;

    use super::*;
    use crate::fixtures::arn;

    fn record() -> Record {
        let group = GroupKey {
            arn: arn("web"),
            role: None,
        };
        Record::new("uid-web".into(), ObjectKey::new("shop", "web"), group)
    }

    fn target(last: u8) -> Target {
        ([10, 0, 0, last].into(), 8080)
    }

    #[test]
    fn a_record_reads_as_people_would_write_it() {
        let record = Record {
            released: Some("uid-deployment".into()),
            ..record().with([target(1), ("fd00::1".parse().unwrap(), 8080)])
        };
        let expected = json!({
            "spec": {
                "binding": { "namespace": "shop", "name": "web" },
                "targetGroupARN": arn("web").as_str(),
                "releasedBy": "uid-deployment",
            },
            "status": { "count": 2, "targets": ["10.0.0.1:8080", "[fd00::1]:8080"] },
        });
        assert_eq!(serde_json::to_value(record.written()).unwrap(), expected);
    }

    #[test]
    fn what_is_written_is_read_again() {
        let mut random = Rng::with_seed(14);
        for _ in 0..200 {
            let some = |random: &mut Rng, text: &str| random.bool().then(|| Arc::from(text));
            let role = some(&mut random, "arn:aws:iam::111122223333:role/bind");
            let mut written = record();
            written.group.role = role.map(|arn| AssumedRole {
                arn,
                external_id: some(&mut random, "secret-word"),
            });
            written.released = some(&mut random, "uid-deployment");
            written.abandoned = random.bool();
            let targets = (0..random.u8(..20)).map(|_| match random.bool() {
                true => (random.u32(..).to_be_bytes().into(), random.u16(1..)),
                false => (random.u128(..).to_be_bytes().into(), random.u16(1..)),
            });
            let written = written.with(targets.collect::<Vec<_>>());
            let text = serde_json::to_string(&written.written()).unwrap();
            let read = Record::read("uid-web".into(), &serde_json::from_str(&text).unwrap());
            assert_eq!(read, Ok(written));
        }
    }

    #[test]
    fn entries_that_are_no_targets_are_left_out_and_a_record_without_a_group_is_refused() {
        let mut written = record().with([target(1)]).written();
        let strange = ["10.0.0.2", "10.0.0.3:0", "web:80", "fd00::1:80", ""];
        written.status.targets.extend(strange.map(str::to_owned));
        let read = Record::read("uid-web".into(), &written).unwrap();
        assert_eq!(read, record().with([target(1)]));
        written.spec.target_group_arn = "web".into();
        let error = Record::read("uid-web".into(), &written).unwrap_err();
        assert!(error.to_string().contains("uid-web"));
    }

    #[test]
    fn a_record_is_bounded() {
        let many = (0..=u16::MAX).map(|number| {
            let [high, low] = number.to_be_bytes();
            ([10, 0, high, low].into(), 80)
        });
        let full = record().with(many);
        assert_eq!(full.targets.len(), MOST_TARGETS);
        let first: BTreeSet<Target> = full.targets.iter().take(10).copied().collect();
        let reduced = full.without(&first);
        assert_eq!(reduced.targets.len(), MOST_TARGETS - 10);
        assert!(serde_json::to_string(&reduced.written()).unwrap().len() < 800_000);
    }
}
