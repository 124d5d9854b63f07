//! The AWS accounts that groups are in, each with an ELB of its own.

use targetgate_sandbox::elb::Elb;

/// The cluster's own account, and another.
const NUMBERS: [&str; 2] = ["123456789012", "210987654321"];

#[derive(Clone)]
pub(crate) struct Accounts([Elb; 2]);

impl Accounts {
    pub(crate) fn new(make: impl FnMut(&str) -> Elb) -> Self {
        Self(NUMBERS.map(make))
    }

    /// The cluster's own.
    pub(crate) fn ours(&self) -> &Elb {
        &self.0[0]
    }

    /// The other.
    pub(crate) fn theirs(&self) -> &Elb {
        &self.0[1]
    }

    pub(crate) fn all(&self) -> &[Elb; 2] {
        &self.0
    }

    /// The one that a group is in.
    pub(crate) fn of(&self, arn: &str) -> &Elb {
        &self.0[of(arn)]
    }
}

/// Which of both an ARN names; ours where it names neither.
pub(crate) fn of(arn: &str) -> usize {
    usize::from(arn.split(':').nth(4) == Some(NUMBERS[1]))
}
