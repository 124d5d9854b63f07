//! The VPC of this instance, from the instance metadata service.
//!
//! Source: <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ec2-instance-metadata.html>

use std::sync::Arc;
use std::time::Duration;

use aws_config::SdkConfig;
use aws_config::imds::Client;
use aws_config::imds::client::error::ImdsError;
use aws_config::provider_config::ProviderConfig;
use tokio::time::timeout;
use tracing::info;

use crate::aws::error::causes;

/// Bounds the wait for the metadata service, which does not answer at all outside EC2 or when a pod may not reach
/// it. Chosen: it delays the start.
const PATIENCE: Duration = Duration::from_secs(2);

/// The VPC of the first network interface; `None` if the service is disabled or out of reach, as in a
/// pod on an instance with a hop limit of 1.
pub async fn own(config: &SdkConfig) -> Option<Arc<str>> {
    let off = std::env::var("AWS_EC2_METADATA_DISABLED");
    if off.is_ok_and(|off| off.eq_ignore_ascii_case("true")) {
        return unknown("AWS_EC2_METADATA_DISABLED is true");
    }
    let mut provider = ProviderConfig::without_region();
    if let Some(client) = config.http_client() {
        provider = provider.with_http_client(client);
    }
    let client = Client::builder()
        .configure(&provider)
        .max_attempts(1)
        .build();
    match timeout(PATIENCE, ask(&client)).await {
        Ok(Ok(vpc_id)) => {
            info!(%vpc_id, "the cluster's own VPC, from instance metadata");
            Some(vpc_id)
        }
        Ok(Err(error)) => unknown(&causes(&error)),
        Err(_) => unknown(&format!(
            "instance metadata did not answer within {PATIENCE:?}"
        )),
    }
}

/// Says what follows: otherwise an operator would read of it in a denial first, that of a binding which is older
/// than the field.
fn unknown(why: &str) -> Option<Arc<str>> {
    info!(
        why,
        "the cluster's own VPC is not known: AWS is asked for the target group's, where an update adds vpcID to a \
         TargetGroupBinding, and without its answer the update is denied; give --vpc-id"
    );
    None
}

async fn ask(client: &Client) -> Result<Arc<str>, ImdsError> {
    let mac = client.get("/latest/meta-data/mac").await?;
    let path = format!(
        "/latest/meta-data/network/interfaces/macs/{}/vpc-id",
        mac.as_ref().trim()
    );
    let vpc_id = client.get(&path).await?;
    Ok(vpc_id.as_ref().trim().into())
}
