//! A client of ELB for a command, by the credentials of the machine on which it runs.

use std::time::Duration;

use aws_config::{BehaviorVersion, SdkConfig};
use aws_credential_types::provider::ProvideCredentials as _;
use tokio::time::timeout;

use crate::aws::budget::Budget;
use crate::aws::client::{ElbClient, Timeouts};
use crate::aws::error::causes;
use crate::metrics::Metrics;

/// Bounds the search for credentials. Chosen: a laptop has no instance metadata, and the SDK tries it last.
const PATIENCE: Duration = Duration::from_secs(5);

/// The configuration of the environment, with credentials; the error is why there are none.
pub(super) async fn config() -> Result<SdkConfig, String> {
    let config = aws_config::load_defaults(BehaviorVersion::latest()).await;
    credentials(&config).await?;
    Ok(config)
}

pub(super) fn client_of(config: SdkConfig) -> ElbClient {
    let metrics = Metrics::default();
    let (rate, burst) = (40.0, 40);
    let budget = Budget::new(rate, rate, burst, &metrics);
    ElbClient::new(config, Timeouts::default(), budget, &metrics)
}

async fn credentials(config: &SdkConfig) -> Result<(), String> {
    let Some(provider) = config.credentials_provider() else {
        return Err("the SDK has no provider of credentials".to_owned());
    };
    match timeout(PATIENCE, provider.provide_credentials()).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(format!("no AWS credentials: {}", causes(&error))),
        Err(_) => Err(format!("no AWS credentials within {PATIENCE:?}")),
    }
}
