//! The AWS accounts of the target groups, each with an ELB of its own.

use targetgate_sandbox::elb::Elb;

/// The cluster's own account, and another one.
const NUMBERS: [&str; 2] = ["123456789012", "210987654321"];

#[derive(Clone)]
pub(crate) struct Accounts([Elb; 2]);

impl Accounts {
    pub(crate) fn new(make: impl FnMut(&str) -> Elb) -> Self {
        Self(NUMBERS.map(make))
    }

    /// The ELB of the cluster's own account.
    pub(crate) fn ours(&self) -> &Elb {
        &self.0[0]
    }

    /// The ELB of the other account.
    pub(crate) fn theirs(&self) -> &Elb {
        &self.0[1]
    }

    pub(crate) fn all(&self) -> &[Elb; 2] {
        &self.0
    }

    /// The ELB of the account that an ARN names.
    pub(crate) fn of(&self, arn: &str) -> &Elb {
        &self.0[of(arn)]
    }
}

/// The account that an ARN names: 1 for the other one, and 0 in all other cases.
pub(crate) fn of(arn: &str) -> usize {
    usize::from(arn.split(':').nth(4) == Some(NUMBERS[1]))
}
