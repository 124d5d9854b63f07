//! Events about a binding that are no state of it: what has changed, what failed, and what was left in AWS.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::model::Binding;
use crate::reason::Reason;
use crate::targets::Target;
use crate::targets::machine::action::{Action, Finalizer};
use crate::targets::machine::held::Held;
use crate::text::{agreeing, counted};

/// At most so many targets are named in an Event. Chosen: with IPv6 addresses they take half of its 1,024 characters.
const MOST_NAMED: usize = 10;

impl Held {
    /// What is told of a binding as a watch shows it, before it is taken in: `multiClusterTargetGroup` has changed.
    pub(in crate::targets::machine) fn switched(&self, binding: &Binding) -> Option<Action> {
        let former = self.multi_cluster.filter(|_| self.our_finalizer)?;
        let now = binding.multi_cluster;
        let message = format!("multiClusterTargetGroup is {now} now, after {former}");
        (former != now).then(|| self.event(Reason::MultiClusterChanged, message))
    }

    /// What is told of a patch of the finalizers that failed, once for the same words until a patch succeeds.
    pub(in crate::targets::machine) fn unpatched(&mut self, why: &Arc<str>) -> Option<Action> {
        let finalizer = self.patching?;
        let is_news = self.unpatched.as_ref() != Some(why);
        is_news.then(|| {
            self.unpatched = Some(why.clone());
            let message = format!("{} failed: {why}", words_of(finalizer));
            self.event(Reason::FinalizerNotPatched, message)
        })
    }

    /// What is told, once, of an abandoned binding that is let go: the targets that stay in AWS. `listing` is what the
    /// group holds, if that is known.
    pub(in crate::targets::machine) fn left_behind(
        &mut self,
        listing: Option<&BTreeSet<Target>>,
    ) -> Option<Action> {
        let abandoned = self.terminating && self.abandoned && !self.told_of_the_left;
        let (record, _) = self.stored.as_ref().filter(|_| abandoned)?;
        let arn = &record.group.arn;
        let left = self.recorded(arn);
        let left = left.filter(|target| listing.is_none_or(|listing| listing.contains(*target)));
        let mut left: Vec<&Target> = left.collect();
        let number = left.len();
        left.truncate(MOST_NAMED);
        let named = left.iter().map(|(ip, port)| format!("{ip} port {port}"));
        let more = number - left.len();
        let more = (more > 0).then(|| format!("{more} more"));
        let names: Vec<String> = named.chain(more).collect();
        let targets = counted(number, "target");
        let stay = agreeing(number, "stays", "stay");
        let message = format!("{targets} {stay} in {arn}: {}", names.join(", "));
        self.told_of_the_left = true;
        (number > 0).then(|| self.event(Reason::Abandoned, message))
    }

    fn event(&self, reason: Reason, message: String) -> Action {
        Action::Tell {
            binding: self.key.clone(),
            reason,
            message: message.into(),
        }
    }
}

fn words_of(finalizer: Finalizer) -> &'static str {
    match finalizer {
        Finalizer::AddOurs => "the patch that adds our finalizer",
        Finalizer::RemoveOurs => "the patch that removes our finalizer",
        Finalizer::RemoveIncumbents => {
            "the patch that removes the finalizer of AWS Load Balancer Controller"
        }
    }
}
