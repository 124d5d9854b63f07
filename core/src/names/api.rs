//! The API groups of bindings.

use std::fmt;
use std::str::FromStr;

use crate::names::NameError;

/// The two API groups that serve the kind `TargetGroupBinding`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BindingApi {
    /// `elbv2.k8s.aws/v1beta1`: the incumbent's and ours.
    Elbv2,
    /// `eks.amazonaws.com/v1`: EKS Auto Mode's.
    Eks,
}

impl BindingApi {
    /// Both API groups, the incumbent's first.
    pub const ALL: [Self; 2] = [Self::Elbv2, Self::Eks];

    /// The API group.
    pub fn group(self) -> &'static str {
        match self {
            Self::Elbv2 => "elbv2.k8s.aws",
            Self::Eks => "eks.amazonaws.com",
        }
    }

    /// The version that targetgate reads.
    pub fn version(self) -> &'static str {
        match self {
            Self::Elbv2 => "v1beta1",
            Self::Eks => "v1",
        }
    }
}

impl FromStr for BindingApi {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::ALL
            .into_iter()
            .find(|api| api.group() == text)
            .ok_or_else(|| NameError::new(text, "one of elbv2.k8s.aws, eks.amazonaws.com"))
    }
}

impl fmt::Display for BindingApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.group())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_api_group_is_written_as_it_is_read() {
        for api in BindingApi::ALL {
            assert_eq!(api.to_string().parse(), Ok(api));
        }
    }
}
