//! The two hooks for bindings: one fills in defaults from AWS, one validates (contract 3, 4).
//!
//! Both fail closed, so both say what is wrong and what to do. Neither blocks a
//! cleanup: an update that does not change the spec is allowed before any other check.

use std::fmt;
use std::sync::Arc;

use futures::future::BoxFuture;
use json_patch::{Patch, PatchOperation};
use serde_json::value::RawValue;
use targetgate_core::binding::defaults;
use targetgate_core::binding::failure::{Failure, Meaning};
use targetgate_core::binding::service::ServiceLookup;
use targetgate_core::binding::spec::TargetGroupBindingSpec;
use targetgate_core::binding::validate;
use targetgate_core::binding::validate::{Allowance, GroupLookup, Sharer, Subject};
use targetgate_core::elb::query::{DescribeError, GroupQuery, GroupSelector};
use targetgate_core::model::TargetGroup;
use targetgate_core::names::{BindingApi, ObjectKey, TargetGroupArn};
use targetgate_core::reason::Reason;
use tokio::time::{Instant, timeout_at};

use crate::admission::answer::Answer;
use crate::admission::binding::allowed::Allowed;
use crate::admission::review::Request;
use crate::state::cache::Cache;

pub mod allowed;
mod object;
#[cfg(test)]
mod tests;

fn allowed(reason: Reason) -> Answer {
    Answer::allowed(reason).audited()
}

fn denied(reason: Reason, message: impl Into<String>) -> Answer {
    Answer::denied(reason, message).audited()
}

/// The description of a target group, or why it cannot be had.
pub type Described = Result<Arc<TargetGroup>, DescribeError>;
/// The port of AWS: describes a target group, until a deadline.
pub type Describe = Box<dyn Fn(GroupQuery, Instant) -> BoxFuture<'static, Described> + Send + Sync>;

/// Answers the reviews of bindings.
pub struct BindingReviewer {
    cache: Arc<Cache>,
    describe: Describe,
    vpc_id: Option<Arc<str>>,
    /// The Region in which names are looked up, if it is known.
    region: Option<String>,
    allowed: Option<Arc<Allowed>>,
}

impl fmt::Debug for BindingReviewer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BindingReviewer").finish_non_exhaustive()
    }
}

impl BindingReviewer {
    /// A reviewer that reads the cluster from `cache`, and describes target groups by `describe`.
    ///
    /// `vpc_id` is the cluster's own VPC, if it is known.
    pub fn new(cache: Arc<Cache>, describe: Describe, vpc_id: Option<Arc<str>>) -> Self {
        Self {
            cache,
            describe,
            vpc_id,
            region: None,
            allowed: None,
        }
    }

    /// Names the Region in which `describe` looks up names, for messages.
    #[must_use]
    pub fn in_region(mut self, region: Option<&str>) -> Self {
        self.region = region.map(str::to_owned);
        self
    }

    /// Adds an allow-list, which must allow each binding.
    #[must_use]
    pub fn with_allow_list(mut self, allowed: Option<Arc<Allowed>>) -> Self {
        self.allowed = allowed;
        self
    }

    /// Fills in absent fields of a new binding from AWS and its Service.
    ///
    /// It asks AWS at most once, and does not ask about a binding without absent fields. It answers by `answer_by`,
    /// however long AWS takes.
    pub async fn mutate(&self, request: &Request<'_, &RawValue>, answer_by: Instant) -> Answer {
        match &*request.operation {
            "CREATE" if request.sub_resource.is_empty() => {}
            "UPDATE" => return allowed(Reason::UpdateNotDefaulted),
            _ => return allowed(Reason::NotReviewed),
        }
        let spec = match object::spec(request.object) {
            Ok(spec) => spec,
            Err(error) => return denied(Reason::Malformed, error.to_string()),
        };
        let query = match defaults::group_query(&spec) {
            Ok(query) => query,
            Err(error) => return denied(Reason::Incomplete, error.to_string()),
        };
        let absent = defaults::left_to_aws(&spec);
        let group = if absent.is_empty() {
            None
        } else {
            match self.group(&query, answer_by).await {
                Ok(group) => Some(group),
                Err(failure) => return underivable(&absent, failure),
            }
        };
        let service = self.service(&request.namespace, &spec);
        match defaults::fill(&spec, group.as_deref(), &service) {
            Ok(patch) => defaulted(patch),
            Err(error) => denied(Reason::Incomplete, error.to_string()),
        }
    }

    /// Checks a new or changed binding against all rules. It answers by `answer_by`, however long AWS takes.
    pub async fn validate(&self, request: &Request<'_, &RawValue>, answer_by: Instant) -> Answer {
        let update = match &*request.operation {
            "CREATE" if request.sub_resource.is_empty() => false,
            "UPDATE" if request.sub_resource.is_empty() => true,
            _ => return allowed(Reason::NotReviewed),
        };
        if update && object::same_spec(request.old_object, request.object) {
            return allowed(Reason::Unchanged);
        }
        let old = update.then(|| object::spec(request.old_object)).transpose();
        let (old, new) = match (old, object::spec(request.object)) {
            (Ok(old), Ok(new)) => (old, new),
            (Err(error), _) | (_, Err(error)) => {
                return denied(Reason::Malformed, error.to_string());
            }
        };
        let answer = self.check(request, old.as_ref(), &new, answer_by).await;
        match update {
            true => answer,
            false => answer.warn_of_unreadable(&object::unreadable_annotations(request.object)),
        }
    }

    async fn check(
        &self,
        request: &Request<'_, &RawValue>,
        old: Option<&TargetGroupBindingSpec>,
        new: &TargetGroupBindingSpec,
        answer_by: Instant,
    ) -> Answer {
        let query = defaults::group_query(new).ok();
        let own_vpc = self.vpc_id.as_deref();
        let asks = validate::needs_group(old, new, own_vpc);
        let described = match query.as_ref().filter(|_| asks) {
            Some(query) => Some(self.group(query, answer_by).await),
            None => None,
        };
        let (group, unchecked) = match &described {
            None => (GroupLookup::Unanswered, None),
            Some(Ok(group)) => (GroupLookup::Found(group), None),
            Some(Err(Failure { meaning, message })) => match unanswered(*meaning) {
                None => (GroupLookup::Refused(message), None),
                Some(reason) => (GroupLookup::Unanswered, Some((reason, message))),
            },
        };
        let arn = match (query.as_ref().map(|query| &query.selector), group) {
            (Some(GroupSelector::Arn(arn)), _) => Some(arn),
            (_, GroupLookup::Found(group)) => Some(&group.arn),
            _ => None,
        };
        let sharers = arn.map_or_else(Vec::new, |arn| self.sharers(arn, request));
        let service = self.service(&request.namespace, new);
        let list = self.allowed.as_ref().map(|allowed| allowed.list());
        let verdict = validate::check(&Subject {
            old,
            new,
            group,
            sharers: &sharers,
            service: &service,
            vpc_id: own_vpc,
            allowance: list.as_deref().map(|list| Allowance {
                list,
                namespace: &request.namespace,
                arn,
            }),
        });
        judged(verdict, unchecked)
    }

    /// Describes the group; gives up at `answer_by`.
    async fn group(
        &self,
        query: &GroupQuery,
        answer_by: Instant,
    ) -> Result<Arc<TargetGroup>, Failure> {
        let described = (self.describe)(query.clone(), answer_by);
        // The deadline is enforced here again: the API server would deny without our reason if `describe` hung.
        timeout_at(answer_by, described)
            .await
            .unwrap_or(Err(DescribeError::TimedOut))
            .map_err(|error| Failure::of(query, self.region.as_deref(), &error))
    }

    fn service(&self, namespace: &str, spec: &TargetGroupBindingSpec) -> ServiceLookup {
        if !self.cache.watches(namespace) {
            return ServiceLookup::NotWatched;
        }
        let service = spec.service_ref.as_ref();
        let name = service.and_then(|service| service.name.as_deref());
        let ports = self.cache.read(|index| {
            let service = index.service(namespace, name?)?;
            Some(service.ports.clone())
        });
        ports.map_or(ServiceLookup::Absent, ServiceLookup::Ports)
    }

    /// The other bindings of the same group.
    fn sharers(&self, arn: &TargetGroupArn, request: &Request<'_, &RawValue>) -> Vec<Sharer> {
        let own = ObjectKey::new(&*request.namespace, &*request.name);
        self.cache.read(|index| {
            let all = index.bindings_of_group(arn);
            let others = all.filter(|(key, _)| key.api != BindingApi::Elbv2 || key.object != own);
            others
                .map(|(key, binding)| Sharer {
                    api: key.api,
                    object: key.object.clone(),
                    multi_cluster: binding.multi_cluster,
                })
                .collect()
        })
    }
}

/// The answer to a binding whose absent fields are filled in.
fn defaulted(patch: Patch) -> Answer {
    if patch.is_empty() {
        return allowed(Reason::Complete);
    }
    let mut answer = allowed(Reason::Defaulted);
    let paths = patch.iter().map(PatchOperation::path);
    let fields: Vec<String> = paths
        .map(|path| path.as_str().trim_start_matches('/').replace('/', "."))
        .collect();
    answer.audit.insert("defaulted", fields.join(","));
    answer.patch = patch;
    answer
}

/// The denial of a binding whose absent fields AWS did not tell.
fn underivable(absent: &[&str], failure: Failure) -> Answer {
    let Failure { meaning, message } = failure;
    match unanswered(meaning) {
        None => denied(Reason::Incomplete, message),
        Some(reason) => {
            let absent = absent.join(", ");
            let way_out = "or set the absent fields, which only AWS knows";
            denied(reason, format!("{message}; {way_out}: {absent}"))
        }
    }
}

/// The reason where AWS has said nothing about the binding.
fn unanswered(meaning: Meaning) -> Option<Reason> {
    match meaning {
        Meaning::Refused => None,
        Meaning::Denied => Some(Reason::AwsDenied),
        Meaning::Unavailable => Some(Reason::AwsUnavailable),
    }
}

/// The answer for a verdict; `unchecked` says why the verdict does without AWS.
fn judged(verdict: validate::Verdict, unchecked: Option<(Reason, &String)>) -> Answer {
    let mut answer = match (verdict.denial(), unchecked) {
        (Some(message), _) => {
            let mut answer = denied(Reason::Invalid, message);
            let found = verdict.changed.iter().chain(&verdict.violations);
            let fields: Vec<&str> = found.map(|violation| violation.field).collect();
            answer.audit.insert("violations", fields.join(","));
            answer
        }
        (None, Some((reason, _))) => allowed(reason),
        (None, None) => allowed(Reason::Valid),
    };
    answer.warnings = verdict.warnings;
    match unchecked {
        Some((_, why)) => answer.warn(format!("not checked against AWS: {why}")),
        None => answer,
    }
}
