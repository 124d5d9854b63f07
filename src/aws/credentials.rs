//! Logs at the start whether AWS credentials can be had, rather than when the first pod waits.

use std::time::Duration;

use aws_config::SdkConfig;
use aws_credential_types::provider::ProvideCredentials as _;
use tokio::time::timeout;
use tracing::{info, warn};

use crate::aws::error::{ElbErrorKind, causes};

/// Bounds the check. Chosen: the SDK takes some seconds to give up on instance metadata that is out of reach.
const PATIENCE: Duration = Duration::from_secs(30);
/// Variables that tell the SDK's default chain where to look: those that the webhooks of IRSA and EKS Pod Identity
/// set in a pod, and those that operators set. They do not hold secrets.
///
/// Source: <https://docs.aws.amazon.com/sdkref/latest/guide/standardized-credentials.html>
const VARIABLES: [&str; 6] = [
    "AWS_PROFILE",
    "AWS_ROLE_ARN",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AWS_EC2_METADATA_DISABLED",
];

/// Asks once for credentials, and logs whether the SDK has found any: if not, why, where the SDK has looked, and
/// what to do. Each call asks again, so an operator can fix the cause while we run.
pub async fn tell(config: SdkConfig) {
    let error = match config.credentials_provider() {
        None => "the SDK has no provider of credentials".to_owned(),
        Some(provider) => match timeout(PATIENCE, provider.provide_credentials()).await {
            Ok(Ok(_)) => return info!("AWS credentials found"),
            Ok(Err(error)) => causes(&error),
            Err(_) => format!("no answer within {PATIENCE:?}"),
        },
    };
    let environment = environment(|name| std::env::var(name).ok());
    let remedy = ElbErrorKind::NoCredentials.remedy();
    warn!(
        error,
        environment, "no AWS credentials: no gate opens until there are{remedy}"
    );
}

/// The variables that are set, as `NAME=value`.
fn environment(variable: impl Fn(&str) -> Option<String>) -> String {
    let set = VARIABLES.iter().filter_map(|name| {
        let value = variable(name)?;
        Some(format!("{name}={value}"))
    });
    set.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variables_that_are_set_are_named_and_no_secret_is() {
        let all = |name: &str| Some(format!("<{name}>"));
        assert!(!environment(all).contains("SECRET"));
        assert!(!environment(all).contains("SESSION"));
        let role = |name: &str| (name == "AWS_ROLE_ARN").then(|| "arn:aws:iam::1:role/web".into());
        assert_eq!(environment(role), "AWS_ROLE_ARN=arn:aws:iam::1:role/web");
    }
}
